//! The sparse encoding: runs of equal registers.

use super::{CANONICAL_HEADER, COUNT, ENCODING, IS_SPARSE, Registers};

/// The canonical text is sparse up to this many registers: then it has at most 3000 bytes, a server's default
/// (`hll-sparse-max-bytes`). Not by its bytes, which may become fewer when a register is raised: who is dense stays so.
pub const REGISTERS_MAX: usize = 1370;
/// The highest register that the sparse encoding can say.
pub const VALUE_MAX: u8 = 32;

/// The longest run of a value, and the longest of zeros in one byte.
const RUN_MAX: usize = 4;
const ZEROS_MAX: usize = 64;

/// Equal registers side by side.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub len: usize,
    pub value: u8,
    /// Written in two bytes.
    long: bool,
}

/// The runs of a body; `None` where it ends within one.
pub struct Runs<'a>(pub &'a [u8]);

impl Iterator for Runs<'_> {
    type Item = Option<Run>;

    #[inline]
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

/// The canonical text of registers that come by rising index, if that is sparse.
pub fn text(registers: impl Iterator<Item = (u16, u8)>) -> Option<Vec<u8>> {
    let mut writer = Writer::new(64);
    registers.for_each(|(index, value)| writer.push(usize::from(index), value));
    writer.finish()
}

/// The canonical text of a body and higher registers, if that is sparse; `None` also of a broken body.
pub fn raised(body: &[u8], registers: Registers<'_>) -> Option<Vec<u8>> {
    let mut writer = Writer::new(body.len() + registers.bytes().len());
    let mut raised = registers.iter().map(|(index, value)| (usize::from(index), value)).peekable();
    let mut end = 0;
    for run in Runs(body) {
        let Run { len, value, .. } = run?;
        let start = end;
        end += len;
        if end > COUNT {
            return None;
        }
        // Zeros are what is not pushed.
        for index in if value > 0 { start..end } else { end..end } {
            while let Some((before, value)) = raised.next_if(|(at, _)| *at < index) {
                writer.push(before, value);
            }
            let here = raised.next_if(|(at, _)| *at == index);
            writer.push(index, here.map_or(value, |(_, higher)| value.max(higher)));
        }
    }
    raised.for_each(|(index, value)| writer.push(index, value));
    if end == COUNT { writer.finish() } else { None }
}

/// Whether the registers of a body are at least so high; of a broken body never.
pub fn has(body: &[u8], registers: Registers<'_>) -> bool {
    let mut wanted = registers.iter().peekable();
    let mut end = 0;
    for run in Runs(body) {
        let Some(Run { len, value, .. }) = run else { return false };
        end += len;
        while wanted.next_if(|(index, wanted)| usize::from(*index) < end && *wanted <= value).is_some() {}
        if wanted.peek().is_some_and(|(index, _)| usize::from(*index) < end) {
            return false;
        }
    }
    end == COUNT
}

/// Whether a body has all registers, and nothing behind them.
pub fn is_whole(body: &[u8]) -> bool {
    Runs(body).try_fold(0, |at, run| run.map(|run| at + run.len)) == Some(COUNT)
}

/// Whether a body that a server has written is canonical.
pub fn is_canonical(body: &[u8]) -> bool {
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
    raised <= REGISTERS_MAX
}

/// Writes the canonical text, register by register.
struct Writer {
    text: Vec<u8>,
    /// Behind the last register.
    end: usize,
    /// The last registers, equal ones that are not written yet.
    len: usize,
    value: u8,
    count: usize,
    highest: u8,
}

impl Writer {
    fn new(bytes: usize) -> Self {
        let mut text = Vec::with_capacity(CANONICAL_HEADER.len() + bytes);
        text.extend_from_slice(&CANONICAL_HEADER);
        text[ENCODING] = IS_SPARSE;
        Self { text, end: 0, len: 0, value: 0, count: 0, highest: 0 }
    }

    /// A register above 0 and behind all others.
    #[inline]
    fn push(&mut self, index: usize, value: u8) {
        if index > self.end || value != self.value || self.len == RUN_MAX {
            self.write_run();
            self.write_zeros(index - self.end);
            self.value = value;
        }
        self.len += 1;
        self.end = index + 1;
        self.count += 1;
        self.highest = self.highest.max(value);
    }

    fn write_run(&mut self) {
        if self.len > 0 {
            self.text.push(0x80 | self.value.wrapping_sub(1) << 2 | (self.len - 1) as u8);
            self.len = 0;
        }
    }

    fn write_zeros(&mut self, len: usize) {
        if len > ZEROS_MAX {
            self.text.extend_from_slice(&[0x40 | ((len - 1) >> 8) as u8, (len - 1) as u8]);
        } else if len > 0 {
            self.text.push((len - 1) as u8);
        }
    }

    fn finish(mut self) -> Option<Vec<u8>> {
        self.write_run();
        self.write_zeros(COUNT - self.end);
        (self.count <= REGISTERS_MAX && self.highest <= VALUE_MAX).then_some(self.text)
    }
}
