//! A server that came back without its state, or with an id that another one has: no peer takes anything from it, so what clients write there would be
//! lost. The agent tells it, as it tells one that was replaced ([`crate::finder`]).

use std::collections::BTreeMap;

use syncer_shared::instance::InstanceId;
use syncer_shared::replid::ReplId;

use crate::board::parse_clock;
use crate::peer::PeerState;
use crate::protocol::PeerInfo;

/// Whom the peers know by the id of the local server, as long as none of them takes that for it.
#[derive(Debug, Default)]
pub struct Outcast {
    verdict: Option<Verdict>,
}

/// What a peer said when it refused a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whom it knows.
    pub known: ReplId,
    /// Whom it refused.
    claimed: ReplId,
}

impl Verdict {
    /// Whether it is about this server, and that has nothing of any other instance: who has, has its state, whatever some peer says that may be another group's.
    #[must_use]
    pub fn is_about(&self, local: &PeerInfo) -> bool {
        let clock = parse_clock(&local.clock);
        let is_alone = clock.is_some_and(|clock| clock.entries().iter().all(|(_, of, _)| *of == local.instance));
        self.claimed == local.replid && is_alone
    }
}

impl Outcast {
    /// Looks at how the `count` peers stand, with the causes. Once one of them has said so it stays so until one is not refused, whatever else they say: an operator forgets
    /// the id before the server joins again.
    pub fn look(
        &mut self,
        own: InstanceId,
        count: usize,
        states: &BTreeMap<InstanceId, (PeerState, String)>,
    ) -> Option<Verdict> {
        let is_out = |state| matches!(state, PeerState::Refused | PeerState::Down);
        if states.len() < count || !states.values().all(|(state, _)| is_out(*state)) {
            self.verdict = None;
        } else {
            let refused = states.values().filter(|(state, _)| *state == PeerState::Refused);
            let news = refused.filter_map(|(_, cause)| verdict(cause, own)).next();
            self.verdict = news.or(self.verdict);
        }
        self.verdict
    }
}

/// Why a handshake was refused, if the `own` id is somebody else's there (`HandshakeError::OtherServer`).
fn verdict(cause: &str, own: InstanceId) -> Option<Verdict> {
    let (_, rest) = cause.split_once(&format!("SYNCERID instance id {own} is known here as replication ID "))?;
    let (known, rest) = rest.split_once(", which ")?;
    let (claimed, _) = rest.split_once(" does not continue")?;
    Some(Verdict { known: known.parse().ok()?, claimed: claimed.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use syncer_shared::shard::HandshakeError;
    use syncer_shared::timestamp::Timestamp;
    use syncer_shared::token::ClockToken;

    use super::*;

    const IDS: [InstanceId; 2] = [InstanceId::new(1).unwrap(), InstanceId::new(2).unwrap()];
    const OWN: InstanceId = InstanceId::new(3).unwrap();

    fn replid(byte: u8) -> ReplId {
        ReplId::from_bytes([byte; 20])
    }

    fn refused(id: InstanceId) -> (PeerState, String) {
        let error = HandshakeError::OtherServer { instance: id, known: replid(1), claimed: replid(2) };
        (PeerState::Refused, format!("the peer: {error}; advice"))
    }

    #[test]
    fn who_is_known_as_somebody_else_everywhere_is_told_until_a_peer_takes_it() {
        let stands = |state| (state, String::new());
        let [down, connecting, streaming] = [PeerState::Down, PeerState::Connecting, PeerState::Streaming].map(stands);
        let forgotten = (PeerState::Refused, "SYNCERFORGOTTEN instance 3 was forgotten by ...".to_owned());
        let (lost, other) = (refused(OWN), refused(IDS[1]));
        let mut outcast = Outcast::default();
        let mut look = |a: &(PeerState, String), b: &(PeerState, String)| {
            let states = BTreeMap::from([(IDS[0], a.clone()), (IDS[1], b.clone())]);
            outcast.look(OWN, 2, &states).map(|verdict| verdict.known)
        };
        assert_eq!(look(&down, &forgotten), None);
        assert_eq!(look(&other, &down), None, "it is about another one's id");
        assert_eq!(look(&lost, &streaming), None, "one takes it");
        assert_eq!(look(&lost, &connecting), None, "one may take it");
        assert_eq!(look(&lost, &down), Some(replid(1)));
        assert_eq!(look(&forgotten, &down), Some(replid(1)));
        assert_eq!(look(&forgotten, &streaming), None);
        assert_eq!(look(&forgotten, &down), None);
        assert_eq!(outcast.look(OWN, 2, &BTreeMap::from([(IDS[0], lost)])), None, "not all were asked");
    }

    /// A peer of another group by mistake, and the right one is down.
    #[test]
    fn who_has_anything_of_another_instance_has_its_state() {
        let verdict = verdict(&refused(OWN).1, OWN).unwrap();
        let local = |reign: u8, of: &[InstanceId]| {
            let entries = of.iter().map(|of| (replid(of.get() + 10), *of, Timestamp::from_ms(1)));
            let clock = Bytes::from(ClockToken::from_iter(entries).to_string());
            PeerInfo { instance: OWN, replid: replid(reign), position: None, clock, standing: Bytes::new() }
        };
        assert!(verdict.is_about(&local(2, &[OWN])));
        assert!(verdict.is_about(&local(2, &[])));
        assert!(!verdict.is_about(&local(2, &[IDS[0], OWN])));
        assert!(!verdict.is_about(&local(3, &[OWN])), "it was another server, or has begun anew");
    }
}
