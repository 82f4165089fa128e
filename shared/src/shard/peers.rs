//! What this shard knows of its peers: positions in their backlogs, lag, state. `SYNCER.PEERS` shows it.

use super::{Applied, ApplyError, Batch, Shard};
use crate::instance::InstanceId;
use crate::record::Record;
use crate::replid::ReplId;
use crate::timestamp::Timestamp;

/// What an agent does with a peer, in its own word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerState {
    /// Nothing heard yet.
    #[default]
    Unknown,
    /// Resolving, connecting, authenticating.
    Connecting,
    /// Asking where to read on.
    Handshake,
    /// Reading and applying.
    Streaming,
    /// A snapshot of it is merged here.
    Syncing,
    /// What came needs another instance's effects first.
    Waiting,
    /// Not reachable.
    Down,
    /// Turned away, or a full sync is needed.
    Refused,
}

impl PeerState {
    const NAMES: [(&'static str, Self); 8] = [
        ("unknown", Self::Unknown),
        ("connecting", Self::Connecting),
        ("handshake", Self::Handshake),
        ("streaming", Self::Streaming),
        ("syncing", Self::Syncing),
        ("waiting", Self::Waiting),
        ("down", Self::Down),
        ("refused", Self::Refused),
    ];

    /// The state of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, state)| *state)
    }

    /// Its name in commands and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, state)| *state == self).map_or("unknown", |(name, _)| name)
    }
}

/// One peer.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Where its backlog is read on: replication ID and offset.
    pub position: Option<(ReplId, u64)>,
    /// Where that backlog ended at the last word.
    pub end: u64,
    /// Timestamp of its newest group here, and the peer's wall clock when it was read: for the lag.
    pub newest: Timestamp,
    /// Unix milliseconds at the peer when the last batch was read.
    pub source_ms: u64,
    /// Groups taken from it.
    pub groups: u64,
    /// For the lag in effects.
    pub(super) density: Density,
    /// What its agent said.
    pub state: PeerState,
    /// The last error, empty when there was none since it streams.
    pub error: String,
    /// The durable and applied clock that it reported last came at this time.
    pub report_ms: u64,
}

/// How many effects the bytes of a backlog bring that are read of late.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Density {
    bytes: u64,
    effects: u64,
}

impl Density {
    /// What was read longer ago than so much counts half, and less and less.
    const RECENT_BYTES: u64 = 1 << 20;

    fn note(&mut self, bytes: u64, effects: u64) {
        (self.bytes, self.effects) = (self.bytes + bytes, self.effects + effects);
        if self.bytes > Self::RECENT_BYTES {
            (self.bytes, self.effects) = (self.bytes.div_ceil(2), self.effects.div_ceil(2));
        }
    }

    /// How many effects so many bytes will bring, about; `None` before anything was read.
    fn effects_in(self, bytes: u64) -> Option<u64> {
        let effects = u128::from(bytes) * u128::from(self.effects);
        (self.bytes > 0).then(|| u64::try_from(effects.div_ceil(u128::from(self.bytes))).unwrap_or(u64::MAX))
    }
}

impl Peer {
    /// Bytes of its backlog that are not applied here yet.
    #[must_use]
    pub fn lag_bytes(&self) -> u64 {
        self.end.saturating_sub(self.position.map_or(0, |(_, offset)| offset))
    }

    /// About how many effects of its backlog are not applied here yet: the bytes, by what those read of late have brought. A backlog
    /// is not counted, and to look at what lies ahead would be to read it. `None` while none of it was read since the start.
    #[must_use]
    pub fn lag_effects(&self) -> Option<u64> {
        match self.lag_bytes() {
            0 => Some(0),
            bytes => self.density.effects_in(bytes),
        }
    }

    /// How far behind the peer this shard is, in milliseconds; 0 when it has everything.
    #[must_use]
    pub fn lag_ms(&self) -> u64 {
        if self.lag_bytes() == 0 { 0 } else { self.source_ms.saturating_sub(self.newest.ms()) }
    }
}

impl Shard {
    /// All peers heard of.
    pub fn peers(&self) -> impl Iterator<Item = (InstanceId, &Peer)> {
        self.peers.iter().map(|(id, peer)| (*id, peer))
    }

    /// One peer.
    #[must_use]
    pub fn peer(&self, id: InstanceId) -> Option<&Peer> {
        self.peers.get(&id)
    }

    /// What its agent says about a peer.
    pub fn set_peer_state(&mut self, id: InstanceId, state: PeerState, error: &str) {
        /// Longer than any of ours; bounds what a caller can store.
        const ERROR_BYTES_MAX: usize = 512;
        match error.parse() {
            _ if matches!(state, PeerState::Streaming | PeerState::Syncing) => self.told_member(id),
            Ok(forgotten) => self.told_forgotten(id, forgotten),
            Err(()) => {}
        }
        let peer = self.peers.entry(id).or_default();
        peer.state = state;
        if state == PeerState::Streaming {
            peer.error.clear();
        }
        if !error.is_empty() {
            peer.error = error.chars().take(ERROR_BYTES_MAX).collect();
        }
    }

    /// Where to read a peer's backlog on, as its handshake said.
    ///
    /// # Errors
    /// [`ApplyError::Fenced`] for a past reign of an instance that has a newer one, [`ApplyError::Forgotten`] for who is out.
    pub fn set_position(&mut self, id: InstanceId, replid: ReplId, offset: u64) -> Result<(), ApplyError> {
        if let Some(via) = self.origins.find(&replid) {
            self.check_fence(via, replid)?;
        }
        self.told_member(id);
        if self.config.rules.forgotten_is_not_read {
            self.check_forgotten(id)?;
        }
        let peer = self.peers.entry(id).or_default();
        if peer.position != Some((replid, offset)) {
            peer.position = Some((replid, offset));
            peer.end = peer.end.max(offset);
            let mut record = Vec::new();
            Record::position(&mut record, id, &replid, offset);
            self.records.push(record);
        }
        Ok(())
    }

    /// After a batch, which brought so many effects.
    pub(super) fn move_peer(&mut self, batch: &Batch<'_>, applied: &Applied, effects: u64) {
        let newest = self.origins.find(&batch.replid).map(|origin| self.clock.get(origin)).unwrap_or_default();
        let peer = self.peers.entry(batch.peer).or_default();
        peer.position = Some((batch.replid, applied.offset));
        peer.end = batch.end.max(applied.offset);
        peer.newest = newest;
        peer.source_ms = batch.source_ms;
        peer.groups += u64::from(applied.groups);
        peer.density.note(applied.offset.saturating_sub(batch.from), effects);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replid::ReplId;

    fn behind(density: Density, bytes: u64) -> Peer {
        Peer { position: Some((ReplId::from_bytes([1; 20]), 10)), end: 10 + bytes, density, ..Peer::default() }
    }

    #[test]
    fn a_lag_in_effects_is_by_what_was_read_of_late() {
        assert_eq!(behind(Density::default(), 0).lag_effects(), Some(0));
        assert_eq!(behind(Density::default(), 500).lag_effects(), None);
        let mut density = Density::default();
        density.note(1000, 10);
        assert_eq!(behind(density, 500).lag_effects(), Some(5));
        assert_eq!(behind(density, 1).lag_effects(), Some(1), "never 0 while something is behind");
        // Small effects from now on: what was before fades.
        (0..40).for_each(|_| density.note(1 << 20, 1 << 16));
        assert_eq!(behind(density, 1 << 20).lag_effects(), Some(1 << 16));
    }
}
