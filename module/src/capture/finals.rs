//! Strings that are looked at when their unit has ended, many at once: one call of the server for all keys of a transaction costs
//! little more than one for each of them.

use std::collections::VecDeque;

use smallvec::SmallVec;
use syncer_shared::keyspace::Keyspace;

use super::event::Event;
use super::seals::Seals;
use super::unit::{Item, Unit};

/// Items that are looked through for strings to fetch together, so that no more values than these are held at once.
const WINDOW: usize = 64;

/// Values of strings that `SET` has written, by item of their unit.
#[derive(Default)]
pub struct Finals {
    fetched: VecDeque<(usize, Option<Vec<u8>>)>,
}

impl Finals {
    /// The string that the item `at` has set, as it is now. Items are asked for in order.
    pub fn take(&mut self, unit: &Unit, seals: &Seals<'_>, dataset: &mut impl Keyspace, at: usize) -> Option<Vec<u8>> {
        if self.fetched.front().is_none_or(|(next, _)| *next != at) {
            self.fetch(unit, seals, dataset, at);
        }
        self.fetched.pop_front()?.1
    }

    fn fetch(&mut self, unit: &Unit, seals: &Seals<'_>, dataset: &mut impl Keyspace, from: usize) {
        let window = unit.items().iter().enumerate().skip(from).take(WINDOW);
        // What is emptied in this unit may not be there any more: a look would tell others of a miss.
        let window = window.take_while(|(_, item)| !matches!(item, Item::Flush(_) | Item::Swap(..)));
        let set = window.filter_map(|(at, item)| match *item {
            Item::Event { event: Event::Set, key, db, .. } => Some((at, db, unit.bytes(key))),
            _ => None,
        });
        let mut set = set.filter(|(_, db, key)| !seals.is_whole(*db, key)).peekable();
        let Some(&(_, in_db, _)) = set.peek() else { return };
        let (items, keys): (SmallVec<[usize; WINDOW]>, SmallVec<[&[u8]; WINDOW]>) =
            set.take_while(|(_, db, _)| *db == in_db).map(|(at, _, key)| (at, key)).unzip();
        self.fetched.clear();
        self.fetched.reserve(items.len());
        let mut items = items.into_iter();
        let fetched = &mut self.fetched;
        dataset.strings(in_db, &keys, &mut |value| {
            fetched.extend(items.next().map(|at| (at, value.map(<[u8]>::to_vec))));
        });
    }
}
