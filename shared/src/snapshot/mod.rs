//! Snapshots: the complete state of a shard in a form that does not depend on the server (docs/PROTOCOL.md 9).

pub mod head;
pub mod key;

pub use head::{SnapshotHead, SnapshotReign};
pub(crate) use head::{read_dot, write_dot};
pub use key::SnapshotKey;
