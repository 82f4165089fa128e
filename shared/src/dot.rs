//! Dots: the identity of effects, and their total order.

use std::cmp::Ordering;

use crate::clock::VectorClock;
use crate::origin::{Origin, Origins};
use crate::timestamp::Timestamp;

/// The identity of one effect: (replication ID, timestamp, index in its group). Never reused (I-7).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Dot {
    /// Timestamp of the group.
    pub ts: Timestamp,
    /// Place of the effect in its group.
    pub index: u32,
    /// Reign that authored it.
    pub origin: Origin,
}

impl Dot {
    /// Effect order: (timestamp, instance id, replication ID, index). Total; decides last-writer-wins.
    #[must_use]
    pub fn effect_order(&self, other: &Self, origins: &Origins) -> Ordering {
        self.ts.cmp(&other.ts).then_with(|| {
            if self.origin == other.origin {
                return self.index.cmp(&other.index);
            }
            let name = |dot: &Self| (origins.instance(dot.origin), origins.replid(dot.origin));
            name(self).cmp(&name(other)).then(self.index.cmp(&other.index))
        })
    }

    /// Whether the clock has the group of this dot.
    #[must_use]
    pub fn is_in(&self, clock: &VectorClock) -> bool {
        clock.has(self.origin, self.ts)
    }
}

/// What the author of an effect had seen.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// A local write: everything here.
    Everything,
    /// A remote effect.
    Context {
        /// Its context: what its author had applied just before its group.
        clock: &'a VectorClock,
        /// Its group, of which it has seen the earlier effects (rule G2).
        group: (Origin, Timestamp),
        /// The receiver's stable clock, if the context does not cover it: then what has no metadata does not count as seen (2.2 rule 5).
        lacks: Option<&'a VectorClock>,
    },
}

impl<'a> Seen<'a> {
    /// Who has this clock, as someone whose S is `stable` sees it: an instance, not the author of a group.
    #[must_use]
    pub fn of(clock: &'a VectorClock, stable: &'a VectorClock) -> Self {
        let lacks = (!clock.covers(stable)).then_some(stable);
        Self::Context { clock, group: (Origin::from_index(0), Timestamp::ZERO), lacks }
    }

    /// Whether the author had seen the effect of `dot`.
    #[must_use]
    pub fn has(&self, dot: &Dot) -> bool {
        match self {
            Seen::Everything => true,
            Seen::Context { clock, group, .. } => (dot.origin, dot.ts) == *group || dot.is_in(clock),
        }
    }

    /// Whether the author had seen what has no metadata here.
    #[must_use]
    pub const fn has_stable(&self) -> bool {
        match self {
            Seen::Everything => true,
            Seen::Context { lacks, .. } => lacks.is_none(),
        }
    }

    /// Whether the author may not have seen the effect of `dot`. It makes no difference whether the dot is pruned.
    #[must_use]
    pub fn is_news(&self, dot: &Dot) -> bool {
        match self {
            Seen::Everything => false,
            Seen::Context { lacks, .. } => !self.has(dot) || lacks.is_some_and(|stable| dot.is_in(stable)),
        }
    }
}
