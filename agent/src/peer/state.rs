//! The state of a peer, told once per change: to the log, and to the local module.

use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use syncer_shared::instance::InstanceId;
use tracing::{info, warn};

use crate::board::Board;

/// How long at least between two lines on a peer that stays down for changing causes.
const CAUSE_EVERY: Duration = Duration::from_secs(600);

/// What `SYNCER.PEERS` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// The first attempt is under way.
    Connecting,
    /// Connected, finding out where to read on.
    Handshake,
    /// Effects flow.
    Streaming,
    /// The next effect waits for another instance's.
    Waiting,
    /// A snapshot of it is merged into the local server.
    Syncing,
    /// Unreachable; retried.
    Down,
    /// Only a person can help; retried slowly.
    Refused,
}

impl fmt::Display for PeerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting",
            Self::Handshake => "handshake",
            Self::Streaming => "streaming",
            Self::Waiting => "waiting",
            Self::Syncing => "syncing",
            Self::Down => "down",
            Self::Refused => "refused",
        })
    }
}

/// Tells the state of one peer.
#[derive(Debug)]
pub struct Herald {
    peer: InstanceId,
    address: String,
    board: Rc<Board>,
    shown: Option<(PeerState, String)>,
    logged: Option<Instant>,
}

impl Herald {
    /// Has told nothing yet.
    #[must_use]
    pub fn new(peer: InstanceId, address: String, board: Rc<Board>) -> Self {
        Self { peer, address, board, shown: None, logged: None }
    }

    /// The first attempt has come so far. Later ones aren't told: only their outcome is news.
    pub fn attempt(&mut self, state: PeerState, now: Instant) {
        if matches!(self.shown, None | Some((PeerState::Connecting, _))) {
            self.tell(state, String::new(), now);
        }
    }

    /// A state, with its cause if it is a bad one.
    pub fn tell(&mut self, state: PeerState, cause: String, now: Instant) {
        let (peer, address) = (self.peer, &self.address);
        let before = self.shown.replace((state, cause.clone()));
        let same_state = before.as_ref().is_some_and(|(shown, _)| *shown == state);
        if before.is_some_and(|(_, shown)| same_state && shown == cause) {
            return;
        }
        self.board.set_state(peer, state, &cause, now);
        if same_state && self.logged.is_some_and(|logged| now.duration_since(logged) < CAUSE_EVERY) {
            return;
        }
        self.logged = Some(now);
        match state {
            PeerState::Down | PeerState::Refused => warn!(%peer, %address, %state, cause, "peer"),
            PeerState::Waiting | PeerState::Syncing => info!(%peer, %address, %state, cause, "peer"),
            _ => info!(%peer, %address, %state, "peer"),
        }
    }
}
