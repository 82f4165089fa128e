//! Patches: changes of a string in part. Concurrent ones at different places both stay (docs/SEMANTICS.md).

mod difference;

pub use difference::difference;

use crate::decimal::Decimal;
use crate::hyperloglog::{self, Registers};
use crate::number::Number;
use crate::wire::{Reader, WireError, limits, writer};

/// A change of a part of a string.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Patch<'a> {
    /// `SETRANGE`: these bytes at this offset; zeros before it if the string is shorter.
    Bytes {
        /// In bytes.
        offset: u64,
        /// At least one.
        bytes: &'a [u8],
    },
    /// `SETBIT`, `BITFIELD`: bits, the highest of `value` first. Bit 0 is the highest of the first byte.
    Bits {
        /// In bits.
        offset: u64,
        /// 1 to 64.
        count: u8,
        /// The bits; those above `count` are 0.
        value: u64,
    },
    /// `APPEND`: at least one byte behind all that precedes it in effect order.
    Append(&'a [u8]),
    /// `PFADD`, `PFMERGE`: registers of a HyperLogLog that are at least so high.
    Registers(Registers<'a>),
}

/// What a string was before a patch, as far as it matters: increments may count on a short one, and on a number; of others only the
/// length is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prior<'a> {
    /// All of it; nothing if it was not there.
    Text(&'a [u8]),
    /// How long it was.
    Length(u64),
}

impl<'a> Prior<'a> {
    /// Of what was not there.
    pub const NONE: Self = Self::Text(&[]);
    /// A string of so many bytes is no number, whatever is in it.
    pub const TEXT_MAX: usize = Number::TEXT_BYTES_MAX;
    /// Up to this length it costs little to know all.
    const SHORT_MAX: usize = 64;

    /// Of a string of at most [`Prior::TEXT_MAX`] bytes; longer ones are a [`Prior::Length`].
    #[must_use]
    pub fn of(text: &'a [u8]) -> Self {
        let is_known = text.len() <= Self::SHORT_MAX || Decimal::parse(text).is_some();
        if is_known { Prior::Text(text) } else { Prior::Length(text.len() as u64) }
    }

    /// Bytes of the string.
    #[must_use]
    pub const fn length(&self) -> u64 {
        match self {
            Prior::Text(text) => text.len() as u64,
            Prior::Length(len) => *len,
        }
    }

    /// Appends its encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Prior::Text(text) => {
                writer::varint(out, (text.len() as u64) << 1 | 1);
                out.extend_from_slice(text);
            }
            Prior::Length(len) => writer::varint(out, len << 1),
        }
    }

    /// Reads one off the front.
    ///
    /// # Errors
    /// See [`WireError`].
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let code = reader.limited((limits::VALUE_BYTES_MAX as u64) << 1, "length before")?;
        match code & 1 {
            0 => Ok(Prior::Length(code >> 1)),
            _ if code >> 1 <= Self::TEXT_MAX as u64 => {
                reader.take((code >> 1) as usize, "text before").map(Prior::Text)
            }
            _ => Err(WireError::Invalid { what: "text before" }),
        }
    }
}

const BYTES: u8 = 1;
const BITS: u8 = 2;
const APPEND: u8 = 3;
const REGISTERS: u8 = 4;

/// Bytes that a patch may make a string long: what servers allow by default (`proto-max-bulk-len`). Longer strings are captured whole.
pub const REACH_MAX: u64 = 512 << 20;

impl<'a> Patch<'a> {
    /// The byte behind the last one that it writes; `None` for those without a place of their own.
    #[must_use]
    pub const fn end(&self) -> Option<u64> {
        match self {
            Patch::Bytes { offset, bytes } => Some(offset.saturating_add(bytes.len() as u64)),
            Patch::Bits { offset, count, .. } => Some(offset.saturating_add(*count as u64).div_ceil(8)),
            Patch::Append(_) | Patch::Registers(_) => None,
        }
    }

    /// Whether its place is within what receivers take.
    #[must_use]
    pub fn is_in_reach(&self) -> bool {
        self.end().is_none_or(|end| end <= REACH_MAX)
    }

    /// The bits of a string that `BITFIELD` has written: `window` is what is at their bytes now, less where the string ends.
    #[must_use]
    pub fn bits_in(window: &[u8], offset: u64, count: u8) -> Self {
        let byte = |at: usize| u128::from(window.get(at).copied().unwrap_or_default());
        let word = (0..16).fold(0, |word, at| word << 8 | byte(at));
        let aligned = word << (offset % 8);
        let value = aligned.checked_shr(128 - u32::from(count)).unwrap_or_default() as u64;
        Patch::Bits { offset, count, value }
    }

    /// Whether it writes one of the first bytes, by which a HyperLogLog is known.
    #[must_use]
    pub fn is_at_start(&self, prior: Prior<'_>) -> bool {
        const MAGIC: u64 = hyperloglog::MAGIC.len() as u64;
        match self {
            Patch::Bytes { offset, .. } => *offset < MAGIC,
            Patch::Bits { offset, .. } => *offset < MAGIC * 8,
            Patch::Append(_) => prior.length() < MAGIC,
            Patch::Registers(_) => false,
        }
    }

    /// Appends its encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Patch::Bytes { offset, bytes } => {
                out.push(BYTES);
                writer::varint(out, offset);
                writer::prefixed(out, bytes);
            }
            Patch::Bits { offset, count, value } => {
                out.push(BITS);
                writer::varint(out, offset);
                out.push(count);
                writer::varint(out, value);
            }
            Patch::Append(bytes) => {
                out.push(APPEND);
                writer::prefixed(out, bytes);
            }
            Patch::Registers(registers) => {
                out.push(REGISTERS);
                writer::prefixed(out, registers.bytes());
            }
        }
    }

    /// Reads one off the front.
    ///
    /// # Errors
    /// See [`WireError`]: it is out of reach, empty, or not in its only form.
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let patch = match reader.u8("patch")? {
            BYTES => {
                let offset = reader.limited(REACH_MAX, "offset")?;
                Patch::Bytes { offset, bytes: filled(reader, "patch")? }
            }
            BITS => {
                let offset = reader.limited(REACH_MAX * 8, "bit offset")?;
                let count = reader.u8("bits")?;
                let value = reader.varint("bits")?;
                let fits = matches!(count, 1..=63) && value >> count == 0 || count == 64;
                if !fits {
                    return Err(WireError::Invalid { what: "bits" });
                }
                Patch::Bits { offset, count, value }
            }
            // Of nothing, too: it makes the key.
            APPEND => Patch::Append(reader.prefixed(limits::VALUE_BYTES_MAX, "appended bytes")?),
            REGISTERS => {
                let bytes = reader.prefixed(Registers::BYTES_MAX, "registers")?;
                Patch::Registers(Registers::new(bytes).ok_or(WireError::Invalid { what: "registers" })?)
            }
            code => return Err(WireError::Code { what: "patch", code }),
        };
        if patch.is_in_reach() { Ok(patch) } else { Err(WireError::Invalid { what: "place of a patch" }) }
    }
}

fn filled<'a>(reader: &mut Reader<'a>, what: &'static str) -> Result<&'a [u8], WireError> {
    let bytes = reader.prefixed(limits::VALUE_BYTES_MAX, what)?;
    if bytes.is_empty() { Err(WireError::Invalid { what }) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::{Patch, REACH_MAX};
    use crate::wire::Reader;

    fn decode(bytes: &[u8]) -> Result<Patch<'_>, crate::wire::WireError> {
        let mut reader = Reader::new(bytes);
        let patch = Patch::decode(&mut reader)?;
        reader.finish()?;
        Ok(patch)
    }

    #[test]
    fn encodings_read_back() {
        let registers = [5, 0, 4, 6, 0, 8];
        let patches = [
            Patch::Bytes { offset: 7, bytes: b"ab" },
            Patch::Bytes { offset: REACH_MAX - 1, bytes: b"z" },
            Patch::Bits { offset: REACH_MAX * 8 - 1, count: 1, value: 1 },
            Patch::Bits { offset: 3, count: 64, value: u64::MAX },
            Patch::Append(b"x"),
            Patch::Append(b""),
            Patch::Registers(crate::hyperloglog::Registers::new(&registers).unwrap()),
            Patch::Registers(crate::hyperloglog::Registers::new(&[]).unwrap()),
        ];
        for patch in patches {
            let mut bytes = Vec::new();
            patch.encode(&mut bytes);
            assert_eq!(decode(&bytes), Ok(patch));
            for cut in 0..bytes.len() {
                assert!(decode(&bytes[..cut]).is_err(), "{patch:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn bits_are_read_where_bitfield_wrote_them() {
        let text = [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x0f];
        let bits = |at: usize, offset, count| match Patch::bits_in(&text[at..], offset, count) {
            Patch::Bits { value, .. } => value,
            _ => unreachable!("it makes bits"),
        };
        assert_eq!(bits(0, 0, 8), 0x12);
        assert_eq!(bits(1, 12, 12), 0x456);
        assert_eq!(bits(0, 0, 64), 0x1234_5678_9abc_def0);
        assert_eq!(bits(0, 4, 64), 0x2345_6789_abcd_ef00);
        assert_eq!(bits(0, 3, 1), 1);
        assert_eq!(bits(8, 68, 8), 0xf0, "zeros behind the end");
    }

    #[test]
    fn what_is_out_of_reach_empty_or_loose_is_refused() {
        let refused = |patch: Patch<'_>| {
            let mut bytes = Vec::new();
            patch.encode(&mut bytes);
            decode(&bytes).is_err()
        };
        assert!(refused(Patch::Bytes { offset: REACH_MAX, bytes: b"z" }));
        assert!(refused(Patch::Bytes { offset: u64::MAX, bytes: b"z" }));
        assert!(refused(Patch::Bytes { offset: 0, bytes: b"" }));
        assert!(refused(Patch::Bits { offset: REACH_MAX * 8 - 1, count: 2, value: 1 }));
        assert!(refused(Patch::Bits { offset: 0, count: 0, value: 0 }));
        assert!(refused(Patch::Bits { offset: 0, count: 65, value: 0 }));
        assert!(refused(Patch::Bits { offset: 0, count: 3, value: 8 }));
    }
}
