//! Positions: the identity of list elements, and their order (rules L1 to L3).
//!
//! A position is a path of segments (side, run, at). As bytes it is written so that comparing bytes is comparing positions:
//!
//! ```text
//! segment  side 1 byte, run: begun 8, instance 1, replication ID 20, at: timestamp 8, index 4; big endian
//!          run and at with all bits flipped on the side after an anchor, where later is nearer to it, so comes first
//! side     of the first segment: 0 after BEGIN (LPUSH), 2 before END (RPUSH); of others: 0 before, 2 after the element so far
//! name     segments, then 1: behind everything before the element, in front of everything after it
//! ```

use smallvec::SmallVec;

use crate::instance::InstanceId;
use crate::replid::ReplId;
use crate::timestamp::Timestamp;
use crate::wire::WireError;

/// Which end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Left, `LPUSH`.
    Head,
    /// Right, `RPUSH`.
    Tail,
}

/// On which side of its anchor a run grows: always towards it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Before an element, or before the end of the list.
    Before,
    /// After an element, or after the beginning of the list.
    After,
}

impl End {
    /// How runs grow that are anchored at this end.
    #[must_use]
    pub const fn side(self) -> Side {
        match self {
            End::Head => Side::After,
            End::Tail => Side::Before,
        }
    }
}

/// When an element was made: the timestamp of its group, and which of the elements that the group made it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    /// Of the group.
    pub ts: Timestamp,
    /// In the group.
    pub index: u32,
}

/// The bytes of a name.
pub type Name = SmallVec<[u8; 44]>;

/// Segments of the longest position: paths grow only by inserting into what was just inserted, over and over. The author of
/// one that would be longer writes the whole list anew.
pub const DEPTH_MAX: usize = 64;

const AT: usize = 8 + 4;
const RUN: usize = 8 + 1 + ReplId::LEN;
const SEGMENT: usize = 1 + RUN + AT;
/// The longest name.
pub const NAME_BYTES_MAX: usize = DEPTH_MAX * SEGMENT + 1;
/// The longest anchor: one segment less.
pub const ANCHOR_BYTES_MAX: usize = (DEPTH_MAX - 1) * SEGMENT;
/// Ends a name.
const ITSELF: u8 = 1;
const LOW: u8 = 0;
const HIGH: u8 = 2;

/// The name of a run: what the names of its elements begin with.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunName(SmallVec<[u8; 32]>);

impl Clone for RunName {
    fn clone(&self) -> Self {
        // Copied at once, not byte by byte.
        Self(SmallVec::from_slice(&self.0))
    }
}

/// Who began a run, and all its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reign {
    /// Whose reign.
    pub instance: InstanceId,
    /// The reign.
    pub replid: ReplId,
}

impl RunName {
    /// Elements that were there before anybody had an id for them (rule L10).
    #[must_use]
    pub fn base() -> Self {
        Self(std::iter::once(HIGH).chain([0; RUN]).collect())
    }

    /// The run that `reign` began at `begun`, anchored at the element whose segments `anchor` has, or at an end of the list.
    #[must_use]
    pub fn new(anchor: &[u8], side: Side, begun: Timestamp, reign: Reign) -> Self {
        let mut last = [0; 1 + RUN];
        let (high, run) = last.split_at_mut(1);
        let (ts, run_by) = run.split_at_mut(8);
        let (instance, replid) = run_by.split_at_mut(1);
        high.fill(if (side == Side::Before) == anchor.is_empty() { HIGH } else { LOW });
        ts.copy_from_slice(&begun.bits().to_be_bytes());
        instance.fill(reign.instance.get());
        replid.copy_from_slice(reign.replid.as_bytes());
        if side == Side::After {
            flip(run);
        }
        if anchor.is_empty() {
            return Self(SmallVec::from_slice(&last));
        }
        let mut bytes = SmallVec::from_slice(anchor);
        bytes.extend_from_slice(&last);
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        if self.0.spilled() { self.0.capacity() } else { 0 }
    }

    /// Segments of its elements' positions.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.0.len() / SEGMENT + 1
    }

    /// The segments of the element that it is anchored at; none for an end of the list.
    #[must_use]
    pub fn anchor(&self) -> &[u8] {
        self.0.get(..self.0.len() - RUN - 1).unwrap_or_default()
    }

    /// Where it grows.
    #[must_use]
    pub fn side(&self) -> Side {
        let high = self.0.get(self.anchor().len()) == Some(&HIGH);
        if high == self.anchor().is_empty() { Side::Before } else { Side::After }
    }

    fn run(&self) -> [u8; RUN] {
        let mut run = self.0.last_chunk::<RUN>().copied().unwrap_or([0; RUN]);
        if self.side() == Side::After {
            flip(&mut run);
        }
        run
    }

    /// When it began; zero for the base.
    #[must_use]
    pub fn begun(&self) -> Timestamp {
        self.beginning().map_or(Timestamp::ZERO, |(_, begun)| begun)
    }

    /// Who began it; none for the base.
    #[must_use]
    pub fn reign(&self) -> Option<Reign> {
        self.beginning().map(|(reign, _)| reign)
    }

    /// Who began it, and when; none for the base.
    #[must_use]
    pub fn beginning(&self) -> Option<(Reign, Timestamp)> {
        let run = self.run();
        let instance = InstanceId::new(run[8])?;
        let begun = Timestamp::from_bits(u64::from_be_bytes(*run.first_chunk()?));
        Some((Reign { instance, replid: ReplId::from_bytes(*run.last_chunk()?) }, begun))
    }

    /// The name of one of its elements.
    #[must_use]
    pub fn element(&self, at: At) -> Name {
        let mut name = self.segments(at);
        name.push(ITSELF);
        name
    }

    /// The same as an anchor.
    #[must_use]
    pub fn segments(&self, at: At) -> Name {
        let mut name = Name::from_slice(&self.0);
        let from = name.len();
        name.extend_from_slice(&at.ts.bits().to_be_bytes());
        name.extend_from_slice(&at.index.to_be_bytes());
        if self.side() == Side::After {
            flip(name.get_mut(from..).unwrap_or_default());
        }
        name
    }

    /// Takes the name of an element apart.
    ///
    /// # Errors
    /// When it is none.
    pub fn split(name: &[u8]) -> Result<(Self, At), WireError> {
        const BROKEN: WireError = WireError::Invalid { what: "position of a list element" };
        let Some((&ITSELF, segments)) = name.split_last() else { return Err(BROKEN) };
        let (run, at) = segments.split_at_checked(segments.len().saturating_sub(AT)).ok_or(BROKEN)?;
        check_segments(segments)?;
        let run = Self(SmallVec::from_slice(run));
        let mut at: [u8; AT] = at.try_into().map_err(|_| BROKEN)?;
        if run.side() == Side::After {
            flip(&mut at);
        }
        let (ts, index) = at.split_at(8);
        let ts = Timestamp::from_bits(u64::from_be_bytes(ts.try_into().map_err(|_| BROKEN)?));
        Ok((run, At { ts, index: u32::from_be_bytes(index.try_into().map_err(|_| BROKEN)?) }))
    }
}

/// Checks the segments of a position from elsewhere: at least one.
///
/// # Errors
/// What is wrong.
pub fn check_segments(segments: &[u8]) -> Result<(), WireError> {
    const BROKEN: WireError = WireError::Invalid { what: "position of a list element" };
    let depth = segments.len() / SEGMENT;
    if depth == 0 || !segments.len().is_multiple_of(SEGMENT) {
        return Err(BROKEN);
    }
    if depth > DEPTH_MAX {
        return Err(WireError::TooLarge { what: "position", found: depth as u64, limit: DEPTH_MAX as u64 });
    }
    for (level, segment) in segments.chunks_exact(SEGMENT).enumerate() {
        let Some((&side, rest)) = segment.split_first() else { return Err(BROKEN) };
        let after = match (side, level) {
            (LOW, 0) | (HIGH, 1..) => true,
            (HIGH, 0) | (LOW, 1..) => false,
            _ => return Err(BROKEN),
        };
        let plain = |at: usize| rest.get(at).map(|byte| if after { !byte } else { *byte });
        let timestamp = |from: usize| plain(from).is_some_and(|highest| highest < 0x80);
        let is_base = !after && level == 0 && rest.iter().take(RUN + 8).all(|byte| *byte == 0);
        if !(is_base || plain(8).and_then(InstanceId::new).is_some() && timestamp(0) && timestamp(RUN)) {
            return Err(BROKEN);
        }
    }
    Ok(())
}

fn flip(bytes: &mut [u8]) {
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reign(id: u8) -> Reign {
        Reign { instance: InstanceId::new(id).unwrap(), replid: ReplId::from_bytes([id; 20]) }
    }

    fn ts(bits: u64) -> Timestamp {
        Timestamp::from_bits(bits)
    }

    fn at(bits: u64, index: u32) -> At {
        At { ts: ts(bits), index }
    }

    #[test]
    fn later_is_nearer_to_the_anchor_on_both_sides() {
        let (head, tail) =
            (RunName::new(&[], Side::After, ts(5), reign(1)), RunName::new(&[], Side::Before, ts(5), reign(1)));
        assert!(head.element(at(7, 0)) < head.element(at(6, 9)));
        assert!(head.element(at(6, 9)) < head.element(at(6, 8)));
        assert!(tail.element(at(6, 8)) < tail.element(at(6, 9)));
        assert!(head.element(at(1, 0)) < tail.element(at(1, 0)), "the head's side comes first");
        let later = RunName::new(&[], Side::After, ts(9), reign(1));
        assert!(later.element(at(9, 0)) < head.element(at(20, 0)), "runs do not mix, whatever comes later");
    }

    #[test]
    fn an_anchor_has_its_elements_around_it() {
        let root = RunName::new(&[], Side::Before, ts(5), reign(1));
        for run in [root, RunName::new(&[], Side::After, ts(5), reign(1))] {
            let anchor = run.segments(at(5, 1));
            let before = RunName::new(&anchor, Side::Before, ts(8), reign(2));
            let after = RunName::new(&anchor, Side::After, ts(8), reign(2));
            assert_eq!((before.side(), after.side(), after.depth()), (Side::Before, Side::After, 2));
            let mut ordered = vec![run.element(at(5, 0)), run.element(at(5, 1)), run.element(at(5, 2))];
            ordered.sort();
            ordered.insert(1, before.element(at(8, 0)));
            ordered.insert(3, after.element(at(8, 0)));
            assert!(ordered.is_sorted(), "{ordered:?}");
            assert_eq!(after.anchor(), &anchor[..]);
        }
    }

    #[test]
    fn names_come_apart_again() {
        for side in [Side::Before, Side::After] {
            let run = RunName::new(&[], side, ts(77), reign(3));
            let inner = RunName::new(&run.segments(at(78, 4)), side, ts(99), reign(9));
            for run in [run, inner] {
                assert_eq!(RunName::split(&run.element(at(99, 5))), Ok((run.clone(), at(99, 5))));
                assert_eq!((run.side(), run.reign().map(|r| r.instance.get() > 2)), (side, Some(true)));
                assert!(run.begun() == ts(77) || run.begun() == ts(99));
            }
        }
        let base = RunName::base();
        assert_eq!(RunName::split(&base.element(at(0, 5))), Ok((base.clone(), at(0, 5))));
        assert_eq!((base.side(), base.reign(), base.depth()), (Side::Before, None, 1));
    }

    #[test]
    fn broken_names_are_refused() {
        let run = RunName::new(&[], Side::Before, ts(77), reign(3));
        let name = run.element(at(78, 0));
        for len in 0..name.len() {
            assert!(RunName::split(&name[..len]).is_err(), "cut at {len}");
        }
        for (at, byte) in [(0, 1), (0, 3), (1, 0x80), (9, 0), (9, 64), (42, 0), (30, 0xff)] {
            let mut broken = name.clone();
            broken[at] = byte;
            assert!(RunName::split(&broken).is_err(), "{byte} at {at}");
        }
        let mut deep = Name::new();
        for _ in 0..=DEPTH_MAX {
            deep = RunName::new(&deep, Side::Before, ts(1), reign(1)).segments(at(1, 0));
        }
        assert!(matches!(check_segments(&deep), Err(WireError::TooLarge { .. })));
    }
}
