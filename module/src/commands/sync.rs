//! `SYNCER.SYNC`: a snapshot of another instance is merged into the dataset, brought by an agent.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::arguments::{Arguments, CommandError};
use super::progress::{self, Copied, Phase};
use super::{readers, sync_file};
use crate::capture::replication;
use crate::keyspace::with_keyspace;
use crate::redis::timer::now_ms;
use crate::redis::{Args, Command, CommandResult, Context, Run, entry, filter, log};
use crate::state;
use syncer_shared::snapshot::SnapshotHead;

/// `SYNCER.SYNC COPY|COMPARE|PREPARE|BEGIN|KEYS|END|STATUS|OFFER|LOAD|PIECE|WRITTEN|SWAP ...`.
pub const COMMAND: Command = Command {
    name: c"syncer.sync",
    entry: entry::<Sync>(),
    flags: c"readonly may-replicate deny-script no-monitor no-slowlog",
    categories: c"admin dangerous",
    arity: -2,
    keys: (0, 0, 0),
    summary:
        c"Agents: merges a snapshot of another instance into the dataset, in slices, while clients read and write.",
    usage: "COPY instance keys total-keys bytes [head] | COMPARE keys | PREPARE instance | BEGIN instance total-keys reason head | KEYS token keys | END token | STATUS | OFFER | LOAD instance total-keys reason | PIECE token bytes | WRITTEN token bytes hash | SWAP token",
    complexity: c"O(N) with N elements, in slices",
};

/// How long one call may hold the main thread; a key is not cut. As `SYNCER.APPLY`.
const BUDGET: Duration = Duration::from_micros(300);
/// The same when no other command came since the last call: fewer round trips, and what comes meanwhile waits no longer than this, once.
const BUDGET_ALONE: Duration = Duration::from_millis(1);

crate::redis::server_local! {
    /// Commands that had come at the last call.
    static SEEN: Cell<u64> = const { Cell::new(0) };
}

/// How long this call may hold the main thread.
fn budget() -> Duration {
    let seen = filter::seen();
    // One is this call.
    let others = seen.wrapping_sub(SEEN.replace(seen)) > 1;
    if others { BUDGET } else { BUDGET_ALONE }
}

/// Keys that one call takes. The clock is looked at for the first ones and for one in a few, as long as they are quick: that costs about as much as most else
/// that is done about a key that is the same.
struct Slice {
    begun: Instant,
    budget: Duration,
    keys: u64,
    /// At the last look.
    elapsed: Duration,
    unlooked: u32,
}

impl Slice {
    /// So many keys go by without a look,
    const UNLOOKED: u32 = 3;
    /// if those before it took no longer.
    const QUICK: Duration = Duration::from_micros(20);

    fn begin() -> Self {
        Self { begun: Instant::now(), budget: budget(), keys: 0, elapsed: Duration::ZERO, unlooked: 0 }
    }

    /// Whether another key is to be taken: the first one in any case.
    fn lasts(&mut self) -> bool {
        if self.keys > 0 && self.unlooked > 0 {
            self.unlooked -= 1;
        } else if self.keys > 0 {
            let elapsed = self.begun.elapsed();
            if elapsed >= self.budget {
                return false;
            }
            let is_quick = elapsed.saturating_sub(self.elapsed) <= Self::QUICK;
            (self.elapsed, self.unlooked) = (elapsed, if is_quick { Self::UNLOOKED } else { 0 });
        }
        self.keys += 1;
        true
    }
}

struct Sync;

impl Run for Sync {
    fn run(context: &Context, args: Args<'_>) -> CommandResult {
        let args = Arguments(args);
        let word = args.text(1)?;
        match (word.to_ascii_uppercase().as_str(), args.0.len()) {
            ("COPY", 6 | 7) => copy(context, args),
            ("COMPARE", 3) => compare(context, args),
            ("PREPARE", 3) => prepare(context, args),
            ("BEGIN", 6) => begin(context, args),
            ("KEYS", 4) => keys(context, args),
            ("END", 3) => end(context, args),
            ("STATUS", 2) => status(context),
            ("OFFER", 2) => sync_file::offer(context),
            ("LOAD", 5) => sync_file::begin(context, args),
            ("PIECE", 4) => sync_file::piece(context, args),
            ("WRITTEN", 5) => sync_file::written(context, args),
            ("SWAP", 3) => sync_file::swap(context, args),
            (
                "COPY" | "COMPARE" | "PREPARE" | "BEGIN" | "KEYS" | "END" | "STATUS" | "OFFER" | "LOAD" | "PIECE"
                | "WRITTEN" | "SWAP",
                _,
            ) => Err(CommandError::Arity.into()),
            _ => {
                let known = "COPY, COMPARE, PREPARE, BEGIN, KEYS, END, STATUS, OFFER, LOAD, PIECE, WRITTEN, SWAP";
                Err(CommandError::Word { name: "subcommand", word: word.into(), known }.into())
            }
        }
    }
}

fn copy(context: &Context, args: Arguments<'_>) -> CommandResult {
    let (source, keys) = (args.instance(2, "instance")?, args.offset(3, "keys")?);
    let (keys_total, bytes) = (args.offset(4, "total-keys")?, args.offset(5, "bytes")?);
    if !state::shard()?.is_primary() {
        return Err(CommandError::Replica.into());
    }
    let head =
        if args.0.len() > 6 { Some(SnapshotHead::decode(args.bytes(6)?).map_err(CommandError::Frame)?) } else { None };
    if let Some(head) = &head {
        state::shard()?.check_sync(head)?;
    }
    check_alone(context.client())?;
    if let Some(head) = head {
        state::shard()?.begin_compare(head, keys_total);
    }
    progress::copy(context.client(), Copied { source, keys, keys_total, bytes });
    context.reply().ok();
    Ok(())
}

/// Keys of the snapshot that is being copied, in its order: which of them are the same here is found out before the merge.
fn compare(context: &Context, args: Arguments<'_>) -> CommandResult {
    let bytes = args.bytes(2)?;
    if !progress::is_copying(context.client()) {
        return Err(CommandError::NotCopying.into());
    }
    crate::capture::flush(context);
    let mut shard = state::shard()?;
    let mut slice = Slice::begin();
    let used = with_keyspace(context, |keyspace| shard.compare_keys(bytes, keyspace, &mut || slice.lasts()));
    replication::drain(context, &mut shard);
    reply_used(context, used?, slice.begun);
    Ok(())
}

/// So much was taken, in this time.
fn reply_used(context: &Context, used: usize, begun: Instant) {
    let reply = context.reply();
    reply.array(2);
    reply.number(used as u64);
    reply.number(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
}

/// Whether no other agent brings a snapshot, or is about to.
fn check_alone(client: u64) -> Result<(), CommandError> {
    let other = progress::rival(client).or_else(|| progress::other_copy(client));
    other.map_or(Ok(()), |other| Err(CommandError::Rival(other)))
}

fn prepare(context: &Context, args: Arguments<'_>) -> CommandResult {
    args.instance(2, "instance")?;
    check_alone(context.client())?;
    progress::prepare(context.client());
    context.reply().ok();
    Ok(())
}

fn begin(context: &Context, args: Arguments<'_>) -> CommandResult {
    let (source, total) = (args.instance(2, "instance")?, args.offset(3, "total-keys")?);
    let (reason, head) = (args.text(4)?, SnapshotHead::decode(args.bytes(5)?).map_err(CommandError::Frame)?);
    if head.instance != source {
        return Err(CommandError::OtherSource { said: source, is: head.instance }.into());
    }
    if let Some(other) = progress::rival(context.client()) {
        return Err(CommandError::Rival(other).into());
    }
    if crate::native::is_loading() {
        return Err(CommandError::Syncing.into());
    }
    crate::capture::flush(context);
    let mut shard = state::shard()?;
    let goes_on = if shard.begin_sync(head)? { "goes on" } else { "begins" };
    shard.expect_keys(total);
    replication::drain(context, &mut shard);
    let token = progress::begin(context.client(), source, total, Phase::Merging);
    log::notice(&format!("syncer: full sync from instance {source} {goes_on}, about {total} keys: {reason}"));
    context.reply().number(token);
    Ok(())
}

fn keys(context: &Context, args: Arguments<'_>) -> CommandResult {
    progress::check(args.offset(2, "token")?, context.client())?;
    let bytes = args.bytes(3)?;
    crate::capture::flush(context);
    let mut shard = state::shard()?;
    let mut slice = Slice::begin();
    let used = with_keyspace(context, |keyspace| shard.sync_keys(bytes, keyspace, now_ms(), &mut || slice.lasts()));
    replication::drain(context, &mut shard);
    crate::capture::blocking::after_move(context);
    let used = used?;
    progress::advance(slice.keys, used as u64);
    reply_used(context, used, slice.begun);
    Ok(())
}

fn end(context: &Context, args: Arguments<'_>) -> CommandResult {
    progress::check(args.offset(2, "token")?, context.client())?;
    crate::capture::flush(context);
    let mut shard = state::shard()?;
    let swept = progress::sweep(context, &mut shard, budget());
    if matches!(swept, Ok(true)) {
        shard.end_sync()?;
    }
    replication::drain(context, &mut shard);
    drop(shard);
    if !swept? {
        context.reply().text("SLICE");
        return Ok(());
    }
    log::notice(&format!("syncer: {}", progress::end()));
    // What came is not in the backlog here: whoever reads it must say anew what it has.
    readers::forget_all();
    context.reply().text("DONE");
    Ok(())
}

/// Whether a sync goes on, or was broken off, whom `SYNCER.RESYNC` names, and of which snapshot a part is here.
fn status(context: &Context) -> CommandResult {
    let shard = state::shard()?;
    let head = shard.syncing_head();
    let word = match (head.is_some(), progress::is_running()) {
        (false, _) => "NONE",
        (true, true) => "RUNNING",
        (true, false) => "BROKEN",
    };
    let wanted = progress::wanted();
    let reply = context.reply();
    reply.array(3);
    reply.text(word);
    reply.array(wanted.len());
    wanted.iter().for_each(|instance| reply.number(u64::from(instance.get())));
    reply.array(if head.is_some() { 3 } else { 0 });
    if let Some(head) = head {
        reply.number(u64::from(head.instance.get()));
        reply.text(&head.replid.to_string());
        reply.number(head.offset);
    }
    Ok(())
}
