//! The live patches of a string.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use smallvec::{SmallVec, smallvec};

use crate::dot::Dot;
use crate::hyperloglog::{MAGIC, Registers};
use crate::origin::Origins;
use crate::patch::Patch;

/// Bytes of a block: small writes are kept by block, so that the few that overlap are found at once.
const BLOCK: u64 = 8;
/// A write of at most this many bytes is kept by block.
const SMALL_MAX: usize = 32;

/// Bits of one block, the highest is the first.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Small {
    dot: Dot,
    mask: u64,
    bits: u64,
}

/// Many bytes.
#[derive(Clone, Debug, PartialEq)]
struct Wide {
    dot: Dot,
    offset: u64,
    bytes: Box<[u8]>,
}

/// Bytes with no place of their own: appended ones, or registers.
#[derive(Clone, Debug, PartialEq)]
struct Loose {
    dot: Dot,
    bytes: Box<[u8]>,
}

/// Live patches in no particular order.
///
/// While the top of the path has no payload here (see [`PathMeta`](super::PathMeta)), the dataset's first [`Patches::len`] bytes stand
/// for it: they are the top's own but where patches have written, and those write the same again. That holds for patches whose
/// authors have seen the top; they go only when it goes, too. And the dataset is no HyperLogLog then: one as the top's own value hides
/// patches of bytes, what they make of another does not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Patches {
    small: BTreeMap<u64, SmallVec<[Small; 1]>>,
    wide: Vec<Wide>,
    appends: Vec<Loose>,
    registers: Vec<Loose>,
    /// The last of `appends` in effect order, if known.
    last_append: Option<Dot>,
    /// How many there are, those of several blocks counted in each.
    count: usize,
    /// Bytes of the top without any patch, while it has no payload.
    pub len: u64,
}

/// A part of a patch in its place; see [`Patches::parts`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part<'a> {
    /// Bits of a block.
    Bits {
        /// The first byte of the block.
        offset: u64,
        /// Which bits, the highest first.
        mask: u64,
        /// The bits.
        bits: u64,
    },
    /// Bytes.
    Bytes {
        /// Where.
        offset: u64,
        /// They.
        bytes: &'a [u8],
    },
    /// Bytes behind all that is there.
    Append(&'a [u8]),
    /// Registers of a HyperLogLog.
    Registers(Registers<'a>),
}

impl Patches {
    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many there are, for estimates of work.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Whether some write bytes.
    #[must_use]
    pub fn has_text(&self) -> bool {
        self.count > self.registers.len()
    }

    /// Whether some raise registers.
    #[must_use]
    pub fn has_registers(&self) -> bool {
        !self.registers.is_empty()
    }

    /// One more.
    pub fn push(&mut self, dot: Dot, patch: Patch<'_>) {
        match patch {
            Patch::Bits { offset, count, value } => {
                for (block, mask, bits) in blocks(offset, count, value) {
                    self.small(block, dot, mask, bits);
                }
            }
            Patch::Bytes { offset, bytes } if bytes.len() <= SMALL_MAX => self.small_bytes(dot, offset, bytes),
            Patch::Bytes { offset, bytes } => {
                self.wide.push(Wide { dot, offset, bytes: bytes.into() });
                self.count += 1;
            }
            Patch::Append(bytes) => {
                self.appends.push(Loose { dot, bytes: bytes.into() });
                self.last_append = None;
                self.count += 1;
            }
            Patch::Registers(registers) => {
                self.registers.push(Loose { dot, bytes: registers.bytes().into() });
                self.count += 1;
            }
        }
    }

    /// The same, and keeps in mind which append is the last.
    pub fn insert(&mut self, dot: Dot, patch: Patch<'_>, origins: &Origins) {
        let last = self.last_append;
        self.push(dot, patch);
        if matches!(patch, Patch::Append(_)) {
            let is_known = last.is_some() || self.appends.len() == 1;
            self.last_append =
                last.into_iter().chain([dot]).max_by(|a, b| a.effect_order(b, origins)).filter(|_| is_known);
        }
    }

    fn small_bytes(&mut self, dot: Dot, offset: u64, bytes: &[u8]) {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let place = offset + at as u64;
            let (block, first) = (place / BLOCK, (place % BLOCK) as usize);
            let some = rest.len().min(BLOCK as usize - first);
            let mut word = [0; BLOCK as usize];
            word[first..first + some].copy_from_slice(&rest[..some]);
            let mask = (u64::MAX << (64 - 8 * some)) >> (8 * first);
            self.small(block, dot, mask, u64::from_be_bytes(word));
            at += some;
        }
    }

    fn small(&mut self, block: u64, dot: Dot, mask: u64, bits: u64) {
        if mask != 0 {
            let small = Small { dot, mask, bits: bits & mask };
            self.small.entry(block).and_modify(|known| known.push(small)).or_insert_with(|| smallvec![small]);
            self.count += 1;
        }
    }

    /// Every part with its dot.
    pub fn parts(&self) -> impl Iterator<Item = (Dot, Part<'_>)> {
        let small = self.small.iter().flat_map(|(block, list)| list.iter().map(|s| (s.dot, s.part(*block))));
        small.chain(self.wide.iter().map(|w| (w.dot, w.part()))).chain(self.loose())
    }

    fn loose(&self) -> impl Iterator<Item = (Dot, Part<'_>)> {
        let appends = self.appends.iter().map(|a| (a.dot, Part::Append(&a.bytes)));
        let registers = self.registers.iter().filter_map(|r| Some((r.dot, Part::Registers(Registers::new(&r.bytes)?))));
        appends.chain(registers)
    }

    /// The parts that reach beyond `len` bytes, appended ones among them.
    fn beyond(&self, len: u64) -> impl Iterator<Item = (Dot, Part<'_>)> {
        let blocks = self.small.range(len / BLOCK..);
        let small = blocks.flat_map(|(block, list)| list.iter().map(|s| (s.dot, s.part(*block))));
        let parts = small.chain(self.wide.iter().map(|w| (w.dot, w.part()))).chain(self.loose());
        parts.filter(move |(_, part)| part.end().is_none_or(|end| end > len))
    }

    /// The dots: one of several blocks comes several times.
    pub fn dots(&self) -> impl Iterator<Item = &Dot> {
        let small = self.small.values().flatten().map(|s| &s.dot);
        let loose = self.appends.iter().chain(&self.registers).map(|l| &l.dot);
        small.chain(self.wide.iter().map(|w| &w.dot)).chain(loose)
    }

    /// Changes every dot.
    pub(super) fn dots_mut(&mut self, mut change: impl FnMut(&mut Dot)) {
        self.last_append = None;
        self.small.values_mut().flatten().for_each(|s| change(&mut s.dot));
        self.wide.iter_mut().for_each(|w| change(&mut w.dot));
        self.appends.iter_mut().chain(&mut self.registers).for_each(|l| change(&mut l.dot));
    }

    /// Keeps those for which `keep` says so.
    pub fn retain(&mut self, keep: impl Fn(&Dot) -> bool) {
        self.small.retain(|_, list| {
            list.retain(|s| keep(&s.dot));
            !list.is_empty()
        });
        self.wide.retain(|w| keep(&w.dot));
        self.appends.retain(|a| keep(&a.dot));
        self.registers.retain(|r| keep(&r.dot));
        self.last_append = None;
        let small: usize = self.small.values().map(SmallVec::len).sum();
        self.count = small + self.wide.len() + self.appends.len() + self.registers.len();
    }

    /// Writes over `window`, whose first byte is at `start`, what live patches later than `dot` have in it.
    pub fn overlay_later(&self, dot: &Dot, start: u64, window: &mut [u8], origins: &Origins) {
        self.overlay(|other| other.effect_order(dot, origins) == Ordering::Greater, start, window, origins);
    }

    fn overlay(&self, wanted: impl Fn(&Dot) -> bool, start: u64, window: &mut [u8], origins: &Origins) {
        let end = start + window.len() as u64;
        let blocks = self.small.range(start / BLOCK..end.div_ceil(BLOCK));
        let small = blocks.flat_map(|(block, list)| list.iter().map(|s| (s.dot, s.part(*block))));
        let wide = self.wide.iter().map(|w| (w.dot, w.part()));
        let is_wanted = |(dot, part): &(Dot, Part<'_>)| part.start() < end && part.end() > Some(start) && wanted(dot);
        let mut found: SmallVec<[(Dot, Part<'_>); 4]> = small.chain(wide).filter(is_wanted).collect();
        found.sort_unstable_by(|a, b| a.0.effect_order(&b.0, origins));
        found.iter().for_each(|(_, part)| part.overlay(start, window));
    }

    /// Whether some bytes were appended later than `dot`.
    pub fn has_append_after(&mut self, dot: &Dot, origins: &Origins) -> bool {
        let appends = self.appends.iter().map(|a| a.dot);
        self.last_append = self.last_append.or_else(|| appends.max_by(|a, b| a.effect_order(b, origins)));
        self.last_append.is_some_and(|last| last.effect_order(dot, origins) == Ordering::Greater)
    }

    /// Whether a patch later than `dot` makes the string longer than `len` bytes, or appends to it.
    pub fn grows_after(&mut self, dot: &Dot, len: u64, origins: &Origins) -> bool {
        let after = |other: &Dot| other.effect_order(dot, origins) == Ordering::Greater;
        self.has_append_after(dot, origins)
            || self.beyond(len).any(|(other, part)| part.end().is_some() && after(&other))
    }

    /// Whether a longer string begins like a HyperLogLog with them.
    #[must_use]
    pub fn make_hyperloglog(&self, mut beginning: [u8; MAGIC.len()], origins: &Origins) -> bool {
        self.overlay(|_| true, 0, &mut beginning, origins);
        beginning == *MAGIC
    }

    /// What is behind the first `len` bytes, those of the top: patches alone have made it.
    #[must_use]
    pub fn tail(&self, len: u64, origins: &Origins) -> Vec<u8> {
        let mut parts: Vec<_> = self.beyond(len).collect();
        parts.sort_by(|a, b| a.0.effect_order(&b.0, origins));
        let mut tail = Vec::new();
        parts.iter().for_each(|(_, part)| part.write(&mut tail, len));
        tail
    }

    /// Bytes on the heap, for `metadata_bytes`.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        /// A block with its first entry, and its share of a tree node that is two thirds full.
        const BLOCK_BYTES: usize = (size_of::<u64>() + size_of::<SmallVec<[Small; 1]>>()) * 3 / 2;
        let loose = |list: &Vec<Loose>| {
            list.capacity() * size_of::<Loose>() + list.iter().map(|l| l.bytes.len()).sum::<usize>()
        };
        let wide: usize = self.wide.iter().map(|w| w.bytes.len()).sum();
        let spilled = self.small.values().filter(|list| list.spilled()).map(|l| l.capacity() * size_of::<Small>());
        self.small.len() * BLOCK_BYTES
            + spilled.sum::<usize>()
            + self.wide.capacity() * size_of::<Wide>()
            + wide
            + loose(&self.appends)
            + loose(&self.registers)
    }
}

/// Writes bits over `window`, whose first byte is at `start`.
pub fn overlay_bits(offset: u64, count: u8, value: u64, start: u64, window: &mut [u8]) {
    for (block, mask, bits) in blocks(offset, count, value) {
        Part::Bits { offset: block * BLOCK, mask, bits }.overlay(start, window);
    }
}

/// Bits as blocks, masks and bits there; of two blocks, which is enough for 64.
fn blocks(offset: u64, count: u8, value: u64) -> [(u64, u64, u64); 2] {
    let (block, first) = (offset / (8 * BLOCK), (offset % (8 * BLOCK)) as u32);
    // Both are aligned to the left of the two.
    let aligned = |bits: u128| bits.checked_shl(128 - u32::from(count)).unwrap_or_default() >> first;
    let (mask, bits) = (aligned(u128::MAX), aligned(u128::from(value)));
    [(block, (mask >> 64) as u64, (bits >> 64) as u64), (block + 1, mask as u64, bits as u64)]
}

impl Small {
    const fn part<'a>(&self, block: u64) -> Part<'a> {
        Part::Bits { offset: block * BLOCK, mask: self.mask, bits: self.bits }
    }
}

impl Wide {
    fn part(&self) -> Part<'_> {
        Part::Bytes { offset: self.offset, bytes: &self.bytes }
    }
}

impl<'a> Part<'a> {
    /// The first byte that it writes; 0 for those without a place.
    const fn start(&self) -> u64 {
        match *self {
            Part::Bits { offset, mask, .. } => offset + mask.leading_zeros() as u64 / 8,
            Part::Bytes { offset, .. } => offset,
            Part::Append(_) | Part::Registers(_) => 0,
        }
    }

    /// Behind the last byte that it writes; `None` for those without a place.
    #[must_use]
    pub const fn end(&self) -> Option<u64> {
        match *self {
            Part::Bits { offset, mask, .. } => Some(offset + BLOCK - mask.trailing_zeros() as u64 / 8),
            Part::Bytes { offset, bytes } => Some(offset + bytes.len() as u64),
            Part::Append(_) | Part::Registers(_) => None,
        }
    }

    /// The same as a patch.
    #[must_use]
    pub fn patch(self) -> Patch<'a> {
        match self {
            Part::Bits { offset, mask, bits } => {
                let (first, count) = (mask.leading_zeros(), mask.count_ones());
                let value = bits >> mask.trailing_zeros();
                Patch::Bits { offset: offset * 8 + u64::from(first), count: count as u8, value }
            }
            Part::Bytes { offset, bytes } => Patch::Bytes { offset, bytes },
            Part::Append(bytes) => Patch::Append(bytes),
            Part::Registers(registers) => Patch::Registers(registers),
        }
    }

    /// Writes what of it is in `window`, whose first byte is at `start`. Appended bytes and registers are in none.
    pub fn overlay(&self, start: u64, window: &mut [u8]) {
        match *self {
            Part::Bits { offset, mask, bits } => {
                for (at, (mask, bits)) in (offset..).zip(mask.to_be_bytes().into_iter().zip(bits.to_be_bytes())) {
                    let byte = at.checked_sub(start).and_then(|at| window.get_mut(usize::try_from(at).ok()?));
                    if let Some(byte) = byte {
                        *byte = *byte & !mask | bits;
                    }
                }
            }
            Part::Bytes { offset, bytes } => {
                let (skip, at) = (start.saturating_sub(offset) as usize, offset.saturating_sub(start) as usize);
                let (bytes, place) = (bytes.get(skip..).unwrap_or_default(), window.get_mut(at..).unwrap_or_default());
                place.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
            }
            Part::Append(_) | Part::Registers(_) => {}
        }
    }

    /// Writes it to a string of which `value` is all behind the first `skipped` bytes: that grows as need be.
    pub fn write(&self, value: &mut Vec<u8>, skipped: u64) {
        if let Part::Append(bytes) = self {
            value.extend_from_slice(bytes);
        }
        if let Some(end) = self.end() {
            let len = end.saturating_sub(skipped) as usize;
            if len > value.len() {
                value.resize(len, 0);
            }
            self.overlay(skipped, value);
        }
    }
}
