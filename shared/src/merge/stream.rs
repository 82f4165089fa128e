//! Streams: changes of many parts at once, and entries that arrive below the position of a group (DESIGN 2.3).
//!
//! What a group has been delivered is known by delivery; its position says only that everything up to there was delivered, skipped
//! on purpose, or is *late* ([`Value::Late`]): still to be handed out. So no entry is skipped because it came late.

use smallvec::SmallVec;

use super::remote::Change;
use super::whole::{Scope, drop_stray_late};
use super::{KeyRef, Meeting, Merge, OwnedPath, view};
use crate::dot::{Dot, Seen};
use crate::effect::{Kind, Op, Path, StreamOp, TtlNote, Value};
use crate::keyspace::Keyspace;
use crate::metadata::{Assigned, KeyMeta, PathMeta, Payload};
use crate::origin::Origins;
use crate::stream::{self, LAST_NAME, Part, PartName, StreamId, entry_id, entry_name};

/// The last generated id of a stream.
pub(super) const LAST: Path<'static> = Path::Stream(LAST_NAME);

/// Whether the path is an entry of a stream: who assigns one assigns the last id, too.
pub(super) fn is_entry(path: Path<'_>) -> bool {
    matches!(path, Path::Stream(name) if entry_id(name).is_some())
}

pub(super) fn is_delivery(name: &[u8]) -> bool {
    matches!(Part::parse(name), Some(Part::Delivery { .. }))
}

/// The parts that an effect removes, of those that are known.
fn removed(meta: &KeyMeta, op: StreamOp<'_>) -> Vec<Box<[u8]>> {
    let Some(kind) = meta.kind(Kind::Stream) else { return Vec::new() };
    match op {
        StreamOp::Trim { below } => kind.paths.range(&entry_name(StreamId::MIN), &entry_name(below)),
        StreamOp::Ungroup { group } => {
            let mut names: Vec<Box<[u8]>> = stream::group_prefixes(group)
                .iter()
                .flat_map(|prefix| kind.paths.with_prefix(prefix))
                .filter(|name| is_of(name, group))
                .collect();
            names.push(Part::Group(group).name().as_slice().into());
            names
        }
        StreamOp::Deliver { .. } => Vec::new(),
    }
}

/// Whether it is a delivery that the dataset does not hold.
fn is_left_out(meta: &PathMeta, origins: &Origins) -> bool {
    matches!(meta.payload(meta.top(origins)), Some(Payload::Owner(_)))
}

fn is_of(name: &[u8], group: &[u8]) -> bool {
    Part::parse(name).and_then(|part| part.group()) == Some(group)
}

/// Whether an effect removes the entry of a delivery: a dataset keeps none without its entry, so they are asserted again together.
pub(super) fn removes_entry_of(op: Op<'_>, part: Path<'_>) -> bool {
    let Path::Stream(name) = part else { return false };
    let Some(Part::Delivery { id, .. }) = Part::parse(name) else { return false };
    match op {
        Op::Remove { path: Path::Stream(removed) } => entry_id(removed) == Some(id),
        Op::Stream(StreamOp::Trim { below }) => id < below,
        _ => false,
    }
}

/// Whether an effect removes or assigns a part.
pub(super) fn touches(op: StreamOp<'_>, name: &[u8]) -> bool {
    match (op, Part::parse(name)) {
        (StreamOp::Trim { below }, Some(Part::Entry(id))) => id < below,
        (StreamOp::Ungroup { group }, Some(part)) => part.group() == Some(group),
        (StreamOp::Deliver { group, .. }, Some(Part::Group(known))) => known == group,
        (StreamOp::Deliver { group, ids, .. }, Some(Part::Delivery { group: known, id })) => {
            known == group && ids.iter().any(|delivered| delivered == id)
        }
        _ => false,
    }
}

/// What a read makes of each entry.
fn delivered<'a>(consumer: Option<&'a [u8]>) -> Value<'a> {
    consumer.map_or(Value::Acked, Value::Owner)
}

/// Adds what a read assigns, for an author who has seen everything here, or whose seen dots are gone already.
pub(super) fn deliver(meta: &mut KeyMeta, op: StreamOp<'_>, mut assign: impl FnMut(&mut PathMeta, Value<'_>)) {
    let StreamOp::Deliver { group, consumer, position, ids } = op else { return };
    let paths = &mut meta.kind_or_insert(Kind::Stream).paths;
    assign(paths.get_or_insert(Path::Stream(&Part::Group(group).name())), Value::Id(position));
    for id in ids.iter() {
        let name = Part::Delivery { group, id }.name();
        assign(paths.get_or_insert(Path::Stream(&name)), delivered(consumer));
    }
}

/// Removes what the author had seen of the parts that `op` removes.
pub(super) fn remove_seen(meta: &mut KeyMeta, op: StreamOp<'_>, seen: &Seen<'_>) {
    for name in removed(meta, op) {
        if let Some(kind) = meta.kind_mut(Kind::Stream)
            && let Some(mut path) = kind.paths.remove(Path::Stream(&name))
        {
            if !path.is_late() {
                path.remove_seen(seen);
            }
            if !path.is_empty() {
                *kind.paths.get_or_insert(Path::Stream(&name)) = path;
            }
        }
    }
}

impl<K: Keyspace> Merge<'_, K> {
    /// A local change of many parts: the dataset has it already.
    pub(super) fn local_stream(&mut self, key: KeyRef<'_>, op: StreamOp<'_>, dot: Dot, note: TtlNote) {
        if matches!(op, StreamOp::Deliver { .. }) {
            let id = self.table.entry(key.db, key.name);
            self.table.queue(id, &dot);
            let meta = self.table.meta_mut(id);
            meta.kinds.retain(|k| k.kind == Kind::Stream);
            deliver(meta, op, |path, value| {
                *path = PathMeta::shown(dot);
                // The dataset does not show it.
                let acked = (value == Value::Acked).then_some(Payload::Acked);
                path.assigns.iter_mut().for_each(|a| a.payload.clone_from(&acked));
            });
            self.local_note(key, dot, note);
            return;
        }
        if let Some(id) = self.table.find(key.db, key.name) {
            let meta = self.table.meta_mut(id);
            meta.kinds.retain(|k| k.kind == Kind::Stream);
            remove_seen(meta, op, &Seen::Everything);
            meta.drop_empty_kinds();
        }
        self.local_note(key, dot, note);
        if let Some(id) = self.table.find(key.db, key.name) {
            self.table.remove_if_empty(id);
        }
    }

    /// A remote change of many parts.
    pub(super) fn remote_stream(
        &mut self,
        key: KeyRef<'_>,
        op: StreamOp<'_>,
        note: TtlNote,
        dot: Dot,
        seen: &Seen<'_>,
    ) {
        let native = self.keyspace.kind(key.db, key.name);
        let before = match op {
            StreamOp::Deliver { group, .. } => self.position(key, group),
            _ => None,
        };
        if self.is_mixed(key, native, Kind::Stream) {
            self.rewrite_stream(key, op, dot, seen);
        } else {
            match op {
                StreamOp::Trim { below } => self.remote_trim(key, below, seen),
                StreamOp::Ungroup { group } => self.remote_ungroup(key, group, seen),
                StreamOp::Deliver { .. } => self.remote_delivery(key, op, dot, seen),
            }
        }
        if let StreamOp::Deliver { group, position, .. } = op {
            self.show_group(key, group, before);
            self.late_after_move(key, group, before, position, seen);
        }
        self.remote_note(key, note, dot, seen, native);
    }

    /// The general way, while other types live beside the stream.
    fn rewrite_stream(&mut self, key: KeyRef<'_>, op: StreamOp<'_>, dot: Dot, seen: &Seen<'_>) {
        let types_conflict = self.rules.types_conflict;
        let mut meta = self.take_exposed(key, |_, _| true);
        for kind in meta.kinds.iter_mut().filter(|kind| types_conflict && kind.kind != Kind::Stream) {
            kind.paths.retain(|_, path| {
                path.remove_seen(seen);
                !path.is_empty()
            });
        }
        remove_seen(&mut meta, op, seen);
        meta.kind_mut(Kind::Stream).into_iter().for_each(drop_stray_late);
        deliver(&mut meta, op, |path, value| {
            path.remove_seen(seen);
            path.assigns.push(Assigned { dot, reasserted: false, payload: Some(Payload::from_value(value)) });
        });
        self.queue(key, &dot);
        meta.drop_empty();
        self.restore(key, meta);
    }

    /// Whether clients see the key as a stream.
    fn shows_stream(&mut self, key: KeyRef<'_>) -> bool {
        self.keyspace.kind(key.db, key.name) == Some(Kind::Stream)
    }

    /// Removes from parts that the dataset does not show.
    fn remove_parked(&mut self, key: KeyRef<'_>, op: StreamOp<'_>, seen: &Seen<'_>) {
        let Some(id) = self.table.find(key.db, key.name) else { return };
        let meta = self.table.meta_mut(id);
        remove_seen(meta, op, seen);
        meta.drop_empty_kinds();
        self.table.remove_if_empty(id);
    }

    fn remote_trim(&mut self, key: KeyRef<'_>, below: StreamId, seen: &Seen<'_>) {
        let seen = if self.rules.trims_spare_unseen { seen } else { &Seen::Everything };
        if !self.shows_stream(key) {
            return self.remove_parked(key, StreamOp::Trim { below }, seen);
        }
        let Some(last) = below.previous() else { return };
        let mut ids = Vec::new();
        self.keyspace.stream_entries(key.db, key.name, StreamId::MIN, last, &mut |id| ids.push(id));
        for id in ids {
            self.remove_element(key, Path::Stream(&entry_name(id)), seen);
        }
    }

    fn remote_ungroup(&mut self, key: KeyRef<'_>, group: &[u8], seen: &Seen<'_>) {
        let op = StreamOp::Ungroup { group };
        let meta = self.table.find(key.db, key.name).map(|id| self.table.meta(id));
        let survives = |meta: &KeyMeta| {
            removed(meta, op).iter().any(|name| meta.path(Path::Stream(name)).is_some_and(|path| path.survives(seen)))
        };
        let any_survives = meta.is_some_and(survives) || !seen.has_stable();
        if !self.shows_stream(key) {
            return self.remove_parked(key, op, seen);
        }
        if !any_survives {
            // The usual way: all of it at once.
            self.remove_parked(key, op, seen);
            self.keyspace.take_group(key.db, key.name, group);
            return;
        }
        let mut late: Vec<Box<[u8]>> = Vec::new();
        // What is not shown, too: deliveries that were acknowledged.
        let mut parts =
            self.table.find(key.db, key.name).map(|id| removed(self.table.meta(id), op)).unwrap_or_default();
        self.keyspace.elements(key.db, key.name, &mut |path, value| match path {
            Path::Stream(name) if is_of(name, group) && value == Value::Late => late.push(name.into()),
            Path::Stream(name) if is_of(name, group) => parts.push(name.into()),
            _ => {}
        });
        parts.sort_unstable();
        parts.dedup();
        let stay = |name: Box<[u8]>| {
            let mut meta = self.take_path(key, Path::Stream(&name));
            self.count_conflict(&meta, seen);
            self.expose(key, Path::Stream(&name), &mut meta);
            meta.remove_seen(seen);
            (name, meta)
        };
        let parts: Vec<(Box<[u8]>, PathMeta)> = parts.into_iter().map(stay).collect();
        if seen.has_stable() {
            // All of it: nobody names a delivery whose entry is gone, and that may have no metadata.
            self.keyspace.take_group(key.db, key.name, group);
        }
        // The group comes before its deliveries. While any is out, the key keeps its place in the table: their dots wait there for pruning.
        for (name, meta) in parts {
            if meta.is_empty() {
                self.keyspace.take(key.db, key.name, Path::Stream(&name));
            } else {
                self.show(key, Path::Stream(&name), meta);
            }
        }
        self.return_path(key, LAST, PathMeta::default());
        if self.position(key, group).is_some() {
            late.iter().for_each(|name| self.keep_late(key, Path::Stream(name)));
        }
    }

    fn remote_delivery(&mut self, key: KeyRef<'_>, op: StreamOp<'_>, dot: Dot, seen: &Seen<'_>) {
        let StreamOp::Deliver { group, consumer, position, ids } = op else { return };
        let name = Part::Group(group).name();
        let assign = |value| Change::Assign { value, reasserted: false };
        self.remote_change(key, Path::Stream(&name), assign(Value::Id(position)), TtlNote::None, dot, seen);
        for id in ids.iter() {
            let name = Part::Delivery { group, id }.name();
            self.remote_change(key, Path::Stream(&name), assign(delivered(consumer)), TtlNote::None, dot, seen);
        }
    }

    /// A part of a stream is assigned elsewhere.
    pub(super) fn remote_part(
        &mut self,
        key: KeyRef<'_>,
        name: &[u8],
        change: Change<'_>,
        note: TtlNote,
        dot: Dot,
        seen: &Seen<'_>,
    ) {
        let Change::Assign { value, reasserted } = change else {
            return self.remote_change(key, Path::Stream(name), change, note, dot, seen);
        };
        match (Part::parse(name), value) {
            (Some(Part::Entry(id)), _) => {
                let last = Change::Assign { value: Value::Id(id), reasserted };
                let native = self.keyspace.kind(key.db, key.name);
                if self.is_mixed(key, native, Kind::Stream) || self.makes_last(key, seen) {
                    // Both at once: no stream has an entry above its last id.
                    let changes = [(Path::Stream(name), change), (LAST, last)]
                        .map(|(path, change)| (OwnedPath::new(path), change, dot));
                    self.rewrite(key, seen, Scope::OtherTypes(Kind::Stream), &changes, |_| {});
                    return self.remote_note(key, note, dot, seen, native);
                }
                self.expose_last(key, seen);
                self.remote_change(key, Path::Stream(name), change, note, dot, seen);
                self.remote_change(key, LAST, last, TtlNote::None, dot, seen);
                self.show_deliveries(key, id);
            }
            (Some(Part::Group(group)), Value::Id(position)) => {
                let before = self.position(key, group);
                self.remote_change(key, Path::Stream(name), change, note, dot, seen);
                self.show_group(key, group, before);
                self.late_after_move(key, group, before, position, seen);
            }
            _ => self.remote_change(key, Path::Stream(name), change, note, dot, seen),
        }
    }

    /// An entry is there again: the dataset can hold what groups were delivered of it, which it had left out.
    pub(super) fn show_deliveries(&mut self, key: KeyRef<'_>, id: StreamId) {
        let kind = self.table.find(key.db, key.name).and_then(|at| self.table.meta(at).kind(Kind::Stream));
        let Some(paths) = kind.map(|kind| &kind.paths) else { return };
        let is_left_out = |meta: &PathMeta| is_left_out(meta, self.origins);
        let mut left_out: SmallVec<[PartName; 1]> = SmallVec::new();
        let mut from = PartName::from_slice(stream::DELIVERIES_PREFIX);
        // By group, of which the metadata may know nothing else.
        while let Some(Part::Delivery { group, .. }) = paths.first_from(&from).and_then(Part::parse) {
            let name = Part::Delivery { group, id }.name();
            from = stream::behind_deliveries(group);
            if paths.get(Path::Stream(&name)).is_some_and(is_left_out) {
                left_out.push(name);
            }
        }
        if self.shows_stream(key) {
            for name in left_out {
                let meta = self.take_path(key, Path::Stream(&name));
                self.show(key, Path::Stream(&name), meta);
            }
        }
    }

    /// The same of a group that is there again, if it was not `before`: no server holds deliveries without their group.
    fn show_group(&mut self, key: KeyRef<'_>, group: &[u8], before: Option<StreamId>) {
        let kind = self.table.find(key.db, key.name).and_then(|at| self.table.meta(at).kind(Kind::Stream));
        let Some(paths) = kind.map(|kind| &kind.paths).filter(|_| before.is_none()) else { return };
        let names = stream::group_prefixes(group).into_iter().flat_map(|prefix| paths.with_prefix(&prefix));
        let is_left_out =
            |name: &[u8]| paths.get(Path::Stream(name)).is_some_and(|meta| is_left_out(meta, self.origins));
        let left_out: Vec<Box<[u8]>> = names.filter(|name| is_of(name, group) && is_left_out(name)).collect();
        if self.shows_stream(key) {
            for name in left_out {
                let meta = self.take_path(key, Path::Stream(&name));
                self.show(key, Path::Stream(&name), meta);
            }
        }
    }

    /// Whether an entry by who has not seen what is stable here makes the dataset's last id: that must not be taken for an older one without a dot.
    fn makes_last(&mut self, key: KeyRef<'_>, seen: &Seen<'_>) -> bool {
        !seen.has_stable() && self.keyspace.stream_part(key.db, key.name, Part::Last).is_none()
    }

    /// Before an entry raises the last id of the dataset: what survives there must be explicit.
    fn expose_last(&mut self, key: KeyRef<'_>, seen: &Seen<'_>) {
        let known = self.table.find(key.db, key.name).and_then(|id| self.table.meta(id).path(LAST));
        if known.map_or(!seen.has_stable(), |meta| meta.survives(seen)) && self.shows_stream(key) {
            let mut meta = self.take_path(key, LAST);
            self.expose(key, LAST, &mut meta);
            self.return_path(key, LAST, meta);
        }
    }

    /// The position of a group in the dataset.
    pub(super) fn position(&mut self, key: KeyRef<'_>, group: &[u8]) -> Option<StreamId> {
        if !self.shows_stream(key) {
            return None;
        }
        match self.keyspace.stream_part(key.db, key.name, Part::Group(group)) {
            Some(Payload::Id(position)) => Some(position),
            _ => None,
        }
    }

    /// The group was moved on elsewhere, by a read or by hand: that has delivered, or skips on purpose, what was there, but nothing that its
    /// author had not seen.
    fn late_after_move(
        &mut self,
        key: KeyRef<'_>,
        group: &[u8],
        before: Option<StreamId>,
        position: StreamId,
        seen: &Seen<'_>,
    ) {
        if !self.rules.late_entries {
            return;
        }
        let (Some(from), Some(to)) = (before.unwrap_or(StreamId::MIN).next(), position.next()) else { return };
        if from > position || !self.shows_stream(key) {
            return;
        }
        let mut ids = Vec::new();
        if !seen.has_stable() {
            self.keyspace.stream_entries(key.db, key.name, from, position, &mut |id| ids.push(id));
        }
        let meta = self.table.find(key.db, key.name).map(|id| self.table.meta(id));
        let paths = meta.and_then(|meta| meta.kind(Kind::Stream)).map(|kind| &kind.paths);
        if seen.has_stable() {
            let names = paths.map(|paths| paths.range(&entry_name(from), &entry_name(to))).unwrap_or_default();
            ids = names.iter().filter_map(|name| entry_id(name)).collect();
        }
        ids.retain(|id| {
            let entry =
                paths.and_then(|paths| paths.get(Path::Stream(&entry_name(*id)))).filter(|meta| meta.has_dots());
            entry.map_or(!seen.has_stable(), |entry| entry.dots().any(|dot| seen.is_news(dot)))
        });
        ids.into_iter().for_each(|id| self.note_late(key, group, id));
    }

    /// Positions have come with the state of another instance: what it had not seen was not delivered there.
    pub(super) fn late_after_meeting(&mut self, key: KeyRef<'_>, before: &KeyMeta, meeting: &Meeting<'_>) {
        if !self.shows_stream(key) {
            return;
        }
        let seen = Seen::of(meeting.source.clock, meeting.target.stable);
        let mut groups: Vec<(PartName, StreamId)> = Vec::new();
        self.keyspace.elements(key.db, key.name, &mut |path, value| {
            if let (Path::Stream(name), Value::Id(position)) = (path, value)
                && let Some(Part::Group(_)) = Part::parse(name)
            {
                groups.push((PartName::from_slice(name), position));
            }
        });
        for (name, position) in groups {
            let was = before.path(Path::Stream(&name)).and_then(|meta| view::view(meta, Kind::Stream, self.origins));
            let was = if let Some(Payload::Id(was)) = was { Some(was) } else { None };
            if let Some(Part::Group(group)) = Part::parse(&name) {
                self.late_after_move(key, group, was, position, &seen);
            }
        }
    }

    /// A group is there that was `seen` elsewhere, and nothing tells any more what is late for it.
    pub(crate) fn keep_late_of_group(&mut self, key: KeyRef<'_>, group: &[u8], seen: &Seen<'_>) {
        if let Some(position) = self.position(key, group) {
            self.late_after_move(key, group, None, position, seen);
        }
    }

    /// Whether it is a delivery that has yet to be: that is nobody's, so nobody removes it.
    pub(super) fn is_late(&mut self, key: KeyRef<'_>, path: Path<'_>) -> bool {
        matches!(path, Path::Stream(name) if is_delivery(name)) && self.native(key, path) == Some(Payload::Late)
    }

    /// The entry is still to be handed out, unless it is known to have been. What everyone knows may be pruned, so it does not count (I-12).
    fn note_late(&mut self, key: KeyRef<'_>, group: &[u8], id: StreamId) {
        let name = Part::Delivery { group, id }.name();
        let path = Path::Stream(&name);
        let delivery = self.table.find(key.db, key.name).and_then(|at| self.table.meta(at).path(path));
        let known = delivery.is_some_and(|meta| meta.dots().any(|dot| !dot.is_in(self.stable)));
        if !known {
            self.keep_late(key, path);
        }
    }

    fn keep_late(&mut self, key: KeyRef<'_>, path: Path<'_>) {
        if self.native(key, path).is_none() {
            self.put(key, path, &Payload::Late);
        }
    }
}
