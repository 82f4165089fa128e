//! The table of all keys with metadata.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::grace::Grace;
use super::key::KeyMeta;
use crate::dot::Dot;
use crate::timestamp::Timestamp;

/// A key's place in the table; valid until the key is removed from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyId(u32);

impl KeyId {
    pub(super) const fn from_slot(slot: u32) -> Self {
        Self(slot)
    }

    /// Where [`Table::key_in`] finds it.
    #[must_use]
    pub const fn place(self) -> usize {
        self.0 as usize
    }
}

/// (database, key) -> [`KeyMeta`], with a queue per origin of what may be pruned next.
///
/// Entries live in a slab, so that the queues name them by number: per write they hold 16 bytes.
#[derive(Debug, Default)]
pub struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_key: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
    /// The key that was last asked for, if it is still there: effects ask for one several times.
    latest: Option<u32>,
    key_bytes: usize,
    /// Per origin (dense), in timestamp order since effects of one origin come in order (I-2).
    pub(super) queues: Vec<VecDeque<Queued>>,
    /// TTLs that are stable and wait.
    pub(super) grace: Grace,
    /// Whether a key may have a value that the dataset cannot hold.
    has_unknown: bool,
}

/// A key name; the usual ones take no memory of their own.
type Name = SmallVec<[u8; 32]>;

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) meta: KeyMeta,
    key: Name,
    db: u32,
    generation: u32,
    /// Queue entries that name this slot: 0 means that every live dot of the key is stable.
    pub(super) queued: u32,
    /// Queue entries popped since the paths were last looked through.
    pub(super) popped: u32,
    /// Generation of its latest entry in [`Grace`].
    pub(super) grace: u32,
}

/// A dot of this key comes up for pruning when the stable clock reaches `ts`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queued {
    pub(super) ts: Timestamp,
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl Table {
    /// How many keys have metadata.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// A key has come to have a value that the dataset cannot hold.
    pub fn saw_unknown(&mut self) {
        self.has_unknown = true;
    }

    /// Whether a value that this server does not know may be kept here.
    #[must_use]
    pub fn may_keep_unknown(&self) -> bool {
        self.has_unknown
    }

    /// How many keys have a value that the dataset cannot hold. A walk over all keys, once there has been one.
    #[must_use]
    pub fn unknown(&self) -> usize {
        if self.has_unknown { self.iter().filter(|(_, _, meta)| meta.keeps_unknown()).count() } else { 0 }
    }

    /// Whether no key has metadata.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Whether no dot is left: what there is are the ids of lists, or values that this server cannot hold.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.grace.is_empty() && self.queues.iter().all(VecDeque::is_empty)
    }

    fn hash(&self, db: u32, key: &[u8]) -> u64 {
        self.hasher.hash_one((db, key))
    }

    fn latest(&self, db: u32, key: &[u8]) -> Option<KeyId> {
        let latest = self.latest?;
        self.slots.get(latest as usize).filter(|slot| slot.is(db, key)).map(|_| KeyId(latest))
    }

    /// The entry of a key, if it has one.
    #[must_use]
    pub fn find(&self, db: u32, key: &[u8]) -> Option<KeyId> {
        if let Some(latest) = self.latest(db, key) {
            return Some(latest);
        }
        if self.by_key.is_empty() {
            return None;
        }
        let is_it = |&i: &u32| self.slots[i as usize].is(db, key);
        self.by_key.find(self.hash(db, key), is_it).map(|&i| KeyId(i))
    }

    /// The entry of a key, made if need be.
    pub fn entry(&mut self, db: u32, key: &[u8]) -> KeyId {
        if let Some(latest) = self.latest(db, key) {
            return latest;
        }
        let hash = self.hash(db, key);
        let Self { slots, free, by_key, hasher, latest, .. } = self;
        if let Some(&i) = by_key.find(hash, |&i| slots[i as usize].is(db, key)) {
            *latest = Some(i);
            return KeyId(i);
        }
        self.key_bytes += key.len();
        let i = free.pop().unwrap_or_else(|| {
            slots.push(Slot::vacant());
            (slots.len() - 1) as u32
        });
        let slot = &mut slots[i as usize];
        slot.db = db;
        slot.key = Name::from_slice(key);
        *latest = Some(i);
        by_key.insert_unique(hash, i, |&i| hasher.hash_one((slots[i as usize].db, &*slots[i as usize].key)));
        KeyId(i)
    }

    /// What is known of a key.
    #[must_use]
    pub fn meta(&self, id: KeyId) -> &KeyMeta {
        &self.slots[id.0 as usize].meta
    }

    /// What is known of a key.
    pub fn meta_mut(&mut self, id: KeyId) -> &mut KeyMeta {
        &mut self.slots[id.0 as usize].meta
    }

    /// A new dot of this key: it comes up for pruning when it is stable.
    pub fn queue(&mut self, id: KeyId, dot: &Dot) {
        let slot = &mut self.slots[id.0 as usize];
        slot.queued += 1;
        if dot.origin.index() >= self.queues.len() {
            self.queues.resize_with(dot.origin.index() + 1, VecDeque::new);
        }
        let queue = &mut self.queues[dot.origin.index()];
        queue.push_back(Queued { ts: dot.ts, slot: id.0, generation: slot.generation });
    }

    /// A key of a saved state. Its dots come up for pruning as if they were new; false when it is there already.
    pub(crate) fn restore(&mut self, db: u32, key: &[u8], meta: KeyMeta) -> bool {
        if self.find(db, key).is_some() {
            return false;
        }
        let id = self.entry(db, key);
        meta.dots().for_each(|dot| self.queue(id, &dot));
        self.has_unknown |= meta.keeps_unknown();
        *self.meta_mut(id) = meta;
        true
    }

    /// After the last [`Table::restore`]: queues are in timestamp order.
    pub(crate) fn sort_queues(&mut self) {
        self.queues.iter_mut().for_each(|queue| queue.make_contiguous().sort_by_key(|queued| queued.ts));
    }

    /// Takes a key out; returns what was known of it.
    pub fn remove(&mut self, id: KeyId) -> KeyMeta {
        self.latest.take_if(|latest| *latest == id.0);
        let slot = &mut self.slots[id.0 as usize];
        let hash = self.hasher.hash_one((slot.db, &*slot.key));
        if let Ok(found) = self.by_key.find_entry(hash, |&i| i == id.0) {
            found.remove();
        }
        self.key_bytes -= slot.key.len();
        slot.generation = slot.generation.wrapping_add(1);
        (slot.queued, slot.popped, slot.grace) = (0, 0, 0);
        slot.key = Name::new();
        self.free.push(id.0);
        std::mem::take(&mut slot.meta)
    }

    /// Takes the key out if nothing is known of it any more.
    pub fn remove_if_empty(&mut self, id: KeyId) {
        if self.meta(id).is_empty() {
            self.remove(id);
        }
    }

    /// Every key with metadata.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8], &KeyMeta)> + '_ {
        self.by_key.iter().map(|&i| &self.slots[i as usize]).map(|slot| (slot.db, &*slot.key, &slot.meta))
    }

    /// The places that keys may have, for walks in steps while keys come and go.
    #[must_use]
    pub fn places(&self) -> usize {
        self.slots.len()
    }

    /// The key in a place, if there is one now.
    #[must_use]
    pub fn key_in(&self, place: usize) -> Option<(u32, &[u8])> {
        let slot = self.slots.get(place)?;
        (self.find(slot.db, &slot.key)?.0 as usize == place).then_some((slot.db, &*slot.key))
    }

    /// Takes out every key that `is_in` names; returns them.
    pub fn drain(&mut self, is_in: impl Fn(u32) -> bool) -> Vec<(u32, Box<[u8]>, KeyMeta)> {
        let ids: Vec<u32> = self.by_key.iter().copied().filter(|&i| is_in(self.slots[i as usize].db)).collect();
        ids.into_iter()
            .map(|i| {
                let slot = &self.slots[i as usize];
                let (db, key) = (slot.db, slot.key.as_slice().into());
                (db, key, self.remove(KeyId(i)))
            })
            .collect()
    }

    /// Gives the memory of the slots back when no key has metadata. No queue entry may name one any more.
    pub(super) fn release(&mut self) {
        if self.by_key.is_empty() && !self.slots.is_empty() {
            self.latest = None;
            (self.slots, self.free, self.by_key) = (Vec::new(), Vec::new(), HashTable::new());
        }
    }

    pub(super) fn slot(&mut self, queued: Queued) -> Option<&mut Slot> {
        self.slots.get_mut(queued.slot as usize).filter(|slot| slot.generation == queued.generation)
    }

    /// How many dots of each origin come up for pruning, with the highest.
    #[cfg(test)]
    pub(crate) fn awaited(&self) -> Vec<(usize, Option<Timestamp>)> {
        self.queues.iter().map(|queue| (queue.len(), queue.iter().map(|queued| queued.ts).max())).collect()
    }

    /// Estimate of all bytes held, from a sample of the keys: for `metadata_bytes`.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const SAMPLE: usize = 64;
        let queues: usize = self.queues.iter().map(|q| q.capacity() * size_of::<Queued>()).sum();
        let fixed = self.slots.capacity() * size_of::<Slot>()
            + self.by_key.allocation_size()
            + self.key_bytes
            + queues
            + self.grace.bytes();
        let (mut count, mut heap) = (0, 0);
        for (_, _, meta) in self.iter().take(SAMPLE) {
            count += 1;
            heap += meta.heap_bytes();
        }
        fixed + (heap * self.len()).checked_div(count).unwrap_or_default()
    }
}

impl Slot {
    fn vacant() -> Self {
        Self { meta: KeyMeta::default(), key: Name::new(), db: 0, generation: 0, queued: 0, popped: 0, grace: 0 }
    }

    fn is(&self, db: u32, key: &[u8]) -> bool {
        self.db == db && *self.key == *key
    }
}
