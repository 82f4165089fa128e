//! The bytes of a saved state: items one after the other, handed over in pieces.

use crc32fast::Hasher;

use super::SavedError;
use crate::wire::{Reader, WireError, writer};

/// Bytes of a piece: so that neither side ever holds the whole, and the server's file has no huge string.
const PIECE_BYTES: usize = 1 << 20;

/// What an item is about. Codes are never used for something else; one that is not known is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    Head = 1,
    Reign = 2,
    Clocks = 3,
    Past = 4,
    Members = 5,
    Reports = 6,
    Heard = 7,
    Peer = 8,
    Introduced = 9,
    Key = 10,
    Aside = 11,
    SyncHead = 12,
    SyncRound = 13,
    SyncMerged = 14,
    Backlog = 15,
    Mark = 16,
    Frames = 17,
    Forgotten = 18,
    Joining = 19,
    Tail = 20,
    Changed = 21,
    Taken = 22,
    Had = 23,
    Dropped = 24,
    End = 127,
}

impl Tag {
    const ALL: [Self; 25] = [
        Self::Head,
        Self::Reign,
        Self::Clocks,
        Self::Past,
        Self::Members,
        Self::Reports,
        Self::Heard,
        Self::Peer,
        Self::Introduced,
        Self::Key,
        Self::Aside,
        Self::SyncHead,
        Self::SyncRound,
        Self::SyncMerged,
        Self::Backlog,
        Self::Mark,
        Self::Frames,
        Self::Forgotten,
        Self::Joining,
        Self::Tail,
        Self::Changed,
        Self::Taken,
        Self::Had,
        Self::Dropped,
        Self::End,
    ];

    fn from_code(code: u8) -> Result<Self, WireError> {
        let known = Self::ALL.into_iter().find(|tag| *tag as u8 == code);
        known.ok_or(WireError::Code { what: "item of a saved state", code })
    }
}

/// Takes what writes the body of one item.
pub(crate) type BodySink<'a> = dyn FnMut(&dyn Fn(&mut Vec<u8>)) + 'a;

/// Writes items and passes them on in pieces.
pub(super) struct Pieces<'a> {
    sink: &'a mut dyn FnMut(&[u8]),
    piece: Vec<u8>,
    body: Vec<u8>,
    sum: Hasher,
    items: u64,
}

impl<'a> Pieces<'a> {
    pub fn new(sink: &'a mut dyn FnMut(&[u8])) -> Self {
        Self { sink, piece: Vec::with_capacity(PIECE_BYTES), body: Vec::new(), sum: Hasher::new(), items: 0 }
    }

    /// One item, whose body `write` appends.
    pub fn item(&mut self, tag: Tag, write: impl FnOnce(&mut Vec<u8>)) {
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        write(&mut body);
        self.items += 1;
        self.put(tag, &body);
        // A large key must not hold its memory until the end.
        body.shrink_to(PIECE_BYTES);
        self.body = body;
    }

    /// The end mark, with the checksum of all before.
    pub fn end(mut self) {
        let mut body = Vec::new();
        writer::u32(&mut body, self.sum.clone().finalize());
        writer::varint(&mut body, self.items);
        self.put(Tag::End, &body);
        (self.sink)(&self.piece);
    }

    fn put(&mut self, tag: Tag, body: &[u8]) {
        let mut head = vec![tag as u8];
        writer::varint(&mut head, body.len() as u64);
        for mut bytes in [&head[..], body] {
            self.sum.update(bytes);
            while self.piece.len() + bytes.len() > PIECE_BYTES {
                let (fits, rest) = bytes.split_at(PIECE_BYTES - self.piece.len());
                self.piece.extend_from_slice(fits);
                (self.sink)(&self.piece);
                self.piece.clear();
                bytes = rest;
            }
            self.piece.extend_from_slice(bytes);
        }
    }
}

/// Puts items together from pieces. Holds at most one unfinished item and a piece.
pub(super) struct Items {
    rest: Vec<u8>,
    /// Bytes that `rest` needs before there is another item: a large one is not looked at with every piece of it.
    wanted: usize,
    sum: Hasher,
    items: u64,
    ended: bool,
}

impl Items {
    pub fn new() -> Self {
        Self { rest: Vec::new(), wanted: 0, sum: Hasher::new(), items: 0, ended: false }
    }

    /// Whether the end mark has come, and fitted.
    pub fn have_ended(&self) -> bool {
        self.ended
    }

    /// Gives `take` every item that is complete now.
    pub fn push(
        &mut self,
        piece: &[u8],
        take: &mut dyn FnMut(Tag, Reader<'_>) -> Result<(), SavedError>,
    ) -> Result<(), SavedError> {
        self.rest.extend_from_slice(piece);
        if self.rest.len() < self.wanted {
            return Ok(());
        }
        self.wanted = 0;
        let bytes = std::mem::take(&mut self.rest);
        let mut reader = Reader::new(&bytes);
        while !reader.is_empty() {
            let start = reader;
            let (tag, body) = match next(&mut reader)? {
                Next::Item(tag, body) => (tag, body),
                Next::Unfinished(wanted) => {
                    self.wanted = wanted;
                    reader = start;
                    break;
                }
            };
            if self.ended {
                return Err(WireError::Trailing(start.rest().len()).into());
            }
            if tag == Tag::End {
                self.check_end(body)?;
            } else {
                let len = start.rest().len() - reader.rest().len();
                self.sum.update(start.rest().get(..len).unwrap_or_default());
                self.items += 1;
                take(tag, Reader::new(body))?;
            }
        }
        self.rest = reader.rest().to_vec();
        Ok(())
    }

    fn check_end(&mut self, body: &[u8]) -> Result<(), SavedError> {
        let mut reader = Reader::new(body);
        let (stored, items) = (reader.u32("checksum")?, reader.varint("count of items")?);
        reader.finish()?;
        let computed = self.sum.clone().finalize();
        if computed != stored {
            return Err(WireError::Checksum { computed, stored }.into());
        }
        if items != self.items {
            return Err(WireError::Invalid { what: "count of items" }.into());
        }
        self.ended = true;
        Ok(())
    }
}

enum Next<'a> {
    Item(Tag, &'a [u8]),
    /// How many bytes it has, as far as that is known.
    Unfinished(usize),
}

fn next<'a>(reader: &mut Reader<'a>) -> Result<Next<'a>, SavedError> {
    let before = reader.rest().len();
    let tag = Tag::from_code(reader.u8("item")?)?;
    let len = match reader.varint("length of an item") {
        Ok(len) => usize::try_from(len).unwrap_or(usize::MAX),
        Err(WireError::Truncated { .. }) => return Ok(Next::Unfinished(0)),
        Err(error) => return Err(error.into()),
    };
    let head = before - reader.rest().len();
    match reader.take(len, "item") {
        Ok(body) => Ok(Next::Item(tag, body)),
        Err(WireError::Truncated { .. }) => Ok(Next::Unfinished(head.saturating_add(len))),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of a golden file: hexadecimal, `#` begins a comment.
    fn bytes(file: &str) -> Vec<u8> {
        let lines = file.lines().map(|line| line.split('#').next().unwrap_or_default());
        let byte = |digits: &str| u8::from_str_radix(digits, 16).expect("hexadecimal");
        lines.flat_map(str::split_whitespace).map(byte).collect()
    }

    /// What every later version must read is in a file that every later version does read. Who adds a kind of item adds a golden state with it
    /// (`shared/tests/golden_saved.rs`).
    #[test]
    fn golden_states_have_every_kind_of_item() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/state-v1");
        let mut found = Vec::new();
        for file in std::fs::read_dir(folder).expect("golden states") {
            let text = std::fs::read_to_string(file.expect("readable").path()).expect("text");
            let mut items = Items::new();
            let mut take = |tag, _: Reader<'_>| {
                found.push(tag);
                Ok(())
            };
            items.push(&bytes(&text), &mut take).expect("valid");
            assert!(items.have_ended());
            found.push(Tag::End);
        }
        let missing: Vec<Tag> = Tag::ALL.into_iter().filter(|tag| !found.contains(tag)).collect();
        assert!(missing.is_empty(), "no golden state has {missing:?}");
    }
}
