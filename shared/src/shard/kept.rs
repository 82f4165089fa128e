//! What an instance keeps in mind to write again ([`super::taken`]), by key: whatever follows a write looks at those of its key only, for it is done at each.

use std::collections::BTreeMap;

use crate::dot::Dot;
use crate::merge::KeyRef;
use crate::origin::Origin;
use crate::snapshot::{SnapshotHead, TakenUp};

/// Never with a key, or a database, of which nothing is kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept(BTreeMap<u32, BTreeMap<Box<[u8]>, Vec<TakenUp>>>);

impl Kept {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &TakenUp> {
        self.0.values().flat_map(BTreeMap::values).flatten()
    }

    /// Of one key.
    pub(super) fn of_mut(&mut self, key: KeyRef<'_>) -> &mut [TakenUp] {
        let of_db = self.0.get_mut(&key.db);
        of_db.and_then(|keys| keys.get_mut(key.name)).map_or(&mut [], Vec::as_mut_slice)
    }

    /// What a snapshot tells, by origins here.
    pub(super) fn told(head: &SnapshotHead, names: &[Origin]) -> Self {
        let name = |dot: Dot| names.get(dot.origin.index()).map(|origin| Dot { origin: *origin, ..dot });
        let mut told = Self::default();
        head.taken.iter().filter_map(|taken| taken.renamed(&name)).for_each(|taken| told.keep(taken));
        told
    }

    pub(super) fn of(&self, key: KeyRef<'_>) -> &[TakenUp] {
        self.0.get(&key.db).and_then(|keys| keys.get(key.name)).map_or(&[], Vec::as_slice)
    }

    pub(super) fn keep(&mut self, taken: TakenUp) {
        let Some((db, name)) = taken.effect().map(|effect| (effect.db, Box::from(effect.key))) else { return };
        self.0.entry(db).or_default().entry(name).or_default().push(taken);
    }

    pub(super) fn extend(&mut self, key: KeyRef<'_>, more: Vec<TakenUp>) {
        if !more.is_empty() {
            self.0.entry(key.db).or_default().entry(key.name.into()).or_default().extend(more);
        }
    }

    /// Of one key.
    pub(super) fn retain_of(&mut self, key: KeyRef<'_>, keeps: impl FnMut(&mut TakenUp) -> bool) {
        let Some(keys) = self.0.get_mut(&key.db) else { return };
        let Some(of_key) = keys.get_mut(key.name) else { return };
        of_key.retain_mut(keeps);
        if of_key.is_empty() {
            keys.remove(key.name);
            if keys.is_empty() {
                self.0.remove(&key.db);
            }
        }
    }

    /// Of all keys.
    pub(super) fn retain(&mut self, mut keeps: impl FnMut(&mut TakenUp) -> bool) {
        self.0.retain(|_, keys| {
            keys.retain(|_, of_key| {
                of_key.retain_mut(&mut keeps);
                !of_key.is_empty()
            });
            !keys.is_empty()
        });
    }

    /// Takes out what `goes`.
    pub(super) fn extract(&mut self, mut goes: impl FnMut(&TakenUp) -> bool) -> Vec<TakenUp> {
        let mut gone = Vec::new();
        self.0.retain(|_, keys| {
            keys.retain(|_, of_key| {
                gone.extend(of_key.extract_if(.., |own| goes(own)));
                !of_key.is_empty()
            });
            !keys.is_empty()
        });
        gone
    }
}
