//! Whether anybody must hear of what is logged: an append-only file, replicas, or a replication backlog that one may
//! come back to. Telling nobody costs a third of a write (DESIGN 9).

use std::cell::Cell;

use syncer_shared::shard::Shard;

use crate::commands::report;
use crate::redis::server::Info;
use crate::redis::{Context, detached, is_handing_over, log, notify, passthrough};
use crate::state;

crate::redis::server_local! {
    static NEEDED: Cell<bool> = const { Cell::new(true) };
}

/// Whether records must go to the replication stream.
#[inline]
#[must_use]
pub fn needed() -> bool {
    NEEDED.get()
}

/// They may have to, from this moment on: a child was forked, whose snapshot a replica or a file may begin from; or a replica was promoted, whose
/// fellow replicas come by a partial resync, without a fork.
pub fn assume() {
    NEEDED.set(true);
}

/// Asks the server. Called by the heartbeat: what begins between two calls begins with an event (see [`assume`]).
pub fn recheck(context: &Context) {
    let replication = Info::section(context, c"replication");
    let zero = |field| replication.number(field) == Some(0);
    let nobody = zero(c"connected_slaves") && zero(c"repl_backlog_active");
    NEEDED.set(!nobody || is_forking(context) || context.flags().has_aof());
}

fn is_forking(context: &Context) -> bool {
    let persistence = Info::section(context, c"persistence");
    let busy = |field| persistence.number(field) != Some(0);
    busy(c"rdb_bgsave_in_progress") || busy(c"aof_rewrite_in_progress") || busy(c"aof_rewrite_scheduled")
}

/// Sends what the shard has logged of its own accord.
pub fn drain(context: &Context, shard: &mut Shard) {
    let records = shard.take_records();
    if !records.is_empty() {
        // Whatever makes this instance take writes or not is among them, but for what a peer says: the heartbeat looks after that.
        super::refuse::recheck(shard);
    }
    for record in records {
        if needed() {
            notify::replicate_log(context, &record);
        }
    }
}

/// A reign has begun, or a file was loaded, with the command that is about to run. If keys were dropped in the middle of a full sync, what they had hidden shows now: that is told
/// before the command runs, which may write there. What the heartbeat and the unit of a write tell would come after it (I-12).
pub fn tell_first() {
    let has_shown = || state::shard().is_ok_and(|shard| shard.is_syncing() && shard.has_records());
    let Some(context) = detached().filter(|_| !is_handing_over() && has_shown()) else { return };
    // A filter replicates nothing by itself: what it left would stop the server if the command is refused.
    if passthrough::run_alone(context, report::COMMAND.name).is_error() {
        log::warning("syncer: bug: what was dropped is told to replicas after the first command only");
    }
}
