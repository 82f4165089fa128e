//! Commands of clients: what a server would do to the dataset, and the effects that capture would make of it.

use syncer_shared::effect::{ClearReason, Effect, FlushScope, Kind, Op, Path, TtlNote, UnixMs, Value};
use syncer_shared::group::GroupBuilder;
use syncer_shared::hyperloglog::{HyperLogLog, Registers, registers_of};
use syncer_shared::keyspace::{Keyspace, SetTtl};
use syncer_shared::list::draft::Draft;
use syncer_shared::list::{Drafts, Edit, End};
use syncer_shared::memory::MemoryKeyspace;
use syncer_shared::metadata::Payload;
use syncer_shared::number::Number;
use syncer_shared::patch::{Patch, Prior};
use syncer_shared::record::Before;

use super::streams::{self, StreamCommand};

/// A command on one key, or a flush.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// `SET key value [PXAT at]`
    Set(String, Option<UnixMs>),
    /// `APPEND`, `SETRANGE`: replaces the string, keeps the TTL.
    Append(String),
    /// `SETBIT key offset bit`
    SetBit(u64, bool),
    /// `SETRANGE key offset value`
    SetRange(u64, Vec<u8>),
    /// `APPEND`, captured as such.
    AppendPart(String),
    /// `PFADD`
    PfAdd(Vec<String>),
    /// `INCRBY`
    IncrBy(i64),
    /// `INCRBYFLOAT`
    IncrByFloat(f64),
    /// `HSET key field value`
    HSet(String, String),
    /// `HINCRBY`
    HIncrBy(String, i64),
    /// `HINCRBYFLOAT`
    HIncrByFloat(String, f64),
    /// `HPEXPIREAT`, or `HPERSIST` without a time.
    HExpireAt(String, Option<UnixMs>),
    /// `HSETEX key PXAT at field value`
    HSetEx(String, String, UnixMs),
    /// `HDEL`
    HDel(String),
    /// `SADD`
    SAdd(String),
    /// `SREM`
    SRem(String),
    /// `ZADD`
    ZAdd(String, f64),
    /// `ZINCRBY`
    ZIncrBy(String, f64),
    /// `ZREM`
    ZRem(String),
    /// `LPUSH`, `RPUSH`
    Push(End, Vec<String>),
    /// `LPOP key count`, `RPOP`; of clients that were blocked the count is not told.
    Pop(End, u64, bool),
    /// `LTRIM`
    Trim(i64, i64),
    /// `LSET`
    LSet(i64, String),
    /// `LINSERT` in front of the element at this index.
    LInsert(usize, String),
    /// `LREM` of some elements from an index on.
    LRem(usize, usize),
    /// `LMOVE key key`, from this end to the other one.
    Rotate(End),
    /// A value captured whole.
    Whole(String),
    /// On a stream.
    Stream(StreamCommand),
    /// `DEL`
    Del,
    /// `SDIFFSTORE` and the like: the key becomes this set.
    Store(Vec<String>),
    /// `PEXPIREAT`
    ExpireAt(UnixMs),
    /// `PERSIST`
    Persist,
    /// `FLUSHDB` (of db 0) or `FLUSHALL`
    Flush(FlushScope),
}

/// A server that runs commands and captures them.
pub struct Client<'a> {
    /// Its dataset.
    pub keyspace: &'a mut MemoryKeyspace,
    /// Its group in the making.
    pub group: &'a mut GroupBuilder,
    /// What increments by floats found.
    pub before: &'a mut Before,
    /// Its edits of lists.
    pub drafts: &'a mut Drafts,
    /// Its wall clock.
    pub now_ms: i64,
}

impl Client<'_> {
    /// Runs a command; one that fails, or changes nothing, does nothing.
    pub fn run(&mut self, db: u32, key: &[u8], command: &Command) {
        self.expire_if_due(db, key);
        match command {
            Command::Set(value, at) => {
                let ttl = at.map_or(SetTtl::Clear, SetTtl::At);
                self.keyspace.set_string(db, key, value.as_bytes(), ttl);
                self.log(db, key, TtlNote::None, Op::Set { value: value.as_bytes(), expire_at: *at });
            }
            Command::Append(value) => self.assign(db, key, Path::String, Value::Bytes(value.as_bytes())),
            Command::SetBit(offset, bit) => {
                let old = self.keyspace.string_range(db, key, offset / 8, 1);
                let mask = 0x80 >> (offset % 8);
                let byte = old.first().copied().unwrap_or_default() & !mask | if *bit { mask } else { 0 };
                if old.first() != Some(&byte) {
                    let patch = Patch::Bits { offset: *offset, count: 1, value: u64::from(*bit) };
                    self.patch(db, key, patch, offset / 8, &[byte]);
                }
            }
            Command::SetRange(offset, bytes) => {
                self.patch(db, key, Patch::Bytes { offset: *offset, bytes }, *offset, bytes);
            }
            Command::AppendPart(text) => {
                let at = self.keyspace.string_len(db, key);
                self.patch(db, key, Patch::Append(text.as_bytes()), at, text.as_bytes());
            }
            Command::PfAdd(elements) => self.add_elements(db, key, elements),
            Command::HSet(field, value) => {
                self.assign(db, key, Path::Field(field.as_bytes()), Value::Bytes(value.as_bytes()));
            }
            Command::SAdd(member) => self.assign(db, key, Path::Member(member.as_bytes()), Value::Present),
            Command::ZAdd(member, score) => self.assign(db, key, Path::Scored(member.as_bytes()), Value::Score(*score)),
            Command::Push(end, values) => self.push(db, key, *end, values),
            Command::Pop(..) | Command::Trim(..) | Command::LRem(..) => self.shrink(db, key, command),
            Command::LSet(..) | Command::LInsert(..) | Command::Rotate(_) => self.change_list(db, key, command),
            Command::Whole(value) => self.whole(db, key, value),
            Command::IncrBy(delta) => self.add(db, key, Path::String, Number::Integer(*delta)),
            Command::IncrByFloat(delta) => self.add(db, key, Path::String, Number::Float(*delta)),
            Command::HIncrBy(field, delta) => self.add(db, key, Path::Field(field.as_bytes()), Number::Integer(*delta)),
            Command::HIncrByFloat(field, delta) => {
                self.add(db, key, Path::Field(field.as_bytes()), Number::Float(*delta));
            }
            Command::HExpireAt(field, at) => self.expire_field(db, key, field.as_bytes(), *at),
            Command::HSetEx(field, value, at) => {
                let value = Value::Expiring { bytes: value.as_bytes(), at: *at };
                self.assign(db, key, Path::Field(field.as_bytes()), value);
            }
            Command::ZIncrBy(member, delta) => self.add_score(db, key, member.as_bytes(), *delta),
            Command::HDel(field) => self.remove(db, key, Path::Field(field.as_bytes())),
            Command::SRem(member) => self.remove(db, key, Path::Member(member.as_bytes())),
            Command::ZRem(member) => self.remove(db, key, Path::Scored(member.as_bytes())),
            Command::Stream(command) => {
                if self.is_of(db, key, Kind::Stream) {
                    streams::run(self, db, key, command);
                }
            }
            Command::Del => {
                if self.keyspace.kind(db, key).is_some() {
                    self.clear(db, key, ClearReason::Deleted);
                }
            }
            Command::Store(members) => self.store(db, key, members),
            Command::ExpireAt(at) => self.expire_at(db, key, *at),
            Command::Persist => {
                if self.keyspace.expire_at(db, key).is_some() {
                    self.keyspace.set_expire_at(db, key, None);
                    self.log(db, key, TtlNote::None, Op::Persist);
                }
            }
            Command::Flush(scope) => {
                self.keyspace.flush(*scope);
                self.group.push(&Effect { db: 0, key: &[], ttl: TtlNote::None, op: Op::Flush { scope: *scope } });
            }
        }
    }

    /// T5: the server deletes a key whose TTL has passed, and the effect says why.
    pub fn expire_if_due(&mut self, db: u32, key: &[u8]) {
        if self.keyspace.expire_at(db, key).is_some_and(|at| at <= self.now_ms) {
            self.clear(db, key, ClearReason::Expired);
        }
    }

    pub(super) fn log(&mut self, db: u32, key: &[u8], ttl: TtlNote, op: Op<'_>) {
        self.group.push(&Effect { db, key, ttl, op });
    }

    fn clear(&mut self, db: u32, key: &[u8], reason: ClearReason) {
        self.keyspace.delete(db, key, reason);
        self.log(db, key, TtlNote::None, Op::Clear { reason });
    }

    /// T2, T3: what a write sees of the TTL, before it.
    pub(super) fn note(&mut self, db: u32, key: &[u8]) -> TtlNote {
        match self.keyspace.kind(db, key) {
            None => TtlNote::Created,
            Some(_) => self.keyspace.expire_at(db, key).map_or(TtlNote::None, TtlNote::Kept),
        }
    }

    fn is_of(&mut self, db: u32, key: &[u8], kind: Kind) -> bool {
        self.keyspace.kind(db, key).is_none_or(|known| known == kind)
    }

    fn assign(&mut self, db: u32, key: &[u8], path: Path<'_>, value: Value<'_>) {
        if self.is_of(db, key, path.kind()) {
            let ttl = self.note(db, key);
            self.keyspace.put(db, key, path, value);
            self.log(db, key, ttl, Op::Assign { path, value, reasserted: false });
        }
    }

    fn draft(&mut self, db: u32, key: &[u8], ttl: TtlNote, edit: Edit<'_>) {
        self.drafts.add(&Draft { place: self.group.count(), db, key, ttl, edit });
    }

    fn push(&mut self, db: u32, key: &[u8], end: End, values: &[String]) {
        if !self.is_of(db, key, Kind::List) {
            return;
        }
        let ttl = self.note(db, key);
        for value in values {
            let index = if end == End::Head { 0 } else { self.keyspace.list_len(db, key) };
            self.keyspace.list_insert(db, key, index, value.as_bytes());
        }
        self.drafts.push(self.group.count(), (db, key), ttl, end, values.iter().map(String::as_bytes));
    }

    /// What takes elements out; the last one takes the key with it.
    fn shrink(&mut self, db: u32, key: &[u8], command: &Command) {
        let len = self.keyspace.list_len(db, key);
        if len == 0 {
            return;
        }
        let signed = len as i64;
        let absolute = |index: i64| if index < 0 { index + signed } else { index };
        let (gone, edit): (Vec<u64>, Edit<'_>) = match *command {
            Command::Pop(end, count, is_told) => {
                let count = count.min(len as u64);
                let first = if end == End::Head { 0 } else { len as u64 - count };
                ((first..first + count).collect(), Edit::Pop(end, is_told.then_some(count)))
            }
            Command::Trim(start, stop) => {
                let kept = absolute(start).max(0)..=absolute(stop);
                (
                    (0..signed).filter(|index| !kept.contains(index)).map(|index| index as u64).collect(),
                    Edit::Trim(start, stop),
                )
            }
            Command::LRem(from, count) => {
                ((from.min(len)..(from + count).min(len)).map(|i| i as u64).collect(), Edit::Remove(&[]))
            }
            _ => return,
        };
        if gone.is_empty() {
            return;
        }
        if gone.len() == len {
            return self.clear(db, key, ClearReason::Deleted);
        }
        let ttl = self.note(db, key);
        for index in gone.iter().rev() {
            self.keyspace.list_remove(db, key, *index as usize, 1);
        }
        self.draft(db, key, ttl, if let Edit::Remove(_) = edit { Edit::Remove(&gone) } else { edit });
    }

    fn change_list(&mut self, db: u32, key: &[u8], command: &Command) {
        let len = self.keyspace.list_len(db, key);
        if len == 0 {
            return;
        }
        let ttl = self.note(db, key);
        match command {
            Command::LSet(index, value) => {
                let place = if *index < 0 { index + len as i64 } else { *index };
                if (0..len as i64).contains(&place) {
                    self.keyspace.list_set(db, key, place as usize, value.as_bytes());
                    self.draft(db, key, ttl, Edit::Set(*index, value.as_bytes()));
                }
            }
            Command::LInsert(index, value) => {
                let index = (*index).min(len);
                self.keyspace.list_insert(db, key, index, value.as_bytes());
                self.draft(db, key, ttl, Edit::Insert(index as u64, value.as_bytes()));
            }
            Command::Rotate(end) => {
                let (from, to, other) =
                    if *end == End::Head { (0, len - 1, End::Tail) } else { (len - 1, 0, End::Head) };
                let Some(value) = self.keyspace.list_get(db, key, from).filter(|_| len > 1) else { return };
                self.keyspace.list_remove(db, key, from, 1);
                self.keyspace.list_insert(db, key, to, &value);
                self.draft(db, key, ttl, Edit::Pop(*end, Some(1)));
                self.drafts.push(self.group.count(), (db, key), ttl, other, std::iter::once(&value[..]));
            }
            _ => {}
        }
    }

    /// Bytes of a string, as part of it.
    fn patch(&mut self, db: u32, key: &[u8], patch: Patch<'_>, at: u64, bytes: &[u8]) {
        if !self.is_of(db, key, Kind::String) {
            return;
        }
        let (ttl, before) = (self.note(db, key), self.keyspace.string(db, key).unwrap_or_default());
        self.keyspace.write_range(db, key, at, bytes);
        if before.starts_with(b"HYLL") || self.keyspace.string_range(db, key, 0, 4) == b"HYLL" {
            return self.assign_final(db, key, ttl);
        }
        let prior = Prior::of(&before);
        self.log(db, key, ttl, Op::Patch { patch, prior });
    }

    /// The server's text is another than all instances write.
    fn add_elements(&mut self, db: u32, key: &[u8], elements: &[String]) {
        if !self.is_of(db, key, Kind::String) {
            return;
        }
        let native = self.keyspace.string(db, key);
        let known = native.as_deref().map_or_else(|| Some(HyperLogLog::default()), HyperLogLog::parse);
        let registers = registers_of(elements.iter().map(String::as_bytes));
        let (Some(mut all), Some(registers)) = (known.clone(), Registers::new(&registers)) else { return };
        all.raise(registers);
        if known == Some(all.clone()) && native.is_some() {
            return;
        }
        let ttl = self.note(db, key);
        let mut text = all.text();
        if let Some(counted) = text.get_mut(8) {
            *counted = 7;
        }
        self.keyspace.put(db, key, Path::String, Value::Bytes(&text));
        self.log(db, key, ttl, Op::Patch { patch: Patch::Registers(registers), prior: Prior::NONE });
    }

    fn assign_final(&mut self, db: u32, key: &[u8], ttl: TtlNote) {
        let Some(value) = self.keyspace.string(db, key) else { return };
        self.log(db, key, ttl, Op::Assign { path: Path::String, value: Value::Bytes(&value), reasserted: false });
    }

    fn whole(&mut self, db: u32, key: &[u8], value: &str) {
        if self.keyspace.kind(db, key).is_some() {
            self.clear(db, key, ClearReason::Deleted);
        }
        let value = Value::Payload(value.as_bytes());
        self.keyspace.put(db, key, Path::Opaque, value);
        self.log(db, key, TtlNote::None, Op::Assign { path: Path::Opaque, value, reasserted: false });
        self.log(db, key, TtlNote::None, Op::Persist);
    }

    fn store(&mut self, db: u32, key: &[u8], members: &[String]) {
        if self.keyspace.kind(db, key).is_some() {
            self.clear(db, key, ClearReason::Deleted);
        }
        for member in members {
            let path = Path::Member(member.as_bytes());
            self.keyspace.put(db, key, path, Value::Present);
            self.log(db, key, TtlNote::None, Op::Assign { path, value: Value::Present, reasserted: false });
        }
        if !members.is_empty() {
            self.log(db, key, TtlNote::None, Op::Persist);
        }
    }

    /// The TTL of a field is written with the field, and ranks below concurrent writes of it.
    fn expire_field(&mut self, db: u32, key: &[u8], field: &[u8], at: Option<UnixMs>) {
        let Some(value) = self.keyspace.field(db, key, field) else { return };
        let (path, payload) = (Path::Field(field), Payload::text_until(value.into(), at));
        let ttl = self.note(db, key);
        self.keyspace.put(db, key, path, payload.value(path));
        self.log(db, key, ttl, Op::Assign { path, value: payload.value(path), reasserted: true });
    }

    fn text(&mut self, db: u32, key: &[u8], path: Path<'_>) -> Option<Vec<u8>> {
        match path {
            Path::Field(field) => self.keyspace.field(db, key, field),
            _ => self.keyspace.string(db, key),
        }
    }

    fn add(&mut self, db: u32, key: &[u8], path: Path<'_>, delta: Number) {
        if !self.is_of(db, key, path.kind()) {
            return;
        }
        let before = self.text(db, key, path);
        let base = before.as_deref().map_or(Some(Number::Integer(0)), Number::parse);
        let sum = match (base, delta) {
            (Some(Number::Integer(base)), Number::Integer(delta)) => base.checked_add(delta).map(|sum| sum.to_string()),
            // The server adds in `long double`; plain doubles stand for a difference that must be corrected.
            (Some(base), Number::Float(delta)) => Some((base.as_float() + delta).to_string()),
            _ => None,
        };
        let Some(sum) = sum else { return };
        let ttl = self.note(db, key);
        let at = if let Path::Field(field) = path { self.keyspace.field_expire_at(db, key, field) } else { None };
        let sum = Payload::text_until(sum.into_bytes().into(), at);
        self.keyspace.put(db, key, path, sum.value(path));
        if let Number::Float(_) = delta {
            self.before.push((self.group.count(), before));
        }
        self.log(db, key, ttl, Op::Increment { path, delta });
    }

    fn add_score(&mut self, db: u32, key: &[u8], member: &[u8], delta: f64) {
        if !self.is_of(db, key, Kind::SortedSet) {
            return;
        }
        let (path, before) = (Path::Scored(member), self.keyspace.score(db, key, member));
        let sum = before.unwrap_or(0.0) + delta;
        if !sum.is_nan() {
            let ttl = self.note(db, key);
            self.keyspace.put(db, key, path, Value::Score(sum));
            self.before.push((self.group.count(), before.map(|score| score.to_string().into_bytes())));
            self.log(db, key, ttl, Op::Increment { path, delta: Number::Float(delta) });
        }
    }

    fn remove(&mut self, db: u32, key: &[u8], path: Path<'_>) {
        let mut there = false;
        self.keyspace.elements(db, key, &mut |known, _| there |= known == path);
        if !there {
            return;
        }
        self.keyspace.take(db, key, path);
        let kept = if self.keyspace.kind(db, key).is_some() { self.note(db, key) } else { TtlNote::None };
        self.log(db, key, kept, Op::Remove { path });
    }

    fn expire_at(&mut self, db: u32, key: &[u8], at: UnixMs) {
        if self.keyspace.kind(db, key).is_none() {
            return;
        }
        if at <= self.now_ms {
            // As servers do with a time in the past.
            self.clear(db, key, ClearReason::Deleted);
        } else {
            self.keyspace.set_expire_at(db, key, Some(at));
            self.log(db, key, TtlNote::None, Op::Expire { at });
        }
    }
}
