//! When an agent last told of each peer: what it told is worth nothing once it is gone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use syncer_shared::instance::InstanceId;
use syncer_shared::shard::{Peer, PeerState};

/// Agents tell every 5 s; one that has not for so long is gone, hangs, or is cut off from this server.
const SILENT_AFTER: Duration = Duration::from_secs(15);

/// So often at most this server's log says that a peer is refused: what agents tell may change to and fro.
const LOG_EVERY: Duration = Duration::from_secs(600);

crate::redis::server_local! {
    static TOLD: RefCell<BTreeMap<InstanceId, Instant>> = const { RefCell::new(BTreeMap::new()) };
    static LOGGED: RefCell<BTreeMap<InstanceId, Instant>> = const { RefCell::new(BTreeMap::new()) };
}

/// An agent tells of a peer. Whether that is to be in the log: an operator must act, who may not see the agent's.
pub fn note(peer: InstanceId, state: PeerState, now: Instant) -> bool {
    TOLD.with_borrow_mut(|told| told.insert(peer, now));
    let logs = |logged: Option<&Instant>| logged.is_none_or(|at| now.saturating_duration_since(*at) >= LOG_EVERY);
    LOGGED.with_borrow_mut(|logged| match state {
        PeerState::Refused if logs(logged.get(&peer)) => {
            logged.insert(peer, now);
            true
        }
        _ => false,
    })
}

/// How long ago an agent last told of any peer; `None` when none has since the start.
pub fn silence(now: Instant) -> Option<Duration> {
    TOLD.with_borrow(|told| told.values().map(|at| now.saturating_duration_since(*at)).min())
}

/// State and cause of a peer, as far as there is an agent that stands by them; `None` where nothing but an agent ever spoke of it.
pub fn shown(id: InstanceId, peer: &Peer, is_member: bool, now: Instant) -> Option<(&'static str, String)> {
    let silence = TOLD.with_borrow(|told| told.get(&id).map(|at| now.saturating_duration_since(*at)));
    if silence.is_some_and(|silence| silence < SILENT_AFTER) {
        return Some((peer.state.name(), peer.error.clone()));
    }
    if !is_member && peer.position.is_none() && peer.report_ms == 0 {
        return None;
    }
    let what_to_do = "see to `syncer-agent run` beside this server, and to its --peer";
    let why = match silence {
        None => format!("no agent has told of this peer since the start: {what_to_do}"),
        Some(silence) => {
            let (seconds, before) = (silence.as_secs(), peer.state.name());
            format!("no agent has told of this peer for {seconds} s, it was '{before}' then: {what_to_do}")
        }
    };
    Some((PeerState::Unknown.name(), why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_lost_agent_told_is_not_repeated() {
        let (start, [one, two]) = (Instant::now(), [1, 2].map(|id| InstanceId::new(id).unwrap()));
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut peer = Peer::default();
        peer.state = PeerState::Streaming;
        let (state, cause) = shown(two, &peer, true, start).unwrap();
        assert!(state == "unknown" && cause.contains("since the start"), "{state} {cause}");
        assert_eq!(silence(start), None);
        assert!(!note(two, PeerState::Streaming, start));
        assert_eq!(shown(two, &peer, true, after(14)).unwrap(), ("streaming", String::new()));
        let (state, cause) = shown(two, &peer, true, after(16)).unwrap();
        assert!(state == "unknown" && cause.contains("for 16 s, it was 'streaming' then"), "{state} {cause}");
        assert_eq!(silence(after(16)), Some(Duration::from_secs(16)));
        assert!(note(one, PeerState::Refused, after(16)));
        assert!(shown(one, &peer, false, after(17)).is_some() && shown(one, &peer, false, after(32)).is_none());
        assert!(!note(one, PeerState::Refused, after(33)) && note(one, PeerState::Refused, after(700)));
    }
}
