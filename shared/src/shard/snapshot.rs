//! The source's side of a full sync: what a snapshot of this shard consists of (docs/PROTOCOL.md 9).

use super::Shard;
use crate::context::StreamContext;
use crate::keyspace::Keyspace;
use crate::merge::KeyRef;
use crate::metadata::{KeyId, KeyMeta};
use crate::origin::Origin;
use crate::snapshot::{AtRest, SnapshotForgotten, SnapshotHead, SnapshotReign, TakenUp, key, rest};

impl Shard {
    /// What a snapshot taken now begins with.
    #[must_use]
    pub fn snapshot_head(&self) -> SnapshotHead {
        let reigns = self.origins.iter().map(|(origin, replid, instance)| SnapshotReign {
            replid,
            instance,
            applied: self.clock.get(origin),
            stable: self.stability.stable().get(origin),
            start: self.stability.start(origin).unwrap_or_default(),
            context: self.context_change(origin),
            had: self.stability.had(origin).cloned(),
        });
        let joins = |instance| self.membership.joins(instance).iter().map(move |dot| (instance, *dot));
        SnapshotHead {
            instance: self.config.instance,
            replid: self.replid,
            offset: self.backlog.end_offset(),
            reigns: reigns.collect(),
            joins: self.membership.members().iter().flat_map(joins).collect(),
            forgotten: self
                .membership
                .all_forgotten()
                .map(|(i, f)| (i, f.clone()))
                .map(SnapshotForgotten::from)
                .collect(),
            frozen: self.membership.frozen().to_vec(),
            taken: self.told_taken(),
        }
    }

    /// What is kept in mind, as much of it as a head may tell: one piece of the stream, copied on the main thread. Of the rest the target judges by what
    /// the snapshot shows.
    fn told_taken(&self) -> Vec<TakenUp> {
        const BYTES_MAX: usize = 4 << 20;
        let mut bytes = 0;
        let is_told = |taken: &&TakenUp| {
            let fits = bytes + taken.bytes() <= BYTES_MAX;
            bytes += if fits { taken.bytes() } else { 0 };
            fits
        };
        self.taken.iter().filter(is_told).cloned().collect()
    }

    fn context_change(&self, origin: Origin) -> Vec<u8> {
        let mut out = Vec::new();
        let entries = self.streams.get(origin.index()).map_or(&[][..], |s| s.context.entries());
        StreamContext::new().encode_change(entries.iter().copied(), &mut out);
        out
    }

    /// The complete state of a key, with dots of this shard's reigns.
    pub fn snapshot_key<K: Keyspace>(&mut self, key: KeyRef<'_>, keyspace: &mut K) -> KeyMeta {
        self.merge(keyspace).exposed(key)
    }

    /// Appends the complete state of a key that a server shows without a look-up, and of which the table has this entry. False, and nothing is appended,
    /// where the metadata may have to say more: [`Shard::encode_snapshot_key`].
    pub fn encode_shown_key<K: Keyspace>(
        &mut self,
        out: &mut Vec<u8>,
        key: KeyRef<'_>,
        known: Option<KeyId>,
        shown: &mut impl AtRest,
        keyspace: &mut K,
    ) -> bool {
        match known {
            None => rest::encode_shown(out, key, &KeyMeta::default(), shown),
            Some(id) => rest::encode_shown(out, key, self.table(keyspace).meta(id), shown),
        }
    }

    /// Appends the complete state of a key, as [`Shard::snapshot_key`] gives it. Whether there is anything to say of it.
    pub fn encode_snapshot_key<K: Keyspace>(&mut self, out: &mut Vec<u8>, key: KeyRef<'_>, keyspace: &mut K) -> bool {
        let table = self.table(keyspace);
        let is_encoded = match table.find(key.db, key.name) {
            None => rest::encode(out, key, keyspace),
            Some(id) => rest::encode_known(out, key, table.meta(id), keyspace),
        };
        if is_encoded {
            return true;
        }
        let state = self.snapshot_key(key, keyspace);
        if !state.is_empty() {
            key::encode(out, key.db, key.name, &state);
        }
        !state.is_empty()
    }
}
