//! The ids of a list, in list order: a deque of [chunks](Chunk).
//!
//! At the ends everything takes constant time; finding takes logarithmic time. In the middle the starts of the chunks on the
//! nearer side are counted on: some thousands for a million ids, as a server walks some thousands of nodes there.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::Range;

use super::chunk::{Chunk, Id};
use super::position::End;

/// See the module's documentation. No chunk is empty.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    chunks: VecDeque<Chunk>,
    len: usize,
    /// See [`Ids::steps`].
    steps: u64,
}

impl Ids {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// How many starts of chunks were moved so far: what changes in the middle cost beyond their chunk.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The chunk of an index, and the place in it.
    fn locate(&self, index: usize) -> Option<(usize, usize)> {
        let front = self.chunks.front()?.start;
        let at = front + index as i64;
        let last = self.chunks.len() - 1;
        let is_in =
            |chunk: usize| self.chunks.get(chunk).is_some_and(|c| c.start <= at && at < c.start + c.len() as i64);
        let chunk = match () {
            () if is_in(0) => 0,
            () if is_in(last) => last,
            () => self.chunks.partition_point(|chunk| chunk.start <= at).checked_sub(1)?,
        };
        let offset = usize::try_from(at - self.chunks.get(chunk)?.start).ok()?;
        (index < self.len).then_some((chunk, offset))
    }

    /// The id at an index.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Id> {
        let (chunk, offset) = self.locate(index)?;
        self.chunks.get(chunk)?.get(offset)
    }

    /// The id at an end.
    #[must_use]
    pub fn end(&self, end: End) -> Option<Id> {
        match end {
            End::Head => self.chunks.front()?.get(0),
            End::Tail => self.chunks.back().and_then(|last| last.get(last.len() - 1)),
        }
    }

    /// Puts an id at an end.
    pub fn push(&mut self, end: End, id: Id) {
        self.len += 1;
        match end {
            End::Head => self.push_front(id),
            End::Tail => self.push_back(id),
        }
    }

    /// Takes the id at an end out.
    pub fn pop(&mut self, end: End) -> Option<Id> {
        let id = self.end(end)?;
        let chunk = if end == End::Head { self.chunks.front_mut() } else { self.chunks.back_mut() }?;
        if end == End::Head {
            chunk.remove(0..1);
            chunk.start += 1;
        } else {
            chunk.remove(chunk.len() - 1..chunk.len());
        }
        if chunk.len() == 0 {
            drop(if end == End::Head { self.chunks.pop_front() } else { self.chunks.pop_back() });
        }
        self.len -= 1;
        Some(id)
    }

    /// All of a range.
    pub fn range(&self, range: Range<usize>) -> impl Iterator<Item = Id> + '_ {
        let (mut chunk, mut offset) = self.locate(range.start).unwrap_or((self.chunks.len(), 0));
        range.map_while(move |_| {
            let known = self.chunks.get(chunk)?;
            let id = known.get(offset)?;
            offset += 1;
            if offset == known.len() {
                (chunk, offset) = (chunk + 1, 0);
            }
            Some(id)
        })
    }

    /// The index of the id for which `order` says equal, or where it would be. `order` compares an id with the wanted one.
    pub fn search(&self, mut order: impl FnMut(&Id) -> Ordering) -> Result<usize, usize> {
        let (Some(front), Some(back)) = (self.chunks.front(), self.chunks.back()) else { return Err(0) };
        match back.get(back.len() - 1).map(|id| order(&id)) {
            Some(Ordering::Less) => return Err(self.len),
            Some(Ordering::Equal) => return Ok(self.len - 1),
            _ => {}
        }
        match front.get(0).map(|id| order(&id)) {
            Some(Ordering::Greater) => return Err(0),
            Some(Ordering::Equal) => return Ok(0),
            _ => {}
        }
        let first = |chunk: &Chunk| chunk.get(0).is_some_and(|id| order(&id) != Ordering::Greater);
        let at = self.chunks.partition_point(first).saturating_sub(1);
        let Some(chunk) = self.chunks.get(at) else { return Err(self.len) };
        let (mut low, mut high) = (0, chunk.len());
        let before = (chunk.start - front.start) as usize;
        while low < high {
            let middle = low.midpoint(high);
            match chunk.get(middle).map_or(Ordering::Greater, |id| order(&id)) {
                Ordering::Equal => return Ok(before + middle),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        Err(before + low)
    }

    /// Puts an id in front of that at `index`.
    pub fn insert(&mut self, index: usize, id: Id) {
        self.len += 1;
        if index + 1 >= self.len {
            return self.push_back(id);
        }
        if index == 0 {
            return self.push_front(id);
        }
        let Some((at, mut offset)) = self.locate(index) else { return };
        let mut at = at;
        if self.chunks.get(at).is_some_and(|chunk| chunk.len() >= Chunk::LEN_MAX) {
            self.split(at);
            let half = self.chunks.get(at).map_or(0, Chunk::len);
            if offset > half {
                (at, offset) = (at + 1, offset - half);
            }
        }
        if let Some(chunk) = self.chunks.get_mut(at) {
            chunk.insert(offset, id);
        }
        self.shift(at, 1);
    }

    fn split(&mut self, at: usize) {
        if let Some(chunk) = self.chunks.get_mut(at) {
            let rest = chunk.split_off(chunk.len() / 2);
            self.chunks.insert(at + 1, rest);
        }
    }

    fn push_back(&mut self, id: Id) {
        match self.chunks.back_mut() {
            Some(last) if last.takes(&id) => last.insert(last.len(), id),
            Some(last) => {
                last.shrink();
                let start = last.start + last.len() as i64;
                self.chunks.push_back(Chunk::new(start, vec![id]));
            }
            None => self.chunks.push_back(Chunk::new(0, vec![id])),
        }
    }

    fn push_front(&mut self, id: Id) {
        match self.chunks.front_mut() {
            Some(first) if first.takes(&id) => {
                first.insert(0, id);
                first.start -= 1;
            }
            Some(first) => {
                first.shrink();
                let start = first.start - 1;
                self.chunks.push_front(Chunk::new(start, vec![id]));
            }
            None => self.chunks.push_front(Chunk::new(0, vec![id])),
        }
    }

    /// A chunk has grown by `by`: the starts behind it, or those up to it, are moved.
    fn shift(&mut self, chunk: usize, by: i64) {
        let behind = self.chunks.len() - chunk - 1;
        self.steps += chunk.min(behind) as u64;
        if chunk < self.chunks.len() / 2 {
            self.chunks.range_mut(..=chunk).for_each(|chunk| chunk.start -= by);
        } else {
            self.chunks.range_mut(chunk + 1..).for_each(|chunk| chunk.start += by);
        }
    }

    /// Takes some out: whole chunks at a time.
    pub fn remove(&mut self, range: Range<usize>) {
        let mut count = range.end.min(self.len).saturating_sub(range.start);
        while count > 0 {
            let Some((at, offset)) = self.locate(range.start) else { return };
            let Some(chunk) = self.chunks.get_mut(at) else { return };
            let cut = count.min(chunk.len() - offset);
            chunk.remove(offset..offset + cut);
            let is_empty = chunk.len() == 0;
            self.shift(at, -(cut as i64));
            if is_empty {
                self.chunks.remove(at);
            }
            self.len -= cut;
            count -= cut;
        }
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<Chunk>() + self.chunks.iter().map(Chunk::heap_bytes).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::position::At;
    use super::*;
    use crate::timestamp::Timestamp;

    fn id(run: u32, ts: u64, index: u32) -> Id {
        Id { run, at: At { ts: Timestamp::from_bits(ts), index } }
    }

    fn end(tail: bool) -> End {
        if tail { End::Tail } else { End::Head }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(prop::sample::Index, Id),
        Ends(bool, u8, u64, u32),
        Remove(prop::sample::Index, usize),
        Pop(bool, u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        let ts = || prop_oneof![0..1000_u64, 1_u64 << 40..(1_u64 << 40) + 70_000, any::<u64>().prop_map(|ts| ts >> 1)];
        let one = (0..3_u32, ts(), prop_oneof![4 => Just(0), 1 => 0..300_u32, 1 => any::<u32>()]);
        prop_oneof![
            4 => (any::<prop::sample::Index>(), one).prop_map(|(at, (run, ts, index))| Step::Insert(at, id(run, ts, index))),
            3 => (any::<bool>(), any::<u8>(), 0..1_u64 << 40, 0..2_u32).prop_map(|(end, n, ts, run)| Step::Ends(end, n, ts, run)),
            3 => (any::<prop::sample::Index>(), prop_oneof![1..4_usize, 1..600_usize]).prop_map(|(at, n)| Step::Remove(at, n)),
            2 => (any::<bool>(), 1..300_u16).prop_map(|(tail, n)| Step::Pop(tail, n)),
        ]
    }

    proptest! {
        #[test]
        fn ids_are_a_plain_vector(steps in proptest::collection::vec(step(), 1..60)) {
            let (mut ids, mut plain) = (Ids::default(), Vec::new());
            for step in steps {
                match step {
                    Step::Insert(at, id) => {
                        let at = at.index(plain.len() + 1);
                        ids.insert(at, id);
                        plain.insert(at, id);
                    }
                    Step::Ends(tail, count, ts, run) => for n in 0..u64::from(count) {
                        let id = id(run, ts + n * 90_000, 0);
                        let at = if tail { plain.len() } else { 0 };
                        ids.push(end(tail), id);
                        plain.insert(at, id);
                    },
                    Step::Remove(at, count) if !plain.is_empty() => {
                        let at = at.index(plain.len());
                        let end = (at + count).min(plain.len());
                        ids.remove(at..end);
                        plain.drain(at..end);
                    }
                    Step::Remove(..) => {}
                    Step::Pop(tail, count) => for _ in 0..count {
                        let gone = if tail { plain.pop() } else { (!plain.is_empty()).then(|| plain.remove(0)) };
                        prop_assert_eq!(ids.end(end(tail)), gone);
                        prop_assert_eq!(ids.pop(end(tail)), gone);
                    }
                }
                prop_assert_eq!(ids.len(), plain.len());
                let all: Vec<Id> = ids.range(0..ids.len()).collect();
                prop_assert_eq!(&all, &plain);
                let middle = plain.len() / 2;
                prop_assert_eq!(ids.get(middle), plain.get(middle).copied());
                prop_assert_eq!(ids.get(plain.len()), None);
                prop_assert!(ids.chunks.iter().all(|chunk| chunk.len() > 0 && chunk.len() <= Chunk::LEN_MAX));
            }
        }

        #[test]
        fn what_is_sorted_is_found(mut times in proptest::collection::btree_set(0..100_000_u64, 0..900), wanted in 0..100_000_u64) {
            let mut ids = Ids::default();
            for (at, ts) in times.iter().enumerate() {
                ids.insert(at, id(0, *ts, 0));
            }
            let found = ids.search(|id| id.at.ts.bits().cmp(&wanted));
            let plain: Vec<u64> = std::mem::take(&mut times).into_iter().collect();
            prop_assert_eq!(found, plain.binary_search(&wanted));
        }
    }

    /// Issue 4: at most 6 bytes an element for a list that one instance fills.
    #[test]
    fn ids_of_one_author_are_small() {
        for (pace_us, count) in [(10_000_u64, 1), (1000, 1), (10, 1), (1000, 100)] {
            let mut ids = Ids::default();
            let (mut now, mut last) = (0, 0);
            for n in 0..200_000_u64 {
                if n % count == 0 {
                    now += pace_us;
                    last = (last + 1).max((1_700_000_000_000 + now / 1000) << 16);
                }
                ids.insert(ids.len(), id(0, last, (n % count) as u32));
            }
            let each = ids.heap_bytes() as f64 / 200_000.0;
            println!("every {pace_us} us, {count} a push: {each:.2} bytes");
            assert!(each <= 6.0, "{each} bytes an element at a push of {count} every {pace_us} us");
        }
    }

    /// No step at an end looks at more than the chunk there.
    #[test]
    fn a_long_queue_is_as_quick_as_a_short_one() {
        let mut ids = Ids::default();
        (0..300_000).for_each(|ts| ids.insert(ids.len(), id(0, ts, 0)));
        let before: Vec<i64> = ids.chunks.iter().map(|chunk| chunk.start).collect();
        for ts in 300_000..310_000 {
            ids.insert(ids.len(), id(0, ts, 0));
            ids.remove(0..1);
        }
        let kept = ids.chunks.iter().filter(|chunk| before.contains(&chunk.start)).count();
        assert!(kept + 42 >= before.len(), "the chunks between the ends are as they were: {kept} of {}", before.len());
    }
}
