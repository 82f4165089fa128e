//! The data plane as the agent sees it: requests out, typed replies in. `docs/PROTOCOL.md` is the norm.
//!
//! Replies come over the network: every accessor is total, and a reply of another shape is a [`Refusal`].

mod refusal;
mod role;

use bytes::Bytes;
use syncer_shared::instance::{InstanceId, InstanceSet};
use syncer_shared::replid::ReplId;
use syncer_shared::snapshot::SnapshotHead;

use crate::connection::Connection;
use crate::resp::{Decimal, Reply};
pub use refusal::{Code, Refusal};
pub use role::Role;

/// Version of the data plane that we speak.
pub const VERSION: &str = "1";

/// A place in the backlog of one reign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The replication ID that the offset belongs to.
    pub replid: ReplId,
    /// Bytes since that backlog began.
    pub offset: u64,
}

/// Answer of the local server to `SYNCER.PEER <instance> INFO`.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// The local server's instance.
    pub instance: InstanceId,
    /// Its replication ID.
    pub replid: ReplId,
    /// Up to where the peer's effects are applied; `None` before the first contact.
    pub position: Option<Position>,
    /// Everything applied locally, as a clock token.
    pub clock: Bytes,
    /// What the local server is in its group, in the module's own words.
    pub standing: Bytes,
}

/// What `SYNCER.PSYNC` is asked with.
#[derive(Clone, Debug)]
pub struct Hello<'a> {
    /// The local server.
    pub local: &'a PeerInfo,
    /// Whose effects are wanted.
    pub wanted: InstanceSet,
    /// Go by the clock, not by the position.
    pub by_clock: bool,
}

/// Answer of the source to `SYNCER.PSYNC`.
#[derive(Clone, Debug)]
pub struct Welcome {
    /// The backlog does not reach back: a full sync would be needed.
    pub full: bool,
    /// Who answered.
    pub instance: InstanceId,
    /// Where reading begins.
    pub position: Position,
    /// Where the backlog ends.
    pub end: u64,
    /// Why this answer.
    pub reason: String,
}

/// Answer of the source to `SYNCER.READ`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where it begins.
    pub from: u64,
    /// Where the next one begins.
    pub next: u64,
    /// Where the source's backlog ended at that moment.
    pub end: u64,
    /// The source's wall clock, Unix milliseconds.
    pub source_now_ms: u64,
    /// A client at the source waits in `SYNCER.WAIT`.
    pub report_now: bool,
    /// Whole frames of the wanted instances; skip frames stand for the others'.
    pub frames: Bytes,
}

/// How far `SYNCER.APPLY` came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All of it.
    Done,
    /// The next group needs this effect of another instance first.
    Wait(Option<Dependency>),
    /// The time budget was used up.
    Slice,
}

/// Answer of the local server to `SYNCER.SYNC STATUS`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncStatus {
    /// An agent is bringing a snapshot.
    pub is_running: bool,
    /// One came in part only: nothing helps but the rest of it, or another one.
    pub is_broken: bool,
    /// Whom `SYNCER.RESYNC` named.
    pub wanted: InstanceSet,
    /// Of which snapshot a part is here; not told by modules of an earlier release.
    pub snapshot: Option<SnapshotName>,
}

/// Which snapshot it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotName {
    /// Where it was taken.
    pub source: InstanceId,
    /// Where in the backlog there.
    pub position: Position,
}

impl From<&SnapshotHead> for SnapshotName {
    fn from(head: &SnapshotHead) -> Self {
        Self { source: head.instance, position: Position { replid: head.replid, offset: head.offset } }
    }
}

/// A snapshot that the source has begun to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotBegun {
    /// Names it.
    pub id: u64,
    /// About so many keys.
    pub keys: u64,
    /// It is an RDB file, as was offered.
    pub is_file: bool,
}

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// What goes before the keys.
    Head(Bytes),
    /// Keys.
    Keys {
        /// Their encoding.
        bytes: Bytes,
        /// Keys up to here, these included.
        keys: u64,
    },
    /// Bytes of an RDB file.
    File {
        /// As they are.
        bytes: Bytes,
        /// About how many keys the file has up to here; 0 if that is not known.
        keys: u64,
    },
    /// There is no more. Of a file, its length and hash.
    End(Bytes),
}

/// An effect that must be applied first: replication ID and timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The reign.
    pub replid: ReplId,
    /// The 64 bits of the timestamp, hex in the reply.
    pub ts: u64,
}

/// Answer of the target to `SYNCER.APPLY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// How far it came.
    pub progress: Progress,
    /// The position after it.
    pub offset: u64,
    /// Groups used up, duplicates included.
    pub groups: u64,
    /// How long the main thread was held.
    pub elapsed_us: u64,
    /// Everything applied locally, if that changed.
    pub clock: Option<Bytes>,
}

/// The elements of an array reply, read one after the other.
struct Fields<'a> {
    command: &'static str,
    elements: std::slice::Iter<'a, Reply>,
}

impl<'a> Fields<'a> {
    fn of(command: &'static str, reply: &'a Reply) -> Result<Self, Refusal> {
        match reply {
            Reply::Error(text) => Err(Refusal::from_error(text)),
            Reply::Array(elements) => Ok(Self { command, elements: elements.iter() }),
            _ => Err(Refusal::shape(command)),
        }
    }

    fn take<T>(&mut self, read: impl FnOnce(&'a Reply) -> Option<T>) -> Result<T, Refusal> {
        self.elements.next().and_then(read).ok_or_else(|| Refusal::shape(self.command))
    }

    fn number(&mut self) -> Result<u64, Refusal> {
        self.take(|reply| reply.integer()?.try_into().ok())
    }

    fn bytes(&mut self) -> Result<Bytes, Refusal> {
        self.take(|reply| match reply {
            Reply::Bulk(bytes) | Reply::Status(bytes) => Some(bytes.clone()),
            Reply::Nil => Some(Bytes::new()),
            _ => None,
        })
    }

    fn text(&mut self) -> Result<&'a str, Refusal> {
        self.take(|reply| if *reply == Reply::Nil { Some("") } else { reply.text() })
    }

    fn instance(&mut self) -> Result<InstanceId, Refusal> {
        self.take(|reply| InstanceId::new(reply.integer()?.try_into().ok()?))
    }

    fn replid(&mut self) -> Result<ReplId, Refusal> {
        self.take(|reply| reply.text()?.parse().ok())
    }
}

impl PeerInfo {
    /// From the reply.
    ///
    /// # Errors
    /// On an error reply or another shape.
    pub fn parse(reply: &Reply) -> Result<Self, Refusal> {
        let mut fields = Fields::of("SYNCER.PEER INFO", reply)?;
        let (instance, replid) = (fields.instance()?, fields.replid()?);
        let known: Option<ReplId> = fields.text()?.parse().ok();
        let offset = fields.take(Reply::integer)?;
        let position = known.zip(u64::try_from(offset).ok()).map(|(replid, offset)| Position { replid, offset });
        Ok(Self { instance, replid, position, clock: fields.bytes()?, standing: fields.bytes()? })
    }
}

impl Welcome {
    /// From the reply.
    ///
    /// # Errors
    /// On an error reply or another shape.
    pub fn parse(reply: &Reply) -> Result<Self, Refusal> {
        let mut fields = Fields::of("SYNCER.PSYNC", reply)?;
        let full = match fields.text()? {
            "CONTINUE" => false,
            "FULLRESYNC" => true,
            _ => return Err(Refusal::shape("SYNCER.PSYNC")),
        };
        let (instance, replid) = (fields.instance()?, fields.replid()?);
        let offset = fields.take(Reply::integer)?;
        let position = Position { replid, offset: offset.try_into().unwrap_or(0) };
        let end = fields.number()?;
        let _clock = fields.bytes()?;
        Ok(Self { full, instance, position, end, reason: fields.text()?.to_owned() })
    }
}

impl Chunk {
    /// The source wants a report at once.
    const FLAG_REPORT_NOW: u64 = 1;

    /// From the reply.
    ///
    /// # Errors
    /// On an error reply or another shape.
    pub fn parse(reply: &Reply) -> Result<Self, Refusal> {
        let mut fields = Fields::of("SYNCER.READ", reply)?;
        let (from, next, end, source_now_ms) = (fields.number()?, fields.number()?, fields.number()?, fields.number()?);
        let report_now = fields.number()? & Self::FLAG_REPORT_NOW != 0;
        let frames = fields.bytes()?;
        if next < from {
            return Err(Refusal::shape("SYNCER.READ"));
        }
        Ok(Self { from, next, end, source_now_ms, report_now, frames })
    }
}

impl Applied {
    /// From the reply.
    ///
    /// # Errors
    /// On an error reply or another shape.
    pub fn parse(reply: &Reply) -> Result<Self, Refusal> {
        let mut fields = Fields::of("SYNCER.APPLY", reply)?;
        let word = fields.text()?;
        let (offset, applied, duplicates) = (fields.number()?, fields.number()?, fields.number()?);
        let elapsed_us = fields.number()?;
        let waits_for = fields.text()?;
        let progress = match word {
            "DONE" => Progress::Done,
            "WAIT" => Progress::Wait(Dependency::parse(waits_for)),
            "SLICE" => Progress::Slice,
            _ => return Err(Refusal::shape("SYNCER.APPLY")),
        };
        let clock = Some(fields.bytes()?).filter(|clock| !clock.is_empty());
        Ok(Self { progress, offset, groups: applied.saturating_add(duplicates), elapsed_us, clock })
    }
}

impl SyncStatus {
    /// From the reply.
    ///
    /// # Errors
    /// On an error reply or another shape.
    pub fn parse(reply: &Reply) -> Result<Self, Refusal> {
        let mut fields = Fields::of("SYNCER.SYNC STATUS", reply)?;
        let word = fields.text()?;
        let wanted = fields.take(|reply| match reply {
            Reply::Array(ids) => ids.iter().map(|id| InstanceId::new(id.integer()?.try_into().ok()?)).collect(),
            _ => None,
        })?;
        let snapshot = fields.take(snapshot_name).ok();
        Ok(Self { is_running: word == "RUNNING", is_broken: word == "BROKEN", wanted, snapshot })
    }
}

fn snapshot_name(reply: &Reply) -> Option<SnapshotName> {
    let Reply::Array(fields) = reply else { return None };
    let [source, replid, offset] = &fields[..] else { return None };
    let source = InstanceId::new(source.integer()?.try_into().ok()?)?;
    let position = Position { replid: replid.text()?.parse().ok()?, offset: offset.integer()?.try_into().ok()? };
    Some(SnapshotName { source, position })
}

impl SnapshotBegun {
    /// From the reply.
    ///
    /// # Errors
    /// On an error reply or another shape.
    pub fn parse(reply: &Reply) -> Result<Self, Refusal> {
        let mut fields = Fields::of("SYNCER.SNAPSHOT BEGIN", reply)?;
        let (id, keys) = (fields.number()?, fields.number()?);
        // Told only to those who offered to take a file.
        Ok(Self { id, keys, is_file: fields.text().is_ok_and(|form| form == "FILE") })
    }
}

impl Piece {
    /// From the reply.
    ///
    /// # Errors
    /// On an error reply or another shape.
    pub fn parse(reply: &Reply) -> Result<Self, Refusal> {
        let mut fields = Fields::of("SYNCER.SNAPSHOT READ", reply)?;
        let word = fields.text()?;
        let (keys, _total) = (fields.number()?, fields.number()?);
        match word {
            "HEAD" => Ok(Self::Head(fields.bytes()?)),
            "KEYS" => Ok(Self::Keys { bytes: fields.bytes()?, keys }),
            "FILE" => Ok(Self::File { bytes: fields.bytes()?, keys }),
            "END" => Ok(Self::End(fields.bytes()?)),
            _ => Err(Refusal::shape("SYNCER.SNAPSHOT READ")),
        }
    }
}

/// How many bytes of a piece `SYNCER.SYNC KEYS` has used up.
///
/// # Errors
/// On an error reply or another shape.
pub fn merged_bytes(reply: &Reply) -> Result<usize, Refusal> {
    let mut fields = Fields::of("SYNCER.SYNC KEYS", reply)?;
    fields.number().map(|used| usize::try_from(used).unwrap_or(usize::MAX))
}

impl Dependency {
    fn parse(text: &str) -> Option<Self> {
        let (replid, ts) = text.split_once(':')?;
        Some(Self { replid: replid.parse().ok()?, ts: u64::from_str_radix(ts, 16).ok()? })
    }
}

/// The text of a set of instances, as PSYNC takes it.
#[must_use]
pub fn comma_list(instances: InstanceSet) -> String {
    instances.iter().map(|id| id.to_string()).collect::<Vec<_>>().join(",")
}

/// Queues `SYNCER.PSYNC`.
pub fn send_psync(source: &mut Connection, hello: &Hello<'_>) {
    let Hello { local, wanted, by_clock } = hello;
    let position = local.position.filter(|_| !by_clock);
    let (replid, offset) =
        position.map_or(("?".into(), "-1".into()), |at| (at.replid.to_string(), at.offset.to_string()));
    source.send(&[
        b"SYNCER.PSYNC",
        VERSION.as_bytes(),
        b"*",
        local.instance.to_string().as_bytes(),
        local.replid.to_string().as_bytes(),
        comma_list(*wanted).as_bytes(),
        replid.as_bytes(),
        offset.as_bytes(),
        &local.clock,
        &local.standing,
    ]);
}

/// Queues `SYNCER.READ`.
pub fn send_read(source: &mut Connection, bytes_max: usize, timeout_ms: u64) {
    source.send(&[b"SYNCER.READ", Decimal::of(bytes_max as u64).as_bytes(), Decimal::of(timeout_ms).as_bytes()]);
}

/// What `SYNCER.APPLY` says before the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApplyHead {
    /// Where the frames begin; must be the target's position.
    pub from: Position,
    /// Where they end.
    pub next: u64,
    /// Where the source's backlog ends, for the lag.
    pub end: u64,
    /// The source's wall clock, for the lag.
    pub source_now_ms: u64,
}

/// Queues `SYNCER.APPLY`; the frames are shared.
pub fn send_apply(target: &mut Connection, peer: InstanceId, head: &ApplyHead, frames: &[Bytes]) {
    let ApplyHead { from, next, end, source_now_ms } = head;
    target.send_with_payload(
        &[
            b"SYNCER.APPLY",
            Decimal::of(u64::from(peer.get())).as_bytes(),
            from.replid.to_string().as_bytes(),
            Decimal::of(from.offset).as_bytes(),
            Decimal::of(*next).as_bytes(),
            Decimal::of(*end).as_bytes(),
            Decimal::of(*source_now_ms).as_bytes(),
        ],
        frames,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Reply {
        Reply::Bulk(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn reads_peer_info_without_a_position() {
        let replid = "0".repeat(40);
        let reply = Reply::Array(vec![
            Reply::Integer(3),
            bulk(&replid),
            bulk("?"),
            Reply::Integer(-1),
            bulk(""),
            bulk("blank"),
        ]);
        let info = PeerInfo::parse(&reply).unwrap();
        assert_eq!((info.instance.get(), info.position), (3, None));
    }

    #[test]
    fn refuses_other_shapes() {
        for reply in [Reply::Nil, Reply::Integer(1), Reply::Array(vec![]), Reply::Array(vec![bulk("DONE")])] {
            assert_eq!(Applied::parse(&reply).unwrap_err().code, Code::Shape);
            assert_eq!(Chunk::parse(&reply).unwrap_err().code, Code::Shape);
            assert_eq!(Welcome::parse(&reply).unwrap_err().code, Code::Shape);
        }
        let backwards = Reply::Array([9, 3, 9, 0, 0].into_iter().map(Reply::Integer).chain([bulk("")]).collect());
        assert_eq!(Chunk::parse(&backwards).unwrap_err().code, Code::Shape);
    }
}
