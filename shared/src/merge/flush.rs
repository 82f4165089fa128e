//! `Flush`: what its author had not seen stays (G3).

use super::whole::remove_seen;
use super::{KeyRef, Merge};
use crate::dot::Seen;
use crate::effect::{FUNCTIONS_DB, FlushScope};
use crate::keyspace::Keyspace;
use crate::metadata::KeyMeta;

impl FlushScope {
    /// Whether a database is emptied.
    #[must_use]
    pub const fn includes(self, db: u32) -> bool {
        match self {
            FlushScope::All => db != FUNCTIONS_DB,
            FlushScope::Db(flushed) => flushed == db,
        }
    }
}

impl<K: Keyspace> Merge<'_, K> {
    /// Sets the keys with unseen dots aside (only keys with metadata can have them), flushes, puts them back.
    pub(super) fn remote_flush(&mut self, scope: FlushScope, seen: &Seen<'_>) {
        let unseen = |meta: &KeyMeta| {
            meta.ttl.dots.iter().any(|t| !seen.has(&t.dot)) || meta.kinds.iter().any(|k| k.paths.may_survive(seen))
        };
        let names: Vec<(u32, Box<[u8]>)> = self
            .table
            .iter()
            .filter(|(db, _, meta)| scope.includes(*db) && unseen(meta))
            .map(|(db, name, _)| (db, name.into()))
            .collect();
        *self.conflicts += names.len() as u64;
        let kept: Vec<_> = names.into_iter().map(|(db, name)| (db, self.keep_unseen(db, &name, seen), name)).collect();
        self.table.drain(|db| scope.includes(db));
        self.keyspace.flush(scope);
        for (db, meta, name) in kept {
            let key = KeyRef { db, name: &name };
            self.queue_again(key, &meta);
            self.restore(key, meta);
        }
    }

    fn keep_unseen(&mut self, db: u32, name: &[u8], seen: &Seen<'_>) -> KeyMeta {
        let key = KeyRef { db, name };
        let mut meta = self.take_exposed(key, |_, path| path.survives(seen));
        for kind in &mut meta.kinds {
            remove_seen(kind, seen);
        }
        meta.ttl.remove_seen(seen);
        meta.drop_empty();
        meta
    }

    /// The table forgot the key's place in the pruning queues.
    fn queue_again(&mut self, key: KeyRef<'_>, meta: &KeyMeta) {
        meta.dots().for_each(|dot| self.queue(key, &dot));
    }
}
