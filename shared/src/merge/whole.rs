//! The general way: a key whose type may change, or that loses some of what it has. Rare, so it favours being
//! plainly right: everything is made explicit, changed in memory, and written again.

use super::remote::Change;
use super::stream::is_delivery;
use super::{KeyRef, Merge, OwnedPath, view};
use crate::clock::VectorClock;
use crate::dot::{Dot, Seen};
use crate::effect::{ClearReason, Kind, Path, Value};
use crate::keyspace::Keyspace;
use crate::metadata::{KeyMeta, KindMeta, PathMeta, Paths, Payload, TtlMeta, path_of};
use crate::origin::Origins;
use crate::stream::{Part, StreamId, entry_id};

/// What an effect replaces besides its own path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    /// Everything that was seen of the key: `SET`, `DEL`.
    Key,
    /// What was seen of other types than this one (MERGE_CASES A4).
    OtherTypes(Kind),
}

impl<K: Keyspace> Merge<'_, K> {
    /// Removes what the author had seen in `scope`, then applies `changes`, for all types of the key at once.
    pub(super) fn rewrite(
        &mut self,
        key: KeyRef<'_>,
        seen: &Seen<'_>,
        scope: Scope,
        changes: &[(OwnedPath, Change<'_>, Dot)],
        change_ttl: impl FnOnce(&mut TtlMeta),
    ) {
        let whole_key = scope == Scope::Key;
        let types_conflict = self.rules.types_conflict;
        let mut meta = self.take_exposed(key, |path, meta| {
            let own_kind = scope == Scope::OtherTypes(path.kind());
            let stays = !whole_key && (own_kind || !types_conflict);
            stays || meta.survives(seen) || (meta.is_empty() && !seen.has_stable())
        });
        for kind in &mut meta.kinds {
            let own_kind = scope == Scope::OtherTypes(kind.kind);
            let dominated = whole_key || (!own_kind && types_conflict);
            if dominated {
                remove_seen(kind, seen);
            }
        }
        for (path, change, dot) in changes {
            let path = path.get();
            let kind = meta.kind_or_insert(path.kind());
            if let Path::Stream(name) = path
                && let Some(id) = entry_id(name)
                && kind.paths.get(path).is_none()
            {
                late_for_groups(kind, id, self.stable, self.origins);
            }
            Self::change_exposed(kind.paths.get_or_insert(path), *change, *dot, seen, self.origins);
            self.queue(key, dot);
        }
        change_ttl(&mut meta.ttl);
        meta.drop_empty();
        self.restore(key, meta);
    }

    /// Takes what is known of a key, with all payloads explicit, of the elements that `wanted` says; the dataset's
    /// copy goes.
    pub(super) fn take_exposed(&mut self, key: KeyRef<'_>, wanted: impl FnMut(Path<'_>, &PathMeta) -> bool) -> KeyMeta {
        let mut meta = match self.table.find(key.db, key.name) {
            Some(id) => std::mem::take(self.table.meta_mut(id)),
            None => KeyMeta::default(),
        };
        self.expose_key(key, &mut meta, wanted);
        self.keyspace.delete(key.db, key.name, ClearReason::Deleted);
        meta
    }

    /// Makes everything of a key explicit: also elements that the dataset has without metadata, and its TTL.
    pub(super) fn expose_key(
        &mut self,
        key: KeyRef<'_>,
        meta: &mut KeyMeta,
        mut wanted: impl FnMut(Path<'_>, &PathMeta) -> bool,
    ) {
        let Some(native) = self.keyspace.kind(key.db, key.name) else { return };
        if meta.ttl.is_empty() {
            meta.ttl.base = self.keyspace.expire_at(key.db, key.name);
        }
        if native == Kind::List {
            return self.expose_list(key, &mut meta.kinds, wanted);
        }
        let mut shown: Vec<(OwnedPath, Payload)> = Vec::new();
        let known = meta.kind(native);
        self.keyspace.elements(key.db, key.name, &mut |path, value| {
            let nothing = PathMeta::default();
            if value == Value::Late || wanted(path, known.and_then(|k| k.paths.get(path)).unwrap_or(&nothing)) {
                shown.push((OwnedPath::new(path), Payload::from_value(value)));
            }
        });
        let kind = meta.kind_or_insert(native);
        for (path, payload) in shown {
            let path_meta = kind.paths.get_or_insert(path.get());
            if payload == Payload::Late && path_meta.is_acknowledged_by_all(self.stable) {
                // Late since then. What is kept of the acknowledgement may be pruned, so it does not hide that (I-12).
                *path_meta = PathMeta::default();
            }
            Self::expose_as(path_meta, payload, self.origins);
        }
        if native == Kind::Stream {
            self.expose_lone_deliveries(key, &mut kind.paths);
        }
    }

    /// Deliveries whose entry is deleted are no elements of the stream, but the dataset still says whose they are, and is all that does.
    fn expose_lone_deliveries(&mut self, key: KeyRef<'_>, paths: &mut Paths) {
        let origins = self.origins;
        let is_implied = |meta: &PathMeta| meta.has_dots() && meta.payload(meta.top(origins)).is_none();
        let implied = paths.iter().filter(|(name, meta)| is_implied(meta) && is_delivery(name));
        let implied: Vec<Box<[u8]>> = implied.map(|(name, _)| name.into()).collect();
        for name in implied {
            let path = Path::Stream(&name);
            if let Some(native) = self.native(key, path).filter(|native| *native != Payload::Late) {
                Self::expose_as(paths.get_or_insert(path), native, origins);
            }
        }
    }

    /// Like `expose`, with the dataset's value at hand.
    pub(super) fn expose_as(meta: &mut PathMeta, native: Payload, origins: &Origins) {
        if meta.is_empty() {
            *meta = PathMeta::stable(Some(native));
            return;
        }
        let top = meta.top(origins);
        if meta.payload(top).is_some() {
            return;
        }
        let own = super::unfolded(native, meta);
        if let Some(slot) = meta.payload_mut(top) {
            *slot = Some(own);
        }
    }

    /// Writes a key that the dataset does not have from its explicit metadata, and keeps the latter.
    pub(super) fn restore(&mut self, key: KeyRef<'_>, mut meta: KeyMeta) {
        self.queue_list(key, &meta);
        if let Some(at) = self.winner(&meta) {
            let kind = &mut meta.kinds[at];
            let mut paths = std::mem::replace(&mut kind.paths, Paths::new(kind.kind));
            let shown_kind = kind.kind;
            if shown_kind == Kind::List {
                paths = self.restore_list(key, paths);
            }
            paths.retain(|element, path_meta| {
                self.show_element(key, path_of(shown_kind, element), path_meta);
                !path_meta.is_dataset_only()
            });
            meta.kinds[at].paths = paths;
            meta.drop_empty();
            if !meta.ttl.is_empty() {
                self.keyspace.set_expire_at(key.db, key.name, meta.ttl.view());
            }
        }
        if meta.ttl.dots.is_empty() && !meta.keeps_unknown() {
            meta.ttl = TtlMeta::default();
        }
        if meta.is_empty() {
            self.forget(key);
        } else {
            let id = self.table.entry(key.db, key.name);
            *self.table.meta_mut(id) = meta;
        }
    }

    /// Writes a key anew, all of it, for the dataset may hold what it could not.
    pub fn show_again(&mut self, key: KeyRef<'_>) {
        let meta = self.take_exposed(key, |_, _| true);
        self.restore(key, meta);
    }

    fn show_element(&mut self, key: KeyRef<'_>, path: Path<'_>, meta: &mut PathMeta) {
        if let Some(shown) = view::view(meta, path.kind(), self.origins) {
            self.put_view(key, path, &shown, meta);
        }
    }

    /// See [`winner`].
    pub(super) fn winner(&self, meta: &KeyMeta) -> Option<usize> {
        winner(meta, self.origins)
    }
}

/// The type of the key, by its place among those that live: that of its highest live dot; one without dots ranks last. Deliveries and consumers do
/// not count: alone they are no stream, and would hide what another type has.
pub(crate) fn winner(meta: &KeyMeta, origins: &Origins) -> Option<usize> {
    if meta.kinds.len() == 1 {
        return Some(0);
    }
    let rank = |a: (bool, Dot), b: (bool, Dot)| b.0.cmp(&a.0).then_with(|| a.1.effect_order(&b.1, origins));
    let best = |kind: &KindMeta| match &kind.paths {
        Paths::List(list) => {
            let dots = (0..list.len()).flat_map(|index| ranked(&list.meta(index)).collect::<Vec<_>>());
            dots.max_by(|a, b| rank(*a, *b))
        }
        paths => {
            let counted = paths.iter().filter(|(name, _)| makes_type(kind.kind, name));
            counted.flat_map(|(_, path)| ranked(path)).max_by(|a, b| rank(*a, *b))
        }
    };
    let is_one =
        |kind: &KindMeta| kind.kind != Kind::Stream || kind.paths.iter().any(|(name, _)| makes_type(kind.kind, name));
    let with_best = meta.kinds.iter().enumerate().map(|(i, kind)| (i, best(kind), (is_one(kind), kind.kind)));
    type Best = (usize, Option<(bool, Dot)>, (bool, Kind));
    let order = |a: &Best, b: &Best| match (a.1, b.1) {
        (Some(x), Some(y)) => rank(x, y),
        (x, y) => x.is_some().cmp(&y.is_some()).then(a.2.cmp(&b.2)),
    };
    with_best.max_by(order).map(|(i, ..)| i)
}

/// Removes what was seen of a type that is exposed. What is late stays as long as its entry and its group do.
pub(super) fn remove_seen(kind: &mut KindMeta, seen: &Seen<'_>) {
    kind.paths.retain(|_, path| {
        if !path.is_late() {
            path.remove_seen(seen);
        }
        !path.is_empty()
    });
    drop_stray_late(kind);
}

/// Whether a key of which this is known is there.
pub(crate) fn is_there(meta: &KeyMeta) -> bool {
    let has = |kind: &KindMeta| match &kind.paths {
        Paths::List(list) => list.shown_len() > 0,
        paths => paths.iter().any(|(name, _)| makes_type(kind.kind, name)),
    };
    meta.kinds.iter().any(has)
}

/// Whether an element alone makes the key one of its type.
fn makes_type(kind: Kind, name: &[u8]) -> bool {
    kind != Kind::Stream || !matches!(Part::parse(name), Some(Part::Delivery { .. } | Part::Consumer { .. }))
}

/// What is late goes with its entry or its group.
pub(super) fn drop_stray_late(kind: &mut KindMeta) {
    if !kind.paths.any(PathMeta::is_late) {
        return;
    }
    let is_gone = |part: Part<'_>| kind.paths.get(Path::Stream(&part.name())).is_none();
    let is_stray = |name: &[u8]| match Part::parse(name) {
        Some(Part::Delivery { group, id }) => is_gone(Part::Entry(id)) || is_gone(Part::Group(group)),
        _ => false,
    };
    let late = kind.paths.iter().filter(|(name, path)| path.is_late() && is_stray(name));
    let stray: Vec<Box<[u8]>> = late.map(|(name, _)| name.into()).collect();
    for name in stray {
        kind.paths.remove(Path::Stream(&name));
    }
}

/// A new entry is late for the groups that are past it. The dataset says so by itself, but not of a stream that is written anew, or parked.
fn late_for_groups(kind: &mut KindMeta, id: StreamId, stable: &VectorClock, origins: &Origins) {
    for name in kind.paths.with_prefix(&Part::Group(b"").name()) {
        let Some(Part::Group(group)) = Part::parse(&name) else { continue };
        let position = kind.paths.get(Path::Stream(&name)).and_then(|meta| view::view(meta, Kind::Stream, origins));
        let delivery = Part::Delivery { group, id }.name();
        let known = kind.paths.get(Path::Stream(&delivery));
        // What everyone knows to be acknowledged may be pruned, so it does not count (I-12).
        let is_known = known.is_some_and(|meta| {
            meta.dots().any(|dot| !dot.is_in(stable)) || view::view(meta, Kind::Stream, origins).is_some()
        });
        if !is_known && matches!(position, Some(Payload::Id(position)) if position >= id) {
            *kind.paths.get_or_insert(Path::Stream(&delivery)) = PathMeta::stable(Some(Payload::Late));
        }
    }
}

/// The live dots of a path with their flags.
fn ranked(path: &PathMeta) -> impl Iterator<Item = (bool, Dot)> + '_ {
    let assigns = path.assigns.iter().map(|a| (a.reasserted, a.dot));
    assigns.chain(path.increments().iter().map(|i| &i.dot).chain(path.patch_dots()).map(|dot| (false, *dot)))
}
