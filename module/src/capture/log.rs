//! `SYNCER.LOG`: what the primary's shard logged, on its way to replicas and into the AOF (I-1).

use syncer_shared::shard::ReplayError;

use crate::keyspace::with_keyspace;
use crate::persist;
use crate::redis::{Args, Command, CommandResult, Context, Run, entry, notify};
use crate::state::{self, StateError};

/// `SYNCER.LOG record`.
pub const COMMAND: Command = Command {
    name: c"syncer.log",
    entry: entry::<Log>(),
    flags: c"write deny-script no-monitor allow-loading",
    categories: c"admin dangerous",
    arity: 2,
    keys: (0, 0, 0),
    summary: c"Internal: a record of the shard, in the replication stream and the append-only file.",
    usage: "record",
    complexity: c"O(N) with N effects",
};

struct Log;

/// Why a record was not taken.
#[derive(Debug, thiserror::Error)]
enum LogError {
    #[error("ERR SYNCER.LOG is internal: it comes only from a primary or an append-only file")]
    NotReplicated,
    #[error("ERR wrong number of arguments for 'syncer.log' command")]
    Arity,
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

impl Run for Log {
    fn run(context: &Context, args: Args<'_>) -> CommandResult {
        let flags = context.flags();
        if !flags.is_replicated() && !flags.is_loading() {
            return Err(LogError::NotReplicated.into());
        }
        let record = args.bytes(1).ok_or(LogError::Arity)?;
        replay(context, record)?;
        notify::replicate_verbatim(context);
        notify::reply_ok(context);
        Ok(())
    }
}

fn replay(context: &Context, record: &[u8]) -> Result<(), LogError> {
    if !persist::is_founded(record) {
        return Ok(());
    }
    let mut shard = state::shard()?;
    let replayed = with_keyspace(context, |keyspace| shard.replay(record, keyspace));
    drop(shard);
    replayed.inspect_err(persist::does_not_fit)?;
    Ok(())
}
