//! Chunks that wait to be applied.

use std::collections::VecDeque;

use bytes::Bytes;

/// Bytes of the length prefix of a frame.
const PREFIX_BYTES: usize = 4;

/// Whole frames between two offsets of the source's backlog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where they begin.
    pub from: u64,
    /// Where what follows them begins.
    pub next: u64,
    /// The frames; possibly none, where all were of other instances.
    pub frames: Bytes,
}

/// Pieces in order, each beginning where the one before ended.
#[derive(Debug, Default)]
pub struct Queue {
    pieces: VecDeque<Piece>,
    bytes: usize,
}

impl Piece {
    /// Cuts off the frames that fit into `bytes_max`, but at least one. `None` when that is all of it, or when its frames
    /// aren't readable (the target will say so).
    fn cut(&mut self, bytes_max: usize) -> Option<Self> {
        let mut end = 0;
        while let Some(len) = frame_len(&self.frames[end..]) {
            if end > 0 && end + len > bytes_max {
                break;
            }
            end += len;
        }
        if end == 0 || end >= self.frames.len() {
            return None;
        }
        // With other instances' frames left out, this offset lies at or before the true one: reading there again brings
        // duplicates, never a hole.
        let next = (self.from + end as u64).min(self.next);
        let head = Self { from: self.from, next, frames: self.frames.split_to(end) };
        self.from = next;
        Some(head)
    }

    /// Drops the first frames, which are applied.
    fn drop_frames(&mut self, count: &mut u64) {
        while *count > 0 {
            let Some(len) = frame_len(&self.frames) else { return };
            self.frames = self.frames.slice(len..);
            *count -= 1;
        }
    }
}

/// Length of the frame that `bytes` begins with; `None` when it isn't whole.
fn frame_len(bytes: &[u8]) -> Option<usize> {
    let prefix: [u8; PREFIX_BYTES] = bytes.get(..PREFIX_BYTES)?.try_into().ok()?;
    let len = u32::from_le_bytes(prefix) as usize;
    (len >= PREFIX_BYTES && len <= bytes.len()).then_some(len)
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

    /// Adds at the end. A piece without frames only moves the end of the one before.
    pub fn push(&mut self, piece: Piece) {
        match self.pieces.back_mut() {
            Some(last) if piece.frames.is_empty() && last.next == piece.from => last.next = piece.next,
            _ => {
                self.bytes += piece.frames.len();
                self.pieces.push_back(piece);
            }
        }
    }

    /// Takes pieces of together at most `bytes_max`, but at least one frame.
    pub fn take(&mut self, bytes_max: usize) -> Vec<Piece> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(first) = self.pieces.front_mut() {
            let room = bytes_max.saturating_sub(bytes);
            if first.frames.len() > room {
                if bytes == 0
                    && let Some(head) = first.cut(room)
                {
                    bytes += head.frames.len();
                    taken.push(head);
                    break;
                } else if bytes > 0 {
                    break;
                }
            }
            bytes += first.frames.len();
            taken.extend(self.pieces.pop_front());
        }
        self.bytes -= bytes;
        taken
    }

    /// Puts back what was taken and not applied.
    pub fn put_back(&mut self, pieces: Vec<Piece>) {
        for piece in pieces.into_iter().rev() {
            self.bytes += piece.frames.len();
            self.pieces.push_front(piece);
        }
    }

    /// Drops everything up to `offset`, which the target has. A piece that lies across stays, its frames being told as
    /// duplicates. `false` when the queue begins behind `offset`.
    pub fn skip_to(&mut self, offset: u64) -> bool {
        while let Some(first) = self.pieces.front_mut() {
            if first.from > offset {
                return false;
            }
            if first.next > offset {
                first.from = offset;
                return true;
            }
            self.bytes -= first.frames.len();
            self.pieces.pop_front();
        }
        true
    }
}

/// What remains of a batch of which the first `frames` frames were applied, now beginning at `offset`.
#[must_use]
pub fn remainder(batch: Vec<Piece>, mut frames: u64, offset: u64) -> Vec<Piece> {
    let mut rest = Vec::new();
    for mut piece in batch {
        piece.drop_frames(&mut frames);
        if !piece.frames.is_empty() || piece.next > offset {
            rest.push(piece);
        }
    }
    if let Some(first) = rest.first_mut() {
        first.from = offset.min(first.next);
    }
    rest
}
