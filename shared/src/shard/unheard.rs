//! What is lost when a server follows another primary of its instance: its writes that nobody else is known to have.

use std::collections::{BTreeMap, HashSet, VecDeque};

use super::Shard;
use crate::effect::{ClearReason, Effect, Op};
use crate::group;
use crate::origin::Origin;
use crate::replid::ReplId;
use crate::timestamp::Timestamp;

/// So many writes are kept in mind: to name some of the keys, not to hold them all twice.
const WRITES_MAX: usize = 100_000;

/// What a write was to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    /// A key, by database and name.
    Key(u32, Vec<u8>),
    /// All of them, of a database or of all.
    Flush,
}

/// A write of a reign.
type Write = (ReplId, Timestamp, Target);

/// Writes of this instance that no other one is known to have: removals, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unheard {
    /// In the order in which they are in the backlog.
    writes: VecDeque<Write>,
    /// There may have been more.
    is_cut: bool,
}

impl Unheard {
    /// What of it another state of this instance lacks as well, and has not heard that anybody has.
    #[must_use]
    pub fn beyond(mut self, other: &Shard) -> Self {
        let has = |replid: &ReplId| {
            let origin = other.origins.find(replid);
            let own = origin.map(|origin| other.clock.get(origin)).unwrap_or_default();
            own.max(other.heard_of(origin, replid))
        };
        let mut reigns: BTreeMap<ReplId, Timestamp> = BTreeMap::new();
        self.writes.retain(|(replid, ts, _)| *ts > *reigns.entry(*replid).or_insert_with(|| has(replid)));
        self.is_cut &= !self.writes.is_empty();
        self
    }

    /// Database and name of each key, in no order.
    #[must_use]
    pub fn keys(&self) -> HashSet<(u32, &[u8])> {
        let keys = self.writes.iter().filter_map(|(.., target)| match target {
            Target::Key(db, name) => Some((*db, name.as_slice())),
            Target::Flush => None,
        });
        keys.collect()
    }

    /// Whether a `FLUSHDB` or a `FLUSHALL` is among them.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.writes.iter().any(|(.., target)| *target == Target::Flush)
    }

    /// Whether these are all of them.
    #[must_use]
    pub fn is_all(&self) -> bool {
        !self.is_cut
    }

    fn push(&mut self, write: Write) {
        if self.writes.len() == WRITES_MAX {
            self.writes.pop_front();
            self.is_cut = true;
        }
        self.writes.push_back(write);
    }
}

impl Shard {
    /// What is lost of this instance's reigns when this server follows another primary of it that has none of it: the reign that it began
    /// itself, and those of the file that it came back with. From the backlog, and of what that has no more from the metadata, which
    /// knows of no removals. O(bytes of the backlog since others were last heard of), and O(keys with metadata) where it does not reach that far.
    #[must_use]
    pub fn unheard(&self) -> Unheard {
        let own = self.unheard_reigns();
        let mut found = Unheard::default();
        let is_unheard = |origin, ts| own.iter().any(|(own, heard)| *own == origin && ts > *heard);
        if own.iter().any(|(origin, heard)| self.backlog.floor().get(*origin) > *heard) {
            found.is_cut = true;
            for (db, name, meta) in self.metadata.before_tail().iter() {
                let newest = meta.dots().filter(|dot| is_unheard(dot.origin, dot.ts)).max_by_key(|dot| dot.ts);
                if let Some(dot) = newest {
                    found.push((self.origins.replid(dot.origin), dot.ts, Target::Key(db, name.to_vec())));
                }
            }
        }
        for (group, _) in self.groups_from(self.heard_up_to(&own)) {
            if self.origins.find(&group.replid).is_some_and(|origin| is_unheard(origin, group.ts)) {
                group::effects(group.body)
                    .filter_map(written)
                    .for_each(|target| found.push((group.replid, group.ts, target)));
            }
        }
        found
    }

    /// Reigns of this instance that nobody else is known to have all of, and up to where somebody has.
    fn unheard_reigns(&self) -> Vec<(Origin, Timestamp)> {
        // Not those of who has taken this server's place: what of them is here came from others.
        let own = self.past.iter().map(|reign| reign.replid).chain([self.replid]);
        let own = own.filter_map(|replid| Some((self.origins.find(&replid)?, replid)));
        let own = own.map(|(origin, replid)| (origin, self.heard_of(Some(origin), &replid)));
        own.filter(|(origin, heard)| self.clock.get(*origin) > *heard).collect()
    }

    /// Up to where another instance is known to have a reign.
    fn heard_of(&self, origin: Option<Origin>, replid: &ReplId) -> Timestamp {
        let stable = origin.map(|origin| self.stability.stable().get(origin)).unwrap_or_default();
        let told = self.heard.members.values().filter(|report| report.instance != self.config.instance);
        told.map(|report| report.applied.get(replid)).max().unwrap_or_default().max(stable)
    }

    /// An offset of the backlog before which there is nothing of what nobody has heard; its end if there is no such thing.
    fn heard_up_to(&self, unheard: &[(Origin, Timestamp)]) -> u64 {
        if unheard.is_empty() {
            return self.backlog.end_offset();
        }
        let mut heard = self.clock.clone();
        unheard.iter().for_each(|(origin, ts)| heard.set(*origin, *ts));
        self.backlog.seek(&heard, |_| false).unwrap_or(self.backlog.first_offset())
    }
}

/// What of the dataset an effect changes because a client said so.
fn written(effect: Effect<'_>) -> Option<Target> {
    match effect.op {
        Op::Reign | Op::Join { .. } | Op::Forget { .. } | Op::Again { .. } | Op::Publish { .. } => None,
        // Keys go by themselves at the new primary, too.
        Op::Clear { reason: ClearReason::Expired | ClearReason::Evicted } => None,
        Op::Flush { .. } => Some(Target::Flush),
        _ => Some(Target::Key(effect.db, effect.key.to_vec())),
    }
}
