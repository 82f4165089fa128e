//! Replicas and the AOF: the same records in the same order make the same state (I-12).

use super::author::has_passed;
use super::commit::correct_registers;
use super::join::Joining;
use super::{Shard, Start, SyncError};
use crate::dot::{Dot, Seen};
use crate::effect::{ClearReason, Effect};
use crate::group::{self, GroupView};
use crate::keyspace::Keyspace;
use crate::merge::KeyRef;
use crate::merge::registers;
use crate::origin::{Origin, OriginError};
use crate::record::{Before, Record};
use crate::replid::ReplId;
use crate::snapshot::{SnapshotKey, key};
use crate::timestamp::Timestamp;
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
    /// A group is missing before this one: the state is not the one that the record was made for.
    #[error("SYNCERGAP a record of {replid} follows {prev}, but {have} is the last one here")]
    Gap {
        /// Whose group.
        replid: ReplId,
        /// What it follows.
        prev: Timestamp,
        /// What is here.
        have: Timestamp,
    },
    /// A step of a full sync does not fit.
    #[error("{0}")]
    Sync(#[from] SyncError),
}

impl Shard {
    /// Repeats what the primary did. The native part of captured groups came as the commands themselves. A group that is known is
    /// passed over: a state may have been saved with a record that was still to be sent.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub fn replay<K: Keyspace>(&mut self, record: &[u8], keyspace: &mut K) -> Result<(), ReplayError> {
        match Record::parse(record)? {
            Record::Captured { frame, before } => {
                let (group, _) = GroupView::parse(frame)?;
                if self.is_known(&group)? {
                    return Ok(());
                }
                let origin = self.follow(&group)?;
                self.follow_captured(group.body, Dot { ts: group.ts, index: 0, origin });
                self.changed.clear();
                self.has_written = true;
                let waits = before.is_empty() && !group.urgent && self.has_room(group.frame.len());
                let raises = group::effects(group.body).any(|effect| registers::raises(&effect));
                if waits && (!raises || self.only_raises(group.body)) {
                    self.log_followed(&group, origin);
                    self.defer(group.frame.len(), origin, group.ts, keyspace);
                    if raises {
                        correct_registers(group.body, keyspace);
                    }
                } else {
                    self.take_in_tail(keyspace);
                    self.absorb_captured(group.body, &before, group.ts, origin, keyspace);
                    self.log_followed(&group, origin);
                }
            }
            Record::Authored { frame } => {
                let (group, _) = GroupView::parse(frame)?;
                if !self.is_known(&group)? {
                    self.follow_authored(&group, keyspace)?;
                }
            }
            Record::Decided { frame: None } => drop(self.extract_settled()),
            Record::Decided { frame: Some(frame) } => {
                let (group, _) = GroupView::parse(frame)?;
                if !self.is_known(&group)? {
                    drop(self.extract_settled());
                    self.follow_authored(&group, keyspace)?;
                }
            }
            Record::Applied { peer, replid, offset, frames } => {
                let mut rest = frames;
                while !rest.is_empty() {
                    let (group, tail) = GroupView::parse(rest)?;
                    rest = tail;
                    if self.is_known(&group)? {
                        continue;
                    }
                    let origin = self.intern(group.replid, group.instance)?;
                    self.update_stream(&group, origin);
                    self.merge_group(&group, origin, keyspace);
                }
                self.peers.entry(peer).or_default().position = Some((replid, offset));
            }
            Record::Stable { clock } => {
                let stable = self.known_clock(&clock);
                self.stability.set_stable(&stable);
                self.forget_dropped();
            }
            Record::Dropped { at_ms, frame } => {
                let group = frame.map(GroupView::parse).transpose()?.map(|(group, _)| group);
                if let Some(group) = &group
                    && self.is_known(group)?
                {
                    return Ok(());
                }
                self.follow_drop(at_ms, group.as_ref().map_or(&[], |group| group.body), keyspace);
                if let Some(group) = group {
                    self.follow_dropped(&group, at_ms, keyspace)?;
                }
            }
            Record::SyncBegins { head } => self.follow_sync(head)?,
            Record::SyncKeys { keys } => {
                let mut reader = Reader::new(keys);
                while !reader.is_empty() {
                    let key = key::peek(&reader)?;
                    let hash = self.syncing.as_ref().map_or(0, |syncing| syncing.round.hash(key));
                    if self.pass_over_same(&mut reader, key, hash, keyspace) {
                        continue;
                    }
                    let SnapshotKey { db, name, state } = SnapshotKey::decode(&mut reader)?;
                    self.follow_sync_key(KeyRef { db, name }, state, keyspace)?;
                }
            }
            Record::SyncEnds => self.follow_sync_end()?,
            Record::Founded { start, frame } => self.follow_founder(start, frame)?,
            Record::Settled { instance } => self.settle(instance),
            Record::Joins { mine_wins, via, renewals, frame } => {
                let (group, _) = GroupView::parse(frame)?;
                if self.origins.find(&group.replid).is_some_and(|origin| self.clock.has(origin, group.ts)) {
                    return Ok(());
                }
                let renewals = renewals.into_iter().map(<[u8]>::to_vec).collect();
                self.follow_join(Joining { via, mine_wins, renewals }, keyspace);
                let origin = self.follow(&group)?;
                for (index, effect) in (0_u32..).zip(group::effects(group.body)) {
                    let dot = Dot { ts: group.ts, index, origin };
                    self.control_effect(&effect, dot, &Seen::Everything);
                }
                self.log_followed(&group, origin);
            }
            Record::Changed { db, key } => {
                if !self.is_changed(db, key) {
                    self.changed.push((db, key.into()));
                }
            }
            Record::Renewed => self.follow_renewal(),
            Record::Position { peer, replid, offset } => {
                self.peers.entry(peer).or_default().position = Some((replid, offset));
            }
        }
        keyspace.finish();
        Ok(())
    }

    /// A group that the primary authored by itself.
    fn follow_authored<K: Keyspace>(&mut self, group: &GroupView<'_>, keyspace: &mut K) -> Result<(), ReplayError> {
        let origin = self.follow(group)?;
        self.take_in_tail(keyspace);
        self.apply_authored(group.body, group.ts, origin, keyspace);
        self.log_followed(group, origin);
        Ok(())
    }

    /// The expiry of keys that the primary has dropped.
    fn follow_dropped<K: Keyspace>(
        &mut self,
        group: &GroupView<'_>,
        at_ms: u64,
        keyspace: &mut K,
    ) -> Result<(), ReplayError> {
        let origin = self.follow(group)?;
        self.follow_captured(group.body, Dot { ts: group.ts, index: 0, origin });
        self.has_written = true;
        self.take_in_tail(keyspace);
        for Effect { db, key, .. } in group::effects(group.body) {
            // Not what was written since: the first write may come before this record.
            if has_passed(keyspace.expire_at(db, key), at_ms) {
                keyspace.delete(db, key, ClearReason::Expired);
            }
        }
        self.absorb_captured(group.body, &Before::new(), group.ts, origin, keyspace);
        self.log_followed(group, origin);
        Ok(())
    }

    /// Whether a group is here already; an error when one before it is not (I-2).
    pub(super) fn is_known(&self, group: &GroupView<'_>) -> Result<bool, ReplayError> {
        let have = self.origins.find(&group.replid).map(|origin| self.clock.get(origin)).unwrap_or_default();
        if group.ts <= have {
            return Ok(true);
        }
        if group.prev == have {
            Ok(false)
        } else {
            Err(ReplayError::Gap { replid: group.replid, prev: group.prev, have })
        }
    }

    /// The primary has begun from nothing.
    fn follow_founder(&mut self, start: Start, frame: &[u8]) -> Result<(), ReplayError> {
        let (group, _) = GroupView::parse(frame)?;
        if self.origins.find(&group.replid).is_some_and(|origin| self.clock.has(origin, group.ts)) {
            return Ok(());
        }
        *self = Self::new(self.config.clone(), group.replid, Start::Replica, 0);
        self.start = start;
        let origin = self.follow(&group)?;
        for (index, effect) in (0_u32..).zip(group::effects(group.body)) {
            self.control_effect(&effect, Dot { ts: group.ts, index, origin }, &crate::dot::Seen::Everything);
        }
        self.log_followed(&group, origin);
        self.forget_if_seeded();
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
