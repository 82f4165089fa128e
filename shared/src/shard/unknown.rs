//! Values that the server cannot read are kept; when it has come to know their type, as by a module that was loaded, they show.

use super::Shard;
use crate::keyspace::Keyspace;
use crate::merge::KeyRef;

impl Shard {
    /// Tries to write again whatever the server could not read. Live dots, clock and log stay as they are: it is for each server to do. Returns how many values show now. A walk over all metadata, if there ever was such a value.
    pub fn show_unknown<K: Keyspace>(&mut self, keyspace: &mut K) -> usize {
        if !self.metadata.before_tail().may_keep_unknown() || self.is_syncing() {
            return 0;
        }
        let kept = self.table(keyspace).iter().filter(|(_, _, meta)| meta.keeps_unknown());
        let kept: Vec<(u32, Vec<u8>)> = kept.map(|(db, name, _)| (db, name.to_vec())).collect();
        for (db, name) in &kept {
            self.merge(keyspace).show_again(KeyRef { db: *db, name });
        }
        keyspace.finish();
        kept.len().saturating_sub(self.metadata.before_tail().unknown())
    }
}
