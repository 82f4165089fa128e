//! One peer: connect, shake hands, stream, and all over again. Each peer is a task of its own, so that none disturbs another.

mod control;
mod file;
mod flow;
mod full;
mod handshake;
mod merge;
mod progress;
mod state;

use std::rc::Rc;
use std::time::{Duration, Instant};

use syncer_shared::instance::{InstanceId, InstanceSet};
use syncer_shared::replid::ReplId;

use crate::backoff::Backoff;
use crate::board::{Board, LocalServer};
use crate::config::{Config, Endpoint, Site};
use crate::connection::ConnectionError;
use crate::finder::{Finder, NotFound};
use crate::protocol::{Code, Refusal};
use crate::spool::SpoolError;
use crate::stream::Restart;
use handshake::Join;
pub use state::{Herald, PeerState};

/// Restarts that nobody needs to hear of come at most this often.
const QUIET_PAUSE: Duration = Duration::from_millis(50);

/// Whose refusal it is, in [`End::Refused`].
const LOCAL_SERVER: &str = "the local server";

/// How often to look whether a full sync has ended, or can begin.
const SYNC_PAUSE: Duration = Duration::from_millis(500);

/// So many restarts without anything applied are quiet; then something is wrong.
const QUIET_MAX: u32 = 3;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The peer's primary.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// The peer's connection.
    #[error("{0}")]
    Source(ConnectionError),
    /// The local server's connection.
    #[error("local server: {0}")]
    Target(ConnectionError),
    /// One of them said no.
    #[error("{whose}: {refusal}")]
    Refused {
        /// `the peer` or `the local server`.
        whose: &'static str,
        /// What it said.
        refusal: Refusal,
    },
    /// The stream itself.
    #[error("{0}")]
    Restart(Restart),
    /// The peer's backlog does not reach back, or a person wants it.
    #[error("a full sync is needed: {0}")]
    NeedsFull(String),
    /// A full sync is complete.
    #[error("the full sync is complete")]
    Synced,
    /// A full sync cannot be a file: it will be a merge.
    #[error("{whose} refused a full sync as a file: {refusal}")]
    NoFile {
        /// Who.
        whose: &'static str,
        /// Why.
        refusal: Refusal,
    },
    /// The local server takes this snapshot at no time: another one will do.
    #[error("the local server does not take this snapshot: {0}")]
    NotTaken(Refusal),
    /// The file of a snapshot.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// Another server is the peer's primary now.
    #[error("another server is the primary now")]
    Moved,
    /// Other instances' effects are wanted now.
    #[error("the set of wanted instances changed")]
    Rewired,
}

/// What to do about an [`End`].
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Again, without a word.
    Quiet { by_clock: bool },
    /// The local server is away: whoever watches it tells.
    Local,
    /// For the end of a full sync, or until one can begin.
    Waits,
    /// Down: try again later.
    Down,
    /// Only a person can help.
    Refused,
}

impl End {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Rewired
            | Self::Moved
            | Self::Synced
            | Self::NoFile { .. }
            | Self::NeedsFull(_)
            | Self::Restart(Restart::Moved) => Verdict::Quiet { by_clock: false },
            Self::Restart(Restart::ByClock(_)) => Verdict::Quiet { by_clock: true },
            Self::Target(_) | Self::Restart(Restart::Silent { whose: "the local server", .. }) => Verdict::Local,
            end if end.is_local_role() => Verdict::Local,
            Self::Source(ConnectionError::Login(_) | ConnectionError::Resp(_)) => Verdict::Refused,
            Self::Refused { refusal, .. } | Self::Restart(Restart::Refused { refusal, .. }) => match refusal.code {
                Code::Gap | Code::NotHeld => Verdict::Quiet { by_clock: true },
                Code::Syncing => Verdict::Waits,
                code if code.needs_operator() => Verdict::Refused,
                _ => Verdict::Down,
            },
            Self::NotTaken(refusal) if refusal.code.needs_operator() => Verdict::Refused,
            Self::Spool(SpoolError::Taken(_)) | Self::NotTaken(_) => Verdict::Waits,
            Self::NotFound(_) | Self::Source(_) | Self::Restart(_) | Self::Spool(_) => Verdict::Down,
        }
    }
}

impl End {
    /// The local server says that it is a replica: it was demoted.
    fn is_local_role(&self) -> bool {
        matches!(
            self,
            Self::Refused { whose: LOCAL_SERVER, refusal } | Self::Restart(Restart::Refused { whose: LOCAL_SERVER, refusal })
                if refusal.code == Code::Role
        )
    }
}

/// The task of one peer.
#[derive(Debug)]
pub struct PeerTask {
    peer: InstanceId,
    config: Rc<Config>,
    finder: Finder,
    board: Rc<Board>,
    herald: Herald,
    backoff: Backoff,
    /// The next handshake goes by the clock.
    by_clock: bool,
    /// Quiet restarts since anything was applied.
    quiet: u32,
    /// A full sync may be a file: none was refused since the last one.
    by_file: bool,
    /// Whose effects the last stream asked for, in which reign of the local server.
    moved_for: Option<(ReplId, InstanceSet)>,
}

impl PeerTask {
    /// For one of the configured peers.
    #[must_use]
    pub fn new(peer: InstanceId, site: Site, config: Rc<Config>, board: Rc<Board>) -> Self {
        let herald = Herald::new(peer, site.to_string(), board.clone());
        let finder = Finder::new(site, config.settings.connect_timeout);
        let backoff = Backoff::new(finder.pause_max(config.settings.retry_max));
        Self { peer, config, finder, board, herald, backoff, by_clock: false, by_file: true, quiet: 0, moved_for: None }
    }

    /// Runs for ever.
    pub async fn run(mut self) {
        let mut local = self.board.local.subscribe();
        loop {
            // Fails only when the board is gone, and with it everything.
            let Ok(found) = local.wait_for(Option::is_some).await.map(|found| found.clone()) else { return };
            let Some(LocalServer { generation, endpoint }) = found else { continue };
            let end = self.stream_once(&endpoint).await;
            tracing::debug!(peer = %self.peer, %end, "stream ended");
            if end.is_local_role() {
                self.board.local_suspect.notify_one();
            }
            let pause = self.judge(&end);
            let local_changed = async {
                if end.verdict() == Verdict::Local {
                    let _ = local.wait_for(|now| now.as_ref().is_some_and(|now| now.generation != generation)).await;
                } else {
                    std::future::pending().await
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = local_changed => {}
            }
        }
    }

    /// Connects and streams until something ends it.
    async fn stream_once(&mut self, target: &Endpoint) -> End {
        self.herald.attempt(PeerState::Connecting, Instant::now());
        match self.resume(target).await {
            Ok(true) => return End::Synced,
            Ok(false) => {}
            Err(end) => return end,
        }
        let source = match self.finder.find().await {
            Ok(source) => source,
            Err(error) => return error.into(),
        };
        // Subscribed before the handshake: a change during it is one.
        let Some(mut rewired) = self.board.wanted.get(&self.peer).map(|wanted| wanted.subscribe()) else {
            return End::Rewired;
        };
        let wanted = *rewired.borrow_and_update();
        let join = Join {
            peer: self.peer,
            source: &source,
            target,
            timeout: self.config.settings.connect_timeout,
            wanted,
            by_clock: self.by_clock,
            moved_for: self.moved_for,
        };
        let herald = &mut self.herald;
        let joined = match join.run(|now| herald.attempt(PeerState::Handshake, now)).await {
            Ok(joined) => joined,
            Err(End::NeedsFull(reason)) => return self.full_sync(&source, target, &reason).await,
            Err(end) => return end,
        };
        (self.moved_for, self.by_clock) = (Some((joined.reign, wanted)), false);
        self.board.set_local_clock(joined.clock.clone(), Instant::now());
        let control = control::Control {
            peer: self.peer,
            local: joined.local,
            source: &source,
            board: &self.board,
            settings: &self.config.settings,
        };
        let report_now = tokio::sync::Notify::new();
        let mut flow = flow::Flow::new(joined, &self.config.settings, rewired, &self.board, &report_now);
        let end = tokio::select! {
            end = flow.run(self.peer, &mut self.herald) => end,
            never = control.run(&report_now) => match never {},
            () = self.finder.moved_from(&source) => End::Moved,
        };
        if flow.has_applied() {
            self.quiet = 0;
            self.backoff.reset();
        }
        end
    }

    /// Goes on with a full sync of whichever peer, if its snapshot is here. Whoever comes first does it: the peer itself may be gone for good.
    async fn resume(&mut self, target: &Endpoint) -> Result<bool, End> {
        let board = self.board.clone();
        if !board.spools.may_hold() {
            return Ok(false);
        }
        // If another one is at it, the handshake says so.
        let Ok(_one) = board.full_sync.try_acquire() else { return Ok(false) };
        let reason = "the last one was broken off";
        let full = full::FullSync {
            peer: self.peer,
            target,
            timeout: self.config.settings.connect_timeout,
            reason,
            by_file: false,
            folder: &board.spools,
        };
        let resumed = full.resume(&mut self.herald).await;
        if let Ok(true) = resumed {
            self.backoff.reset();
        }
        resumed
    }

    /// Merges a snapshot of the peer into the local server.
    async fn full_sync(&mut self, source: &Endpoint, target: &Endpoint, reason: &str) -> End {
        let board = self.board.clone();
        let Ok(_one) = board.full_sync.try_acquire() else {
            let refusal = Refusal { code: Code::Syncing, text: "another full sync goes on".into() };
            return End::Refused { whose: "the local server", refusal };
        };
        let full = full::FullSync {
            peer: self.peer,
            target,
            timeout: self.config.settings.connect_timeout,
            reason,
            by_file: self.by_file,
            folder: &board.spools,
        };
        let end = match full.run(source, &mut self.herald).await {
            Ok(()) => {
                // The server knows already; until it is asked again the next stream would take this one for still wanted.
                board.resync.send_modify(|wanted| wanted.remove(self.peer));
                self.backoff.reset();
                End::Synced
            }
            Err(end) => end,
        };
        self.by_file = match end {
            End::NoFile { .. } => {
                tracing::warn!(peer = %self.peer, "{end}; it will be a merge");
                false
            }
            End::Synced => true,
            _ => self.by_file,
        };
        end
    }

    /// Tells what is to be told; returns the pause before the next attempt.
    fn judge(&mut self, end: &End) -> Duration {
        let now = Instant::now();
        let random = fastrand::f64();
        match end.verdict() {
            Verdict::Quiet { by_clock } if self.quiet < QUIET_MAX => {
                self.quiet += 1;
                self.by_clock |= by_clock;
                match end {
                    End::Rewired | End::Moved | End::Synced => Duration::ZERO,
                    _ => QUIET_PAUSE.mul_f64(0.5 + random),
                }
            }
            // Whoever watches the local server tells, unless he finds nothing wrong.
            Verdict::Local if self.quiet < QUIET_MAX || self.board.local.borrow().is_none() => {
                self.quiet += 1;
                self.backoff.pause(random)
            }
            Verdict::Quiet { by_clock } => {
                self.by_clock |= by_clock;
                self.herald.tell(PeerState::Down, end.to_string(), now);
                self.backoff.pause(random)
            }
            Verdict::Down | Verdict::Local => {
                self.herald.tell(PeerState::Down, end.to_string(), now);
                self.backoff.pause(random)
            }
            Verdict::Waits => {
                self.herald.tell(PeerState::Waiting, end.to_string(), now);
                SYNC_PAUSE.mul_f64(0.5 + random)
            }
            Verdict::Refused => {
                self.herald.tell(PeerState::Refused, end.to_string(), now);
                self.backoff.long_pause(random)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Verdict {
        End::Refused { whose: "the peer", refusal: Refusal::from_error(text) }.verdict()
    }

    #[test]
    fn only_what_a_person_must_mend_is_refused() {
        assert_eq!(refused("SYNCERID instance id 2 is taken"), Verdict::Refused);
        assert_eq!(refused("SYNCERFENCED a past reign"), Verdict::Refused);
        assert_eq!(refused("NOPERM no"), Verdict::Refused);
        assert_eq!(refused("LOADING the dataset"), Verdict::Down);
        assert_eq!(refused("OOM command not allowed"), Verdict::Down);
        assert_eq!(refused("SYNCERROLE this server is a replica"), Verdict::Down);
        assert_eq!(End::Source(ConnectionError::Closed).verdict(), Verdict::Down);
    }

    #[test]
    fn what_mends_itself_is_quiet() {
        assert_eq!(End::Restart(Restart::Moved).verdict(), Verdict::Quiet { by_clock: false });
        let gap = Restart::ByClock(Refusal::from_error("SYNCERGAP"));
        assert_eq!(End::Restart(gap).verdict(), Verdict::Quiet { by_clock: true });
        assert_eq!(End::Target(ConnectionError::Closed).verdict(), Verdict::Local);
    }

    #[test]
    fn attempts_at_a_peer_that_is_down_are_no_news() {
        let peer = InstanceId::new(2).unwrap();
        let relay = crate::relay::Relay::new([peer].into_iter(), Duration::from_secs(1));
        let spools = crate::spool::Folder::new(None, &|_| None, "redis://local:1");
        let board = Rc::new(Board::new([peer].into_iter(), relay, spools));
        let mut herald = Herald::new(peer, "redis://peer:1".into(), board.clone());
        let shown = || board.states.borrow().get(&peer).cloned();
        let now = Instant::now();
        herald.attempt(PeerState::Connecting, now);
        assert_eq!(shown(), Some((PeerState::Connecting, String::new())));
        herald.tell(PeerState::Down, "refused".into(), now);
        herald.attempt(PeerState::Connecting, now);
        herald.attempt(PeerState::Handshake, now);
        assert_eq!(shown(), Some((PeerState::Down, "refused".into())));
        herald.tell(PeerState::Down, "timeout".into(), now);
        assert_eq!(shown(), Some((PeerState::Down, "timeout".into())), "the module has the latest cause");
        herald.tell(PeerState::Streaming, String::new(), now);
        herald.attempt(PeerState::Connecting, now);
        assert_eq!(shown(), Some((PeerState::Streaming, String::new())));
    }
}
