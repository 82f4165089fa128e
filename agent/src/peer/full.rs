//! A full sync: a snapshot of the peer goes into a file, and from there, when it is whole, into the local server ([`crate::spool`]).

use std::time::{Duration, Instant};

use bytes::Bytes;
use syncer_shared::instance::InstanceId;
use tracing::info;

use super::progress::Progress;
use super::{End, Herald, PeerState};
use crate::config::Endpoint;
use crate::connection::{Connection, within};
use crate::protocol::{Code, PeerInfo, Piece, Refusal, SnapshotBegun, merged_bytes};
use crate::resp::Reply;
use crate::spool::{Folder, Spool, Spools};

/// Reads that the source is asked for ahead of what is written: its child and the target work at the same time, and neither is to wait because the
/// other takes longer for a piece than for the one before.
pub(super) const READS: usize = 4;
/// How long either end may take for one step: a large key, or a machine that is busy with the fork.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// Into which server, for whom, and why.
#[derive(Debug)]
pub struct FullSync<'a> {
    /// The peer.
    pub peer: InstanceId,
    /// The local server's address.
    pub target: &'a Endpoint,
    /// For connecting.
    pub timeout: Duration,
    /// For the logs.
    pub reason: &'a str,
    /// Whether it may be a file of the servers' own kind, if the local server is empty; not after one was refused.
    pub by_file: bool,
    /// Where snapshots are kept.
    pub folder: &'a Folder,
}

impl FullSync<'_> {
    /// Takes a snapshot at `source`, and merges it.
    ///
    /// # Errors
    /// Whatever breaks it off.
    pub async fn run(&self, source: &Endpoint, herald: &mut Herald) -> Result<(), End> {
        let from = source;
        let mut source = Connection::open(from, self.timeout).await.map_err(End::Source)?;
        let mut target = Connection::open(self.target, self.timeout).await.map_err(End::Target)?;
        herald.tell(PeerState::Syncing, self.reason.to_owned(), Instant::now());
        let info = self.info(&mut target).await?;
        self.reserve(&mut target, &Progress::new("copied", 0), &[]).await?;
        let reader = info.instance.to_string();
        let offer =
            if self.by_file && info.standing[..] == *b"blank" { self.offer(&mut target).await? } else { String::new() };
        let spools = match self.folder.lock(info.instance) {
            // Before the source forks in vain. A file of the servers' own kind goes to the servers' own disks.
            Err(error) if offer.is_empty() => return Err(error.into()),
            spools => spools,
        };
        let begin: [&[u8]; 4] = [b"SYNCER.SNAPSHOT", b"BEGIN", reader.as_bytes(), offer.as_bytes()];
        let begin = if offer.is_empty() { &begin[..3] } else { &begin };
        let begun = within(STEP_TIMEOUT, from, source.call(begin)).await.map_err(End::Source)?;
        let begun = SnapshotBegun::parse(&begun).map_err(refused_by_peer)?;
        let mut source = Source { connection: source, address: from };
        if begun.is_file {
            // What refuses a file is no reason to be down: the next attempt is a merge.
            return self.load(&mut source, &mut target, &begun, herald).await.map_err(|end| match end {
                End::Refused { whose, refusal } => End::NoFile { whose, refusal },
                end => end,
            });
        }
        let spools = spools?;
        let spool = self.copy(source, &mut target, &begun, &spools, herald).await?;
        self.merge(&mut target, spool, &spools, herald).await
    }

    pub(super) async fn info(&self, target: &mut Connection) -> Result<PeerInfo, End> {
        let peer = self.peer.to_string();
        let reply = self.at_target(target, &[b"SYNCER.PEER", peer.as_bytes(), b"INFO"], &[]).await?;
        PeerInfo::parse(&reply).map_err(refused_by_local)
    }

    /// Says how far the copy is, and that another agent is to wait; asks whether what begins with `head` would be taken. A module of an earlier
    /// release does not know the word.
    pub(super) async fn reserve(
        &self,
        target: &mut Connection,
        progress: &Progress,
        head: &[Bytes],
    ) -> Result<(), End> {
        let Progress { keys, keys_total, bytes, .. } = progress;
        let numbers = [u64::from(self.peer.get()), *keys, *keys_total, *bytes].map(|number| number.to_string());
        let [peer, keys, total, bytes] = &numbers;
        let words: [&[u8]; 6] =
            [b"SYNCER.SYNC", b"COPY", peer.as_bytes(), keys.as_bytes(), total.as_bytes(), bytes.as_bytes()];
        match self.at_target(target, &words, head).await? {
            Reply::Error(text) if !text.starts_with("ERR") => Err(not_taken(&text)),
            _ => Ok(()),
        }
    }

    /// The whole snapshot, on this disk.
    async fn copy(
        &self,
        mut source: Source<'_>,
        target: &mut Connection,
        begun: &SnapshotBegun,
        spools: &Spools<'_>,
        herald: &mut Herald,
    ) -> Result<Spool, End> {
        let id = begun.id.to_string();
        let read: [&[u8]; 3] = [b"SYNCER.SNAPSHOT", b"READ", id.as_bytes()];
        (0..READS).for_each(|_| source.connection.send(&read));
        let Piece::Head(head) = source.piece().await? else { return Err(out_of_order()) };
        // Before all of it is copied in vain.
        self.reserve(target, &Progress::new("copied", begun.keys), std::slice::from_ref(&head)).await?;
        info!(peer = %self.peer, keys = begun.keys, reason = self.reason, "full sync begins: its snapshot is copied");
        let mut file = spools.create(self.peer, begun.keys, &head).await?;
        let mut progress = Progress::new("copied", begun.keys);
        let mut compares = true;
        loop {
            source.connection.send(&read);
            match source.piece().await? {
                Piece::Keys { bytes, keys } => {
                    let (written, compared) = tokio::join!(file.piece(&bytes, keys), async {
                        if compares { self.compare(target, bytes.clone()).await } else { Ok(false) }
                    });
                    written?;
                    compares = compared?;
                    (progress.keys, progress.bytes) = (keys, progress.bytes + bytes.len() as u64);
                    if let Some(text) = progress.news(self.peer, self.reason) {
                        herald.tell(PeerState::Syncing, text, Instant::now());
                        self.reserve(target, &progress, &[]).await?;
                    }
                }
                Piece::End(_) => break,
                Piece::Head(_) | Piece::File { .. } => return Err(out_of_order()),
            }
        }
        let path = file.finish().await?;
        let seconds = progress.seconds();
        info!(peer = %self.peer, bytes = progress.bytes, seconds, "full sync: the whole snapshot is here");
        Ok(spools.open(&path)?)
    }

    /// Has the local server find out which keys are the same there, while the source is at those that come next. Whether it is to go on: a module of
    /// an earlier release does not know the word.
    async fn compare(&self, target: &mut Connection, mut keys: Bytes) -> Result<bool, End> {
        while !keys.is_empty() {
            let words: [&[u8]; 2] = [b"SYNCER.SYNC", b"COMPARE"];
            let reply = self.at_target(target, &words, std::slice::from_ref(&keys)).await?;
            // The merge will say what is wrong.
            let Ok(used) = merged_bytes(&reply) else { return Ok(false) };
            if used > keys.len() {
                return Err(out_of_order());
            }
            let _ = keys.split_to(used);
        }
        Ok(true)
    }

    pub(super) async fn text(&self, target: &mut Connection, args: &[&[u8]]) -> Result<String, End> {
        let reply = within(STEP_TIMEOUT, self.target, target.call(args)).await.map_err(End::Target)?;
        match (&reply, reply.text()) {
            (Reply::Error(text), _) => Err(refused_by_local(Refusal::from_error(text))),
            (_, Some(text)) => Ok(text.to_owned()),
            _ => Err(out_of_order()),
        }
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

/// Who gives the snapshot.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) connection: Connection,
    address: &'a Endpoint,
}

impl Source<'_> {
    pub(super) async fn piece(&mut self) -> Result<Piece, End> {
        let reply = within(STEP_TIMEOUT, self.address, self.connection.reply()).await.map_err(End::Source)?;
        Piece::parse(&reply).map_err(refused_by_peer)
    }
}

fn refused_by_peer(refusal: Refusal) -> End {
    End::Refused { whose: "the peer", refusal }
}

pub(super) fn refused_by_local(refusal: Refusal) -> End {
    End::Refused { whose: "the local server", refusal }
}

/// Whether it is about this snapshot, or about the moment.
pub(super) fn not_taken(text: &str) -> End {
    let refusal = Refusal::from_error(text);
    let is_behind = refusal.code == Code::Syncing && text.contains("had more than");
    if is_behind || matches!(refusal.code, Code::Frame | Code::Id | Code::Forgotten) {
        End::NotTaken(refusal)
    } else {
        refused_by_local(refusal)
    }
}

pub(super) fn out_of_order() -> End {
    let text = "unexpected answer during a full sync".to_owned();
    End::Refused { whose: "one of the servers", refusal: Refusal { code: Code::Shape, text } }
}
