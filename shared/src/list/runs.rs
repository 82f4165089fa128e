//! The runs of a list: the names that its ids refer to.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::position::{RunName, Side};
use crate::origin::Origin;
use crate::timestamp::Timestamp;

/// A run that has elements.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its name.
    pub name: RunName,
    /// Where it grows.
    pub side: Side,
    /// The reign that made its elements; none for those without a dot (the base).
    pub origin: Option<Origin>,
    /// When its newest element was made; that one may be gone.
    pub newest: Timestamp,
    /// How many elements it has. Without any its slot is free.
    count: u32,
}

impl Run {
    /// How many elements it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count as usize
    }
}

/// Runs by number. A run goes with its last element: names are complete, nobody needs those of their anchors.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    slots: Vec<Run>,
    free: Vec<u32>,
    /// Only when there are many.
    by_name: HashTable<u32>,
    hasher: foldhash::fast::FixedState,
}

impl Runs {
    /// Up to so many are looked through.
    const FEW_MAX: usize = 8;

    /// The run of a number that an id has.
    #[must_use]
    pub fn get(&self, run: u32) -> Option<&Run> {
        self.slots.get(run as usize)
    }

    /// Those with elements, each with its number.
    pub fn numbered(&self) -> impl Iterator<Item = (u32, &Run)> {
        (0_u32..).zip(&self.slots).filter(|(_, run)| run.count > 0)
    }

    /// Those with elements.
    pub fn iter(&self) -> impl Iterator<Item = &Run> {
        self.slots.iter().filter(|run| run.count > 0)
    }

    /// Changes the reigns of all.
    pub fn rename(&mut self, mut rename: impl FnMut(&mut Origin)) {
        self.slots.iter_mut().filter_map(|run| run.origin.as_mut()).for_each(&mut rename);
    }

    /// The number of a name.
    #[must_use]
    pub fn find(&self, name: &RunName) -> Option<u32> {
        let is_it = |run: &Run| run.count > 0 && run.name == *name;
        if self.by_name.is_empty() {
            return self.slots.iter().rposition(is_it).map(|at| at as u32);
        }
        self.by_name.find(self.hasher.hash_one(name), |at| self.get(*at).is_some_and(is_it)).copied()
    }

    /// Counts new elements in; the run is made if need be.
    pub fn add(&mut self, name: &RunName, origin: Option<Origin>, newest: Timestamp, count: u32) -> u32 {
        let at = self.find(name).unwrap_or_else(|| self.make(name, origin));
        self.grow(at, origin, newest, count);
        at
    }

    /// Counts new elements of a known run in.
    pub fn grow(&mut self, at: u32, origin: Option<Origin>, newest: Timestamp, count: u32) {
        if let Some(run) = self.slots.get_mut(at as usize) {
            run.count += count;
            run.newest = run.newest.max(newest);
            run.origin = run.origin.or(origin);
        }
    }

    fn make(&mut self, name: &RunName, origin: Option<Origin>) -> u32 {
        let run = Run { name: name.clone(), side: name.side(), origin, newest: Timestamp::ZERO, count: 0 };
        let at = if let Some(at) = self.free.pop() {
            if let Some(slot) = self.slots.get_mut(at as usize) {
                *slot = run;
            }
            at
        } else {
            self.slots.push(run);
            (self.slots.len() - 1) as u32
        };
        if !self.by_name.is_empty() {
            self.link(at);
        } else if self.slots.len() > Self::FEW_MAX {
            let is_used = |other: &u32| *other == at || self.get(*other).is_some_and(|run| run.count > 0);
            let used: Vec<u32> = (0..self.slots.len() as u32).filter(is_used).collect();
            used.into_iter().for_each(|other| self.link(other));
        }
        at
    }

    fn link(&mut self, at: u32) {
        let Self { slots, by_name, hasher, .. } = self;
        let hash = |at: &u32| slots.get(*at as usize).map_or(0, |run| hasher.hash_one(&run.name));
        by_name.insert_unique(hash(&at), at, hash);
    }

    /// Elements have gone.
    pub fn release(&mut self, at: u32, count: u32) {
        let Some(run) = self.slots.get_mut(at as usize) else { return };
        run.count = run.count.saturating_sub(count);
        if run.count > 0 {
            return;
        }
        if let Ok(found) = self.by_name.find_entry(self.hasher.hash_one(&run.name), |other| *other == at) {
            found.remove();
        }
        self.free.push(at);
        if self.free.len() == self.slots.len() {
            *self = Self::default();
        }
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let names: usize = self.slots.iter().map(|run| run.name.heap_bytes()).sum();
        self.slots.capacity() * size_of::<Run>() + self.free.capacity() * 4 + self.by_name.allocation_size() + names
    }
}
