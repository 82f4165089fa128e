//! The protocol core: what to read and what to apply next. It does no IO and reads no clock; replies and the time go in,
//! [`Action`]s come out. The shell around it is [`crate::peer`].
//!
//! ```text
//!           Action::Read  ┌────────────────────────────────┐  Action::Apply
//!   source ◄──────────────┤ queue (bounded by bytes, whole │──────────────► target
//!          ──────────────►│ chunks; cut at frame borders)  │◄──────────────
//!            on_chunk      └────────────────────────────────┘   on_applied
//! ```
//!
//! Invariants, which the property tests check:
//! - frames leave in the order in which they came, and each batch begins where the target's position is (I-2);
//! - what is held in memory stays below `queue_bytes` plus what the reads already sent may bring;
//! - nothing is ever dropped before the target has said that it has it.

mod batch;
mod machine;
mod queue;
#[cfg(test)]
mod tests;

pub use batch::BatchSize;
pub use machine::{Action, Condition, Restart, Stream, StreamLimits};
pub use queue::Queue;
