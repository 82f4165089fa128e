//! What is known of one list whose elements the dataset shows.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::ops::Range;

use hashbrown::HashMap;

use super::chunk::Id;
use super::ids::Ids;
use super::position::{At, DEPTH_MAX, End, Name, Reign, RunName, Side};
use super::runs::{Run, Runs};
use crate::clock::VectorClock;
use crate::dot::{Dot, Seen};
use crate::effect::Kind;
use crate::merge::Rules;
use crate::metadata::{PathMeta, Paths};
use crate::origin::{Origin, Origins};
use crate::timestamp::Timestamp;

/// The ids of a list: the id at index i is that of the dataset's element at index i, but for those that are hidden.
///
/// An element's dot is the one that made it, which its id implies; what differs from that (`LSET`, siblings) is in `odd`. Ids
/// are never pruned (rule L8) and go at once with their elements (L7).
#[derive(Clone, Debug, Default)]
pub struct List {
    runs: Runs,
    ids: Ids,
    odd: HashMap<Id, PathMeta, foldhash::fast::FixedState>,
    /// Elements that a local write took out of the dataset though it had not seen them, until the end of its group.
    hidden: Vec<Id>,
}

/// Where in a list something is, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    /// At this index.
    At(usize),
    /// In front of this index.
    Before(usize),
}

impl List {
    /// A list that nobody has ids of (rule L10).
    #[must_use]
    pub fn base(len: usize) -> Self {
        let mut list = Self::default();
        let run = RunName::base();
        list.insert(0, &run, None, At { ts: Timestamp::ZERO, index: 0 }, len as u32);
        list
    }

    /// How many elements are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.len() == 0
    }

    fn run(&self, id: &Id) -> Option<&Run> {
        self.runs.get(id.run)
    }

    /// The name of the element at an index.
    #[must_use]
    pub fn name(&self, index: usize) -> Option<Name> {
        let id = self.ids.get(index)?;
        Some(self.run(&id)?.name.element(id.at))
    }

    /// Run and time of the element at an index.
    #[must_use]
    pub fn id(&self, index: usize) -> Option<(&RunName, At)> {
        let id = self.ids.get(index)?;
        Some((&self.run(&id)?.name, id.at))
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = Name> + '_ {
        self.ids.range(0..self.len()).filter_map(|id| Some(self.run(&id)?.name.element(id.at)))
    }

    /// Where an element is.
    #[must_use]
    pub fn find(&self, run: &RunName, at: At) -> Spot {
        let number = self.runs.find(run);
        // Needed only where other runs are near.
        let name = OnceCell::new();
        let order = |id: &Id| match self.run(id) {
            Some(known) if Some(id.run) == number && known.side == Side::Before => id.at.cmp(&at),
            Some(_) if Some(id.run) == number => at.cmp(&id.at),
            Some(known) => known.name.element(id.at).cmp(name.get_or_init(|| run.element(at))),
            None => Ordering::Less,
        };
        match self.ids.search(order) {
            Ok(index) => Spot::At(index),
            Err(index) => Spot::Before(index),
        }
    }

    /// The live dots of the element at an index; payloads that the dataset holds are not among them.
    #[must_use]
    pub fn meta(&self, index: usize) -> PathMeta {
        let Some(id) = self.ids.get(index) else { return PathMeta::default() };
        self.odd.get(&id).cloned().unwrap_or_else(|| self.implied(&id))
    }

    /// Whether something of the element at an index is unseen.
    #[must_use]
    pub fn survives(&self, index: usize, seen: &Seen<'_>) -> bool {
        let Some(id) = self.ids.get(index) else { return false };
        if !self.odd.is_empty()
            && let Some(meta) = self.odd.get(&id)
        {
            return meta.survives(seen);
        }
        match self.run(&id).and_then(|run| run.origin) {
            Some(origin) => !seen.has(&Dot { ts: id.at.ts, index: id.at.index, origin }),
            None => !seen.has_stable(),
        }
    }

    fn implied(&self, id: &Id) -> PathMeta {
        match self.run(id).and_then(|run| run.origin) {
            Some(origin) => PathMeta::shown(Dot { ts: id.at.ts, index: id.at.index, origin }),
            None => PathMeta::stable(None),
        }
    }

    /// Replaces what is known of the element at an index.
    pub fn set_meta(&mut self, index: usize, meta: PathMeta) {
        let Some(id) = self.ids.get(index) else { return };
        if meta == self.implied(&id) {
            self.odd.remove(&id);
        } else {
            self.odd.insert(id, meta);
        }
    }

    /// Puts `count` new elements of a run in front of that at `index`, in the order that their run asks for.
    pub fn insert(&mut self, index: usize, run: &RunName, origin: Option<Origin>, first: At, count: u32) {
        let number = self.runs.add(run, origin, first.ts, count);
        let side = run.side();
        for at in 0..count {
            let id = Id { run: number, at: At { index: first.index + at, ..first } };
            self.ids.insert(if side == Side::Before { index + at as usize } else { index }, id);
        }
    }

    /// The run that `me` may go on with at an end, as [`List::run_for`] would say: its number, and when it began.
    #[must_use]
    pub fn own_run_at(&self, end: End, me: Reign) -> Option<(u32, Timestamp)> {
        let id = self.ids.end(end)?;
        let run = self.run(&id).filter(|run| run.side == end.side() && run.name.anchor().is_empty())?;
        let (_, begun) = run.name.beginning().filter(|(reign, _)| *reign == me)?;
        Some((id.run, begun))
    }

    /// Puts `count` new elements of a run at the end where it grows, one after the other.
    pub fn push(&mut self, end: End, run: u32, first: At, count: u32) {
        self.runs.grow(run, None, first.ts, count);
        for at in 0..count {
            self.ids.push(end, Id { run, at: At { index: first.index + at, ..first } });
        }
    }

    /// Run and time of the element at an end.
    #[must_use]
    pub fn end(&self, end: End) -> Option<(&RunName, At)> {
        let id = self.ids.end(end)?;
        Some((&self.run(&id)?.name, id.at))
    }

    /// Forgets the element at an end.
    pub fn pop(&mut self, end: End) {
        if let Some(id) = self.ids.pop(end) {
            self.runs.release(id.run, 1);
            if !self.odd.is_empty() {
                self.odd.remove(&id);
            }
            if !self.hidden.is_empty() {
                self.hidden.retain(|hidden| *hidden != id);
            }
        }
    }

    /// Keeps the names of runs whose elements go: the control of rule L7.
    pub fn keep_runs(&mut self, range: Range<usize>) {
        self.ids.range(range).for_each(|id| self.runs.grow(id.run, None, Timestamp::ZERO, 1));
    }

    /// Forgets a range.
    pub fn remove(&mut self, range: Range<usize>) {
        match range {
            Range { start: 0, end: 1 } => return self.pop(End::Head),
            Range { start, end } if start + 1 == end && end == self.len() => return self.pop(End::Tail),
            _ => {}
        }
        let mut gone: Option<(u32, u32)> = None;
        for id in self.ids.range(range.clone()) {
            if !self.odd.is_empty() {
                self.odd.remove(&id);
            }
            if !self.hidden.is_empty() {
                self.hidden.retain(|hidden| *hidden != id);
            }
            match &mut gone {
                Some((run, count)) if *run == id.run => *count += 1,
                _ => {
                    if let Some((run, count)) = gone.replace((id.run, 1)) {
                        self.runs.release(run, count);
                    }
                }
            }
        }
        self.ids.remove(range);
        if let Some((run, count)) = gone {
            self.runs.release(run, count);
        }
    }

    /// Where `me` puts what it inserts in front of `index`, at an end or between two elements (rule L4). None: the position would
    /// be too long.
    #[must_use]
    pub fn run_for(&self, index: usize, end: Option<End>, me: Reign, now: Timestamp) -> Option<RunName> {
        let id = |index: Option<usize>| index.and_then(|index| self.id(index));
        let left = if end == Some(End::Head) { None } else { id(index.checked_sub(1)) };
        let right = if end == Some(End::Tail) { None } else { id(Some(index)) };
        let depth = |element: Option<(&RunName, At)>| element.map_or(0, |(run, _)| run.depth());
        let side = match end {
            Some(end) => end.side(),
            None if depth(left) <= depth(right) => Side::After,
            None => Side::Before,
        };
        // The anchor is on one side; on the other there may be a run of ours that grows towards it.
        let (anchor, neighbour) = match side {
            Side::After => (left, id(Some(index))),
            Side::Before => (right, id(index.checked_sub(1))),
        };
        let anchor = anchor.map_or_else(Name::new, |(run, at)| run.segments(at));
        if let Some((run, _)) = neighbour
            && run.side() == side
            && run.anchor() == &anchor[..]
            && run.reign() == Some(me)
        {
            return Some(run.clone());
        }
        let run = RunName::new(&anchor, side, now, me);
        (run.depth() <= DEPTH_MAX).then_some(run)
    }

    /// Whether an element has a dot that the author may not have seen: told by runs, so it may be of an element that is gone.
    #[must_use]
    pub fn may_have_unseen(&self, seen: &Seen<'_>) -> bool {
        let is_unseen = |run: &Run| match run.origin {
            Some(origin) => !seen.has(&Dot { ts: run.newest, index: 0, origin }),
            None => !seen.has_stable(),
        };
        self.runs.iter().any(is_unseen) || self.odd.values().any(|meta| meta.dots().any(|dot| !seen.has(dot)))
    }

    /// Whether all is stable, as far as runs tell.
    #[must_use]
    pub fn is_in(&self, stable: &VectorClock) -> bool {
        let is_in = |run: &Run| run.origin.is_none_or(|origin| stable.has(origin, run.newest));
        (self.runs.iter().all(is_in) || self.implied_dots().all(|dot| dot.is_in(stable)))
            && self.odd.values().all(|meta| meta.dots().all(|dot| dot.is_in(stable)))
    }

    /// The newest dot of each run, and those that ids do not imply: when all of them are stable, so is the list.
    pub fn newest_dots(&self) -> impl Iterator<Item = Dot> + '_ {
        self.implied_dots().chain(self.odd_dots())
    }

    /// The newest dot of each run that its ids imply. Elements that another reign wrote again have dots of that only: what their ids imply, of a reign of which
    /// nothing is taken any more perhaps, nobody ever has.
    fn implied_dots(&self) -> impl Iterator<Item = Dot> + '_ {
        let mut odd: HashMap<u32, usize, foldhash::fast::FixedState> = HashMap::default();
        self.odd.keys().for_each(|id| *odd.entry(id.run).or_default() += 1);
        let runs = self.runs.numbered().filter(move |(number, run)| odd.get(number).is_none_or(|odd| *odd < run.len()));
        runs.filter_map(|(_, run)| Some(Dot { ts: run.newest, index: 0, origin: run.origin? }))
    }

    /// Dots that ids do not imply.
    pub fn odd_dots(&self) -> impl Iterator<Item = Dot> + '_ {
        self.odd.values().flat_map(|meta| meta.dots().copied())
    }

    /// Whether some element has more than its id implies.
    #[must_use]
    pub fn is_odd(&self) -> bool {
        !self.odd.is_empty()
    }

    /// Whether each element has one dot and no payload.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let is_alone = |meta: &PathMeta| meta.assigns.len() == 1 && meta.assigns.iter().all(|a| a.payload.is_none());
        self.hidden.is_empty() && self.odd.values().all(is_alone)
    }

    /// How many have.
    #[must_use]
    pub fn odd_len(&self) -> usize {
        self.odd.len()
    }

    /// Rule L8: siblings go when all dots of an element are stable; the winner stays, and the dataset holds its payload.
    pub fn prune(&mut self, stable: &VectorClock, rules: &Rules, origins: &Origins) {
        let settled = |meta: &PathMeta| meta.dots().all(|dot| dot.is_in(stable));
        let ids: Vec<Id> = self.odd.iter().filter(|(_, meta)| settled(meta)).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(meta) = self.odd.remove(&id) else { continue };
            let winner = match meta.top(origins) {
                crate::metadata::Top::Assign(at) => meta.assigns.get(at).cloned(),
                _ => None,
            };
            let Some(mut winner) = winner else { continue };
            winner.payload = None;
            let kept = PathMeta { assigns: smallvec::smallvec![winner], sum: None };
            if kept != self.implied(&id) && rules.list_winner_stays {
                self.odd.insert(id, kept);
            }
        }
        if self.odd.is_empty() {
            self.odd.shrink_to_fit();
        }
    }

    /// The dataset does not have the element at an index for now.
    pub fn hide(&mut self, index: usize) {
        if let Some(id) = self.ids.get(index).filter(|id| !self.hidden.contains(id)) {
            self.hidden.push(id);
        }
    }

    /// The indexes of those, rising. None but while a full sync goes on, within a group.
    #[must_use]
    pub fn hidden(&self) -> Vec<usize> {
        let index = |id: &Id| match self.find(&self.run(id)?.name, id.at) {
            Spot::At(index) => Some(index),
            Spot::Before(_) => None,
        };
        if self.hidden.is_empty() {
            return Vec::new();
        }
        let mut hidden: Vec<usize> = self.hidden.iter().filter_map(index).collect();
        hidden.sort_unstable();
        hidden
    }

    /// Whether the dataset has all elements.
    #[must_use]
    pub fn is_all_shown(&self) -> bool {
        self.hidden.is_empty()
    }

    /// How many elements the dataset has.
    #[must_use]
    pub fn shown_len(&self) -> usize {
        self.len() - self.hidden.len()
    }

    /// The index of what the dataset has at `index`.
    #[must_use]
    pub fn shown_to_all(&self, index: usize) -> usize {
        self.hidden().into_iter().fold(index, |index, hidden| index + usize::from(hidden <= index))
    }

    /// The indexes of what the dataset has at `range`.
    pub fn shown_range(&self, range: Range<usize>) -> impl Iterator<Item = usize> + use<> {
        let hidden = self.hidden();
        let shift = move |index| hidden.iter().fold(index, |index, hidden| index + usize::from(*hidden <= index));
        range.map(shift)
    }

    /// The dataset has them again.
    pub fn show_hidden(&mut self) {
        self.hidden = Vec::new();
    }

    /// As a plain map from names, for the general way.
    #[must_use]
    pub fn spread(&self) -> Paths {
        let metas = (0..self.len()).map(|index| self.meta(index));
        Paths::Many(self.names().map(|name| Box::from(&name[..])).zip(metas).collect())
    }

    /// From names in order, and what is known of each.
    #[must_use]
    pub fn gather(elements: impl Iterator<Item = (Box<[u8]>, PathMeta)>, origins: &Origins) -> Self {
        let mut list = Self::default();
        for (name, meta) in elements {
            if let Ok((run, at)) = RunName::split(&name) {
                list.insert_with(list.len(), &run, at, meta, origins);
            }
        }
        list
    }

    /// Puts one element with other dots than its own in front of that at `index`.
    pub fn insert_with(&mut self, index: usize, run: &RunName, at: At, meta: PathMeta, origins: &Origins) {
        let origin = run.reign().and_then(|reign| origins.find(&reign.replid));
        self.insert(index, run, origin, at, 1);
        self.set_meta(index, meta);
    }

    /// Gives every dot the origin that `rename` says.
    pub fn rename_origins(&mut self, mut rename: impl FnMut(&mut Dot)) {
        let mut origin_of = |origin: &mut Origin| {
            let mut dot = Dot { ts: Timestamp::ZERO, index: 0, origin: *origin };
            rename(&mut dot);
            *origin = dot.origin;
        };
        self.runs.rename(&mut origin_of);
        self.odd.values_mut().for_each(|meta| meta.dots_mut(&mut rename));
    }

    /// Segments of the longest position.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.runs.iter().map(|run| run.name.depth()).max().unwrap_or(0)
    }

    /// Runs that have elements.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.runs.iter().count()
    }

    /// See `Ids::steps`.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.ids.steps()
    }

    /// Bytes on the heap, for `metadata_bytes`.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let odd: usize = self.odd.values().map(PathMeta::heap_bytes).sum();
        size_of::<Self>() + self.runs.heap_bytes() + self.ids.heap_bytes() + self.odd.allocation_size() + odd
    }
}

/// The elements of a list in list order.
pub(crate) fn in_order(mut paths: Paths) -> Vec<(Box<[u8]>, PathMeta)> {
    if let Paths::List(list) = &paths {
        paths = list.spread();
    }
    let mut items: Vec<(Box<[u8]>, PathMeta)> = Vec::with_capacity(paths.len());
    paths.retain(|name, meta| {
        items.push((Box::from(name), std::mem::take(meta)));
        false
    });
    items.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    items
}

/// A list from its elements one by one.
pub(crate) fn gather(paths: &mut Paths, origins: &Origins) -> List {
    let paths = std::mem::replace(paths, Paths::new(Kind::List));
    List::gather(in_order(paths).into_iter(), origins)
}
