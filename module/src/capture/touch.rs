//! Adds that change nothing: `SADD` of a member that is there, `ZADD` with the score it has, `ZINCRBY 0`.
//!
//! They fire no event, but mean an add: one must win over a concurrent remove elsewhere. Remembered when their stage is
//! found unconsumed, and logged if the member is still there: by a timer right after what the event loop is doing now,
//! and before any remote effect is applied.

use syncer_shared::effect::{Effect, Op, Path, TtlNote, Value};
use syncer_shared::hyperloglog::{self, Registers};
use syncer_shared::keyspace::Keyspace;
use syncer_shared::number::{Number, parse_float};
use syncer_shared::patch::{Patch, Prior};
use syncer_shared::wire::Reader;

use super::arguments::StageArgs;
use super::effects::Sink;
use super::patch;
use super::shape::{Shape, has_flags};
use super::{Capture, Mode, ServerDataset, VOLATILE, role, with};
use crate::redis::client::{self, User};
use crate::redis::timer::{self, Tick};
use crate::redis::{Context, OwnedText, Text, detached};

/// Whether an unconsumed stage of that shape may be a touch.
#[must_use]
pub fn may_touch(shape: Shape) -> bool {
    matches!(shape, Shape::SAdd | Shape::ZAdd | Shape::ZIncrBy | Shape::SetBit | Shape::PfAdd)
}

/// Where a stage came from, for its database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Source {
    #[default]
    Unknown,
    /// Through the filter, which does not know the database.
    Client(u64),
    /// Through `SYNCER.CALL`.
    Db(u32),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Member,
    Score,
    /// Of a score that stays as it is: 0, or what is lost beside it, as on infinity.
    Add(f64),
    /// The member is an encoded patch: a bit.
    Bit,
    /// The member is registers, in any order, some repeatedly.
    Registers,
}

#[derive(Debug)]
struct Touch {
    db: u32,
    key: Box<[u8]>,
    member: Vec<u8>,
    how: How,
}

/// Touches to log. Repeated ones, as a benchmark or a cache refresh makes them, are logged once.
#[derive(Debug, Default)]
pub struct Touches {
    waiting: Vec<Touch>,
    scheduled: bool,
    source: Source,
    /// The database of the client last asked for.
    known_db: Option<(u64, u32)>,
}

/// How far back a repeated touch is looked for.
const LOOK_BACK: usize = 32;

impl Touches {
    /// The stage came through the filter.
    #[inline]
    pub fn staged_by_client(&mut self, client: u64) {
        self.source = Source::Client(client);
    }

    /// The stage came through `SYNCER.CALL`.
    pub fn staged_in_db(&mut self, db: u32) {
        self.source = Source::Db(db);
    }

    /// Clients may have another database now.
    pub fn forget_db(&mut self) {
        self.known_db = None;
    }

    /// A stage without event. `outer`: the client whose script or transaction runs.
    pub fn unconsumed(&mut self, shape: Shape, args: &StageArgs<'_>, outer: u64) {
        if !may_touch(shape) {
            return;
        }
        let (Some(key), Some(db)) = (args.get(1), self.db(outer)) else { return };
        let known = self.waiting.len();
        match shape {
            Shape::SAdd => args.from(2).for_each(|member| self.add(db, key, member, How::Member)),
            Shape::ZAdd if !has_flags(args.get(2)) => {
                args.pairs(2).for_each(|(_, member)| self.add(db, key, member, How::Score));
            }
            Shape::ZIncrBy => {
                if let (Some(delta), Some(member)) = (args.get(2).and_then(parse_float), args.get(3)) {
                    self.add(db, key, member, How::Add(delta));
                }
            }
            Shape::SetBit => {
                let mut bit = Vec::new();
                if let Some(patch) = patch::of_args(shape, args).filter(Patch::is_in_reach) {
                    patch.encode(&mut bit);
                    self.add(db, key, &bit, How::Bit);
                }
            }
            Shape::PfAdd => self.add_registers(db, key, &patch::elements(args)),
            _ => {}
        }
        if self.waiting.len() > known && !self.was_allowed(shape, args, outer) {
            self.waiting.truncate(known);
        }
        if !self.waiting.is_empty()
            && !self.scheduled
            && let Some(context) = detached()
        {
            self.scheduled = true;
            timer::start::<Flush>(context, 0);
        }
    }

    /// The database of the client whose command was staged last.
    pub fn db(&mut self, outer: u64) -> Option<u32> {
        let client = match self.source {
            Source::Unknown => return None,
            Source::Db(db) => return Some(db),
            Source::Client(client) => client,
        };
        if let Some((known, db)) = self.known_db
            && known == client
        {
            return Some(db);
        }
        let db = client::running(client).or_else(|| client::running(outer))?.db;
        self.known_db = Some((client, db));
        Some(db)
    }

    fn add(&mut self, db: u32, key: &[u8], member: &[u8], how: How) {
        let same = |t: &Touch| t.db == db && t.how == how && *t.member == *member && *t.key == *key;
        if !self.waiting.iter().rev().take(LOOK_BACK).any(same) {
            self.waiting.push(Touch { db, key: key.into(), member: member.into(), how });
        }
    }

    /// Elements that were there already are most of what a HyperLogLog sees: of one key they are logged together.
    fn add_registers(&mut self, db: u32, key: &[u8], registers: &[u8]) {
        let same = |t: &&mut Touch| t.db == db && t.how == How::Registers && *t.key == *key;
        match self.waiting.iter_mut().rev().take(LOOK_BACK).find(same) {
            Some(touch) => {
                touch.member.extend_from_slice(registers);
                if touch.member.len() > 2 * Registers::BYTES_MAX {
                    touch.member = hyperloglog::highest(&touch.member).into_vec();
                }
            }
            None => self.waiting.push(Touch { db, key: key.into(), member: registers.into(), how: How::Registers }),
        }
    }

    /// A command that was refused for want of rights has no event either, and must leave nothing.
    fn was_allowed(&self, shape: Shape, args: &StageArgs<'_>, outer: u64) -> bool {
        let Source::Client(client) = self.source else { return true };
        let Some(name) = client::user_name(client).or_else(|| client::user_name(outer)) else { return true };
        let command: &[u8] = match shape {
            Shape::SAdd => b"sadd",
            Shape::ZIncrBy => b"zincrby",
            Shape::SetBit => b"setbit",
            Shape::PfAdd => b"pfadd",
            _ => b"zadd",
        };
        let owned: Vec<OwnedText> = std::iter::once(command).chain(args.from(1)).map(OwnedText::new).collect();
        let args: Vec<Text<'_>> = owned.iter().map(OwnedText::text).collect();
        User::find(name.text()).is_some_and(|user| user.may_run(&args))
    }
}

struct Flush;

impl Tick for Flush {
    fn tick(context: &Context) {
        with(|capture| capture.touches.scheduled = false);
        flush(context);
    }
}

/// Logs the touches that wait. Also called before remote effects are applied.
pub fn flush(context: &Context) {
    if role::mode() == Mode::Primary {
        with(|capture| {
            if capture.unit.is_open() && capture.unit.is_empty() {
                capture.settle();
            }
            if !capture.touches.waiting.is_empty() {
                capture.log_touches(context);
            }
        });
    }
}

impl Capture {
    fn log_touches(&mut self, context: &Context) {
        let mut dataset = ServerDataset::new(context);
        for touch in std::mem::take(&mut self.touches.waiting) {
            let Touch { db, key, member, how } = &touch;
            let score = |dataset: &mut ServerDataset<'_>| dataset.score(*db, key, member);
            let (mut before, told, registers);
            before = None;
            let op = match how {
                How::Bit => {
                    told = patch::look(&mut dataset, *db, key);
                    touched_bit(&mut dataset, (*db, key), &told, member)
                }
                How::Registers => {
                    registers = hyperloglog::highest(member);
                    touched_registers(dataset.string(*db, key).as_deref(), &registers)
                }
                How::Member => {
                    dataset.has_member(*db, key, member).then_some(assign(Path::Member(member), Value::Present))
                }
                How::Score => score(&mut dataset).map(|score| assign(Path::Scored(member), Value::Score(score))),
                // What failed, as infinity less infinity, has no event either.
                How::Add(delta) => score(&mut dataset).filter(|score| score + delta == *score).map(|score| {
                    before = Some(score.to_string());
                    Op::Increment { path: Path::Scored(member), delta: Number::Float(*delta) }
                }),
            };
            let Some(op) = op else { continue };
            let kept = if VOLATILE.get() { dataset.expire_at(*db, key) } else { None };
            let ttl = kept.map_or(TtlNote::None, TtlNote::Kept);
            let before = before.as_ref().map(|text| Some(text.as_bytes()));
            self.group.push(&Effect { db: *db, key, ttl, op }, before);
            self.counters.touches += 1;
        }
        self.commit(context, &mut dataset);
    }
}

fn assign<'a>(path: Path<'a>, value: Value<'a>) -> Op<'a> {
    Op::Assign { path, value, reasserted: false }
}

/// A bit that was set to what it was, if it is that still. `told`: see [`patch::look`], which copies no long string.
fn touched_bit<'a>(
    dataset: &mut ServerDataset<'_>,
    (db, key): (u32, &[u8]),
    told: &'a [u8],
    bit: &'a [u8],
) -> Option<Op<'a>> {
    let patch = Patch::decode(&mut Reader::new(bit)).ok()?;
    let Patch::Bits { offset, count, .. } = patch else { return None };
    let prior = patch::prior(Some(told)).filter(|prior| patch.end() <= Some(prior.length()))?;
    let window = dataset.string_range(db, key, offset / 8, 1);
    (Patch::bits_in(&window, offset, count) == patch).then_some(Op::Patch { patch, prior })
}

fn touched_registers<'a>(text: Option<&[u8]>, registers: &'a [u8]) -> Option<Op<'a>> {
    let registers = Registers::new(registers)?;
    hyperloglog::has(text?, registers).then_some(Op::Patch { patch: Patch::Registers(registers), prior: Prior::NONE })
}
