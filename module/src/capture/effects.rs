//! From what happened in a unit to effects. Pure over [`Keyspace`]; runs when the state of the unit is final.

mod string;
#[cfg(test)]
mod tests;

use syncer_shared::effect::{ClearReason, Effect, FUNCTIONS_DB, FlushScope, Kind, Op, Path, TtlNote, Value};
use syncer_shared::group;
use syncer_shared::keyspace::Keyspace;
use syncer_shared::list::{Edit, End};
use syncer_shared::number::{Number, parse_float};
use syncer_shared::patch::Patch;
use syncer_shared::wire::Reader;

use super::arguments::StageArgs;
use super::event::Event;
use super::finals::Finals;
use super::patch;
use super::seals::{Seals, Unstaged, unstaged};
use super::shape::Shape;
use super::unit::{Item, Span, Unit};

/// Where effects go.
pub trait Sink {
    /// Takes one effect. `before`: the element before an increment by a float, when it was looked at.
    fn push(&mut self, effect: &Effect<'_>, before: Option<Option<&[u8]>>);

    /// This key is captured whole for want of a better way.
    fn whole(&mut self, db: u32, key: &[u8]);

    /// This key is there and has nothing in it.
    fn hollow(&mut self, db: u32, key: &[u8]);

    /// Takes new elements of a list.
    fn list_push<'v>(&mut self, write: (u32, &[u8]), ttl: TtlNote, end: End, values: impl Iterator<Item = &'v [u8]>);

    /// The next change of a list is told by what it looks like now.
    fn guess(&mut self);

    /// Takes any other change of a list.
    fn list(&mut self, write: (u32, &[u8]), ttl: TtlNote, edit: Edit<'_>);
}

/// Turns a unit into effects. `volatile`: whether any key may have a TTL; when not, looking for TTLs is saved (T2).
pub fn resolve<D: Keyspace, S: Sink>(unit: &Unit, dataset: &mut D, volatile: bool, sink: &mut S) {
    let seals = Seals::of(unit);
    let mut resolver = Resolver { unit, dataset, volatile, sink, finals: Finals::default() };
    for (at, item) in unit.items().iter().enumerate() {
        resolver.item(at, item, &seals);
    }
    for (db, key) in seals.whole() {
        resolver.whole_key(db, key);
    }
    for db in unit.items().iter().flat_map(swapped) {
        let mut names = Vec::new();
        resolver.dataset.keys(FlushScope::Db(db), &mut |_, key| names.push(key.to_vec()));
        for key in names {
            resolver.whole_key(db, &key);
        }
    }
}

fn swapped(item: &Item) -> impl Iterator<Item = u32> + use<> {
    let dbs = if let Item::Swap(a, b) = *item { [Some(a), Some(b).filter(|b| *b != a)] } else { [None, None] };
    dbs.into_iter().flatten()
}

struct Resolver<'a, D, S> {
    unit: &'a Unit,
    dataset: &'a mut D,
    volatile: bool,
    sink: &'a mut S,
    finals: Finals,
}

impl<'a, D: Keyspace, S: Sink> Resolver<'a, D, S> {
    fn item(&mut self, at: usize, item: &Item, seals: &Seals<'_>) {
        match *item {
            Item::Staged { key, db, .. } | Item::Event { key, db, .. } | Item::Effects { key, db, .. }
                if seals.is_whole(db, self.unit.bytes(key)) =>
            {
                let counts = |event| unstaged(event) == Unstaged::Whole && event != Event::Replaced;
                if matches!(*item, Item::Event { event, .. } if counts(event)) {
                    self.sink.whole(db, self.unit.bytes(key));
                }
            }
            Item::Staged { stage, key, db, at: arg, created } => {
                let write = Write { db, key: self.unit.bytes(key), created };
                if self.leaves_for_whole(stage, arg, db, seals) {
                    let end = end_of(self.unit.args(stage).get(3), End::Tail);
                    self.list(write, Edit::Pop(end, Some(1)));
                } else if !self.emptied(at, db, write.key) || matches!(self.unit.shape(stage), Shape::SMove) {
                    self.staged(stage, arg, write, at);
                }
            }
            Item::Event { event, key, db, created } => {
                let write = Write { db, key: self.unit.bytes(key), created };
                self.event(event, write, at, seals);
            }
            Item::Effects { body, key, db, created } => {
                let write = Write { db, key: self.unit.bytes(key), created };
                let mut note = self.note(write);
                for effect in group::effects(self.unit.bytes(body)) {
                    self.push(write, std::mem::take(&mut note), effect.op);
                }
            }
            Item::Expired { key, db, .. } if seals.is_whole(db, self.unit.bytes(key)) => {}
            Item::Expired { key, db, fields } => {
                let write = Write { db, key: self.unit.bytes(key), created: false };
                for field in self.unit.expired_fields(fields) {
                    if self.dataset.field(db, write.key, field).is_none() {
                        self.push(write, TtlNote::None, remove(Path::Field(field)));
                    }
                }
            }
            Item::Library { name, code } => {
                let write = Write { db: FUNCTIONS_DB, key: self.unit.bytes(name), created: false };
                let assign = |code| {
                    let value = Value::Payload(self.unit.bytes(code));
                    Op::Assign { path: Path::Opaque, value, reasserted: false }
                };
                let op = code.map_or(Op::Clear { reason: ClearReason::Deleted }, assign);
                self.push(write, TtlNote::None, op);
            }
            Item::Published { stage } => self.published(stage),
            Item::Flush(scope) => self.flush(scope),
            Item::Swap(a, b) => {
                self.flush(FlushScope::Db(a));
                self.flush(FlushScope::Db(b));
            }
        }
    }

    /// Whether an element went from here to a list that is captured whole, which does not say where it came from.
    fn leaves_for_whole(&self, stage: usize, arg: usize, db: u32, seals: &Seals<'_>) -> bool {
        let is_source = self.unit.shape(stage) == Shape::ListMove && arg == 1;
        is_source && self.unit.args(stage).get(2).is_some_and(|target| seals.is_whole(db, target))
    }

    /// Whether the next thing that happened is that the key went away: then its `Clear` says more than removes do.
    fn emptied(&self, at: usize, db: u32, name: &[u8]) -> bool {
        let next = self.unit.items().get(at + 1);
        let gone = |key: Span, in_db| in_db == db && self.unit.bytes(key) == name;
        matches!(next, Some(Item::Event { event: Event::Del, key, db, .. }) if gone(*key, *db))
    }

    fn published(&mut self, stage: usize) {
        let (unit, args) = (self.unit, self.unit.args(stage));
        if let (Shape::Publish { sharded }, Some(channel), Some(message)) =
            (unit.shape(stage), args.get(1), args.get(2))
        {
            let op = Op::Publish { sharded, channel, message };
            self.sink.push(&Effect { db: 0, key: &[], ttl: TtlNote::None, op }, None);
        }
    }

    fn flush(&mut self, scope: FlushScope) {
        self.sink.push(&Effect { db: 0, key: &[], ttl: TtlNote::None, op: Op::Flush { scope } }, None);
    }

    fn event(&mut self, event: Event, write: Write<'a>, at: usize, seals: &Seals<'_>) {
        match unstaged(event) {
            Unstaged::Clear(reason) => self.push(write, TtlNote::None, Op::Clear { reason }),
            Unstaged::Ttl if event == Event::Persist => self.push(write, TtlNote::None, Op::Persist),
            Unstaged::Ttl => {
                if let Some(at) = self.dataset.expire_at(write.db, write.key) {
                    self.push(write, TtlNote::None, Op::Expire { at });
                }
            }
            Unstaged::Final if event == Event::Set => {
                let Some(value) = self.finals.take(self.unit, seals, self.dataset, at) else { return };
                let expire_at = if self.volatile { self.dataset.expire_at(write.db, write.key) } else { None };
                self.push(write, TtlNote::None, Op::Set { value: &value, expire_at });
            }
            Unstaged::Final => self.final_string(write, at),
            Unstaged::Pop(end) if !self.emptied(at, write.db, write.key) => self.list(write, Edit::Pop(end, None)),
            Unstaged::Push(end) => {
                let index =
                    if end == End::Head { 0 } else { self.dataset.list_len(write.db, write.key).saturating_sub(1) };
                if let Some(element) = self.dataset.list_get(write.db, write.key, index) {
                    self.sink.guess();
                    self.list_push(write, end, std::iter::once(&element[..]));
                }
            }
            Unstaged::Pop(_) | Unstaged::Whole => {}
        }
    }

    /// The string as it is now; once, however often it was patched in the unit.
    fn final_string(&mut self, write: Write<'a>, at: usize) {
        let later = self.unit.items().get(at + 1..).unwrap_or_default().iter().any(|item| {
            matches!(*item, Item::Event { event: other, key, db, .. }
                if db == write.db && unstaged(other) == Unstaged::Final && self.unit.bytes(key) == write.key)
        });
        if !later || write.created {
            self.assign_string(write);
        }
    }

    /// `Clear`, every element, and the TTL.
    fn whole_key(&mut self, db: u32, key: &[u8]) {
        let write = Write { db, key, created: false };
        let expire_at = self.dataset.expire_at(db, key);
        if self.dataset.kind(db, key) == Some(Kind::String)
            && let Some(value) = self.dataset.string(db, key)
        {
            return self.push(write, TtlNote::None, Op::Set { value: &value, expire_at });
        }
        self.push(write, TtlNote::None, Op::Clear { reason: ClearReason::Deleted });
        if self.dataset.kind(db, key) == Some(Kind::List) {
            let mut values: Vec<Vec<u8>> = Vec::new();
            self.dataset.elements(db, key, &mut |_, value| {
                if let Value::Bytes(value) = value {
                    values.push(value.to_vec());
                }
            });
            self.sink.list_push((db, key), TtlNote::None, End::Tail, values.iter().map(Vec::as_slice));
            return self.push(write, TtlNote::None, expire_at.map_or(Op::Persist, |at| Op::Expire { at }));
        }
        let sink = &mut *self.sink;
        let mut any = false;
        self.dataset.elements(db, key, &mut |path, value| {
            any = true;
            let op = Op::Assign { path, value, reasserted: false };
            sink.push(&Effect { db, key, ttl: TtlNote::None, op }, None);
        });
        if any {
            self.push(write, TtlNote::None, expire_at.map_or(Op::Persist, |at| Op::Expire { at }));
        } else if self.dataset.kind(db, key) == Some(Kind::Hash) {
            self.sink.hollow(db, key);
        }
    }

    /// T2, T3.
    fn note(&mut self, write: Write<'_>) -> TtlNote {
        if write.created {
            TtlNote::Created
        } else if self.volatile {
            self.dataset.expire_at(write.db, write.key).map_or(TtlNote::None, TtlNote::Kept)
        } else {
            TtlNote::None
        }
    }

    fn push(&mut self, write: Write<'_>, ttl: TtlNote, op: Op<'_>) {
        self.sink.push(&Effect { db: write.db, key: write.key, ttl, op }, None);
    }

    /// Pushes effects of one command on one key; the first carries the note on the TTL.
    fn push_all<'b>(&mut self, write: Write<'_>, ops: impl Iterator<Item = Op<'b>>) {
        let mut note = self.note(write);
        for op in ops {
            self.push(write, std::mem::take(&mut note), op);
        }
    }

    fn staged(&mut self, stage: usize, arg: usize, write: Write<'a>, at: usize) {
        let unit = self.unit;
        let args = unit.args(stage);
        match unit.shape(stage) {
            Shape::Set => self.set(stage, &args, (2, 3), write),
            Shape::SetEx => self.replace(stage, args.get(3), write),
            Shape::SetPlain => self.replace(stage, args.get(2), write),
            Shape::MSet => self.replace(stage, args.get(arg + 1), write),
            Shape::MSetEx => {
                let pairs = usize::try_from(integer(args.get(1))).unwrap_or_default();
                self.set(stage, &args, (arg + 1, pairs.saturating_mul(2).saturating_add(2)), write);
            }
            Shape::IncrOne(one) => self.increment(write, Path::String, i64::from(one)),
            Shape::IncrBy(sign) => {
                let delta = integer(args.get(2)).saturating_mul(i64::from(sign));
                self.increment(write, Path::String, delta);
            }
            Shape::IncrFloat => self.increment_float(write, Path::String, args.get(2), &args),
            shape @ (Shape::SetBit | Shape::SetRange | Shape::Append) => {
                self.patch(write, patch::of_args(shape, &args), args.told().next());
            }
            Shape::BitField | Shape::BitOp => {
                let prior = args.told().next();
                let decode = |bits| Patch::decode(&mut Reader::new(bits)).ok();
                self.patches(write, || args.told().skip(1).map(decode), prior);
            }
            Shape::PfAdd => self.raise(write, &patch::elements(&args)),
            Shape::PfMerge => self.raise(write, args.told().next().unwrap_or_default()),
            Shape::HSet => self.push_all(write, args.pairs(2).map(|(field, value)| set_field(field, value))),
            Shape::HDel => self.push_all(write, args.from(2).map(|field| remove(Path::Field(field)))),
            Shape::HGetDel => self.push_all(write, args.from(4).map(|field| remove(Path::Field(field)))),
            Shape::HTtl => self.fields(write, args.fields(), true),
            Shape::HSetEx => self.fields(write, args.fields().step_by(2), false),
            Shape::HIncrBy | Shape::HIncrFloat if self.began_anew(write, args.get(2), at) => {
                self.fields(write, args.get(2).into_iter(), false);
            }
            Shape::HIncrBy => {
                if let Some(field) = args.get(2) {
                    self.increment(write, Path::Field(field), integer(args.get(3)));
                }
            }
            Shape::HIncrFloat => {
                if let Some(field) = args.get(2) {
                    self.increment_float(write, Path::Field(field), args.get(3), &args);
                }
            }
            Shape::SAdd => self.push_all(write, args.from(2).map(add_member)),
            Shape::SRem => self.push_all(write, args.from(2).map(|member| remove(Path::Member(member)))),
            Shape::SMove => self.moved(stage, arg, &args, write, at),
            Shape::SPop => self.push_all(write, args.told().map(|member| remove(Path::Member(member)))),
            Shape::ZAdd => self.zadd(&args, write),
            Shape::GeoAdd => self.scores(&args, write),
            Shape::ZIncrBy => {
                if let Some(member) = args.get(3) {
                    self.increment_float(write, Path::Scored(member), args.get(2), &args);
                }
            }
            Shape::ZRem => self.push_all(write, args.from(2).map(|member| remove(Path::Scored(member)))),
            Shape::ZPop { .. } | Shape::ZRemByRank | Shape::ZRemByScore | Shape::ZRemByLex => {
                self.push_all(write, args.told().map(|member| remove(Path::Scored(member))));
            }
            Shape::ListPush(end) => self.list_push(write, end, args.from(2)),
            Shape::ListPop(end) => {
                let count = args.get(2).map_or(1, |count| integer(Some(count)));
                self.list(write, Edit::Pop(end, u64::try_from(count).ok()));
            }
            Shape::ListPopOne(end) => self.list(write, Edit::Pop(end, Some(1))),
            Shape::ListPopMany(keys) => {
                let direction = usize::from(keys) + usize::try_from(integer(args.get(keys.into()))).unwrap_or(0) + 1;
                let count = args.get(direction + 2).map_or(1, |count| integer(Some(count)));
                self.list(write, Edit::Pop(end_of(args.get(direction), End::Head), u64::try_from(count).ok()));
            }
            Shape::ListTrim => self.list(write, Edit::Trim(integer(args.get(2)), integer(args.get(3)))),
            Shape::ListSet => {
                if let Some(element) = args.get(3) {
                    self.list(write, Edit::Set(integer(args.get(2)), element));
                }
            }
            Shape::ListInsert => {
                if let (Some(element), Some(place)) = (args.get(4), args.told().next()) {
                    self.list(write, Edit::Insert(place_of(place), element));
                }
            }
            Shape::ListRemove => {
                let places: Vec<u64> = args.told().map(place_of).collect();
                self.list(write, Edit::Remove(&places));
            }
            Shape::ListMove => self.list_move(&args, arg, write),
            Shape::PfCount | Shape::Ttl(_) | Shape::Copy | Shape::Move | Shape::Publish { .. } => {}
            Shape::Functions | Shape::Stream | Shape::Whole => {}
        }
    }

    fn list(&mut self, write: Write<'_>, edit: Edit<'_>) {
        let note = self.note(write);
        self.sink.list((write.db, write.key), note, edit);
    }

    fn list_push<'b>(&mut self, write: Write<'_>, end: End, values: impl Iterator<Item = &'b [u8]>) {
        let note = self.note(write);
        self.sink.list_push((write.db, write.key), note, end, values);
    }

    /// The event of the push comes first, the element went first.
    fn list_move(&mut self, args: &StageArgs<'a>, arg: usize, write: Write<'a>) {
        let (Some(source), Some(element), 2) = (args.get(1), args.told().next(), arg) else { return };
        self.list(Write { key: source, created: false, ..write }, Edit::Pop(end_of(args.get(3), End::Tail), Some(1)));
        self.list_push(write, end_of(args.get(4), End::Head), std::iter::once(element));
    }

    fn increment(&mut self, write: Write<'_>, path: Path<'_>, delta: i64) {
        let note = self.note(write);
        self.push(write, note, Op::Increment { path, delta: Number::Integer(delta) });
    }

    /// The element before is told: absent, or one text.
    fn increment_float(&mut self, write: Write<'_>, path: Path<'_>, delta: Option<&[u8]>, args: &StageArgs<'_>) {
        let Some(delta) = delta.and_then(parse_float) else { return };
        let ttl = self.note(write);
        let op = Op::Increment { path, delta: Number::Float(delta) };
        self.sink.push(&Effect { db: write.db, key: write.key, ttl, op }, Some(args.told().next()));
    }

    /// The fields as they are now, with their TTLs. `reasserted`: nothing but the TTL was meant to change.
    fn fields<'b>(&mut self, write: Write<'_>, fields: impl Iterator<Item = &'b [u8]>, reasserted: bool) {
        let mut note = self.note(write);
        for field in fields {
            let path = Path::Field(field);
            let value = self.dataset.field(write.db, write.key, field);
            let at = self.dataset.field_expire_at(write.db, write.key, field);
            let op = match (&value, at) {
                (Some(bytes), Some(at)) => Op::Assign { path, value: Value::Expiring { bytes, at }, reasserted },
                (Some(bytes), None) => Op::Assign { path, value: Value::Bytes(bytes), reasserted },
                (None, _) => remove(path),
            };
            self.push(write, std::mem::take(&mut note), op);
        }
    }

    /// Whether the field had expired when the command came, so that it counted from 0.
    fn began_anew(&self, write: Write<'_>, field: Option<&[u8]>, at: usize) -> bool {
        self.unit.items().iter().take(at).any(|item| match *item {
            Item::Expired { key, db, fields } => {
                db == write.db
                    && self.unit.bytes(key) == write.key
                    && self.unit.expired_fields(fields).any(|expired| Some(expired) == field)
            }
            _ => false,
        })
    }

    /// `SMOVE`: gone at the source, there at the target, also when it was there already.
    fn moved(&mut self, stage: usize, arg: usize, args: &StageArgs<'a>, write: Write<'a>, at: usize) {
        let (Some(target), Some(member)) = (args.get(2), args.get(3)) else { return };
        if arg == 2 {
            return self.push_all(write, std::iter::once(add_member(member)));
        }
        if !self.emptied(at, write.db, write.key) {
            self.push_all(write, std::iter::once(remove(Path::Member(member))));
        }
        let arrives = |item: &Item| matches!(*item, Item::Staged { stage: s, at: 2, .. } if s == stage);
        if !self.unit.items().iter().any(arrives) {
            let write = Write { key: target, created: false, ..write };
            self.push_all(write, std::iter::once(add_member(member)));
        }
    }

    /// `ZADD` without flags sets what its arguments say; with flags the wrapper has told what changed.
    fn zadd(&mut self, args: &StageArgs<'a>, write: Write<'a>) {
        if args.get(2).is_none_or(|first| parse_float(first).is_none()) {
            return self.scores(args, write);
        }
        let mut note = self.note(write);
        for (text, member) in args.pairs(2) {
            let score = parse_float(text).or_else(|| self.dataset.score(write.db, write.key, member));
            if let Some(score) = score {
                self.push(write, std::mem::take(&mut note), assign_score(member, score));
            }
        }
    }

    /// What the wrapper has told: members that changed and their scores; or, for INCR, the score before.
    fn scores(&mut self, args: &StageArgs<'a>, write: Write<'a>) {
        if let Some(at) = (2..args.len()).find(|at| args.get(*at).is_some_and(|a| a.eq_ignore_ascii_case(b"incr"))) {
            let flags = (at..args.len()).find(|at| args.get(*at).is_some_and(|a| parse_float(a).is_some()));
            if let Some((at, member)) = flags.and_then(|at| Some((at, args.get(at + 1)?))) {
                self.increment_float(write, Path::Scored(member), args.get(at), args);
            }
            return;
        }
        let mut note = self.note(write);
        let mut told = args.told();
        while let (Some(member), Some(score)) = (told.next(), told.next()) {
            if let Some(score) = parse_float(score) {
                self.push(write, std::mem::take(&mut note), assign_score(member, score));
            }
        }
    }
}

/// A key that a command wrote.
#[derive(Clone, Copy)]
struct Write<'a> {
    db: u32,
    key: &'a [u8],
    created: bool,
}

fn set_field<'a>(field: &'a [u8], value: &'a [u8]) -> Op<'a> {
    Op::Assign { path: Path::Field(field), value: Value::Bytes(value), reasserted: false }
}

fn add_member(member: &[u8]) -> Op<'_> {
    Op::Assign { path: Path::Member(member), value: Value::Present, reasserted: false }
}

fn assign_score(member: &[u8], score: f64) -> Op<'_> {
    Op::Assign { path: Path::Scored(member), value: Value::Score(score), reasserted: false }
}

fn remove(path: Path<'_>) -> Op<'_> {
    Op::Remove { path }
}

/// `LEFT` or `RIGHT`, where there is one.
fn end_of(argument: Option<&[u8]>, otherwise: End) -> End {
    match argument {
        Some(word) if word.eq_ignore_ascii_case(b"left") => End::Head,
        Some(word) if word.eq_ignore_ascii_case(b"right") => End::Tail,
        _ => otherwise,
    }
}

/// An index that a look has told.
fn place_of(told: &[u8]) -> u64 {
    told.try_into().map(u64::from_le_bytes).unwrap_or_default()
}

/// An integer that the server has accepted.
fn integer(text: Option<&[u8]>) -> i64 {
    text.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()).unwrap_or_default()
}
