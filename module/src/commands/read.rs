//! `SYNCER.READ`: the next effects of this shard, for a peer's agent.

use std::time::Duration;

use super::arguments::{Arguments, CommandError, may_block};
use super::readers;
use crate::redis::{Args, Command, CommandResult, Context, Run, entry};
use crate::state;

/// `SYNCER.READ max-bytes timeout-ms`.
pub const COMMAND: Command = Command {
    name: c"syncer.read",
    entry: entry::<Read>(),
    flags: c"readonly no-monitor no-slowlog deny-script",
    categories: c"admin dangerous blocking",
    arity: 3,
    keys: (0, 0, 0),
    summary:
        c"Agents: reads effects from where SYNCER.PSYNC or the last read on this connection ended; waits for some.",
    usage: "max-bytes timeout-ms",
    complexity: c"O(N) with N bytes, on another thread when they are many",
};

/// The largest answer: more is read in several.
const BYTES_MAX: i64 = 1 << 30;
/// An agent that waits longer could not tell a dead connection from a quiet one.
const TIMEOUT_MS_MAX: i64 = 600_000;

struct Read;

impl Run for Read {
    fn run(context: &Context, args: Args<'_>) -> CommandResult {
        let args = Arguments(args);
        let max_bytes = args.number(1, "max-bytes", BYTES_MAX)?;
        let timeout = Duration::from_millis(args.number(2, "timeout-ms", TIMEOUT_MS_MAX)?);
        let mut shard = state::shard()?;
        if !shard.is_primary() {
            return Err(CommandError::Replica.into());
        }
        readers::read(context, &mut shard, max_bytes as usize, timeout, may_block(context))?;
        Ok(())
    }
}
