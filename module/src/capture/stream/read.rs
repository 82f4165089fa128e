//! `XREADGROUP`: what it delivers, and handing out what came late.
//!
//! Entries of other sites that arrive below the position of a group wait for a consumer of their own (`keyspace/tail.rs`). A read of
//! new entries gets them first: they are claimed for the reader, and the answer has the form of any other.

use syncer_shared::effect::{Op, StreamOp, Value};
use syncer_shared::keyspace::Keyspace;
use syncer_shared::metadata::Payload;
use syncer_shared::stream::{Ids, Part, StreamId};

use super::{Changes, is, last_id, number, position, texts};
use crate::keyspace::ServerKeyspace;
use crate::redis::client::{self, User};
use crate::redis::passthrough::{self, Outcome};
use crate::redis::{Args, Context, OwnedText, Text};

/// The arguments of `XREADGROUP GROUP group consumer [options] STREAMS key ... id ...`.
pub struct Reading<'a> {
    pub group: &'a [u8],
    pub consumer: &'a [u8],
    no_ack: bool,
    blocks: bool,
    count: Option<usize>,
    /// Argument index of the first key, and how many.
    keys: (usize, usize),
}

impl<'a> Reading<'a> {
    /// `None` when the server will refuse it.
    pub fn parse(args: Args<'a>) -> Option<Self> {
        let streams = (1..args.len()).find(|at| is(args, *at, b"streams"))?;
        let option = |word: &[u8]| (1..streams).find(|at| is(args, *at, word));
        let group = option(b"group")?;
        let count = option(b"count").and_then(|at| number(args, at + 1)).and_then(|n| usize::try_from(n).ok());
        let ids = args.len() - streams - 1;
        (ids > 0 && ids.is_multiple_of(2)).then_some(Self {
            group: args.bytes(group + 1)?,
            consumer: args.bytes(group + 2)?,
            no_ack: option(b"noack").is_some(),
            blocks: option(b"block").is_some(),
            count: count.filter(|count| *count > 0),
            keys: (streams + 1, ids / 2),
        })
    }

    /// Whether it may wait.
    pub fn may_block(&self) -> bool {
        self.blocks
    }

    /// Whether what is read is to be acknowledged.
    pub fn acknowledges(&self) -> bool {
        !self.no_ack
    }

    /// How many streams it names.
    pub fn streams(&self) -> usize {
        self.keys.1
    }

    /// Argument indexes of the streams of which new entries are wanted.
    pub fn new_entries(&self, args: Args<'a>) -> impl Iterator<Item = usize> + use<'a> {
        let (first, count) = self.keys;
        (first..first + count).filter(move |at| args.bytes(at + count) == Some(b">"))
    }
}

/// The positions of the group before, by argument index of the stream, and what is late there.
pub struct Positions {
    before: Vec<(usize, Option<StreamId>, Vec<StreamId>)>,
}

/// So many late entries are handed out at once, unless asked for fewer.
const LATE_AT_ONCE: usize = 100;

impl Positions {
    /// Looks.
    pub fn look(keyspace: &mut ServerKeyspace<'_>, db: u32, args: Args<'_>) -> Self {
        let Some(reading) = Reading::parse(args) else { return Self { before: Vec::new() } };
        let mut look = |at| {
            let key = args.bytes(at).unwrap_or_default();
            let position = position(keyspace, db, key, reading.group);
            let late = if position.is_some() { late(keyspace, db, key, &reading) } else { Vec::new() };
            (at, position, late)
        };
        Self { before: reading.new_entries(args).map(&mut look).collect() }
    }

    /// Claims what is late for the reader; `None` when nothing is.
    pub fn hand_out_late(&self, context: &Context, args: Args<'_>) -> Option<Late> {
        let reading = Reading::parse(args)?;
        if self.before.iter().all(|(.., late)| late.is_empty()) || !may_read(context, args) {
            return None;
        }
        let claim = |(at, _, ids): &(usize, Option<StreamId>, Vec<StreamId>)| {
            let key = args.bytes(*at).filter(|_| !ids.is_empty())?;
            let claimed = claim(context, key, &reading, ids);
            let ids = claimed_ids(&claimed);
            (!ids.is_empty()).then_some((*at, claimed, ids))
        };
        let given: Vec<_> = self.before.iter().filter_map(claim).collect();
        let consumer = (!reading.no_ack).then(|| reading.consumer.to_vec());
        (!given.is_empty()).then(|| Late { given, group: reading.group.to_vec(), consumer })
    }

    /// What was delivered.
    pub fn changes(self, keyspace: &mut ServerKeyspace<'_>, db: u32, args: Args<'_>) -> Vec<Changes> {
        let Some(reading) = Reading::parse(args) else { return Vec::new() };
        let consumer = (!reading.no_ack).then_some(reading.consumer);
        let of_stream = |(at, before, _): (usize, Option<StreamId>, _)| {
            let (key, before) = (args.bytes(at)?, before?);
            let after = position(keyspace, db, key, reading.group).filter(|after| *after > before)?;
            let mut ids = keyspace_ids(keyspace, db, key, before, after);
            if reading.no_ack {
                // A group that was set back gives what is pending again, and with `NOACK` leaves that as it is.
                let mut delivery = |id| keyspace.stream_part(db, key, Part::Delivery { group: reading.group, id });
                ids.retain(|id| !matches!(delivery(*id), Some(Payload::Owner(_))));
            }
            let last = last_id(keyspace, db, key)?;
            Some(deliver(at, reading.group, consumer, after, &ids, last))
        };
        self.before.into_iter().filter_map(of_stream).collect()
    }
}

/// The entries behind one position, up to another.
pub fn keyspace_ids(
    keyspace: &mut ServerKeyspace<'_>,
    db: u32,
    key: &[u8],
    before: StreamId,
    after: StreamId,
) -> Vec<StreamId> {
    let mut ids = Vec::new();
    if let Some(from) = before.next() {
        keyspace.stream_entries(db, key, from, after, &mut |id| ids.push(id));
    }
    ids
}

/// The effects of a delivery.
pub fn deliver(
    key: usize,
    group: &[u8],
    consumer: Option<&[u8]>,
    position: StreamId,
    ids: &[StreamId],
    last: StreamId,
) -> Changes {
    let (mut changes, mut bytes) = (Changes::new(key), Vec::new());
    Ids::encode(&mut bytes, ids.iter().copied());
    if let Ok(ids) = Ids::new(&bytes) {
        changes.push(Op::Stream(StreamOp::Deliver { group, consumer, position, ids }));
        changes.assign(Part::Last, Value::Id(last));
    }
    changes
}

fn late(keyspace: &mut ServerKeyspace<'_>, db: u32, key: &[u8], reading: &Reading<'_>) -> Vec<StreamId> {
    keyspace.late(db, key, reading.group, reading.count.unwrap_or(LATE_AT_ONCE))
}

/// What is handed out here runs without the checks of the command.
fn may_read(context: &Context, args: Args<'_>) -> bool {
    let Some(name) = client::current_user(context) else { return true };
    let all: Vec<Text<'_>> = args.iter().collect();
    User::find(name.text()).is_some_and(|user| user.may_run(&all))
}

fn claim(context: &Context, key: &[u8], reading: &Reading<'_>, ids: &[StreamId]) -> Outcome {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let head: [&[u8]; 5] = [b"XCLAIM", key, reading.group, reading.consumer, b"0"];
    let options: [&[u8]; 3] = [b"RETRYCOUNT", b"1", b"FORCE"];
    let all = head.into_iter().chain(ids.iter().map(String::as_bytes)).chain(options);
    let owned: Vec<OwnedText> = all.map(OwnedText::new).collect();
    let outcome = passthrough::run_replicated(context, Args::of(&texts(&owned)));
    if reading.no_ack {
        let head: [&[u8]; 3] = [b"XACK", key, reading.group];
        let owned: Vec<OwnedText> =
            head.into_iter().chain(ids.iter().map(String::as_bytes)).map(OwnedText::new).collect();
        drop(passthrough::run_replicated(context, Args::of(&texts(&owned))));
    }
    outcome
}

fn claimed_ids(claimed: &Outcome) -> Vec<StreamId> {
    let mut ids = Vec::new();
    if let Some(root) = claimed.root() {
        root.each(&mut |entry| ids.extend(entry.get(0).and_then(|id| StreamId::parse(id.bytes()?))));
    }
    ids
}

/// Entries that came late, claimed for a reader.
pub struct Late {
    given: Vec<(usize, Outcome, Vec<StreamId>)>,
    group: Vec<u8>,
    consumer: Option<Vec<u8>>,
}

impl Late {
    /// As `XREADGROUP` answers.
    pub fn reply(&self, context: &Context, args: Args<'_>) {
        let reply = context.reply();
        let is_map = reply.map_if_resp3(context, self.given.len());
        for (at, entries, _) in &self.given {
            if !is_map {
                reply.array(2);
            }
            reply.bytes(args.bytes(*at).unwrap_or_default());
            entries.reply(context);
        }
    }

    /// They are delivered now.
    pub fn changes(&self) -> Vec<Changes> {
        let of_stream = |(at, _, ids): &(usize, Outcome, Vec<StreamId>)| {
            let mut changes = Changes::new(*at);
            for id in ids {
                let value = self.consumer.as_deref().map_or(Value::Acked, Value::Owner);
                changes.assign(Part::Delivery { group: &self.group, id: *id }, value);
            }
            changes
        };
        self.given.iter().map(of_stream).collect()
    }
}
