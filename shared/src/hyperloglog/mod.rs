//! HyperLogLogs as servers keep them in strings: which register an element raises, and one canonical text for given registers.
//!
//! A server's own text depends on the order of its adds, on its configuration and on whether somebody counted. Where sites merge
//! registers, all write the canonical one: sparse if that fits and can say it, else dense; the cached count invalid, and 0.

mod registers;
mod sparse;

pub use registers::{RegisterBytes, Registers, encode_registers, highest, register_of, registers_of};

/// Registers of a HyperLogLog (14 bits of the hash choose one).
pub const COUNT: usize = 1 << 14;

/// What they begin with.
pub const MAGIC: &[u8; 4] = b"HYLL";
/// Bytes before the registers: magic, encoding, three unused, the cached count.
pub const HEADER: usize = 16;
/// Bytes of the dense encoding: 6 bits a register.
pub const DENSE: usize = HEADER + COUNT * 6 / 8;
/// The highest register there is.
const VALUE_MAX: u8 = 63;

/// The canonical header but for the encoding: the count is marked invalid by its highest bit.
const CANONICAL_HEADER: [u8; HEADER] = *b"HYLL\0\0\0\0\0\0\0\0\0\0\0\x80";
const ENCODING: usize = 4;
const IS_DENSE: u8 = 0;
const IS_SPARSE: u8 = 1;

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
        for run in sparse::Runs(body) {
            let sparse::Run { len, value, .. } = run?;
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
    #[cfg(test)]
    fn has(&self, registers: Registers<'_>) -> bool {
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
        self.sparse().unwrap_or_else(|| self.dense())
    }

    fn sparse(&self) -> Option<Vec<u8>> {
        let registers = (0_u16..).zip(self.0.iter().copied());
        sparse::text(registers.filter(|(_, value)| *value > 0))
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

/// Whether a string is one that only registers change: it begins like a HyperLogLog, broken or not. Writes to its bytes are not merged
/// with them; see docs/SEMANTICS.md.
#[must_use]
pub fn is_claimed(text: &[u8]) -> bool {
    text.starts_with(MAGIC)
}

/// Whether [`HyperLogLog::parse`] reads it, told without unpacking it. Servers raise registers of broken ones, too.
#[must_use]
pub fn is_whole(text: &[u8]) -> bool {
    let Some((header, body)) = text.split_first_chunk::<HEADER>() else { return false };
    match header[ENCODING] {
        _ if !is_claimed(header) => false,
        IS_DENSE => text.len() == DENSE,
        IS_SPARSE => sparse::is_whole(body),
        _ => false,
    }
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
    sparse::is_canonical(body)
}

/// Whether so many registers, or so high ones, are not sparse. A part that says so says it of the whole.
fn is_rightly_dense(body: &[u8]) -> bool {
    let mut raised = 0;
    let is_full = body.as_chunks::<6>().0.iter().any(|bytes| {
        raised += count_raised(*bytes);
        raised > sparse::REGISTERS_MAX
    });
    let is_high = |bytes: &[u8; 3]| unpack(*bytes).iter().any(|value| *value > sparse::VALUE_MAX);
    is_full || body.as_chunks::<3>().0.iter().any(is_high)
}

/// How many of eight registers are above 0.
const fn count_raised(bytes: [u8; 6]) -> usize {
    /// The lowest bit of each.
    const LOWEST: u64 = 0o0101_0101_0101_0101;
    let [a, b, c, d, e, f] = bytes;
    let packed = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
    // Each gets its bits together at its lowest; what comes from the next one up is masked.
    let pairs = packed | packed >> 1;
    let threes = pairs | packed >> 2;
    ((threes | threes >> 3) & LOWEST).count_ones() as usize
}

fn unpack(bytes: [u8; 3]) -> [u8; 4] {
    let packed = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
    std::array::from_fn(|at| (packed >> (6 * at)) as u8 & VALUE_MAX)
}

/// The canonical text of registers.
#[must_use]
pub fn text(registers: Registers<'_>) -> Vec<u8> {
    sparse::text(registers.iter()).unwrap_or_else(|| {
        let mut all = HyperLogLog::default();
        all.raise(registers);
        all.text()
    })
}

/// The canonical text of a HyperLogLog and higher registers; `None` when that is its text already, or when it is none. Costs by what
/// the text has and the registers are, but where it becomes dense.
#[must_use]
pub fn raised(text: &[u8], registers: Registers<'_>) -> Option<Vec<u8>> {
    let is_sparse = is_claimed(text) && text.get(ENCODING) == Some(&IS_SPARSE);
    let sparse = text.get(HEADER..).filter(|_| is_sparse).and_then(|body| sparse::raised(body, registers));
    let raised = sparse.or_else(|| {
        let mut all = HyperLogLog::parse(text)?;
        all.raise(registers);
        Some(all.text())
    });
    raised.filter(|raised| raised != text)
}

/// Whether the text is a HyperLogLog whose registers are at least so high.
#[must_use]
pub fn has(text: &[u8], registers: Registers<'_>) -> bool {
    let Some((header, body)) = text.split_first_chunk::<HEADER>() else { return false };
    match header[ENCODING] {
        _ if !is_claimed(header) => false,
        IS_DENSE if text.len() == DENSE => registers.iter().all(|(index, value)| dense_register(text, index) >= value),
        IS_SPARSE => sparse::has(body, registers),
        _ => false,
    }
}

fn dense_register(text: &[u8], index: u16) -> u8 {
    let (at, shift) = dense_place(index);
    let byte = |at: usize| text.get(at).copied().unwrap_or_default();
    (u16::from_le_bytes([byte(at), byte(at + 1)]) >> shift) as u8 & VALUE_MAX
}

/// Whether a string of this length that begins so is a dense HyperLogLog in canonical form but for its registers.
#[must_use]
pub fn is_canonical_dense(header: &[u8], len: u64) -> bool {
    len == DENSE as u64 && *header == CANONICAL_HEADER
}

/// Bytes at the beginning of a full dense one that show it.
pub const DENSE_SHOWN_BY: usize = 2048;

/// Whether a string of this length that begins so is the canonical text, whatever comes behind.
#[must_use]
pub fn begins_canonical_dense(beginning: &[u8], len: u64) -> bool {
    let body = beginning.split_at_checked(HEADER).filter(|(header, _)| is_canonical_dense(header, len));
    body.is_some_and(|(_, body)| is_rightly_dense(body))
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

    /// Redis 8.2.3 takes `PFADD` of such a one, as long as the registers are in front of what is too much.
    #[test]
    fn what_is_broken_is_not_whole() {
        let behind = [ABC, b"x"].concat();
        for (text, whole) in [(ABC, true), (NONE, true), (&behind, false), (&ABC[..20], false), (b"HYLL", false)] {
            assert_eq!((is_whole(text), HyperLogLog::parse(text).is_some()), (whole, whole), "{}", text.escape_ascii());
        }
        let dense = of(&[b"a"]).dense();
        assert!(is_whole(&dense) && !is_whole(&dense[..DENSE - 1]));
    }

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
            let counted = [&text[..8], &[1], &text[9..]].concat();
            let other = if text.len() == DENSE { counted } else { all.dense() };
            assert!(!is_canonical(&other), "{some}");
            assert_eq!(HyperLogLog::parse(&text), Some(all.clone()));
            assert_eq!(HyperLogLog::parse(&other), Some(all));
        }
    }

    #[test]
    fn registers_are_raised_without_unpacking() {
        let mut random = 1_u32;
        let mut raised = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Many side by side, of few values.
            let (index, value) = (random >> 18, 1 + (random >> 10 & 0x1f) / 12);
            (index as u16, value as u8)
        };
        let (mut all, mut text) = (HyperLogLog::default(), NONE.to_vec());
        while text.len() < DENSE {
            let some: std::collections::BTreeMap<u16, u8> = (0..7).map(|_| raised()).collect();
            let bytes = encode_registers(some.into_iter());
            let some = Registers::new(&bytes).expect("registers");
            let is_known = all.has(some);
            assert_eq!(has(&text, some), is_known);
            all.raise(some);
            let more = super::raised(&text, some);
            assert_eq!(more.is_none(), is_known);
            text = more.unwrap_or(text);
            assert_eq!(text, all.text());
            assert!(has(&text, some) && has(&all.dense(), some));
            assert_eq!(super::raised(&all.dense(), some).unwrap_or_else(|| all.dense()), text);
        }
        let bytes = encode_registers((0_u16..).zip(all.0.iter().copied()).filter(|(_, value)| *value > 0));
        assert_eq!(super::text(Registers::new(&bytes).unwrap()), text);
        assert!(begins_canonical_dense(&text, DENSE as u64));
        let zeros = HyperLogLog::default().dense();
        assert!(!begins_canonical_dense(&zeros, DENSE as u64) && !is_canonical(&zeros));
        for bytes in text[HEADER..].as_chunks::<6>().0 {
            let [a, b, c, d, e, f] = *bytes;
            let eight = [unpack([a, b, c]), unpack([d, e, f])].concat();
            assert_eq!(count_raised(*bytes), eight.iter().filter(|value| **value > 0).count());
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
        let some = registers_of([b"x".as_slice()].into_iter());
        let some = Registers::new(&some).unwrap();
        for broken in [b"".as_slice(), b"HYLL", b"abc", &ABC[..ABC.len() - 1], &[ABC, b"\0"].concat(), &ABC[1..]] {
            assert_eq!(super::raised(broken, some), None);
            assert!(!has(broken, some));
        }
        for bad in [&[0_u8, 0][..], &[0, 0, 0], &[1, 64, 0, 1, 64, 0], &[2, 64, 0, 1, 64, 0], &[1, 64, 16]] {
            assert_eq!(Registers::new(bad), None, "{bad:?}");
        }
    }
}
