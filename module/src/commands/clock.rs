//! `SYNCER.CLOCK` and `SYNCER.AWAIT`: read your writes at another site.

use super::arguments::{Arguments, CommandError, may_block};
use super::waiters::{self, Condition};
use crate::redis::{Args, Command, CommandResult, Context, Run, entry};
use crate::state;

/// `SYNCER.CLOCK [LOGGED]`.
pub const CLOCK: Command = Command {
    name: c"syncer.clock",
    entry: entry::<Clock>(),
    flags: c"readonly fast",
    categories: c"read fast",
    arity: -1,
    keys: (0, 0, 0),
    summary: c"Gives a token of everything applied here, for SYNCER.AWAIT at another instance; LOGGED: as far as it is logged.",
    usage: "[LOGGED]",
    complexity: c"O(N) with N replication IDs known",
};

/// `SYNCER.AWAIT token timeout-ms`.
pub const AWAIT: Command = Command {
    name: c"syncer.await",
    entry: entry::<Await>(),
    flags: c"readonly",
    categories: c"read blocking",
    arity: 3,
    keys: (0, 0, 0),
    summary: c"Waits until everything in the token is applied here: 1, or 0 when the time is up (0 = no limit).",
    usage: "token timeout-ms",
    complexity: c"O(N) with N replication IDs in the token",
};

struct Clock;
struct Await;

impl Run for Clock {
    fn run(context: &Context, args: Args<'_>) -> CommandResult {
        let args = Arguments(args);
        match args.0.len() {
            1 => crate::capture::flush(context),
            // Agents ask every second: that must not end the wait of a large value that is written again and again.
            2 if args.bytes(1)?.eq_ignore_ascii_case(b"LOGGED") => {}
            2 => {
                let word = args.text(1)?.into();
                return Err(CommandError::Word { name: "option", word, known: "LOGGED" }.into());
            }
            _ => return Err(CommandError::Arity.into()),
        }
        let token = state::shard()?.clock_token();
        context.reply().text(&token.to_string());
        Ok(())
    }
}

impl Run for Await {
    fn run(context: &Context, args: Args<'_>) -> CommandResult {
        let args = Arguments(args);
        let token = args.token(1)?;
        let timeout_ms = args.number(2, "timeout-ms", waiters::TIMEOUT_MS_MAX)?;
        let covered = state::shard()?.covers(&token);
        if covered || !may_block(context) {
            context.reply().integer(i64::from(covered));
        } else {
            waiters::wait(context, Condition::Covers(token), timeout_ms);
        }
        Ok(())
    }
}
