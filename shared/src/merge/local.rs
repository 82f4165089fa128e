//! Local writes: the dataset has changed already, and their author has seen everything here.

use super::stream::{LAST, is_entry};
use super::{KeyRef, Merge, view};
use crate::dot::{Dot, Seen};
use crate::effect::{ClearReason, Effect, Kind, Op, Path, TtlNote, UnixMs, Value};
use crate::keyspace::Keyspace;
use crate::metadata::Top;
use crate::metadata::{Base, KindMeta, PathMeta, Paths, Payload, TtlDot, TtlMeta};
use crate::number::{Number, parse_float};
use crate::patch::Patch;

impl<K: Keyspace> Merge<'_, K> {
    /// Takes a captured effect into the metadata. `before` is the element before the write, for increments by floats:
    /// the sum is folded over it.
    ///
    /// All writes of the group have been done: returns whether the dataset may need [`Merge::correct`] after the whole group.
    pub fn local(&mut self, effect: &Effect<'_>, dot: Dot, before: Option<&[u8]>) -> bool {
        let key = KeyRef { db: effect.db, name: effect.key };
        match effect.op {
            Op::Set { expire_at, .. } => self.local_set(key, dot, expire_at),
            Op::ListInsert { .. } | Op::ListRemove { .. } | Op::Assign { path: Path::Element(_), .. } => {
                self.local_list(effect, dot, list_base(before));
            }
            Op::Assign { path, value, reasserted } => {
                self.local_assign(key, path, dot, reasserted, effect.ttl);
                if matches!(value, Value::Expiring { .. } | Value::Acked) {
                    self.keep_payload(key, path, value);
                }
            }
            Op::Increment { path, delta } => return self.local_increment(key, path, delta, dot, effect.ttl, before),
            Op::Patch { patch, prior } => return self.local_patch(key, patch, prior, dot, effect.ttl),
            Op::Remove { path } => self.local_remove(key, path, dot, effect.ttl),
            Op::Stream(op) => self.local_stream(key, op, dot, effect.ttl),
            Op::Clear { reason } => self.local_clear(key, reason),
            Op::Expire { at } => self.local_ttl(key, dot, Some(at)),
            Op::Persist => self.local_ttl(key, dot, None),
            Op::Flush { scope } => drop(self.table.drain(|db| scope.includes(db))),
            Op::Reign | Op::Join { .. } | Op::Forget { .. } | Op::Again { .. } | Op::Publish { .. } => {}
        }
        false
    }

    /// After a whole group: where it has added a float, the dataset is corrected, since the server adds in its own way (`long double`),
    /// and where it has raised registers, since the server writes them in its own way (I-4). Not earlier: the dataset has what the
    /// last write of the group left.
    pub fn correct(&mut self, effect: &Effect<'_>) {
        if let Op::Patch { patch: Patch::Registers(_), .. } = effect.op {
            self.correct_registers(KeyRef { db: effect.db, name: effect.key });
        }
        let Op::Increment { path, .. } = effect.op else { return };
        if matches!(path, Path::Scored(_)) && self.syncing.is_none() {
            return;
        }
        let key = KeyRef { db: effect.db, name: effect.key };
        let mut meta = self.take_path(key, path);
        let top = meta.top(self.origins);
        let is_implied = meta.payload(top).is_none() && top != Top::Nothing;
        if !is_implied
            && !meta.increments().is_empty()
            && let Some(shown) = view::view(&meta, path.kind(), self.origins)
        {
            if self.native(key, path).as_ref() != Some(&shown) {
                self.put(key, path, &shown);
            }
            self.imply(&mut meta);
        }
        self.return_path(key, path, meta);
    }

    /// All of the key's dots were seen, its TTL's too (T5).
    pub(super) fn local_clear(&mut self, key: KeyRef<'_>, reason: ClearReason) {
        let takes_ttl = reason != ClearReason::Expired || self.rules.expiry_takes_ttl;
        match self.table.find(key.db, key.name) {
            Some(id) if takes_ttl => drop(self.table.remove(id)),
            Some(id) => {
                self.table.meta_mut(id).kinds.clear();
                self.table.remove_if_empty(id);
            }
            None => {}
        }
    }

    /// All of the key's dots were seen.
    pub(super) fn forget(&mut self, key: KeyRef<'_>) {
        if let Some(id) = self.table.find(key.db, key.name) {
            self.table.remove(id);
        }
    }

    /// The whole key is one string with one dot, its TTL dot the same.
    pub(super) fn local_set(&mut self, key: KeyRef<'_>, dot: Dot, expire_at: Option<UnixMs>) {
        let id = self.table.entry(key.db, key.name);
        self.table.queue(id, &dot);
        let meta = self.table.meta_mut(id);
        match meta.kinds.as_mut_slice() {
            [KindMeta { kind: Kind::String, paths: Paths::Whole(path) }] => *path = PathMeta::shown(dot),
            _ => {
                meta.kinds.clear();
                meta.kinds.push(KindMeta { kind: Kind::String, paths: Paths::Whole(PathMeta::shown(dot)) });
            }
        }
        meta.ttl = TtlMeta::only(TtlDot { dot, at: expire_at, strong: true });
    }

    /// The dataset cannot hold all of it.
    fn keep_payload(&mut self, key: KeyRef<'_>, path: Path<'_>, value: Value<'_>) {
        let mut meta = self.take_path(key, path);
        let top = meta.top(self.origins);
        if let Some(slot) = meta.payload_mut(top) {
            *slot = Some(Payload::from_value(value));
        }
        self.return_path(key, path, meta);
    }

    fn local_assign(&mut self, key: KeyRef<'_>, path: Path<'_>, dot: Dot, reasserted: bool, ttl: TtlNote) {
        let id = self.table.entry(key.db, key.name);
        self.table.queue(id, &dot);
        let weak = self.rules.weak_ttl;
        let meta = self.table.meta_mut(id);
        meta.kinds.retain(|k| k.kind == path.kind());
        let mut shown = PathMeta::shown(dot);
        shown.assigns.iter_mut().for_each(|a| a.reasserted = reasserted);
        let paths = &mut meta.kind_or_insert(path.kind()).paths;
        if is_entry(path) {
            paths.get_or_insert(LAST).clone_from(&shown);
        }
        *paths.get_or_insert(path) = shown;
        if weak {
            note_ttl(&mut meta.ttl, dot, ttl);
        }
    }

    fn local_increment(
        &mut self,
        key: KeyRef<'_>,
        path: Path<'_>,
        delta: Number,
        dot: Dot,
        ttl: TtlNote,
        before: Option<&[u8]>,
    ) -> bool {
        let id = self.table.entry(key.db, key.name);
        self.table.queue(id, &dot);
        let weak = self.rules.weak_ttl;
        let meta = self.table.meta_mut(id);
        meta.kinds.retain(|k| k.kind == path.kind());
        if weak {
            note_ttl(&mut meta.ttl, dot, ttl);
        }
        self.increment_path(key, path, delta, dot, ttl == TtlNote::Created, before)
    }

    /// Adds an increment at a path whose key has an entry. Whether the dataset may have to be corrected.
    pub(super) fn increment_path(
        &mut self,
        key: KeyRef<'_>,
        path: Path<'_>,
        delta: Number,
        dot: Dot,
        is_new: bool,
        before: Option<&[u8]>,
    ) -> bool {
        let id = self.table.entry(key.db, key.name);
        let known = self.table.meta_mut(id).kind_or_insert(path.kind()).paths.get_or_insert(path);
        if known.is_empty() && !is_new {
            // What was there is everyone's; that it may not have been there makes no difference to a sum of integers.
            *known = PathMeta::stable(None);
        }
        if matches!(delta, Number::Integer(_)) {
            known.increment(dot, delta, self.origins);
            return false;
        }
        self.local_sum(key, path, delta, dot, before);
        // The server adds scores as we do: the dataset had the view (I-4), and this dot is the last.
        !matches!(path, Path::Scored(_))
    }

    /// A sum with a float, whose base must be known.
    fn local_sum(&mut self, key: KeyRef<'_>, path: Path<'_>, delta: Number, dot: Dot, before: Option<&[u8]>) {
        let mut meta = self.take_path(key, path);
        let top = meta.top(self.origins);
        if meta.payload(top).is_none() {
            // The server leaves the TTL of a field alone.
            let at = if let Path::Field(field) = path {
                self.keyspace.field_expire_at(key.db, key.name, field)
            } else {
                None
            };
            let base = before.map(|bytes| payload(path, bytes, at).less(meta.added()));
            match (meta.payload_mut(top), base) {
                (Some(slot), Some(base)) => *slot = Some(base),
                (Some(_), None) if top == Top::Base => {
                    if let Some(sum) = &mut meta.sum {
                        sum.base = Base::None;
                    }
                }
                _ => {}
            }
        }
        meta.increment(dot, delta, self.origins);
        self.return_path(key, path, meta);
    }

    fn local_remove(&mut self, key: KeyRef<'_>, path: Path<'_>, dot: Dot, ttl: TtlNote) {
        let Some(id) = self.table.find(key.db, key.name) else {
            self.note_local(key, dot, ttl);
            return;
        };
        let meta = self.table.meta_mut(id);
        meta.kinds.retain(|k| k.kind == path.kind());
        if let Some(kind) = meta.kind_mut(path.kind()) {
            kind.paths.remove(path);
        }
        meta.drop_empty_kinds();
        self.note_local(key, dot, ttl);
        self.table.remove_if_empty(id);
    }

    /// T2 and T3 by a write that has an entry in no pruning queue otherwise.
    pub fn note_local(&mut self, key: KeyRef<'_>, dot: Dot, note: TtlNote) {
        if note == TtlNote::None || !self.rules.weak_ttl {
            return;
        }
        let id = self.table.entry(key.db, key.name);
        self.table.queue(id, &dot);
        note_ttl(&mut self.table.meta_mut(id).ttl, dot, note);
    }

    /// T2 and T3 of a change that adds no dot of its own to a value.
    pub(super) fn local_note(&mut self, key: KeyRef<'_>, dot: Dot, ttl: TtlNote) {
        match ttl {
            TtlNote::None => {}
            TtlNote::Kept(at) => self.note_local(key, dot, TtlNote::Kept(at)),
            TtlNote::Created => {
                let id = self.table.entry(key.db, key.name);
                note_ttl(&mut self.table.meta_mut(id).ttl, dot, ttl);
            }
        }
    }

    fn local_ttl(&mut self, key: KeyRef<'_>, dot: Dot, at: Option<UnixMs>) {
        let id = self.table.entry(key.db, key.name);
        self.table.queue(id, &dot);
        self.table.meta_mut(id).ttl.assign(dot, at, &Seen::Everything, self.rules.strong_ttl);
    }

    /// Takes the metadata of a path out of the table; without metadata it is empty.
    pub(super) fn take_path(&mut self, key: KeyRef<'_>, path: Path<'_>) -> PathMeta {
        let Some(id) = self.table.find(key.db, key.name) else { return PathMeta::default() };
        let kind = self.table.meta_mut(id).kind_mut(path.kind());
        kind.and_then(|k| k.paths.remove(path)).unwrap_or_default()
    }

    /// Puts the metadata of a path back; an empty one leaves no trace.
    pub(super) fn return_path(&mut self, key: KeyRef<'_>, path: Path<'_>, path_meta: PathMeta) {
        if path_meta.is_empty() {
            let Some(id) = self.table.find(key.db, key.name) else { return };
            self.table.meta_mut(id).drop_empty_kinds();
            self.table.remove_if_empty(id);
        } else {
            let id = self.table.entry(key.db, key.name);
            *self.table.meta_mut(id).kind_or_insert(path.kind()).paths.get_or_insert(path) = path_meta;
        }
    }
}

/// T2 and T3, by an author who had seen everything here.
pub(super) fn note_ttl(ttl: &mut TtlMeta, dot: Dot, note: TtlNote) {
    match note {
        TtlNote::None => {}
        TtlNote::Created => ttl.created(dot, &Seen::Everything),
        TtlNote::Kept(at) => {
            if ttl.is_empty() {
                // The dataset's TTL had no dot until now.
                ttl.base = Some(at);
            }
            ttl.kept(dot, at);
        }
    }
}

/// What a list without ids had before a local write is said like this, so that replicas give it the same ids (rule L10).
pub fn write_list_base(len: usize) -> Vec<u8> {
    (len as u64).to_le_bytes().to_vec()
}

pub(super) fn list_base(before: Option<&[u8]>) -> usize {
    let len = before.and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    len.and_then(|len| u32::try_from(len).ok()).unwrap_or_default() as usize
}

/// A text as the payload of a path.
fn payload(path: Path<'_>, bytes: &[u8], at: Option<UnixMs>) -> Payload {
    match path {
        Path::Scored(_) => Payload::Score(parse_float(bytes).unwrap_or_default()),
        _ => Payload::text_until(bytes.into(), at),
    }
}
