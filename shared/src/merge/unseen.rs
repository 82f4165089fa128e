//! Local writes to a key with dots that this instance does not count as seen: while a full sync goes on, its clock says nothing yet
//! of what the snapshot has brought. What such a write could not remove at others, it must not remove here.
//!
//! All that is unseen is explicit, so nothing is lost when a command has changed the dataset before the merge hears of it.

use super::local::list_base;
use super::stream::{self, LAST, is_entry};
use super::{KeyRef, Merge, view};
use crate::dot::{Dot, Seen};
use crate::effect::{ClearReason, Effect, FlushScope, Kind, Op, Path, TtlNote};
use crate::keyspace::Keyspace;
use crate::metadata::{Assigned, KeyMeta, PathMeta, Paths, Payload, TtlMeta, path_of};
use crate::stream::entry_id;

impl<K: Keyspace> Merge<'_, K> {
    /// Whether an effect touches something unseen.
    pub fn is_among_unseen(&self, effect: &Effect<'_>, seen: &Seen<'_>) -> bool {
        let unseen = |meta: &KeyMeta| meta.dots().any(|dot| !seen.has(&dot));
        match effect.op {
            Op::Flush { scope } => self.table.iter().any(|(db, _, meta)| scope.includes(db) && unseen(meta)),
            Op::Reign | Op::Join { .. } | Op::Forget { .. } | Op::Again { .. } | Op::Publish { .. } => false,
            _ => self.table.find(effect.db, effect.key).is_some_and(|id| unseen(self.table.meta(id))),
        }
    }

    /// Takes a local effect into the metadata. `before` is as in [`Merge::local`]. Keys to [`Merge::reconcile`] at the end of the group
    /// are added to `touched`: not earlier, the dataset has what the last write of the group left.
    pub fn local_among_unseen(
        &mut self,
        effect: &Effect<'_>,
        dot: Dot,
        seen: &Seen<'_>,
        before: Option<&[u8]>,
        touched: &mut Vec<(u32, Box<[u8]>)>,
    ) {
        let key = KeyRef { db: effect.db, name: effect.key };
        if let Op::Flush { scope } = effect.op {
            self.clear_seen_of_all(scope, seen, touched);
            return;
        }
        touched.push((key.db, key.name.into()));
        if matches!(effect.op, Op::ListInsert { .. } | Op::ListRemove { .. })
            || matches!(effect.op, Op::Assign { path: Path::Element(_), .. })
        {
            let id = self.table.entry(key.db, key.name);
            replace_seen(self.table.meta_mut(id), Kind::List, None, seen);
            self.table.meta_mut(id).drop_empty();
            self.local_list_among_unseen(effect, dot, seen, list_base(before));
            let id = self.table.entry(key.db, key.name);
            note_unseen(&mut self.table.meta_mut(id).ttl, effect.ttl, dot, seen);
            self.table.queue(id, &dot);
            return;
        }
        let id = self.table.entry(key.db, key.name);
        self.table.queue(id, &dot);
        let mut meta = std::mem::take(self.table.meta_mut(id));
        match effect.op {
            Op::Set { value, expire_at } => {
                clear_seen(&mut meta, seen);
                assign(&mut meta, Path::String, Payload::Bytes(value.into()), dot, false);
                meta.ttl.assign(dot, expire_at, seen, self.rules.strong_ttl);
            }
            Op::Assign { path, value, reasserted } => {
                replace_seen(&mut meta, path.kind(), Some(path), seen);
                assign(&mut meta, path, Payload::from_value(value), dot, reasserted);
                if let Path::Stream(name) = path
                    && is_entry(path)
                    && let Some(id) = entry_id(name)
                {
                    replace_seen(&mut meta, Kind::Stream, Some(LAST), seen);
                    assign(&mut meta, LAST, Payload::Id(id), dot, reasserted);
                }
            }
            Op::Stream(op) => {
                replace_seen(&mut meta, Kind::Stream, None, seen);
                stream::remove_seen(&mut meta, op, seen);
                stream::deliver(&mut meta, op, |path, value| {
                    path.remove_seen(seen);
                    let payload = Some(Payload::from_value(value));
                    path.assigns.push(Assigned { dot, reasserted: false, payload });
                });
            }
            Op::Increment { path, .. } => replace_seen(&mut meta, path.kind(), None, seen),
            Op::Patch { .. } => replace_seen(&mut meta, Kind::String, None, seen),
            Op::Remove { path } => replace_seen(&mut meta, path.kind(), Some(path), seen),
            Op::Clear { .. } => clear_seen(&mut meta, seen),
            Op::Expire { at } => meta.ttl.assign(dot, Some(at), seen, self.rules.strong_ttl),
            Op::Persist => meta.ttl.assign(dot, None, seen, self.rules.strong_ttl),
            Op::ListInsert { .. } | Op::ListRemove { .. } => {}
            Op::Flush { .. }
            | Op::Reign
            | Op::Join { .. }
            | Op::Forget { .. }
            | Op::Again { .. }
            | Op::Publish { .. } => {}
        }
        note_unseen(&mut meta.ttl, effect.ttl, dot, seen);
        meta.drop_empty();
        *self.table.meta_mut(id) = meta;
        if let Op::Increment { path, delta } = effect.op {
            self.increment_path(key, path, delta, dot, effect.ttl == TtlNote::Created, before);
        }
        if let Op::Patch { patch, prior } = effect.op {
            self.patch_path(key, patch, prior, dot, effect.ttl == TtlNote::Created);
        }
    }

    fn clear_seen_of_all(&mut self, scope: FlushScope, seen: &Seen<'_>, touched: &mut Vec<(u32, Box<[u8]>)>) {
        let names: Vec<(u32, Box<[u8]>)> =
            self.table.iter().filter(|(db, ..)| scope.includes(*db)).map(|(db, name, _)| (db, name.into())).collect();
        for (db, name) in names {
            let id = self.table.entry(db, &name);
            let meta = self.table.meta_mut(id);
            clear_seen(meta, seen);
            if self.table.meta(id).is_empty() {
                self.table.remove(id);
            } else {
                touched.push((db, name));
            }
        }
    }

    /// The dataset has what the local writes of a group left: shows what they could not remove, too (I-4).
    pub fn reconcile(&mut self, key: KeyRef<'_>) {
        let Some(id) = self.table.find(key.db, key.name) else { return };
        let mut meta = std::mem::take(self.table.meta_mut(id));
        let native = self.keyspace.kind(key.db, key.name);
        let shown = self.winner(&meta).and_then(|at| meta.kinds.get(at)).map(|kind| kind.kind);
        if shown != Some(Kind::List) || native != shown {
            self.spread_list(key, &mut meta, native);
        }
        if shown.is_some() && shown != native {
            if native.is_some() {
                self.keyspace.delete(key.db, key.name, ClearReason::Deleted);
            }
            self.restore(key, meta);
            return;
        }
        let kind = shown.and_then(|kind| meta.kind(kind));
        for (element, path_meta) in
            kind.iter().flat_map(|kind| kind.paths.iter().map(|(e, m)| (path_of(kind.kind, e), m)))
        {
            self.reconcile_element(key, element, path_meta);
        }
        if meta.is_empty() {
            self.table.remove(id);
        } else {
            *self.table.meta_mut(id) = meta;
            match shown {
                Some(Kind::List) => self.show_hidden(key),
                Some(Kind::String) => self.correct_registers(key),
                _ => {}
            }
            self.show_ttl(key);
        }
    }

    /// A list that the dataset is not to show is kept like other types.
    fn spread_list(&mut self, key: KeyRef<'_>, meta: &mut KeyMeta, native: Option<Kind>) {
        if native == Some(Kind::List) && meta.list().is_some() {
            self.expose_list(key, &mut meta.kinds, |_, _| true);
        }
        for kind in &mut meta.kinds {
            if let Paths::List(list) = &kind.paths {
                kind.paths = list.spread();
            }
        }
    }

    fn reconcile_element(&mut self, key: KeyRef<'_>, path: Path<'_>, meta: &PathMeta) {
        let top = meta.top(self.origins);
        let is_implied = meta.payload(top).is_none() && top != crate::metadata::Top::Nothing;
        if is_implied {
            return;
        }
        match view::view(meta, path.kind(), self.origins) {
            Some(shown) if self.native(key, path).as_ref() != Some(&shown) => drop(self.put(key, path, &shown)),
            Some(_) => {}
            None => self.keyspace.take(key.db, key.name, path),
        }
    }
}

fn note_unseen(ttl: &mut TtlMeta, note: TtlNote, dot: Dot, seen: &Seen<'_>) {
    match note {
        TtlNote::None => {}
        TtlNote::Created => ttl.created(dot, seen),
        TtlNote::Kept(at) => ttl.kept(dot, at),
    }
}

fn clear_seen(meta: &mut KeyMeta, seen: &Seen<'_>) {
    for kind in &mut meta.kinds {
        if let Paths::List(list) = &mut kind.paths {
            list.clear_seen(seen);
        }
        kind.paths.retain(|_, path| {
            path.remove_seen(seen);
            !path.is_empty()
        });
    }
    meta.ttl.remove_seen(seen);
    meta.drop_empty();
}

/// What an effect at `path` replaces: what was seen there (`None`: nothing), and of other types.
fn replace_seen(meta: &mut KeyMeta, own: Kind, path: Option<Path<'_>>, seen: &Seen<'_>) {
    for kind in &mut meta.kinds {
        let shown_kind = kind.kind;
        if let (Paths::List(list), true) = (&mut kind.paths, shown_kind != own) {
            list.clear_seen(seen);
        }
        kind.paths.retain(|element, known| {
            if shown_kind != own || path == Some(path_of(shown_kind, element)) {
                known.remove_seen(seen);
            }
            !known.is_empty()
        });
    }
}

fn assign(meta: &mut KeyMeta, path: Path<'_>, payload: Payload, dot: Dot, reasserted: bool) {
    let known = meta.kind_or_insert(path.kind()).paths.get_or_insert(path);
    known.assigns.push(Assigned { dot, reasserted, payload: Some(payload) });
}
