//! The tail: the newest groups of the backlog, whose effects are in the dataset and not yet in the metadata.
//!
//! A group whose author had seen everything that is applied here needs no metadata: it has no concurrent effect to meet. So are all
//! local writes, and those of another instance while this one writes nothing. Such groups wait here; what needs the metadata takes
//! them in first ([`Shard::take_in_tail`]). But mostly every member has them before that, and they never cost a look at the table.

use std::collections::VecDeque;

use super::Shard;
use crate::backlog::Backlog;
use crate::clock::VectorClock;
use crate::dot::Dot;
use crate::effect::{Effect, FUNCTIONS_DB, Op, Path};
use crate::group::{self, GroupView};
use crate::keyspace::Keyspace;
use crate::merge::{Merge, Rules, registers, sequel};
use crate::metadata::Table;
use crate::number::Number;
use crate::origin::{Origin, Origins};
use crate::patch::Patch;
use crate::timestamp::Timestamp;

/// Groups between two marks.
const SPACING: usize = 64;
/// Groups that may wait, at most: to take them all in takes some 10 ms.
const GROUPS_MAX: usize = 32 << 10;
/// The tail takes at most this part of the backlog, so that nothing of it is evicted.
const SHARE: u64 = 4;

/// Conflict metadata: the table, and the tail that is not in it yet. The table is to be had with the tail taken in
/// ([`Shard::table`], [`Shard::merge`]); who can do without says so.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    /// As of before the tail.
    table: Table,
    tail: Tail,
}

/// See the module's documentation.
///
/// Invariants: its groups are the last ones of the backlog, from `from` on; the author of each had seen every effect before it.
/// So a group of it is stable (2.2) only if all before it are, and if all that is in the metadata is.
#[derive(Clone, Debug)]
struct Tail {
    /// Offset of its first group.
    from: u64,
    /// Offset behind its last group, and who wrote that.
    end: (u64, Origin, Timestamp),
    /// How many there are.
    groups: usize,
    /// Where stretches end, oldest first.
    marks: VecDeque<Mark>,
    /// Groups behind the last mark.
    unmarked: usize,
    /// The end of what everybody has, and what was applied here when that was known.
    settled: Option<(u64, VectorClock)>,
    /// Groups that came since something needed the metadata.
    undisturbed: usize,
}

/// The end of a stretch.
#[derive(Clone, Debug)]
struct Mark {
    end: u64,
    /// Groups of the stretch that are still here.
    groups: usize,
    /// The last of them.
    last: (Origin, Timestamp),
}

impl Tail {
    fn is_empty(&self) -> bool {
        self.groups == 0
    }

    /// A group was appended to the backlog, from `start` to `end`.
    fn push(&mut self, start: u64, end: u64, origin: Origin, ts: Timestamp) {
        if self.is_empty() {
            self.from = start;
        }
        self.end = (end, origin, ts);
        self.groups += 1;
        self.unmarked += 1;
        self.undisturbed = self.undisturbed.saturating_add(1);
        if self.unmarked == SPACING {
            self.marks.push_back(Mark { end, groups: SPACING, last: (origin, ts) });
            self.unmarked = 0;
        }
    }

    /// The first group, which ends at `end`, was taken in.
    fn shift(&mut self, end: u64) {
        self.from = end;
        self.groups -= 1;
        match self.marks.front_mut() {
            Some(mark) => mark.groups -= 1,
            None => self.unmarked -= 1,
        }
        self.marks.pop_front_if(|mark| mark.groups == 0);
    }

    /// Whether the oldest are to be taken in. Where the metadata is often needed few may wait, so that each time is short.
    fn is_long(&self) -> bool {
        self.groups > GROUPS_MAX.min(SPACING + self.undisturbed / 2)
    }

    /// Bytes of its groups.
    fn bytes(&self) -> u64 {
        if self.is_empty() { 0 } else { self.end.0 - self.from }
    }

    /// Drops what everybody has, one round of reports later than that is known: then everybody has what this instance had at that
    /// moment, too, and no dot of it is needed any more, not even of a TTL (see `metadata/grace.rs`). No dot in the table is, either.
    /// The end of what is to be dropped.
    fn settled_end(&mut self, stable: &VectorClock, applied: &VectorClock) -> Option<u64> {
        if self.settled.is_none() {
            self.settled = self.stable_end(stable).map(|end| (end, applied.clone()));
        }
        self.settled.take_if(|(_, until)| stable.covers(until)).map(|(end, _)| end)
    }

    /// The end of what is in S, to a stretch.
    fn stable_end(&self, stable: &VectorClock) -> Option<u64> {
        let (end, origin, ts) = self.end;
        if !self.is_empty() && stable.has(origin, ts) {
            return Some(end);
        }
        let stretches = self.marks.partition_point(|mark| stable.has(mark.last.0, mark.last.1));
        stretches.checked_sub(1).and_then(|at| self.marks.get(at)).map(|mark| mark.end)
    }

    /// Returns how many groups that are.
    fn drop_before(&mut self, end: u64) -> usize {
        let before = self.groups;
        while let Some(mark) = self.marks.pop_front_if(|mark| mark.end <= end) {
            self.groups -= mark.groups;
            self.from = mark.end;
        }
        if end == self.end.0 {
            (self.groups, self.unmarked) = (0, 0);
        }
        before - self.groups
    }
}

impl Default for Tail {
    fn default() -> Self {
        let end = (0, Origin::from_index(0), Timestamp::ZERO);
        Self { from: 0, end, groups: 0, marks: VecDeque::new(), unmarked: 0, settled: None, undisturbed: 0 }
    }
}

/// Whether an effect, whose author had seen everything, leaves the same metadata whenever it is taken in: so it needs no look at the
/// dataset and gets no id.
pub(crate) const fn may_wait(effect: &Effect<'_>) -> bool {
    match effect.op {
        _ if effect.db == FUNCTIONS_DB => false,
        Op::Set { .. } | Op::Clear { .. } | Op::Expire { .. } | Op::Persist => true,
        Op::Flush { .. } | Op::Publish { .. } => true,
        Op::Assign { path, reasserted, .. } => !reasserted && is_plain(path),
        Op::Remove { path } => is_plain(path),
        Op::Increment { delta, .. } => matches!(delta, Number::Integer(_)),
        // Where nothing else changes the string: `is_blended`.
        Op::Patch { patch, .. } => matches!(patch, Patch::Registers(_)),
        _ => false,
    }
}

const fn is_plain(path: Path<'_>) -> bool {
    matches!(path, Path::String | Path::Field(_) | Path::Member(_) | Path::Scored(_))
}

impl Metadata {
    /// The table without the groups of the tail: for figures and saved states, and for what the tail cannot change.
    pub(super) fn before_tail(&self) -> &Table {
        &self.table
    }

    /// The table of a state in the making, whose tail comes last.
    pub(super) fn restoring(&mut self) -> &mut Table {
        debug_assert!(self.tail.is_empty(), "the tail comes last");
        &mut self.table
    }

    /// Groups of the tail.
    pub(super) fn waiting(&self) -> usize {
        self.tail.groups
    }

    /// Bytes of them in the backlog, at its end.
    pub(super) fn tail_bytes(&self) -> u64 {
        self.tail.bytes()
    }

    /// Offset of the first group of the tail, if there is one.
    pub(super) fn tail_from(&self) -> Option<u64> {
        (!self.tail.is_empty()).then_some(self.tail.from)
    }

    /// Prunes the table, at most `steps` queue entries, and drops of the tail what everybody has. Returns how many entries and groups.
    ///
    /// The table is pruned as it is: dots that the tail removes, or adds to, are needed no longer than without it.
    pub(super) fn prune(
        &mut self,
        stable: &VectorClock,
        applied: &VectorClock,
        steps: usize,
        rules: &Rules,
        origins: &Origins,
        backlog: &Backlog,
    ) -> usize {
        let taken = self.table.prune(stable, applied, steps, rules, origins);
        if taken == 0 {
            self.table.shrink();
        }
        if !self.table.is_at_rest() {
            return taken;
        }
        let Some(end) = self.tail.settled_end(stable, applied) else { return taken };
        if !self.table.is_empty() {
            self.forget_replaced(end, backlog);
        }
        taken + self.tail.drop_before(end)
    }

    /// What is known of keys at rest, the ids of lists, goes with the lists that the tail replaces before `end`.
    fn forget_replaced(&mut self, end: u64, backlog: &Backlog) {
        for group in
            Groups::of(backlog, self.tail.from).take_while(|(_, behind)| *behind <= end).map(|(group, _)| group)
        {
            for effect in group::effects(group.body) {
                match effect.op {
                    Op::Flush { scope } => drop(self.table.drain(|db| scope.includes(db))),
                    Op::Set { .. }
                    | Op::Assign { .. }
                    | Op::Increment { .. }
                    | Op::Patch { .. }
                    | Op::Remove { .. }
                    | Op::Clear { .. } => {
                        if let Some(id) = self.table.find(effect.db, effect.key) {
                            self.table.remove(id);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The groups of a backlog from an offset on, each with the offset behind it.
struct Groups<'a> {
    backlog: &'a Backlog,
    at: u64,
    rest: &'a [u8],
}

impl<'a> Groups<'a> {
    fn of(backlog: &'a Backlog, from: u64) -> Self {
        Self { backlog, at: from, rest: &[] }
    }
}

impl<'a> Iterator for Groups<'a> {
    type Item = (GroupView<'a>, u64);

    /// Ends early where there is no group.
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            self.rest = self.backlog.stretch(self.at);
        }
        let (group, rest) = GroupView::read(self.rest).ok()?;
        (self.at, self.rest) = (self.at + group.frame.len() as u64, rest);
        Some((group, self.at))
    }
}

impl Shard {
    /// The groups of the backlog from an offset on that it holds, each with the offset behind it.
    pub(super) fn groups_from(&self, from: u64) -> impl Iterator<Item = (GroupView<'_>, u64)> {
        Groups::of(&self.backlog, from)
    }

    /// Conflict metadata.
    pub fn table<K: Keyspace>(&mut self, keyspace: &mut K) -> &Table {
        self.take_in_tail(keyspace);
        &self.metadata.table
    }

    /// For a look at the metadata, or a change of it.
    pub(super) fn merge<'a, K: Keyspace>(&'a mut self, keyspace: &'a mut K) -> Merge<'a, K> {
        self.take_in_tail(keyspace);
        Merge {
            table: &mut self.metadata.table,
            origins: &self.origins,
            keyspace,
            rules: &self.config.rules,
            syncing: self.syncing.is_some().then_some(&self.clock),
            stable: self.stability.stable(),
            conflicts: &mut self.counters.conflicts,
        }
    }

    /// Takes the whole tail into the metadata.
    pub fn take_in_tail<K: Keyspace>(&mut self, keyspace: &mut K) {
        while !self.metadata.tail.is_empty() {
            self.take_in_some(keyspace);
        }
    }

    /// Takes a few groups of the tail into the metadata, since it is needed.
    pub(super) fn take_in_some<K: Keyspace>(&mut self, keyspace: &mut K) {
        self.metadata.tail.undisturbed = 0;
        self.take_in(SPACING, keyspace);
    }

    /// Whether a group of this size may wait in the tail.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        /// In a smaller one, what is logged at a start or when a member joins could evict the tail.
        const BACKLOG_BYTES_MIN: u64 = 64 << 10;
        let backlog_bytes = self.config.backlog_bytes;
        let is_small = bytes as u64 <= backlog_bytes / (2 * SHARE);
        // Values that this server does not know are in the metadata only: it must be up to date.
        is_small && backlog_bytes >= BACKLOG_BYTES_MIN && !self.is_syncing() && !self.metadata.table.may_keep_unknown()
    }

    /// A group of `origin`, which is in the dataset and was just appended to the backlog, waits in the tail.
    pub(super) fn defer<K: Keyspace>(&mut self, bytes: usize, origin: Origin, ts: Timestamp, keyspace: &mut K) {
        let end = self.backlog.end_offset();
        self.metadata.tail.push(end - bytes as u64, end, origin, ts);
        if self.metadata.tail.is_long() {
            // One more than came.
            self.take_in(2, keyspace);
        }
        while self.metadata.tail.bytes() > self.config.backlog_bytes / SHARE {
            self.take_in(1, keyspace);
        }
    }

    /// A group without data was appended to the backlog: it stands in the tail, if there is one.
    pub(super) fn defer_control(&mut self, bytes: usize, origin: Origin, ts: Timestamp) {
        if !self.metadata.tail.is_empty() {
            let end = self.backlog.end_offset();
            self.metadata.tail.push(end - bytes as u64, end, origin, ts);
        }
    }

    /// Takes the oldest groups of the tail into the metadata.
    fn take_in<K: Keyspace>(&mut self, groups: usize, keyspace: &mut K) {
        let Self { metadata: Metadata { table, tail }, backlog, origins, config, stability, counters, .. } = self;
        // A full sync that has begun meanwhile makes no difference: they came before it.
        let mut merge = Merge {
            table,
            origins,
            keyspace,
            rules: &config.rules,
            syncing: None,
            stable: stability.stable(),
            conflicts: &mut counters.conflicts,
        };
        let mut waiting = Groups::of(backlog, tail.from);
        for _ in 0..groups.min(tail.groups) {
            let Some((group, end)) = waiting.next() else {
                debug_assert!(false, "the tail is in the backlog");
                *tail = Tail::default();
                return;
            };
            if let Some(origin) = origins.find(&group.replid) {
                for (index, effect) in (0_u32..).zip(group::effects(group.body)) {
                    merge.local(&effect, Dot { ts: group.ts, index, origin }, None);
                }
            }
            tail.shift(end);
        }
    }

    /// Applies a group whose author had seen everything that is here: only the dataset needs it now.
    ///
    /// # Errors
    /// It is another one, or one of its effects needs the metadata: how many were written to the dataset before that.
    pub(super) fn append_sequel<K: Keyspace>(
        &mut self,
        group: &GroupView<'_>,
        origin: Origin,
        keyspace: &mut K,
    ) -> Result<(), u32> {
        // The controls of these rules need the metadata to break anything.
        let has_rules = self.config.rules.group_sees_itself && self.config.rules.types_conflict;
        if group.urgent || !has_rules || !self.has_room(group.frame.len()) || !self.has_seen_all(origin) {
            return Err(0);
        }
        let mut effects = group::effects(group.body);
        let mut count = 0;
        let stuck = effects.find(|effect| {
            let is_blended = registers::is_blended(&self.metadata.table, effect);
            let written = !is_blended && may_wait(effect) && sequel::write(effect, keyspace);
            count += u32::from(written);
            !written
        });
        if stuck.is_some() {
            return Err(count);
        }
        self.counters.effects_applied += u64::from(count);
        self.advance_clock(origin, group.ts);
        self.backlog.append(group.frame, origin, group.instance, group.ts);
        self.defer(group.frame.len(), origin, group.ts, keyspace);
        self.prune_some();
        Ok(())
    }

    /// Where the tail begins, as a saved state says.
    pub(super) fn restore_tail(&mut self, from: u64) -> bool {
        let Self { metadata, backlog, origins, .. } = self;
        backlog.holds(from).is_ok() && metadata.tail.restore(from, backlog, origins)
    }
}

impl Tail {
    fn restore(&mut self, from: u64, backlog: &Backlog, origins: &Origins) -> bool {
        let mut at = from;
        for (group, end) in Groups::of(backlog, from) {
            let Some(origin) = origins.find(&group.replid) else { return false };
            self.push(at, end, origin, group.ts);
            at = end;
        }
        at == backlog.end_offset()
    }
}
