//! What one read of the backlog got: to be put together away from the server's main thread.

use bytes::{Bytes, BytesMut};

use super::Entries;
use crate::group::encode_skip;
use crate::instance::InstanceSet;

/// Whole entries of a backlog, shared with it: holding a chunk keeps its bytes in memory, evicted or not.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Offset of its first entry.
    pub from: u64,
    /// Offset behind its last entry.
    pub next: u64,
    /// Where the backlog ended.
    pub end: u64,
    /// The bytes from `from` to `next`.
    pub pieces: Vec<Bytes>,
    /// Whose effects the reader wants.
    pub wanted: InstanceSet,
}

impl Chunk {
    /// Bytes of backlog, wanted or not.
    #[must_use]
    pub fn len(&self) -> usize {
        (self.next - self.from) as usize
    }

    /// Whether the backlog had nothing from there on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.next == self.from
    }

    /// The frames for the reader: one stretch, in which each run of groups of unwanted instances is replaced by a skip frame, so
    /// that offsets stay derivable. Needs no lock: meant for another thread.
    #[must_use]
    pub fn assemble(&self) -> Bytes {
        match self.pieces.as_slice() {
            _ if self.wanted != InstanceSet::ALL => self.filter(),
            [] => Bytes::new(),
            [piece] => piece.clone(),
            pieces => {
                let mut all = BytesMut::with_capacity(self.len());
                pieces.iter().for_each(|piece| all.extend_from_slice(piece));
                all.freeze()
            }
        }
    }

    fn filter(&self) -> Bytes {
        let mut out = Vec::new();
        let mut skipped = 0;
        for piece in &self.pieces {
            let mut at = 0;
            for header in (Entries { bytes: piece }) {
                if self.wanted.contains(header.instance) {
                    if skipped > 0 {
                        encode_skip(&mut out, std::mem::take(&mut skipped));
                    }
                    out.extend_from_slice(piece.get(at..at + header.len).unwrap_or_default());
                } else {
                    skipped += header.len as u64;
                }
                at += header.len;
            }
        }
        if skipped > 0 {
            encode_skip(&mut out, skipped);
        }
        out.into()
    }

    /// Adds what fits of `bytes`; whether all of it did.
    pub(super) fn take(&mut self, bytes: Bytes, max_bytes: usize) -> bool {
        let room = max_bytes.saturating_sub(self.len());
        let fits = if bytes.len() <= room { bytes.len() } else { prefix_len(&bytes, room, self.is_empty()) };
        let all = fits == bytes.len();
        if fits > 0 {
            self.push(bytes.slice(..fits));
        }
        all
    }

    pub(super) fn push(&mut self, bytes: Bytes) {
        self.next += bytes.len() as u64;
        self.pieces.push(bytes);
    }
}

/// Bytes of the whole entries at the front of `bytes` that are at most `room`, or of the first one if `at_least_one`.
pub(super) fn prefix_len(bytes: &[u8], room: usize, at_least_one: bool) -> usize {
    if bytes.len() <= room {
        return bytes.len();
    }
    let mut fits = 0;
    for header in (Entries { bytes }) {
        if fits + header.len > room && !(at_least_one && fits == 0) {
            break;
        }
        fits += header.len;
    }
    fits
}
