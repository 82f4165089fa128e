//! `SYNCER.STATUS`: this instance in figures.

use std::time::{Duration, Instant};

use syncer_shared::instance::{InstanceId, InstanceSet};
use syncer_shared::replid::ReplId;
use syncer_shared::shard::Status as Figures;
use syncer_shared::timestamp::Timestamp;
use syncer_shared::token::ClockToken;

use super::{headroom, progress, told};
use crate::keyspace::field_ttls;
use crate::redis::{Answer, Args, Command, CommandResult, Context, Run, entry};
use crate::state;

/// `SYNCER.STATUS`.
pub const COMMAND: Command = Command {
    name: c"syncer.status",
    entry: entry::<Status>(),
    flags: c"readonly fast allow-loading allow-stale",
    categories: c"read fast",
    arity: 1,
    keys: (0, 0, 0),
    summary: c"Shows this instance: role, replication IDs, backlog, clocks, members, counters.",
    usage: "",
    complexity: c"O(1)",
};

struct Status;

impl Run for Status {
    fn run(context: &Context, _: Args<'_>) -> CommandResult {
        let figures = state::shard()?.status();
        context.reply().answer(&answer(&figures));
        Ok(())
    }
}

fn answer(figures: &Figures) -> Answer {
    let role = if figures.is_primary { "primary" } else { "replica" };
    let past = figures.past.iter().map(|past| format!("{} {}", past.replid, past.end).into()).collect();
    let ids = |set: InstanceSet| set.iter().map(|id| u64::from(id.get()).into()).collect();
    Answer::Map(vec![
        ("instance", u64::from(figures.instance.get()).into()),
        ("role", role.into()),
        ("replid", figures.replid.to_string().into()),
        ("began_ms", figures.began.map_or(Answer::Null, |began| began.ms().into())),
        ("past_replids", Answer::Array(past)),
        ("superseded_by", figures.superseded_by.map(|replid| replid.to_string()).unwrap_or_default().into()),
        ("replaced_by", figures.replaced_by.map(|replid| replid.to_string()).unwrap_or_default().into()),
        ("agent_silent_ms", told::silence(Instant::now()).map_or(Answer::Null, |silence| milliseconds(silence).into())),
        ("backlog_first_offset", figures.backlog_first.into()),
        ("backlog_end_offset", figures.backlog_end.into()),
        ("backlog_size", figures.backlog_capacity.into()),
        ("backlog_bytes_per_second", headroom::bytes_per_second().into()),
        ("clock", clock(&figures.clock)),
        ("stable_clock", clock(&figures.stable)),
        ("held_back_by", Answer::Array(ids(figures.held_back_by))),
        ("members", Answer::Array(ids(figures.members))),
        ("forgotten", Answer::Array(forgotten(figures))),
        ("writes", writes()),
        ("joining", joining()),
        ("set_aside_keys", figures.aside.into()),
        ("field_ttls", if field_ttls::are_supported() { "kept" } else { "unsupported by this server" }.into()),
        ("captured_whole_by_type", crate::info::captured_by_type().into()),
        ("full_sync", full_sync()),
        ("counters", counters(figures)),
    ])
}

/// Who is out, and whether every member is known to have that.
fn forgotten(figures: &Figures) -> Vec<Answer> {
    let one = |(instance, settled): &(InstanceId, bool)| {
        Answer::Map(vec![("instance", u64::from(instance.get()).into()), ("settled", u64::from(*settled).into())])
    };
    figures.forgotten.iter().map(one).collect()
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Keys to be written again while this instance joins; null if it does not.
fn joining() -> Answer {
    let left = state::shard().ok().and_then(|shard| shard.renewals_left());
    left.map_or(Answer::Null, |left| (left as u64).into())
}

/// Whether clients may write here, or why not.
fn writes() -> Answer {
    let why = state::shard().ok().and_then(|shard| shard.check_writes().err());
    why.map_or_else(|| "taken".into(), |why| why.to_string().into())
}

/// The full sync that comes in; null if none does.
fn full_sync() -> Answer {
    let Some(sync) = progress::figures() else { return Answer::Null };
    let known = |number: Option<u64>| number.map_or(Answer::Null, Answer::from);
    let phase = match sync.phase {
        progress::Phase::Copying => "copying",
        progress::Phase::Merging => "merging",
        progress::Phase::File => "file",
    };
    Answer::Map(vec![
        ("source", u64::from(sync.source.get()).into()),
        ("keys", known(sync.keys())),
        ("keys_total", sync.keys_total.into()),
        ("percent", known(sync.percent())),
        ("bytes", sync.bytes.into()),
        ("keys_per_second", known(sync.keys_per_second().map(|rate| rate as u64))),
        ("seconds_left", known(sync.seconds_left())),
        ("phase", phase.into()),
    ])
}

/// One entry a reign: whose, which, how far in Unix milliseconds.
fn clock(token: &ClockToken) -> Answer {
    let entry = |(replid, instance, ts): &(ReplId, InstanceId, Timestamp)| {
        Answer::Map(vec![
            ("instance", u64::from(instance.get()).into()),
            ("replid", replid.to_string().into()),
            ("time_ms", ts.ms().into()),
            ("counter", u64::from(ts.counter()).into()),
        ])
    };
    Answer::Array(token.entries().iter().map(entry).collect())
}

fn counters(figures: &Figures) -> Answer {
    let entries = crate::info::counters(figures);
    Answer::Map(entries.into_iter().map(|(name, value)| (name, value.into())).collect())
}
