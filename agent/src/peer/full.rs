//! A full sync: a snapshot of the peer goes, piece by piece, into the local server.
//!
//! Nothing of it is kept here: when it breaks off, the local module knows, and the next attempt begins anew.

use std::time::{Duration, Instant};

use bytes::Bytes;
use syncer_shared::instance::InstanceId;
use tracing::info;

use super::{End, Herald, PeerState};
use crate::config::Endpoint;
use crate::connection::{Connection, within};
use crate::protocol::{Code, PeerInfo, Piece, Refusal, SnapshotBegun, merged_bytes};
use crate::resp::Reply;

/// Reads that the source is asked for ahead of what is merged.
pub(super) const READS: usize = 2;
/// How long either end may take for one step: a large key, or a machine that is busy with the fork.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(60);
/// How often progress is told, and logged.
const TELL_EVERY: Duration = Duration::from_secs(1);
const LOG_EVERY: Duration = Duration::from_secs(10);

/// From whom to whom, and why.
#[derive(Debug)]
pub struct FullSync<'a> {
    /// The peer.
    pub peer: InstanceId,
    /// Its address.
    pub source: &'a Endpoint,
    /// The local server's.
    pub target: &'a Endpoint,
    /// For connecting.
    pub timeout: Duration,
    /// For the logs.
    pub reason: &'a str,
    /// Whether it may be a file, if the local server is empty; not after one was refused.
    pub by_file: bool,
}

/// How far it is.
pub(super) struct Progress {
    begun: Instant,
    told: Instant,
    logged: Instant,
    pub(super) bytes: u64,
    keys: u64,
    /// 0 when it is not known how many keys the bytes are.
    keys_total: u64,
}

impl Progress {
    /// At the beginning.
    pub(super) fn new(keys_total: u64) -> Self {
        let now = Instant::now();
        Self { begun: now, told: now, logged: now, bytes: 0, keys: 0, keys_total }
    }

    /// Since the beginning.
    pub(super) fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// In hundredths of the keys; their number is an estimate.
    fn percent(&self) -> u64 {
        (self.keys * 100).checked_div(self.keys_total).unwrap_or(0).min(100)
    }

    /// Seconds until the rest is merged, at the rate so far.
    fn seconds_left(&self) -> u64 {
        let rate = self.keys as f64 / self.begun.elapsed().as_secs_f64().max(0.001);
        (self.keys_total.saturating_sub(self.keys) as f64 / rate.max(0.001)) as u64
    }
}

impl FullSync<'_> {
    /// Runs it.
    ///
    /// # Errors
    /// Whatever breaks it off.
    pub async fn run(&self, herald: &mut Herald) -> Result<(), End> {
        let mut source = Connection::open(self.source, self.timeout).await.map_err(End::Source)?;
        let mut target = Connection::open(self.target, self.timeout).await.map_err(End::Target)?;
        herald.tell(PeerState::Syncing, self.reason.to_owned(), Instant::now());
        let info = PeerInfo::parse(
            &self.at_target(&mut target, &[b"SYNCER.PEER", self.peer.to_string().as_bytes(), b"INFO"], &[]).await?,
        )
        .map_err(refused_by_local)?;
        let reader = info.instance.to_string();
        self.prepare(&mut target).await?;
        let offer =
            if self.by_file && info.standing[..] == *b"blank" { self.offer(&mut target).await? } else { String::new() };
        let begin: [&[u8]; 4] = [b"SYNCER.SNAPSHOT", b"BEGIN", reader.as_bytes(), offer.as_bytes()];
        let begun = self.at_source(&mut source, if offer.is_empty() { &begin[..3] } else { &begin }).await?;
        let begun = SnapshotBegun::parse(&begun).map_err(refused_by_peer)?;
        if begun.is_file {
            // What refuses a file is no reason to be down: the next attempt is a merge.
            return self.load(&mut source, &mut target, &begun, herald).await.map_err(|end| match end {
                End::Refused { whose, refusal } => End::NoFile { whose, refusal },
                end => end,
            });
        }
        let id = begun.id.to_string();
        let read: [&[u8]; 3] = [b"SYNCER.SNAPSHOT", b"READ", id.as_bytes()];
        (0..READS).for_each(|_| source.send(&read));
        let Piece::Head(head) = self.piece(&mut source).await? else { return Err(out_of_order()) };
        let token = self.begin(&mut target, begun.keys, &head).await?;
        info!(peer = %self.peer, keys = begun.keys, reason = self.reason, "full sync begins");
        let mut progress = Progress::new(begun.keys);
        loop {
            source.send(&read);
            match self.piece(&mut source).await? {
                Piece::Keys { bytes, keys } => {
                    self.merge(&mut target, &token, bytes, &mut progress).await?;
                    progress.keys = keys;
                    self.tell(&mut progress, herald);
                }
                Piece::End(_) => break,
                Piece::Head(_) | Piece::File(_) => return Err(out_of_order()),
            }
        }
        while self.text(&mut target, &[b"SYNCER.SYNC", b"END", token.as_bytes()]).await? != "DONE" {}
        let seconds = progress.seconds();
        info!(peer = %self.peer, bytes = progress.bytes, seconds, "full sync is complete");
        Ok(())
    }

    /// From now on the local server gives no snapshot itself. A module of an earlier release does not know the word.
    async fn prepare(&self, target: &mut Connection) -> Result<(), End> {
        let peer = self.peer.to_string();
        match self.at_target(target, &[b"SYNCER.SYNC", b"PREPARE", peer.as_bytes()], &[]).await? {
            Reply::Error(text) if text.starts_with("SYNCERSYNC") => Err(refused_by_local(Refusal::from_error(&text))),
            _ => Ok(()),
        }
    }

    async fn begin(&self, target: &mut Connection, keys: u64, head: &Bytes) -> Result<String, End> {
        let (peer, keys) = (self.peer.to_string(), keys.to_string());
        let args: [&[u8]; 5] = [b"SYNCER.SYNC", b"BEGIN", peer.as_bytes(), keys.as_bytes(), self.reason.as_bytes()];
        match self.at_target(target, &args, std::slice::from_ref(head)).await? {
            Reply::Integer(token) => Ok(token.to_string()),
            Reply::Error(text) => Err(refused_by_local(Refusal::from_error(&text))),
            _ => Err(out_of_order()),
        }
    }

    /// A piece, slice by slice.
    async fn merge(
        &self,
        target: &mut Connection,
        token: &str,
        mut keys: Bytes,
        progress: &mut Progress,
    ) -> Result<(), End> {
        while !keys.is_empty() {
            let args: [&[u8]; 3] = [b"SYNCER.SYNC", b"KEYS", token.as_bytes()];
            let reply = self.at_target(target, &args, std::slice::from_ref(&keys)).await?;
            let used = merged_bytes(&reply).map_err(refused_by_local)?;
            if used == 0 || used > keys.len() {
                return Err(out_of_order());
            }
            let _ = keys.split_to(used);
            progress.bytes += used as u64;
        }
        Ok(())
    }

    pub(super) fn tell(&self, progress: &mut Progress, herald: &mut Herald) {
        let now = Instant::now();
        if now.duration_since(progress.told) < TELL_EVERY {
            return;
        }
        progress.told = now;
        let per_second = progress.bytes as f64 / progress.seconds();
        let Progress { bytes, keys, keys_total, .. } = *progress;
        let (percent, left) = (progress.percent(), progress.seconds_left());
        let text = match keys_total {
            0 => format!("{}; {bytes} bytes of a file so far, {per_second:.0} per second", self.reason),
            _ => format!(
                "{}; {keys} of {keys_total} keys ({percent} %), {bytes} bytes so far, {per_second:.0} per second, {left} s left",
                self.reason
            ),
        };
        if now.duration_since(progress.logged) >= LOG_EVERY {
            progress.logged = now;
            info!(peer = %self.peer, keys, keys_total, percent, bytes, per_second = per_second as u64, seconds_left = left, "full sync goes on");
        }
        herald.tell(PeerState::Syncing, text, now);
    }

    pub(super) async fn piece(&self, source: &mut Connection) -> Result<Piece, End> {
        let reply = within(STEP_TIMEOUT, self.source, source.reply()).await.map_err(End::Source)?;
        Piece::parse(&reply).map_err(refused_by_peer)
    }

    async fn text(&self, target: &mut Connection, args: &[&[u8]]) -> Result<String, End> {
        let reply = within(STEP_TIMEOUT, self.target, target.call(args)).await.map_err(End::Target)?;
        match (&reply, reply.text()) {
            (Reply::Error(text), _) => Err(refused_by_local(Refusal::from_error(text))),
            (_, Some(text)) => Ok(text.to_owned()),
            _ => Err(out_of_order()),
        }
    }

    async fn at_source(&self, source: &mut Connection, args: &[&[u8]]) -> Result<Reply, End> {
        within(STEP_TIMEOUT, self.source, source.call(args)).await.map_err(End::Source)
    }

    pub(super) async fn at_target(
        &self,
        target: &mut Connection,
        args: &[&[u8]],
        payload: &[Bytes],
    ) -> Result<Reply, End> {
        let call = async {
            if payload.is_empty() {
                target.send(args);
            } else {
                target.send_with_payload(args, payload);
            }
            target.reply().await
        };
        within(STEP_TIMEOUT, self.target, call).await.map_err(End::Target)
    }
}

fn refused_by_peer(refusal: Refusal) -> End {
    End::Refused { whose: "the peer", refusal }
}

pub(super) fn refused_by_local(refusal: Refusal) -> End {
    End::Refused { whose: "the local server", refusal }
}

pub(super) fn out_of_order() -> End {
    let text = "unexpected answer during a full sync".to_owned();
    End::Refused { whose: "one of the servers", refusal: Refusal { code: Code::Shape, text } }
}
