//! Values that were written and are still to be captured: a burst of writes to a large value is logged once.
//!
//! The mark is a record beside the first write (I-1), and part of the saved state: whoever is the primary next, after a crash or a
//! failover, captures the value. It is captured as it is then, before anything can be ordered against it: with the next own group, whatever
//! that is about, and before a group of another instance that touches the key. So no effect of this instance overtakes it, and I-4 holds
//! whenever the metadata is looked at. Until then the writes have no dot: they count as made when they are captured.

use super::Shard;
use crate::effect::{ClearReason, Effect, Op, Path, TtlNote};
use crate::group::{self, GroupBuilder, GroupView};
use crate::keyspace::Keyspace;
use crate::record::{Before, Record};

/// Keys that may be marked at once: all of them go into one group.
const KEYS_MAX: usize = 16;

impl Shard {
    /// Whether any value is still to be captured.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Whether this one is.
    #[must_use]
    pub fn is_changed(&self, db: u32, key: &[u8]) -> bool {
        self.changed.iter().any(|(in_db, name)| *in_db == db && **name == *key)
    }

    /// Whether one more may wait. While a full sync goes on none may: it merges what the dataset shows.
    #[must_use]
    pub fn may_note_changed(&self, db: u32, key: &[u8]) -> bool {
        self.is_primary() && !self.is_syncing() && (self.changed.len() < KEYS_MAX || self.is_changed(db, key))
    }

    /// The value of a key was written and is to be captured later. Returns the record for `SYNCER.LOG`, if that is new.
    ///
    /// I-1: the caller replicates the record in the same unit as the write.
    pub fn note_changed(&mut self, db: u32, key: &[u8]) -> Option<&[u8]> {
        if self.is_changed(db, key) {
            return None;
        }
        self.changed.push((db, key.into()));
        self.frame.clear();
        Record::changed(&mut self.frame, db, key);
        Some(&self.frame)
    }

    /// Adds the values that are to be captured to an own group that is about to be logged, but for those that it speaks for.
    pub fn add_changed<K: Keyspace>(&self, group: &mut GroupBuilder, keyspace: &mut K) {
        for (db, key) in &self.changed {
            let (db, key) = (*db, &**key);
            if group::effects(group.body()).any(|effect| says_all(&effect, db, key)) {
                continue;
            }
            let mut push = |op: Op<'_>| group.push(&Effect { db, key, ttl: TtlNote::None, op });
            if keyspace.kind(db, key).is_none() {
                // A server that loads its file drops what has expired without a word.
                push(Op::Clear { reason: ClearReason::Expired });
                continue;
            }
            push(Op::Clear { reason: ClearReason::Deleted });
            keyspace.elements(db, key, &mut |path, value| push(Op::Assign { path, value, reasserted: false }));
            push(keyspace.expire_at(db, key).map_or(Op::Persist, |at| Op::Expire { at }));
        }
    }

    /// Captures them by themselves; the record is in [`Shard::take_records`].
    pub fn capture_changed<K: Keyspace>(&mut self, keyspace: &mut K, now_ms: u64) {
        if !self.has_changed() || !self.is_primary() {
            return;
        }
        let mut group = std::mem::take(&mut self.own_group);
        group.clear();
        self.add_changed(&mut group, keyspace);
        let record = self.commit(&group, &Before::new(), keyspace, now_ms).to_vec();
        self.records.push(record);
        self.own_group = group;
    }

    /// Whether a group of another instance may change what is still to be captured.
    pub(super) fn touches_changed(&self, group: &GroupView<'_>) -> bool {
        let touches = |effect: &Effect<'_>| match effect.op {
            Op::Flush { scope } => self.changed.iter().any(|(db, _)| scope.includes(*db)),
            _ => self.is_changed(effect.db, effect.key),
        };
        self.has_changed() && group::effects(group.body).any(|effect| touches(&effect))
    }
}

/// Whether an effect of an own group leaves nothing of the key to be said: a `Clear`, behind which the group says the rest.
fn says_all(effect: &Effect<'_>, db: u32, key: &[u8]) -> bool {
    match effect.op {
        Op::Flush { scope } => scope.includes(db),
        Op::Clear { .. } | Op::Set { .. } | Op::Assign { path: Path::Opaque, .. } => {
            effect.db == db && *effect.key == *key
        }
        _ => false,
    }
}
