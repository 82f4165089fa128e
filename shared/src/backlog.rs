//! The Active-Active backlog: the bounded log of groups in the order this shard applied them (DESIGN 4).

mod chunk;
mod marks;
mod saved;

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::clock::VectorClock;
use crate::group::Header;
use crate::instance::{InstanceId, InstanceSet};
use crate::origin::Origin;
use crate::replid::ReplId;
use crate::timestamp::Timestamp;
pub use chunk::Chunk;
use marks::Marks;
pub use saved::{ItemSink, Restorer, SavedItem};

/// Bytes of one piece of storage. Larger groups get a piece of their own. Memory is given back piece by piece.
const PIECE_BYTES: usize = 256 << 10;

/// A reader that is behind by at most this much gets a copy; freezing that little would leave tiny pieces.
const COPY_BYTES_MAX: usize = 16 << 10;

/// A position is not in the backlog: neither an empty answer nor an error of the reader's making.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("asked {asked}, backlog begins at {first} and ends at {end}")]
pub struct NotHeld {
    /// The position that was asked for.
    pub asked: u64,
    /// Where the backlog begins.
    pub first: u64,
    /// Where it ends.
    pub end: u64,
}

/// A bounded log of frames.
///
/// Invariants: `first_offset <= end_offset`; the bytes between them are whole frames; entries leave from the old end
/// only, one by one, and only to make room: so primary and replicas, told the same, hold the same (I-12). The newest
/// entry stays even when it alone is larger than the capacity.
#[derive(Clone, Debug)]
pub struct Backlog {
    capacity: u64,
    first: u64,
    end: u64,
    /// Frozen storage, oldest first; each begins and ends with an entry.
    pieces: VecDeque<Piece>,
    /// Where new entries go; behind all pieces.
    active: BytesMut,
    /// Highest timestamp evicted of each origin.
    floor: VectorClock,
    evicted_any: bool,
    marks: Marks,
    /// Names of the origins seen here: eviction reads them back from the frames.
    names: Vec<(ReplId, Origin)>,
}

/// A stretch of the log that changes no more.
#[derive(Clone, Debug)]
struct Piece {
    start: u64,
    bytes: Bytes,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl Backlog {
    /// An empty backlog at offset 0.
    #[must_use]
    pub fn new(capacity_bytes: u64) -> Self {
        Self {
            capacity: capacity_bytes,
            first: 0,
            end: 0,
            pieces: VecDeque::new(),
            active: BytesMut::new(),
            floor: VectorClock::default(),
            evicted_any: false,
            marks: Marks::default(),
            names: Vec::new(),
        }
    }

    /// Adds one frame, whose author is `origin` of `instance` at `ts`, and evicts what no longer fits. Returns the offset
    /// behind it.
    ///
    /// The frame was checked by the caller or made by [`crate::group::encode_frame`].
    pub fn append(&mut self, frame: &[u8], origin: Origin, instance: InstanceId, ts: Timestamp) -> u64 {
        debug_assert!(Header::peek(frame).is_ok_and(|h| h.len == frame.len() && h.instance == instance && h.ts == ts));
        self.learn_name(frame, origin);
        if self.active.capacity() - self.active.len() < frame.len() {
            self.freeze();
            self.active = BytesMut::with_capacity(PIECE_BYTES.max(frame.len()));
        }
        self.active.extend_from_slice(frame);
        self.end += frame.len() as u64;
        self.marks.note(self.end, origin, ts);
        self.evict(frame.len() as u64);
        self.end
    }

    /// Offset of the oldest byte held.
    #[must_use]
    pub fn first_offset(&self) -> u64 {
        self.first
    }

    /// Offset behind the newest byte.
    #[must_use]
    pub fn end_offset(&self) -> u64 {
        self.end
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.end - self.first
    }

    /// The limit of [`Backlog::bytes`].
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Changes the limit. Shrinking evicts at once; the newest entry stays.
    pub fn resize(&mut self, capacity_bytes: u64) {
        self.capacity = capacity_bytes;
        let newest = self.newest_len();
        self.evict(newest);
    }

    /// Whether anything was ever evicted.
    #[must_use]
    pub fn evicted_any(&self) -> bool {
        self.evicted_any
    }

    /// Highest timestamp evicted of each origin: who does not have this can't be served from here.
    #[must_use]
    pub fn floor(&self) -> &VectorClock {
        &self.floor
    }

    /// Effects of `origin` up to `ts` were taken in without an entry here: who lacks them can't be served by clock.
    pub fn raise_floor(&mut self, origin: Origin, ts: Timestamp) {
        self.floor.raise(origin, ts);
    }

    /// Drops everything held, as if it had been evicted.
    pub fn forget_before_end(&mut self) {
        while self.first < self.end {
            self.evict_oldest();
        }
    }

    /// An offset from which on the backlog has everything that `clock` lacks, as late as the index allows: what comes
    /// twice is dropped by its dots. `None` when part of it that is wanted was evicted, or never was here.
    #[must_use]
    pub fn seek(&self, clock: &VectorClock, is_wanted: impl Fn(Origin) -> bool) -> Option<u64> {
        if self.floor.iter().any(|(origin, ts)| is_wanted(origin) && !clock.has(origin, ts)) {
            return None;
        }
        Some(self.marks.last_covered(clock).unwrap_or(self.first).max(self.first))
    }

    /// Whether reading can begin at `offset`: it is held, and an entry begins (or the log ends) there.
    ///
    /// # Errors
    /// [`NotHeld`].
    pub fn holds(&self, offset: u64) -> Result<(), NotHeld> {
        let not_held = NotHeld { asked: offset, first: self.first, end: self.end };
        if offset < self.first || offset > self.end {
            return Err(not_held);
        }
        let (mut start, bytes) = match self.piece_at(offset) {
            Some(piece) => (piece.start, &piece.bytes[..]),
            None => (self.active_start(), &self.active[..]),
        };
        let mut entries = Entries { bytes };
        while start < offset {
            start += entries.next().ok_or(not_held)?.len as u64;
        }
        if start == offset { Ok(()) } else { Err(not_held) }
    }

    /// What the backlog has from `from` on: whole entries, at most `max_bytes` of them, but at least one if there is any.
    /// `from` is a position that this backlog gave. Cheap: the bytes are shared, not copied, but for a few at the end;
    /// see [`Chunk::assemble`].
    ///
    /// # Errors
    /// [`NotHeld`].
    pub fn read(&mut self, from: u64, max_bytes: usize, wanted: InstanceSet) -> Result<Chunk, NotHeld> {
        if from < self.first || from > self.end {
            return Err(NotHeld { asked: from, first: self.first, end: self.end });
        }
        let mut chunk = Chunk { from, next: from, end: self.end, pieces: Vec::new(), wanted };
        self.freeze_for(from);
        let start = self.pieces.partition_point(|piece| piece.end() <= from);
        for piece in self.pieces.iter().skip(start) {
            let skip = (chunk.next - piece.start) as usize;
            if !chunk.take(piece.bytes.slice(skip..), max_bytes) {
                return Ok(chunk);
            }
        }
        let skip = chunk.next.saturating_sub(self.active_start()) as usize;
        let tail = self.active.get(skip..).unwrap_or_default();
        let fits = chunk::prefix_len(tail, max_bytes.saturating_sub(chunk.len()), chunk.is_empty());
        if fits > 0 {
            chunk.push(Bytes::copy_from_slice(tail.get(..fits).unwrap_or(tail)));
        }
        Ok(chunk)
    }

    /// Whole entries from `from` on, a position of an entry that is held: at least one, unless it is the end.
    pub(crate) fn stretch(&self, from: u64) -> &[u8] {
        let (start, bytes) = match self.piece_at(from) {
            Some(piece) => (piece.start, &piece.bytes[..]),
            None => (self.active_start(), &self.active[..]),
        };
        let skip = usize::try_from(from.saturating_sub(start)).unwrap_or(usize::MAX);
        bytes.get(skip..).unwrap_or_default()
    }

    /// Makes the active piece shareable when a reader wants much of it.
    fn freeze_for(&mut self, from: u64) {
        let wanted = self.end - from.max(self.active_start());
        if wanted > COPY_BYTES_MAX as u64 {
            self.freeze();
        }
    }

    fn freeze(&mut self) {
        if !self.active.is_empty() {
            let start = self.active_start();
            self.pieces.push_back(Piece { start, bytes: self.active.split().freeze() });
        }
    }

    fn active_start(&self) -> u64 {
        self.end - self.active.len() as u64
    }

    fn piece_at(&self, offset: u64) -> Option<&Piece> {
        self.pieces.get(self.pieces.partition_point(|piece| piece.end() <= offset))
    }

    /// Makes room; an entry of `newest` bytes at the end stays.
    fn evict(&mut self, newest: u64) {
        while self.bytes() > self.capacity.max(newest) {
            self.evict_oldest();
        }
    }

    fn evict_oldest(&mut self) {
        let front = self.pieces.front().map_or(&self.active[..], |piece| &piece.bytes[..]);
        let Some(header) = (Entries { bytes: front }).next() else { return };
        match self.pieces.front_mut() {
            Some(piece) if piece.bytes.len() > header.len => {
                piece.bytes.advance(header.len);
                piece.start += header.len as u64;
            }
            Some(_) => drop(self.pieces.pop_front()),
            None => self.active.advance(header.len),
        }
        self.first += header.len as u64;
        self.evicted_any = true;
        if let Some(&(_, origin)) = self.names.iter().find(|(name, _)| *name == header.replid) {
            self.floor.raise(origin, header.ts);
        }
        self.marks.forget_before(self.first);
    }

    fn newest_len(&self) -> u64 {
        let newest = if self.active.is_empty() {
            self.pieces.back().map(|piece| &piece.bytes[..])
        } else {
            Some(&self.active[..])
        };
        let last = newest.and_then(|bytes| Entries { bytes }.last());
        last.map_or(0, |header| header.len as u64)
    }

    fn learn_name(&mut self, frame: &[u8], origin: Origin) {
        if self.names.iter().rev().any(|(_, known)| *known == origin) {
            return;
        }
        if let Ok(header) = Header::peek(frame) {
            self.names.push((header.replid, origin));
        }
    }
}

/// The entries of a stretch of whole frames.
struct Entries<'a> {
    bytes: &'a [u8],
}

impl Iterator for Entries<'_> {
    type Item = Header;

    fn next(&mut self) -> Option<Header> {
        let header = Header::peek(self.bytes).ok()?;
        self.bytes = self.bytes.get(header.len..)?;
        Some(header)
    }
}
