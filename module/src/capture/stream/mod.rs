//! Commands on streams. Most fire no event that says enough, or none at all (CAPTURE 3): all go through `SYNCER.CALL`, which knows
//! their arguments, their reply, and the stream before and after.
//!
//! | file | commands |
//! |---|---|
//! | `add` | `XADD`, ids included |
//! | `remove` | `XDEL`, `XDELEX`, `XACKDEL`, `XTRIM` |
//! | `group` | `XGROUP`, `XACK`, `XCLAIM`, `XAUTOCLAIM`, `XSETID` |
//! | `read` | `XREADGROUP`, and handing out what came late |
//! | `blocking` | `XREADGROUP BLOCK`: whether it will wait, and what it was given later |

mod add;
pub mod blocking;
mod group;
mod read;
mod remove;

use syncer_shared::effect::{Effect, Op, Path, TtlNote, Value};
use syncer_shared::group::GroupBuilder;
use syncer_shared::keyspace::Keyspace;
use syncer_shared::metadata::Payload;
use syncer_shared::stream::{Part, StreamId};

use crate::keyspace::{ServerKeyspace, with_keyspace};
use crate::redis::passthrough::{self, As, Leaf, Outcome};
use crate::redis::{Args, Context, OwnedText, Text};

/// What an operation on a stream is worth knowing before.
pub enum Before {
    /// See [`add`].
    Add(add::Trimming),
    /// See [`remove`].
    Trim(remove::Trimming),
    /// See [`read`].
    Read(read::Positions),
    /// What is pending for a consumer that will be deleted.
    Leaving(Vec<StreamId>),
    /// Nothing.
    Nothing,
}

/// What came of the command.
pub struct Changes {
    /// Argument index of the key.
    pub key: usize,
    /// Effects on it, of database 0; without any the key is captured whole.
    pub effects: GroupBuilder,
}

impl Changes {
    fn new(key: usize) -> Self {
        Self { key, effects: GroupBuilder::new() }
    }

    fn push(&mut self, op: Op<'_>) {
        self.effects.push(&Effect { db: 0, key: &[], ttl: TtlNote::None, op });
    }

    fn assign(&mut self, part: Part<'_>, value: Value<'_>) {
        self.push(Op::Assign { path: Path::Stream(&part.name()), value, reasserted: false });
    }

    fn remove(&mut self, part: Part<'_>) {
        self.push(Op::Remove { path: Path::Stream(&part.name()) });
    }
}

/// What the client gets.
pub enum Given {
    /// The reply of the command.
    Reply(Outcome),
    /// Entries that came late, by argument index of their streams.
    Late(read::Late),
}

impl Given {
    /// Whether the command failed.
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Reply(outcome) if outcome.is_error())
    }

    /// Whether it is the number 1.
    pub fn is_one(&self) -> bool {
        let mut is_one = false;
        if let Self::Reply(outcome) = self {
            outcome.leaves(&mut |leaf| is_one |= leaf == Leaf::Integer(1));
        }
        is_one
    }

    /// Gives it to the client.
    pub fn reply(&self, context: &Context, args: Args<'_>) {
        match self {
            Self::Reply(outcome) => outcome.reply(context),
            Self::Late(late) => late.reply(context, args),
        }
    }
}

fn is(args: Args<'_>, at: usize, word: &[u8]) -> bool {
    args.bytes(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word))
}

fn number(args: Args<'_>, at: usize) -> Option<i64> {
    args.get(at).and_then(Text::as_integer)
}

/// An id as commands take it: the sequence may be missing.
fn id(text: &[u8]) -> Option<StreamId> {
    let text = std::str::from_utf8(text).ok()?;
    match text.split_once('-') {
        Some((ms, seq)) => Some(StreamId { ms: ms.parse().ok()?, seq: seq.parse().ok()? }),
        None => Some(StreamId { ms: text.parse().ok()?, seq: 0 }),
    }
}

impl Before {
    /// Looks.
    pub fn look(context: &Context, args: Args<'_>) -> Self {
        let name = args.bytes(0).unwrap_or_default().to_ascii_lowercase();
        let db = context.db();
        with_keyspace(context, |keyspace| match name.as_slice() {
            b"xadd" => Self::Add(add::Trimming::look(keyspace, db, args)),
            b"xtrim" => Self::Trim(remove::Trimming::look(args)),
            b"xreadgroup" => Self::Read(read::Positions::look(keyspace, db, args)),
            b"xgroup" if is(args, 1, b"delconsumer") => Self::Leaving(group::leaving(keyspace, db, args)),
            _ => Self::Nothing,
        })
    }

    /// Runs the command, but for what it is to be given instead.
    pub fn run(&self, context: &Context, args: Args<'_>, run_as: As) -> Given {
        if let Self::Read(positions) = self
            && let Some(late) = positions.hand_out_late(context, args)
        {
            return Given::Late(late);
        }
        match self {
            Self::Add(_) => Given::Reply(add::run(context, args, run_as)),
            _ => Given::Reply(passthrough::run(context, args, run_as)),
        }
    }

    /// What has changed.
    pub fn changes(self, context: &Context, args: Args<'_>, given: &Given) -> Vec<Changes> {
        let outcome = match given {
            Given::Late(late) => return late.changes(),
            Given::Reply(outcome) if outcome.is_error() => return Vec::new(),
            Given::Reply(outcome) => outcome,
        };
        let name = args.bytes(0).unwrap_or_default().to_ascii_lowercase();
        let db = context.db();
        with_keyspace(context, |keyspace| match (self, name.as_slice()) {
            (Self::Add(trimming), _) => trimming.changes(keyspace, db, args, outcome).into_iter().collect(),
            (Self::Trim(trimming), _) => trimming.changes(keyspace, db, args, outcome).into_iter().collect(),
            (Self::Read(positions), _) => positions.changes(keyspace, db, args),
            (_, b"xdel") => remove::deleted(args, outcome).into_iter().collect(),
            (_, b"xdelex" | b"xackdel") => remove::each_deleted(args, outcome).into_iter().collect(),
            (before, _) => group::changes(before, keyspace, db, args, outcome).into_iter().collect(),
        })
    }
}

/// The last generated id of a stream.
fn last_id(keyspace: &mut ServerKeyspace<'_>, db: u32, key: &[u8]) -> Option<StreamId> {
    as_id(keyspace.stream_part(db, key, Part::Last)?)
}

/// The position of a group.
fn position(keyspace: &mut ServerKeyspace<'_>, db: u32, key: &[u8], group: &[u8]) -> Option<StreamId> {
    as_id(keyspace.stream_part(db, key, Part::Group(group))?)
}

fn as_id(payload: Payload) -> Option<StreamId> {
    if let Payload::Id(id) = payload { Some(id) } else { None }
}

fn texts(owned: &[OwnedText]) -> Vec<Text<'_>> {
    owned.iter().map(OwnedText::text).collect()
}
