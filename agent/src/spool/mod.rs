//! Snapshots in files: a full sync is merged only when all of its snapshot is here.
//!
//! A part of a snapshot makes an instance depend on whoever can complete it. If that is its source, two that have each other's parts, or one whose
//! source came back from an older file, may wait for ever. So the agent first writes the whole snapshot into a file on its disk; only then does it
//! say `SYNCER.SYNC BEGIN`. From there on it can finish alone, whatever becomes of the source, the target, or itself:
//!
//! - *The source* is not needed any more, dead or alive: all of the snapshot is here.
//! - *The agent* is killed: the file stays, and the module tells of which snapshot it has a part (`SYNCER.SYNC STATUS`). The next agent sends
//!   the same head again, then the keys from the front. The module passes over what it has merged of that very snapshot.
//! - *The target* crashes or fails over: what comes back knows of a prefix of the merge, for keys and head are in its replication stream; the same
//!   applies. What comes back from before `BEGIN` knows nothing of the snapshot, and needs nothing of it: the handshake decides anew.
//! - What comes back from a moment *before the end*, after the end: a file stays until the target's durable clock covers it. It is told by
//!   that clock alone, so a file that was never begun goes, too, when it has become of no use. A newer one of the same source takes its place
//!   only if it has all that the older one has: a source that has lost something since cannot give that again.
//!
//! *An old snapshot is safe to merge.* It is the state of an instance that lags behind. Dots decide by the clocks of both sides, as ever. What has no dot
//! at the target goes if the snapshot lacks it and its clock covers the target's S. Now S rises here only by a report of the source that the target covers
//! (rule 3). A report from before the snapshot is covered by the snapshot; so is S then. A report from after it says more than the snapshot: if the target
//! covers that, the snapshot has no news for it, and what has no dot stays as it is. (A source that has lost its tail, or is no member, is the business
//! of 2.2 rule 5 and M3, with or without files.)
//!
//! *No turns are needed.* While a snapshot is only copied, the target applies effects and gives snapshots as ever. Two sites may copy each other's and
//! merge them at once: neither needs the other to finish. (`SYNCER.SYNC PREPARE` is for agents of earlier releases.)
//!
//! The files hold users' data: they are for this user only. One agent at a time works with those of one local server, by a lock that ends with its
//! process.

mod file;
mod folder;

use std::io;
use std::path::{Path, PathBuf};

pub use file::{Pieces, Spool, Writer};
pub use folder::{Folder, Spools};

/// Why a file is of no use, or cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// One agent at a time.
    #[error("another agent works with the snapshots in {}; it, or this one after it, will go on", .0.display())]
    Taken(PathBuf),
    /// Anybody could have put files there.
    #[error("{} is not a folder of this user alone; set spool-dir", .0.display())]
    Foreign(PathBuf),
    /// The disk.
    #[error("cannot {doing} {}: {error}; see that there is room for a snapshot, or set spool-dir", path.display())]
    Disk {
        /// With what.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// It is not whole, or not what was written.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
}

fn disk<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> SpoolError + 'a {
    move |error| SpoolError::Disk { doing, path: path.to_owned(), error }
}

#[cfg(test)]
mod tests;
