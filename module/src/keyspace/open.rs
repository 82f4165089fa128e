//! The one key that the merge is working on.

use smallvec::SmallVec;

use super::event::{Event, Events};
use super::tail::Tail;
use crate::redis::call::{call_increment, call_set};
use crate::redis::{Context, ExpiryOff, Key, OwnedText, Reply, Text, call, notify, signal_modified};

/// A key, opened when first needed and kept open until something else must see it.
pub struct OpenKey {
    db: u32,
    name: OwnedText,
    key: Option<Key>,
    events: Events,
    members: Members,
    /// Of a stream.
    pub(super) tail: Tail,
}

/// Set members not yet added or removed. The raw key API has nothing for sets, and one `SADD` with many members
/// costs little more than one with one.
#[derive(Default)]
struct Members {
    add: bool,
    names: SmallVec<[OwnedText; 4]>,
}

/// Enough to spread the cost of a call, few enough to hold no large copies.
const MEMBERS_MAX: usize = 256;

impl OpenKey {
    /// A key of database `db`, which is selected while it is used.
    pub fn new(db: u32, name: &[u8]) -> Self {
        let name = OwnedText::new(name);
        Self { db, name, key: None, events: Events::default(), members: Members::default(), tail: Tail::default() }
    }

    /// Becomes another key; this one is closed.
    pub fn rename(&mut self, db: u32, name: &[u8]) {
        self.db = db;
        self.name = OwnedText::new(name);
        self.tail = Tail::default();
    }

    /// Whether it is this key.
    pub fn is(&self, db: u32, name: &[u8]) -> bool {
        self.db == db && self.name.text().as_bytes() == name
    }

    /// The key through the raw API.
    pub fn key(&mut self, context: &Context, expiry: ExpiryOff) -> &mut Key {
        self.send_members(context);
        self.open_key(context, expiry)
    }

    /// The same, without counting as an access.
    pub fn key_quietly(&mut self, context: &Context, expiry: ExpiryOff) -> &mut Key {
        self.key.get_or_insert_with(|| Key::open_quietly(context, self.name.text(), expiry))
    }

    /// Closes the raw key and keeps what is due: the server forgets where it was in a list, which it must before anything but going on
    /// there (else it crashes).
    pub fn release(&mut self) {
        self.key = None;
    }

    /// Notes an event; the key was changed through the raw API.
    pub fn changed(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Whether members to add are waiting, so that the key is a set whatever it was.
    pub fn is_growing_set(&self) -> bool {
        self.members.add && !self.members.names.is_empty()
    }

    /// The key as it is without the members that wait to be added, which change no TTL.
    pub fn key_without_members(&mut self, context: &Context, expiry: ExpiryOff) -> &mut Key {
        if self.members.add { self.open_key(context, expiry) } else { self.key(context, expiry) }
    }

    pub(super) fn open_key(&mut self, context: &Context, expiry: ExpiryOff) -> &mut Key {
        self.key.get_or_insert_with(|| Key::open(context, self.name.text(), expiry))
    }

    /// Adds or removes a set member, soon.
    pub fn member(&mut self, context: &Context, add: bool, member: &[u8]) {
        if self.members.add != add || self.members.names.len() >= MEMBERS_MAX {
            self.send_members(context);
        }
        self.members.add = add;
        self.members.names.push(OwnedText::new(member));
    }

    /// Calls a command with this key as its first argument.
    pub fn call(&mut self, context: &Context, command: &std::ffi::CStr, rest: &[&[u8]]) -> Reply {
        self.close(context);
        let rest: SmallVec<[OwnedText; 4]> = rest.iter().map(|bytes| OwnedText::new(bytes)).collect();
        self.call_with(context, command, &rest)
    }

    /// Calls `INCRBY`, or `HINCRBY` for a field.
    pub fn increment(context: &Context, open: &mut Self, field: Option<&[u8]>, delta: i64) -> Reply {
        open.close(context);
        let field = field.map(OwnedText::new);
        call_increment(context, open.name.text(), field.as_ref().map(OwnedText::text), delta)
    }

    /// Calls `SET` for a value to be stored as an integer.
    pub fn call_set(&mut self, context: &Context, value: &[u8], keep_ttl: bool) {
        self.close(context);
        call_set(context, self.name.text(), value, keep_ttl);
    }

    pub(super) fn call_with(&self, context: &Context, command: &std::ffi::CStr, rest: &[OwnedText]) -> Reply {
        let args: SmallVec<[Text<'_>; 8]> =
            std::iter::once(self.name.text()).chain(rest.iter().map(OwnedText::text)).collect();
        call(context, command, &args)
    }

    /// Closes the key: what was changed is signalled and published, in the order of a command.
    pub fn close(&mut self, context: &Context) {
        self.send_members(context);
        self.send_late(context);
        self.close_raw(context);
    }

    /// Closes the raw key, so that a command may change it.
    pub(super) fn drop_key(&mut self) {
        self.key = None;
    }

    /// The name of the key.
    pub(super) fn name(&self) -> Text<'_> {
        self.name.text()
    }

    fn close_raw(&mut self, context: &Context) {
        self.key = None;
        if self.events.is_empty() {
            return;
        }
        signal_modified(context, self.name.text());
        for event in self.events.drain() {
            notify(context, event.class, event.name, self.name.text());
        }
    }

    fn send_members(&mut self, context: &Context) {
        if self.members.names.is_empty() {
            return;
        }
        self.close_raw(context);
        let command = if self.members.add { c"SADD" } else { c"SREM" };
        let names = std::mem::take(&mut self.members.names);
        self.call_with(context, command, &names);
    }
}
