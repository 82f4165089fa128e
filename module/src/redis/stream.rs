//! Streams through the server's raw key API.

use std::ffi::c_long;
use std::ptr::{self, NonNull};

use redis_module::raw::{RedisModuleStreamID, RedisModuleString};
use syncer_shared::stream::{self, StreamId};

use super::{Key, OwnedText, ok};

fn native(id: StreamId) -> RedisModuleStreamID {
    RedisModuleStreamID { ms: id.ms, seq: id.seq }
}

impl Key {
    /// Appends an entry; creates the stream. False when the id is not above the last one, or the key is of another type.
    /// `fields` are as [`stream::fields`] reads them.
    pub fn append_entry(&mut self, id: StreamId, fields: &[u8]) -> bool {
        let fields: Vec<OwnedText> = stream::fields(fields).map(OwnedText::new).collect();
        let mut argv: Vec<*mut RedisModuleString> = fields.iter().map(|field| field.text().raw()).collect();
        let pairs = argv.len() / 2;
        let mut id = native(id);
        // SAFETY: the key is open for writing; id and fields outlive the call, and there are two strings for each pair. The server
        // copies them.
        let status = unsafe { api!(RedisModule_StreamAdd)(self.raw(), 0, &mut id, argv.as_mut_ptr(), pairs as i64) };
        ok(status).is_some()
    }

    /// Deletes an entry. Whether it was there. The stream stays, and so do its last and its highest deleted id.
    pub fn delete_entry(&mut self, id: StreamId) -> bool {
        let mut id = native(id);
        // SAFETY: the key is open for writing; the id outlives the call.
        ok(unsafe { api!(RedisModule_StreamDelete)(self.raw(), &mut id) }).is_some()
    }

    /// Visits the ids of the entries from `from` to `to`, both included, until `visit` says false.
    pub fn entry_ids(&self, from: StreamId, to: StreamId, mut visit: impl FnMut(StreamId) -> bool) {
        self.iterate(from, to, |key, id, pairs| {
            let goes_on = visit(id);
            // The iterator goes on only from the end of an entry.
            for _ in 0..if goes_on { pairs } else { 0 } {
                key.next_field(&mut |_| {});
            }
            goes_on
        });
    }

    /// Visits the entries from `from` to `to`, both included, with their fields as [`stream::fields`] reads them.
    pub fn entries(&self, from: StreamId, to: StreamId, mut visit: impl FnMut(StreamId, &[u8])) {
        let mut fields = Vec::new();
        self.iterate(from, to, |key, id, pairs| {
            fields.clear();
            for _ in 0..pairs {
                key.next_field(&mut |text| stream::push_field(&mut fields, text));
            }
            visit(id, &fields);
            true
        });
    }

    fn iterate(&self, from: StreamId, to: StreamId, mut visit: impl FnMut(&Self, StreamId, c_long) -> bool) {
        let (mut from, mut to) = (native(from), native(to));
        // SAFETY: the key is open; the ids outlive the call. The iterator is stopped below, and `visit` changes nothing: it gets `&self`.
        if ok(unsafe { api!(RedisModule_StreamIteratorStart)(self.raw(), 0, &mut from, &mut to) }).is_none() {
            return;
        }
        loop {
            let (mut id, mut pairs) = (RedisModuleStreamID { ms: 0, seq: 0 }, 0);
            // SAFETY: an iterator was started; both places outlive the call.
            let next = unsafe { api!(RedisModule_StreamIteratorNextID)(self.raw(), &mut id, &mut pairs) };
            if ok(next).is_none() || !visit(self, StreamId { ms: id.ms, seq: id.seq }, pairs) {
                break;
            }
        }
        // SAFETY: an iterator was started.
        unsafe { api!(RedisModule_StreamIteratorStop)(self.raw()) };
    }

    /// The next field of the entry that the iterator is at, and its value.
    fn next_field(&self, take: &mut dyn FnMut(&[u8])) {
        let (mut field, mut value): (*mut RedisModuleString, *mut RedisModuleString) =
            (ptr::null_mut(), ptr::null_mut());
        // SAFETY: an iterator was started and is at an entry; both places outlive the call.
        let status = unsafe { api!(RedisModule_StreamIteratorNextField)(self.raw(), &mut field, &mut value) };
        if ok(status).is_some() {
            for text in [field, value].into_iter().filter_map(NonNull::new) {
                // SAFETY: the server gives the reference away.
                let text = unsafe { OwnedText::adopt(text) };
                take(text.text().as_bytes());
            }
        }
    }
}
