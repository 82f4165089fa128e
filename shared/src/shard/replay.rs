//! Replicas and the AOF: the same records in the same order make the same state (I-12).

use super::{Shard, SyncError};
use crate::dot::Dot;
use crate::group::{self, GroupView};
use crate::keyspace::Keyspace;
use crate::merge::KeyRef;
use crate::origin::{Origin, OriginError};
use crate::record::Record;
use crate::snapshot::SnapshotKey;
use crate::wire::{Reader, WireError};

/// Why a record was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The record or a frame in it is broken.
    #[error("SYNCERFRAME {0}")]
    Frame(#[from] WireError),
    /// A replication ID has two owners.
    #[error("SYNCERID {0}")]
    Identity(#[from] OriginError),
    /// A step of a full sync does not fit.
    #[error("{0}")]
    Sync(#[from] SyncError),
}

impl Shard {
    /// Repeats what the primary did. The native part of captured groups came as the commands themselves.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub fn replay<K: Keyspace>(&mut self, record: &[u8], keyspace: &mut K) -> Result<(), ReplayError> {
        match Record::parse(record)? {
            Record::Captured { frame, before } => {
                let (group, _) = GroupView::parse(frame)?;
                let origin = self.follow(&group)?;
                self.absorb_captured(group.body, &before, group.ts, origin, keyspace);
                self.log_followed(&group, origin);
            }
            Record::Authored { frame } => {
                let (group, _) = GroupView::parse(frame)?;
                let origin = self.follow(&group)?;
                for (index, effect) in (0_u32..).zip(group::effects(group.body)) {
                    let dot = Dot { ts: group.ts, index, origin };
                    self.merge(keyspace).remote(&effect, dot, &crate::dot::Seen::Everything);
                    self.control_effect(&effect, dot, &crate::dot::Seen::Everything);
                }
                self.log_followed(&group, origin);
            }
            Record::Applied { peer, replid, offset, frames } => {
                let mut rest = frames;
                while !rest.is_empty() {
                    let (group, tail) = GroupView::parse(rest)?;
                    let origin = self.intern(group.replid, group.instance)?;
                    self.update_stream(&group, origin);
                    self.merge_group(&group, origin, keyspace);
                    rest = tail;
                }
                self.peers.entry(peer).or_default().position = Some((replid, offset));
            }
            Record::Stable { clock } => {
                let stable = self.known_clock(&clock);
                self.stability.set_stable(&stable);
            }
            Record::SyncBegins { head } => self.follow_sync(head)?,
            Record::SyncKeys { keys } => {
                let mut reader = Reader::new(keys);
                while !reader.is_empty() {
                    let SnapshotKey { db, name, state } = SnapshotKey::decode(&mut reader)?;
                    self.follow_sync_key(KeyRef { db, name }, state, keyspace)?;
                }
            }
            Record::SyncEnds => self.follow_sync_end()?,
            Record::Position { peer, replid, offset } => {
                self.peers.entry(peer).or_default().position = Some((replid, offset));
            }
        }
        keyspace.finish();
        Ok(())
    }

    /// A group of the primary that this replica follows.
    fn follow(&mut self, group: &GroupView<'_>) -> Result<Origin, ReplayError> {
        let origin = self.intern(group.replid, group.instance)?;
        if self.replid != group.replid {
            self.end_reign();
            self.replid = group.replid;
        }
        self.update_stream(group, origin);
        Ok(origin)
    }

    fn log_followed(&mut self, group: &GroupView<'_>, origin: Origin) {
        self.clock.set(origin, group.ts);
        self.hlc.observe(group.ts);
        self.backlog.append(group.frame, origin, group.instance, group.ts);
        self.prune_some();
    }
}
