//! Chunks that wait to be applied.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use syncer_shared::group::{Frame, encode_skip};

/// Bytes of the length prefix of a frame.
const PREFIX_BYTES: usize = 4;
/// Skip frames are shorter than this, groups are mostly longer.
const SKIP_BYTES_MAX: usize = 32;

/// Whole frames between two offsets of the source's backlog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where they begin.
    pub from: u64,
    /// Where what follows them begins.
    pub next: u64,
    /// The frames; their extents add up to `next - from`.
    pub frames: Bytes,
}

/// Pieces in order, each beginning where the one before ended.
#[derive(Debug, Default)]
pub struct Queue {
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// How many pieces hold groups.
    groups: usize,
}

/// How far a frame reaches.
struct Extent {
    /// Bytes of the frame itself.
    len: usize,
    /// Bytes of backlog that it stands for: more than `len` for a skip frame.
    advance: u64,
}

impl Extent {
    /// Of the frame that `bytes` begins with; `None` when it isn't whole. Checks nothing: the target does.
    fn of(bytes: &[u8]) -> Option<Self> {
        let prefix: [u8; PREFIX_BYTES] = bytes.get(..PREFIX_BYTES)?.try_into().ok()?;
        let len = u32::from_le_bytes(prefix) as usize;
        let frame = bytes.get(..len).filter(|_| len >= PREFIX_BYTES)?;
        let advance = skipped(frame).unwrap_or(len as u64);
        Some(Self { len, advance })
    }
}

/// The backlog bytes that `frame` stands for, if it is one skip frame.
fn skipped(frame: &[u8]) -> Option<u64> {
    match Frame::parse(frame.get(..frame.len().min(SKIP_BYTES_MAX))?) {
        Ok((Frame::Skip(skip), [])) if frame.len() <= SKIP_BYTES_MAX => Some(skip.bytes),
        _ => None,
    }
}

impl Piece {
    /// Cuts off the frames that fit into `bytes_max`, but at least one. `None` when that is all of it, or when its frames
    /// aren't readable (the target will say so).
    fn cut(&mut self, bytes_max: usize) -> Option<Self> {
        let (mut end, mut next) = (0, self.from);
        while let Some(Extent { len, advance }) = Extent::of(&self.frames[end..]) {
            if end > 0 && end + len > bytes_max {
                break;
            }
            end += len;
            next = next.saturating_add(advance);
        }
        if end == 0 || end >= self.frames.len() || next > self.next {
            return None;
        }
        let head = Self { from: self.from, next, frames: self.frames.split_to(end) };
        self.from = next;
        Some(head)
    }

    /// Drops the frames up to `offset`, which the target has. A frame that lies across stays: a duplicate to the target.
    fn drop_to(&mut self, offset: u64) {
        while let Some(Extent { len, advance }) = Extent::of(&self.frames) {
            match self.from.checked_add(advance) {
                Some(next) if next <= offset => self.from = next,
                _ => break,
            }
            self.frames.advance(len);
        }
        self.from = offset.clamp(self.from, self.next);
    }

    /// Whether it holds no group.
    fn is_skip(&self) -> bool {
        self.frames.is_empty() || skipped(&self.frames).is_some()
    }

    /// One skip frame for two, if both are.
    fn join_skip(&mut self, other: &Self) -> bool {
        let joins = self.next == other.from && self.is_skip() && other.is_skip() && other.next > self.from;
        if joins {
            let mut frame = Vec::with_capacity(SKIP_BYTES_MAX);
            encode_skip(&mut frame, other.next - self.from);
            *self = Self { from: self.from, next: other.next, frames: frame.into() };
        }
        joins
    }
}

impl Queue {
    /// Bytes of frames held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether groups wait, rather than only what was left out.
    #[must_use]
    pub fn has_groups(&self) -> bool {
        self.groups > 0
    }

    /// Adds at the end.
    pub fn push(&mut self, piece: Piece) {
        if let Some(last) = self.pieces.back_mut() {
            let before = last.frames.len();
            if last.join_skip(&piece) {
                self.bytes += last.frames.len() - before;
                return;
            }
        }
        self.count(&piece);
        self.pieces.push_back(piece);
    }

    fn count(&mut self, piece: &Piece) {
        self.bytes += piece.frames.len();
        self.groups += usize::from(!piece.is_skip());
    }

    fn discount(&mut self, piece: &Piece) {
        self.bytes -= piece.frames.len();
        self.groups -= usize::from(!piece.is_skip());
    }

    /// Takes pieces of together at most `bytes_max`, but at least one frame.
    pub fn take(&mut self, bytes_max: usize) -> Vec<Piece> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(mut first) = self.pieces.pop_front() {
            self.discount(&first);
            let room = bytes_max.saturating_sub(bytes);
            if first.frames.len() <= room {
                bytes += first.frames.len();
                taken.push(first);
                continue;
            }
            // Only the first piece of a batch is cut: cutting costs a walk over its frames.
            if taken.is_empty() {
                match first.cut(room) {
                    Some(head) => taken.push(head),
                    None => {
                        taken.push(first);
                        break;
                    }
                }
            }
            self.put_back(vec![first]);
            break;
        }
        taken
    }

    /// Puts back what was taken and not applied.
    pub fn put_back(&mut self, pieces: Vec<Piece>) {
        for piece in pieces.into_iter().rev() {
            self.count(&piece);
            self.pieces.push_front(piece);
        }
    }

    /// Drops everything up to `offset`, which the target has. `false` when the queue begins behind `offset`.
    pub fn skip_to(&mut self, offset: u64) -> bool {
        while let Some(mut first) = self.pieces.pop_front() {
            self.discount(&first);
            if first.next > offset {
                let follows = first.from <= offset;
                if follows {
                    first.drop_to(offset);
                }
                self.put_back(vec![first]);
                return follows;
            }
        }
        true
    }
}

/// What remains of a batch that was applied up to `offset`.
#[must_use]
pub fn remainder(batch: Vec<Piece>, offset: u64) -> Vec<Piece> {
    let mut rest: Vec<_> = batch.into_iter().filter(|piece| piece.next > offset).collect();
    if let Some(first) = rest.first_mut() {
        first.drop_to(offset);
    }
    rest
}
