//! `SYNCER.PSYNC`: a peer's agent says what it has and is told where to read on.

use syncer_shared::shard::{Answer, Hello, Standing, Welcome};

use super::arguments::{Arguments, CommandError};
use super::readers;
use crate::capture::replication;
use crate::redis::timer::now_ms;
use crate::redis::{Args, Command, CommandResult, Context, Replier, Run, entry};
use crate::state;

/// `SYNCER.PSYNC protocol group from-instance from-replid wanted replid offset clock-token [standing]`.
pub const COMMAND: Command = Command {
    name: c"syncer.psync",
    entry: entry::<Psync>(),
    flags: c"readonly may-replicate deny-script no-monitor",
    categories: c"admin dangerous",
    arity: -9,
    keys: (0, 0, 0),
    summary:
        c"Agents: says what an instance has of this one; answers CONTINUE with the offset to read on, or FULLRESYNC.",
    usage: "protocol group|* from-instance from-replid wanted|* replid|? offset|-1 clock-token [standing]",
    complexity: c"O(N) with N replication IDs known",
};

struct Psync;

impl Run for Psync {
    fn run(context: &Context, args: Args<'_>) -> CommandResult {
        let args = Arguments(args);
        let hello = parse(args)?;
        let (reader, wanted) = ((hello.instance, hello.replid), hello.wanted);
        let mut shard = state::shard()?;
        let welcome = shard.handshake(&hello, now_ms())?;
        replication::drain(context, &mut shard);
        match welcome.answer {
            Answer::Continue(offset) => readers::bind(context.client(), reader, offset, wanted),
            Answer::FullResync(_) => readers::forget(context.client()),
        }
        write(context.reply(), &welcome);
        Ok(())
    }
}

fn parse(args: Arguments<'_>) -> Result<Hello, CommandError> {
    let protocol = args.number(1, "protocol", i64::from(u32::MAX))?;
    let position = match (args.text(6)?, args.text(7)?) {
        ("?", _) | (_, "-1") => None,
        _ => Some((args.replid(6, "replid")?, args.offset(7, "offset")?)),
    };
    let unknown = |word: &str| CommandError::Word { name: "standing", word: word.into(), known: "blank, alone, group" };
    // Agents of the first release do not say.
    let standing = match args.0.len() {
        9 => Standing::Alone,
        10 => args.text(9).and_then(|word| Standing::from_name(word).ok_or_else(|| unknown(word)))?,
        _ => return Err(CommandError::Arity),
    };
    Ok(Hello {
        protocol: protocol as u32,
        instance: args.instance(3, "from-instance")?,
        replid: args.replid(4, "from-replid")?,
        wanted: args.wanted(5)?,
        position,
        clock: args.token(8)?,
        standing,
    })
}

fn write(reply: Replier, welcome: &Welcome) {
    let (word, offset, reason) = match &welcome.answer {
        Answer::Continue(offset) => ("CONTINUE", i64::try_from(*offset).unwrap_or(i64::MAX), ""),
        Answer::FullResync(reason) => ("FULLRESYNC", -1, reason.as_str()),
    };
    reply.array(7);
    reply.text(word);
    reply.integer(i64::from(welcome.instance.get()));
    reply.text(&welcome.replid.to_string());
    reply.integer(offset);
    reply.number(welcome.end);
    reply.text(&welcome.clock.to_string());
    reply.text(reason);
}
