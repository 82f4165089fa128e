//! What local commands did to lists, by native index: positions come from the ids when the group is made.

use std::ops::Range;

use super::position::End;
use super::wire::{Values, push_value};
use crate::effect::TtlNote;

/// A change of a list that the dataset has made already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit<'a> {
    /// New elements, in the order in which the command named them.
    Push(End, Values<'a>),
    /// So many elements of an end are gone. Without a number: what the length of the list says.
    Pop(End, Option<u64>),
    /// Only what is between these indexes has stayed; negative ones count from the end, as for `LTRIM`.
    Trim(i64, i64),
    /// The element at this index has this value now; negative ones count from the end.
    Set(i64, &'a [u8]),
    /// A new element, that is at this index now.
    Insert(u64, &'a [u8]),
    /// The elements that were at these indexes, rising, are gone.
    Remove(&'a [u64]),
}

/// One edit, and where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draft<'a> {
    /// How many effects of the group came before it.
    pub place: u32,
    /// Logical database.
    pub db: u32,
    /// Key.
    pub key: &'a [u8],
    /// What the write saw of the TTL.
    pub ttl: TtlNote,
    /// What it did.
    pub edit: Edit<'a>,
}

/// The edits of a unit, in order. Buffers are reused.
#[derive(Clone, Debug, Default)]
pub struct Drafts {
    arena: Vec<u8>,
    indexes: Vec<u64>,
    list: Vec<Kept>,
    is_guessed: bool,
}

#[derive(Clone, Debug)]
struct Kept {
    place: u32,
    db: u32,
    key: Range<usize>,
    ttl: TtlNote,
    edit: KeptEdit,
}

#[derive(Clone, Debug)]
enum KeptEdit {
    Push(End, u32, Range<usize>),
    Pop(End, Option<u64>),
    Trim(i64, i64),
    Set(i64, Range<usize>),
    Insert(u64, Range<usize>),
    Remove(Range<usize>),
}

impl Drafts {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Forgets them, keeps the buffers unless they are huge.
    pub fn clear(&mut self) {
        const KEPT_MAX: usize = 1 << 20;
        self.arena.clear();
        self.arena.shrink_to(KEPT_MAX);
        self.indexes.clear();
        self.indexes.shrink_to(KEPT_MAX / 8);
        self.list.clear();
        self.list.shrink_to(KEPT_MAX / size_of::<Kept>());
        self.is_guessed = false;
    }

    /// What the next edit did is told by what the list looks like, not by a command.
    pub fn guess(&mut self) {
        self.is_guessed = true;
    }

    /// The only edit, if a command has told it.
    #[must_use]
    pub fn only(&self) -> Option<Draft<'_>> {
        if self.list.len() == 1 && !self.is_guessed { self.iter().next() } else { None }
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        start..self.arena.len()
    }

    /// Adds a push of values in the order in which the command named them.
    pub fn push<'v>(
        &mut self,
        place: u32,
        (db, key): (u32, &[u8]),
        ttl: TtlNote,
        end: End,
        values: impl Iterator<Item = &'v [u8]>,
    ) {
        let key = self.keep(key);
        let (start, mut count) = (self.arena.len(), 0);
        for value in values {
            push_value(&mut self.arena, value);
            count += 1;
        }
        let edit = KeptEdit::Push(end, count, start..self.arena.len());
        self.list.push(Kept { place, db, key, ttl, edit });
    }

    /// Adds any other edit.
    pub fn add(&mut self, draft: &Draft<'_>) {
        let key = self.keep(draft.key);
        let edit = match draft.edit {
            Edit::Push(end, values) => {
                return self.push(draft.place, (draft.db, draft.key), draft.ttl, end, values.iter());
            }
            Edit::Pop(end, count) => KeptEdit::Pop(end, count),
            Edit::Trim(start, stop) => KeptEdit::Trim(start, stop),
            Edit::Set(index, value) => KeptEdit::Set(index, self.keep(value)),
            Edit::Insert(index, value) => KeptEdit::Insert(index, self.keep(value)),
            Edit::Remove(indexes) => {
                let start = self.indexes.len();
                self.indexes.extend_from_slice(indexes);
                KeptEdit::Remove(start..self.indexes.len())
            }
        };
        self.list.push(Kept { place: draft.place, db: draft.db, key, ttl: draft.ttl, edit });
    }

    /// All of them.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Draft<'_>> + Clone + '_ {
        self.list.iter().map(|kept| {
            let bytes = |range: &Range<usize>| self.arena.get(range.clone()).unwrap_or_default();
            let edit = match &kept.edit {
                KeptEdit::Push(end, count, values) => Edit::Push(*end, Values::new(*count, bytes(values))),
                KeptEdit::Pop(end, count) => Edit::Pop(*end, *count),
                KeptEdit::Trim(start, stop) => Edit::Trim(*start, *stop),
                KeptEdit::Set(index, value) => Edit::Set(*index, bytes(value)),
                KeptEdit::Insert(index, value) => Edit::Insert(*index, bytes(value)),
                KeptEdit::Remove(indexes) => Edit::Remove(self.indexes.get(indexes.clone()).unwrap_or_default()),
            };
            Draft { place: kept.place, db: kept.db, key: bytes(&kept.key), ttl: kept.ttl, edit }
        })
    }
}
