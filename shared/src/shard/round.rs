//! What one snapshot has brought to a full sync, key by key.

use std::hash::Hasher as _;

use hashbrown::HashSet;
use siphasher::sip::SipHasher13;

use crate::clock::VectorClock;
use crate::merge::KeyRef;
use crate::snapshot::SnapshotHead;

/// What one snapshot has brought so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Round {
    pub(super) clock: VectorClock,
    pub(super) stable: VectorClock,
    /// Hashes of the keys that were merged.
    pub(super) merged: HashSet<u64, foldhash::fast::RandomState>,
    /// Of the hashes: they are saved, so they must be the same in any process. Never zero.
    pub(super) key: u64,
}

impl Round {
    /// The key of the hashes of a snapshot's names.
    pub(super) fn key_of(head: &SnapshotHead) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = *head.replid.as_bytes();
        (u64::from_le_bytes([a, b, c, d, e, f, g, h]) ^ head.offset) | 1
    }

    pub(super) fn hash(&self, key: KeyRef<'_>) -> u64 {
        Self::hash_with(self.key, key)
    }

    pub(super) fn hash_with(hash_key: u64, key: KeyRef<'_>) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(hash_key, 0);
        hasher.write(&key.db.to_le_bytes());
        hasher.write(key.name);
        hasher.finish()
    }

    pub(super) fn has(&self, key: KeyRef<'_>) -> bool {
        self.merged.contains(&self.hash(key))
    }
}
