//! Registers by themselves, as effects carry them.

use smallvec::SmallVec;

use super::{COUNT, VALUE_MAX};

/// Some registers: 3 bytes each, little endian, the index in 14 bits, above it the value; by rising index, none of value 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers<'a>(&'a [u8]);

impl<'a> Registers<'a> {
    /// Bytes of all registers.
    pub const BYTES_MAX: usize = COUNT * 3;

    /// `None` when the bytes are no registers.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let (registers, rest) = bytes.as_chunks::<3>();
        let mut above = 0;
        let mut rises = |(index, value): (u16, u8)| {
            let is_next = usize::from(index) >= above;
            above = usize::from(index) + 1;
            is_next && (1..=VALUE_MAX).contains(&value)
        };
        let valid = rest.is_empty() && registers.iter().all(|bytes| bytes[2] & 0xf0 == 0 && rises(split(*bytes)));
        valid.then_some(Self(bytes))
    }

    /// As they are encoded.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Index and value of each.
    pub fn iter(self) -> impl Iterator<Item = (u16, u8)> + use<'a> {
        self.0.as_chunks::<3>().0.iter().map(|bytes| split(*bytes))
    }
}

const fn split(bytes: [u8; 3]) -> (u16, u8) {
    let both = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
    ((both & (COUNT as u32 - 1)) as u16, (both >> 14) as u8)
}

/// Encoded [`Registers`] in the making. A few take no memory of their own.
pub type RegisterBytes = SmallVec<[u8; 48]>;

/// The registers that elements raise.
#[must_use]
pub fn registers_of<'a>(elements: impl Iterator<Item = &'a [u8]>) -> RegisterBytes {
    encode_highest(elements.map(register_of).collect())
}

/// The highest of each, of encoded registers in any order, as many as there are.
#[must_use]
pub fn highest(bytes: &[u8]) -> RegisterBytes {
    encode_highest(bytes.as_chunks::<3>().0.iter().map(|bytes| split(*bytes)).collect())
}

fn encode_highest(mut raised: SmallVec<[(u16, u8); 16]>) -> RegisterBytes {
    raised.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    raised.dedup_by_key(|(index, _)| *index);
    encode_registers(raised.into_iter())
}

/// Encodes registers that come by rising index.
pub fn encode_registers(registers: impl Iterator<Item = (u16, u8)>) -> RegisterBytes {
    let mut bytes = RegisterBytes::new();
    for (index, value) in registers {
        bytes.extend_from_slice(&(u32::from(index) | u32::from(value) << 14).to_le_bytes()[..3]);
    }
    bytes
}

/// The register that an element raises, and how high: the zeros that its hash ends with behind the index, and one.
#[must_use]
pub fn register_of(element: &[u8]) -> (u16, u8) {
    /// Bits of the hash behind the index.
    const HASH_BITS: u32 = 50;
    let hash = hash(element);
    let rest = hash >> 14 | 1 << HASH_BITS;
    ((hash % COUNT as u64) as u16, rest.trailing_zeros() as u8 + 1)
}

/// MurmurHash64A with the seed that servers use.
fn hash(bytes: &[u8]) -> u64 {
    const SEED: u64 = 0xadc8_3b19;
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    let mix = |word: u64| {
        let word = word.wrapping_mul(M);
        (word ^ word >> 47).wrapping_mul(M)
    };
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(M);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = (hash ^ mix(u64::from_le_bytes(*word))).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let last = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        hash = (hash ^ last).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 47).wrapping_mul(M);
    hash ^ hash >> 47
}
