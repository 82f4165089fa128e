//! Keys that always have a TTL, from their first write on: none may ever show without one, or it would stay for ever.

use syncer_shared::effect::UnixMs;
use syncer_shared::keyspace::Keyspace;

use super::client::Command;
use super::{Check, World};

/// What their names begin with.
const PREFIX: &[u8] = b"short:";
/// How long they live, in milliseconds.
const TTL_MS: std::ops::Range<u64> = 50..8000;
/// Of so many of the newest ones, one is written to again.
const NEWEST: u64 = 6;

fn name(number: u64) -> Vec<u8> {
    [PREFIX, number.to_string().as_bytes()].concat()
}

impl World {
    /// Makes a key with a TTL, in one command or in two of a transaction; or writes to such a key, extends or deletes it.
    pub(super) fn short_lived_write(&mut self, instance: usize) -> Check {
        let wall = self.wall(instance);
        let at = (wall + self.random.u64(TTL_MS)) as UnixMs;
        let newest = self.short_lived;
        let old = name(newest - self.random.u64(0..NEWEST.min(newest + 1)));
        let expires = self.instances[instance].keyspace.expire_at(0, &old);
        let is_alive = expires.is_some_and(|expires| expires > wall as UnixMs);
        let commands = match self.random.u8(0..8) {
            0 if is_alive => vec![(old, Command::ExpireAt(at))],
            1 if is_alive => vec![(old, Command::Del)],
            2 | 3 if is_alive => vec![(old, Command::AppendPart("y".into()))],
            choice => {
                self.short_lived += 1;
                let new = name(self.short_lived);
                if choice % 2 == 0 {
                    vec![(new, Command::Set("x".into(), Some(at)))]
                } else {
                    vec![(new.clone(), Command::AppendPart("x".into())), (new, Command::ExpireAt(at))]
                }
            }
        };
        let commands: Vec<_> = commands.into_iter().map(|(name, command)| (0, name, command)).collect();
        self.write(instance, &commands)
    }

    /// No such key shows without a TTL.
    ///
    /// # Errors
    /// Which one does.
    pub(super) fn check_short_lived(&self) -> Check {
        for instance in self.group().into_iter().map(|index| &self.instances[index]) {
            let mut shown = instance.keyspace.entries().iter();
            let is_left = |((_, name), entry): &(&(u32, Vec<u8>), &syncer_shared::memory::Entry)| {
                name.starts_with(PREFIX) && entry.expire_at.is_none()
            };
            if let Some(((_, name), entry)) = shown.find(is_left) {
                return Err(format!("{} shows {} without its TTL: {entry:?}", instance.id, name.escape_ascii()));
            }
        }
        Ok(())
    }
}
