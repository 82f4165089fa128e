//! `SYNCER.APPLY`: effects of other instances, brought by an agent, go into the dataset.

use std::time::{Duration, Instant};

use syncer_shared::shard::{Applied, Batch, Outcome};

use super::arguments::{Arguments, CommandError};
use crate::capture::{blocking, replication};
use crate::keyspace::with_keyspace;
use crate::redis::config::APPLY_SLICE_US;
use crate::redis::timer::now_ms;
use crate::redis::{Args, Command, CommandResult, Context, Run, entry};
use crate::{native, state};

/// `SYNCER.APPLY peer-instance replid from-offset next-offset end-offset source-now-ms frames`.
pub const COMMAND: Command = Command {
    name: c"syncer.apply",
    entry: entry::<Apply>(),
    flags: c"readonly may-replicate deny-script no-monitor no-slowlog",
    categories: c"admin dangerous",
    arity: 8,
    keys: (0, 0, 0),
    summary: c"Agents: applies effects read from a peer, if they begin where the last ones ended.",
    usage: "peer-instance replid from-offset next-offset end-offset source-now-ms frames",
    complexity: c"O(N) with N effects, in slices",
};

struct Apply;

/// How long one call may hold the main thread; then the agent sends the rest again. A group is never cut.
///
/// Counts from the first group on: checking a long batch would else leave no time to apply any of it.
struct Budget {
    slice: Duration,
    begun: Option<Instant>,
    asked: u32,
}

impl Budget {
    /// Looks at the clock every so many groups only: a look costs a tenth of what a group does.
    fn lasts(&mut self) -> bool {
        const EVERY: u32 = 4;
        self.asked += 1;
        let begun = *self.begun.get_or_insert_with(Instant::now);
        !self.asked.is_multiple_of(EVERY) || begun.elapsed() < self.slice
    }
}

impl Run for Apply {
    fn run(context: &Context, args: Args<'_>) -> CommandResult {
        let batch = parse(Arguments(args))?;
        crate::capture::flush_touches(context);
        blocking::before_move(context);
        let begun = Instant::now();
        let slice = Duration::from_micros(APPLY_SLICE_US.get().unsigned_abs());
        let mut budget = Budget { slice, begun: None, asked: 0 };
        if native::is_running() {
            return Err(CommandError::Syncing.into());
        }
        let mut shard = state::shard()?;
        let applied =
            with_keyspace(context, |keyspace| shard.apply(&batch, keyspace, now_ms(), &mut || budget.lasts()))?;
        replication::drain(context, &mut shard);
        blocking::after_move(context);
        let token = if applied.groups > 0 { shard.clock_token().to_string() } else { String::new() };
        write(context, &applied, begun.elapsed(), &token);
        Ok(())
    }
}

fn parse(args: Arguments<'_>) -> Result<Batch<'_>, CommandError> {
    Ok(Batch {
        peer: args.instance(1, "peer-instance")?,
        replid: args.replid(2, "replid")?,
        from: args.offset(3, "from-offset")?,
        next: args.offset(4, "next-offset")?,
        end: args.offset(5, "end-offset")?,
        source_ms: args.offset(6, "source-now-ms")?,
        frames: args.bytes(7)?,
    })
}

fn write(context: &Context, applied: &Applied, elapsed: Duration, token: &str) {
    let (status, waits_for) = match applied.outcome {
        Outcome::Done => ("DONE", String::new()),
        Outcome::Slice => ("SLICE", String::new()),
        Outcome::Waits(replid, ts) => ("WAIT", format!("{replid}:{:x}", ts.bits())),
    };
    let reply = context.reply();
    reply.array(7);
    reply.text(status);
    reply.number(applied.offset);
    reply.number(u64::from(applied.groups));
    reply.number(u64::from(applied.duplicates));
    reply.number(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX));
    reply.text(&waits_for);
    reply.text(token);
}
