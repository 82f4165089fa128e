//! From two fresh connections to a stream: where to read on.

use std::time::{Duration, Instant};

use syncer_shared::instance::{InstanceId, InstanceSet};
use syncer_shared::replid::ReplId;

use super::End;
use crate::config::Endpoint;
use crate::connection::{Connection, ConnectionError, within};
use crate::protocol::{Code, Hello, PeerInfo, Position, Refusal, SyncStatus, Welcome, send_psync};
use crate::resp::Reply;

/// The reason of a full sync that a person wants.
pub const BY_HAND: &str = "SYNCER.RESYNC";

/// The connections of one stream, ready to read and apply.
#[derive(Debug)]
pub struct Joined {
    /// To the peer.
    pub source: Connection,
    /// To the local server.
    pub target: Connection,
    /// The local server's instance.
    pub local: InstanceId,
    /// Where reading begins; also the local server's position for the peer.
    pub position: Position,
    /// Where the source's backlog ends.
    pub end: u64,
    /// Everything applied locally.
    pub clock: bytes::Bytes,
    /// The local server's reign.
    pub reign: ReplId,
}

/// Whom to join, and how.
#[derive(Clone, Copy, Debug)]
pub struct Join<'a> {
    /// The configured instance id of the peer.
    pub peer: InstanceId,
    /// Its address.
    pub source: &'a Endpoint,
    /// The local server's.
    pub target: &'a Endpoint,
    /// For each step.
    pub timeout: Duration,
    /// Whose effects to ask for.
    pub wanted: InstanceSet,
    /// Go by the clock in any case.
    pub by_clock: bool,
    /// For whom the position was moved last, and in which reign of the local server: it says nothing about others. After a failover
    /// or a restart it may be older than we are.
    pub moved_for: Option<(ReplId, InstanceSet)>,
}

impl Join<'_> {
    /// Connects to both ends, once `connected` hands over to the handshake.
    ///
    /// # Errors
    /// Whatever ends a stream.
    pub async fn run(&self, connected: impl FnOnce(Instant)) -> Result<Joined, End> {
        let Self { source, target, timeout, .. } = *self;
        let mut source = Connection::open(source, timeout).await.map_err(End::Source)?;
        let mut target = Connection::open(target, timeout).await.map_err(End::Target)?;
        connected(Instant::now());
        let info = within(timeout, self.target, self.info(&mut target)).await.map_err(End::Target)??;
        let status = within(timeout, self.target, self.sync_status(&mut target)).await.map_err(End::Target)??;
        let welcome = within(timeout, self.source, self.psync(&mut source, &info)).await.map_err(End::Source)??;
        self.check(&welcome, &status)?;
        if info.position != Some(welcome.position) {
            let moving = self.set_position(&mut target, welcome.position);
            within(timeout, self.target, moving).await.map_err(End::Target)??;
        }
        let Welcome { position, end, .. } = welcome;
        Ok(Joined { source, target, local: info.instance, position, end, clock: info.clock, reign: info.replid })
    }

    async fn info(&self, target: &mut Connection) -> Result<Result<PeerInfo, End>, ConnectionError> {
        let reply = target.call(&[b"SYNCER.PEER", self.peer.to_string().as_bytes(), b"INFO"]).await?;
        Ok(PeerInfo::parse(&reply).map_err(refused_by_local))
    }

    async fn sync_status(&self, target: &mut Connection) -> Result<Result<SyncStatus, End>, ConnectionError> {
        let reply = target.call(&[b"SYNCER.SYNC", b"STATUS"]).await?;
        Ok(SyncStatus::parse(&reply).map_err(refused_by_local))
    }

    /// Whether somebody is wanted for whom the position was not moved.
    fn wants_more(&self, reign: ReplId) -> bool {
        let same = self.moved_for.filter(|(known, _)| *known == reign).map(|(_, moved_for)| moved_for);
        let moved_for = same.unwrap_or_default();
        self.wanted.iter().any(|wanted| wanted != self.peer && !moved_for.contains(wanted))
    }

    async fn psync(&self, source: &mut Connection, info: &PeerInfo) -> Result<Result<Welcome, End>, ConnectionError> {
        let by_clock = self.by_clock || self.wants_more(info.replid);
        send_psync(source, &Hello { local: info, wanted: self.wanted, by_clock });
        let reply = source.reply().await?;
        Ok(Welcome::parse(&reply).map_err(|refusal| End::Refused { whose: "the peer", refusal }))
    }

    async fn set_position(
        &self,
        target: &mut Connection,
        position: Position,
    ) -> Result<Result<(), End>, ConnectionError> {
        let Position { replid, offset } = position;
        let (peer, replid, offset) = (self.peer.to_string(), replid.to_string(), offset.to_string());
        let args: [&[u8]; 5] = [b"SYNCER.PEER", peer.as_bytes(), b"POSITION", replid.as_bytes(), offset.as_bytes()];
        Ok(match target.call(&args).await? {
            Reply::Error(text) => Err(refused_by_local(Refusal::from_error(&text))),
            _ => Ok(()),
        })
    }

    fn check(&self, welcome: &Welcome, status: &SyncStatus) -> Result<(), End> {
        let refused = |whose, code, text| Err(End::Refused { whose, refusal: Refusal { code, text } });
        if welcome.instance != self.peer {
            let text = format!("the server there is instance {}, not {}", welcome.instance, self.peer);
            return refused("the peer", Code::Id, text);
        }
        if status.is_running {
            let text = "SYNCERSYNC an agent is bringing a full sync".to_owned();
            return refused("the local server", Code::Syncing, text);
        }
        if status.is_broken {
            return Err(End::NeedsFull("the last one was broken off".into()));
        }
        if welcome.full {
            let why = if welcome.reason.is_empty() { "its backlog does not reach back" } else { &welcome.reason };
            return Err(End::NeedsFull(why.to_owned()));
        }
        if status.wanted.contains(self.peer) {
            return Err(End::NeedsFull(BY_HAND.into()));
        }
        Ok(())
    }
}

fn refused_by_local(refusal: Refusal) -> End {
    End::Refused { whose: "the local server", refusal }
}
