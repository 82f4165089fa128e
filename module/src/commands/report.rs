//! `SYNCER.REPORT`: members tell each other what they have.

use super::arguments::{Arguments, CommandError};
use super::turn;
use crate::capture::replication;
use crate::redis::timer::now_ms;
use crate::redis::{Args, Command, CommandResult, Context, Run, entry};
use crate::state;

/// `SYNCER.REPORT [from-instance report]`.
pub const COMMAND: Command = Command {
    name: c"syncer.report",
    entry: entry::<Report>(),
    flags: c"readonly may-replicate deny-script no-monitor",
    categories: c"admin dangerous",
    arity: -1,
    keys: (0, 0, 0),
    summary: c"Agents: gives what this instance has applied, and takes what another one has.",
    usage: "[from-instance report]",
    complexity: c"O(N) with N instances",
};

struct Report;

impl Run for Report {
    fn run(context: &Context, args: Args<'_>) -> CommandResult {
        let args = Arguments(args);
        crate::capture::go_on(context);
        let mut shard = state::shard()?;
        if !shard.is_primary() {
            return Err(CommandError::Replica.into());
        }
        match args.0.len() {
            1 => context.reply().bytes(&shard.report()),
            3 => {
                let from = args.instance(1, "from-instance")?;
                let news = shard.accept_report(from, args.bytes(2)?, now_ms())?;
                replication::drain(context, &mut shard);
                drop(shard);
                if news {
                    turn::begin(context, None);
                }
                context.reply().ok();
            }
            _ => return Err(CommandError::Arity.into()),
        }
        Ok(())
    }
}
