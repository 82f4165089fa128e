//! `XGROUP`, `XACK`, `XCLAIM`, `XAUTOCLAIM`, `XSETID`.

use syncer_shared::effect::{Op, StreamOp, Value};
use syncer_shared::stream::{Part, StreamId};

use super::{Before, Changes, id, is, last_id, position};
use crate::keyspace::ServerKeyspace;
use crate::redis::passthrough::{Leaf, Outcome};
use crate::redis::{Args, Element};

/// What is pending for the consumer of `XGROUP DELCONSUMER key group consumer`.
pub fn leaving(keyspace: &mut ServerKeyspace<'_>, db: u32, args: Args<'_>) -> Vec<StreamId> {
    let (Some(key), Some(group), Some(consumer)) = (args.bytes(2), args.bytes(3), args.bytes(4)) else {
        return Vec::new();
    };
    keyspace.pending(db, key, group, None, Some(consumer)).into_iter().map(|(id, _)| id).collect()
}

/// What the command has changed.
pub fn changes(
    before: Before,
    keyspace: &mut ServerKeyspace<'_>,
    db: u32,
    args: Args<'_>,
    outcome: &Outcome,
) -> Option<Changes> {
    let name = args.bytes(0)?.to_ascii_lowercase();
    match name.as_slice() {
        b"xsetid" => {
            let mut changes = Changes::new(1);
            changes.assign(Part::Last, Value::Id(last_id(keyspace, db, args.bytes(1)?)?));
            Some(changes)
        }
        b"xgroup" => of_group(before, keyspace, db, args, outcome),
        b"xack" => {
            let (mut changes, group) = (Changes::new(1), args.bytes(2)?);
            for id in args.from(3).iter().filter_map(|text| id(text.as_bytes())).filter(|_| did_something(outcome)) {
                changes.assign(Part::Delivery { group, id }, Value::Acked);
            }
            some(changes)
        }
        b"xclaim" => claimed(keyspace, db, args, outcome),
        b"xautoclaim" => auto_claimed(args, outcome),
        _ => Some(Changes::new(1)),
    }
}

fn some(changes: Changes) -> Option<Changes> {
    (!changes.effects.is_empty()).then_some(changes)
}

fn did_something(outcome: &Outcome) -> bool {
    let mut any = false;
    outcome.leaves(&mut |leaf| any |= !matches!(leaf, Leaf::Integer(0) | Leaf::Other));
    any
}

/// `XGROUP subcommand key group ...`
fn of_group(
    before: Before,
    keyspace: &mut ServerKeyspace<'_>,
    db: u32,
    args: Args<'_>,
    outcome: &Outcome,
) -> Option<Changes> {
    let (key, group) = (args.bytes(2)?, args.bytes(3)?);
    let mut changes = Changes::new(2);
    let consumer = args.bytes(4).map(|name| Part::Consumer { group, name });
    if is(args, 1, b"create") || is(args, 1, b"setid") {
        if is(args, 1, b"create") {
            // A new group begins with nothing of one that had its name: of that, only what was not seen here survives.
            changes.push(Op::Stream(StreamOp::Ungroup { group }));
        }
        changes.assign(Part::Group(group), Value::Id(position(keyspace, db, key, group)?));
        // So that there is a stream wherever there is a group.
        changes.assign(Part::Last, Value::Id(last_id(keyspace, db, key)?));
    } else if is(args, 1, b"destroy") && did_something(outcome) {
        changes.push(Op::Stream(StreamOp::Ungroup { group }));
    } else if is(args, 1, b"createconsumer") && did_something(outcome) {
        changes.assign(consumer?, Value::Present);
    } else if is(args, 1, b"delconsumer") {
        // What was pending for it counts as done: no server hands it out again.
        if let Before::Leaving(ids) = before {
            ids.into_iter().for_each(|id| changes.assign(Part::Delivery { group, id }, Value::Acked));
        }
        changes.remove(consumer?);
    }
    some(changes)
}

/// The id of an entry in a reply, with or without its fields.
fn entry_id(entry: Element<'_>) -> Option<StreamId> {
    StreamId::parse(entry.bytes().or_else(|| entry.get(0)?.bytes())?)
}

/// `XCLAIM key group consumer min-idle id ... [options]`
fn claimed(keyspace: &mut ServerKeyspace<'_>, db: u32, args: Args<'_>, outcome: &Outcome) -> Option<Changes> {
    let (key, group, consumer) = (args.bytes(1)?, args.bytes(2)?, args.bytes(3)?);
    let mut changes = Changes::new(1);
    outcome.root()?.each(&mut |entry| {
        if let Some(id) = entry_id(entry) {
            changes.assign(Part::Delivery { group, id }, Value::Owner(consumer));
        }
    });
    if (5..args.len()).any(|at| is(args, at, b"lastid")) {
        changes.assign(Part::Group(group), Value::Id(position(keyspace, db, key, group)?));
        // As with `XGROUP SETID`.
        changes.assign(Part::Last, Value::Id(last_id(keyspace, db, key)?));
    }
    some(changes)
}

/// `XAUTOCLAIM key group consumer min-idle start [options]`: next start, entries, and (since Redis 7) ids that were deleted.
fn auto_claimed(args: Args<'_>, outcome: &Outcome) -> Option<Changes> {
    let (group, consumer) = (args.bytes(2)?, args.bytes(3)?);
    let mut changes = Changes::new(1);
    let mut assign_all = |at, value: Value<'_>| {
        if let Some(entries) = outcome.root().and_then(|root| root.get(at)) {
            entries.each(&mut |entry| {
                if let Some(id) = entry_id(entry) {
                    changes.assign(Part::Delivery { group, id }, value);
                }
            });
        }
    };
    assign_all(1, Value::Owner(consumer));
    assign_all(2, Value::Acked);
    some(changes)
}
