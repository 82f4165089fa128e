//! The server's dataset for looks: opened for each look, so that a unit without any pays nothing.

use syncer_shared::effect::{ClearReason, FlushScope, Kind, Path, UnixMs, Value};
use syncer_shared::keyspace::{Keyspace, NotAdded, SetTtl};
use syncer_shared::metadata::Payload;
use syncer_shared::stream::{Part, StreamId};

use super::VOLATILE;
use crate::keyspace::{ServerKeyspace, look, with_keyspace};
use crate::redis::Context;

/// See the module's documentation.
pub struct ServerDataset<'a> {
    context: &'a Context,
}

impl<'a> ServerDataset<'a> {
    /// Looks through `context`, whose database is as before after each look.
    #[must_use]
    pub fn new(context: &'a Context) -> Self {
        Self { context }
    }

    /// The type of a key as the server names it; `none` when it is gone.
    #[must_use]
    pub fn type_name(&self, db: u32, key: &[u8]) -> String {
        self.look(|keyspace| keyspace.type_name(db, key))
    }

    fn look<R>(&self, body: impl FnOnce(&mut ServerKeyspace<'_>) -> R) -> R {
        look(self.context, VOLATILE.get(), body)
    }

    fn with<R>(&self, body: impl FnOnce(&mut ServerKeyspace<'_>) -> R) -> R {
        with_keyspace(self.context, body)
    }
}

impl Keyspace for ServerDataset<'_> {
    fn kind(&mut self, db: u32, key: &[u8]) -> Option<Kind> {
        self.look(|keyspace| keyspace.kind(db, key))
    }

    fn string(&mut self, db: u32, key: &[u8]) -> Option<Vec<u8>> {
        self.look(|keyspace| keyspace.string(db, key))
    }

    fn strings(&mut self, db: u32, keys: &[&[u8]], visit: &mut dyn FnMut(Option<&[u8]>)) {
        self.look(|keyspace| keyspace.strings(db, keys, visit));
    }

    fn string_len(&mut self, db: u32, key: &[u8]) -> u64 {
        self.look(|keyspace| keyspace.string_len(db, key))
    }

    fn string_range(&mut self, db: u32, key: &[u8], start: u64, len: usize) -> Vec<u8> {
        self.look(|keyspace| keyspace.string_range(db, key, start, len))
    }

    fn changed_string(&mut self, db: u32, key: &[u8], len: usize) -> Vec<u8> {
        self.look(|keyspace| keyspace.changed_string(db, key, len))
    }

    fn field(&mut self, db: u32, key: &[u8], field: &[u8]) -> Option<Vec<u8>> {
        self.with(|keyspace| keyspace.field(db, key, field))
    }

    fn field_expire_at(&mut self, db: u32, key: &[u8], field: &[u8]) -> Option<UnixMs> {
        self.with(|keyspace| keyspace.field_expire_at(db, key, field))
    }

    fn has_member(&mut self, db: u32, key: &[u8], member: &[u8]) -> bool {
        self.look(|keyspace| keyspace.has_member(db, key, member))
    }

    fn score(&mut self, db: u32, key: &[u8], member: &[u8]) -> Option<f64> {
        self.look(|keyspace| keyspace.score(db, key, member))
    }

    fn payload(&mut self, db: u32, key: &[u8]) -> Option<Vec<u8>> {
        self.with(|keyspace| keyspace.payload(db, key))
    }

    fn elements(&mut self, db: u32, key: &[u8], visit: &mut dyn FnMut(Path<'_>, Value<'_>)) {
        self.with(|keyspace| keyspace.elements(db, key, visit));
    }

    fn stream_part(&mut self, db: u32, key: &[u8], part: Part<'_>) -> Option<Payload> {
        self.look(|keyspace| keyspace.stream_part(db, key, part))
    }

    fn stream_entries(&mut self, db: u32, key: &[u8], from: StreamId, to: StreamId, visit: &mut dyn FnMut(StreamId)) {
        self.with(|keyspace| keyspace.stream_entries(db, key, from, to, visit));
    }

    fn lone_deliveries(&mut self, db: u32, key: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.look(|keyspace| keyspace.lone_deliveries(db, key, visit));
    }

    fn take_group(&mut self, db: u32, key: &[u8], group: &[u8]) {
        self.with(|keyspace| keyspace.take_group(db, key, group));
    }

    fn expire_at(&mut self, db: u32, key: &[u8]) -> Option<UnixMs> {
        self.look(|keyspace| keyspace.expire_at(db, key))
    }

    fn set_string(&mut self, db: u32, key: &[u8], value: &[u8], ttl: SetTtl) {
        self.with(|keyspace| keyspace.set_string(db, key, value, ttl));
    }

    fn write_range(&mut self, db: u32, key: &[u8], start: u64, bytes: &[u8]) {
        self.with(|keyspace| keyspace.write_range(db, key, start, bytes));
    }

    fn add_integer(&mut self, db: u32, key: &[u8], delta: i64) -> Result<i64, NotAdded> {
        self.with(|keyspace| keyspace.add_integer(db, key, delta))
    }

    fn add_integer_field(&mut self, db: u32, key: &[u8], field: &[u8], delta: i64) -> Result<i64, NotAdded> {
        self.with(|keyspace| keyspace.add_integer_field(db, key, field, delta))
    }

    fn put(&mut self, db: u32, key: &[u8], path: Path<'_>, value: Value<'_>) -> bool {
        self.with(|keyspace| keyspace.put(db, key, path, value))
    }

    fn take(&mut self, db: u32, key: &[u8], path: Path<'_>) {
        self.with(|keyspace| keyspace.take(db, key, path));
    }

    fn list_len(&mut self, db: u32, key: &[u8]) -> usize {
        self.look(|keyspace| keyspace.list_len(db, key))
    }

    fn list_get(&mut self, db: u32, key: &[u8], index: usize) -> Option<Vec<u8>> {
        self.look(|keyspace| keyspace.list_get(db, key, index))
    }

    fn list_insert(&mut self, db: u32, key: &[u8], index: usize, value: &[u8]) {
        self.with(|keyspace| keyspace.list_insert(db, key, index, value));
    }

    fn list_remove(&mut self, db: u32, key: &[u8], index: usize, count: usize) {
        self.with(|keyspace| keyspace.list_remove(db, key, index, count));
    }

    fn list_set(&mut self, db: u32, key: &[u8], index: usize, value: &[u8]) {
        self.with(|keyspace| keyspace.list_set(db, key, index, value));
    }

    fn set_expire_at(&mut self, db: u32, key: &[u8], at: Option<UnixMs>) {
        self.with(|keyspace| keyspace.set_expire_at(db, key, at));
    }

    fn delete(&mut self, db: u32, key: &[u8], reason: ClearReason) {
        self.with(|keyspace| keyspace.delete(db, key, reason));
    }

    fn flush(&mut self, scope: FlushScope) {
        self.with(|keyspace| keyspace.flush(scope));
    }

    fn keys(&mut self, scope: FlushScope, visit: &mut dyn FnMut(u32, &[u8])) {
        self.with(|keyspace| keyspace.keys(scope, visit));
    }

    fn publish(&mut self, sharded: bool, channel: &[u8], message: &[u8]) {
        self.with(|keyspace| keyspace.publish(sharded, channel, message));
    }

    fn finish(&mut self) {}
}
