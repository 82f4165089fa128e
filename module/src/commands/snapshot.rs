//! `SYNCER.SNAPSHOT`: the complete state of this shard, for the full sync of another instance.

use super::arguments::{Arguments, CommandError, may_block};
use super::progress;
use crate::redis::{Args, Command, CommandResult, Context, Run, entry};
use crate::{snapshot, state};

/// `SYNCER.SNAPSHOT BEGIN reader-instance [offer]` and `SYNCER.SNAPSHOT READ id`.
pub const COMMAND: Command = Command {
    name: c"syncer.snapshot",
    entry: entry::<Snapshot>(),
    flags: c"readonly no-monitor no-slowlog deny-script",
    categories: c"admin dangerous blocking",
    arity: -3,
    keys: (0, 0, 0),
    summary: c"Agents: forks a child that writes the complete state of this shard, and reads it piece by piece.",
    usage: "BEGIN reader-instance [offer] | READ id",
    complexity: c"O(1) on the main thread but for the fork",
};

struct Snapshot;

impl Run for Snapshot {
    fn run(context: &Context, args: Args<'_>) -> CommandResult {
        let args = Arguments(args);
        let word = args.text(1)?;
        match (word.to_ascii_uppercase().as_str(), args.0.len()) {
            ("BEGIN", 3 | 4) => begin(context, args),
            ("READ", 3) => {
                if !may_block(context) {
                    return Err(CommandError::CannotBlock("SYNCER.SNAPSHOT READ").into());
                }
                Ok(snapshot::read(context, args.offset(2, "id")?)?)
            }
            ("BEGIN" | "READ", _) => Err(CommandError::Arity.into()),
            _ => Err(CommandError::Word { name: "subcommand", word: word.into(), known: "BEGIN, READ" }.into()),
        }
    }
}

fn begin(context: &Context, args: Arguments<'_>) -> CommandResult {
    let reader = args.instance(2, "reader-instance")?;
    {
        let shard = state::shard()?;
        if !shard.is_primary() {
            return Err(CommandError::Replica.into());
        }
        shard.check_reader(reader)?;
        if shard.is_syncing() || progress::is_prepared() {
            return Err(CommandError::Syncing.into());
        }
    }
    crate::capture::flush(context);
    let offer = if args.0.len() > 3 { Some(args.text(3)?) } else { None };
    let begun = snapshot::begin(context, reader, offer)?;
    let reply = context.reply();
    // Agents of the first release, which offer nothing, know no third field.
    reply.array(if offer.is_some() { 3 } else { 2 });
    reply.number(begun.id);
    reply.number(begun.keys);
    if offer.is_some() {
        reply.text(if begun.is_file { "FILE" } else { "KEYS" });
    }
    Ok(())
}
