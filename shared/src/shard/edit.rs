//! Local edits of lists: native indexes become positions, one edit after the other, since each sees what those before it left.

use super::Shard;
use super::commit::Absorbed;
use crate::dot::Dot;
use crate::effect::{ClearReason, Effect, Kind, Op, Path, TtlNote, Value};
use crate::group::{self, GroupBuilder};
use crate::keyspace::Keyspace;
use crate::list::draft::Draft;
use crate::list::wire::{push_range, push_value};
use crate::list::{At, AtRange, Drafts, Edit, End, List, Ranges, Reign, RunName, RunRef, Values};
use crate::merge::{KeyRef, write_list_base};
use crate::origin::Origin;
use crate::record::Before;
use crate::timestamp::Timestamp;

/// A group in the making, from captured effects and edits. Each effect is in the metadata already.
struct Editing<'a> {
    out: GroupBuilder,
    before: Before,
    absorbed: Absorbed,
    /// List elements made so far: the place of the next.
    made: u32,
    ts: Timestamp,
    me: Origin,
    reign: Reign,
    /// Lists whose edits cannot be told, or would need too long positions.
    untold: Vec<(u32, &'a [u8])>,
    /// Reused.
    ranges: Vec<u8>,
}

impl Shard {
    /// Like [`Shard::commit`], for a group with edits of lists.
    pub fn commit_edits<K: Keyspace>(
        &mut self,
        group: &GroupBuilder,
        before: &Before,
        drafts: &Drafts,
        keyspace: &mut K,
        now_ms: u64,
    ) -> &[u8] {
        let ts = self.hlc.tick(now_ms);
        let Some(me) = self.me else { return &[] };
        self.take_in_tail(keyspace);
        let expired = self.made_anew(group, drafts);
        if expired.is_empty() && self.commit_end(group, drafts, keyspace, ts) {
            return &self.frame;
        }
        let reign = Reign { instance: self.config.instance, replid: self.replid };
        let mut out = std::mem::take(&mut self.edited);
        out.clear();
        let absorbed = Absorbed::new(self, me, ts);
        let mut editing = Editing {
            out,
            before: Before::new(),
            absorbed,
            made: 0,
            ts,
            me,
            reign,
            untold: Vec::new(),
            ranges: std::mem::take(&mut self.ranges),
        };
        for (db, key) in &expired {
            let op = Op::Clear { reason: ClearReason::Expired };
            self.take(&Effect { db: *db, key, ttl: TtlNote::None, op }, None, &mut editing, keyspace);
        }
        let mut edits = drafts.iter().peekable();
        for (index, effect) in (0_u32..).zip(group::effects(group.body())) {
            while edits.peek().is_some_and(|draft| draft.place <= index) {
                self.edit(&mut edits, &mut editing, keyspace);
            }
            let look = before.iter().find(|(at, _)| *at == index).map(|(_, value)| value.clone());
            self.take(&effect, look, &mut editing, keyspace);
        }
        while edits.peek().is_some() {
            self.edit(&mut edits, &mut editing, keyspace);
        }
        self.check_lengths(drafts, &mut editing, keyspace);
        for (db, key, at) in self.unseen_ttls(editing.out.body(), keyspace) {
            let effect = Effect { db, key: &key, ttl: TtlNote::None, op: Op::Expire { at } };
            self.take(&effect, None, &mut editing, keyspace);
        }
        let Editing { out, before, absorbed, ranges, .. } = editing;
        self.ranges = ranges;
        self.counters.effects_captured += u64::from(out.count());
        self.encode_captured(&out, ts, &before);
        self.changed.clear();
        self.absorb_end(out.body(), absorbed, keyspace);
        self.edited = out;
        self.prune_some();
        keyspace.finish();
        &self.frame
    }

    /// One effect into the group and into the metadata.
    fn take<K: Keyspace>(
        &mut self,
        effect: &Effect<'_>,
        look: Option<Option<Vec<u8>>>,
        editing: &mut Editing<'_>,
        keyspace: &mut K,
    ) {
        let index = editing.out.count();
        let dot = Dot { ts: editing.ts, index, origin: editing.me };
        editing.out.push(effect);
        let before = look.as_ref().and_then(Option::as_deref);
        self.absorb_effect(effect, dot, before, &mut editing.absorbed, keyspace);
        if let Some(look) = look {
            editing.before.push((index, look));
        }
    }

    /// The next edit into effects.
    fn edit<'a, K: Keyspace>(
        &mut self,
        edits: &mut std::iter::Peekable<impl Iterator<Item = Draft<'a>> + Clone>,
        editing: &mut Editing<'a>,
        keyspace: &mut K,
    ) {
        let Some(draft) = edits.next() else { return };
        let key = KeyRef { db: draft.db, name: draft.key };
        let later = edits.clone().filter(|other| (other.db, other.key) == (draft.db, draft.key));
        let known = self.known_list(key, keyspace).map(List::shown_len);
        // How long the list was before this edit, told by how long it is now.
        let told = |keyspace: &mut K, own: i64| {
            let now = i64::try_from(keyspace.list_len(key.db, key.name)).ok()?;
            later.clone().map(|draft| delta(&draft.edit)).try_fold(now - own, |len, delta| Some(len - delta?))
        };
        let len = known.or_else(|| {
            // Something else follows that the length cannot tell from this: then that will say what is left of the list.
            let own = delta(&draft.edit)?;
            Some(told(keyspace, own).and_then(|len| usize::try_from(len).ok()).unwrap_or(0))
        });
        let count = match draft.edit {
            Edit::Pop(_, None) => {
                len.zip(told(keyspace, 0)).and_then(|(len, then)| u64::try_from(len as i64 - then).ok())
            }
            Edit::Pop(_, count) => count,
            _ => None,
        };
        let Some(len) = len.filter(|_| !matches!(draft.edit, Edit::Pop(_, None)) || count.is_some()) else {
            return editing.untold.push((draft.db, draft.key));
        };
        let count = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
        let look = (known.is_none() && len > 0).then(|| Some(write_list_base(len)));
        let mut maker = Maker { draft, look, len };
        let list_is_new = known.is_none();
        let is_told = match draft.edit {
            Edit::Push(end, values) => {
                let index = if end == End::Head { 0 } else { usize::MAX };
                self.insert(&mut maker, index, Some(end), values, editing, keyspace)
            }
            Edit::Insert(index, value) => {
                let mut values = Vec::with_capacity(value.len() + 4);
                push_value(&mut values, value);
                self.insert(&mut maker, index as usize, None, Values::new(1, &values), editing, keyspace)
            }
            Edit::Pop(End::Head, _) => self.remove(&mut maker, &[(0, count)], editing, keyspace),
            Edit::Pop(End::Tail, _) => self.remove(&mut maker, &[(len.saturating_sub(count), len)], editing, keyspace),
            Edit::Trim(start, stop) => {
                let (start, end) = kept(len, start, stop);
                self.remove(&mut maker, &[(0, start), (end, len)], editing, keyspace)
            }
            Edit::Remove(indexes) => self.remove(&mut maker, &runs_of(indexes), editing, keyspace),
            Edit::Set(index, value) => self.set(&mut maker, absolute(len, index), value, editing, keyspace),
        };
        if !is_told {
            editing.untold.push((draft.db, draft.key));
        } else if list_is_new && maker.look.is_some() {
            // No effect has told the replicas of these ids.
            self.forget_list(key, keyspace);
        }
    }

    fn known_list<K: Keyspace>(&mut self, key: KeyRef<'_>, keyspace: &mut K) -> Option<&List> {
        let table = self.table(keyspace);
        table.meta(table.find(key.db, key.name)?).list()
    }

    fn forget_list<K: Keyspace>(&mut self, key: KeyRef<'_>, keyspace: &mut K) {
        let table = self.merge(keyspace).table;
        if let Some(id) = table.find(key.db, key.name) {
            table.meta_mut(id).kinds.retain(|kind| kind.kind != Kind::List);
            table.remove_if_empty(id);
        }
    }

    /// Whether the position is not too long.
    fn insert<K: Keyspace>(
        &mut self,
        maker: &mut Maker<'_>,
        index: usize,
        end: Option<End>,
        values: Values<'_>,
        editing: &mut Editing<'_>,
        keyspace: &mut K,
    ) -> bool {
        let mut merge = self.merge(keyspace);
        let list = merge.list_of(maker.key(), maker.len);
        let index = if end.is_some() { index.min(list.len()) } else { list.shown_to_all(index) };
        let Some(run) = list.run_for(index, end, editing.reign, editing.ts) else { return false };
        let run = if self.config.rules.runs_continue {
            run
        } else {
            RunName::new(run.anchor(), run.side(), editing.ts, editing.reign)
        };
        let first = editing.made;
        editing.made += values.len();
        let op = Op::ListInsert { run: RunRef::of(&run, editing.reign, editing.ts), first, values };
        self.take(&maker.effect(op), maker.look.take(), editing, keyspace);
        true
    }

    /// Removes what is between native indexes. Always told.
    fn remove<K: Keyspace>(
        &mut self,
        maker: &mut Maker<'_>,
        gone: &[(usize, usize)],
        editing: &mut Editing<'_>,
        keyspace: &mut K,
    ) -> bool {
        let mut bytes = std::mem::take(&mut editing.ranges);
        bytes.clear();
        let mut merge = self.merge(keyspace);
        let list = merge.list_of(maker.key(), maker.len);
        let mut count = 0;
        for (from, to) in gone {
            count += write_ranges(list, (*from).min(maker.len)..(*to).min(maker.len), editing, &mut bytes);
        }
        if count > 0 {
            let op = Op::ListRemove { ranges: Ranges::new(count, &bytes) };
            self.take(&maker.effect(op), maker.look.take(), editing, keyspace);
        }
        editing.ranges = bytes;
        true
    }

    fn set<K: Keyspace>(
        &mut self,
        maker: &mut Maker<'_>,
        index: Option<usize>,
        value: &[u8],
        editing: &mut Editing<'_>,
        keyspace: &mut K,
    ) -> bool {
        let mut merge = self.merge(keyspace);
        let list = merge.list_of(maker.key(), maker.len);
        let Some(name) = index.and_then(|index| list.name(list.shown_to_all(index))) else { return false };
        let op = Op::Assign { path: Path::Element(&name), value: Value::Bytes(value), reasserted: false };
        self.take(&maker.effect(op), maker.look.take(), editing, keyspace);
        true
    }

    /// The dataset has as many elements as there are ids (I-4), or the list is written anew: whatever was not understood does no
    /// harm but that concurrent pushes to it count as new lists.
    fn check_lengths<'a, K: Keyspace>(&mut self, drafts: &'a Drafts, editing: &mut Editing<'a>, keyspace: &mut K) {
        let mut checked: Option<(u32, &[u8])> = None;
        for draft in drafts.iter() {
            let name = (draft.db, draft.key);
            if checked.replace(name) == Some(name) || editing.untold.contains(&name) {
                continue;
            }
            let known = self.known_list(KeyRef { db: draft.db, name: draft.key }, keyspace).map_or(0, List::shown_len);
            if keyspace.list_len(draft.db, draft.key) != known {
                editing.untold.push(name);
            }
        }
        editing.untold.sort_unstable();
        editing.untold.dedup();
        for (db, key) in std::mem::take(&mut editing.untold) {
            // What is no list any more was replaced by an effect of its own.
            if keyspace.kind(db, key) != Some(Kind::List) {
                continue;
            }
            self.counters.lists_rewritten += 1;
            self.write_anew(KeyRef { db, name: key }, editing, keyspace);
        }
    }

    fn write_anew<K: Keyspace>(&mut self, key: KeyRef<'_>, editing: &mut Editing<'_>, keyspace: &mut K) {
        let effect = |op| Effect { db: key.db, key: key.name, ttl: TtlNote::None, op };
        let (mut values, mut count) = (Vec::new(), 0);
        keyspace.elements(key.db, key.name, &mut |_, value| {
            if let Value::Bytes(value) = value {
                push_value(&mut values, value);
                count += 1;
            }
        });
        self.take(&effect(Op::Clear { reason: ClearReason::Deleted }), None, editing, keyspace);
        let run = RunName::new(&[], crate::list::Side::Before, editing.ts, editing.reign);
        let run = RunRef::of(&run, editing.reign, editing.ts);
        let first = editing.made;
        editing.made += count;
        self.take(&effect(Op::ListInsert { run, first, values: Values::new(count, &values) }), None, editing, keyspace);
        let ttl = keyspace.expire_at(key.db, key.name).map_or(Op::Persist, |at| Op::Expire { at });
        self.take(&effect(ttl), None, editing, keyspace);
    }
}

/// What the effects of one edit have in common.
struct Maker<'a> {
    draft: Draft<'a>,
    /// Goes with the first effect.
    look: Option<Option<Vec<u8>>>,
    /// Elements that clients saw before the edit.
    len: usize,
}

impl<'a> Maker<'a> {
    fn key(&self) -> KeyRef<'a> {
        KeyRef { db: self.draft.db, name: self.draft.key }
    }

    fn effect<'b>(&self, op: Op<'b>) -> Effect<'b>
    where
        'a: 'b,
    {
        Effect { db: self.draft.db, key: self.draft.key, ttl: self.draft.ttl, op }
    }
}

/// By how much an edit changes the length, if it says so itself.
fn delta(edit: &Edit<'_>) -> Option<i64> {
    match edit {
        Edit::Push(_, values) => Some(i64::from(values.len())),
        Edit::Pop(_, count) => count.and_then(|count| i64::try_from(count).ok()).map(|count| -count),
        Edit::Insert(..) => Some(1),
        Edit::Remove(indexes) => Some(-(indexes.len() as i64)),
        Edit::Set(..) => Some(0),
        Edit::Trim(..) => None,
    }
}

/// What `LTRIM` leaves, as a half-open range.
fn kept(len: usize, start: i64, stop: i64) -> (usize, usize) {
    let len = len as i64;
    let from = |index: i64| if index < 0 { index.saturating_add(len) } else { index };
    let (start, stop) = (from(start).max(0), from(stop).min(len - 1));
    if start > stop || start >= len { (len as usize, len as usize) } else { (start as usize, stop as usize + 1) }
}

fn absolute(len: usize, index: i64) -> Option<usize> {
    let index = if index < 0 { index.saturating_add(len as i64) } else { index };
    usize::try_from(index).ok().filter(|index| *index < len)
}

/// Neighbours together.
fn runs_of(indexes: &[u64]) -> Vec<(usize, usize)> {
    let one = |pair: &[u64]| Some((*pair.first()? as usize, *pair.last()? as usize + 1));
    indexes.chunk_by(|a, b| a + 1 == *b).filter_map(one).collect()
}

/// Appends what clients saw at some indexes, as ranges of runs; returns how many.
fn write_ranges(list: &List, gone: std::ops::Range<usize>, editing: &Editing<'_>, out: &mut Vec<u8>) -> u32 {
    let mut count = 0;
    let mut open: Option<(&RunName, At, At)> = None;
    let mut write = |range: Option<(&RunName, At, At)>| {
        if let Some((run, from, to)) = range {
            let run = RunRef::of(run, editing.reign, editing.ts);
            push_range(out, &AtRange { run, from: from.min(to), to: from.max(to) });
            count += 1;
        }
    };
    for index in list.shown_range(gone) {
        let Some((run, at)) = list.id(index) else { break };
        match &mut open {
            Some((known, _, to)) if *known == run => *to = at,
            _ => write(open.replace((run, at, at))),
        }
    }
    write(open);
    count
}
