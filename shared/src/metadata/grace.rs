//! The grace period of TTL dots, and of keys with values of several types: stable is not yet enough to be dropped.

use super::table::Queued;
use crate::clock::VectorClock;

/// Keys whose TTL dots are all stable, or whose values are and are of several types, until everyone also has what this instance had when they became so.
///
/// A write that leaves a TTL alone says which TTL it saw (T2), so a `Clear` that someone has not seen yet can still be answered by
/// a note of the TTL that it removed. While that may come, the dots that the note would meet are needed: weak ones, which the
/// dataset does not tell from none, and those of a key that is gone. What comes once all have seen the `Clear` has seen the dots, too.
///
/// So it is with what has lost against another type. It may win at someone who has not seen yet that something above it was removed, and who changes a
/// part of it: that removes the other type everywhere, and uncovers what lost against it here. Who has seen the removal shows the other type.
///
/// Like the grace period of RCU, two generations do: one that waits for its clock, one that fills.
#[derive(Debug, Default)]
pub(super) struct Grace {
    until: VectorClock,
    waiting: Vec<Queued>,
    filling: Vec<Queued>,
    /// How many generations have been closed.
    closed: u32,
}

impl Grace {
    /// The generation that fills. A slot keeps the one of its latest entry, and only that one counts; 0 is none.
    pub fn generation(&self) -> u32 {
        self.closed.wrapping_add(1)
    }

    /// A key whose TTL dots are all stable now.
    pub fn push(&mut self, key: Queued) {
        self.filling.push(key);
    }

    /// The next key whose period is over when `stable` is, and the generation that it came in. `applied` is the clock of this instance.
    pub fn pop(&mut self, stable: &VectorClock, applied: &VectorClock) -> Option<(Queued, u32)> {
        if self.waiting.is_empty() {
            if self.filling.is_empty() {
                return None;
            }
            std::mem::swap(&mut self.waiting, &mut self.filling);
            self.closed = self.closed.wrapping_add(1);
            self.until.clone_from(applied);
        }
        if !stable.covers(&self.until) {
            return None;
        }
        let key = self.waiting.pop()?;
        Some((key, self.closed))
    }

    /// Whether no key waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.filling.is_empty()
    }

    /// Gives memory back.
    pub fn shrink(&mut self) {
        self.waiting.shrink_to(self.waiting.len().max(1024));
        self.filling.shrink_to(self.filling.len().max(1024));
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        (self.waiting.capacity() + self.filling.capacity()) * size_of::<Queued>()
    }
}
