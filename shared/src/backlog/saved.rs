//! The backlog in a saved state: figures, index, and the bytes as they are (I-12).

use std::collections::VecDeque;

use bytes::BytesMut;

use super::marks::Marks;
use super::{Backlog, PIECE_BYTES, Piece};
use crate::group::Header;
use crate::origin::Origins;
use crate::shard::saved::{SavedError, clocks};
use crate::wire::{Reader, WireError, writer};

/// Bytes of log in one item.
const ITEM_BYTES: usize = 256 << 10;

/// What an item is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SavedItem {
    /// The figures.
    Head,
    /// One entry of the index.
    Mark,
    /// A stretch of the log, cut anywhere.
    Frames,
}

/// Takes one item: its kind, and what writes its body.
pub type ItemSink<'a> = dyn FnMut(SavedItem, &dyn Fn(&mut Vec<u8>)) + 'a;

impl Backlog {
    /// Writes the backlog as items.
    pub fn save(&self, item: &mut ItemSink<'_>) {
        // Names are found in the frames.
        let Self { capacity: _, first, end, pieces, active, floor, evicted_any, marks, names: _ } = self;
        let Marks { marks, clock, entries, last } = marks;
        item(SavedItem::Head, &|out| {
            writer::u64(out, *first);
            writer::u64(out, *end);
            writer::flag(out, *evicted_any);
            clocks::encode(floor, out);
            clocks::encode(clock, out);
            writer::varint(out, *entries);
            writer::u64(out, *last);
        });
        for (offset, clock) in marks {
            item(SavedItem::Mark, &|out| {
                writer::u64(out, *offset);
                clocks::encode(clock, out);
            });
        }
        for bytes in pieces.iter().map(|piece| &piece.bytes[..]).chain([&active[..]]) {
            for bytes in bytes.chunks(ITEM_BYTES) {
                item(SavedItem::Frames, &|out| out.extend_from_slice(bytes));
            }
        }
    }
}

/// Puts a backlog together.
pub struct Restorer {
    backlog: Backlog,
    has_head: bool,
    /// Not yet whole entries, or not yet enough for a piece.
    tail: BytesMut,
    /// Bytes of `tail` that are whole entries.
    whole: usize,
    /// Offset of `tail`.
    at: u64,
}

impl Restorer {
    /// Of this capacity.
    #[must_use]
    pub fn new(capacity_bytes: u64) -> Self {
        Self { backlog: Backlog::new(capacity_bytes), has_head: false, tail: BytesMut::new(), whole: 0, at: 0 }
    }

    /// The figures, first.
    pub(crate) fn head(&mut self, reader: &mut Reader<'_>, origins: &Origins) -> Result<(), SavedError> {
        let Self { backlog, has_head, tail: _, whole: _, at } = self;
        backlog.first = reader.u64("first offset")?;
        backlog.end = reader.u64("end offset")?;
        backlog.evicted_any = reader.flag("evicted")?;
        backlog.floor = clocks::decode(reader, origins)?;
        backlog.marks = Marks {
            marks: VecDeque::new(),
            clock: clocks::decode(reader, origins)?,
            entries: reader.limited(Origins::COUNT_MAX as u64, "entries of a mark")?,
            last: reader.u64("last mark")?,
        };
        if std::mem::replace(has_head, true) || backlog.first > backlog.end || backlog.marks.last > backlog.end {
            return Err(SavedError::Unfitting("the offset of the backlog"));
        }
        *at = backlog.first;
        Ok(())
    }

    /// An entry of the index.
    pub(crate) fn mark(&mut self, reader: &mut Reader<'_>, origins: &Origins) -> Result<(), SavedError> {
        let (offset, clock) = (reader.u64("mark")?, clocks::decode(reader, origins)?);
        let marks = &mut self.backlog.marks.marks;
        let rises = marks.back().is_none_or(|(last, _)| *last < offset) && offset <= self.backlog.end;
        if !self.has_head || !rises {
            return Err(SavedError::Unfitting("a mark of the backlog"));
        }
        marks.push_back((offset, clock));
        Ok(())
    }

    /// A stretch of the log.
    pub(crate) fn frames(&mut self, reader: &mut Reader<'_>, origins: &Origins) -> Result<(), SavedError> {
        let bytes = reader.take(reader.rest().len(), "entries")?;
        if !self.has_head || self.at + (self.tail.len() + bytes.len()) as u64 > self.backlog.end {
            return Err(SavedError::Unfitting("an entry of the backlog"));
        }
        self.tail.extend_from_slice(bytes);
        while let Some(header) = self.next_entry()? {
            let origin = origins.find(&header.replid).filter(|origin| origins.instance(*origin) == header.instance);
            let origin = origin.ok_or(SavedError::Unfitting("the author of an entry"))?;
            let entry = self.tail.get(self.whole..self.whole + header.len).unwrap_or_default();
            self.backlog.learn_name(entry, origin);
            self.whole += header.len;
        }
        if self.whole >= PIECE_BYTES {
            let bytes = self.tail.split_to(self.whole).freeze();
            let start = self.at;
            self.at += bytes.len() as u64;
            self.whole = 0;
            self.backlog.pieces.push_back(Piece { start, bytes });
        }
        Ok(())
    }

    /// The header of the next entry, if the whole entry is there.
    fn next_entry(&self) -> Result<Option<Header>, WireError> {
        match Header::peek(self.tail.get(self.whole..).unwrap_or_default()) {
            Ok(header) if self.tail.len() - self.whole >= header.len => Ok(Some(header)),
            Ok(_) | Err(WireError::Truncated { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The backlog.
    pub(crate) fn finish(mut self) -> Result<Backlog, SavedError> {
        let is_whole = self.whole == self.tail.len() && self.at + self.whole as u64 == self.backlog.end;
        if !self.has_head || !is_whole {
            return Err(SavedError::Unfitting("the end of the backlog"));
        }
        self.backlog.active = self.tail;
        Ok(self.backlog)
    }
}
