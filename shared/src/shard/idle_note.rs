//! TTL notes that say nothing, and would say too much (rule T2).

use super::Shard;
use crate::effect::{Effect, Op, TtlNote};
use crate::group::{self, GroupBuilder};

impl Shard {
    /// The same group without the notes `Kept` for keys whose creation ("no TTL", weak) is still live here: it outranks
    /// every weak TTL (T4), so they add nothing. But where the creation has been pruned, only they would be left, and the key would
    /// have a TTL there and none here (found by the simulation, seed 111866). `None`: nothing to change, as nearly always.
    pub(super) fn without_idle_notes(&self, group: &GroupBuilder) -> Option<GroupBuilder> {
        if !group.has_kept() || !group::effects(group.body()).any(|effect| self.is_idle(&effect)) {
            return None;
        }
        let mut changed = GroupBuilder::new();
        // What the group itself did to a TTL is not in the metadata yet.
        let mut decided: Vec<(u32, &[u8])> = Vec::new();
        let mut flushed = false;
        for mut effect in group::effects(group.body()) {
            flushed |= matches!(effect.op, Op::Flush { .. });
            let key = (effect.db, effect.key);
            if !flushed && !decided.contains(&key) && self.is_idle(&effect) {
                effect.ttl = TtlNote::None;
            }
            let decides = matches!(effect.op, Op::Set { .. } | Op::Clear { .. } | Op::Expire { .. } | Op::Persist);
            if decides || effect.ttl == TtlNote::Created {
                decided.push(key);
            }
            changed.push(&effect);
        }
        Some(changed)
    }

    fn is_idle(&self, effect: &Effect<'_>) -> bool {
        let weak_none = |id| self.table.meta(id).ttl.dots.iter().any(|ttl| !ttl.strong && ttl.at.is_none());
        matches!(effect.ttl, TtlNote::Kept(_)) && self.table.find(effect.db, effect.key).is_some_and(weak_none)
    }
}
