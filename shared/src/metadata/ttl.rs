//! What is known of a key's TTL: strong and weak dots (rules T1 to T4).

use smallvec::SmallVec;

use crate::clock::VectorClock;
use crate::dot::{Dot, Seen};
use crate::effect::UnixMs;

/// A live TTL dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtlDot {
    /// Its identity.
    pub dot: Dot,
    /// Absolute expiry, or no TTL.
    pub at: Option<UnixMs>,
    /// T1 (strong) or T2, T3 (weak).
    pub strong: bool,
}

/// The live TTL dots of a key, and its TTL without dot if that still counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TtlMeta {
    /// A TTL that everyone has; only while there are dots beside it. It counts as strong (T4).
    pub base: Option<UnixMs>,
    /// In no particular order.
    pub dots: SmallVec<[TtlDot; 1]>,
}

impl TtlMeta {
    /// Only this dot.
    #[must_use]
    pub fn only(dot: TtlDot) -> Self {
        Self { base: None, dots: smallvec::smallvec![dot] }
    }

    /// Whether nothing is known: the dataset's TTL, if any, is everyone's.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.base.is_none() && self.dots.is_empty()
    }

    /// Whether a strong TTL counts, be it with a dot or without.
    #[must_use]
    pub fn has_strong(&self) -> bool {
        self.base.is_some() || self.dots.iter().any(|t| t.strong)
    }

    /// Whether the clock has every dot.
    #[must_use]
    pub fn is_in(&self, clock: &VectorClock) -> bool {
        self.dots.iter().all(|t| t.dot.is_in(clock))
    }

    /// Removes what the author had seen.
    pub fn remove_seen(&mut self, seen: &Seen<'_>) {
        self.dots.retain(|t| !seen.has(&t.dot));
        if seen.has_stable() {
            self.base = None;
        }
    }

    /// T1: a strong dot replaces what its author had seen. (`strong` is false in its control only.)
    pub fn assign(&mut self, dot: Dot, at: Option<UnixMs>, seen: &Seen<'_>, strong: bool) {
        self.remove_seen(seen);
        self.dots.push(TtlDot { dot, at, strong });
    }

    /// T3: a creation replaces what its author had seen by a weak "none".
    pub fn created(&mut self, dot: Dot, seen: &Seen<'_>) {
        self.remove_seen(seen);
        self.dots.push(TtlDot { dot, at: None, strong: false });
    }

    /// T2: a write that saw this TTL and left it alone.
    ///
    /// A later weak dot of the same origin with the same time stands for its earlier one: whatever removes the
    /// later has seen the earlier, so no view can tell, and a counter with a TTL keeps one dot.
    pub fn kept(&mut self, dot: Dot, at: UnixMs) {
        let same = |t: &&mut TtlDot| !t.strong && t.at == Some(at) && t.dot.origin == dot.origin && t.dot.ts <= dot.ts;
        match self.dots.iter_mut().find(same) {
            Some(earlier) => earlier.dot = dot,
            None => self.dots.push(TtlDot { dot, at: Some(at), strong: false }),
        }
    }

    /// T4. Call it only when not empty.
    #[must_use]
    pub fn view(&self) -> Option<UnixMs> {
        let strong = self.dots.iter().filter(|t| t.strong).map(|t| t.at).chain(self.base.map(Some));
        latest(strong).or_else(|| latest(self.dots.iter().map(|t| t.at))).unwrap_or(None)
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        if self.dots.spilled() { self.dots.capacity() * size_of::<TtlDot>() } else { 0 }
    }
}

/// "None" wins, else the latest; `None` outside when there is nothing at all.
fn latest(times: impl Iterator<Item = Option<UnixMs>>) -> Option<Option<UnixMs>> {
    times.reduce(|a, b| Some(a?.max(b?)))
}
