//! `SYNCER.FORGET`: an instance leaves the group.

use super::arguments::Arguments;
use crate::capture::replication;
use crate::redis::timer::now_ms;
use crate::redis::{Args, Command, CommandResult, Context, Run, entry, log};
use crate::state;

/// `SYNCER.FORGET instance`.
pub const COMMAND: Command = Command {
    name: c"syncer.forget",
    entry: entry::<Forget>(),
    flags: c"readonly may-replicate deny-script",
    categories: c"admin dangerous",
    arity: 2,
    keys: (0, 0, 0),
    summary:
        c"Takes a dead instance out of the group: it holds nothing back any more, and is refused until it joins again.",
    usage: "instance",
    complexity: c"O(1)",
};

struct Forget;

impl Run for Forget {
    fn run(context: &Context, args: Args<'_>) -> CommandResult {
        let instance = Arguments(args).instance(1, "instance")?;
        crate::capture::flush(context);
        let mut shard = state::shard()?;
        shard.forget(instance, now_ms())?;
        replication::drain(context, &mut shard);
        log::warning(&format!("syncer: instance {instance} is forgotten, by SYNCER.FORGET"));
        context.reply().ok();
        Ok(())
    }
}
