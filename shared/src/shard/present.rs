//! The end of a full sync by merge: which keys here the snapshot does not have.
//!
//! To look for them is a walk over the whole dataset, and mostly there are none. Each key that was merged is counted if it is in the dataset then; what
//! clients wrote since is in the backlog. So if there are as many keys as that makes, all others were merged.

use hashbrown::HashSet;

use super::Shard;
use crate::effect::{FUNCTIONS_DB, Op};
use crate::group;
use crate::keyspace::Keyspace;
use crate::merge::KeyRef;

/// Keys of a snapshot that the dataset has.
#[derive(Clone, Debug)]
pub(super) struct Present {
    /// How many were there when they were merged.
    keys: u64,
    /// Hashes of those that were not.
    hidden: HashSet<u64, foldhash::fast::RandomState>,
    /// Where the backlog ended at the beginning.
    from: u64,
}

/// When more keys were written, the walk is made.
const WRITTEN_MAX: usize = 256;
/// So is it when more bytes were logged: they are looked through at once.
const LOGGED_BYTES_MAX: u64 = 1 << 20;

impl Present {
    /// None was merged so far; the backlog ends at `from`.
    pub(super) fn new(from: u64) -> Self {
        Self { keys: 0, hidden: HashSet::default(), from }
    }

    /// A key was merged that had not been before.
    pub(super) fn merged(&mut self, db: u32, hash: u64, is_here: bool) {
        // The servers' figures know nothing of functions.
        self.keys += u64::from(is_here && db != FUNCTIONS_DB);
        if !is_here {
            self.hidden.insert(hash);
        }
    }
}

impl Shard {
    /// All keys that the dataset may have and the snapshot that is being merged lacks; `None`: it cannot be told without a look at every key. `keys` is
    /// how many the dataset has. Not of functions.
    pub fn may_be_absent<K: Keyspace>(&self, keys: u64, keyspace: &mut K) -> Option<Vec<(u32, Vec<u8>)>> {
        let syncing = self.syncing.as_ref()?;
        let Present { keys: merged, hidden, from } = syncing.present.as_ref()?;
        self.backlog.holds(*from).ok()?;
        if self.backlog.end_offset().saturating_sub(*from) > LOGGED_BYTES_MAX {
            return None;
        }
        let mut written: HashSet<(u32, &[u8]), foldhash::fast::RandomState> = HashSet::default();
        for effect in self.groups_from(*from).flat_map(|(group, _)| group::effects(group.body)) {
            match effect.op {
                Op::Flush { .. } => return None,
                Op::Reign | Op::Join { .. } | Op::Forget { .. } | Op::Again { .. } | Op::Publish { .. } => {}
                _ if effect.db == FUNCTIONS_DB => {}
                _ => drop(written.insert((effect.db, effect.key))),
            }
            if written.len() > WRITTEN_MAX {
                return None;
            }
        }
        let (mut gone, mut come) = (0, 0);
        for &(db, name) in &written {
            let hash = syncing.round.hash(KeyRef { db, name });
            gone += u64::from(syncing.round.merged.contains(&hash) && !hidden.contains(&hash));
            come += u64::from(keyspace.kind(db, name).is_some());
        }
        let is_unmerged = |&&(db, name): &&(u32, &[u8])| !syncing.round.has(KeyRef { db, name });
        let absent = written.iter().filter(is_unmerged).map(|(db, name)| (*db, name.to_vec()));
        ((merged + come).checked_sub(gone) == Some(keys)).then(|| absent.collect())
    }
}
