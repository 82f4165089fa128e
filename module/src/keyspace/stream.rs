//! Streams: their parts as the server has them.

use std::cell::Cell;
use std::collections::HashSet;
use std::ffi::CStr;

use syncer_shared::effect::{Path, Value};
use syncer_shared::keyspace::Keyspace;
use syncer_shared::metadata::Payload;
use syncer_shared::stream::{Part, StreamId, entry_name};

use super::event::Event;
use super::server::ServerKeyspace;
use super::tail::{LATE_CONSUMER, field};
use crate::redis::{Element, KeyType, OwnedText, Reply, Text, call};

crate::redis::server_local! {
    static WRITTEN: Cell<bool> = const { Cell::new(false) };
}

/// Streams have been written: who waits for entries may be given some.
pub fn saw_write() {
    WRITTEN.set(true);
}

/// Whether streams have been written since [`forget_writes`].
#[must_use]
pub fn saw_writes() -> bool {
    WRITTEN.get()
}

/// What was given since was looked at.
pub fn forget_writes() {
    WRITTEN.set(false);
}

/// So many deliveries are asked for at once.
const DELIVERIES_AT_ONCE: usize = 1000;

/// An entry that a group was delivered, and who it is pending for.
type Pending = (StreamId, Vec<u8>);

impl ServerKeyspace<'_> {
    /// Calls `command sub key rest ...`.
    fn call_sub(&mut self, db: u32, key: &[u8], command: &CStr, sub: &[u8], rest: &[&[u8]]) -> Reply {
        self.at(db, key);
        self.close();
        self.select(db);
        let owned: Vec<OwnedText> = [sub, key].iter().chain(rest).map(|bytes| OwnedText::new(bytes)).collect();
        let args: Vec<Text<'_>> = owned.iter().map(OwnedText::text).collect();
        call(self.context, command, &args)
    }

    /// Whether the server holds it: it keeps no delivery without its entry and its group.
    pub(super) fn put_part(&mut self, db: u32, key: &[u8], name: &[u8], value: Value<'_>) -> bool {
        let (context, expiry) = (self.context, self.expiry);
        saw_write();
        match (Part::parse(name), value) {
            (Some(Part::Entry(id)), Value::Bytes(fields)) => {
                self.at(db, key).put_entry(context, expiry, id, fields);
                self.changed(Event::XADD);
            }
            (Some(Part::Last), Value::Id(id)) => {
                if self.kind(db, key).is_none() {
                    self.call_sub(db, key, c"XGROUP", b"CREATE", &[b"g", b"0", b"MKSTREAM"]);
                    self.call_sub(db, key, c"XGROUP", b"DESTROY", &[b"g"]);
                }
                self.at(db, key).set_last_id(context, expiry, id);
            }
            (Some(Part::Group(group)), Value::Id(position)) => {
                let position = position.to_string();
                let args = [group, position.as_bytes()];
                if self.call_sub(db, key, c"XGROUP", b"SETID", &args).is_error() {
                    let args = [group, position.as_bytes(), b"MKSTREAM"];
                    self.call_sub(db, key, c"XGROUP", b"CREATE", &args);
                }
            }
            (Some(Part::Consumer { group, name }), _) => {
                self.call_sub(db, key, c"XGROUP", b"CREATECONSUMER", &[group, name]);
            }
            (Some(Part::Delivery { group, id }), value) => {
                let consumer = if let Value::Owner(consumer) = value { consumer } else { LATE_CONSUMER };
                let id = id.to_string();
                let args: [&[u8]; 6] = [group, consumer, b"0", id.as_bytes(), b"FORCE", b"JUSTID"];
                let mut claimed = false;
                self.call(db, key, c"XCLAIM", &args).each(|_| claimed = true);
                return claimed;
            }
            // The decoder refuses any other pair.
            _ => debug_assert!(false, "a value of another type than its part"),
        }
        true
    }

    pub(super) fn take_part(&mut self, db: u32, key: &[u8], name: &[u8]) {
        match Part::parse(name) {
            Some(Part::Entry(id)) => {
                if self.at(db, key).has_late() {
                    self.close();
                }
                if self.key(db, key).delete_entry(id) {
                    self.changed(Event::XDEL);
                }
            }
            Some(Part::Group(group)) => self.destroy_group(db, key, group),
            // What else is pending for it would go with it.
            Some(Part::Consumer { group, name }) if self.pending(db, key, group, None, Some(name)).is_empty() => {
                self.call_sub(db, key, c"XGROUP", b"DELCONSUMER", &[group, name]);
            }
            Some(Part::Delivery { group, id }) => {
                self.call(db, key, c"XACK", &[group, id.to_string().as_bytes()]);
            }
            Some(Part::Last | Part::Consumer { .. }) | None => {}
        }
    }

    pub(super) fn destroy_group(&mut self, db: u32, key: &[u8], group: &[u8]) {
        self.call_sub(db, key, c"XGROUP", b"DESTROY", &[group]);
    }

    pub(super) fn read_part(&mut self, db: u32, key: &[u8], part: Part<'_>) -> Option<Payload> {
        let (context, expiry) = (self.context, self.expiry);
        match part {
            Part::Entry(id) => {
                if self.at(db, key).has_late() {
                    self.close();
                }
                let mut found = None;
                let open = self.at(db, key).key(context, expiry);
                open.entries(id, id, |_, fields| found = Some(Payload::Bytes(fields.into())));
                found
            }
            Part::Last => self.at(db, key).last_id(context).map(Payload::Id),
            Part::Group(group) => {
                let groups = self.at(db, key).groups(context);
                groups.into_iter().find(|(name, _)| *name == group).map(|(_, position)| Payload::Id(position))
            }
            Part::Consumer { group, name } => {
                self.consumers(db, key, group).contains(&name.to_vec()).then_some(Payload::Present)
            }
            Part::Delivery { group, id } => {
                let pending = self.pending(db, key, group, Some(id), None);
                pending.into_iter().next().map(|(_, consumer)| delivered(consumer))
            }
        }
    }

    pub(super) fn visit_entries(
        &mut self,
        db: u32,
        key: &[u8],
        from: StreamId,
        to: StreamId,
        visit: &mut dyn FnMut(StreamId),
    ) {
        if self.at(db, key).has_late() {
            self.close();
        }
        self.key(db, key).entry_ids(from, to, |id| {
            visit(id);
            true
        });
    }

    /// Whether there is an entry with this id or a higher one.
    pub fn has_entry_from(&mut self, db: u32, key: &[u8], from: StreamId) -> bool {
        let mut any = false;
        self.key(db, key).entry_ids(from, StreamId::MAX, |_| {
            any = true;
            false
        });
        any
    }

    /// The lowest id of an entry.
    pub fn first_entry(&mut self, db: u32, key: &[u8]) -> Option<StreamId> {
        let mut first = None;
        self.key(db, key).entry_ids(StreamId::MIN, StreamId::MAX, |id| {
            first = Some(id);
            false
        });
        first
    }

    /// Every part of a stream: entries first, then what needs them. What is pending of entries that were deleted does not count.
    pub(super) fn stream_elements(&mut self, db: u32, key: &[u8], visit: &mut dyn FnMut(Path<'_>, Value<'_>)) {
        if self.key(db, key).key_type() != KeyType::Stream && !self.at(db, key).has_late() {
            return;
        }
        self.at(db, key);
        self.close();
        let mut ids = HashSet::new();
        self.key(db, key).entries(StreamId::MIN, StreamId::MAX, |id, fields| {
            ids.insert(id);
            visit(Path::Stream(&entry_name(id)), Value::Bytes(fields));
        });
        let context = self.context;
        let mut part = |part: Part<'_>, value: Value<'_>| visit(Path::Stream(&part.name()), value);
        if let Some(last) = self.at(db, key).last_id(context) {
            part(Part::Last, Value::Id(last));
        }
        let groups = self.at(db, key).groups(context);
        for (group, position) in &groups {
            part(Part::Group(group), Value::Id(*position));
        }
        for (group, _) in &groups {
            for name in self.consumers(db, key, group).iter().filter(|name| *name != LATE_CONSUMER) {
                part(Part::Consumer { group, name }, Value::Present);
            }
            for (id, consumer) in self.pending(db, key, group, None, None) {
                if ids.contains(&id) {
                    let payload = delivered(consumer);
                    let delivery = Part::Delivery { group, id };
                    part(delivery, payload.value(Path::Stream(&delivery.name())));
                }
            }
        }
    }

    /// What is pending of entries that were deleted.
    pub(super) fn visit_lone(&mut self, db: u32, key: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) {
        let mut ids = HashSet::new();
        self.visit_entries(db, key, StreamId::MIN, StreamId::MAX, &mut |id| {
            ids.insert(id);
        });
        for group in self.group_names(db, key) {
            let pending = self.pending(db, key, &group, None, None).into_iter();
            for (id, owner) in pending.filter(|(id, owner)| !ids.contains(id) && owner != LATE_CONSUMER) {
                visit(&Part::Delivery { group: &group, id }.name(), &owner);
            }
        }
    }

    fn consumers(&mut self, db: u32, key: &[u8], group: &[u8]) -> Vec<Vec<u8>> {
        let reply = self.call_sub(db, key, c"XINFO", b"CONSUMERS", &[group]);
        let mut names = Vec::new();
        reply.each(|consumer: Element<'_>| {
            names.extend(field(consumer, b"name").and_then(Element::bytes).map(<[u8]>::to_vec));
        });
        names
    }

    /// The groups of a stream.
    pub fn group_names(&mut self, db: u32, key: &[u8]) -> Vec<Vec<u8>> {
        let context = self.context;
        self.at(db, key).groups(context).into_iter().map(|(name, _)| name).collect()
    }

    /// What is pending in a group: of one entry or of all, for one consumer or for all.
    pub fn pending(
        &mut self,
        db: u32,
        key: &[u8],
        group: &[u8],
        of: Option<StreamId>,
        consumer: Option<&[u8]>,
    ) -> Vec<Pending> {
        self.first_pending(db, key, group, of, consumer, usize::MAX)
    }

    /// The first entries that arrived below the position of a group.
    pub fn late(&mut self, db: u32, key: &[u8], group: &[u8], count: usize) -> Vec<StreamId> {
        let late = self.first_pending(db, key, group, None, Some(LATE_CONSUMER), count);
        late.into_iter().map(|(id, _)| id).collect()
    }

    fn first_pending(
        &mut self,
        db: u32,
        key: &[u8],
        group: &[u8],
        of: Option<StreamId>,
        consumer: Option<&[u8]>,
        count: usize,
    ) -> Vec<Pending> {
        let at_once = count.min(DELIVERIES_AT_ONCE).to_string();
        let mut pending: Vec<Pending> = Vec::new();
        loop {
            let (known, last) = (pending.len(), pending.last().map(|(id, _)| format!("({id}")));
            let (from, to) = match (of, last) {
                (Some(id), _) => (id.to_string(), id.to_string()),
                (None, Some(after)) => (after, "+".to_owned()),
                (None, None) => ("-".to_owned(), "+".to_owned()),
            };
            let mut args = vec![group, from.as_bytes(), to.as_bytes(), at_once.as_bytes()];
            args.extend(consumer);
            self.call(db, key, c"XPENDING", &args).each(|entry: Element<'_>| {
                let id = entry.get(0).and_then(Element::bytes).and_then(StreamId::parse);
                if let (Some(id), Some(owner)) = (id, entry.get(1).and_then(Element::bytes)) {
                    pending.push((id, owner.to_vec()));
                }
            });
            if of.is_some() || pending.len() == known || pending.len() >= count {
                return pending;
            }
        }
    }
}

fn delivered(consumer: Vec<u8>) -> Payload {
    if consumer == LATE_CONSUMER { Payload::Late } else { Payload::Owner(consumer.into()) }
}
