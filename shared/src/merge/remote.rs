//! Remote effects: what their authors had seen goes, what they had not seen stays.

use super::whole::Scope;
use super::{KeyRef, Merge, OwnedPath, Revival, view};
use crate::dot::{Dot, Seen};
use crate::effect::{ClearReason, Effect, FUNCTIONS_DB, Kind, Op, Path, TtlNote, UnixMs, Value};
use crate::keyspace::{Keyspace, SetTtl};
use crate::metadata::{Assigned, Class, KeyMeta, PathMeta, Payload};
use crate::number::{Number, add_scores};
use crate::origin::Origins;
use crate::patch::{Patch, Prior};

/// Libraries of functions are written and deleted, nothing else. No author makes other effects there.
fn may_be(effect: &Effect<'_>) -> bool {
    let opaque = |path: Path<'_>| path == Path::Opaque;
    match effect.op {
        _ if effect.db != FUNCTIONS_DB => true,
        Op::Assign { path, .. } | Op::Remove { path } => opaque(path),
        Op::Clear { .. } => true,
        _ => false,
    }
}

/// A change of one path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change<'a> {
    Assign { value: Value<'a>, reasserted: bool },
    Increment(Number),
    Patch(Patch<'a>),
    Remove,
}

impl<K: Keyspace> Merge<'_, K> {
    /// Applies a remote effect. Returns what an expiry removed against a longer TTL (T6).
    pub fn remote(&mut self, effect: &Effect<'_>, dot: Dot, seen: &Seen<'_>) -> Option<Revival> {
        let key = KeyRef { db: effect.db, name: effect.key };
        if !may_be(effect) {
            return None;
        }
        match effect.op {
            Op::Set { value, expire_at } => self.remote_set(key, value, expire_at, dot, seen),
            Op::Assign { path, value, reasserted } => {
                let reasserted = reasserted && self.rules.reassert_flag;
                if let Path::Stream(name) = path {
                    let change = Change::Assign { value, reasserted };
                    self.remote_part(key, name, change, effect.ttl, dot, seen);
                    return None;
                }
                self.remote_change(key, path, Change::Assign { value, reasserted }, effect.ttl, dot, seen);
            }
            Op::Increment { path, delta } => {
                self.remote_change(key, path, Change::Increment(delta), effect.ttl, dot, seen);
            }
            Op::Patch { patch, .. } => {
                self.remote_change(key, Path::String, Change::Patch(patch), effect.ttl, dot, seen);
            }
            Op::Remove { path } => self.remote_change(key, path, Change::Remove, effect.ttl, dot, seen),
            Op::Stream(op) => self.remote_stream(key, op, effect.ttl, dot, seen),
            Op::ListInsert { run, first, values } => {
                self.remote_insert(key, (run, first, values), effect.ttl, dot, seen);
            }
            Op::ListRemove { ranges } => self.remote_remove(key, ranges, effect.ttl, dot, seen),
            Op::Clear { reason } => return self.remote_clear(key, reason, seen),
            Op::Expire { at } => self.remote_ttl(key, Some(at), dot, seen),
            Op::Persist => self.remote_ttl(key, None, dot, seen),
            Op::Flush { scope } => self.remote_flush(scope, seen),
            Op::Publish { sharded, channel, message } => self.keyspace.publish(sharded, channel, message),
            Op::Reign | Op::Join { .. } | Op::Forget { .. } | Op::Again { .. } => {}
        }
        None
    }

    fn remote_set(&mut self, key: KeyRef<'_>, value: &[u8], expire_at: Option<UnixMs>, dot: Dot, seen: &Seen<'_>) {
        if self.all_seen(key, seen) {
            let ttl = expire_at.map_or(SetTtl::Clear, SetTtl::At);
            self.keyspace.set_string(key.db, key.name, value, ttl);
            self.local_set(key, dot, expire_at);
            return;
        }
        *self.conflicts += 1;
        let change = Change::Assign { value: Value::Bytes(value), reasserted: false };
        let changes = [(OwnedPath::new(Path::String), change, dot)];
        let strong = self.rules.strong_ttl;
        self.rewrite(key, seen, Scope::Key, &changes, |ttl| ttl.assign(dot, expire_at, seen, strong));
    }

    fn remote_clear(&mut self, key: KeyRef<'_>, reason: ClearReason, seen: &Seen<'_>) -> Option<Revival> {
        let revival = match reason {
            ClearReason::Expired if self.rules.expiry_reassert => self.revival(key, seen),
            _ => None,
        };
        if self.all_seen(key, seen) {
            self.keyspace.delete(key.db, key.name, reason);
            self.local_clear(key, reason);
        } else {
            *self.conflicts += 1;
            let takes_ttl = reason != ClearReason::Expired || self.rules.expiry_takes_ttl;
            self.rewrite(key, seen, Scope::Key, &[], |ttl| {
                if takes_ttl {
                    ttl.remove_seen(seen);
                }
            });
        }
        revival
    }

    fn remote_ttl(&mut self, key: KeyRef<'_>, at: Option<UnixMs>, dot: Dot, seen: &Seen<'_>) {
        let id = self.table.entry(key.db, key.name);
        self.table.queue(id, &dot);
        if self.table.meta(id).ttl.is_empty() && !seen.has_stable() {
            self.table.meta_mut(id).ttl.base = self.keyspace.expire_at(key.db, key.name);
        }
        self.table.meta_mut(id).ttl.assign(dot, at, seen, self.rules.strong_ttl);
        self.show_ttl(key);
    }

    /// Whether the author had seen everything that is known of the key.
    pub(super) fn all_seen(&self, key: KeyRef<'_>, seen: &Seen<'_>) -> bool {
        if !seen.has_stable() {
            return false;
        }
        let Some(id) = self.table.find(key.db, key.name) else { return true };
        let meta = self.table.meta(id);
        meta.ttl.dots.iter().all(|t| seen.has(&t.dot)) && !meta.kinds.iter().any(|k| k.paths.may_survive(seen))
    }

    /// A change of one element.
    pub(super) fn remote_change(
        &mut self,
        key: KeyRef<'_>,
        path: Path<'_>,
        change: Change<'_>,
        note: TtlNote,
        dot: Dot,
        seen: &Seen<'_>,
    ) {
        let native = self.keyspace.kind(key.db, key.name);
        if self.is_mixed(key, native, path.kind()) {
            let changes = [(OwnedPath::new(path), change, dot)];
            self.rewrite(key, seen, Scope::OtherTypes(path.kind()), &changes, |_| {});
        } else {
            self.change_element(key, path, change, dot, seen, native.is_some());
        }
        self.remote_note(key, note, dot, seen, native);
    }

    /// Whether another type than `kind` is in the dataset or among the live dots of the key.
    pub(super) fn is_mixed(&self, key: KeyRef<'_>, native: Option<Kind>, kind: Kind) -> bool {
        let parked = |meta: &KeyMeta| meta.kinds.iter().any(|k| k.kind != kind);
        native.is_some_and(|n| n != kind)
            || self.table.find(key.db, key.name).is_some_and(|id| parked(self.table.meta(id)))
    }

    /// A change of an element while the key, if it exists, is all of that element's type.
    fn change_element(
        &mut self,
        key: KeyRef<'_>,
        path: Path<'_>,
        change: Change<'_>,
        dot: Dot,
        seen: &Seen<'_>,
        exists: bool,
    ) {
        match change {
            Change::Assign { value, reasserted } if let Path::Element(name) = path => {
                self.assign_item(key, name, value, (dot, reasserted), seen);
            }
            Change::Assign { value, reasserted } => self.assign_element(key, path, value, reasserted, dot, seen),
            Change::Increment(delta) => self.increment_element(key, path, delta, dot, seen, exists),
            Change::Patch(patch) => self.patch_element(key, patch, dot, seen, exists),
            Change::Remove => self.remove_element(key, path, seen),
        }
    }

    fn assign_element(
        &mut self,
        key: KeyRef<'_>,
        path: Path<'_>,
        value: Value<'_>,
        reasserted: bool,
        dot: Dot,
        seen: &Seen<'_>,
    ) {
        self.queue(key, &dot);
        let mut meta = self.take_path(key, path);
        let stays = meta.survives(seen) || (meta.is_empty() && !seen.has_stable());
        if !stays {
            let is_held = if value == Value::Acked {
                self.keyspace.take(key.db, key.name, path);
                true
            } else {
                self.keyspace.put(key.db, key.name, path, value)
            };
            let mut meta = PathMeta::shown(dot);
            let is_kept = is_held && !matches!(value, Value::Expiring { .. } | Value::Acked);
            let payload = (!is_kept).then(|| Payload::from_value(value));
            meta.assigns.iter_mut().for_each(|a| (a.reasserted, a.payload) = (reasserted, payload.clone()));
            if !is_held && path == Path::Opaque {
                meta.held(false, self.origins);
                self.table.saw_unknown();
            }
            self.return_path(key, path, meta);
            return;
        }
        self.count_conflict(&meta, seen);
        self.expose(key, path, &mut meta);
        meta.remove_seen(seen);
        meta.assigns.push(Assigned { dot, reasserted, payload: Some(Payload::from_value(value)) });
        self.show(key, path, meta);
    }

    fn increment_element(
        &mut self,
        key: KeyRef<'_>,
        path: Path<'_>,
        delta: Number,
        dot: Dot,
        seen: &Seen<'_>,
        exists: bool,
    ) {
        self.queue(key, &dot);
        let mut meta = self.take_path(key, path);
        // A base that is not there counts 0, but must not be taken for one, nor a 0 for none: it outlives what an old backup
        // removes (2.2 rule 5).
        if meta.is_empty() && exists && (path == Path::String || self.native(key, path).is_some()) {
            meta = PathMeta::stable(None);
        }
        if meta.has_other_than(Class::Numbers) {
            *self.conflicts += u64::from(meta.assigns.iter().any(|a| !seen.has(&a.dot)));
            self.explain(key, path, &mut meta);
            meta.increment(dot, delta, self.origins);
            self.show(key, path, meta);
            return;
        }
        if let Number::Integer(delta) = delta
            && self.add_integer(key, path, delta, &mut meta, dot)
        {
            self.return_path(key, path, meta);
            return;
        }
        // Increments are not in conflict with each other.
        *self.conflicts += u64::from(meta.assigns.iter().any(|a| !seen.has(&a.dot)));
        if let Path::Scored(member) = path {
            self.increment_score(key, member, delta, meta, dot);
            return;
        }
        self.expose(key, path, &mut meta);
        meta.increment(dot, delta, self.origins);
        self.show(key, path, meta);
    }

    /// The quick way: an integer is added to an integer whose value the dataset holds.
    fn add_integer(&mut self, key: KeyRef<'_>, path: Path<'_>, delta: i64, meta: &mut PathMeta, dot: Dot) -> bool {
        if meta.payload(meta.top(self.origins)).is_some() {
            return false;
        }
        let added = match path {
            Path::String => self.keyspace.add_integer(key.db, key.name, delta),
            Path::Field(field) => self.keyspace.add_integer_field(key.db, key.name, field, delta),
            Path::Member(_) | Path::Scored(_) | Path::Opaque | Path::Stream(_) | Path::Element(_) => return false,
        };
        if added.is_ok() {
            meta.increment(dot, Number::Integer(delta), self.origins);
        }
        added.is_ok()
    }

    /// The dataset has the sum of a score up to here (I-4). It goes on from there where nothing comes behind the increment in effect
    /// order, or where order makes no difference.
    fn increment_score(&mut self, key: KeyRef<'_>, member: &[u8], delta: Number, mut meta: PathMeta, dot: Dot) {
        let path = Path::Scored(member);
        self.expose(key, path, &mut meta);
        let base = match meta.payload(meta.top(self.origins)) {
            Some(Payload::Score(score)) => *score,
            _ => 0.0,
        };
        let is_last = meta.increment(dot, delta, self.origins);
        let goes_on = is_last || meta.sum.as_ref().is_some_and(|sum| sum.increments.is_exact_over(base));
        match self.keyspace.score(key.db, key.name, member).filter(|_| goes_on) {
            Some(shown) => {
                self.put(key, path, &Payload::Score(add_scores(shown, delta.as_float())));
                self.return_path(key, path, meta);
            }
            None => self.show(key, path, meta),
        }
    }

    pub(super) fn remove_element(&mut self, key: KeyRef<'_>, path: Path<'_>, seen: &Seen<'_>) {
        let mut meta = self.take_path(key, path);
        if !meta.survives(seen) && (seen.has_stable() || !meta.is_empty()) {
            if !self.is_late(key, path) {
                self.keyspace.take(key.db, key.name, path);
            }
            self.return_path(key, path, PathMeta::default());
            return;
        }
        self.count_conflict(&meta, seen);
        self.expose(key, path, &mut meta);
        meta.remove_seen(seen);
        self.show(key, path, meta);
    }

    /// Makes all of a path explicit: also an element that the dataset has without metadata.
    pub(super) fn expose(&mut self, key: KeyRef<'_>, path: Path<'_>, meta: &mut PathMeta) {
        if meta.is_empty() {
            if let Some(native) = self.native(key, path) {
                *meta = PathMeta::stable(Some(native));
            }
        } else {
            self.explain(key, path, meta);
        }
    }

    /// Writes the view of an exposed path to the dataset and puts the metadata back.
    pub(super) fn show(&mut self, key: KeyRef<'_>, path: Path<'_>, mut meta: PathMeta) {
        match view::view(&meta, path.kind(), self.origins) {
            Some(shown) => {
                self.put_view(key, path, &shown, &mut meta);
            }
            None => self.keyspace.take(key.db, key.name, path),
        }
        self.return_path(key, path, meta);
    }

    /// T2, T3 for a remote value effect. `before` is the key's type before it.
    pub(super) fn remote_note(
        &mut self,
        key: KeyRef<'_>,
        note: TtlNote,
        dot: Dot,
        seen: &Seen<'_>,
        before: Option<Kind>,
    ) {
        let note = if self.rules.weak_ttl { note } else { TtlNote::None };
        let known = self.table.find(key.db, key.name).is_some_and(|id| !self.table.meta(id).ttl.is_empty());
        if note == TtlNote::None && !known {
            return;
        }
        if note != TtlNote::None {
            let id = self.table.entry(key.db, key.name);
            self.table.queue(id, &dot);
            if !known && before.is_some() {
                let base = self.keyspace.expire_at(key.db, key.name);
                self.table.meta_mut(id).ttl.base = base;
            }
            let ttl = &mut self.table.meta_mut(id).ttl;
            match note {
                TtlNote::None => {}
                TtlNote::Created => ttl.created(dot, seen),
                TtlNote::Kept(at) => ttl.kept(dot, at),
            }
        }
        if note != TtlNote::None || before.is_none() {
            self.show_ttl(key);
        }
    }

    /// Gives the key the TTL of its view, if there is a key.
    pub(super) fn show_ttl(&mut self, key: KeyRef<'_>) {
        let Some(id) = self.table.find(key.db, key.name) else { return };
        let ttl = &self.table.meta(id).ttl;
        if ttl.is_empty() || self.keyspace.kind(key.db, key.name).is_none() {
            return;
        }
        let view = ttl.view();
        if view != self.keyspace.expire_at(key.db, key.name) {
            self.keyspace.set_expire_at(key.db, key.name, view);
        }
    }

    /// Adds a change to exposed metadata, in memory.
    pub(super) fn change_exposed(
        meta: &mut PathMeta,
        change: Change<'_>,
        dot: Dot,
        seen: &Seen<'_>,
        origins: &Origins,
    ) {
        match change {
            Change::Assign { value, reasserted } => {
                meta.remove_seen(seen);
                meta.assigns.push(Assigned { dot, reasserted, payload: Some(Payload::from_value(value)) });
            }
            Change::Increment(delta) => drop(meta.increment(dot, delta, origins)),
            Change::Patch(patch) => meta.patch(dot, patch, Prior::NONE, origins),
            Change::Remove => meta.remove_seen(seen),
        }
    }
}
