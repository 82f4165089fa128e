//! Keys that a server drops as it loads its file, for their TTL had passed: that is their expiry, and nobody was told.
//!
//! Of those whose TTL this instance still has dots of it says so at once. Of the rest it knows nothing, not even the names. If another site had extended
//! one meanwhile, that shows when its effects come: the key is not here, and it was there. Then this instance says that the key has expired, before it takes
//! the effect, and who had extended it writes it again (MERGE_RULES T6, T7).

use hashbrown::HashSet;

use super::Shard;
use super::author::has_passed;
use crate::effect::{ClearReason, Effect, Kind, Op, TtlNote};
use crate::group::{self, GroupBuilder};
use crate::keyspace::Keyspace;
use crate::merge::KeyRef;
use crate::metadata::{KeyMeta, Table, TtlDot};
use crate::origin::Origin;

/// What is known of a file whose keys had expired in part. Not saved: the next file lacks these keys, and does not say so.
#[derive(Debug)]
pub(super) struct Dropped {
    /// When it was loaded.
    at_ms: u64,
    /// Keys that were told of, so that each is written again once; by hash.
    told: HashSet<u64, foldhash::fast::RandomState>,
}

/// So many keys are remembered as told of.
const TOLD_MAX: usize = 1 << 20;

impl Dropped {
    fn new(at_ms: u64) -> Self {
        Self { at_ms, told: HashSet::default() }
    }

    /// Whether a remote effect says that its key was there, and may have been extended.
    fn is_extended(&self, effect: &Effect<'_>) -> bool {
        match (effect.op, effect.ttl) {
            (Op::Expire { .. } | Op::Persist, _) => true,
            (_, TtlNote::Kept(at)) => has_passed(Some(at), self.at_ms),
            _ => false,
        }
    }

    /// Whether it is the first time.
    fn is_news(&mut self, key: KeyRef<'_>) -> bool {
        use std::hash::BuildHasher;
        if self.told.len() >= TOLD_MAX {
            self.told.clear();
        }
        self.told.insert(self.told.hasher().hash_one((key.db, key.name)))
    }
}

impl Shard {
    /// The server has loaded a file, and dropped keys.
    pub fn expire_dropped<K: Keyspace>(&mut self, keyspace: &mut K, now_ms: u64) {
        self.dropped = Some(Box::new(Dropped::new(now_ms)));
        // The positions of a list are known as long as it lives: without dots of a TTL it had one that all knew.
        let is_list =
            |meta: &KeyMeta| meta.ttl.dots.is_empty() && meta.kinds.iter().any(|kind| kind.kind == Kind::List);
        let has_expired = |meta: &KeyMeta| has_passed(meta.ttl.view(), now_ms) || is_list(meta);
        let is_due = |meta: &KeyMeta| !meta.kinds.is_empty() && has_expired(meta);
        let due = self.table(keyspace).iter().filter(|(_, _, meta)| is_due(meta));
        let due: Vec<(u32, Vec<u8>)> = due.map(|(db, name, _)| (db, name.to_vec())).collect();
        let due = due.into_iter().filter(|(db, name)| keyspace.kind(*db, name).is_none());
        let due: Vec<_> = due.collect();
        self.author_expiry(due.iter().map(|(db, name)| KeyRef { db: *db, name }), keyspace, now_ms);
    }

    /// Which keys of a remote group, which has yet to be applied, were there, and were dropped here.
    pub(super) fn unheard_of<'a, K: Keyspace>(&mut self, body: &'a [u8], keyspace: &mut K) -> Vec<KeyRef<'a>> {
        let Some(dropped) = &self.dropped else { return Vec::new() };
        let extended = group::effects(body).filter(|effect| dropped.is_extended(effect));
        let mut found: Vec<_> = extended.map(|effect| KeyRef { db: effect.db, name: effect.key }).collect();
        found.retain(|key| !is_known(self.table(keyspace), *key) && keyspace.kind(key.db, key.name).is_none());
        found.retain(|key| self.dropped.as_mut().is_some_and(|dropped| dropped.is_news(*key)));
        found
    }

    /// The same of a key of a snapshot, `theirs` with origins of the snapshot: its TTL was set when this instance did not hear of it.
    pub(super) fn is_unheard_of<K: Keyspace>(&mut self, key: KeyRef<'_>, theirs: &KeyMeta, keyspace: &mut K) -> bool {
        let Some(syncing) = self.syncing.as_ref().filter(|_| self.dropped.is_some()) else { return false };
        let here = |origin: Origin| syncing.names.get(origin.index());
        let is_news = |ttl: &TtlDot| here(ttl.dot.origin).is_some_and(|origin| !self.clock.has(*origin, ttl.dot.ts));
        let is_extended = theirs.ttl.dots.iter().any(|ttl| ttl.strong && is_news(ttl));
        is_extended
            && !is_known(self.table(keyspace), key)
            && keyspace.kind(key.db, key.name).is_none()
            && self.dropped.as_mut().is_some_and(|dropped| dropped.is_news(key))
    }

    /// Says that keys have expired which are not here.
    pub(super) fn author_expiry<'a, K: Keyspace>(
        &mut self,
        keys: impl Iterator<Item = KeyRef<'a>>,
        keyspace: &mut K,
        now_ms: u64,
    ) {
        let mut group = GroupBuilder::new();
        for KeyRef { db, name } in keys {
            let op = Op::Clear { reason: ClearReason::Expired };
            group.push(&Effect { db, key: name, ttl: TtlNote::None, op });
        }
        self.author(group, keyspace, now_ms);
    }
}

/// Whether anything of a key has a dot here: then its own rules hold.
fn is_known(table: &Table, key: KeyRef<'_>) -> bool {
    table.find(key.db, key.name).is_some()
}
