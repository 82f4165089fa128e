//! Entries of streams that arrive below the last id: put in their places in batches.
//!
//! No server lets an entry in below the last one. So the entries behind the place are taken out, the last id is set back, and all of
//! them are added in order. Groups and what is pending for them stay as they are: taking out through the raw API changes neither.

use std::collections::BTreeMap;

use syncer_shared::stream::StreamId;

use super::open::OpenKey;
use crate::redis::{Context, Element, ExpiryOff, OwnedText, Reply, call, log as server_log};

/// The consumer that entries wait for which arrived below the position of a group: the next `XREADGROUP ... >` gets them.
pub const LATE_CONSUMER: &[u8] = b"syncer:late";

/// What is known of the stream that is open.
#[derive(Default)]
pub struct Tail {
    /// Its last generated id, once known.
    last: Option<StreamId>,
    /// Entries at or below it, not written yet.
    late: Option<(ExpiryOff, Late)>,
    bytes: usize,
}

type Late = BTreeMap<StreamId, Vec<u8>>;

/// What is pending for a consumer already, an earlier entry of the same id, is not taken from it: nobody was idle for so long.
const NEVER_IDLE: &[u8] = b"9223372036854775807";

/// The lowest id of an entry.
const LOWEST: StreamId = StreamId { ms: 0, seq: 1 };

/// So many bytes of entries may wait.
const LATE_BYTES_MAX: usize = 4 << 20;

/// What `XINFO STREAM` says of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// Last generated id.
    pub last: StreamId,
    /// How many entries were ever added.
    pub added: u64,
    /// The highest id that `XDEL` removed.
    pub deleted: StreamId,
}

impl OpenKey {
    /// Writes an entry: at once if it is the last, else soon.
    pub fn put_entry(&mut self, context: &Context, expiry: ExpiryOff, id: StreamId, fields: &[u8]) {
        let is_last = self.tail.last.is_none_or(|last| id > last);
        if is_last && self.key(context, expiry).append_entry(id, fields) {
            self.tail.last = Some(id);
            return;
        }
        self.tail.late.get_or_insert_with(|| (expiry, Late::new())).1.insert(id, fields.to_vec());
        self.tail.bytes += fields.len();
        if self.tail.bytes > LATE_BYTES_MAX {
            self.close(context);
        }
    }

    /// Whether entries wait to be written, so that the key is a stream.
    pub fn has_late(&self) -> bool {
        self.tail.late.is_some()
    }

    /// The key goes, and what waits with it.
    pub fn forget_tail(&mut self) {
        self.tail = Tail::default();
    }

    /// The last generated id. Entries that wait make no difference to it.
    pub fn last_id(&mut self, context: &Context) -> Option<StreamId> {
        if self.tail.last.is_none() {
            self.tail.last = self.stream_info(context).map(|info| info.last);
        }
        self.tail.last
    }

    /// Sets the last generated id of an existing stream. No server has an entry above it, so there an older one that is asserted again changes
    /// nothing: its group ends with the last id.
    pub fn set_last_id(&mut self, context: &Context, expiry: ExpiryOff, id: StreamId) {
        if self.last_id(context) == Some(id) || self.has_entry_above(context, expiry, id) {
            return;
        }
        self.close(context);
        let Some(info) = self.stream_info(context) else { return };
        if info.deleted > id {
            self.set_ids(context, StreamInfo { deleted: id, ..info });
        }
        self.set_ids(context, StreamInfo { last: id, deleted: info.deleted.min(id), ..info });
        self.tail.last = None;
    }

    /// Written, or waiting to be.
    fn has_entry_above(&mut self, context: &Context, expiry: ExpiryOff, id: StreamId) -> bool {
        let Some(above) = id.next() else { return false };
        let mut any = self.tail.late.as_ref().is_some_and(|(_, late)| late.range(above..).next().is_some());
        if !any {
            self.key(context, expiry).entry_ids(above, StreamId::MAX, |_| {
                any = true;
                false
            });
        }
        any
    }

    /// Writes the entries that wait. The raw key is closed before and after.
    pub fn send_late(&mut self, context: &Context) {
        let Some((expiry, late)) = self.tail.late.take() else { return };
        let (Some((&first, _)), Some(before)) = (late.first_key_value(), self.stream_info(context)) else { return };
        // What was deleted above the place forbids to set the last id back: it is named again at the end.
        let may_set_back = before.deleted < first;
        let (Some(below), false) = (first.previous(), !may_set_back && first <= LOWEST) else {
            return server_log::warning("syncer: an entry 0-1 cannot be added to a stream whose entries were deleted");
        };
        self.drop_key();
        if !may_set_back {
            self.set_ids(context, StreamInfo { deleted: LOWEST, ..before });
        }
        let (entries, new) = self.take_tail(context, expiry, late);
        self.set_ids(context, StreamInfo { last: below, deleted: StreamId::MIN, ..before });
        let key = self.open_key(context, expiry);
        for (id, fields) in &entries {
            if !key.append_entry(*id, fields) {
                server_log::warning(&format!("syncer: bug: entry {id} of a stream could not be added again"));
            }
        }
        self.drop_key();
        self.set_ids(context, StreamInfo { added: before.added + new.len() as u64, ..before });
        self.late_for_groups(context, &new);
    }

    /// Takes the entries from the first late one on out. Returns all of them, in order, and which ids are new.
    fn take_tail(&mut self, context: &Context, expiry: ExpiryOff, late: Late) -> (Late, Vec<StreamId>) {
        let (mut all, mut new) = (Late::new(), Vec::new());
        let key = self.open_key(context, expiry);
        if let Some((&first, _)) = late.first_key_value() {
            key.entries(first, StreamId::MAX, |id, fields| drop(all.insert(id, fields.to_vec())));
        }
        for id in all.keys() {
            key.delete_entry(*id);
        }
        self.drop_key();
        for (id, fields) in late {
            if all.insert(id, fields).is_none() {
                new.push(id);
            }
        }
        (all, new)
    }

    /// New entries at or below the position of a group have yet to be handed out there.
    fn late_for_groups(&self, context: &Context, new: &[StreamId]) {
        let Some(first) = new.first() else { return };
        for (group, position) in self.groups(context) {
            if position < *first {
                continue;
            }
            let ids: Vec<String> = new.iter().filter(|id| **id <= position).map(ToString::to_string).collect();
            let options: [&[u8]; 2] = [b"FORCE", b"JUSTID"];
            let before: [&[u8]; 3] = [&group, LATE_CONSUMER, NEVER_IDLE];
            let args: Vec<OwnedText> =
                before.into_iter().chain(ids.iter().map(String::as_bytes)).chain(options).map(OwnedText::new).collect();
            self.call_with(context, c"XCLAIM", &args);
        }
    }

    /// The groups of the stream and their positions.
    pub fn groups(&self, context: &Context) -> Vec<(Vec<u8>, StreamId)> {
        let mut groups = Vec::new();
        self.xinfo(context, b"GROUPS").each(|group: Element<'_>| {
            let position = field(group, b"last-delivered-id").and_then(Element::bytes).and_then(StreamId::parse);
            if let (Some(name), Some(position)) = (field(group, b"name").and_then(Element::bytes), position) {
                groups.push((name.to_vec(), position));
            }
        });
        groups
    }

    fn stream_info(&self, context: &Context) -> Option<StreamInfo> {
        let reply = self.xinfo(context, b"STREAM");
        let root = reply.root()?;
        let id = |name: &[u8]| StreamId::parse(field(root, name)?.bytes()?);
        Some(StreamInfo {
            last: id(b"last-generated-id")?,
            added: u64::try_from(field(root, b"entries-added")?.integer()?).ok()?,
            deleted: id(b"max-deleted-entry-id")?,
        })
    }

    /// Only reads: the raw key may stay open.
    fn xinfo(&self, context: &Context, what: &[u8]) -> Reply {
        let what = OwnedText::new(what);
        call(context, c"XINFO", &[what.text(), self.name()])
    }

    fn set_ids(&self, context: &Context, info: StreamInfo) {
        let [last, deleted] = [info.last, info.deleted].map(|id| id.to_string());
        let added = info.added.to_string();
        let all: [&[u8]; 5] = [last.as_bytes(), b"ENTRIESADDED", added.as_bytes(), b"MAXDELETEDID", deleted.as_bytes()];
        // 0-0 is no id to set.
        let used = if info.deleted == StreamId::MIN { 3 } else { 5 };
        let args: Vec<OwnedText> = all.into_iter().take(used).map(OwnedText::new).collect();
        if let Some(error) = self.call_with(context, c"XSETID", &args).error() {
            server_log::warning(&format!("syncer: bug: XSETID {last}: {error}"));
        }
    }
}

/// The value of a field in a flat array of names and values.
pub fn field<'a>(map: Element<'a>, wanted: &[u8]) -> Option<Element<'a>> {
    let at = (0..map.len()).step_by(2).find(|at| map.get(*at).and_then(Element::bytes) == Some(wanted))?;
    map.get(at + 1)
}
