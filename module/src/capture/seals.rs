//! Keys whose final state is looked at, and what else happens to them in the same unit.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use syncer_shared::effect::ClearReason;
use syncer_shared::list::End;

use super::event::Event;
use super::shape::Shape;
use super::unit::{Item, Unit};

/// How an event is captured when no staged command explains it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unstaged {
    /// It says all.
    Clear(ClearReason),
    /// The TTL is looked at: the same value twice does no harm.
    Ttl,
    /// The final value of the string is looked at, and seals the key.
    Final,
    /// Elements of this end of a list are gone: how many, its length tells.
    Pop(End),
    /// An element has come to this end of a list: a look tells which.
    Push(End),
    /// The key is captured whole.
    Whole,
}

/// See [`Unstaged`].
#[must_use]
pub fn unstaged(event: Event) -> Unstaged {
    match event {
        Event::Del | Event::MovedAway => Unstaged::Clear(ClearReason::Deleted),
        Event::Expired => Unstaged::Clear(ClearReason::Expired),
        Event::Evicted => Unstaged::Clear(ClearReason::Evicted),
        Event::Expire | Event::Persist => Unstaged::Ttl,
        Event::Set | Event::Patched | Event::IncrFloat => Unstaged::Final,
        Event::LPop => Unstaged::Pop(End::Head),
        Event::RPop => Unstaged::Pop(End::Tail),
        Event::LPush => Unstaged::Push(End::Head),
        Event::RPush => Unstaged::Push(End::Tail),
        _ => Unstaged::Whole,
    }
}

/// Whether something else happened to the key after the item `at`.
fn concerned_later(unit: &Unit, at: usize, name: (u32, &[u8])) -> bool {
    unit.items().iter().skip(at + 1).any(|item| match *item {
        Item::Staged { key, db, .. } | Item::Event { key, db, .. } => (db, unit.bytes(key)) == name,
        _ => false,
    })
}

/// Keys to make room for at once.
const ROOM: usize = 64;

/// Keys whose final state was looked at, so that no other effect of the unit may count on top of it.
#[derive(Default)]
pub struct Seals<'a> {
    keys: HashMap<(u32, &'a [u8]), Seal, RandomState>,
    order: Vec<(u32, &'a [u8])>,
}

#[derive(Clone, Copy, Default)]
struct Seal {
    finals: u32,
    others: u32,
    whole: bool,
    /// It has its place in the order.
    placed: bool,
}

impl<'a> Seals<'a> {
    /// Looks for them in a unit.
    pub fn of(unit: &'a Unit) -> Self {
        let mut seals = Self::default();
        if unit.has_field_looks() {
            seals.mix_looks_and_increments(unit);
        }
        if !unit.is_unexplained() {
            return seals;
        }
        let way = |item: &Item| match *item {
            Item::Event { event, key, db, .. } => Some((unstaged(event), db, key)),
            _ => None,
        };
        for (at, (way, db, key)) in unit.items().iter().enumerate().filter_map(|(at, item)| Some((at, way(item)?))) {
            let way = match way {
                Unstaged::Push(_) if concerned_later(unit, at, (db, unit.bytes(key))) => Unstaged::Whole,
                way => way,
            };
            if matches!(way, Unstaged::Final | Unstaged::Whole) {
                if seals.keys.is_empty() {
                    seals.keys.reserve((unit.items().len() - at).min(ROOM));
                }
                let seal = seals.keys.entry((db, unit.bytes(key))).or_default();
                seal.whole |= way == Unstaged::Whole;
                seal.finals += u32::from(way == Unstaged::Final);
            }
        }
        if !seals.keys.is_empty() {
            seals.count_others(unit);
        }
        seals
    }

    /// A field that is looked at afterwards holds the increments of the unit already: such a key is captured whole.
    fn mix_looks_and_increments(&mut self, unit: &'a Unit) {
        let mut mixed: HashMap<(u32, &'a [u8]), (bool, bool)> = HashMap::new();
        for item in unit.items() {
            let Item::Staged { stage, key, db, .. } = *item else { continue };
            let (looks, adds) = mixed.entry((db, unit.bytes(key))).or_default();
            *looks |= matches!(unit.shape(stage), Shape::HTtl | Shape::HSetEx);
            *adds |= matches!(unit.shape(stage), Shape::HIncrBy | Shape::HIncrFloat);
        }
        for (name, _) in mixed.into_iter().filter(|(_, mixed)| *mixed == (true, true)) {
            let seal = self.keys.entry(name).or_default();
            (seal.whole, seal.placed) = (true, true);
            self.order.push(name);
        }
    }

    fn count_others(&mut self, unit: &'a Unit) {
        for item in unit.items() {
            let (db, key, other) = match *item {
                Item::Staged { key, db, .. } | Item::Effects { key, db, .. } => (db, key, true),
                Item::Event { event, key, db, .. } => (db, key, matches!(unstaged(event), Unstaged::Clear(_))),
                Item::Expired { .. }
                | Item::Flush(_)
                | Item::Swap(..)
                | Item::Published { .. }
                | Item::Library { .. } => continue,
            };
            let name = (db, unit.bytes(key));
            let Some(seal) = self.keys.get_mut(&name) else { continue };
            seal.others += u32::from(other);
            if (seal.whole || seal.others > 0 && seal.finals > 0) && !std::mem::replace(&mut seal.placed, true) {
                self.order.push(name);
            }
        }
        for name in &self.order {
            if let Some(seal) = self.keys.get_mut(name) {
                seal.whole = true;
            }
        }
    }

    /// Whether the key is captured whole at the end of the group, and its other effects are dropped.
    pub fn is_whole(&self, db: u32, key: &[u8]) -> bool {
        !self.order.is_empty() && self.keys.get(&(db, key)).is_some_and(|seal| seal.whole)
    }

    /// Those keys.
    pub fn whole(&self) -> impl Iterator<Item = (u32, &'a [u8])> + '_ {
        self.order.iter().copied()
    }
}
