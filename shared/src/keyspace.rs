//! The seam between the merge and the dataset: the module implements it on the server, tests on a map.

use crate::effect::{ClearReason, FlushScope, Kind, Path, UnixMs, Value};
use crate::metadata::Payload;
use crate::stream::{Part, StreamId};

/// A native dataset as the merge sees it. Nothing here is an effect: an implementation must not capture what
/// it is told to do (I-8), must neither expire keys (T5) nor evict them, and keeps its server's encodings.
///
/// The merge calls it for one key at a time and ends with [`Keyspace::finish`]; so an implementation may hold
/// the last key open and collect its notifications until another key, or `finish`, comes.
pub trait Keyspace {
    /// The native type of the key, `None` when it does not exist. A key past its TTL but not yet deleted exists.
    fn kind(&mut self, db: u32, key: &[u8]) -> Option<Kind>;

    /// The string, `None` when the key is absent or of another type.
    fn string(&mut self, db: u32, key: &[u8]) -> Option<Vec<u8>>;

    /// Whether the key is this string.
    fn is_string(&mut self, db: u32, key: &[u8], text: &[u8]) -> bool {
        self.string(db, key).is_some_and(|known| known == text)
    }

    /// Visits the strings of several keys of one database, in their order.
    fn strings(&mut self, db: u32, keys: &[&[u8]], visit: &mut dyn FnMut(Option<&[u8]>)) {
        keys.iter().for_each(|key| visit(self.string(db, key).as_deref()));
    }

    /// Bytes of the string; 0 when the key is absent or of another type.
    fn string_len(&mut self, db: u32, key: &[u8]) -> u64;

    /// At most `len` bytes of the string from `start` on; fewer where it ends. Costs no more for a long string.
    fn string_range(&mut self, db: u32, key: &[u8], start: u64, len: usize) -> Vec<u8>;

    /// At most `len` bytes of the beginning of a string that a command has just changed in place, as `PFADD` does.
    fn changed_string(&mut self, db: u32, key: &[u8], len: usize) -> Vec<u8> {
        self.string_range(db, key, 0, len)
    }

    /// The value of a hash field.
    fn field(&mut self, db: u32, key: &[u8], field: &[u8]) -> Option<Vec<u8>>;

    /// The TTL that a hash field has by itself.
    fn field_expire_at(&mut self, db: u32, key: &[u8], field: &[u8]) -> Option<UnixMs>;

    /// Whether the set has the member.
    fn has_member(&mut self, db: u32, key: &[u8], member: &[u8]) -> bool;

    /// The score of a sorted-set member.
    fn score(&mut self, db: u32, key: &[u8], member: &[u8]) -> Option<f64>;

    /// The serialised whole value of a key of kind [`Kind::Opaque`].
    fn payload(&mut self, db: u32, key: &[u8]) -> Option<Vec<u8>>;

    /// A part of a stream.
    fn stream_part(&mut self, db: u32, key: &[u8], part: Part<'_>) -> Option<Payload>;

    /// Visits the ids of the entries of a stream from `from` to `to`, both included, in order.
    fn stream_entries(&mut self, db: u32, key: &[u8], from: StreamId, to: StreamId, visit: &mut dyn FnMut(StreamId));

    /// Visits deliveries whose entry is gone, by name, and whose they are: the dataset may still hold them, and they are no elements.
    fn lone_deliveries(&mut self, db: u32, key: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]));

    /// Removes a consumer group with its consumers and deliveries.
    fn take_group(&mut self, db: u32, key: &[u8], group: &[u8]);

    /// Visits every element of the key, of whatever kind, in no particular order; those of a list in list order, each with its
    /// [index](crate::keyspace::place) in place of its position, which only the metadata knows.
    fn elements(&mut self, db: u32, key: &[u8], visit: &mut dyn FnMut(Path<'_>, Value<'_>));

    /// Visits every key of the scope. Long: asked for only when an old backup comes back and flushes (2.2 rule 5).
    fn keys(&mut self, scope: FlushScope, visit: &mut dyn FnMut(u32, &[u8]));

    /// Absolute expiry of the key, `None` without TTL or without key.
    fn expire_at(&mut self, db: u32, key: &[u8]) -> Option<UnixMs>;

    /// Replaces the whole key by a string. `ttl` says what becomes of its TTL.
    fn set_string(&mut self, db: u32, key: &[u8], value: &[u8], ttl: SetTtl);

    /// Writes over a part of the string, with zeros before it where the string is shorter; creates the key if absent. Keeps the TTL.
    /// Costs no more for a long string. Never beyond [`crate::patch::REACH_MAX`] but for appended bytes.
    fn write_range(&mut self, db: u32, key: &[u8], start: u64, bytes: &[u8]);

    /// Adds to a string that holds an integer, or creates it. Changes nothing when it fails.
    ///
    /// # Errors
    /// [`NotAdded`]: the string is no integer the server could add to, the sum does not fit 64 bits, or the key
    /// is of another type.
    fn add_integer(&mut self, db: u32, key: &[u8], delta: i64) -> Result<i64, NotAdded>;

    /// Like [`Keyspace::add_integer`], for a hash field.
    ///
    /// # Errors
    /// As there.
    fn add_integer_field(&mut self, db: u32, key: &[u8], field: &[u8], delta: i64) -> Result<i64, NotAdded>;

    /// Writes one element; creates the key (without TTL) if absent. The key's kind is already the path's.
    /// `Path::Field` gets the TTL of its value, or none. `Path::String` keeps the TTL. `Path::Opaque` replaces the whole value and keeps the TTL.
    /// Not for list elements.
    ///
    /// Of a stream: an entry is put in its place, also below the last id, and raises the last id. An entry that is new and lies at
    /// or below the position of a group is late for it ([`Value::Late`]). A consumer without its group may be left out.
    ///
    /// Whether the dataset holds it now. A delivery without its entry or group may be left out. A whole value may be of a type or version that the server does not know. Then there is no
    /// such key any more, and the merge keeps the value.
    fn put(&mut self, db: u32, key: &[u8], path: Path<'_>, value: Value<'_>) -> bool;

    /// Removes one element if it is there; the key goes with its last element, a stream with its last part. What is late because of
    /// an entry or a group goes with it. Not for list elements.
    fn take(&mut self, db: u32, key: &[u8], path: Path<'_>);

    /// How many elements the list has; 0 without a list.
    fn list_len(&mut self, db: u32, key: &[u8]) -> usize;

    /// The element at an index of a list.
    fn list_get(&mut self, db: u32, key: &[u8], index: usize) -> Option<Vec<u8>>;

    /// Puts an element in front of that at `index`, which is at most the length; creates the key (without TTL) if absent. The key's
    /// kind is already a list.
    fn list_insert(&mut self, db: u32, key: &[u8], index: usize, value: &[u8]);

    /// Removes `count` elements from `index` on; the key goes with its last element.
    fn list_remove(&mut self, db: u32, key: &[u8], index: usize, count: usize);

    /// Replaces the element at an index.
    fn list_set(&mut self, db: u32, key: &[u8], index: usize, value: &[u8]);

    /// Sets or removes the TTL of an existing key. A time in the past is kept as such, not executed.
    fn set_expire_at(&mut self, db: u32, key: &[u8], at: Option<UnixMs>);

    /// Deletes the key if it exists; the reason chooses the notification.
    fn delete(&mut self, db: u32, key: &[u8], reason: ClearReason);

    /// Empties one database or all.
    fn flush(&mut self, scope: FlushScope);

    /// Hands a message to the subscribers of this server.
    fn publish(&mut self, sharded: bool, channel: &[u8], message: &[u8]);

    /// No more calls for now: close keys, send what notifications are due.
    fn finish(&mut self);
}

/// What stands for the position of the element at an index of a list: bytes that sort like indexes.
#[must_use]
pub fn place(index: usize) -> [u8; 8] {
    (index as u64).to_be_bytes()
}

/// What [`Keyspace::set_string`] does with the TTL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTtl {
    /// The TTL stays as it is.
    Keep,
    /// No TTL afterwards.
    Clear,
    /// This TTL afterwards.
    At(UnixMs),
}

/// Why nothing was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAdded;
