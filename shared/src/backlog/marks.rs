//! A sparse index of the backlog by clock, for `CONTINUE` by clock.

use std::collections::VecDeque;

use crate::clock::VectorClock;
use crate::origin::Origin;
use crate::timestamp::Timestamp;

/// Bytes of backlog between two marks, at least.
const SPACING_BYTES: u64 = 64 << 10;

/// Marks take at most this part of the backlog, however many reigns a clock has.
const SHARE: u64 = 16;

/// At some offsets: the highest timestamp of each origin before it.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    /// By offset; their clocks rise, too.
    pub(super) marks: VecDeque<(u64, VectorClock)>,
    /// Before the end.
    pub(super) clock: VectorClock,
    pub(super) entries: u64,
    pub(super) last: u64,
}

impl Marks {
    /// An entry of `origin` at `ts` ends at `end`.
    pub(super) fn note(&mut self, end: u64, origin: Origin, ts: Timestamp) {
        self.clock.raise(origin, ts);
        self.entries = self.entries.max(origin.index() as u64 + 1);
        let clock_bytes = self.entries * size_of::<Timestamp>() as u64;
        if end - self.last >= SPACING_BYTES.max(SHARE * clock_bytes) {
            self.marks.push_back((end, self.clock.clone()));
            self.last = end;
        }
    }

    /// The last offset before which `clock` has everything.
    pub(super) fn last_covered(&self, clock: &VectorClock) -> Option<u64> {
        let covered = self.marks.partition_point(|(_, before)| clock.covers(before));
        self.marks.get(covered.checked_sub(1)?).map(|(offset, _)| *offset)
    }

    pub(super) fn forget_before(&mut self, first: u64) {
        while self.marks.front().is_some_and(|(offset, _)| *offset < first) {
            self.marks.pop_front();
        }
    }
}
