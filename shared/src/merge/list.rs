//! Lists whose elements the dataset shows: positions become indexes, indexes native changes.

use std::ops::RangeInclusive;

use super::remote::Change;
use super::whole::Scope;
use super::{KeyRef, Merge, OwnedPath, view};
use crate::dot::{Dot, Seen};
use crate::effect::{Effect, Kind, Op, Path, TtlNote, Value};
use crate::keyspace::Keyspace;
use crate::list::{At, AtRange, List, Ranges, Reign, RunName, RunRef, Side, Spot, Values, gather};
use crate::metadata::{Assigned, PathMeta, Paths, Payload};
use crate::timestamp::Timestamp;

/// Who an effect is by, as its positions mean it.
#[derive(Clone, Copy, Debug)]
pub struct Author {
    /// The reign.
    pub reign: Reign,
    /// The group.
    pub now: Timestamp,
}

/// Elements of a run, from one to another in list order.
struct Span {
    run: RunName,
    times: RangeInclusive<At>,
}

impl Span {
    fn new(range: &AtRange<'_>, author: Author) -> Self {
        Self { run: range.run.name(author.reign, author.now), times: range.from..=range.to }
    }

    /// The first and the last in list order.
    fn ends(&self) -> (At, At) {
        match self.run.side() {
            Side::Before => (*self.times.start(), *self.times.end()),
            Side::After => (*self.times.end(), *self.times.start()),
        }
    }

    fn has(&self, name: &[u8]) -> bool {
        RunName::split(name).is_ok_and(|(run, at)| run == self.run && self.times.contains(&at))
    }
}

/// What becomes of the dataset.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Native {
    /// It follows.
    Follows,
    /// It has changed already, also where it should not have: such elements are hidden until the end of the group.
    Changed,
}

impl<K: Keyspace> Merge<'_, K> {
    /// Who the author of a dot is.
    #[must_use]
    pub fn author(&self, dot: &Dot) -> Author {
        let reign = Reign { instance: self.origins.instance(dot.origin), replid: self.origins.replid(dot.origin) };
        Author { reign, now: dot.ts }
    }

    /// The ids of a list; without any, of `len` elements that nobody has ids of (rule L10).
    pub(super) fn list(&mut self, key: KeyRef<'_>, len: impl FnOnce(&mut K) -> usize) -> &mut List {
        let Self { table, keyspace, origins, .. } = self;
        let id = table.entry(key.db, key.name);
        let paths = &mut table.meta_mut(id).kind_or_insert(Kind::List).paths;
        if !matches!(paths, Paths::List(_)) {
            *paths = Paths::List(Box::new(if paths.is_empty() {
                List::base(len(keyspace))
            } else {
                gather(paths, origins)
            }));
        }
        match paths {
            Paths::List(list) => list,
            _ => unreachable!("it was made one"),
        }
    }

    /// The same for a local edit, which saw `len` elements.
    pub fn list_of(&mut self, key: KeyRef<'_>, len: usize) -> &List {
        self.list(key, |_| len)
    }

    /// The same for a list whose dataset is what the ids say.
    pub(super) fn shown_list(&mut self, key: KeyRef<'_>) -> &mut List {
        self.list(key, |keyspace| keyspace.list_len(key.db, key.name))
    }

    /// Nothing is left of a list that is empty.
    fn drop_empty_list(&mut self, key: KeyRef<'_>) {
        let Some(id) = self.table.find(key.db, key.name) else { return };
        let meta = self.table.meta_mut(id);
        match meta.list() {
            Some(list) if !list.is_empty() => return,
            Some(_) => meta.kinds.retain(|kind| kind.kind != Kind::List),
            None => {}
        }
        self.table.remove_if_empty(id);
    }

    /// A local effect on a list, which the dataset shows already. `base`: how many elements it had if nobody had ids of them.
    pub(super) fn local_list(&mut self, effect: &Effect<'_>, dot: Dot, base: usize) {
        let key = KeyRef { db: effect.db, name: effect.key };
        let id = self.table.entry(key.db, key.name);
        self.table.meta_mut(id).kinds.retain(|kind| kind.kind == Kind::List);
        let _ = self.list(key, |_| base);
        let author = self.author(&dot);
        match effect.op {
            Op::ListInsert { run, first, values } => {
                self.insert_ids(
                    key,
                    &run.name(author.reign, author.now),
                    At { ts: dot.ts, index: first },
                    values.len(),
                    dot,
                );
            }
            Op::ListRemove { ranges } => {
                for range in ranges.iter() {
                    self.remove_span(key, &Span::new(&range, author), &Seen::Everything, Native::Changed);
                }
            }
            Op::Assign { path: Path::Element(name), value, reasserted } => {
                // A sibling that comes from elsewhere goes when both are stable, and this may be the later to become so (rule L8).
                self.queue(key, &dot);
                self.assign_id(key, name, value, (dot, reasserted), &Seen::Everything, Native::Changed);
            }
            _ => {}
        }
        self.note_local(key, dot, effect.ttl);
        self.drop_empty_list(key);
    }

    /// I-4, as far as lengths tell; in tests only.
    fn check_length(&mut self, key: KeyRef<'_>) {
        if cfg!(debug_assertions) && self.keyspace.kind(key.db, key.name).is_none_or(|kind| kind == Kind::List) {
            let known = self.table.find(key.db, key.name).and_then(|id| self.table.meta(id).list());
            let native = self.keyspace.list_len(key.db, key.name);
            debug_assert!(known.is_none_or(|list| list.len() == native), "{native} elements, {known:?}");
        }
    }

    /// New ids; the index of the first in list order, or none if some are known or something is between them: an `LSET` or an
    /// `LINSERT` by who had them from a snapshot was here before.
    fn insert_ids(&mut self, key: KeyRef<'_>, run: &RunName, first: At, count: u32, dot: Dot) -> Option<usize> {
        let list = self.shown_list(key);
        let Spot::Before(index) = list.find(run, first) else { return None };
        let last = At { index: first.index.saturating_add(count.saturating_sub(1)), ..first };
        if count > 1 && list.find(run, last) != Spot::Before(index) {
            return None;
        }
        list.insert(index, run, Some(dot.origin), first, count);
        Some(index)
    }

    /// A remote insert.
    pub(super) fn remote_insert(
        &mut self,
        key: KeyRef<'_>,
        (run, first, values): (RunRef<'_>, u32, Values<'_>),
        note: TtlNote,
        dot: Dot,
        seen: &Seen<'_>,
    ) {
        let author = self.author(&dot);
        let run = run.name(author.reign, author.now);
        let native = self.keyspace.kind(key.db, key.name);
        if self.is_mixed(key, native, Kind::List) {
            let changes: Vec<(OwnedPath, Change<'_>, Dot)> = (first..)
                .zip(values.iter())
                .map(|(index, value)| {
                    let path = OwnedPath::new(Path::Element(&run.element(At { ts: dot.ts, index })));
                    (path, Change::Assign { value: Value::Bytes(value), reasserted: false }, Dot { index, ..dot })
                })
                .collect();
            self.rewrite(key, seen, Scope::OtherTypes(Kind::List), &changes, |_| {});
        } else if let Some(index) = self.insert_ids(key, &run, At { ts: dot.ts, index: first }, values.len(), dot) {
            for (behind, value) in values.iter().enumerate() {
                let index = if run.side() == Side::Before { index + behind } else { index };
                self.keyspace.list_insert(key.db, key.name, index, value);
            }
        } else {
            for (index, value) in (first..).zip(values.iter()) {
                let name = run.element(At { ts: dot.ts, index });
                self.assign_item(key, &name, Value::Bytes(value), (Dot { index, ..dot }, false), seen);
            }
        }
        self.check_length(key);
        self.remote_note(key, note, dot, seen, native);
    }

    /// A remote removal.
    pub(super) fn remote_remove(
        &mut self,
        key: KeyRef<'_>,
        ranges: Ranges<'_>,
        note: TtlNote,
        dot: Dot,
        seen: &Seen<'_>,
    ) {
        let author = self.author(&dot);
        let native = self.keyspace.kind(key.db, key.name);
        if self.is_mixed(key, native, Kind::List) {
            let names = self.names_in(key, ranges, author);
            let change = |name: &[u8]| (OwnedPath::new(Path::Element(name)), Change::Remove, dot);
            let changes: Vec<(OwnedPath, Change<'_>, Dot)> = names.iter().map(|name| change(name)).collect();
            self.rewrite(key, seen, Scope::OtherTypes(Kind::List), &changes, |_| {});
        } else if native.is_some() {
            for range in ranges.iter() {
                self.remove_span(key, &Span::new(&range, author), seen, Native::Follows);
            }
            self.drop_empty_list(key);
        }
        self.check_length(key);
        self.remote_note(key, note, dot, seen, native);
    }

    /// The elements known here that a removal names.
    pub(super) fn names_in(&mut self, key: KeyRef<'_>, ranges: Ranges<'_>, author: Author) -> Vec<Box<[u8]>> {
        if self.keyspace.kind(key.db, key.name) == Some(Kind::List) {
            let _ = self.shown_list(key);
        }
        let spans: Vec<Span> = ranges.iter().map(|range| Span::new(&range, author)).collect();
        let is_in = |name: &[u8]| spans.iter().any(|span| span.has(name));
        let kind = self.table.find(key.db, key.name).and_then(|id| self.table.meta(id).kind(Kind::List));
        match kind.map(|kind| &kind.paths) {
            Some(Paths::List(list)) => {
                list.names().filter(|name| is_in(name)).map(|name| Box::from(&name[..])).collect()
            }
            Some(paths) => paths.iter().filter(|(name, _)| is_in(name)).map(|(name, _)| name.into()).collect(),
            None => Vec::new(),
        }
    }

    /// Removes what was seen of a span. What others have put between its elements stays.
    fn remove_span(&mut self, key: KeyRef<'_>, span: &Span, seen: &Seen<'_>, native: Native) {
        let (first, last) = span.ends();
        if first == last {
            return self.remove_one(key, &span.run, first, seen, native);
        }
        let end = span.run.element(last);
        let (Spot::At(mut index) | Spot::Before(mut index)) = self.shown_list(key).find(&span.run, first);
        let mut gone = index..index;
        loop {
            let list = self.shown_list(key);
            let Some((run, at)) = list.id(index) else { break };
            let is_of = *run == span.run;
            let is_past = if is_of { !span.times.contains(&at) } else { run.element(at) > end };
            if is_past {
                break;
            }
            if is_of && !list.survives(index, seen) {
                gone.end += 1;
            } else {
                let cut = gone.len();
                self.remove_indexes(key, gone, native);
                index -= cut;
                if is_of {
                    self.remove_seen_at(key, index, seen, native);
                }
                gone = index + 1..index + 1;
            }
            index += 1;
        }
        self.remove_indexes(key, gone, native);
    }

    /// What a queue does: one element, mostly at an end.
    fn remove_one(&mut self, key: KeyRef<'_>, run: &RunName, at: At, seen: &Seen<'_>, native: Native) {
        let keeps_runs = !self.rules.removed_elements_go;
        let list = self.shown_list(key);
        let Spot::At(index) = list.find(run, at) else { return };
        if list.survives(index, seen) {
            return self.remove_seen_at(key, index, seen, native);
        }
        if keeps_runs {
            list.keep_runs(index..index + 1);
        }
        list.remove(index..index + 1);
        if native == Native::Follows {
            self.keyspace.list_remove(key.db, key.name, index, 1);
        }
    }

    fn remove_indexes(&mut self, key: KeyRef<'_>, gone: std::ops::Range<usize>, native: Native) {
        if gone.is_empty() {
            return;
        }
        if native == Native::Follows {
            self.keyspace.list_remove(key.db, key.name, gone.start, gone.len());
        }
        let keeps_runs = !self.rules.removed_elements_go;
        let list = self.shown_list(key);
        if keeps_runs {
            list.keep_runs(gone.clone());
        }
        list.remove(gone);
    }

    /// Of an element something survives that the author of a removal had not seen.
    fn remove_seen_at(&mut self, key: KeyRef<'_>, index: usize, seen: &Seen<'_>, native: Native) {
        let mut meta = self.shown_list(key).meta(index);
        if native == Native::Follows {
            self.count_conflict(&meta, seen);
            self.explain_at(key, index, &mut meta);
            meta.remove_seen(seen);
            self.show_at(key, index, meta);
        } else {
            meta.remove_seen(seen);
            let list = self.shown_list(key);
            list.set_meta(index, meta);
            list.hide(index);
        }
    }

    fn explain_at(&mut self, key: KeyRef<'_>, index: usize, meta: &mut PathMeta) {
        if let Some(native) = self.keyspace.list_get(key.db, key.name, index) {
            Self::expose_as(meta, Payload::Bytes(native.into()), self.origins);
        }
    }

    /// Writes the view of an element that the dataset has, and keeps what is known of it.
    fn show_at(&mut self, key: KeyRef<'_>, index: usize, mut meta: PathMeta) {
        if let Some(shown) = view::view(&meta, Kind::List, self.origins)
            && let Some(value) = shown.text()
            && self.keyspace.list_get(key.db, key.name, index).as_deref() != Some(value)
        {
            self.keyspace.list_set(key.db, key.name, index, value);
        }
        self.imply(&mut meta);
        self.shown_list(key).set_meta(index, meta);
    }

    /// A remote assign of an element, whose position it carries: so it comes back at its old place if someone has removed it (L6).
    pub(super) fn assign_item(
        &mut self,
        key: KeyRef<'_>,
        name: &[u8],
        value: Value<'_>,
        assigned: (Dot, bool),
        seen: &Seen<'_>,
    ) {
        self.queue(key, &assigned.0);
        self.assign_id(key, name, value, assigned, seen, Native::Follows);
        self.check_length(key);
    }

    fn assign_id(
        &mut self,
        key: KeyRef<'_>,
        name: &[u8],
        value: Value<'_>,
        (dot, reasserted): (Dot, bool),
        seen: &Seen<'_>,
        native: Native,
    ) {
        // Checked when it was decoded.
        let (Ok((run, at)), Value::Bytes(bytes)) = (RunName::split(name), value) else { return };
        let mut shown = PathMeta::shown(dot);
        shown.assigns.iter_mut().for_each(|a| a.reasserted = reasserted);
        let index = match self.shown_list(key).find(&run, at) {
            Spot::At(index) => index,
            Spot::Before(_) if !self.rules.lset_brings_back && native == Native::Follows => return,
            Spot::Before(index) => {
                let origins = self.origins;
                self.shown_list(key).insert_with(index, &run, at, shown, origins);
                if native == Native::Follows {
                    self.keyspace.list_insert(key.db, key.name, index, bytes);
                }
                return;
            }
        };
        let mut meta = self.shown_list(key).meta(index);
        if !meta.survives(seen) {
            if native == Native::Follows {
                self.keyspace.list_set(key.db, key.name, index, bytes);
            }
            return self.shown_list(key).set_meta(index, shown);
        }
        let added = Assigned { dot, reasserted, payload: Some(Payload::Bytes(bytes.into())) };
        if native == Native::Follows {
            self.count_conflict(&meta, seen);
            self.explain_at(key, index, &mut meta);
            meta.remove_seen(seen);
            meta.assigns.push(added);
            self.show_at(key, index, meta);
        } else {
            meta.remove_seen(seen);
            meta.assigns.push(added);
            self.shown_list(key).set_meta(index, meta);
        }
    }

    /// A local effect on a list with elements that this instance has not seen, while a full sync goes on.
    pub(super) fn local_list_among_unseen(&mut self, effect: &Effect<'_>, dot: Dot, seen: &Seen<'_>, base: usize) {
        let key = KeyRef { db: effect.db, name: effect.key };
        let _ = self.list(key, |_| base);
        let author = self.author(&dot);
        match effect.op {
            Op::ListInsert { run, first, values } => {
                self.insert_ids(
                    key,
                    &run.name(author.reign, author.now),
                    At { ts: dot.ts, index: first },
                    values.len(),
                    dot,
                );
            }
            Op::ListRemove { ranges } => {
                for range in ranges.iter() {
                    self.remove_span(key, &Span::new(&range, author), seen, Native::Changed);
                }
            }
            Op::Assign { path: Path::Element(name), value, reasserted } => {
                self.assign_id(key, name, value, (dot, reasserted), seen, Native::Changed);
            }
            _ => {}
        }
        self.drop_empty_list(key);
    }

    /// The dataset gets back what a group of local writes took out without having seen it, and shows what they could not replace.
    pub(super) fn show_hidden(&mut self, key: KeyRef<'_>) {
        for index in self.shown_list(key).hidden() {
            let meta = self.shown_list(key).meta(index);
            if let Some(Payload::Bytes(value)) = view::view(&meta, Kind::List, self.origins) {
                self.keyspace.list_insert(key.db, key.name, index, &value);
            }
        }
        let list = self.shown_list(key);
        list.show_hidden();
        if list.is_odd() {
            for index in 0..self.shown_list(key).len() {
                let meta = self.shown_list(key).meta(index);
                if meta.payload(meta.top(self.origins)).is_some() {
                    self.show_at(key, index, meta);
                }
            }
        }
    }
}
