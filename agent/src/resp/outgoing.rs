//! Requests: RESP2 out.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// From this many bytes on a part is queued as it is; below, copying is cheaper than another `iovec`.
const SHARED_BYTES_MIN: usize = 4 << 10;
/// Most parts of one vectored write.
const PARTS_MAX: usize = 64;

/// What waits to be written to a connection: small pieces gathered, large ones shared.
#[derive(Debug, Default)]
pub struct Outgoing {
    parts: VecDeque<Bytes>,
    /// The youngest bytes, still growing.
    tail: BytesMut,
}

impl Outgoing {
    /// Queues a command.
    pub fn command(&mut self, args: &[&[u8]]) {
        self.header(b'*', args.len());
        args.iter().for_each(|arg| self.bulk(arg));
    }

    /// Queues a command whose last argument is the concatenation of `payload`.
    pub fn command_with_payload(&mut self, args: &[&[u8]], payload: &[Bytes]) {
        self.header(b'*', args.len() + 1);
        args.iter().for_each(|arg| self.bulk(arg));
        self.header(b'$', payload.iter().map(Bytes::len).sum());
        payload.iter().for_each(|part| self.part(part));
        self.tail.extend_from_slice(b"\r\n");
    }

    /// Whether everything has been taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.tail.is_empty()
    }

    /// The bytes to write next, for a vectored write.
    pub fn slices(&mut self) -> Vec<IoSlice<'_>> {
        self.seal();
        self.parts.iter().take(PARTS_MAX).map(|part| IoSlice::new(part)).collect()
    }

    /// Drops the first `written` bytes.
    pub fn advance(&mut self, mut written: usize) {
        while let Some(first) = self.parts.front_mut() {
            let taken = written.min(first.len());
            first.advance(taken);
            written -= taken;
            if !first.is_empty() {
                break;
            }
            self.parts.pop_front();
        }
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.parts.push_back(self.tail.split().freeze());
        }
    }

    fn part(&mut self, part: &Bytes) {
        if part.len() < SHARED_BYTES_MIN {
            self.tail.extend_from_slice(part);
        } else {
            self.seal();
            self.parts.push_back(part.clone());
        }
    }

    fn bulk(&mut self, arg: &[u8]) {
        self.header(b'$', arg.len());
        self.tail.extend_from_slice(arg);
        self.tail.extend_from_slice(b"\r\n");
    }

    fn header(&mut self, kind: u8, number: usize) {
        self.tail.extend_from_slice(&[kind]);
        self.tail.extend_from_slice(Decimal::of(number as u64).as_bytes());
        self.tail.extend_from_slice(b"\r\n");
    }
}

/// A number as decimal text, without allocating.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    digits: [u8; Self::DIGITS_MAX],
    start: usize,
}

impl Decimal {
    /// Digits of `u64::MAX`.
    const DIGITS_MAX: usize = 20;

    /// The digits of `number`.
    #[must_use]
    pub fn of(mut number: u64) -> Self {
        let mut digits = [b'0'; Self::DIGITS_MAX];
        let mut start = Self::DIGITS_MAX - 1;
        while number > 0 {
            digits[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number > 0 {
                start -= 1;
            }
        }
        Self { digits, start }
    }

    /// The text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes everything out, `step` bytes at a time.
    fn drain(out: &mut Outgoing, step: usize) -> Vec<u8> {
        let mut wire = Vec::new();
        while !out.is_empty() {
            let written: Vec<u8> = out.slices().iter().flat_map(|slice| slice.to_vec()).take(step).collect();
            out.advance(written.len());
            wire.extend(written);
        }
        wire
    }

    #[test]
    fn gathers_small_parts_and_shares_large_ones() {
        for step in [1, 7, 5000, usize::MAX] {
            let mut out = Outgoing::default();
            out.command(&[b"PING", b""]);
            let large = Bytes::from(vec![b'x'; 5000]);
            out.command_with_payload(&[b"A"], &[Bytes::from_static(b"ab"), large.clone(), Bytes::from_static(b"c")]);
            let expected =
                [b"*2\r\n$4\r\nPING\r\n$0\r\n\r\n*2\r\n$1\r\nA\r\n$5003\r\nab", &large[..], b"c\r\n"].concat();
            assert_eq!(drain(&mut out, step), expected);
        }
    }

    #[test]
    fn prints_numbers() {
        for number in [0, 7, 10, 99, 1_000_000, u64::MAX] {
            assert_eq!(Decimal::of(number).as_bytes(), number.to_string().as_bytes());
        }
    }
}
