//! A full sync into an empty server: an RDB file of the peer, which the local server loads itself.

use std::time::{Duration, Instant};

use tracing::info;

use super::full::{FullSync, READS, STEP_TIMEOUT, Source, out_of_order, refused_by_local};
use super::progress::Progress;
use super::{End, Herald, PeerState};
use crate::connection::{Connection, within};
use crate::protocol::{Piece, Refusal, SnapshotBegun};
use crate::resp::Reply;

/// How often the local server is asked whether it has loaded the file: soon at first, for a small one.
const ASK_FIRST: Duration = Duration::from_millis(1);
const ASK_EVERY: Duration = Duration::from_millis(20);
/// By so much rarer each time: a few hundredths of a load's time are lost at its end.
const ASK_RARER: f64 = 1.03;

impl FullSync<'_> {
    /// What files the local server takes; empty: none. A module of an earlier release knows nothing of files.
    pub(super) async fn offer(&self, target: &mut Connection) -> Result<String, End> {
        let reply = within(STEP_TIMEOUT, self.target, target.call(&[b"SYNCER.SYNC", b"OFFER"])).await;
        Ok(reply.map_err(End::Target)?.text().unwrap_or_default().to_owned())
    }

    /// Brings the file and has it loaded.
    pub(super) async fn load(
        &self,
        source: &mut Source<'_>,
        target: &mut Connection,
        begun: &SnapshotBegun,
        herald: &mut Herald,
    ) -> Result<(), End> {
        info!(peer = %self.peer, keys = begun.keys, reason = self.reason, "full sync begins, as a file: the local server is empty");
        let (peer, keys, id) = (self.peer.to_string(), begun.keys.to_string(), begun.id.to_string());
        let read: [&[u8]; 3] = [b"SYNCER.SNAPSHOT", b"READ", id.as_bytes()];
        (0..READS).for_each(|_| source.connection.send(&read));
        let load: [&[u8]; 5] = [b"SYNCER.SYNC", b"LOAD", peer.as_bytes(), keys.as_bytes(), self.reason.as_bytes()];
        let Reply::Integer(token) = self.accepted(target, &load, &[]).await? else { return Err(out_of_order()) };
        let token = token.to_string();
        let mut progress = Progress::new("copied as a file", begun.keys);
        let sum = loop {
            source.connection.send(&read);
            match source.piece().await? {
                Piece::File { bytes, keys } => {
                    (progress.keys, progress.bytes) = (keys, progress.bytes + bytes.len() as u64);
                    self.accepted(target, &[b"SYNCER.SYNC", b"PIECE", token.as_bytes()], &[bytes]).await?;
                    if let Some(text) = progress.news(self.peer, self.reason) {
                        herald.tell(PeerState::Syncing, text, Instant::now());
                        self.reserve(target, &progress, &[]).await?;
                    }
                }
                Piece::End(sum) => break sum,
                Piece::Head(_) | Piece::Keys { .. } => return Err(out_of_order()),
            }
        };
        let sum = String::from_utf8_lossy(&sum).into_owned();
        let (bytes, hash) = sum.split_once(' ').ok_or_else(out_of_order)?;
        let written: [&[u8]; 5] = [b"SYNCER.SYNC", b"WRITTEN", token.as_bytes(), bytes.as_bytes(), hash.as_bytes()];
        self.accepted(target, &written, &[]).await?;
        info!(peer = %self.peer, bytes = progress.bytes, seconds = progress.seconds(), "full sync: the local server loads the file");
        self.swap(target, &token, &progress, herald).await?;
        info!(peer = %self.peer, bytes = progress.bytes, seconds = progress.seconds(), "full sync is complete");
        Ok(())
    }

    /// The server answers while it loads, but only that it does.
    async fn swap(
        &self,
        target: &mut Connection,
        token: &str,
        progress: &Progress,
        herald: &mut Herald,
    ) -> Result<(), End> {
        let text = format!("{}; the local server loads {} bytes", self.reason, progress.bytes);
        herald.tell(PeerState::Syncing, text, Instant::now());
        let mut pause = ASK_FIRST;
        loop {
            let swap: [&[u8]; 3] = [b"SYNCER.SYNC", b"SWAP", token.as_bytes()];
            match self.at_target(target, &swap, &[]).await? {
                Reply::Error(text) if text.starts_with("LOADING ") => {}
                Reply::Error(text) => return Err(refused_by_local(Refusal::from_error(&text))),
                reply if reply.text() == Some("DONE") => return Ok(()),
                reply if reply.text() == Some("LOADING") => {}
                _ => return Err(out_of_order()),
            }
            tokio::time::sleep(pause).await;
            pause = pause.mul_f64(ASK_RARER).min(ASK_EVERY);
        }
    }

    async fn accepted(&self, target: &mut Connection, args: &[&[u8]], payload: &[bytes::Bytes]) -> Result<Reply, End> {
        match self.at_target(target, args, payload).await? {
            Reply::Error(text) => Err(refused_by_local(Refusal::from_error(&text))),
            reply => Ok(reply),
        }
    }
}
