//! A full sync, key by key: a snapshot of another instance is merged into the dataset while both go on writing.

use super::meet::{Dots, Meeting};
use super::stream::LAST;
use super::{KeyRef, Merge, view};
use crate::effect::{ClearReason, Kind, Path};
use crate::keyspace::Keyspace;
use crate::metadata::{KeyMeta, PathMeta, Paths, Payload, TtlMeta, path_of};
use crate::stream::{Part, entry_id, entry_name};

impl<K: Keyspace> Merge<'_, K> {
    /// All that is known of a key, complete and explicit, for a snapshot.
    pub fn exposed(&mut self, key: KeyRef<'_>) -> KeyMeta {
        let mut meta = self.table.find(key.db, key.name).map(|id| self.table.meta(id).clone()).unwrap_or_default();
        self.expose_key(key, &mut meta, |_, _| true);
        meta.drop_empty();
        meta
    }

    /// Merges the state of a key at another instance into this one.
    pub fn meet(&mut self, key: KeyRef<'_>, theirs: KeyMeta, meeting: &Meeting<'_>) {
        if let Some(theirs) = self.take_news(key, theirs, meeting) {
            self.meet_by_dots(key, &theirs, meeting);
        }
    }

    pub(super) fn meet_by_dots(&mut self, key: KeyRef<'_>, theirs: &KeyMeta, meeting: &Meeting<'_>) {
        let mut before = self.exposed(key);
        self.expose_lone(key, &mut before, theirs);
        let mut met = meeting.key(theirs, &before);
        self.queue_new(key, &before, &met);
        self.queue_list(key, &met);
        let native = self.keyspace.kind(key.db, key.name);
        let winner = self.winner(&met);
        let shown = winner.and_then(|at| met.kinds.get(at)).map(|kind| kind.kind);
        // No server takes the last id out of a stream that stays.
        let ends = native == Some(Kind::Stream) && met.path(LAST).is_none();
        if native != shown || ends {
            if native.is_some() {
                self.keyspace.delete(key.db, key.name, ClearReason::Deleted);
            }
            self.restore(key, met);
            self.late_after_meeting(key, &before, meeting);
            return;
        }
        if shown == Some(Kind::List) {
            self.meet_lists(key, &mut before, &mut met);
        } else if let Some(kind) = winner.and_then(|at| met.kinds.get_mut(at)) {
            // What was known is no more, and must not be shown with what is written.
            if let Some(id) = self.table.find(key.db, key.name) {
                *self.table.meta_mut(id) = KeyMeta::default();
            }
            let shown_kind = kind.kind;
            let mut paths = std::mem::replace(&mut kind.paths, Paths::new(shown_kind));
            if let Some(old) = before.kind(shown_kind) {
                for (element, _) in old.paths.iter() {
                    let path = path_of(shown_kind, element);
                    if paths.get(path).is_none() {
                        self.keyspace.take(key.db, key.name, path);
                    }
                }
            }
            paths.retain(|element, meta| {
                self.show_difference(key, path_of(shown_kind, element), meta, &before);
                !meta.is_dataset_only()
            });
            kind.paths = paths;
            met.drop_empty();
        }
        self.keep_met(key, met);
        self.late_after_meeting(key, &before, meeting);
    }

    /// Deliveries of entries that are gone here, and that the other side has again: where they have no dots only the dataset knows of them.
    fn expose_lone(&mut self, key: KeyRef<'_>, before: &mut KeyMeta, theirs: &KeyMeta) {
        let (Some(ours), Some(theirs)) = (before.kind(Kind::Stream), theirs.kind(Kind::Stream)) else { return };
        let is_again = |name: &[u8]| ours.paths.get(Path::Stream(name)).is_none();
        if !theirs.paths.iter().any(|(name, _)| entry_id(name).is_some() && is_again(name)) {
            return;
        }
        let mut lone: Vec<(Box<[u8]>, Payload)> = Vec::new();
        self.keyspace.lone_deliveries(key.db, key.name, &mut |name, owner| {
            let Some(Part::Delivery { id, .. }) = Part::parse(name) else { return };
            if theirs.paths.get(Path::Stream(&entry_name(id))).is_some() && is_again(name) {
                lone.push((name.into(), Payload::Owner(owner.into())));
            }
        });
        let paths = &mut before.kind_or_insert(Kind::Stream).paths;
        for (name, payload) in lone {
            *paths.get_or_insert(Path::Stream(&name)) = PathMeta::stable(Some(payload));
        }
    }

    fn meet_lists(&mut self, key: KeyRef<'_>, before: &mut KeyMeta, met: &mut KeyMeta) {
        let take = |meta: &mut KeyMeta| {
            let kind = meta.kind_mut(Kind::List);
            kind.map_or_else(
                || Paths::new(Kind::List),
                |kind| std::mem::replace(&mut kind.paths, Paths::new(Kind::List)),
            )
        };
        let (before, after) = (take(before), take(met));
        met.kind_or_insert(Kind::List).paths = self.meet_list(key, before, after);
    }

    /// Writes an element if it shows something else than before.
    fn show_difference(
        &mut self,
        key: KeyRef<'_>,
        path: Path<'_>,
        meta: &mut crate::metadata::PathMeta,
        before: &KeyMeta,
    ) {
        let was: Option<Payload> = before.path(path).and_then(|m| view::view(m, path.kind(), self.origins));
        let Some(shown) = view::view(meta, path.kind(), self.origins) else {
            self.keyspace.take(key.db, key.name, path);
            return;
        };
        // A delivery that the dataset could not hold without its entry, which is late now if that has just come: it can be shown, or the payload must
        // stay explicit.
        let is_left_out = matches!(shown, Payload::Owner(_)) && self.native(key, path).as_ref() != Some(&shown);
        if was.as_ref() != Some(&shown) || is_left_out {
            self.put_view(key, path, &shown, meta);
        } else {
            self.imply(meta);
        }
    }

    /// Stores merged metadata of a key whose elements the dataset shows already, and shows its TTL.
    pub(super) fn keep_met(&mut self, key: KeyRef<'_>, mut met: KeyMeta) {
        if self.keyspace.kind(key.db, key.name).is_some() {
            let at = met.ttl.view();
            if at != self.keyspace.expire_at(key.db, key.name) {
                self.keyspace.set_expire_at(key.db, key.name, at);
            }
        }
        if met.ttl.dots.is_empty() && !met.keeps_unknown() {
            met.ttl = TtlMeta::default();
        }
        if met.is_empty() {
            self.forget(key);
        } else {
            let id = self.table.entry(key.db, key.name);
            *self.table.meta_mut(id) = met;
        }
    }

    /// Registers the dots that came for pruning.
    fn queue_new(&mut self, key: KeyRef<'_>, before: &KeyMeta, met: &KeyMeta) {
        let known: Dots = before.dots().collect();
        met.dots().filter(|dot| !known.contains(dot)).for_each(|dot| self.queue(key, &dot));
    }
}
