//! The server's commands, found by name without allocation: what the filter asks first, for every command.

use super::name::{Word, word};
use super::shape::{Class, KNOWN, Shape};

/// What the filter knows about a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// What to do with it.
    pub class: Class,
    /// Number of arguments with the name; negative: at least so many.
    pub arity: i32,
    /// Whether the server refuses it when out of memory.
    pub deny_oom: bool,
    /// Whether it writes keys, of whatever kind; not our own.
    pub writes: bool,
}

impl Spec {
    /// Whether the server takes so many arguments, the name included.
    #[must_use]
    pub fn takes(&self, args: usize) -> bool {
        let Ok(args) = i32::try_from(args) else { return false };
        if self.arity < 0 { args >= -self.arity } else { args == self.arity }
    }
}

/// Open addressing by a multiplied word; at most half full.
#[derive(Debug)]
pub struct Table {
    slots: Box<[u16]>,
    entries: Vec<(Word, Spec)>,
}

/// Marks a free slot.
const FREE: u16 = u16::MAX;

impl Table {
    /// A table of the commands that the server has told: name, flags and arity; whether it or one of its
    /// subcommands has the `write` flag.
    #[must_use]
    pub fn new(commands: impl IntoIterator<Item = Command>) -> Self {
        let mut table = Self { slots: vec![FREE; 16].into(), entries: Vec::new() };
        for command in commands {
            table.insert(&command.name, &command);
        }
        table
    }

    /// Adds a command under `name`, which may be another than its own (`rename-command`).
    pub fn insert(&mut self, name: &[u8], command: &Command) -> Spec {
        let class = class(command);
        let writes = command.write && class != Class::Read;
        let spec = Spec { class, arity: command.arity, deny_oom: command.deny_oom, writes };
        if let Some(key) = word(name)
            && self.entries.len() < usize::from(FREE)
        {
            self.entries.push((key, spec));
            if self.entries.len() * 2 > self.slots.len() {
                self.slots = vec![FREE; self.slots.len() * 2].into();
                (0..self.entries.len()).for_each(|at| self.link(at));
            } else {
                self.link(self.entries.len() - 1);
            }
        }
        spec
    }

    fn link(&mut self, at: usize) {
        let slot = self.slot(self.entries[at].0);
        self.slots[slot] = at as u16;
    }

    /// The command of that name. `None`: the server had no such command when the table was made.
    #[inline]
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<&Spec> {
        let key = word(name)?;
        let entry = self.slots[self.slot(key)];
        self.entries.get(usize::from(entry)).map(|(_, spec)| spec)
    }

    /// Where the word is, or the free slot where it would go.
    #[inline]
    fn slot(&self, key: Word) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = hash(key) & mask;
        loop {
            match self.entries.get(usize::from(self.slots[slot])) {
                Some((other, _)) if *other != key => slot = (slot + 1) & mask,
                _ => return slot,
            }
        }
    }
}

#[inline]
fn hash(key: Word) -> usize {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let fold = |half: u128| (half as u64) ^ ((half >> 64) as u64).rotate_left(29);
    let mixed = (fold(key.0) ^ fold(key.1).rotate_left(43)).wrapping_mul(ODD);
    (mixed >> 32) as usize
}

/// A command as the server describes it.
#[derive(Clone, Debug)]
pub struct Command {
    /// As the server writes it.
    pub name: Vec<u8>,
    /// See [`Spec::arity`].
    pub arity: i32,
    /// Whether it or a subcommand writes.
    pub write: bool,
    /// See [`Spec::deny_oom`].
    pub deny_oom: bool,
}

fn class(command: &Command) -> Class {
    let name = command.name.to_ascii_lowercase();
    if name.starts_with(b"syncer.") {
        return Class::Read;
    }
    let known = KNOWN.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, class)| *class);
    known.unwrap_or(if command.write { Class::Call(Shape::Whole) } else { Class::Read })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(name: &str, write: bool) -> Command {
        Command { name: name.into(), arity: -2, write, deny_oom: false }
    }

    #[test]
    fn known_writes_unknown_writes_and_reads() {
        let names = KNOWN.iter().map(|(name, _)| command(name, true));
        let table =
            Table::new(names.chain([command("get", false), command("JSON.SET", true), command("syncer.apply", true)]));
        for (name, class) in KNOWN {
            assert_eq!(table.find(name.to_ascii_uppercase().as_bytes()).map(|s| s.class), Some(*class), "{name}");
        }
        assert_eq!(table.find(b"GET").map(|s| s.class), Some(Class::Read));
        assert_eq!(table.find(b"json.set").map(|s| s.class), Some(Class::Call(Shape::Whole)));
        assert_eq!(table.find(b"SYNCER.APPLY").map(|s| s.class), Some(Class::Read));
        assert_eq!(table.find(b"nosuch"), None);
        assert_eq!(table.find(b""), None);
    }

    #[test]
    fn arity_is_checked_as_servers_do() {
        let spec = |arity| Spec { class: Class::Read, arity, deny_oom: false, writes: false };
        assert!(spec(2).takes(2) && !spec(2).takes(3) && spec(-3).takes(3) && spec(-3).takes(9) && !spec(-3).takes(2));
    }
}
