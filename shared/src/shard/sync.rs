//! Full sync by merge (DESIGN 5): a snapshot of another instance comes in, key by key, while both go on writing.
//!
//! Until its end the clock here says nothing of it: local writes count what it brought as unseen, and no effects of others are
//! applied. At the end the clock, S and all the rest rise at once.

use std::borrow::Cow;

use hashbrown::HashSet;

use super::kept::Kept;
use super::present::Present;
use super::round::Round;
use super::{ForgottenError, Shard, WritesRefused, stream::Stream};
use crate::clock::VectorClock;
use crate::context::StreamContext;
use crate::instance::InstanceId;
use crate::keyspace::Keyspace;
use crate::merge::{KeyRef, Meeting, Side};
use crate::metadata::KeyMeta;
use crate::origin::{Origin, OriginError};
use crate::record::Record;
use crate::replid::ReplId;
use crate::snapshot::{SnapshotHead, SnapshotKey, SnapshotReign, key, rest};
use crate::timestamp::Timestamp;
use crate::wire::{Reader, WireError};

/// Why a snapshot was refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyncError {
    /// This server is a replica.
    #[error("SYNCERROLE this server is a replica; merge into its primary")]
    Role,
    /// It is broken.
    #[error("SYNCERFRAME {0}")]
    Frame(#[from] WireError),
    /// A replication ID has two owners.
    #[error("SYNCERID {0}")]
    Identity(#[from] OriginError),
    /// The source's server has more databases.
    #[error(
        "SYNCERDATABASE a key of the snapshot is in database {db}, but this server has only {databases}; start it with the `databases` of the others"
    )]
    Database {
        /// Of the key.
        db: u32,
        /// How many there are here.
        databases: u32,
    },
    /// Keys without a beginning.
    #[error("SYNCERSYNC no full sync is going on; begin one first")]
    NotBegun,
    /// A broken-off sync can be ended only with what has all that it had begun with.
    #[error(
        "SYNCERSYNC a full sync was broken off that had more than instance {0} has; take it from the first source, or wait until {0} has caught up"
    )]
    Behind(InstanceId),
    /// Its source was forgotten (M4).
    #[error(transparent)]
    Forgotten(#[from] ForgottenError),
}

/// A full sync that goes on.
#[derive(Clone, Debug)]
pub(super) struct Syncing {
    pub(super) head: SnapshotHead,
    /// Reigns of the snapshot as origins here.
    pub(super) names: Vec<Origin>,
    /// What the source keeps in mind of what re-assertions have taken up.
    pub(super) told: Kept,
    pub(super) round: Round,
    /// Of syncs that broke off before it, oldest first.
    pub(super) earlier: Vec<Round>,
    /// A key as it is here.
    pub(super) here: Vec<u8>,
    /// `None`: it goes on with what was broken off.
    pub(super) present: Option<Present>,
    /// Room for the clock and S of this shard while a key is merged.
    pub(super) seen: (VectorClock, VectorClock),
}

impl Syncing {
    /// A key, and its hash, needs no merge any more; whether the dataset has it.
    fn merged(&mut self, key: KeyRef<'_>, hash: u64, is_here: bool) {
        if self.round.merged.insert(hash)
            && let Some(present) = &mut self.present
        {
            present.merged(key.db, hash, is_here);
        }
    }

    /// What the source of the last snapshot that has brought a key had seen.
    pub(super) fn brought(&self, key: KeyRef<'_>) -> Option<&VectorClock> {
        let mut rounds = std::iter::once(&self.round).chain(self.earlier.iter().rev());
        rounds.find(|round| round.has(key)).map(|round| &round.clock)
    }

    /// What this side has of a key, as a clock and S: also what an earlier snapshot brought, whose entries without a dot stand for
    /// what was stable there.
    pub(super) fn known<'a>(
        &self,
        key: KeyRef<'_>,
        clock: &'a VectorClock,
        stable: &'a VectorClock,
    ) -> (Cow<'a, VectorClock>, Cow<'a, VectorClock>) {
        let (mut clock, mut stable) = (Cow::Borrowed(clock), Cow::Borrowed(stable));
        if let Some(round) = self.earlier.iter().rev().find(|round| round.has(key)) {
            clock.to_mut().join(&round.clock);
            stable.to_mut().join(&round.stable);
        }
        (clock, stable)
    }
}

impl Shard {
    /// Whether a full sync goes on, or was broken off.
    #[must_use]
    pub fn is_syncing(&self) -> bool {
        self.syncing.is_some()
    }

    /// Whether clients may write: see [`Shard::check_writes`]. Not while a snapshot comes in of which this instance has not seen all that
    /// is stable: it came back from an old state, and what has no dot any more could not be told from what a write has seen (2.2 rule 5).
    /// Who is merely behind is spared here: its writes are regressed, which is safe, and what the simulation is to play.
    #[must_use]
    pub fn takes_writes(&self) -> bool {
        self.is_primary() && matches!(self.check_writes(), Ok(()) | Err(WritesRefused::CatchingUp(_)))
    }

    /// A later reign of this instance than the one that this server goes on with: it was replaced while it lived on. Its peers take
    /// nothing from it any more (rule 3), so what clients wrote here would be lost.
    #[must_use]
    pub fn superseded_by(&self) -> Option<ReplId> {
        let start = self.stability.start(self.me?)?;
        let mut reigns = self.stability.reigns(self.config.instance, &self.origins);
        reigns.find(|(_, begun)| *begun > start).map(|(origin, _)| self.origins.replid(origin))
    }

    /// The same, or whom its site's agent, which knows all of its servers, goes on with instead of this one, or whom all peers know by this instance's
    /// id, since this server came back without its state: what clients wrote here would reach nobody.
    #[must_use]
    pub fn replaced_by(&self) -> Option<ReplId> {
        self.superseded_by().or(self.told_replaced.map(|(by, _)| by))
    }

    /// The site's agent goes on with this reign of another server, or the peers do. It says so again and again: else it may be the other one that is gone.
    pub fn tell_replaced(&mut self, by: ReplId, now_ms: u64) {
        if self.is_primary() && by != self.replid {
            self.told_replaced = Some((by, now_ms));
        }
    }

    /// What the snapshot begins with that comes in, or of which only a part has come.
    #[must_use]
    pub fn syncing_head(&self) -> Option<&SnapshotHead> {
        self.syncing.as_ref().map(|syncing| &syncing.head)
    }

    /// A snapshot begins to come in. One that was broken off before is taken up by it: the same one where it ended, another one from its front.
    /// Returns whether it is the same.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub fn begin_sync(&mut self, head: SnapshotHead) -> Result<bool, SyncError> {
        self.check_takes_sync()?;
        if self.syncing_head() == Some(&head) {
            // Nothing changes: what has been merged is known. It comes from its front.
            self.compared = None;
            if let Some(syncing) = &mut self.syncing {
                syncing.present = None;
            }
            return Ok(true);
        }
        self.check_source(&head)?;
        let mut record = Vec::new();
        Record::sync_begins(&mut record, &head);
        self.follow_sync(head)?;
        self.records.push(record);
        Ok(false)
    }

    /// About so many keys come: room for what is remembered of each is made at once, instead of by and by, which stops everything for longer and longer.
    pub fn expect_keys(&mut self, keys: u64) {
        const KEYS_MAX: u64 = 4 << 20;
        if let Some(syncing) = &mut self.syncing {
            let more = (keys.min(KEYS_MAX) as usize).saturating_sub(syncing.round.merged.len());
            syncing.round.merged.reserve(more);
        }
    }

    /// Whether a snapshot that begins so would be taken now. Nothing changes: the rest of it may take long to come.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub fn check_sync(&self, head: &SnapshotHead) -> Result<(), SyncError> {
        self.check_takes_sync()?;
        if self.syncing_head() != Some(head) {
            self.check_source(head)?;
        }
        let begun = self.syncing.as_ref().map(|syncing| self.token(&syncing.round.clock));
        if begun.is_none_or(|begun| head.applied().covers(&begun)) {
            Ok(())
        } else {
            Err(SyncError::Behind(head.instance))
        }
    }

    /// M4: who has reported a `Forget` takes nothing more of whom it names, or others would have settled too early: its file may have been here before.
    fn check_source(&self, head: &SnapshotHead) -> Result<(), ForgottenError> {
        if head.instance == self.config.instance || !self.config.rules.forgotten_is_not_read {
            return Ok(());
        }
        self.check_forgotten(head.instance)
    }

    /// A primary that was demoted midway gets the rest from its primary, if at all: what another server has of the sync is not the same.
    pub(super) fn check_takes_sync(&self) -> Result<(), SyncError> {
        if self.is_primary() { Ok(()) } else { Err(SyncError::Role) }
    }

    /// The same on a replica.
    pub(super) fn follow_sync(&mut self, head: SnapshotHead) -> Result<(), SyncError> {
        let names: Result<Vec<Origin>, OriginError> =
            head.reigns.iter().map(|reign| self.intern(reign.replid, reign.instance)).collect();
        let names = names?;
        for reign in &head.reigns {
            StreamContext::new().check_change(&reign.context)?;
        }
        let forgets = head.forgotten.iter().flat_map(|f| f.forgotten.forgets.iter().map(|dot| dot.origin));
        let mut named = head.joins.iter().map(|(_, dot)| dot.origin).chain(forgets).chain(head.frozen.iter().copied());
        if named.any(|origin| origin.index() >= names.len()) {
            return Err(WireError::Invalid { what: "join of a snapshot" }.into());
        }
        let (mut clock, mut stable) = (VectorClock::default(), VectorClock::default());
        for (reign, origin) in head.reigns.iter().zip(&names) {
            clock.raise(*origin, reign.applied);
            stable.raise(*origin, reign.stable);
            // What is written from now on comes after what clients see of the snapshot (rule L4).
            self.hlc.observe(reign.applied);
        }
        let mut earlier = Vec::new();
        if let Some(begun) = self.syncing.take() {
            if !clock.covers(&begun.round.clock) {
                self.syncing = Some(begun);
                return Err(SyncError::Behind(head.instance));
            }
            earlier = begun.earlier;
            earlier.push(begun.round);
        }
        let round = Round { clock, stable, merged: HashSet::default(), key: Round::key_of(&head) };
        let present = Some(Present::new(self.backlog.end_offset()));
        let (here, seen) = Default::default();
        let told = Kept::told(&head, &names);
        self.syncing = Some(Box::new(Syncing { head, names, told, round, earlier, here, present, seen }));
        Ok(())
    }

    /// Merges keys off the front of `keys`, one after the other, as long as `lasts` says. Returns how many bytes that took. What has been merged
    /// of this snapshot is passed over: a snapshot that is taken up again comes from its front.
    ///
    /// # Errors
    /// See [`SyncError`]. What came before the broken key is merged.
    pub fn sync_keys<K: Keyspace>(
        &mut self,
        keys: &[u8],
        keyspace: &mut K,
        now_ms: u64,
        lasts: &mut dyn FnMut() -> bool,
    ) -> Result<usize, SyncError> {
        self.check_takes_sync()?;
        self.catch_up_compared();
        let mut reader = Reader::new(keys);
        let (mut from, mut used) = (0, 0);
        let result = loop {
            if reader.is_empty() || !lasts() {
                break Ok(());
            }
            let name = match self.peek_key(&reader) {
                Ok(name) => name,
                Err(error) => break Err(error),
            };
            // Once: it costs as much as all else that is done about a key that is the same.
            let Some(hash) = self.syncing.as_ref().map(|syncing| syncing.round.hash(name)) else {
                break Err(SyncError::NotBegun);
            };
            if self.passes_compared(name, hash) && rest::skip(&mut reader) {
                self.note_synced(name, hash);
                used = keys.len() - reader.rest().len();
                continue;
            }
            let has_synced = self.syncing.as_ref().is_some_and(|syncing| syncing.round.merged.contains(&hash));
            if !has_synced && self.pass_over_same(&mut reader, name, hash, keyspace) {
                used = keys.len() - reader.rest().len();
                continue;
            }
            let key = match SnapshotKey::decode(&mut reader) {
                Ok(key) => key,
                Err(error) => break Err(error.into()),
            };
            if has_synced {
                self.record_keys(&keys[from..used]);
                used = keys.len() - reader.rest().len();
                from = used;
                continue;
            }
            let is_unheard_of = self.is_unheard_of(name, &key.state, keyspace);
            let at_risk = self.endangered_by(&key.state, name, keyspace);
            if is_unheard_of || at_risk.is_some() {
                // In this order on replicas, too.
                self.record_keys(&keys[from..used]);
                from = used;
                self.author_expiry(is_unheard_of.then_some(name).into_iter(), keyspace, now_ms);
                self.reassert_at_risk(at_risk.as_slice(), keyspace, now_ms);
            }
            if let Err(error) = self.merge_key(name, hash, key.state, keyspace) {
                break Err(error);
            }
            used = keys.len() - reader.rest().len();
        };
        self.record_keys(&keys[from..used]);
        result.map(|()| used)
    }

    /// Passes over the key at the front if it is the same here and neither side knows a dot of it: merging it would change nothing, whatever
    /// the clocks say. Where the elements are in another order it is merged like any other. Whether it did.
    pub(super) fn pass_over_same<K: Keyspace>(
        &mut self,
        reader: &mut Reader<'_>,
        key: KeyRef<'_>,
        hash: u64,
        keyspace: &mut K,
    ) -> bool {
        let Some(syncing) = &mut self.syncing else { return false };
        if !rest::skip(&mut Reader::new(reader.rest())) {
            return false;
        }
        let mut here = std::mem::take(&mut syncing.here);
        let is_same = self.is_same_at_rest(reader, key, &mut here, keyspace);
        if let Some(syncing) = &mut self.syncing {
            syncing.here = here;
        }
        if is_same {
            self.note_synced(key, hash);
        }
        is_same
    }

    /// A key of the snapshot needs no merge any more.
    fn note_synced(&mut self, key: KeyRef<'_>, hash: u64) {
        if let Some(syncing) = &mut self.syncing {
            syncing.merged(key, hash, true);
        }
    }

    /// Whether a key of the snapshot has been merged.
    #[must_use]
    pub fn has_synced(&self, key: KeyRef<'_>) -> bool {
        self.syncing.as_ref().is_some_and(|syncing| syncing.round.has(key))
    }

    /// Merges a key that the snapshot does not have: an empty state.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub fn sync_absent<K: Keyspace>(
        &mut self,
        key: KeyRef<'_>,
        keyspace: &mut K,
        now_ms: u64,
    ) -> Result<(), SyncError> {
        self.check_takes_sync()?;
        self.expire_absent(key, keyspace, now_ms);
        if let Some(at_risk) = self.endangered_by(&KeyMeta::default(), key, keyspace) {
            self.reassert_at_risk(&[at_risk], keyspace, now_ms);
        }
        self.follow_sync_key(key, KeyMeta::default(), keyspace)?;
        let mut encoded = Vec::new();
        key::encode(&mut encoded, key.db, key.name, &KeyMeta::default());
        self.record_keys(&encoded);
        Ok(())
    }

    fn record_keys(&mut self, keys: &[u8]) {
        if !keys.is_empty() {
            let mut record = Vec::with_capacity(keys.len() + 2);
            Record::sync_keys(&mut record);
            record.extend_from_slice(keys);
            self.records.push(record);
        }
    }

    /// The same on a replica.
    pub(super) fn follow_sync_key<K: Keyspace>(
        &mut self,
        key: KeyRef<'_>,
        theirs: KeyMeta,
        keyspace: &mut K,
    ) -> Result<(), SyncError> {
        let hash = self.syncing.as_ref().ok_or(SyncError::NotBegun)?.round.hash(key);
        self.merge_key(key, hash, theirs, keyspace)
    }

    /// A key, and its hash, of the snapshot.
    fn merge_key<K: Keyspace>(
        &mut self,
        key: KeyRef<'_>,
        hash: u64,
        mut theirs: KeyMeta,
        keyspace: &mut K,
    ) -> Result<(), SyncError> {
        let mut syncing = self.syncing.take().ok_or(SyncError::NotBegun)?;
        let renamed = theirs.rename_origins(&syncing.names);
        if renamed.is_ok() {
            self.foresee_taken(key, &theirs, &syncing, keyspace);
            let (mut unseen_by, mut seen_stable) = std::mem::take(&mut syncing.seen);
            unseen_by.clone_from(&self.clock);
            seen_stable.clone_from(self.stability.stable());
            let (clock, stable) = syncing.known(key, &unseen_by, &seen_stable);
            let meeting = Meeting {
                source: Side { clock: &syncing.round.clock, stable: &syncing.round.stable },
                target: Side { clock: &clock, stable: &stable },
                rules: self.config.rules,
            };
            let mut merge = self.merge(keyspace);
            merge.syncing = Some(&unseen_by);
            merge.meet(key, theirs, &meeting);
            drop((clock, stable));
            let is_here = keyspace.kind(key.db, key.name).is_some();
            syncing.merged(key, hash, is_here);
            syncing.seen = (unseen_by, seen_stable);
        }
        self.syncing = Some(syncing);
        self.meet_taken(key, keyspace);
        renamed.map_err(|_| WireError::Invalid { what: "reign of a dot" }.into())
    }

    /// All keys of the snapshot, and all keys here, have been merged: everything else rises at once. Who reads the backlog here must
    /// shake hands again: what came with the snapshot is not in it.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub fn end_sync(&mut self) -> Result<(), SyncError> {
        self.check_takes_sync()?;
        self.follow_sync_end()?;
        let mut record = Vec::new();
        Record::sync_ends(&mut record);
        self.records.push(record);
        Ok(())
    }

    /// The same on a replica.
    pub(super) fn follow_sync_end(&mut self) -> Result<(), SyncError> {
        let syncing = self.syncing.take().ok_or(SyncError::NotBegun)?;
        self.meet_membership(&syncing);
        for (reign, origin) in syncing.head.reigns.iter().zip(&syncing.names) {
            if reign.start > Timestamp::ZERO && self.stability.start(*origin).is_none() {
                let had = reign.had.as_ref().map(|had| had.renamed(&syncing.names));
                self.stability.begin_reign(*origin, reign.start, had);
            }
            if self.clock.get(*origin) < reign.applied {
                if self.config.rules.sync_takes_contexts {
                    self.take_stream(*origin, reign);
                }
                self.advance_clock(*origin, reign.applied);
                self.backlog.raise_floor(*origin, reign.applied);
            }
        }
        if self.config.rules.sync_raises_stable {
            self.stability.set_stable(&syncing.round.stable);
        }
        let SnapshotHead { instance, replid, offset, .. } = syncing.head;
        let peer = self.peers.entry(instance).or_default();
        peer.position = Some((replid, offset));
        peer.end = peer.end.max(offset);
        self.counters.sync_full_in += 1;
        self.gap = Some(self.backlog.end_offset());
        Ok(())
    }

    fn take_stream(&mut self, origin: Origin, reign: &SnapshotReign) {
        let mut stream = Stream::default();
        if stream.context.apply_change(&reign.context).is_err() {
            return;
        }
        for i in 0..stream.context.entries().len() {
            let Some(&(replid, instance, ts)) = stream.context.entries().get(i) else { continue };
            if let Ok(known) = self.intern(replid, instance) {
                stream.origins.push(known);
                stream.clock.raise(known, ts);
            }
        }
        stream.clock.raise(origin, reign.applied);
        if let Some(place) = self.streams.get_mut(origin.index()) {
            *place = stream;
        }
    }
}
