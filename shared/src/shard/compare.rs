//! Full sync by merge, while its snapshot is still being copied: which of its keys are the same here is found out meanwhile.
//!
//! Nothing changes. A key that is at rest on both sides and has the same bytes needs no merge, whatever the clocks say, as long as nobody writes to it. What
//! was written since is in the backlog (I-1). So the merge, which comes when the whole snapshot is here, passes over what is known to be the same and was
//! not touched, without a look at the dataset. It is known to this process alone: after anything else all keys are merged as they come.

use hashbrown::HashSet;

use super::Shard;
use super::round::Round;
use super::sync::SyncError;
use crate::effect::Op;
use crate::group;
use crate::keyspace::Keyspace;
use crate::merge::KeyRef;
use crate::snapshot::{SnapshotHead, SnapshotKey, key, rest};
use crate::wire::Reader;

/// What is known of a snapshot that is being copied.
#[derive(Clone, Debug)]
pub(super) struct Compared {
    head: SnapshotHead,
    /// Of the hashes, as in its [`Round`].
    key: u64,
    /// About so many keys will come.
    keys_total: usize,
    /// Of each key so far, in the order of the snapshot: a part of its hash if it is the same here, else 0.
    prints: Vec<u32>,
    /// Hashes of what was written since the beginning.
    touched: HashSet<u64, foldhash::fast::RandomState>,
    /// The offset up to which the backlog was looked through for that.
    looked: u64,
    /// How many keys have come to the merge.
    merged: usize,
    /// A key as it is here.
    here: Vec<u8>,
}

/// More keys are not remembered ahead.
const KEYS_MAX: usize = 64 << 20;
/// Room is made for so many at once.
const ROOM_KEYS: usize = 4 << 20;
/// When as many were written it is not worth it any more.
const TOUCHED_MAX: usize = 256 << 10;
/// What was written between the last look and the merge is looked through at once.
const AHEAD_BYTES_MAX: u64 = 1 << 20;

impl Compared {
    fn print(hash: u64) -> u32 {
        (hash >> 32) as u32 | 1
    }

    /// Whether the next key to be merged, of this hash, was found to be the same here, and is untouched.
    fn passes(&mut self, hash: u64) -> bool {
        let print = self.prints.get(self.merged).copied().unwrap_or_default();
        self.merged += 1;
        print != 0 && print == Self::print(hash) && !self.touched.contains(&hash)
    }
}

impl Shard {
    /// A snapshot that begins so is about to be copied, with about so many keys.
    pub fn begin_compare(&mut self, head: SnapshotHead, keys_total: u64) {
        let keys_total = usize::try_from(keys_total).unwrap_or(KEYS_MAX);
        self.compared = Some(Box::new(Compared {
            key: Round::key_of(&head),
            head,
            keys_total,
            prints: Vec::new(),
            touched: HashSet::default(),
            looked: self.backlog.end_offset(),
            merged: 0,
            here: Vec::new(),
        }));
    }

    /// Whoever copied it is gone.
    pub fn end_compare(&mut self) {
        self.compared = None;
    }

    /// Compares keys off the front of `keys`, which come in the order of the snapshot, as long as `lasts` says. Returns how many bytes that took: none, if
    /// there was something else to be done first.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub fn compare_keys<K: Keyspace>(
        &mut self,
        keys: &[u8],
        keyspace: &mut K,
        lasts: &mut dyn FnMut() -> bool,
    ) -> Result<usize, SyncError> {
        self.check_takes_sync()?;
        while self.metadata.waiting() > 0 {
            if !lasts() {
                return Ok(0);
            }
            self.take_in_some(keyspace);
        }
        let Some(mut compared) = self.compared.take() else { return Ok(keys.len()) };
        if !self.look_behind(&mut compared, lasts) {
            return Ok(keys.len());
        }
        if compared.prints.is_empty() {
            compared.prints.reserve(compared.keys_total.min(ROOM_KEYS));
        }
        let mut reader = Reader::new(keys);
        while !reader.is_empty() && lasts() {
            let name = self.peek_key(&reader)?;
            let mut here = reader;
            let is_at_rest = rest::skip_any(&mut reader);
            if is_at_rest.is_none() {
                SnapshotKey::decode(&mut reader)?;
            }
            let is_same =
                is_at_rest == Some(true) && self.is_same_at_rest(&mut here, name, &mut compared.here, keyspace);
            let hash = Round::hash_with(compared.key, name);
            compared.prints.push(if is_same { Compared::print(hash) } else { 0 });
        }
        let is_worth_it = compared.prints.len() <= KEYS_MAX;
        self.compared = is_worth_it.then_some(compared);
        Ok(keys.len() - reader.rest().len())
    }

    /// Whether the key at the front of a snapshot that is merged, of this hash, was found to be the same, and still is.
    pub(super) fn passes_compared(&mut self, key: KeyRef<'_>, hash: u64) -> bool {
        let passes = self.compared.as_mut().is_some_and(|compared| compared.passes(hash));
        passes && !self.is_changed(key.db, key.name)
    }

    /// A merge goes on: what was written meanwhile is touched. It is no use without that, or for another snapshot.
    pub(super) fn catch_up_compared(&mut self) {
        let Some(mut compared) = self.compared.take() else { return };
        let is_it = self.syncing_head() == Some(&compared.head);
        let is_near = self.backlog.end_offset().saturating_sub(compared.looked) <= AHEAD_BYTES_MAX;
        if is_it && is_near && self.look_behind(&mut compared, &mut || true) {
            self.compared = Some(compared);
        }
    }

    /// Looks for what was written. False: it cannot be told, or is too much.
    fn look_behind(&self, compared: &mut Compared, lasts: &mut dyn FnMut() -> bool) -> bool {
        if compared.looked == self.backlog.end_offset() {
            return true;
        }
        if self.backlog.holds(compared.looked).is_err() {
            return false;
        }
        for (group, end) in self.groups_from(compared.looked) {
            for effect in group::effects(group.body) {
                if matches!(effect.op, Op::Flush { .. }) {
                    return false;
                }
                let hash = Round::hash_with(compared.key, KeyRef { db: effect.db, name: effect.key });
                compared.touched.insert(hash);
            }
            compared.looked = end;
            if !lasts() {
                break;
            }
        }
        compared.touched.len() <= TOUCHED_MAX
    }

    /// Whether the key at the front is the same here and neither side knows a dot of it; it is read then. Where the elements are in another order it
    /// is not.
    pub(super) fn is_same_at_rest<K: Keyspace>(
        &mut self,
        reader: &mut Reader<'_>,
        key: KeyRef<'_>,
        here: &mut Vec<u8>,
        keyspace: &mut K,
    ) -> bool {
        /// A longer buffer is given back.
        const KEEP_BYTES: usize = 64 << 10;
        if self.table(keyspace).find(key.db, key.name).is_some() {
            return false;
        }
        here.clear();
        here.shrink_to(KEEP_BYTES);
        rest::encode(here, key, keyspace) && reader.skip_if(here)
    }

    /// Which key is at the front of a snapshot, if it can be here.
    pub(super) fn peek_key<'a>(&self, reader: &Reader<'a>) -> Result<KeyRef<'a>, SyncError> {
        let name = key::peek(reader)?;
        if name.db >= self.config.databases && name.db != crate::effect::FUNCTIONS_DB {
            return Err(SyncError::Database { db: name.db, databases: self.config.databases });
        }
        Ok(name)
    }
}
