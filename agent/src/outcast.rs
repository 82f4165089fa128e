//! A server that came back without its state, or with an id that another one has: no peer takes anything from it, so what clients write there would be
//! lost. The agent tells it, as it tells one that was replaced ([`crate::finder`]).

use std::collections::BTreeMap;

use syncer_shared::instance::InstanceId;
use syncer_shared::replid::ReplId;

use crate::peer::PeerState;

/// Whom the peers know by the id of the local server, as long as none of them takes that for it.
#[derive(Debug, Default)]
pub struct Outcast {
    known: Option<ReplId>,
}

impl Outcast {
    /// Looks at how the peers stand, with the causes. Once that is so it stays so until one of them is not refused, whatever else they say: an operator forgets the id
    /// before the server joins again.
    pub fn look(&mut self, own: InstanceId, states: &BTreeMap<InstanceId, (PeerState, String)>) -> Option<ReplId> {
        let is_out = |state| matches!(state, PeerState::Refused | PeerState::Down | PeerState::Connecting);
        if !states.values().all(|(state, _)| is_out(*state)) {
            self.known = None;
        } else if self.known.is_none() {
            let refused = states.values().filter(|(state, _)| *state == PeerState::Refused);
            self.known = refused.filter_map(|(_, cause)| known_instead(cause, own)).next();
        }
        self.known
    }
}

/// Whom a peer that refused a handshake knows by the `own` id, if that was why (`HandshakeError::OtherServer`).
fn known_instead(cause: &str, own: InstanceId) -> Option<ReplId> {
    let (_, rest) = cause.split_once(&format!("SYNCERID instance id {own} is known here as replication ID "))?;
    rest.split(',').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_known_as_somebody_else_everywhere_is_told_until_a_peer_takes_it() {
        let [one, two, own] = [1, 2, 3].map(|id| InstanceId::new(id).unwrap());
        let known = "ab".repeat(20);
        let of = |id: InstanceId| {
            format!(
                "the peer: SYNCERID instance id {id} is known here as replication ID {known}, which {} does not continue: another server uses this id, or it came back without its state; advice",
                "cd".repeat(20)
            )
        };
        let refused = |cause: &str| (PeerState::Refused, cause.to_owned());
        let down = (PeerState::Down, String::new());
        let streaming = (PeerState::Streaming, String::new());
        let forgotten = refused("SYNCERFORGOTTEN instance 3 was forgotten by ...");
        let (lost, other) = (refused(&of(own)), refused(&of(two)));
        let mut outcast = Outcast::default();
        let mut look = |a: &(PeerState, String), b: &(PeerState, String)| {
            let states = BTreeMap::from([(one, a.clone()), (two, b.clone())]);
            outcast.look(own, &states).map(|replid| replid.to_string())
        };
        assert_eq!(look(&down, &forgotten), None);
        assert_eq!(look(&other, &down), None, "it is about another one's id");
        assert_eq!(look(&lost, &streaming), None, "one takes it");
        assert_eq!(look(&lost, &down), Some(known.clone()));
        assert_eq!(look(&forgotten, &down), Some(known.clone()));
        assert_eq!(look(&forgotten, &streaming), None);
        assert_eq!(look(&forgotten, &down), None);
    }
}
