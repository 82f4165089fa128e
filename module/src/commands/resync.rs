//! `SYNCER.RESYNC`: a full sync by hand.

use super::arguments::{Arguments, CommandError};
use super::progress;
use crate::redis::{Args, Command, CommandResult, Context, Run, entry};
use crate::state;

/// `SYNCER.RESYNC instance`.
pub const COMMAND: Command = Command {
    name: c"syncer.resync",
    entry: entry::<Resync>(),
    flags: c"readonly deny-script",
    categories: c"admin dangerous",
    arity: 2,
    keys: (0, 0, 0),
    summary:
        c"Has this instance's agent merge a full snapshot of another instance, as after a backlog that was too small.",
    usage: "instance",
    complexity: c"O(1)",
};

struct Resync;

impl Run for Resync {
    fn run(context: &Context, args: Args<'_>) -> CommandResult {
        let instance = Arguments(args).instance(1, "instance")?;
        let shard = state::shard()?;
        if !shard.is_primary() {
            return Err(CommandError::Replica.into());
        }
        if instance == shard.instance() || shard.peer(instance).is_none() {
            return Err(CommandError::NoPeer(instance).into());
        }
        progress::want(instance);
        context.reply().ok();
        Ok(())
    }
}
