//! HyperLogLogs as servers keep them in strings: which register an element raises, and one canonical text for given registers.
//!
//! A server's own text depends on the order of its adds, on its configuration and on whether somebody counted. Where sites merge
//! registers, all write the canonical one: sparse if that fits and can say it, else dense; the cached count invalid, and 0.

use smallvec::SmallVec;

/// Registers of a HyperLogLog (14 bits of the hash choose one).
pub const COUNT: usize = 1 << 14;

/// Bytes before the registers: magic, encoding, three unused, the cached count.
pub const HEADER: usize = 16;
/// Bytes of the dense encoding: 6 bits a register.
pub const DENSE: usize = HEADER + COUNT * 6 / 8;
/// The canonical text is sparse up to this many registers: then it has at most 3000 bytes, a server's default
/// (`hll-sparse-max-bytes`). Not by its bytes, which may become fewer when a register is raised: who is dense stays so.
const SPARSE_REGISTERS_MAX: usize = 1370;
/// The highest register that the sparse encoding can say.
const SPARSE_VALUE_MAX: u8 = 32;
/// The highest register there is.
const VALUE_MAX: u8 = 63;

/// The canonical header but for the encoding: the count is marked invalid by its highest bit.
const CANONICAL_HEADER: [u8; HEADER] = *b"HYLL\0\0\0\0\0\0\0\0\0\0\0\x80";
const ENCODING: usize = 4;
const IS_DENSE: u8 = 0;
const IS_SPARSE: u8 = 1;

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
    let mut raised: SmallVec<[(u16, u8); 16]> = elements.map(register_of).collect();
    raised.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    raised.dedup_by_key(|(index, _)| *index);
    encode_registers(raised.into_iter())
}

/// The higher of both, of each register.
#[must_use]
pub fn union(a: Registers<'_>, b: Registers<'_>) -> RegisterBytes {
    let mut all: Vec<(u16, u8)> = a.iter().chain(b.iter()).collect();
    all.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    all.dedup_by_key(|(index, _)| *index);
    encode_registers(all.into_iter())
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

/// A HyperLogLog with all registers at hand.
#[derive(Clone, PartialEq, Eq)]
pub struct HyperLogLog(Box<[u8; COUNT]>);

impl Default for HyperLogLog {
    fn default() -> Self {
        Self(Box::new([0; COUNT]))
    }
}

impl HyperLogLog {
    /// Reads a string as servers do; `None` when it is no HyperLogLog, or a broken one.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (header, body) = text.split_at_checked(HEADER)?;
        if !is_claimed(header) {
            return None;
        }
        let mut all = Self::default();
        match *header.get(ENCODING)? {
            IS_DENSE if text.len() == DENSE => all.read_dense(body),
            IS_SPARSE => all.read_sparse(body)?,
            _ => return None,
        }
        Some(all)
    }

    fn read_dense(&mut self, body: &[u8]) {
        for (four, bytes) in self.0.as_chunks_mut::<4>().0.iter_mut().zip(body.as_chunks::<3>().0) {
            *four = unpack(*bytes);
        }
    }

    fn read_sparse(&mut self, body: &[u8]) -> Option<()> {
        let mut at = 0;
        for run in Runs(body) {
            let Run { len, value, .. } = run?;
            self.0.get_mut(at..at + len)?.fill(value);
            at += len;
        }
        (at == COUNT).then_some(())
    }

    /// Raises registers.
    pub fn raise(&mut self, registers: Registers<'_>) {
        for (index, value) in registers.iter() {
            if let Some(known) = self.0.get_mut(usize::from(index)) {
                *known = value.max(*known);
            }
        }
    }

    /// Whether these registers are at least so high.
    #[must_use]
    pub fn has(&self, registers: Registers<'_>) -> bool {
        registers.iter().all(|(index, value)| self.0.get(usize::from(index)).is_some_and(|known| *known >= value))
    }

    /// The registers that are higher here than in `other`.
    #[must_use]
    pub fn above(&self, other: &Self) -> RegisterBytes {
        let pairs = (0_u16..).zip(self.0.iter().zip(other.0.iter()));
        encode_registers(pairs.filter(|(_, (own, known))| own > known).map(|(index, (own, _))| (index, *own)))
    }

    /// The canonical string.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        let is_sparse = !self.0.iter().any(|value| *value > SPARSE_VALUE_MAX)
            && self.0.iter().filter(|value| **value > 0).count() <= SPARSE_REGISTERS_MAX;
        if is_sparse { self.sparse() } else { self.dense() }
    }

    fn sparse(&self) -> Vec<u8> {
        let mut text = CANONICAL_HEADER.to_vec();
        text[ENCODING] = IS_SPARSE;
        for run in self.0.chunk_by(|a, b| a == b) {
            let (value, len) = (run[0], run.len());
            if value > 0 {
                let code = |len: usize| 0x80 | (value - 1) << 2 | (len - 1) as u8;
                text.extend(std::iter::repeat_n(code(RUN_MAX), len / RUN_MAX));
                text.extend((len % RUN_MAX > 0).then(|| code(len % RUN_MAX)));
            } else if len > ZEROS_MAX {
                text.extend_from_slice(&[0x40 | ((len - 1) >> 8) as u8, (len - 1) as u8]);
            } else {
                text.push((len - 1) as u8);
            }
        }
        text
    }

    fn dense(&self) -> Vec<u8> {
        let mut text = CANONICAL_HEADER.to_vec();
        text[ENCODING] = IS_DENSE;
        for four in self.0.as_chunks::<4>().0 {
            let packed = four.iter().rev().fold(0, |packed, value| packed << 6 | u32::from(*value));
            text.extend_from_slice(&packed.to_le_bytes()[..3]);
        }
        text
    }
}

impl std::fmt::Debug for HyperLogLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.0.iter().enumerate().filter(|(_, value)| **value > 0)).finish()
    }
}

/// Equal registers side by side, as the sparse encoding has them.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Run {
    len: usize,
    value: u8,
    /// Written in two bytes.
    long: bool,
}

/// The longest run of a value, and the longest of zeros in one byte.
const RUN_MAX: usize = 4;
const ZEROS_MAX: usize = 64;

/// The runs of a sparse body; `None` where it ends within one.
struct Runs<'a>(&'a [u8]);

impl Iterator for Runs<'_> {
    type Item = Option<Run>;

    fn next(&mut self) -> Option<Option<Run>> {
        let (code, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(match code >> 6 {
            0 => Some(Run { len: usize::from(*code) + 1, value: 0, long: false }),
            1 => self.0.split_first().map(|(low, rest)| {
                self.0 = rest;
                Run { len: (usize::from(code & 0x3f) << 8 | usize::from(*low)) + 1, value: 0, long: true }
            }),
            _ => Some(Run { len: usize::from(code & 3) + 1, value: (code >> 2 & 0x1f) + 1, long: false }),
        })
    }
}

/// Whether a string is one that only registers change: it begins like a HyperLogLog, broken or not. Writes to its bytes are not merged
/// with them; see docs/SEMANTICS.md.
#[must_use]
pub fn is_claimed(text: &[u8]) -> bool {
    text.starts_with(b"HYLL")
}

/// Whether a HyperLogLog that a server has written is the canonical text, told without unpacking it.
#[must_use]
pub fn is_canonical(text: &[u8]) -> bool {
    let Some((header, body)) = text.split_first_chunk::<HEADER>() else { return false };
    let mut canonical = CANONICAL_HEADER;
    canonical[ENCODING] = header[ENCODING];
    if *header != canonical {
        return false;
    }
    if header[ENCODING] == IS_DENSE {
        return text.len() == DENSE && is_rightly_dense(body);
    }
    let (mut raised, mut before) = (0, None);
    for run in Runs(body) {
        let Some(run) = run else { return false };
        let joins = |before: Run| before.value == run.value && (run.value == 0 || before.len < RUN_MAX);
        if run.long != (run.value == 0 && run.len > ZEROS_MAX) || before.is_some_and(joins) {
            return false;
        }
        raised += if run.value > 0 { run.len } else { 0 };
        before = Some(run);
    }
    raised <= SPARSE_REGISTERS_MAX
}

/// A full one shows it at once.
fn is_rightly_dense(body: &[u8]) -> bool {
    let mut raised = 0;
    body.as_chunks::<3>().0.iter().any(|bytes| {
        let four = unpack(*bytes);
        raised += four.iter().filter(|value| **value > 0).count();
        raised > SPARSE_REGISTERS_MAX || four.iter().any(|value| *value > SPARSE_VALUE_MAX)
    })
}

fn unpack(bytes: [u8; 3]) -> [u8; 4] {
    let packed = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
    std::array::from_fn(|at| (packed >> (6 * at)) as u8 & VALUE_MAX)
}

/// Whether a string of this length that begins so is a dense HyperLogLog in canonical form but for its registers.
#[must_use]
pub fn is_canonical_dense(header: &[u8], len: u64) -> bool {
    len == DENSE as u64 && *header == CANONICAL_HEADER
}

/// Where a register is in the dense encoding: the first of its two bytes, and how far it is shifted up there.
#[must_use]
pub const fn dense_place(index: u16) -> (usize, u32) {
    let bit = index as usize * 6;
    (HEADER + bit / 8, (bit % 8) as u32)
}

/// Raises a register in its two bytes; whether it was lower.
pub fn raise_dense(bytes: &mut [u8; 2], shift: u32, value: u8) -> bool {
    let packed = u16::from_le_bytes(*bytes);
    let known = (packed >> shift) as u8 & VALUE_MAX;
    let raised = packed & !(u16::from(VALUE_MAX) << shift) | u16::from(value) << shift;
    if value > known {
        *bytes = raised.to_le_bytes();
    }
    value > known
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Strings that Redis 8.2.3 made: `PFADD k a b c` (CAPTURE.md), and `PFADD k` without elements.
    const ABC: &[u8] = b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80`\xf3\x80P\xb1\x84K\xfb\x80BZ";
    const NONE: &[u8] = b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80\x7f\xff";

    fn of(elements: &[&[u8]]) -> HyperLogLog {
        let mut all = HyperLogLog::default();
        let bytes = registers_of(elements.iter().copied());
        all.raise(Registers::new(&bytes).expect("registers"));
        all
    }

    #[test]
    fn elements_raise_the_registers_that_servers_raise() {
        assert_eq!(of(&[b"a", b"b", b"c"]).text(), ABC);
        assert_eq!(of(&[]).text(), NONE);
        assert_eq!(HyperLogLog::parse(ABC), Some(of(&[b"c", b"a", b"b", b"a"])));
    }

    #[test]
    fn both_encodings_read_back() {
        let names: Vec<String> = (0..20_000).map(|i| format!("element {i}")).collect();
        for some in [10, 500, 1500, 20_000] {
            let names: Vec<&[u8]> = names[..some].iter().map(|name| name.as_bytes()).collect();
            let all = of(&names);
            let text = all.text();
            assert_eq!(text.len() == DENSE, some >= 1500, "{some}");
            assert!(is_canonical(&text), "{some}");
            assert!(text.len() <= HEADER + 3000 || text.len() == DENSE);
            let other = if text.len() == DENSE { all.sparse() } else { all.dense() };
            assert!(!is_canonical(&other), "{some}");
            assert_eq!(HyperLogLog::parse(&text), Some(all.clone()));
            assert_eq!(HyperLogLog::parse(&other), Some(all));
        }
    }

    #[test]
    fn registers_are_raised_in_place() {
        let (all, more) = (of(&[b"a", b"b", b"c"]), registers_of([b"x".as_slice(), b"y", b"a"].into_iter()));
        let mut dense = all.dense();
        for (index, value) in Registers::new(&more).unwrap().iter() {
            let (at, shift) = dense_place(index);
            let mut bytes = [dense[at], dense.get(at + 1).copied().unwrap_or_default()];
            if raise_dense(&mut bytes, shift, value) {
                dense[at] = bytes[0];
                if let Some(second) = dense.get_mut(at + 1) {
                    *second = bytes[1];
                }
            }
        }
        assert_eq!(HyperLogLog::parse(&dense), Some(of(&[b"a", b"b", b"c", b"x", b"y"])));
    }

    #[test]
    fn other_texts_of_the_same_registers_are_told() {
        let header = &NONE[..HEADER];
        let long = |len: usize| [0x40 | ((len - 1) >> 8) as u8, (len - 1) as u8];
        let canonical = [header, &[0x80 | 1], &long(COUNT - 2)].concat();
        assert!(is_canonical(&canonical));
        for other in [
            [header, &[0x80, 0x80], &long(COUNT - 2)].concat(),
            [header, &[0x80 | 1, 0], &long(COUNT - 3)].concat(),
            [header, &[0x80 | 1], &long(1), &long(COUNT - 3)].concat(),
        ] {
            assert!(!is_canonical(&other));
            assert_eq!(HyperLogLog::parse(&other).map(|all| all.text()), Some(canonical.clone()));
        }
        let counted = [b"HYLL\x01\0\0\0\x02\0\0\0\0\0\0\0", &canonical[HEADER..]].concat();
        assert!(!is_canonical(&counted) && !is_canonical(b"") && !is_canonical(b"HYLL"));
    }

    #[test]
    fn what_is_no_hyperloglog_is_refused() {
        assert_eq!(HyperLogLog::parse(b""), None);
        assert_eq!(HyperLogLog::parse(b"HYLL"), None);
        assert_eq!(HyperLogLog::parse(&ABC[..ABC.len() - 1]), None, "registers are missing");
        assert_eq!(HyperLogLog::parse(&[ABC, b"\0"].concat()), None, "one too many");
        assert_eq!(HyperLogLog::parse(b"HYLL\x02\0\0\0\0\0\0\0\0\0\0\x80\x7f\xff"), None, "no such encoding");
        assert_eq!(HyperLogLog::parse(&of(&[b"a"]).dense()[1..]), None);
        for bad in [&[0_u8, 0][..], &[0, 0, 0], &[1, 64, 0, 1, 64, 0], &[2, 64, 0, 1, 64, 0], &[1, 64, 16]] {
            assert_eq!(Registers::new(bad), None, "{bad:?}");
        }
    }
}
