//! `SYNCER.KEY`: what is known of one key.

use syncer_shared::effect::{Kind, UnixMs};
use syncer_shared::instance::InstanceId;
use syncer_shared::shard::{DotInfo, KeyInfo, ListInfo};
use syncer_shared::stream::Part;
use syncer_shared::timestamp::Timestamp;

use super::arguments::Arguments;
use crate::keyspace::with_keyspace;
use crate::redis::{Answer, Args, Command, CommandResult, Context, Run, entry};
use crate::state;

/// `SYNCER.KEY key`.
pub const COMMAND: Command = Command {
    name: c"syncer.key",
    entry: entry::<Key>(),
    flags: c"readonly",
    categories: c"read",
    arity: 2,
    keys: (1, 1, 1),
    summary: c"Shows what is known of a key: live dots with instance and time, parked values, TTLs, whether stable.",
    usage: "key",
    complexity: c"O(N) with N elements written lately",
};

struct Key;

impl Run for Key {
    fn run(context: &Context, args: Args<'_>) -> CommandResult {
        crate::capture::flush(context);
        let (mut shard, name) = (state::shard()?, Arguments(args).bytes(1)?);
        let info = with_keyspace(context, |keyspace| shard.key_info(context.db(), name, keyspace));
        context.reply().answer(&answer(&info));
        Ok(())
    }
}

fn answer(info: &KeyInfo) -> Answer {
    Answer::Map(vec![
        ("stable", u64::from(info.stable).into()),
        ("unknown_payload", u64::from(info.unknown).into()),
        ("dots", Answer::Array(info.dots.iter().map(dot).collect())),
        ("ttls", Answer::Array(info.ttl.iter().map(ttl).collect())),
        ("list", info.list.as_ref().map_or(Answer::Null, list)),
    ])
}

/// What users call it.
pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::String => "string",
        Kind::Hash => "hash",
        Kind::Set => "set",
        Kind::SortedSet => "zset",
        Kind::Opaque => "whole",
        Kind::Stream => "stream",
        Kind::List => "list",
    }
}

fn dot(dot: &DotInfo) -> Answer {
    let kind = kind_name(dot.kind);
    Answer::Map(vec![
        ("type", kind.into()),
        ("element", Answer::Bytes(shown(dot))),
        ("instance", u64::from(dot.instance.get()).into()),
        ("time_ms", dot.ts.ms().into()),
        ("counter", u64::from(dot.ts.counter()).into()),
        ("effect", if dot.is_increment { "increment" } else { "assign" }.into()),
        ("parked", u64::from(dot.is_parked).into()),
        ("stable", u64::from(dot.is_stable).into()),
    ])
}

/// The name of an element for people.
fn shown(dot: &DotInfo) -> Vec<u8> {
    let text = String::from_utf8_lossy;
    match Part::parse(&dot.element).filter(|_| dot.kind == Kind::Stream) {
        None => dot.element.clone(),
        Some(Part::Entry(id)) => id.to_string().into_bytes(),
        Some(Part::Last) => b"last id".to_vec(),
        Some(Part::Group(group)) => format!("group {}", text(group)).into_bytes(),
        Some(Part::Consumer { group, name }) => format!("group {} consumer {}", text(group), text(name)).into_bytes(),
        Some(Part::Delivery { group, id }) => format!("group {} entry {id}", text(group)).into_bytes(),
    }
}

fn list(list: &ListInfo) -> Answer {
    Answer::Map(vec![
        ("elements", (list.elements as u64).into()),
        ("runs", (list.runs as u64).into()),
        ("depth", (list.depth as u64).into()),
        ("steps", list.steps.into()),
        ("bytes", (list.bytes as u64).into()),
    ])
}

type Ttl = (InstanceId, Timestamp, Option<UnixMs>, bool);

fn ttl(&(instance, ts, at, strong): &Ttl) -> Answer {
    Answer::Map(vec![
        ("instance", u64::from(instance.get()).into()),
        ("time_ms", ts.ms().into()),
        ("expire_at_ms", at.map_or(Answer::Null, Answer::Integer)),
        ("strong", u64::from(strong).into()),
    ])
}
