//! `XADD`: ids that no two instances and no two reigns generate alike (DESIGN 2.3), and what it trims.

use std::cell::Cell;

use syncer_shared::effect::{Op, StreamOp, Value};
use syncer_shared::keyspace::Keyspace;
use syncer_shared::metadata::Payload;
use syncer_shared::stream::{Lane, Part, StreamId, push_field};

use super::{Changes, is, last_id};
use crate::keyspace::{ServerKeyspace, with_keyspace};
use crate::redis::passthrough::{self, As, Leaf, Outcome};
use crate::redis::{Args, Context, OwnedText, Text, timer};
use crate::state;

crate::redis::server_local! {
    /// The last id generated here, in whatever stream: an id above it is above that of most streams, without a look.
    static GENERATED: Cell<StreamId> = const { Cell::new(StreamId::MIN) };
}

/// What `XADD` may trim.
pub struct Trimming {
    /// Whether its arguments ask for it, and the first entry before.
    first: Option<Option<StreamId>>,
    /// Whether entries are spared that groups have not acknowledged: then it is no range that goes.
    sparing: bool,
}

/// Where the id is among the arguments of `XADD key [options] id field value ...`.
fn id_at(args: Args<'_>) -> usize {
    let mut at = 2;
    loop {
        if ["nomkstream", "keepref", "delref", "acked"].iter().any(|word| is(args, at, word.as_bytes())) {
            at += 1;
        } else if is(args, at, b"limit") {
            at += 2;
        } else if is(args, at, b"maxlen") || is(args, at, b"minid") {
            at += if is(args, at + 1, b"=") || is(args, at + 1, b"~") { 3 } else { 2 };
        } else {
            return at;
        }
    }
}

/// How the id of an `XADD` is to be made.
#[derive(Clone, Copy)]
enum Wanted {
    /// `*`
    Any,
    /// `ms-*`
    Of(u64),
}

fn wanted(text: &[u8]) -> Option<Wanted> {
    if text == b"*" {
        return Some(Wanted::Any);
    }
    let ms = std::str::from_utf8(text).ok()?.strip_suffix("-*")?;
    ms.parse().ok().map(Wanted::Of)
}

/// Runs it, with an id made here if it is to be made.
pub fn run(context: &Context, args: Args<'_>, run_as: As) -> Outcome {
    let at = id_at(args);
    let made = args.bytes(at).and_then(wanted);
    let lane = state::shard().map(|shard| Lane::of(shard.instance().get(), &shard.replid()));
    let (Some(made), Ok(lane)) = (made, lane) else {
        return passthrough::run(context, args, run_as);
    };
    let key = args.bytes(1).unwrap_or_default();
    let last = || with_keyspace(context, |keyspace| last_id(keyspace, context.db(), key)).unwrap_or_default();
    let run = |id: StreamId| {
        let id = OwnedText::new(id.to_string().as_bytes());
        let rewritten: Vec<Text<'_>> =
            args.iter().enumerate().map(|(i, arg)| if i == at { id.text() } else { arg }).collect();
        passthrough::run(context, Args::of(&rewritten), run_as)
    };
    let now_ms = timer::now_ms();
    let id = match made {
        Wanted::Any => above(now_ms, GENERATED.get(), lane),
        // None: it is below the last one, or there is no higher one. The server has the words for it.
        Wanted::Of(ms) => StreamId::generate(ms, last(), lane),
    };
    let Some(id) = id else { return passthrough::run(context, args, run_as) };
    let outcome = run(id);
    if matches!(made, Wanted::Of(_)) {
        return outcome;
    }
    GENERATED.set(id);
    if !outcome.is_error() {
        return outcome;
    }
    // A stream with an id of the future: of another site's clock, or of a client.
    match above(now_ms, last(), lane).filter(|next| *next > id) {
        Some(next) => run(next),
        None => outcome,
    }
}

/// An id of this millisecond above `last`; of a later one if need be.
fn above(now_ms: u64, last: StreamId, lane: Lane) -> Option<StreamId> {
    let ms = now_ms.max(last.ms);
    StreamId::generate(ms, last, lane).or_else(|| StreamId::generate(ms.checked_add(1)?, last, lane))
}

/// Whether no entry ever had this id, for it was generated of the time.
fn is_new(args: Args<'_>, id: StreamId) -> bool {
    matches!(args.bytes(id_at(args)).and_then(wanted), Some(Wanted::Any)) && GENERATED.get() == id
}

/// An entry with this id may have been delivered and deleted before (after an `XSETID` to a lower one). Who still has that delivery depends on what each
/// server held, and what is pruned: so the author says what there is from now on, here none. Returns the groups where it is pending, and for whom.
fn forget_deliveries(
    keyspace: &mut ServerKeyspace<'_>,
    db: u32,
    key: &[u8],
    id: StreamId,
    changes: &mut Changes,
) -> Vec<(Vec<u8>, Box<[u8]>)> {
    let mut owners = Vec::new();
    for group in keyspace.group_names(db, key) {
        let delivery = Part::Delivery { group: &group, id };
        match keyspace.stream_part(db, key, delivery) {
            Some(Payload::Owner(owner)) => owners.push((group, owner)),
            _ => changes.remove(delivery),
        }
    }
    owners
}

impl Trimming {
    /// Looks.
    pub fn look(keyspace: &mut ServerKeyspace<'_>, db: u32, args: Args<'_>) -> Self {
        let options = 2..id_at(args);
        let has = |word: &[u8]| options.clone().any(|at| is(args, at, word));
        let trims = has(b"maxlen") || has(b"minid");
        let key = args.bytes(1).unwrap_or_default();
        Self { first: trims.then(|| keyspace.first_entry(db, key)), sparing: trims && has(b"acked") }
    }

    /// The entry, and what it has trimmed.
    pub fn changes(
        self,
        keyspace: &mut ServerKeyspace<'_>,
        db: u32,
        args: Args<'_>,
        outcome: &Outcome,
    ) -> Option<Changes> {
        let mut added = None;
        outcome.leaves(&mut |leaf| {
            if let Leaf::Bytes(text) = leaf {
                added = StreamId::parse(text);
            }
        });
        // Without an id nothing was added: NOMKSTREAM.
        let (id, key) = (added?, args.bytes(1)?);
        let mut changes = Changes::new(1);
        if self.sparing {
            return Some(changes);
        }
        let owners = if is_new(args, id) { Vec::new() } else { forget_deliveries(keyspace, db, key, id, &mut changes) };
        let mut fields = Vec::new();
        args.from(id_at(args) + 1).iter().for_each(|field| push_field(&mut fields, field.as_bytes()));
        changes.assign(Part::Entry(id), Value::Bytes(&fields));
        for (group, owner) in &owners {
            changes.assign(Part::Delivery { group, id }, Value::Owner(owner));
        }
        if let Some(before) = self.first {
            let below = keyspace.first_entry(db, key).unwrap_or(StreamId::MAX);
            if before.unwrap_or(id) < below && keyspace.kind(db, key).is_some() {
                changes.push(Op::Stream(StreamOp::Trim { below }));
            }
        }
        Some(changes)
    }
}
