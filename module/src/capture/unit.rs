//! One execution unit as the filter and the events see it: staged commands and what happened, in order.

use std::collections::HashSet;

use syncer_shared::effect::FlushScope;
use syncer_shared::list::End;

use super::arguments::StageArgs;
use super::event::Event;
pub use super::item::Item;
use super::seals::{Unstaged, unstaged};
use super::shape::{Shape, TtlUnit};

/// Bytes in the arena of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    start: usize,
    len: usize,
}

/// A staged command.
#[derive(Clone, Copy, Debug)]
struct Stage {
    shape: Shape,
    /// First argument in `Unit::spans`, and how many; what a look or the reply told comes behind.
    first: usize,
    args: usize,
    /// Whether an event has confirmed that it did something.
    used: bool,
    /// A string got a TTL by it.
    ttl: bool,
    /// It made its key.
    created: bool,
    /// For commands with several keys: the next one that may have its event.
    next: usize,
}

/// Buffers larger than this are given back after use.
const KEEP_BYTES: usize = 1 << 20;

/// See the module's documentation. All buffers are reused: once warm, nothing is allocated.
#[derive(Debug, Default)]
pub struct Unit {
    arena: Vec<u8>,
    spans: Vec<Span>,
    stages: Vec<Stage>,
    items: Vec<Item>,
    /// Whether the last stage may still be matched by events.
    open: bool,
    /// The key that was created last, until another event tells what it is.
    created: Option<(u32, Span)>,
    /// Keys that were created and of which no event told more at once.
    untold: Vec<(u32, Span)>,
    /// Whether something happened that no staged command explains.
    unexplained: bool,
    /// Fields that may have expired.
    expired: Vec<Span>,
    /// See [`Unit::has_field_looks`].
    field_looks: bool,
}

impl Unit {
    /// Whether nothing happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether a stage waits for its event.
    #[inline]
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// What happened, in order.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Whether something happened that no staged command explains, so that looks may be needed.
    #[must_use]
    pub fn is_unexplained(&self) -> bool {
        self.unexplained
    }

    /// Bytes of the arena.
    #[must_use]
    pub fn bytes(&self, span: Span) -> &[u8] {
        self.arena.get(span.start..span.start + span.len).unwrap_or_default()
    }

    /// Whether a staged command is resolved by a look at fields afterwards.
    #[must_use]
    pub fn has_field_looks(&self) -> bool {
        self.field_looks
    }

    /// The unit has ended. A staged command that no event has confirmed stays: evictions make a unit of their own before it runs.
    pub fn next(&mut self) {
        let last = self.stages.len().checked_sub(1).filter(|last| self.open && !self.stages[*last].used);
        let kept = last.map(|last| {
            let args = self.args(last);
            let owned = |words: &mut dyn Iterator<Item = &[u8]>| words.map(<[u8]>::to_vec).collect::<Vec<_>>();
            (self.shape(last), owned(&mut args.from(0)), owned(&mut args.told()))
        });
        self.clear();
        if let Some((shape, args, told)) = kept {
            self.stage(shape, args.iter().map(Vec::as_slice));
            told.iter().for_each(|bytes| self.tell(bytes));
        }
    }

    /// Forgets everything, keeps the buffers.
    pub fn clear(&mut self) {
        self.expired.clear();
        self.field_looks = false;
        self.arena.clear();
        self.arena.shrink_to(KEEP_BYTES);
        self.spans.clear();
        self.spans.shrink_to(KEEP_BYTES / size_of::<Span>());
        self.stages.clear();
        self.stages.shrink_to(KEEP_BYTES / size_of::<Stage>());
        self.items.clear();
        self.items.shrink_to(KEEP_BYTES / size_of::<Item>());
        self.unexplained = false;
        self.open = false;
        self.created = None;
        self.untold.clear();
    }

    /// Nothing more happens in this unit. A key that was created without a word about what it is, as other modules do through the
    /// key API, is captured whole.
    pub fn end(&mut self) {
        self.untold.extend(self.created.take());
        if self.untold.is_empty() {
            return;
        }
        let named = |(db, key): (u32, Span)| (db, self.bytes(key));
        let mut told: HashSet<(u32, &[u8])> = self.items.iter().filter_map(Item::key).map(named).collect();
        let untold = self.untold.iter().filter(|key| told.insert(named(**key)));
        let whole = untold.map(|(db, key)| Item::Event { event: Event::Other, key: *key, db: *db, created: true });
        let whole: Vec<Item> = whole.collect();
        self.unexplained |= !whole.is_empty();
        self.items.extend(whole);
        self.untold.clear();
    }

    /// Copies `bytes`.
    fn keep(&mut self, bytes: &[u8]) -> Span {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        Span { start, len: bytes.len() }
    }

    /// Stages a command. Events match it until [`Unit::close`].
    pub fn stage<'a>(&mut self, shape: Shape, args: impl Iterator<Item = &'a [u8]>) {
        let first = self.spans.len();
        for arg in args {
            let span = self.keep(arg);
            self.spans.push(span);
        }
        let args = self.spans.len() - first;
        let next = if shape == Shape::MSetEx { 2 } else { 1 };
        self.stages.push(Stage { shape, first, args, used: false, ttl: false, created: false, next });
        self.open = true;
    }

    /// Adds what a look or the reply told about the last stage.
    pub fn tell(&mut self, bytes: &[u8]) {
        let span = self.keep(bytes);
        self.spans.push(span);
    }

    /// No event belongs to the last stage any more. A stage that no event confirmed is dropped; its arguments are
    /// given to `unconsumed` before.
    pub fn close(&mut self, unconsumed: impl FnOnce(Shape, &StageArgs<'_>)) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        let Some(last) = self.stages.len().checked_sub(1) else { return };
        let stage = self.stages[last];
        if stage.used {
            return;
        }
        unconsumed(stage.shape, &self.args(last));
        let start = self.spans.get(stage.first).map(|span| span.start);
        self.stages.truncate(last);
        self.spans.truncate(stage.first);
        // Events of other keys may have come meanwhile: their names lie behind.
        if let Some(start) = start.filter(|_| self.items.is_empty()) {
            self.arena.truncate(start);
            self.created = None;
        }
    }

    /// The arguments of a stage, its name first.
    #[must_use]
    pub fn args(&self, stage: usize) -> StageArgs<'_> {
        let Some(s) = self.stages.get(stage) else { return StageArgs { unit: self, spans: &[], told: &[] } };
        let end = self.stages.get(stage + 1).map_or(self.spans.len(), |next| next.first);
        let all = self.spans.get(s.first..end).unwrap_or_default();
        let (spans, told) = all.split_at(s.args.min(all.len()));
        StageArgs { unit: self, spans, told }
    }

    /// The shape of a stage.
    #[must_use]
    pub fn shape(&self, stage: usize) -> Shape {
        self.stages.get(stage).map_or(Shape::Whole, |stage| stage.shape)
    }

    /// Whether the stage gave a TTL to the strings it set.
    #[must_use]
    pub fn has_ttl(&self, stage: usize) -> bool {
        self.stages.get(stage).is_some_and(|stage| stage.ttl)
    }

    /// Notes an event.
    #[inline]
    pub fn event(&mut self, event: Event, db: u32, key: &[u8], now_ms: u64) {
        let db = match event {
            Event::New | Event::Replaced if self.open => self.target_db().unwrap_or(db),
            _ => db,
        };
        match event {
            Event::Ignored => return,
            Event::New => {
                let key = self.keep(key);
                self.untold.extend(self.created.replace((db, key)));
                return;
            }
            _ => {}
        }
        let created = match self.created.take() {
            Some((at, span)) => {
                let same = at == db && self.bytes(span) == key;
                if !same {
                    self.created = Some((at, span));
                }
                same
            }
            None => false,
        };
        if self.open && self.consume(event, db, key, created, now_ms) {
            return;
        }
        let key = self.keep(key);
        self.unexplained = true;
        self.items.push(Item::Event { event, key, db, created });
    }

    /// Notes that fields of a hash may have expired: `fields` are those that can.
    pub fn expired(&mut self, db: u32, key: &[u8], fields: &[Box<[u8]>]) {
        let key = self.keep(key);
        let first = self.expired.len();
        for field in fields {
            let span = self.keep(field);
            self.expired.push(span);
        }
        self.items.push(Item::Expired { key, db, fields: (first, fields.len()) });
    }

    /// The fields of an [`Item::Expired`].
    pub fn expired_fields(&self, (first, count): (usize, usize)) -> impl Iterator<Item = &[u8]> {
        self.expired.iter().skip(first).take(count).map(|span| self.bytes(*span))
    }

    /// Whether the open stage may end fields of this key at once: with a time that has passed.
    #[must_use]
    pub fn ends_fields_of(&self, key: &[u8]) -> bool {
        let last = self.stages.len().checked_sub(1).filter(|_| self.open);
        last.is_some_and(|last| self.shape(last) == Shape::HTtl && self.args(last).get(1) == Some(key))
    }

    /// Notes that databases were emptied.
    pub fn flush(&mut self, scope: FlushScope) {
        self.items.push(Item::Flush(scope));
    }

    /// Notes that two databases changed places.
    pub fn swap(&mut self, a: u32, b: u32) {
        self.items.push(Item::Swap(a, b));
    }

    /// Notes that a library of functions has this code now, or is gone.
    pub fn library(&mut self, name: &[u8], code: Option<&[u8]>) {
        let name = self.keep(name);
        let code = code.map(|code| self.keep(code));
        self.items.push(Item::Library { name, code });
    }

    /// Notes that the last stage, a `PUBLISH`, was delivered here.
    pub fn published(&mut self) {
        if let Some(last) = self.stages.len().checked_sub(1)
            && let Some(stage) = self.stages.get_mut(last)
        {
            stage.used = true;
            self.items.push(Item::Published { stage: last });
        }
    }

    /// Notes that a key must be captured whole, though no event says so.
    pub fn changed(&mut self, db: u32, key: &[u8]) {
        let key = self.keep(key);
        self.unexplained = true;
        self.items.push(Item::Event { event: Event::Other, key, db, created: false });
    }

    /// Notes what the open stage did to a key: encoded effects.
    pub fn did(&mut self, db: u32, key: &[u8], body: &[u8]) {
        let created = self.stages.last().is_some_and(|stage| self.open && stage.created);
        let (key, body) = (self.keep(key), self.keep(body));
        self.items.push(Item::Effects { body, key, db, created });
    }

    /// The key that everything in the unit is about, if all that is known of it is that its value has changed.
    #[must_use]
    pub fn only_whole(&self) -> Option<(u32, &[u8])> {
        let name = |item: &Item| match *item {
            Item::Event { event, key, db, .. } if unstaged(event) == Unstaged::Whole => Some((db, self.bytes(key))),
            _ => None,
        };
        let first = name(self.items.first()?)?;
        self.items.iter().all(|item| name(item) == Some(first)).then_some(first)
    }

    /// The database that the open stage copies or moves to.
    #[must_use]
    pub fn target_db(&self) -> Option<u32> {
        let last = self.stages.len().checked_sub(1)?;
        let args = self.args(last);
        let at = match self.stages[last].shape {
            Shape::Move => 2,
            // The last one counts.
            Shape::Copy => {
                (3..args.len()).rfind(|at| args.get(*at).is_some_and(|a| a.eq_ignore_ascii_case(b"db")))? + 1
            }
            _ => return None,
        };
        std::str::from_utf8(args.get(at)?).ok()?.parse().ok()
    }

    /// Whether the event belongs to the open stage, which then explains it.
    fn consume(&mut self, event: Event, db: u32, key: &[u8], created: bool, now_ms: u64) -> bool {
        let Some(last) = self.stages.len().checked_sub(1) else { return false };
        let Stage { shape, next, .. } = self.stages[last];
        let at = match (shape, event) {
            (Shape::Set | Shape::SetEx | Shape::SetPlain, Event::Set)
            | (Shape::IncrOne(_) | Shape::IncrBy(_), Event::Incr)
            | (Shape::IncrFloat, Event::IncrFloat)
            | (Shape::PfAdd | Shape::PfMerge, Event::Patched)
            | (Shape::HSet, Event::HSet)
            | (Shape::HDel | Shape::HGetDel, Event::HDel)
            | (Shape::HSetEx, Event::HSet)
            | (Shape::HIncrBy, Event::HIncr)
            | (Shape::HIncrFloat, Event::HIncrFloat)
            | (Shape::SAdd, Event::SAdd)
            | (Shape::SRem | Shape::SMove, Event::SRem)
            | (Shape::SPop, Event::SPop)
            | (Shape::ZAdd, Event::ZAdd | Event::ZIncr)
            | (Shape::GeoAdd, Event::ZAdd)
            | (Shape::ZIncrBy, Event::ZIncr)
            | (Shape::ZRem, Event::ZRem)
            | (Shape::ZRemByRank | Shape::ZRemByScore | Shape::ZRemByLex, Event::ZRemRange)
            | (Shape::ZPop { names_key: false }, Event::ZPop)
            | (Shape::ListPush(End::Head), Event::LPush)
            | (Shape::ListPush(End::Tail), Event::RPush)
            | (Shape::ListPop(End::Head), Event::LPop)
            | (Shape::ListPop(End::Tail), Event::RPop)
            | (Shape::ListTrim, Event::LTrim)
            | (Shape::ListSet, Event::LSet)
            | (Shape::ListInsert, Event::LInsert)
            | (Shape::ListRemove, Event::LRem)
            | (Shape::ListMove, Event::LPop | Event::RPop) => 1,
            (Shape::ListMove, Event::LPush | Event::RPush) => 2,
            (Shape::ListPopOne(End::Head), Event::LPop)
            | (Shape::ListPopOne(End::Tail), Event::RPop)
            | (Shape::ListPopMany(_), Event::LPop | Event::RPop) => {
                return self.consume_popped(last, db, key, created);
            }
            // A time in the past deletes the field.
            (Shape::HSetEx, Event::HTtl | Event::HDel | Event::HExpired) => return self.stages[last].used,
            (Shape::HTtl, Event::HTtl | Event::HDel | Event::HExpired) if self.stages[last].used => return true,
            (Shape::HTtl, Event::HTtl | Event::HDel | Event::HExpired) => 1,
            (Shape::SMove, Event::SAdd) => 2,
            (Shape::MSet | Shape::MSetEx, Event::Set) => next,
            (Shape::SetBit | Shape::SetRange | Shape::Append | Shape::BitField, Event::Patched) => {
                // What was there before was not told: then the string is looked at afterwards.
                if self.args(last).told().next().is_none_or(<[u8]>::is_empty) {
                    return false;
                }
                1
            }
            (Shape::BitOp, Event::Set) => {
                if self.args(last).told().next().is_none() {
                    return false;
                }
                2
            }
            (Shape::ZPop { names_key: true }, Event::ZPop) => return self.consume_popped(last, db, key, created),
            (Shape::Set | Shape::SetEx | Shape::MSetEx, Event::Expire) => {
                self.stages[last].ttl = true;
                return self.stages[last].used;
            }
            // What it did, its reply tells.
            (Shape::Stream, Event::Stream) => return self.consume_stream(last, key, created),
            (Shape::Set | Shape::Ttl(_), Event::Expired) => {
                return self.consume_past(last, db, key, now_ms);
            }
            _ => return false,
        };
        let Some(span) = self.stages[last].args.gt(&at).then(|| self.spans[self.stages[last].first + at]) else {
            return false;
        };
        if self.bytes(span) != key {
            return false;
        }
        self.stages[last].used = true;
        self.field_looks |= matches!(shape, Shape::HTtl | Shape::HSetEx);
        self.stages[last].next = at + 2;
        self.items.push(Item::Staged { stage: last, key: span, db, at, created });
        true
    }

    /// An event of the stream that the command names.
    fn consume_stream(&mut self, last: usize, key: &[u8], created: bool) -> bool {
        let is_named = self.args(last).from(1).any(|arg| arg == key);
        self.stages[last].used |= is_named;
        self.stages[last].created |= is_named && created;
        is_named
    }

    /// A pop from one of several keys: the event tells which.
    fn consume_popped(&mut self, last: usize, db: u32, key: &[u8], created: bool) -> bool {
        let key = self.keep(key);
        self.stages[last].used = true;
        self.items.push(Item::Staged { stage: last, key, db, at: 0, created });
        true
    }

    /// `EXPIRE key -1` and the like delete the key: a user's `Clear`, not an expiry (CAPTURE 18).
    fn consume_past(&mut self, last: usize, db: u32, key: &[u8], now_ms: u64) -> bool {
        let args = self.args(last);
        if args.get(1) != Some(key) || !sets_past_ttl(self.stages[last].shape, &args, now_ms) {
            return false;
        }
        self.stages[last].used = true;
        let key = self.keep(key);
        self.items.push(Item::Event { event: Event::Del, key, db, created: false });
        true
    }
}

/// Whether the TTL that the arguments set is in the past.
fn sets_past_ttl(shape: Shape, args: &StageArgs<'_>, now_ms: u64) -> bool {
    let number = |index| args.get(index).and_then(|text| std::str::from_utf8(text).ok()?.parse::<i64>().ok());
    let past =
        |at: Option<i64>, scale: i64| at.is_some_and(|at| i128::from(at) * i128::from(scale) <= i128::from(now_ms));
    let option = |name: &[u8], scale| {
        (2..args.len())
            .any(|at| args.get(at).is_some_and(|a| a.eq_ignore_ascii_case(name)) && past(number(at + 1), scale))
    };
    match shape {
        Shape::Ttl(TtlUnit::Relative) => number(2).is_some_and(|ttl| ttl <= 0),
        Shape::Ttl(TtlUnit::Seconds) => past(number(2), 1000),
        Shape::Ttl(TtlUnit::Milliseconds) => past(number(2), 1),
        Shape::Set | Shape::Ttl(TtlUnit::Options) => option(b"exat", 1000) || option(b"pxat", 1),
        _ => false,
    }
}
