//! What differs between a string and what became of it.

use std::ops::Range;

use super::Patch;

/// Patches that make `now` of `before`, where a command does not say what it changes: the bits that differ, in runs. If those are too many, the
/// bytes that differ; if they are too many, too, what lies between the nearest of them is written with them. So the patches are never
/// many more bytes than the string, nor many for its length.
///
/// Zeros are taken for what is behind the end of `before`; where `now` is longer, its last byte is told in any case. Nothing for
/// equal strings; `None` if `now` is shorter, which no patch can say.
#[must_use]
pub fn difference<'a>(before: &[u8], now: &'a [u8]) -> Option<Vec<Patch<'a>>> {
    let most = most(now.len());
    let mut bits = Runs { runs: Vec::new(), most, is_told: true };
    let mut bytes = Spans { spans: Vec::new(), most, gap: 0 };
    differing(before, now, &mut |at, mask| {
        bits.add(at, mask);
        bytes.add(at);
    })?;
    if now.len() > before.len() && bytes.end() < now.len() {
        let last = now.len() - 1;
        bits.add(last, 1);
        bytes.add(last);
    }
    let of_bits = |(offset, count): (u64, u8)| {
        let window = now.get((offset / 8) as usize..).unwrap_or_default();
        Patch::bits_in(window, offset, count)
    };
    let of_bytes = |span: Range<usize>| {
        let offset = span.start as u64;
        Patch::Bytes { offset, bytes: now.get(span).unwrap_or_default() }
    };
    Some(if bits.is_told {
        bits.runs.into_iter().map(of_bits).collect()
    } else {
        bytes.spans.into_iter().map(of_bytes).collect()
    })
}

/// Patches of a string of so many bytes: what they cost beside it stays little.
fn most(len: usize) -> usize {
    const BYTES_FOR_EACH: usize = 64;
    (len / BYTES_FOR_EACH).clamp(128, 4096)
}

/// Visits the bytes that differ: where, and their bits. `None` if `now` is shorter.
fn differing(before: &[u8], now: &[u8], visit: &mut impl FnMut(usize, u8)) -> Option<()> {
    const BLOCK: usize = 4096;
    const ZEROS: &[u8; BLOCK] = &[0; BLOCK];
    let (kept, grown) = now.split_at_checked(before.len())?;
    let blocks = before.chunks(BLOCK).zip(kept.chunks(BLOCK));
    let grown = grown.chunks(BLOCK).map(|new| (ZEROS.get(..new.len()).unwrap_or_default(), new));
    let mut start = 0;
    for (old, new) in blocks.chain(grown) {
        // Most are equal, which is told fast.
        if old != new {
            let each = (start..).zip(old.iter().zip(new)).filter(|(_, (old, new))| old != new);
            each.for_each(|(at, (old, new))| visit(at, old ^ new));
        }
        start += new.len();
    }
    Some(())
}

/// Runs of 1 to 64 differing bits: offset and how many. Given up where there are too many.
struct Runs {
    runs: Vec<(u64, u8)>,
    most: usize,
    is_told: bool,
}

impl Runs {
    /// The bits of a byte, the highest first.
    fn add(&mut self, byte: usize, mask: u8) {
        if !self.is_told {
            return;
        }
        for bit in (0..8).filter(|bit| mask & (0x80 >> bit) != 0) {
            let offset = byte as u64 * 8 + bit;
            match self.runs.last_mut() {
                Some((from, count)) if *count < 64 && *from + u64::from(*count) == offset => *count += 1,
                _ => self.runs.push((offset, 1)),
            }
        }
        self.is_told = self.runs.len() <= self.most;
    }
}

/// Spans of bytes, those with no more than `gap` bytes between them joined, so that they are not too many.
struct Spans {
    spans: Vec<Range<usize>>,
    most: usize,
    gap: usize,
}

impl Spans {
    /// Behind the last one.
    fn end(&self) -> usize {
        self.spans.last().map_or(0, |last| last.end)
    }

    /// A byte behind all that were added.
    fn add(&mut self, at: usize) {
        match self.spans.last_mut() {
            Some(last) if at - last.end <= self.gap => last.end = at + 1,
            _ => self.spans.push(at..at + 1),
        }
        while self.spans.len() > self.most {
            self.gap = self.gap * 2 + 1;
            let gap = self.gap;
            self.spans.dedup_by(|next, last| {
                let is_near = next.start - last.end <= gap;
                last.end = if is_near { next.end } else { last.end };
                is_near
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Patch, difference, most};

    fn bits(offset: u64, count: u8, value: u64) -> Patch<'static> {
        Patch::Bits { offset, count, value }
    }

    /// What the patches make of the string.
    fn applied(before: &[u8], patches: &[Patch<'_>]) -> Vec<u8> {
        let mut text = before.to_vec();
        for patch in patches {
            let end = patch.end().unwrap() as usize;
            text.resize(text.len().max(end), 0);
            match *patch {
                Patch::Bytes { offset, bytes } => text[offset as usize..end].copy_from_slice(bytes),
                Patch::Bits { offset, count, value } => {
                    for bit in 0..u64::from(count) {
                        let (at, mask) = ((offset + bit) / 8, 0x80 >> ((offset + bit) % 8));
                        let is_set = value >> (u64::from(count) - 1 - bit) & 1 == 1;
                        let byte = &mut text[at as usize];
                        *byte = if is_set { *byte | mask } else { *byte & !mask };
                    }
                }
                _ => unreachable!("it has a place"),
            }
        }
        text
    }

    #[test]
    fn few_changes_are_told_as_the_bits_that_differ() {
        assert_eq!(difference(b"abc", b"abc"), Some(vec![]));
        assert_eq!(difference(b"abc", b"ab"), None, "shorter");
        assert_eq!(difference(&[0, 0], &[0x81, 0xc0]), Some(vec![bits(0, 1, 1), bits(7, 3, 7)]));
        assert_eq!(difference(&[0; 9], &[255; 9]), Some(vec![bits(0, 64, u64::MAX), bits(64, 8, 255)]));
        let (before, mut now) = (vec![7; 12 << 20], vec![7; 12 << 20]);
        now[9_999_999] = 6;
        assert_eq!(difference(&before, &now), Some(vec![bits(9_999_999 * 8 + 7, 1, 0)]));
    }

    #[test]
    fn what_is_longer_is_told_to_its_end() {
        assert_eq!(difference(b"", &[0, 2, 1]), Some(vec![bits(14, 1, 1), bits(23, 1, 1)]));
        assert_eq!(difference(b"", &[0, 2]), Some(vec![bits(14, 1, 1)]), "its last byte makes it so long");
        assert_eq!(difference(b"a", b"a\0"), Some(vec![bits(15, 1, 0)]));
        let (before, mut now) = (vec![7; 10_000], vec![7; 20_000]);
        now[9_999] = 6;
        now[10_000..].fill(0);
        let expected = vec![bits(9_999 * 8 + 7, 1, 0), bits(20_000 * 8 - 1, 1, 0)];
        assert_eq!(difference(&before, &now), Some(expected));
    }

    #[test]
    fn many_bits_are_told_as_bytes() {
        let now: Vec<u8> = std::iter::repeat_n([0x55; 40], 4).flat_map(|some| [&some[..], &[0; 40]].concat()).collect();
        let patches = difference(&[0; 320], &now).unwrap();
        let starts: Vec<_> = patches.iter().map(|patch| (patch.end().unwrap() - 40, patch.end().unwrap())).collect();
        assert_eq!(starts, [(0, 40), (80, 120), (160, 200), (240, 280)]);
        assert!(
            patches
                .iter()
                .all(|patch| *patch == Patch::Bytes { offset: patch.end().unwrap() - 40, bytes: &[0x55; 40] })
        );
    }

    /// However many bytes differ, and wherever.
    #[test]
    fn there_are_never_many_patches_nor_much_more_bytes_than_the_string() {
        let mut random = 1_u64;
        let mut next = move || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            random >> 33
        };
        for (len, one_in) in [(10, 1), (1000, 1), (1000, 3), (100_000, 2), (100_000, 50), (1 << 20, 9), (1 << 20, 300)]
        {
            for shorter in [0, 1, len / 2, len] {
                let now: Vec<u8> = (0..len).map(|_| if next() % one_in == 0 { next() as u8 } else { 0 }).collect();
                let before = vec![0; len - shorter];
                let patches = difference(&before, &now).unwrap();
                assert_eq!(applied(&before, &patches), now, "{len} {one_in} {shorter}");
                assert!(patches.len() <= most(len), "{len} {one_in}: {} patches", patches.len());
                let mut encoded = Vec::new();
                patches.iter().for_each(|patch| patch.encode(&mut encoded));
                assert!(encoded.len() <= len + 12 * patches.len(), "{len} {one_in}: {} bytes", encoded.len());
            }
        }
    }
}
