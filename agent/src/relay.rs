//! Who is asked for the effects of whom.
//!
//! Each peer is asked for its own effects. When the local clock stays behind what another peer has of an instance, for
//! longer than `after`, the direct way does not bring them (the instance is unreachable, unknown here, lost its tail, or is
//! ourselves, having lost it): then that other peer is asked for them as well, until the direct way works again.
//!
//! No IO and no clock here: clocks, states and the time go in, sets of wanted instances come out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use syncer_shared::instance::{InstanceId, InstanceSet};
use syncer_shared::replid::ReplId;
use syncer_shared::timestamp::Timestamp;
use syncer_shared::token::ClockToken;

use crate::peer::PeerState;

/// See the [module](self).
#[derive(Debug)]
pub struct Relay {
    after: Duration,
    peers: BTreeMap<InstanceId, Peer>,
    /// Reigns of which some peer has more than we.
    behind: BTreeMap<ReplId, Behind>,
    /// Instance -> the peer that relays its effects.
    via: BTreeMap<InstanceId, Via>,
}

#[derive(Debug, Default)]
struct Peer {
    /// Since when its stream flows.
    streaming: Option<Instant>,
    /// Its effects are here and wait for another instance's: a detour would bring the same ones.
    waiting: bool,
    clock: ClockToken,
}

#[derive(Clone, Copy, Debug)]
struct Behind {
    instance: InstanceId,
    /// Where our clock has stood still,
    at: Timestamp,
    /// since then.
    since: Instant,
    /// Who has most of it.
    best: InstanceId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Via {
    peer: InstanceId,
    since: Instant,
}

/// A change of who relays whom, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whose effects.
    pub of: InstanceId,
    /// Who is asked for them; `None` when the detour has ended.
    pub via: Option<InstanceId>,
}

impl Relay {
    /// No detours yet.
    #[must_use]
    pub fn new(peers: impl Iterator<Item = InstanceId>, after: Duration) -> Self {
        let peers = peers.map(|peer| (peer, Peer::default())).collect();
        Self { after, peers, behind: BTreeMap::new(), via: BTreeMap::new() }
    }

    /// A peer's stream begins or ceases to flow.
    pub fn on_state(&mut self, peer: InstanceId, state: PeerState, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            let streams = matches!(state, PeerState::Streaming | PeerState::Waiting);
            peer.streaming = if streams { peer.streaming.or(Some(now)) } else { None };
            peer.waiting = state == PeerState::Waiting;
        }
    }

    /// What a peer has applied.
    pub fn on_clock(&mut self, peer: InstanceId, clock: ClockToken) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.clock = clock;
        }
    }

    /// The local server did not answer for a while: that our clock stood still says nothing.
    pub fn forget_delays(&mut self) {
        self.behind.clear();
    }

    /// Decides anew, given what we have applied.
    pub fn decide(&mut self, local: &ClockToken, now: Instant) -> Vec<Change> {
        self.compare(local, now);
        let mut changes = self.end_detours(now);
        changes.extend(self.begin_detours(now));
        changes
    }

    /// The instance of a reign, if a peer has told.
    #[must_use]
    pub fn instance_of(&self, replid: &ReplId) -> Option<InstanceId> {
        let mut entries = self.peers.values().flat_map(|peer| peer.clock.entries());
        entries.find(|(known, ..)| known == replid).map(|(_, instance, _)| *instance)
    }

    /// Whose effects `peer` is asked for.
    #[must_use]
    pub fn wanted(&self, peer: InstanceId) -> InstanceSet {
        self.via.iter().filter(|(_, via)| via.peer == peer).map(|(of, _)| *of).chain([peer]).collect()
    }

    fn compare(&mut self, local: &ClockToken, now: Instant) {
        let mut most: BTreeMap<ReplId, (Timestamp, InstanceId, InstanceId)> = BTreeMap::new();
        for (id, peer) in self.peers.iter().filter(|(_, peer)| peer.streaming.is_some()) {
            for &(replid, instance, ts) in peer.clock.entries() {
                let known = most.get(&replid).map(|(ts, ..)| *ts).unwrap_or_default();
                // What an instance has of its own comes by the direct way or not at all.
                if *id != instance && ts > local.get(&replid).max(known) {
                    most.insert(replid, (ts, instance, *id));
                }
            }
        }
        let behind = most.into_iter().map(|(replid, (_, instance, best))| {
            let at = local.get(&replid);
            let since = self.behind.get(&replid).filter(|behind| behind.at == at).map_or(now, |behind| behind.since);
            (replid, Behind { instance, at, since, best })
        });
        self.behind = behind.collect();
    }

    fn is_streaming_for(&self, peer: InstanceId, time: Duration, now: Instant) -> bool {
        let since = self.peers.get(&peer).and_then(|peer| peer.streaming);
        since.is_some_and(|since| now.duration_since(since) >= time)
    }

    fn end_detours(&mut self, now: Instant) -> Vec<Change> {
        let ends = |(of, via): (&InstanceId, &Via)| {
            let complete = !self.behind.values().any(|behind| behind.instance == *of);
            // Ourselves and those who are not configured here have no direct way.
            let direct = self.is_streaming_for(*of, self.after, now);
            let settled = now.duration_since(via.since) >= self.after;
            let away = !self.is_streaming_for(via.peer, Duration::ZERO, now);
            let fruitless = settled && self.stuck(now).any(|behind| behind.instance == *of && behind.best != via.peer);
            (away || fruitless || complete && direct && settled).then_some(*of)
        };
        let ended: Vec<_> = self.via.iter().filter_map(ends).collect();
        self.via.retain(|of, _| !ended.contains(of));
        ended.into_iter().map(|of| Change { of, via: None }).collect()
    }

    fn begin_detours(&mut self, now: Instant) -> Vec<Change> {
        let stuck: Vec<_> =
            self.stuck(now).filter(|behind| !self.via.contains_key(&behind.instance)).copied().collect();
        let begin = |behind: Behind| {
            let via = Via { peer: behind.best, since: now };
            self.via
                .insert(behind.instance, via)
                .is_none()
                .then_some(Change { of: behind.instance, via: Some(via.peer) })
        };
        stuck.into_iter().filter_map(begin).collect()
    }

    fn stuck(&self, now: Instant) -> impl Iterator<Item = &Behind> {
        let waiting = |of: &InstanceId| self.peers.get(of).is_some_and(|peer| peer.waiting);
        self.behind
            .values()
            .filter(move |behind| now.duration_since(behind.since) >= self.after && !waiting(&behind.instance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(3);

    fn id(id: u8) -> InstanceId {
        InstanceId::new(id).unwrap()
    }

    fn clock(entries: &[(u8, u64)]) -> ClockToken {
        let entry =
            |&(instance, ms): &(u8, u64)| (ReplId::from_bytes([instance; 20]), id(instance), Timestamp::from_ms(ms));
        entries.iter().map(entry).collect()
    }

    /// We are 1; peers 2 and 3 stream.
    fn three(now: Instant) -> Relay {
        let mut relay = Relay::new([id(2), id(3)].into_iter(), AFTER);
        relay.on_state(id(2), PeerState::Streaming, now);
        relay.on_state(id(3), PeerState::Streaming, now);
        relay
    }

    fn seconds(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    #[test]
    fn takes_the_detour_when_the_direct_way_is_down_and_returns() {
        let now = Instant::now();
        let mut relay = three(now);
        relay.on_state(id(3), PeerState::Down, now);
        relay.on_clock(id(2), clock(&[(2, 10), (3, 20)]));
        let local = clock(&[(2, 10), (3, 15)]);
        assert_eq!(relay.decide(&local, now), []);
        assert_eq!(relay.decide(&local, seconds(now, 3)), [Change { of: id(3), via: Some(id(2)) }]);
        assert_eq!(relay.wanted(id(2)), [id(2), id(3)].into_iter().collect());
        let local = clock(&[(2, 10), (3, 20)]);
        assert_eq!(relay.decide(&local, seconds(now, 9)), [], "it stays while the direct way is down");
        relay.on_state(id(3), PeerState::Streaming, seconds(now, 10));
        assert_eq!(relay.decide(&local, seconds(now, 11)), []);
        assert_eq!(relay.decide(&local, seconds(now, 13)), [Change { of: id(3), via: None }]);
        assert_eq!(relay.wanted(id(2)), [id(2)].into_iter().collect());
    }

    #[test]
    fn a_moving_clock_is_no_reason() {
        let now = Instant::now();
        let mut relay = three(now);
        for second in 0..20 {
            relay.on_clock(id(2), clock(&[(3, 100 + second)]));
            assert_eq!(relay.decide(&clock(&[(3, second)]), seconds(now, second)), []);
        }
    }

    #[test]
    fn what_waits_here_already_needs_no_detour() {
        let now = Instant::now();
        let mut relay = three(now);
        relay.on_state(id(3), PeerState::Waiting, now);
        relay.on_clock(id(2), clock(&[(3, 20)]));
        relay.decide(&clock(&[]), now);
        assert_eq!(relay.decide(&clock(&[]), seconds(now, 10)), []);
        relay.on_state(id(3), PeerState::Down, seconds(now, 11));
        assert_eq!(relay.decide(&clock(&[]), seconds(now, 11)), [Change { of: id(3), via: Some(id(2)) }]);
    }

    #[test]
    fn gets_back_its_own_lost_writes_and_ends_never_asking_the_author() {
        let now = Instant::now();
        let mut relay = three(now);
        relay.on_clock(id(2), clock(&[(1, 50)]));
        relay.on_clock(id(3), clock(&[(3, 99)]));
        relay.decide(&clock(&[(1, 40)]), now);
        let changes = relay.decide(&clock(&[(1, 40)]), seconds(now, 3));
        assert_eq!(changes, [Change { of: id(1), via: Some(id(2)) }]);
        assert_eq!(relay.wanted(id(3)), [id(3)].into_iter().collect());
    }

    #[test]
    fn another_relay_is_asked_when_one_goes_away_or_brings_nothing() {
        let now = Instant::now();
        let mut relay = Relay::new([id(2), id(3), id(4)].into_iter(), AFTER);
        relay.on_state(id(2), PeerState::Streaming, now);
        relay.on_state(id(4), PeerState::Streaming, now);
        relay.on_clock(id(2), clock(&[(3, 20)]));
        relay.on_clock(id(4), clock(&[(3, 19)]));
        relay.decide(&clock(&[]), now);
        assert_eq!(relay.decide(&clock(&[]), seconds(now, 3)), [Change { of: id(3), via: Some(id(2)) }]);
        relay.on_state(id(2), PeerState::Down, seconds(now, 4));
        let changes = relay.decide(&clock(&[]), seconds(now, 4));
        assert_eq!(changes, [Change { of: id(3), via: None }, Change { of: id(3), via: Some(id(4)) }]);
    }
}
