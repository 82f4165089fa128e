//! `SYNCER.WAIT`: until other instances have what was written here.

use super::arguments::{Arguments, CommandError, may_block};
use super::readers;
use super::waiters::{self, Condition};
use crate::redis::{Args, Command, CommandResult, Context, Run, entry};
use crate::state;

/// `SYNCER.WAIT n timeout-ms`.
pub const COMMAND: Command = Command {
    name: c"syncer.wait",
    entry: entry::<Wait>(),
    flags: c"readonly",
    categories: c"read blocking",
    arity: 3,
    keys: (0, 0, 0),
    summary: c"Waits until n other instances have applied all that was written here; gives how many have (0 = no time limit).",
    usage: "n timeout-ms",
    complexity: c"O(N) with N instances",
};

struct Wait;

impl Run for Wait {
    fn run(context: &Context, args: Args<'_>) -> CommandResult {
        let args = Arguments(args);
        let instances = args.number(1, "n", 62)?;
        let timeout_ms = args.number(2, "timeout-ms", waiters::TIMEOUT_MS_MAX)?;
        crate::capture::flush(context);
        let (own, applied) = {
            let shard = state::shard()?;
            if !shard.is_primary() {
                return Err(CommandError::Replica.into());
            }
            (shard.last_own(), shard.applied_by(shard.last_own()))
        };
        if applied as u64 >= instances || !may_block(context) {
            context.reply().number(applied as u64);
        } else {
            waiters::wait(context, Condition::AppliedBy { own, instances }, timeout_ms);
            readers::announce(context);
        }
        Ok(())
    }
}
