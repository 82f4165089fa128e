//! Local pushes and pops at the ends of lists, as queues have them: one edit makes one effect, whose place is known.
//!
//! Comes to the same as [`Shard::commit_edits`] and as what a replica makes of the record (`merge/list.rs`), without looking for
//! the place, for the list again and again, and for how long it is in the dataset.

use super::Shard;
use crate::dot::Dot;
use crate::effect::{Effect, Op, TtlNote};
use crate::group::GroupBuilder;
use crate::keyspace::Keyspace;
use crate::list::draft::{Draft, Drafts};
use crate::list::wire::{Begun, push_range};
use crate::list::{At, AtRange, Edit, List, Ranges, Reign, RunRef};
use crate::merge::KeyRef;
use crate::record::Before;
use crate::timestamp::Timestamp;

/// One in so many edits goes the long way all the same, where the length of the list is compared with the dataset's: whatever
/// was not understood, such as a filter of another module that changes a push, does harm for so long only.
const COMPARED: u32 = 64;

impl Shard {
    /// Whether the group was such an edit, and is logged.
    pub(super) fn commit_end<K: Keyspace>(
        &mut self,
        group: &GroupBuilder,
        drafts: &Drafts,
        keyspace: &mut K,
        ts: Timestamp,
    ) -> bool {
        let (Some(draft), Some(origin)) = (drafts.only(), self.me) else { return false };
        self.ends = self.ends.wrapping_add(1);
        let is_alone = group.is_empty() && !self.is_syncing() && draft.ttl != TtlNote::Created;
        // The controls of these rules are on the other way.
        let has_rules = self.config.rules.runs_continue && self.config.rules.removed_elements_go;
        if !is_alone || self.ends.is_multiple_of(COMPARED) || !has_rules {
            return false;
        }
        let reign = Reign { instance: self.config.instance, replid: self.replid };
        let (mut out, mut ranges) = (std::mem::take(&mut self.edited), std::mem::take(&mut self.ranges));
        out.clear();
        let mut merge = self.merge(keyspace);
        let id = merge.table.find(draft.db, draft.key);
        let list = id.and_then(|id| merge.table.meta_mut(id).plain_list_mut());
        let is_done = list.is_some_and(|list| edit_end(list, &draft, reign, ts, &mut out, &mut ranges));
        if is_done {
            merge.note_local(KeyRef { db: draft.db, name: draft.key }, Dot { ts, index: 0, origin }, draft.ttl);
            self.has_written = true;
            self.counters.effects_captured += 1;
            self.encode_captured(&out, ts, &Before::new());
            self.changed.clear();
            self.prune_some();
            keyspace.finish();
        }
        (self.edited, self.ranges) = (out, ranges);
        is_done
    }
}

/// Changes the ids and makes the effect, if the edit is of that kind. What a pop leaves is not empty: a key that is gone has no ids.
fn edit_end(
    list: &mut List,
    draft: &Draft<'_>,
    reign: Reign,
    ts: Timestamp,
    out: &mut GroupBuilder,
    ranges: &mut Vec<u8>,
) -> bool {
    let effect = |op| Effect { db: draft.db, key: draft.key, ttl: draft.ttl, op };
    match draft.edit {
        Edit::Push(end, values) => {
            let Some((run, begun)) = list.own_run_at(end, reign) else { return false };
            list.push(end, run, At { ts, index: 0 }, values.len());
            let run = RunRef { anchor: &[], side: end.side(), begun: Begun::Own(begun) };
            out.push(&effect(Op::ListInsert { run, first: 0, values }));
        }
        Edit::Pop(end, Some(1)) if list.len() > 1 => {
            let Some((run, at)) = list.end(end) else { return false };
            ranges.clear();
            push_range(ranges, &AtRange { run: RunRef::of(run, reign, ts), from: at, to: at });
            list.pop(end);
            out.push(&effect(Op::ListRemove { ranges: Ranges::new(1, ranges) }));
        }
        _ => return false,
    }
    true
}
