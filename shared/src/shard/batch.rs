//! What `SYNCER.APPLY` brings, what it answers, and why it refuses.

use super::ForgottenError;
use crate::instance::InstanceId;
use crate::origin::OriginError;
use crate::replid::ReplId;
use crate::timestamp::Timestamp;
use crate::wire::WireError;

/// Frames of a peer's backlog, as `SYNCER.APPLY` brings them.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The peer whose backlog it is.
    pub peer: InstanceId,
    /// Its replication ID.
    pub replid: ReplId,
    /// Offset of the first frame there.
    pub from: u64,
    /// Offset behind the last frame.
    pub next: u64,
    /// Where that backlog ended when the frames were read.
    pub end: u64,
    /// The peer's wall clock then, Unix milliseconds.
    pub source_ms: u64,
    /// The frames.
    pub frames: &'a [u8],
}

/// How far a batch got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it.
    Done,
    /// The next group needs this first (I-3).
    Waits(ReplId, Timestamp),
    /// The time budget was used up.
    Slice,
}

/// The answer to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// How far it got.
    pub outcome: Outcome,
    /// The position now.
    pub offset: u64,
    /// Groups applied.
    pub groups: u32,
    /// Groups that were here already.
    pub duplicates: u32,
}

/// Why a batch was refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// This server is a replica.
    #[error("SYNCERROLE this server is a replica; apply to its primary")]
    Role,
    /// Reordered, replayed, or another agent was faster.
    #[error("SYNCERPOSITION expected {replid} {offset}")]
    Position {
        /// The replication ID of the position.
        replid: String,
        /// Its offset.
        offset: u64,
    },
    /// Broken or truncated.
    #[error("SYNCERFRAME {0}; nothing was applied, read again from the last position")]
    Frame(#[from] WireError),
    /// Frames are missing or too many for the offsets named.
    #[error("SYNCERFRAME the frames span {spanned} bytes of backlog, the offsets {named}; nothing was applied")]
    Span {
        /// Sum of what the frames stand for.
        spanned: u64,
        /// `next` - `from`.
        named: u64,
    },
    /// A group is missing before this one (I-2).
    #[error("SYNCERGAP a group of {replid} follows {prev}, but {have} is the last one here")]
    Gap {
        /// Whose group.
        replid: ReplId,
        /// What it follows.
        prev: Timestamp,
        /// What is here.
        have: Timestamp,
    },
    /// The author's clock is too far ahead.
    #[error(
        "SYNCERDRIFT the clock of instance {instance} is {ahead_ms} ms ahead (limit {limit_ms}, CONFIG syncer.max-drift-ms); set the clocks right"
    )]
    Drift {
        /// Whose clock.
        instance: InstanceId,
        /// By how much.
        ahead_ms: u64,
        /// What is allowed.
        limit_ms: u64,
    },
    /// The author's server has more databases.
    #[error(
        "SYNCERDATABASE an effect of instance {instance} is for database {db}, but this server has only {databases}; start it with the `databases` of the others"
    )]
    Database {
        /// Whose effect.
        instance: InstanceId,
        /// Its database.
        db: u32,
        /// How many there are here.
        databases: u32,
    },
    /// An instance id is used twice, or an instance came back without its state.
    #[error("SYNCERID {0}")]
    Identity(String),
    /// The peer's server is a past reign: its successor is known here.
    #[error("SYNCERFENCED {0} is a past reign of an instance that has a newer primary")]
    Fenced(ReplId),
    /// The peer is out, or this instance is, or the peer brings what nobody can have any more (M2, M6, M7).
    #[error(transparent)]
    Forgotten(#[from] ForgottenError),
    /// The peer was restored from before a `Forget` that all others have (M6).
    #[error(
        "SYNCERMEMBER effects of instance {0} from before it was forgotten: if this lasts, instance {1} came back from an old backup; forget it and let it join again"
    )]
    FromBefore(InstanceId, InstanceId),
    /// This instance joins, and who brings that is perhaps out of the group that it joins (M10).
    #[error(
        "TRYAGAIN instance {0} begins anew here as {1}, of which the sponsor of this join knew nothing; what the sponsor had comes first"
    )]
    Unsponsored(InstanceId, ReplId),
    /// A snapshot is being merged: its clock is not yet this shard's.
    #[error("SYNCERSYNC a full sync goes on here; try again after it")]
    Syncing,
}

impl From<OriginError> for ApplyError {
    fn from(error: OriginError) -> Self {
        ApplyError::Identity(error.to_string())
    }
}
