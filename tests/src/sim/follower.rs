//! A replica of an instance, which follows its replication stream, and what is saved of a shard.

use bytes::Bytes;
use syncer_shared::backlog::Backlog;
use syncer_shared::instance::InstanceSet;
use syncer_shared::memory::MemoryKeyspace;
use syncer_shared::replid::ReplId;
use syncer_shared::shard::{Restorer, Shard, ShardConfig, Start};
use syncer_shared::wire::Reader;

use super::Check;

/// An entry of the replication stream: what `MULTI, write, SYNCER.LOG, EXEC` brings to a replica.
#[derive(Clone)]
pub struct Logged {
    /// The dataset after the write itself, before the merge had its say.
    pub written: Option<MemoryKeyspace>,
    /// What the shard has logged of it.
    pub record: Vec<u8>,
}

/// A replica: as old as the last look at it.
pub struct Follower {
    /// The code under test.
    pub shard: Shard,
    /// Its dataset.
    pub keyspace: MemoryKeyspace,
    /// How many entries of the stream it has.
    len: usize,
}

impl Follower {
    /// One that has nothing yet.
    #[must_use]
    pub fn new(config: &ShardConfig, replid: ReplId, now_ms: u64) -> Self {
        let shard = Shard::new(config.clone(), replid, Start::Replica, now_ms);
        Self { shard, keyspace: MemoryKeyspace::default(), len: 0 }
    }

    /// It follows the stream to its end, and is restarted after `saved` entries, or now if it has these.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn follow(&mut self, stream: &[Logged], config: &ShardConfig, saved: usize) -> Check {
        let saved = saved.max(self.len);
        for (at, logged) in stream.iter().enumerate().skip(self.len) {
            if at == saved {
                self.shard = restored(&self.shard, config)?;
            }
            if let Some(written) = &logged.written {
                self.keyspace.clone_from(written);
            }
            let replayed = self.shard.replay(&logged.record, &mut self.keyspace);
            replayed.map_err(|error| format!("I-12: replay: {error}"))?;
            if self.shard.has_records() {
                return Err(format!("a replica of {} has something to tell its own", config.instance));
            }
        }
        self.len = stream.len();
        Ok(())
    }
}

/// What was saved, and read again.
///
/// # Errors
/// It is another state, or is refused.
pub fn restored(shard: &Shard, config: &ShardConfig) -> Result<Shard, String> {
    let mut restorer = Restorer::new(config.clone());
    let (mut bytes, mut result) = (Vec::new(), Ok(()));
    shard.save(&mut |piece| {
        bytes.extend_from_slice(piece);
        if result.is_ok() {
            result = restorer.push(piece);
        }
    });
    let restored = result.and_then(|()| restorer.finish());
    let restored = restored.map_err(|error| format!("a saved state is refused: {error}"))?;
    let mut again = Vec::new();
    restored.save(&mut |piece| again.extend_from_slice(piece));
    let (before, after) = (items(&bytes)?, items(&again)?);
    if before == after {
        return Ok(restored);
    }
    let differing =
        before.iter().filter(|item| !after.contains(item)).chain(after.iter().filter(|i| !before.contains(i)));
    let tags: Vec<Option<&u8>> = differing.map(|item| item.first()).collect();
    Err(format!("a restored state is another one, in items of the tags {tags:?}"))
}

/// The items of a saved state, in an order that does not depend on hash tables.
fn items(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    /// Bytes of the backlog, cut anywhere.
    const FRAMES: u8 = 17;
    /// Has the checksum of the others.
    const END: u8 = 127;
    let mut frames = vec![FRAMES];
    let (mut reader, mut items) = (Reader::new(bytes), Vec::new());
    while !reader.is_empty() {
        let tag = reader.u8("item").map_err(|error| error.to_string())?;
        let body = reader.prefixed(usize::MAX, "item").map_err(|error| error.to_string())?;
        match tag {
            FRAMES => frames.extend_from_slice(body),
            END => {}
            _ => items.push([&[tag], body].concat()),
        }
    }
    items.push(frames);
    items.sort();
    Ok(items)
}

/// All bytes of a backlog.
#[must_use]
pub fn log_bytes(backlog: &mut Backlog) -> Option<Bytes> {
    let first = backlog.first_offset();
    backlog.read(first, usize::MAX, InstanceSet::ALL).ok().map(|chunk| chunk.assemble())
}
