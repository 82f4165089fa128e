//! Positions in effects: a run once, then times in it (rule L5, docs/PROTOCOL.md 4).

use super::position::{ANCHOR_BYTES_MAX, At, Reign, RunName, Side, check_segments};
use crate::timestamp::Timestamp;
use crate::wire::{Reader, WireError, limits, writer};

/// A run as an effect names it: most runs are their author's own, at an end of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunRef<'a> {
    /// The segments of the element that it is anchored at; none for an end of the list.
    pub anchor: &'a [u8],
    /// Where it grows.
    pub side: Side,
    /// Who began it, and when.
    pub begun: Begun,
}

/// Who began a run, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// The effect's own group.
    Now,
    /// The effect's author, earlier in the same reign.
    Own(Timestamp),
    /// Another reign.
    Other(Reign, Timestamp),
    /// Nobody: the base.
    Base,
}

const AFTER: u8 = 1;
const NESTED: u8 = 2;
const OWN: u8 = 4;
const OTHER: u8 = 8;
const BASE: u8 = 12;
const BEGUN: u8 = 12;
/// Of a range: more than one time.
const MANY: u8 = 16;

impl<'a> RunRef<'a> {
    /// As `me` names it in a group at `now`.
    #[must_use]
    pub fn of(run: &'a RunName, me: Reign, now: Timestamp) -> Self {
        let begun = match run.beginning() {
            None => Begun::Base,
            Some((reign, begun)) if reign == me && begun == now => Begun::Now,
            Some((reign, begun)) if reign == me => Begun::Own(begun),
            Some((reign, begun)) => Begun::Other(reign, begun),
        };
        Self { anchor: run.anchor(), side: run.side(), begun }
    }

    /// The run, in a group of `author` at `now`.
    #[must_use]
    pub fn name(&self, author: Reign, now: Timestamp) -> RunName {
        match self.begun {
            Begun::Now => RunName::new(self.anchor, self.side, now, author),
            Begun::Own(begun) => RunName::new(self.anchor, self.side, begun, author),
            Begun::Other(reign, begun) => RunName::new(self.anchor, self.side, begun, reign),
            Begun::Base => RunName::base(),
        }
    }

    fn encode(&self, out: &mut Vec<u8>, flags: u8) {
        let side = if self.side == Side::After { AFTER } else { 0 };
        let nested = if self.anchor.is_empty() { 0 } else { NESTED };
        let begun = match self.begun {
            Begun::Now => 0,
            Begun::Own(_) => OWN,
            Begun::Other(..) => OTHER,
            Begun::Base => BASE,
        };
        out.push(flags | side | nested | begun);
        if !self.anchor.is_empty() {
            writer::prefixed(out, self.anchor);
        }
        match self.begun {
            Begun::Now | Begun::Base => {}
            Begun::Own(ts) => encode_timestamp(out, ts),
            Begun::Other(reign, ts) => {
                writer::instance(out, reign.instance);
                writer::replid(out, &reign.replid);
                encode_timestamp(out, ts);
            }
        }
    }

    fn decode(reader: &mut Reader<'a>, allowed: u8) -> Result<(Self, u8), WireError> {
        let flags = reader.u8("run")?;
        let known = AFTER | NESTED | BEGUN | allowed;
        if flags & !known != 0 {
            return Err(WireError::Code { what: "run", code: flags });
        }
        let mut anchor: &[u8] = &[];
        if flags & NESTED != 0 {
            anchor = reader.prefixed(ANCHOR_BYTES_MAX, "anchor")?;
            check_segments(anchor)?;
        }
        let side = if flags & AFTER == 0 { Side::Before } else { Side::After };
        let begun = match flags & BEGUN {
            0 => Begun::Now,
            OWN => Begun::Own(decode_timestamp(reader)?),
            OTHER => {
                let reign = Reign { instance: reader.instance("run")?, replid: reader.replid("run")? };
                Begun::Other(reign, decode_timestamp(reader)?)
            }
            _ if flags & (AFTER | NESTED) == 0 => Begun::Base,
            _ => return Err(WireError::Code { what: "run", code: flags }),
        };
        Ok((Self { anchor, side, begun }, flags & allowed))
    }

    /// Appends a run that its author inserts into.
    pub(crate) fn encode_own(&self, out: &mut Vec<u8>) {
        self.encode(out, 0);
    }

    /// Reads a run that its author inserts into: its own.
    pub(crate) fn decode_own(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let (run, _) = Self::decode(reader, 0)?;
        let is_own = matches!(run.begun, Begun::Now | Begun::Own(_));
        if is_own { Ok(run) } else { Err(WireError::Invalid { what: "run of an insert" }) }
    }
}

/// Elements of a run, from one time to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtRange<'a> {
    /// The run.
    pub run: RunRef<'a>,
    /// The earliest.
    pub from: At,
    /// The latest.
    pub to: At,
}

impl<'a> AtRange<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let (run, many) = RunRef::decode(reader, MANY)?;
        let from = decode_at(reader)?;
        let to = if many == 0 { from } else { decode_at(reader)? };
        if many != 0 && to <= from {
            return Err(WireError::Invalid { what: "range of list elements" });
        }
        Ok(Self { run, from, to })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let many = self.from != self.to;
        self.run.encode(out, if many { MANY } else { 0 });
        encode_at(out, self.from);
        if many {
            encode_at(out, self.to);
        }
    }
}

/// Ranges, encoded one after the other. Never empty in an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranges<'a> {
    count: u32,
    bytes: &'a [u8],
}

/// Values, encoded one after the other. Never empty in an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Values<'a> {
    count: u32,
    bytes: &'a [u8],
}

/// Appends one range to what [`Ranges::new`] takes.
pub fn push_range(out: &mut Vec<u8>, range: &AtRange<'_>) {
    range.encode(out);
}

/// A range that names no element: an effect with it only says that the key is a list, and nothing else.
#[must_use]
pub fn nothing() -> (u32, Vec<u8>) {
    let run = RunRef { anchor: &[], side: Side::Before, begun: Begun::Now };
    let never = At { ts: Timestamp::ZERO, index: 0 };
    let mut bytes = Vec::new();
    AtRange { run, from: never, to: never }.encode(&mut bytes);
    (1, bytes)
}

/// Appends one value to what [`Values::new`] takes.
pub fn push_value(out: &mut Vec<u8>, value: &[u8]) {
    writer::prefixed(out, value);
}

impl<'a> Ranges<'a> {
    /// What [`push_range`] has written.
    #[must_use]
    pub const fn new(count: u32, bytes: &'a [u8]) -> Self {
        Self { count, bytes }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = AtRange<'a>> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        (0..self.count).map_while(move |_| AtRange::decode(&mut reader).ok())
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        writer::varint(out, u64::from(self.count));
        out.extend_from_slice(self.bytes);
    }

    pub(crate) fn decode(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let (count, bytes) = several(reader, "ranges", |reader| AtRange::decode(reader).map(drop))?;
        Ok(Self { count, bytes })
    }
}

impl<'a> Values<'a> {
    /// What [`push_value`] has written.
    #[must_use]
    pub const fn new(count: u32, bytes: &'a [u8]) -> Self {
        Self { count, bytes }
    }

    /// How many.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.count
    }

    /// Whether there is none: not in an effect.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        (0..self.count).map_while(move |_| reader.prefixed(limits::VALUE_BYTES_MAX, "value").ok())
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        writer::varint(out, u64::from(self.count));
        out.extend_from_slice(self.bytes);
    }

    pub(crate) fn decode(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let one = |reader: &mut Reader<'a>| reader.prefixed(limits::VALUE_BYTES_MAX, "list element").map(drop);
        let (count, bytes) = several(reader, "list elements", one)?;
        Ok(Self { count, bytes })
    }
}

/// A count, and so many items: one at least.
fn several<'a>(
    reader: &mut Reader<'a>,
    what: &'static str,
    mut one: impl FnMut(&mut Reader<'a>) -> Result<(), WireError>,
) -> Result<(u32, &'a [u8]), WireError> {
    let count = reader.limited(u64::from(u32::MAX), what)? as u32;
    if count == 0 {
        return Err(WireError::Invalid { what });
    }
    let all = reader.rest();
    for _ in 0..count {
        one(reader)?;
    }
    Ok((count, all.get(..all.len() - reader.rest().len()).unwrap_or_default()))
}

fn encode_timestamp(out: &mut Vec<u8>, ts: Timestamp) {
    writer::varint(out, ts.ms());
    writer::varint(out, u64::from(ts.counter()));
}

fn decode_timestamp(reader: &mut Reader<'_>) -> Result<Timestamp, WireError> {
    let ms = reader.limited(Timestamp::MAX.ms(), "time of a list element")?;
    let counter = reader.limited(u64::from(u16::MAX), "time of a list element")?;
    Ok(Timestamp::from_bits(Timestamp::from_ms(ms).bits() | counter))
}

fn encode_at(out: &mut Vec<u8>, at: At) {
    encode_timestamp(out, at.ts);
    writer::varint(out, u64::from(at.index));
}

fn decode_at(reader: &mut Reader<'_>) -> Result<At, WireError> {
    let ts = decode_timestamp(reader)?;
    Ok(At { ts, index: reader.limited(u64::from(u32::MAX), "place of a list element")? as u32 })
}
