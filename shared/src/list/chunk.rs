//! A piece of a list's ids: up to 256, close together in time, so each takes 1 to 5 bytes.

use std::ops::Range;

use super::position::At;
use crate::timestamp::Timestamp;

/// The id of an element inside one list: the place of its run in the [table](super::runs::Runs), and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id {
    /// Its run.
    pub run: u32,
    /// When it was made.
    pub at: At,
}

/// Ids in list order.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Where it starts, counted from where the list once began: so pushes and pops at the ends touch no other chunk.
    pub start: i64,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    /// Of one run: `(timestamp - base) << index_bits | index`, each in `width` bytes.
    Packed { run: u32, base: u64, index_bits: u8, width: u8, bytes: Vec<u8> },
    /// Of several.
    Mixed(Vec<Id>),
}

impl Chunk {
    /// Ids of a full one.
    pub const LEN_MAX: usize = 256;
    /// A shorter one of a single run takes ids of others.
    const MIX_BELOW: usize = 32;

    /// A chunk of these.
    #[must_use]
    pub fn new(start: i64, ids: Vec<Id>) -> Self {
        Self { start, body: Body::of(ids) }
    }

    /// How many ids.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.body {
            Body::Packed { width, bytes, .. } => bytes.len() / usize::from(*width),
            Body::Mixed(ids) => ids.len(),
        }
    }

    /// The id at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Id> {
        match &self.body {
            Body::Mixed(ids) => ids.get(index).copied(),
            Body::Packed { run, base, index_bits, width, bytes } => {
                let width = usize::from(*width);
                let bytes = bytes.get(index * width..(index + 1) * width)?;
                let value = bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
                let index = value & ((1 << index_bits) - 1);
                Some(Id {
                    run: *run,
                    at: At { ts: Timestamp::from_bits(base + (value >> index_bits)), index: index as u32 },
                })
            }
        }
    }

    /// Whether an id at one of its ends is better put here than into a chunk of its own.
    #[must_use]
    pub fn takes(&self, id: &Id) -> bool {
        let len = self.len();
        let mixes = match &self.body {
            Body::Packed { run, .. } => *run == id.run || len < Self::MIX_BELOW,
            Body::Mixed(_) => true,
        };
        len < Self::LEN_MAX && mixes
    }

    /// Puts an id in front of that at `index`.
    pub fn insert(&mut self, index: usize, id: Id) {
        if let Body::Mixed(ids) = &mut self.body {
            ids.insert(index.min(ids.len()), id);
        } else if !self.body.insert(index, &id) {
            let mut ids = self.take(0..self.len());
            ids.insert(index.min(ids.len()), id);
            self.body = Body::of(ids);
        }
    }

    /// Takes some out.
    pub fn remove(&mut self, range: Range<usize>) {
        match &mut self.body {
            Body::Mixed(ids) => drop(ids.drain(range)),
            Body::Packed { width, bytes, .. } => {
                let width = usize::from(*width);
                bytes.drain(range.start * width..range.end * width);
            }
        }
    }

    /// Cuts off what is behind `index`.
    pub fn split_off(&mut self, index: usize) -> Self {
        let rest = self.take(index..self.len());
        Self::new(self.start + index as i64, rest)
    }

    /// Gives back memory that it no longer grows into.
    pub fn shrink(&mut self) {
        match &mut self.body {
            Body::Packed { bytes, .. } => bytes.shrink_to_fit(),
            Body::Mixed(ids) => ids.shrink_to_fit(),
        }
    }

    fn take(&mut self, range: Range<usize>) -> Vec<Id> {
        let ids = range.clone().filter_map(|index| self.get(index)).collect();
        self.remove(range);
        ids
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match &self.body {
            Body::Packed { bytes, .. } => bytes.capacity(),
            Body::Mixed(ids) => ids.capacity() * size_of::<Id>(),
        }
    }
}

impl Body {
    /// As small as it gets.
    fn of(ids: Vec<Id>) -> Self {
        let Some(first) = ids.first().copied() else { return Body::Mixed(ids) };
        let (mut least, mut most, mut index) = (first.at.ts, first.at.ts, 0);
        for id in &ids {
            if id.run != first.run {
                return Body::Mixed(ids);
            }
            (least, most, index) = (least.min(id.at.ts), most.max(id.at.ts), index.max(id.at.index));
        }
        let index_bits = (u32::BITS - index.leading_zeros()) as u8;
        let bits = u64::BITS - (most.bits() - least.bits()).leading_zeros() + u32::from(index_bits);
        if bits > u64::BITS {
            return Body::Mixed(ids);
        }
        let width = bits.div_ceil(8).max(1) as u8;
        let base = least.bits();
        let mut body = Body::Packed { run: first.run, base, index_bits, width, bytes: Vec::new() };
        for (at, id) in ids.iter().enumerate() {
            body.insert(at, id);
        }
        body
    }

    /// Whether the id fits as it is.
    fn insert(&mut self, index: usize, id: &Id) -> bool {
        let Body::Packed { run, base, index_bits, width, bytes } = self else { return false };
        let width = usize::from(*width);
        let Some(above) = id.at.ts.bits().checked_sub(*base) else { return false };
        let fits = u64::from(id.at.index) >> *index_bits == 0
            && u64::BITS - above.leading_zeros() + u32::from(*index_bits) <= 8 * width as u32;
        if *run != id.run || !fits {
            return false;
        }
        let value = (above << *index_bits | u64::from(id.at.index)).to_le_bytes();
        let (value, at) = (value.get(..width).unwrap_or_default(), (index * width).min(bytes.len()));
        let len = bytes.len();
        bytes.extend_from_slice(value);
        if at < len {
            // What a push at the head does: much cheaper than a splice.
            bytes.copy_within(at..len, at + width);
            if let Some(place) = bytes.get_mut(at..at + width) {
                place.copy_from_slice(value);
            }
        }
        true
    }
}
