//! Snapshots: the complete state of a shard in a form that does not depend on the server (docs/PROTOCOL.md 9).

pub mod head;
pub mod key;
pub mod rest;
pub mod taken;

pub use head::{SnapshotForgotten, SnapshotHead, SnapshotReign};
pub(crate) use head::{encode_forgotten, read_dot, read_forgotten, write_dot};
pub use key::SnapshotKey;
pub use rest::AtRest;
pub(crate) use taken::added_to;
pub use taken::{Holder, TakenUp};
