//! The local server: whether it is there, its reports and clock, and what it is told of the peers.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use syncer_shared::instance::InstanceId;
use syncer_shared::report;
use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::board::{ANY_CLOCK, Board, LOGGED_CLOCK, LocalServer};
use crate::config::{Config, Endpoint};
use crate::connection::{Connection, ConnectionError, within};
use crate::denied::Denied;
use crate::finder::{Finder, NotFound, SEARCH_PAUSE_MAX};
use crate::headroom::HeadroomWatch;
use crate::outcast::{Outcast, Verdict};
use crate::peer::PeerState;
use crate::protocol::{Code, PeerInfo, Refusal, SyncStatus};
use crate::resp::Reply;

/// How often the local clock is asked for.
const CLOCK_EVERY: Duration = Duration::from_secs(1);
/// How often the server is told again how the peers stand: it takes them for unknown when nobody has for 15 s, and another agent that
/// runs beside it by mistake may have told it otherwise.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How long the server may take: a `FLUSHALL` or a script holds it for a while.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// The task that keeps a connection to the local server beside those of the streams.
#[derive(Debug)]
pub struct LocalTask {
    config: Rc<Config>,
    board: Rc<Board>,
    finder: Finder,
    headroom: HeadroomWatch,
    /// What the server knows of the peers; it forgets when it restarts.
    told: BTreeMap<InstanceId, (PeerState, String)>,
    outcast: Outcast,
    /// What it was told of that.
    told_verdict: Option<Verdict>,
    /// How often it was found.
    generation: u64,
    /// Which it is.
    instance: Option<InstanceId>,
    /// The trouble last logged.
    trouble: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum LocalError {
    #[error(transparent)]
    NotFound(#[from] NotFound),
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("another server is the primary now")]
    Moved,
}

impl LocalTask {
    /// Has not looked yet.
    #[must_use]
    pub fn new(config: Rc<Config>, board: Rc<Board>) -> Self {
        let finder = Finder::of_own_site(config.local.clone(), config.settings.connect_timeout);
        Self {
            config,
            board,
            finder,
            headroom: HeadroomWatch::default(),
            told: BTreeMap::new(),
            outcast: Outcast::default(),
            told_verdict: None,
            generation: 0,
            instance: None,
            trouble: None,
        }
    }

    /// Runs for ever.
    pub async fn run(mut self) {
        // Whatever is local comes back fast, and everything waits for it.
        let mut backoff = Backoff::new(self.config.settings.retry_max.min(SEARCH_PAUSE_MAX));
        loop {
            let Err(error) = self.serve(&mut backoff).await else { return };
            self.board.local.send_replace(None);
            let cause = error.to_string();
            if self.trouble.as_ref() != Some(&cause) {
                warn!(address = %self.config.local, state = "down", cause, "local server");
                self.trouble = Some(cause);
            }
            tokio::time::sleep(backoff.pause(fastrand::f64())).await;
        }
    }

    async fn serve(&mut self, backoff: &mut Backoff) -> Result<(), LocalError> {
        let Some(peer) = self.config.peers.keys().next() else { return Ok(()) };
        let endpoint = Rc::new(self.finder.find().await?);
        let connection = Connection::open(&endpoint, self.config.settings.connect_timeout).await?;
        let mut server = Server { connection, endpoint, denied: Denied::default() };
        let info = PeerInfo::parse(&server.call(&[b"SYNCER.PEER", peer.to_string().as_bytes(), b"INFO"]).await?)?;
        // A replica answers that, too, but not this: said before, it would be up and down twenty times a second.
        server.call(&[b"SYNCER.REPORT"]).await?;
        self.found(&info, server.endpoint.clone());
        backoff.reset();
        let (finder, board, endpoint) = (self.finder.clone(), self.board.clone(), server.endpoint.clone());
        tokio::select! {
            end = self.talk(&mut server) => end,
            () = finder.moved_from(&endpoint) => Err(LocalError::Moved),
            () = board.local_suspect.notified() => Err(LocalError::Moved),
        }
    }

    async fn talk(&mut self, server: &mut Server) -> Result<(), LocalError> {
        let (mut clock_asked, mut told_all): (Option<Instant>, _) = (None, Instant::now());
        loop {
            if told_all.elapsed() >= TELL_EVERY {
                self.told.clear();
                self.told_verdict = None;
                told_all = Instant::now();
            }
            self.tell_states(server).await?;
            self.tell_outcast(server).await?;
            self.fetch_report(server).await?;
            let now = Instant::now();
            if clock_asked.is_none_or(|asked| now.duration_since(asked) >= CLOCK_EVERY) {
                clock_asked = Some(now);
                self.fetch_clock(server).await?;
                self.fetch_sync_status(server).await?;
                self.look_at_readers(server).await?;
            }
            tokio::select! {
                () = tokio::time::sleep(self.config.settings.report_every.min(TELL_EVERY)) => {}
                () = self.board.report_soon.notified() => {}
                () = self.board.states_changed.notified() => {}
            }
        }
    }

    fn found(&mut self, info: &PeerInfo, endpoint: Rc<Endpoint>) {
        let PeerInfo { instance, replid, .. } = info;
        info!(address = %endpoint, state = "up", %instance, %replid, "local server");
        self.trouble = None;
        self.told.clear();
        (self.outcast, self.told_verdict) = (Outcast::default(), None);
        self.generation += 1;
        self.instance = Some(*instance);
        self.board.set_local_clock(info.clock.clone(), Instant::now());
        self.board.local.send_replace(Some(LocalServer { generation: self.generation, endpoint }));
    }

    async fn tell_states(&mut self, server: &mut Server) -> Result<(), LocalError> {
        let states = self.board.states.borrow().clone();
        for (peer, (state, cause)) in states {
            if self.told.get(&peer).is_some_and(|told| *told == (state, cause.clone())) {
                continue;
            }
            let (id, word) = (peer.to_string(), state.to_string());
            let args: [&[u8]; 5] = [b"SYNCER.PEER", id.as_bytes(), b"STATE", word.as_bytes(), cause.as_bytes()];
            server.call(&args).await?;
            self.told.insert(peer, (state, cause));
        }
        Ok(())
    }

    /// Where no peer takes anything from it, what clients write would be lost.
    async fn tell_outcast(&mut self, server: &mut Server) -> Result<(), LocalError> {
        let (Some(own), Some(peer)) = (self.instance, self.config.peers.keys().next()) else { return Ok(()) };
        let verdict = self.outcast.look(own, self.config.peers.len(), &self.board.states.borrow());
        if verdict == self.told_verdict {
            return Ok(());
        }
        self.told_verdict = verdict;
        let Some(verdict) = verdict else { return Ok(()) };
        let info = PeerInfo::parse(&server.call(&[b"SYNCER.PEER", peer.to_string().as_bytes(), b"INFO"]).await?)?;
        if verdict.is_about(&info) {
            let (own, known) = (own.to_string(), verdict.known.to_string());
            server.call(&[b"SYNCER.PEER", own.as_bytes(), b"REPLACED", known.as_bytes()]).await?;
        }
        Ok(())
    }

    async fn fetch_report(&self, server: &mut Server) -> Result<(), LocalError> {
        if let Reply::Bulk(report) = server.call(&[b"SYNCER.REPORT"]).await? {
            // A copy: it outlives many replies, whose buffer it would keep.
            let report = Bytes::copy_from_slice(&report);
            self.board.report.send_if_modified(|known| {
                let news = *known != report;
                *known = report;
                news
            });
        }
        Ok(())
    }

    async fn fetch_clock(&self, server: &mut Server) -> Result<(), LocalError> {
        let mut reply = server.call(&LOGGED_CLOCK).await?;
        if matches!(reply, Reply::Error(_)) {
            reply = server.call(&ANY_CLOCK).await?;
        }
        if let Reply::Bulk(clock) | Reply::Status(clock) = reply {
            self.board.set_local_clock(clock, Instant::now());
        }
        Ok(())
    }

    /// Warns before somebody who reads here needs a full sync.
    async fn look_at_readers(&mut self, server: &mut Server) -> Result<(), LocalError> {
        let peers = crate::status::value(&server.call(&[b"SYNCER.PEERS"]).await?);
        // Refused where the user may not: that is no reason to stop.
        self.headroom.look(peers.as_array().map_or(&[][..], Vec::as_slice));
        Ok(())
    }

    async fn fetch_sync_status(&mut self, server: &mut Server) -> Result<(), LocalError> {
        if let Ok(status) = SyncStatus::parse(&server.call(&[b"SYNCER.SYNC", b"STATUS"]).await?) {
            self.board.resync.send_if_modified(|known| std::mem::replace(known, status.wanted) != status.wanted);
            if !status.is_running && !status.is_broken && self.board.spools.may_hold() {
                self.forget_spools();
            }
        }
        Ok(())
    }

    /// Removes the files of snapshots that are durable here, unless a full sync is at work with them.
    fn forget_spools(&self) {
        let (Some(local), Ok(_one)) = (self.instance, self.board.full_sync.try_acquire()) else { return };
        let reports = report::decode(&self.board.report.borrow()).unwrap_or_default();
        let Some(own) = reports.into_iter().find(|report| report.instance == local) else { return };
        match self.board.spools.lock(local) {
            Ok(spools) => spools.forget(&own.durable),
            Err(error) => tracing::debug!(%error, "snapshots are not looked at"),
        }
    }
}

/// The local primary, as long as it is one.
struct Server {
    connection: Connection,
    endpoint: Rc<Endpoint>,
    denied: Denied,
}

impl Server {
    /// # Errors
    /// When the connection fails, or the server says that it is a replica. Other error replies are values.
    async fn call(&mut self, args: &[&[u8]]) -> Result<Reply, LocalError> {
        let reply = within(CALL_TIMEOUT, &self.endpoint, self.connection.call(args)).await?;
        if let Some(missing) = args.first().and_then(|command| self.denied.look(command, &reply)) {
            warn!(address = %self.endpoint, cause = %missing, "local server: a right is missing");
        }
        if let Reply::Error(error) = &reply {
            tracing::debug!(%error, "refused by the local server");
            let refusal = Refusal::from_error(error);
            if refusal.code == Code::Role {
                return Err(refusal.into());
            }
        }
        Ok(reply)
    }
}
