//! What `SYNCER.DIGEST` gathers while it walks over the keyspace.

use syncer_shared::digest::Digest;
use syncer_shared::slot::{SLOTS, SlotDigests, slot_of};

use super::arguments::CommandError;
use crate::redis::Replier;

/// Most keys that one answer names.
pub const KEYS_MAX: i64 = 100_000;

/// What is asked for.
pub enum Goal {
    /// One digest of everything.
    All(Digest),
    /// One of each hash slot.
    Slots(SlotDigests),
    /// The keys of some slots, each with its digest.
    Keys {
        /// Which slots.
        wanted: SlotSet,
        /// How many keys at most.
        limit: usize,
        /// So far.
        found: Vec<Named>,
        /// There are more.
        is_cut: bool,
    },
}

/// A key with its digest.
pub struct Named {
    db: u32,
    name: Vec<u8>,
    digest: u64,
}

impl Goal {
    /// Whether this key counts.
    pub fn wants(&self, name: &[u8]) -> bool {
        match self {
            Self::All(_) | Self::Slots(_) => true,
            Self::Keys { wanted, is_cut, .. } => !is_cut && wanted.contains(slot_of(name)),
        }
    }

    /// Whether nothing more can change the answer.
    pub fn is_reached(&self) -> bool {
        matches!(self, Self::Keys { is_cut: true, .. })
    }

    /// Adds a key.
    pub fn add(&mut self, db: u32, name: &[u8], digest: u128) {
        match self {
            Self::All(sum) => sum.add(digest),
            Self::Slots(slots) => slots.add(name, digest),
            Self::Keys { limit, found, is_cut, .. } => {
                *is_cut = found.len() >= *limit;
                if !*is_cut {
                    found.push(Named { db, name: name.to_vec(), digest: digest as u64 });
                }
            }
        }
    }

    /// Writes the answer.
    pub fn write(&self, reply: Replier) {
        match self {
            Self::All(digest) => reply.text(&digest.to_string()),
            Self::Slots(slots) => reply.bytes(&slots.encode()),
            Self::Keys { found, is_cut, .. } => {
                reply.array(1 + 3 * found.len());
                reply.number(u64::from(*is_cut));
                for Named { db, name, digest } in found {
                    reply.number(u64::from(*db));
                    reply.bytes(name);
                    reply.text(&format!("{digest:016x}"));
                }
            }
        }
    }
}

/// Some slots.
pub struct SlotSet(Box<[bool; SLOTS]>);

impl SlotSet {
    /// From slots and ranges of them, joined by commas: `1,5-7`.
    pub fn parse(text: &str) -> Result<Self, CommandError> {
        let mut set = Self(Box::new([false; SLOTS]));
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.parse::<usize>().map_err(|_| CommandError::Slots);
            let slots = range(&mut set.0[..], number(first)?, number(last)?).ok_or(CommandError::Slots)?;
            slots.fill(true);
        }
        Ok(set)
    }

    fn contains(&self, slot: u16) -> bool {
        self.0.get(usize::from(slot)).copied().unwrap_or(false)
    }
}

fn range(slots: &mut [bool], first: usize, last: usize) -> Option<&mut [bool]> {
    if first > last { None } else { slots.get_mut(first..=last) }
}
