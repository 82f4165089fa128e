//! What is remembered of each reign: its context list, for groups carry only changes (DESIGN 2.1).

use crate::clock::VectorClock;
use crate::context::StreamContext;
use crate::origin::Origin;

/// The stream of one reign.
#[derive(Clone, Debug, Default)]
pub(super) struct Stream {
    /// The list its author and every receiver keep alike.
    pub(super) context: StreamContext,
    /// The list as origins of this shard.
    pub(super) origins: Vec<Origin>,
    /// The context of its last group.
    pub(super) clock: VectorClock,
}
