//! The second connection to a peer: our reports go there, its clock comes back.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use syncer_shared::instance::InstanceId;
use tokio::sync::Notify;

use crate::backoff::Backoff;
use crate::board::{ANY_CLOCK, Board, LOGGED_CLOCK, parse_clock};
use crate::config::{Endpoint, Settings};
use crate::connection::{Connection, ConnectionError, within};
use crate::denied::Denied;
use crate::resp::Reply;

/// How often the peer's clock is asked for, and an unchanged report repeated.
const CLOCK_EVERY: Duration = Duration::from_secs(1);
/// How long the peer may take: it may be busy.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs beside one stream.
#[derive(Debug)]
pub struct Control<'a> {
    /// Of the peer.
    pub peer: InstanceId,
    /// Of the local server.
    pub local: InstanceId,
    /// The peer's address.
    pub source: &'a Endpoint,
    /// Reports come from here, clocks go there.
    pub board: &'a Rc<Board>,
    /// Times.
    pub settings: &'a Settings,
}

impl Control<'_> {
    /// Reports for ever; its troubles are no reason to end the stream, which tells of the same ones.
    pub async fn run(&self, report_now: &Notify) -> Infallible {
        let mut backoff = Backoff::new(self.settings.retry_max);
        loop {
            match self.report(report_now, &mut backoff).await {
                Ok(never) => return never,
                Err(error) => tracing::debug!(peer = %self.peer, %error, "control connection ended"),
            }
            tokio::time::sleep(backoff.pause(fastrand::f64())).await;
        }
    }

    async fn report(&self, report_now: &Notify, backoff: &mut Backoff) -> Result<Infallible, ConnectionError> {
        let mut connection = Connection::open(self.source, self.settings.connect_timeout).await?;
        let mut report = self.board.report.subscribe();
        let mut clock_asked: Option<Instant> = None;
        let (mut told, mut denied) = (Bytes::new(), Denied::default());
        loop {
            let newest = report.borrow_and_update().clone();
            let now = Instant::now();
            let clock_due = clock_asked.is_none_or(|asked| now.duration_since(asked) >= CLOCK_EVERY);
            if !newest.is_empty() && (newest != told || clock_due) {
                let from = self.local.to_string();
                let args: [&[u8]; 3] = [b"SYNCER.REPORT", from.as_bytes(), &newest];
                self.call(&mut connection, &mut denied, &args).await?;
                told = newest;
            }
            if clock_due {
                clock_asked = Some(now);
                let mut reply = self.call(&mut connection, &mut denied, &LOGGED_CLOCK).await?;
                if matches!(reply, Reply::Error(_)) {
                    reply = self.call(&mut connection, &mut denied, &ANY_CLOCK).await?;
                }
                if let Reply::Bulk(text) | Reply::Status(text) = reply
                    && let Some(clock) = parse_clock(&text)
                {
                    self.board.relay.borrow_mut().on_clock(self.peer, clock);
                }
            }
            backoff.reset();
            tokio::select! {
                changed = report.changed() => if changed.is_err() { std::future::pending().await },
                // The fresh report then comes as a change.
                () = report_now.notified() => self.board.report_soon.notify_one(),
                () = tokio::time::sleep(CLOCK_EVERY) => {}
            }
        }
    }

    async fn call(
        &self,
        connection: &mut Connection,
        denied: &mut Denied,
        args: &[&[u8]],
    ) -> Result<Reply, ConnectionError> {
        let reply = within(CALL_TIMEOUT, self.source, connection.call(args)).await?;
        // The stream goes on without: nobody else tells of it.
        if let Some(missing) = args.first().and_then(|command| denied.look(command, &reply)) {
            let (peer, address) = (self.peer, self.source);
            tracing::warn!(%peer, %address, cause = %missing, "peer: a right is missing");
        }
        if let Reply::Error(error) = &reply {
            tracing::debug!(peer = %self.peer, %error, "refused on the control connection");
        }
        Ok(reply)
    }
}
