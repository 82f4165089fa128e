//! The local server: whether it is there, its reports and clock, and what it is told of the peers.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use syncer_shared::instance::InstanceId;
use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::board::Board;
use crate::config::Config;
use crate::connection::{Connection, ConnectionError, within};
use crate::peer::PeerState;
use crate::protocol::{PeerInfo, Refusal, SyncStatus};
use crate::resp::Reply;

/// How often the local clock is asked for.
const CLOCK_EVERY: Duration = Duration::from_secs(1);
/// How long the server may take: a `FLUSHALL` or a script holds it for a while.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// The task that keeps a connection to the local server beside those of the streams.
#[derive(Debug)]
pub struct LocalTask {
    config: Rc<Config>,
    board: Rc<Board>,
    /// What the server knows of the peers; it forgets when it restarts.
    told: BTreeMap<InstanceId, (PeerState, String)>,
    /// How often it was found.
    generation: u64,
    /// The trouble last logged.
    trouble: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum LocalError {
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl LocalTask {
    /// Has not looked yet.
    #[must_use]
    pub fn new(config: Rc<Config>, board: Rc<Board>) -> Self {
        Self { config, board, told: BTreeMap::new(), generation: 0, trouble: None }
    }

    /// Runs for ever.
    pub async fn run(mut self) {
        // Whatever is local comes back fast, and everything waits for it.
        let mut backoff = Backoff::new(self.config.settings.retry_max.min(Duration::from_secs(1)));
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
        let mut connection = Connection::open(&self.config.local, self.config.settings.connect_timeout).await?;
        let info = PeerInfo::parse(
            &self.call(&mut connection, &[b"SYNCER.PEER", peer.to_string().as_bytes(), b"INFO"]).await?,
        )?;
        self.found(&info);
        backoff.reset();
        let mut clock_asked: Option<Instant> = None;
        loop {
            self.tell_states(&mut connection).await?;
            self.fetch_report(&mut connection).await?;
            let now = Instant::now();
            if clock_asked.is_none_or(|asked| now.duration_since(asked) >= CLOCK_EVERY) {
                clock_asked = Some(now);
                self.fetch_clock(&mut connection).await?;
                self.fetch_resync(&mut connection).await?;
            }
            tokio::select! {
                () = tokio::time::sleep(self.config.settings.report_every) => {}
                () = self.board.report_soon.notified() => {}
                () = self.board.states_changed.notified() => {}
            }
        }
    }

    fn found(&mut self, info: &PeerInfo) {
        let PeerInfo { instance, replid, .. } = info;
        info!(address = %self.config.local, state = "up", %instance, %replid, "local server");
        self.trouble = None;
        self.told.clear();
        self.generation += 1;
        self.board.set_local_clock(info.clock.clone(), Instant::now());
        self.board.local.send_replace(Some(self.generation));
    }

    async fn tell_states(&mut self, connection: &mut Connection) -> Result<(), LocalError> {
        let states = self.board.states.borrow().clone();
        for (peer, (state, cause)) in states {
            if self.told.get(&peer).is_some_and(|told| *told == (state, cause.clone())) {
                continue;
            }
            let (id, word) = (peer.to_string(), state.to_string());
            let args: [&[u8]; 5] = [b"SYNCER.PEER", id.as_bytes(), b"STATE", word.as_bytes(), cause.as_bytes()];
            self.call(connection, &args).await?;
            self.told.insert(peer, (state, cause));
        }
        Ok(())
    }

    async fn fetch_report(&self, connection: &mut Connection) -> Result<(), LocalError> {
        if let Reply::Bulk(report) = self.call(connection, &[b"SYNCER.REPORT"]).await? {
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

    async fn fetch_clock(&self, connection: &mut Connection) -> Result<(), LocalError> {
        if let Reply::Bulk(clock) | Reply::Status(clock) = self.call(connection, &[b"SYNCER.CLOCK"]).await? {
            self.board.set_local_clock(clock, Instant::now());
        }
        Ok(())
    }

    async fn fetch_resync(&self, connection: &mut Connection) -> Result<(), LocalError> {
        if let Ok(status) = SyncStatus::parse(&self.call(connection, &[b"SYNCER.SYNC", b"STATUS"]).await?) {
            self.board.resync.send_if_modified(|known| std::mem::replace(known, status.wanted) != status.wanted);
        }
        Ok(())
    }

    async fn call(&self, connection: &mut Connection, args: &[&[u8]]) -> Result<Reply, ConnectionError> {
        let reply = within(CALL_TIMEOUT, &self.config.local, connection.call(args)).await?;
        if let Reply::Error(error) = &reply {
            tracing::debug!(%error, "refused by the local server");
        }
        Ok(reply)
    }
}
