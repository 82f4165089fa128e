//! From the file into the local server: of a new snapshot, or of one of which a part is merged already.

use std::time::Instant;

use bytes::Bytes;
use tracing::{info, warn};

use super::full::{FullSync, not_taken, out_of_order, refused_by_local};
use super::progress::Progress;
use super::{End, Herald, PeerState};
use crate::connection::Connection;
use crate::protocol::{Code, Refusal, SnapshotName, SyncStatus, merged_bytes};
use crate::resp::Reply;
use crate::spool::{Spool, SpoolError, Spools};

impl FullSync<'_> {
    /// Goes on with a merge that was broken off, if its snapshot is here; the source is not asked. Returns whether it was.
    ///
    /// # Errors
    /// Whatever breaks it off again.
    pub async fn resume(&self, herald: &mut Herald) -> Result<bool, End> {
        let mut target = Connection::open(self.target, self.timeout).await.map_err(End::Target)?;
        let status = self.at_target(&mut target, &[b"SYNCER.SYNC", b"STATUS"], &[]).await?;
        let status = SyncStatus::parse(&status).map_err(refused_by_local)?;
        let Some(wanted) = status.snapshot.filter(|_| status.is_broken) else { return Ok(false) };
        let spools = self.folder.lock(self.info(&mut target).await?.instance)?;
        let mut found = spools.list();
        // Another one that has all of it does as well: the module knows.
        found.sort_by_key(|spool| SnapshotName::from(&spool.head) != wanted);
        for spool in found {
            let source = spool.head.instance;
            info!(%source, "full sync goes on: its snapshot is here");
            let text = format!("a full sync goes on with the snapshot of instance {source}, which is here");
            herald.tell(PeerState::Syncing, text, Instant::now());
            match self.merge_found(&mut target, spool, &spools, herald).await {
                Ok(()) => return Ok(true),
                Err(End::NotTaken(refusal)) => info!(%refusal, "full sync: the snapshot is not taken"),
                Err(End::Spool(SpoolError::Damaged { .. })) => {}
                Err(end) => return Err(end),
            }
        }
        Ok(false)
    }

    /// A file that was found: it is read once before, since a disk may have damaged it. One that was just written is not.
    async fn merge_found(
        &self,
        target: &mut Connection,
        spool: Spool,
        spools: &Spools<'_>,
        herald: &mut Herald,
    ) -> Result<(), End> {
        match spool.verify().await {
            Ok(()) => self.merge(target, spool, spools, herald).await,
            Err(error) => Err(useless(spool, error.into())),
        }
    }

    /// All keys of a file, and what it does not have.
    ///
    /// # Errors
    /// Whatever breaks it off. A file of no use is removed, any other stays.
    pub(super) async fn merge(
        &self,
        target: &mut Connection,
        spool: Spool,
        spools: &Spools<'_>,
        herald: &mut Herald,
    ) -> Result<(), End> {
        let source = spool.head.instance;
        let token = match self.begin(target, &spool).await {
            Err(End::NotTaken(refusal)) => return Err(useless(spool, End::NotTaken(refusal))),
            token => token?,
        };
        spools.supersede(&spool);
        let mut progress = Progress::new("merged", spool.keys);
        let mut pieces = spool.pieces().await?;
        while let Some((bytes, keys)) = pieces.next().await? {
            if let Err(end) = self.merge_piece(target, &token, bytes, &mut progress).await {
                return Err(if is_nonsense(&end) { useless(spool, end) } else { end });
            }
            progress.keys = keys;
            if let Some(text) = progress.news(source, self.reason) {
                herald.tell(PeerState::Syncing, text, Instant::now());
            }
        }
        while self.text(target, &[b"SYNCER.SYNC", b"END", token.as_bytes()]).await? != "DONE" {}
        let seconds = progress.seconds();
        info!(peer = %source, bytes = progress.bytes, seconds, "full sync is complete");
        // The file goes when all of this is durable.
        Ok(())
    }

    async fn begin(&self, target: &mut Connection, spool: &Spool) -> Result<String, End> {
        let (source, keys) = (spool.head.instance.to_string(), spool.keys.to_string());
        let words: [&[u8]; 5] = [b"SYNCER.SYNC", b"BEGIN", source.as_bytes(), keys.as_bytes(), self.reason.as_bytes()];
        match self.at_target(target, &words, std::slice::from_ref(&spool.head_bytes)).await? {
            Reply::Integer(token) => Ok(token.to_string()),
            Reply::Error(text) => Err(not_taken(&text)),
            _ => Err(out_of_order()),
        }
    }

    /// Slice by slice.
    async fn merge_piece(
        &self,
        target: &mut Connection,
        token: &str,
        mut keys: Bytes,
        progress: &mut Progress,
    ) -> Result<(), End> {
        while !keys.is_empty() {
            let words: [&[u8]; 3] = [b"SYNCER.SYNC", b"KEYS", token.as_bytes()];
            let reply = self.at_target(target, &words, std::slice::from_ref(&keys)).await?;
            let used = merged_bytes(&reply).map_err(refused_by_local)?;
            if used == 0 || used > keys.len() {
                return Err(out_of_order());
            }
            let _ = keys.split_to(used);
            progress.bytes += used as u64;
        }
        Ok(())
    }
}

/// What was read is no snapshot.
fn is_nonsense(end: &End) -> bool {
    matches!(end, End::Refused { refusal: Refusal { code: Code::Frame, .. }, .. })
}

/// Tells and removes: the next attempt takes a new one.
fn useless(spool: Spool, end: End) -> End {
    warn!(source = %spool.head.instance, cause = %end, "a snapshot in a file is of no use: it is removed");
    spool.remove();
    end
}
