//! [`Keyspace`] on the real server.

use smallvec::SmallVec;
use syncer_shared::effect::{ClearReason, FlushScope, Kind, Path, UnixMs, Value};
use syncer_shared::keyspace::{Keyspace, NotAdded, SetTtl};
use syncer_shared::metadata::Payload;
use syncer_shared::stream::{Part, StreamId};

use super::event::Event;
use super::field_ttls;
use super::functions;
use super::open::OpenKey;
use super::payload;
use super::plain;
use super::string::is_stored_as_integer;
use crate::capture;
use crate::redis::timer::{cached_ms, now_ms};
use crate::redis::{Context, Element, ExpiryOff, KeyScan, KeyType, OwnedText, Reply, call, publish};

/// See [`super::with_keyspace`].
pub struct ServerKeyspace<'a> {
    pub(super) context: &'a Context,
    pub(super) expiry: ExpiryOff,
    /// The database that was selected before.
    home: u32,
    selected: u32,
    open: Option<OpenKey>,
}

impl<'a> ServerKeyspace<'a> {
    pub(super) fn new(context: &'a Context, expiry: ExpiryOff) -> Self {
        let home = context.db();
        Self { context, expiry, home, selected: home, open: None }
    }

    /// The key to work on; the one before is closed.
    pub(super) fn at(&mut self, db: u32, name: &[u8]) -> &mut OpenKey {
        let is_another = match &mut self.open {
            Some(open) if open.is(db, name) => false,
            Some(open) => {
                open.close(self.context);
                open.rename(db, name);
                true
            }
            None => true,
        };
        if is_another {
            self.select(db);
        }
        self.open.get_or_insert_with(|| OpenKey::new(db, name))
    }

    pub(super) fn close(&mut self) {
        if let Some(mut open) = self.open.take() {
            open.close(self.context);
        }
    }

    /// See [`OpenKey::release`].
    pub(super) fn release(&mut self) {
        if let Some(open) = &mut self.open {
            open.release();
        }
    }

    pub(super) fn select(&mut self, db: u32) {
        if self.selected != db && self.context.select(db) {
            self.selected = db;
        }
    }

    pub(super) fn key(&mut self, db: u32, name: &[u8]) -> &mut crate::redis::Key {
        let (context, expiry) = (self.context, self.expiry);
        self.at(db, name).key(context, expiry)
    }

    pub(super) fn call(&mut self, db: u32, name: &[u8], command: &std::ffi::CStr, rest: &[&[u8]]) -> Reply {
        let context = self.context;
        self.at(db, name).call(context, command, rest)
    }

    pub(super) fn changed(&mut self, event: Event) {
        if let Some(open) = &mut self.open {
            open.changed(event);
        }
    }

    /// After an element went: whether the key went with it.
    pub(super) fn shrunk(&mut self, db: u32, name: &[u8], event: Event) {
        self.changed(event);
        if self.key(db, name).key_type() == KeyType::Empty {
            self.changed(Event::DEL);
        }
    }

    /// The TTLs of some fields that the server shows. In the millisecond in which one ends Redis still does, in small hashes, and says
    /// that there is no such field.
    fn field_times(&mut self, db: u32, key: &[u8], fields: &[&[u8]]) -> Vec<Option<UnixMs>> {
        let count = fields.len().to_string();
        let args: Vec<&[u8]> =
            [b"FIELDS".as_slice(), count.as_bytes()].into_iter().chain(fields.iter().copied()).collect();
        let reply = self.call(db, key, c"HPEXPIRETIME", &args);
        let mut times = Vec::with_capacity(fields.len());
        reply.each(|time: Element<'_>| {
            times.push(match time.integer() {
                Some(NO_FIELD) => Some(cached_ms() as UnixMs),
                time => time.filter(|at| *at > 0),
            });
        });
        times
    }

    /// The fields of a hash with their TTLs.
    fn expiring_fields(&mut self, db: u32, key: &[u8], visit: &mut dyn FnMut(Path<'_>, Value<'_>)) {
        let mut fields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        self.key(db, key).scan(&mut |field, value| fields.push((field.to_vec(), value.unwrap_or_default().to_vec())));
        for some in fields.chunks(FIELDS_AT_ONCE) {
            let names: Vec<&[u8]> = some.iter().map(|(name, _)| name.as_slice()).collect();
            let times = self.field_times(db, key, &names);
            for (at, (name, bytes)) in some.iter().enumerate() {
                let value = match times.get(at).copied().flatten() {
                    Some(at) => Value::Expiring { bytes, at },
                    None => Value::Bytes(bytes),
                };
                visit(Path::Field(name), value);
            }
        }
    }

    /// Runs `look`, which does not count as an access to the key: eviction goes by those of clients.
    pub fn unnoticed<R>(&mut self, db: u32, name: &[u8], look: impl FnOnce(&mut Self) -> R) -> R {
        let (context, expiry) = (self.context, self.expiry);
        let usage = self.at(db, name).key_quietly(context, expiry).usage();
        let result = look(self);
        self.at(db, name).key_quietly(context, expiry).set_usage(usage);
        result
    }
}

/// What `HPEXPIRETIME` says of a field that is not there.
const NO_FIELD: i64 = -2;
/// So long a field is shown that came when its time had passed.
const SHOWN_MS: u64 = 2;
/// For so many fields the TTLs are asked for in one command.
const FIELDS_AT_ONCE: usize = 128;

impl Keyspace for ServerKeyspace<'_> {
    fn kind(&mut self, db: u32, key: &[u8]) -> Option<Kind> {
        if functions::is(db) {
            return functions::code(self.context, key).map(|_| Kind::Opaque);
        }
        let (context, expiry) = (self.context, self.expiry);
        let open = self.at(db, key);
        if open.is_growing_set() {
            return Some(Kind::Set);
        }
        if open.has_late() {
            return Some(Kind::Stream);
        }
        plain::kind(open.key(context, expiry))
    }

    fn string(&mut self, db: u32, key: &[u8]) -> Option<Vec<u8>> {
        self.read_string(db, key)
    }

    fn is_string(&mut self, db: u32, key: &[u8], text: &[u8]) -> bool {
        match self.key(db, key).long_string() {
            Some(known) => known == text,
            None => self.string(db, key).is_some_and(|known| known == text),
        }
    }

    fn strings(&mut self, db: u32, keys: &[&[u8]], visit: &mut dyn FnMut(Option<&[u8]>)) {
        self.read_strings(db, keys, visit);
    }

    fn string_len(&mut self, db: u32, key: &[u8]) -> u64 {
        self.key(db, key).string_len() as u64
    }

    fn string_range(&mut self, db: u32, key: &[u8], start: u64, len: usize) -> Vec<u8> {
        self.read_range(db, key, start, len)
    }

    fn changed_string(&mut self, db: u32, key: &[u8], len: usize) -> Vec<u8> {
        self.beginning_of_raw(db, key, len)
    }

    fn field(&mut self, db: u32, key: &[u8], field: &[u8]) -> Option<Vec<u8>> {
        let value = self.key(db, key).field(OwnedText::new(field).text())?;
        Some(value.text().as_bytes().to_vec())
    }

    fn field_expire_at(&mut self, db: u32, key: &[u8], field: &[u8]) -> Option<UnixMs> {
        if !field_ttls::may_exist() {
            return None;
        }
        let at = self.field_times(db, key, &[field]).first().copied().flatten()?;
        // Where it is hidden, that time is no more than a guess.
        (at > cached_ms() as UnixMs || self.field(db, key, field).is_some()).then_some(at)
    }

    fn has_member(&mut self, db: u32, key: &[u8], member: &[u8]) -> bool {
        self.call(db, key, c"SISMEMBER", &[member]).integer() == Some(1)
    }

    fn score(&mut self, db: u32, key: &[u8], member: &[u8]) -> Option<f64> {
        self.key(db, key).score(OwnedText::new(member).text())
    }

    fn payload(&mut self, db: u32, key: &[u8]) -> Option<Vec<u8>> {
        if functions::is(db) {
            return functions::code(self.context, key);
        }
        match self.key(db, key).key_type() {
            KeyType::Other => self.call(db, key, c"DUMP", &[]).bytes().and_then(payload::encode_dump),
            _ => None,
        }
    }

    fn elements(&mut self, db: u32, key: &[u8], visit: &mut dyn FnMut(Path<'_>, Value<'_>)) {
        match self.kind(db, key) {
            None => {}
            Some(Kind::String) => {
                if let Some(value) = self.string(db, key) {
                    visit(Path::String, Value::Bytes(&value));
                }
            }
            Some(Kind::Hash) if field_ttls::may_exist() => self.expiring_fields(db, key, visit),
            Some(Kind::Hash | Kind::Set | Kind::SortedSet) => plain::elements(self.key(db, key), visit),
            Some(Kind::Stream) => self.stream_elements(db, key, visit),
            Some(Kind::List) => self.each_of_list(db, key, visit),
            Some(Kind::Opaque) => {
                if let Some(payload) = self.payload(db, key) {
                    visit(Path::Opaque, Value::Payload(&payload));
                }
            }
        }
    }

    fn stream_part(&mut self, db: u32, key: &[u8], part: Part<'_>) -> Option<Payload> {
        self.read_part(db, key, part)
    }

    fn stream_entries(&mut self, db: u32, key: &[u8], from: StreamId, to: StreamId, visit: &mut dyn FnMut(StreamId)) {
        self.visit_entries(db, key, from, to, visit);
    }

    fn lone_deliveries(&mut self, db: u32, key: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.visit_lone(db, key, visit);
    }

    fn take_group(&mut self, db: u32, key: &[u8], group: &[u8]) {
        self.destroy_group(db, key, group);
    }

    fn keys(&mut self, scope: FlushScope, visit: &mut dyn FnMut(u32, &[u8])) {
        self.close();
        if let FlushScope::Db(db) = scope
            && functions::is(db)
        {
            return functions::list(self.context).iter().for_each(|(name, _)| visit(db, name));
        }
        let databases = match scope {
            FlushScope::Db(db) => db..=db,
            FlushScope::All => 0..=u32::MAX,
        };
        for db in databases {
            if !self.context.select(db) {
                break;
            }
            self.selected = db;
            let mut scan = KeyScan::new();
            while scan.step(self.context, &mut |name| visit(db, name)) {}
        }
    }

    fn expire_at(&mut self, db: u32, key: &[u8]) -> Option<UnixMs> {
        if functions::is(db) {
            return None;
        }
        let (context, expiry) = (self.context, self.expiry);
        self.at(db, key).key_without_members(context, expiry).expire_at()
    }

    fn set_string(&mut self, db: u32, key: &[u8], value: &[u8], ttl: SetTtl) {
        if is_stored_as_integer(value) {
            // Only `SET` makes the integer encoding; and it would carry out a time that has passed.
            let context = self.context;
            self.at(db, key).call_set(context, value, ttl == SetTtl::Keep);
        } else {
            let open = self.key(db, key);
            let expire_at = (ttl == SetTtl::Keep).then(|| open.expire_at()).flatten();
            open.set_string(OwnedText::new(value).text());
            if expire_at.is_some() {
                open.set_expire_at(expire_at);
            }
            self.changed(Event::SET);
        }
        if let SetTtl::At(at) = ttl {
            self.key(db, key).set_expire_at(Some(at));
            self.changed(Event::EXPIRE);
            capture::saw_ttl();
        }
    }

    fn write_range(&mut self, db: u32, key: &[u8], start: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            // An `APPEND` of nothing makes the key; the server's functions don't.
            return if self.kind(db, key).is_none() {
                self.set_string(db, key, bytes, SetTtl::Keep)
            };
        }
        if usize::try_from(start).is_ok_and(|start| self.key(db, key).write_string(start, bytes)) {
            self.changed(Event::SETRANGE);
            return;
        }
        // Longer than the server's functions make one: two sites have appended to what was nearly too long.
        let mut text = self.string(db, key).unwrap_or_default();
        let (start, end) = (start as usize, start as usize + bytes.len());
        text.resize(text.len().max(end), 0);
        if let Some(place) = text.get_mut(start..end) {
            place.copy_from_slice(bytes);
        }
        self.set_string(db, key, &text, SetTtl::Keep);
    }

    fn add_integer(&mut self, db: u32, key: &[u8], delta: i64) -> Result<i64, NotAdded> {
        OpenKey::increment(self.context, self.at(db, key), None, delta).integer().ok_or(NotAdded)
    }

    fn add_integer_field(&mut self, db: u32, key: &[u8], field: &[u8], delta: i64) -> Result<i64, NotAdded> {
        // It would keep its time, and be deleted.
        if field_ttls::is_unheard_of(db, key, field) && self.field(db, key, field).is_none() {
            self.key(db, key).set_field(OwnedText::new(field).text(), OwnedText::new(b"0").text());
        }
        // Not through `HashSet`, which would drop a TTL of the field.
        OpenKey::increment(self.context, self.at(db, key), Some(field), delta).integer().ok_or(NotAdded)
    }

    fn put(&mut self, db: u32, key: &[u8], path: Path<'_>, value: Value<'_>) -> bool {
        match (path, value) {
            (Path::String, Value::Bytes(bytes)) => self.set_string(db, key, bytes, SetTtl::Keep),
            (Path::Field(field), Value::Bytes(bytes)) => {
                self.key(db, key).set_field(OwnedText::new(field).text(), OwnedText::new(bytes).text());
                self.changed(Event::HSET);
            }
            (Path::Field(field), Value::Expiring { bytes, at }) => {
                let is_new = field_ttls::are_supported() && self.kind(db, key).is_none();
                self.put(db, key, path, Value::Bytes(bytes));
                if field_ttls::are_supported() {
                    field_ttls::note(db, key, field, is_new);
                    // The server would delete at once what has expired, and nothing would say so: it expires here as elsewhere.
                    let at = at.max((now_ms() + SHOWN_MS) as UnixMs).to_string();
                    self.call(db, key, c"HPEXPIREAT", &[at.as_bytes(), b"FIELDS", b"1", field]);
                }
            }
            (Path::Member(member), _) => {
                let context = self.context;
                self.at(db, key).member(context, true, member);
            }
            (Path::Scored(member), Value::Score(score)) => {
                if self.key(db, key).set_score(OwnedText::new(member).text(), score) {
                    self.changed(Event::ZADD);
                }
            }
            (Path::Opaque, Value::Payload(code)) if functions::is(db) => {
                return functions::load(self.context, key, code);
            }
            (Path::Opaque, Value::Payload(payload)) => return self.put_payload(db, key, payload),
            (Path::Stream(name), value) => return self.put_part(db, key, name, value),
            // The decoder refuses any other pair.
            _ => debug_assert!(false, "a value of another type than its path"),
        }
        true
    }

    fn take(&mut self, db: u32, key: &[u8], path: Path<'_>) {
        match path {
            Path::String | Path::Opaque => self.delete(db, key, ClearReason::Deleted),
            Path::Stream(name) => self.take_part(db, key, name),
            Path::Field(field) => {
                if self.key(db, key).remove_field(OwnedText::new(field).text()) {
                    self.shrunk(db, key, Event::HDEL);
                }
            }
            Path::Member(member) => {
                let context = self.context;
                self.at(db, key).member(context, false, member);
            }
            Path::Scored(member) => {
                if self.key(db, key).remove_member(OwnedText::new(member).text()) {
                    self.shrunk(db, key, Event::ZREM);
                }
            }
            Path::Element(_) => debug_assert!(false, "list elements go by index"),
        }
    }

    fn list_len(&mut self, db: u32, key: &[u8]) -> usize {
        self.length_of_list(db, key)
    }

    fn list_get(&mut self, db: u32, key: &[u8], index: usize) -> Option<Vec<u8>> {
        self.element_of_list(db, key, index)
    }

    fn list_insert(&mut self, db: u32, key: &[u8], index: usize, value: &[u8]) {
        self.insert_into_list(db, key, index, value);
    }

    fn list_remove(&mut self, db: u32, key: &[u8], index: usize, count: usize) {
        self.remove_from_list(db, key, index, count);
    }

    fn list_set(&mut self, db: u32, key: &[u8], index: usize, value: &[u8]) {
        self.set_in_list(db, key, index, value);
    }

    fn set_expire_at(&mut self, db: u32, key: &[u8], at: Option<UnixMs>) {
        if functions::is(db) {
            return;
        }
        let open = self.key(db, key);
        if open.key_type() == KeyType::Empty || open.expire_at() == at {
            return;
        }
        open.set_expire_at(at);
        self.changed(if at.is_some() { Event::EXPIRE } else { Event::PERSIST });
        capture::saw_ttl();
    }

    fn delete(&mut self, db: u32, key: &[u8], reason: ClearReason) {
        if functions::is(db) {
            return functions::delete(self.context, key);
        }
        self.at(db, key).forget_tail();
        let open = self.key(db, key);
        if open.key_type() != KeyType::Empty {
            open.delete();
            self.changed(Event::of(reason));
        }
    }

    fn flush(&mut self, scope: FlushScope) {
        self.close();
        let none: SmallVec<[_; 1]> = SmallVec::new();
        match scope {
            FlushScope::Db(db) => {
                self.select(db);
                call(self.context, c"FLUSHDB", &none);
            }
            FlushScope::All => drop(call(self.context, c"FLUSHALL", &none)),
        }
    }

    fn publish(&mut self, sharded: bool, channel: &[u8], message: &[u8]) {
        self.close();
        let flags = self.context.flags();
        // In cluster mode a replica has it from its primary, by the bus.
        let has_it = flags.is_replicated() && flags.is_cluster();
        if !flags.is_loading() && !has_it {
            publish(self.context, sharded, channel, message);
        }
    }

    fn finish(&mut self) {
        self.close();
        self.select(self.home);
    }
}

impl Drop for ServerKeyspace<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}
