//! The context of groups: what an author had seen. Groups carry only its changes (DESIGN 2.1).

use crate::instance::InstanceId;
use crate::replid::ReplId;
use crate::timestamp::Timestamp;
use crate::wire::{Reader, WireError, limits, writer};

/// One entry: a reign and the highest timestamp its reader had applied of it.
pub type Entry = (ReplId, InstanceId, Timestamp);

/// Ends a change.
const END: u8 = 0;
/// A reign named in full follows; it gets the next index.
const NEW: u64 = 1;
/// Index 0 of the list; what is above counts on.
const FIRST: u64 = 2;

/// The list that the author of one reign and every receiver of it keep alike, group by group: so a group names a reign
/// by its index, in 1 or 2 bytes. Deltas never cross reigns: each reign starts with an empty list.
#[derive(Clone, Debug, Default)]
pub struct StreamContext {
    entries: Vec<Entry>,
    /// Reused: what the change being written says of known entries.
    risen: Vec<(usize, Timestamp)>,
}

impl PartialEq for StreamContext {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Eq for StreamContext {}

impl StreamContext {
    /// The change of a group whose author has seen nothing new.
    pub const EMPTY_CHANGE: [u8; 1] = [END];

    /// An empty list: before the first group of a reign.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The list, in the order in which the author met the reigns.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The author's side: appends to `out` what of `now` is above the list, and remembers it. Pass only what may have
    /// changed: with nothing, this is one byte.
    pub fn encode_change(&mut self, now: impl Iterator<Item = Entry>, out: &mut Vec<u8>) {
        let known = self.entries.len();
        self.risen.clear();
        for (replid, instance, ts) in now {
            match self.entries.iter().rposition(|(known, ..)| *known == replid) {
                Some(index) if index >= known => self.raise(index, ts),
                Some(index) => self.risen.push((index, ts)),
                None if ts > Timestamp::ZERO => self.entries.push((replid, instance, ts)),
                None => {}
            }
        }
        self.risen.sort_unstable();
        for i in 0..self.risen.len() {
            let Some(&(index, ts)) = self.risen.get(i) else { continue };
            // Given twice: the highest, which is sorted last.
            let last = self.risen.get(i + 1).is_none_or(|(next, _)| *next != index);
            let Some(&(_, _, base)) = self.entries.get(index) else { continue };
            if last && ts > base {
                writer::varint(out, FIRST + index as u64);
                writer::timestamp_above(out, base, ts);
                self.raise(index, ts);
            }
        }
        for (replid, instance, ts) in self.entries.iter().skip(known) {
            writer::varint(out, NEW);
            writer::replid(out, replid);
            writer::instance(out, *instance);
            writer::timestamp_above(out, Timestamp::ZERO, *ts);
        }
        out.push(END);
    }

    /// A receiver's side: whether [`StreamContext::apply_change`] would accept it.
    ///
    /// # Errors
    /// See [`WireError`].
    pub fn check_change(&self, change: &[u8]) -> Result<(), WireError> {
        let mut reader = Reader::new(change);
        let mut changes = Changes { reader: &mut reader, last: None };
        let mut added: Vec<ReplId> = Vec::new();
        while let Some(change) = changes.next(&self.entries)? {
            if let Change::New((replid, ..)) = change {
                let known = self.entries.iter().any(|(known, ..)| *known == replid) || added.contains(&replid);
                if known || self.entries.len() + added.len() >= limits::CONTEXT_ENTRIES_MAX {
                    return Err(WireError::Invalid { what: "new context entry" });
                }
                added.push(replid);
            }
        }
        reader.finish()
    }

    /// A receiver's side: takes the change of the next group. On an error nothing has changed.
    ///
    /// # Errors
    /// See [`WireError`].
    pub fn apply_change(&mut self, change: &[u8]) -> Result<(), WireError> {
        if change == Self::EMPTY_CHANGE {
            return Ok(());
        }
        self.check_change(change)?;
        let mut reader = Reader::new(change);
        let mut changes = Changes { reader: &mut reader, last: None };
        while let Some(change) = changes.next(&self.entries)? {
            match change {
                Change::Risen(index, ts) => self.raise(index, ts),
                Change::New(entry) => self.entries.push(entry),
            }
        }
        Ok(())
    }

    fn raise(&mut self, index: usize, ts: Timestamp) {
        if let Some((_, _, known)) = self.entries.get_mut(index) {
            *known = ts.max(*known);
        }
    }
}

/// One item of a change.
enum Change {
    Risen(usize, Timestamp),
    New(Entry),
}

/// Reads a change: known entries by rising index, then new ones.
struct Changes<'r, 'a> {
    reader: &'r mut Reader<'a>,
    /// The code before.
    last: Option<u64>,
}

impl Changes<'_, '_> {
    fn next(&mut self, entries: &[Entry]) -> Result<Option<Change>, WireError> {
        let code = self.reader.varint("context index")?;
        if code == u64::from(END) {
            return Ok(None);
        }
        self.check_order(code)?;
        if code == NEW {
            return read_new(self.reader).map(|entry| Some(Change::New(entry)));
        }
        let index = usize::try_from(code - FIRST).unwrap_or(usize::MAX);
        let &(_, _, base) = entries.get(index).ok_or(WireError::Invalid { what: "context index" })?;
        let ts = self.reader.timestamp_above(base, "context timestamp")?;
        Ok(Some(Change::Risen(index, ts)))
    }

    /// One order only, so that a change has one encoding and names no entry twice.
    fn check_order(&mut self, code: u64) -> Result<(), WireError> {
        let ordered = match self.last {
            None => true,
            Some(NEW) => code == NEW,
            Some(last) => code == NEW || code > last,
        };
        self.last = Some(code);
        if ordered { Ok(()) } else { Err(WireError::Invalid { what: "order of context entries" }) }
    }
}

fn read_new(reader: &mut Reader<'_>) -> Result<Entry, WireError> {
    let replid = reader.replid("context replication ID")?;
    let instance = reader.instance("context instance")?;
    let ts = reader.timestamp_above(Timestamp::ZERO, "context timestamp")?;
    Ok((replid, instance, ts))
}

/// Cuts a change off the front of a frame, by its form alone: whether it fits a stream, its [`StreamContext`] says.
///
/// # Errors
/// See [`WireError`].
pub fn take_change<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], WireError> {
    let input = reader.rest();
    let mut count = 0_usize;
    loop {
        match reader.varint("context index")? {
            code if code == u64::from(END) => break,
            NEW => drop(read_new(reader)?),
            _ => drop(reader.varint("context timestamp")?),
        }
        count += 1;
        if count > limits::CONTEXT_ENTRIES_MAX {
            let (found, limit) = (count as u64, limits::CONTEXT_ENTRIES_MAX as u64);
            return Err(WireError::TooLarge { what: "context", found, limit });
        }
    }
    Ok(input.get(..input.len() - reader.rest().len()).unwrap_or(input))
}
