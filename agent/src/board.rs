//! What the tasks of one agent tell each other. Nothing of it outlives the process but files with snapshots: the state is in the local
//! module.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use syncer_shared::instance::{InstanceId, InstanceSet};
use syncer_shared::token::ClockToken;
use tokio::sync::{Notify, Semaphore, watch};

use crate::config::Endpoint;
use crate::peer::PeerState;
use crate::relay::Relay;
use crate::spool::Folder;
use crate::verify::Verification;

/// Shared by all tasks on the one thread.
#[derive(Debug)]
pub struct Board {
    /// The local primary; `None` while none is found.
    pub local: watch::Sender<Option<LocalServer>>,
    /// What was found is no primary any more, says a stream.
    pub local_suspect: Notify,
    /// The newest report of the local server.
    pub report: watch::Sender<Bytes>,
    /// Somebody wants a fresh report at once.
    pub report_soon: Notify,
    /// State and cause of each peer.
    pub states: RefCell<BTreeMap<InstanceId, (PeerState, String)>>,
    /// [`Board::states`] changed.
    pub states_changed: Notify,
    /// [`Board::local_clock`] moved.
    pub clock_moved: Notify,
    clock: RefCell<ClockText>,
    /// Whose effects each peer is asked for.
    pub wanted: BTreeMap<InstanceId, watch::Sender<InstanceSet>>,
    /// Who is asked for the effects of whom.
    pub relay: RefCell<Relay>,
    /// One full sync at a time.
    pub full_sync: Semaphore,
    /// What `verify-every-s` found last.
    pub verification: Cell<Option<Verification>>,
    /// With whom a person wants a full sync.
    pub resync: watch::Sender<InstanceSet>,
    /// Snapshots in files: these do outlive the process.
    pub spools: Folder,
}

/// The local primary as it was found.
#[derive(Clone, Debug)]
pub struct LocalServer {
    /// How often one was found.
    pub generation: u64,
    /// Where it is.
    pub endpoint: Rc<Endpoint>,
}

/// The local clock as last heard, parsed when somebody asks.
#[derive(Debug, Default)]
struct ClockText {
    text: Bytes,
    token: Option<ClockToken>,
    heard: Option<Instant>,
}

impl Board {
    /// For these peers, each asked for its own effects to begin with.
    #[must_use]
    pub fn new(peers: impl Iterator<Item = InstanceId>, relay: Relay, spools: Folder) -> Self {
        let wanted = peers.map(|peer| (peer, watch::Sender::new(InstanceSet::from_iter([peer])))).collect();
        Self {
            local: watch::Sender::new(None),
            local_suspect: Notify::new(),
            report: watch::Sender::new(Bytes::new()),
            report_soon: Notify::new(),
            states: RefCell::default(),
            states_changed: Notify::new(),
            clock_moved: Notify::new(),
            clock: RefCell::default(),
            wanted,
            relay: RefCell::new(relay),
            full_sync: Semaphore::new(1),
            verification: Cell::new(None),
            resync: watch::Sender::new(InstanceSet::EMPTY),
            spools,
        }
    }

    /// Takes note of the local clock, a token as the module writes it.
    pub fn set_local_clock(&self, text: Bytes, now: Instant) {
        *self.clock.borrow_mut() = ClockText { text, token: None, heard: Some(now) };
        self.clock_moved.notify_waiters();
    }

    /// The local clock, as far as known.
    #[must_use]
    pub fn local_clock(&self) -> ClockToken {
        let ClockText { text, token, .. } = &mut *self.clock.borrow_mut();
        token.get_or_insert_with(|| parse_clock(text).unwrap_or_default()).clone()
    }

    /// When the local clock was last heard of.
    #[must_use]
    pub fn local_clock_heard(&self) -> Option<Instant> {
        self.clock.borrow().heard
    }

    /// Takes note of a peer's state.
    pub fn set_state(&self, peer: InstanceId, state: PeerState, cause: &str, now: Instant) {
        self.relay.borrow_mut().on_state(peer, state, now);
        self.states.borrow_mut().insert(peer, (state, cause.to_owned()));
        self.states_changed.notify_one();
    }
}

/// Asks a server for its clock. What it has put off logging stays put off: agents ask every second.
pub const LOGGED_CLOCK: [&[u8]; 2] = [b"SYNCER.CLOCK", b"LOGGED"];

/// The same of a server that does not know that word yet.
pub const ANY_CLOCK: [&[u8]; 1] = [b"SYNCER.CLOCK"];

/// A clock token off the wire.
#[must_use]
pub fn parse_clock(text: &[u8]) -> Option<ClockToken> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
