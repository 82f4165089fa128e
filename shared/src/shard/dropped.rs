//! Keys that a server drops as it loads its file, for their TTL had passed: that is their expiry, and nobody was told.
//!
//! Of those whose TTL this instance still has dots of it says so at once. Of the rest it knows nothing, not even the names. If another site had extended
//! one meanwhile, that shows when its effects come: the key is not here, and it was there. Then this instance says that the key has expired, before it takes
//! the effect, and who had extended it writes it again (MERGE_RULES T6, T7). So it is with a key that a client makes anew here: elsewhere the one that
//! was dropped may still be there, due or extended, and what it had is not what the client saw.

use hashbrown::HashSet;

use super::Shard;
use super::author::has_passed;
use crate::effect::{ClearReason, Effect, FUNCTIONS_DB, Op, TtlNote};
use crate::group::{self, GroupBuilder};
use crate::keyspace::Keyspace;
use crate::list::Drafts;
use crate::merge::{KeyRef, is_there};
use crate::metadata::{KeyMeta, Table, TtlDot};
use crate::origin::Origin;
use crate::record::{Before, Record};

/// What is known of a file whose keys had expired in part. The next file lacks these keys, and does not say so: this is saved, and
/// replicas are told.
#[derive(Debug)]
pub(super) struct Dropped {
    /// When it was loaded.
    at_ms: u64,
    /// Keys that were told of, so that each is written again once; by hash.
    told: HashSet<u64, foldhash::fast::RandomState>,
}

/// The expiry of so many keys goes into one group.
const GROUP_KEYS_MAX: usize = 1000;

/// So long it is kept in mind at least: in this time every server will have deleted what was due.
const KEPT_MS: u64 = 24 * 3600 * 1000;

/// So many keys are remembered as told of.
const TOLD_MAX: usize = 1 << 20;

impl Dropped {
    fn new(at_ms: u64) -> Self {
        Self { at_ms, told: HashSet::default() }
    }

    /// When the file was loaded, Unix ms.
    pub fn at_ms(&self) -> u64 {
        self.at_ms
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
        self.has_dropped(now_ms);
        let mut due = self.gone(now_ms, keyspace);
        // Many, in several groups: what comes of a snapshot is not told apart then.
        while due.len() > GROUP_KEYS_MAX && !self.is_syncing() {
            let some = due.split_off(due.len() - GROUP_KEYS_MAX);
            self.author(expiry(some.into_iter()), keyspace, now_ms);
        }
        let group = expiry(due.into_iter());
        let Some(me) = self.me.filter(|_| !group.is_empty()) else {
            let mut record = Vec::new();
            Record::dropped(&mut record, now_ms);
            return self.records.push(record);
        };
        // As if the server had expired them one by one: of what a snapshot has brought, a part stays that this does not count as seen.
        let ts = self.hlc.tick(now_ms);
        self.encode_captured_as(&group, ts, |record| Record::dropped(record, now_ms));
        self.records.push(self.frame.clone());
        self.absorb_captured(group.body(), &Before::new(), ts, me, keyspace);
        self.counters.reasserted += 1;
        self.has_written = true;
        self.prune_some();
        keyspace.finish();
    }

    /// A replica's primary has dropped keys, and told of those in `body`. Of others it may have less in mind than this server, which forgets them.
    pub(super) fn follow_drop<K: Keyspace>(&mut self, at_ms: u64, body: &[u8], keyspace: &mut K) {
        self.has_dropped(at_ms);
        let told: HashSet<(u32, &[u8]), foldhash::fast::RandomState> =
            group::effects(body).map(|effect| (effect.db, effect.key)).collect();
        let mut untold = self.gone(at_ms, keyspace);
        untold.retain(|(db, name)| !told.contains(&(*db, name.as_slice())));
        for (db, name) in untold {
            let table = self.merge(keyspace).table;
            if let Some(id) = table.find(db, &name) {
                table.remove(id);
            }
        }
    }

    /// Keys of which something is known, that have expired by `at_ms`, and are not there.
    fn gone<K: Keyspace>(&mut self, at_ms: u64, keyspace: &mut K) -> Vec<(u32, Vec<u8>)> {
        // Without dots of a TTL it may have had one that all knew: then it should be there, and is not.
        let had_ttl = |meta: &KeyMeta| meta.ttl.is_empty() && is_there(meta);
        let has_expired = |meta: &KeyMeta| has_passed(meta.ttl.view(), at_ms) || had_ttl(meta);
        // What the dataset cannot hold was not there before, either.
        let is_held = |db: u32, meta: &KeyMeta| db != FUNCTIONS_DB && !meta.keeps_unknown();
        let due = self.table(keyspace).iter().filter(|(db, _, meta)| is_held(*db, meta) && has_expired(meta));
        let due: Vec<(u32, Vec<u8>)> = due.map(|(db, name, _)| (db, name.to_vec())).collect();
        due.into_iter().filter(|(db, name)| keyspace.kind(*db, name).is_none()).collect()
    }

    /// At this time keys were dropped: here, or by the primary whose state this is.
    pub(super) fn has_dropped(&mut self, at_ms: u64) {
        if let Some(syncing) = &mut self.syncing {
            // How many keys there are says nothing of which any more.
            syncing.present = None;
        }
        self.dropped = Some(Box::new(Dropped::new(at_ms)));
    }

    /// Every member has what this instance wrote when the TTL of the keys had passed by anyone's clock, and S says that everything of theirs from before
    /// is here: nothing unheard of can come any more. A server may still take its time to delete what is due.
    pub(super) fn forget_dropped(&mut self) {
        let Some(dropped) = &self.dropped else { return };
        // Also on a replica, which has no reign of its own.
        let own = self.origins.find(&self.replid);
        let all_know = own.map(|own| self.stability.stable().get(own).ms()).unwrap_or_default();
        if all_know > dropped.at_ms.saturating_add(self.config.drift_ms_max.max(KEPT_MS)) {
            self.dropped = None;
        }
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

    /// The same of a key of a snapshot, `theirs` with origins of the snapshot: its TTL was set, or was there, when this instance did not hear of it.
    pub(super) fn is_unheard_of<K: Keyspace>(&mut self, key: KeyRef<'_>, theirs: &KeyMeta, keyspace: &mut K) -> bool {
        let (Some(syncing), Some(dropped)) = (&self.syncing, &self.dropped) else { return false };
        let here = |origin: Origin| syncing.names.get(origin.index());
        let is_news = |ttl: &TtlDot| here(ttl.dot.origin).is_some_and(|origin| !self.clock.has(*origin, ttl.dot.ts));
        let says = |ttl: &TtlDot| ttl.strong || has_passed(ttl.at, dropped.at_ms);
        let is_extended = theirs.ttl.dots.iter().any(|ttl| says(ttl) && is_news(ttl));
        is_extended
            && !is_known(self.table(keyspace), key)
            && keyspace.kind(key.db, key.name).is_none()
            && self.dropped.as_mut().is_some_and(|dropped| dropped.is_news(key))
    }

    /// Keys that a local unit has made where there was none, as far as this instance knows for it has dropped them, and that it has not told of yet.
    pub(super) fn made_anew(&mut self, group: &GroupBuilder, drafts: &Drafts) -> Vec<(u32, Vec<u8>)> {
        // Who is alone has nobody to tell.
        if self.dropped.is_none() || self.membership.members().len() < 2 {
            return Vec::new();
        }
        let effects = group::effects(group.body()).map(|effect| (effect.db, effect.key, effect.ttl));
        let edits = drafts.iter().map(|draft| (draft.db, draft.key, draft.ttl));
        let made = effects.chain(edits).filter(|(.., ttl)| *ttl == TtlNote::Created);
        let mut made: Vec<_> = made.map(|(db, name, _)| KeyRef { db, name }).collect();
        made.retain(|key| self.dropped.as_mut().is_some_and(|dropped| dropped.is_news(*key)));
        // What the tail of the backlog knows besides was made since, and told of then.
        made.retain(|key| !is_known(self.metadata.before_tail(), *key));
        made.into_iter().map(|key| (key.db, key.name.to_vec())).collect()
    }

    /// The group with the expiry of such keys before all else, as if the server had found them due; `None` if there is none.
    pub(super) fn with_expiries(&mut self, group: &GroupBuilder, before: &Before) -> Option<(GroupBuilder, Before)> {
        let expired = self.made_anew(group, &Drafts::default());
        if expired.is_empty() {
            return None;
        }
        let mut whole = expiry(expired.into_iter());
        let first = whole.count();
        group::effects(group.body()).for_each(|effect| whole.push(&effect));
        let before = before.iter().map(|(index, value)| (index + first, value.clone())).collect();
        Some((whole, before))
    }

    /// A key that a snapshot lacks is due here. Its source may have dropped it, which it does not say: then this instance does.
    pub(super) fn expire_absent<K: Keyspace>(&mut self, key: KeyRef<'_>, keyspace: &mut K, now_ms: u64) {
        self.take_in_tail(keyspace);
        let table = self.metadata.before_tail();
        let known = table.find(key.db, key.name).map(|id| table.meta(id));
        let is_seen = known.is_none_or(|meta| meta.dots().all(|dot| dot.is_in(&self.clock)));
        if is_seen && has_passed(keyspace.expire_at(key.db, key.name), now_ms) {
            self.author_expiry(std::iter::once(key), keyspace, now_ms);
        }
    }

    /// Says that keys have expired which are not here.
    pub(super) fn author_expiry<'a, K: Keyspace>(
        &mut self,
        keys: impl Iterator<Item = KeyRef<'a>>,
        keyspace: &mut K,
        now_ms: u64,
    ) {
        self.author(expiry(keys.map(|key| (key.db, key.name))), keyspace, now_ms);
    }
}

/// That these keys have expired.
fn expiry(keys: impl Iterator<Item = (u32, impl AsRef<[u8]>)>) -> GroupBuilder {
    let mut group = GroupBuilder::new();
    for (db, key) in keys {
        let op = Op::Clear { reason: ClearReason::Expired };
        group.push(&Effect { db, key: key.as_ref(), ttl: TtlNote::None, op });
    }
    group
}

/// Whether anything of a key has a dot here: then its own rules hold.
fn is_known(table: &Table, key: KeyRef<'_>) -> bool {
    table.find(key.db, key.name).is_some()
}
