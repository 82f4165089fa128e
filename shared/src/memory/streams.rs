//! Streams in memory: what a server does of itself when a part is written.

use super::{Entry, MemoryKeyspace};
use crate::effect::Kind;
use crate::metadata::Payload;
use crate::stream::{LAST_NAME, Part, StreamId, entry_id, entry_name};

impl Entry {
    /// Puts a part of a stream. Whether it is held: no delivery is without its entry, unless so wanted.
    pub(super) fn put_part(&mut self, name: &[u8], payload: Payload, holds_lone: bool) -> bool {
        match Part::parse(name) {
            Some(Part::Delivery { id, .. }) if !holds_lone && !self.elements.contains_key(&entry_name(id)[..]) => {
                return false;
            }
            Some(Part::Entry(id)) => {
                let is_new = self.elements.insert(name.into(), payload).is_none();
                self.raise_last(id);
                if is_new {
                    self.late_for_groups(id);
                }
            }
            _ => drop(self.elements.insert(name.into(), payload)),
        }
        true
    }

    /// Takes a part of a stream, and what is late because of it.
    pub(super) fn take_part(&mut self, name: &[u8]) {
        match Part::parse(name) {
            Some(Part::Entry(gone)) => {
                self.drop_late(|part| matches!(part, Part::Delivery { id, .. } if *id == gone));
            }
            Some(Part::Group(gone)) => self.drop_late(|part| part.group() == Some(gone)),
            _ => {}
        }
        self.elements.remove(name);
    }

    /// A delivery whose entry is gone: no server names it among the parts of a stream.
    pub(super) fn is_lone_delivery(&self, name: &[u8]) -> bool {
        match Part::parse(name) {
            Some(Part::Delivery { id, .. }) if self.kind == Kind::Stream => {
                !self.elements.contains_key(&entry_name(id)[..])
            }
            _ => false,
        }
    }

    /// Takes a group with all that belongs to it.
    pub(super) fn take_group(&mut self, group: &[u8]) {
        self.elements.retain(|name, _| Part::parse(name).and_then(|part| part.group()) != Some(group));
    }

    fn drop_late(&mut self, of: impl Fn(&Part<'_>) -> bool) {
        let is_gone = |name: &[u8]| Part::parse(name).is_some_and(|part| of(&part));
        self.elements.retain(|name, payload| *payload != Payload::Late || !is_gone(name));
    }

    fn raise_last(&mut self, id: StreamId) {
        let last = self.elements.entry(LAST_NAME.into()).or_insert(Payload::Id(StreamId::MIN));
        if let Payload::Id(known) = last {
            *known = id.max(*known);
        }
    }

    fn late_for_groups(&mut self, id: StreamId) {
        let is_past = |(name, payload): (&Vec<u8>, &Payload)| match (Part::parse(name), payload) {
            (Some(Part::Group(group)), Payload::Id(position)) if *position >= id => Some(group.to_vec()),
            _ => None,
        };
        let groups: Vec<Vec<u8>> = self.elements.iter().filter_map(is_past).collect();
        for group in groups {
            let name = Part::Delivery { group: &group, id }.name();
            self.elements.entry(name.to_vec()).or_insert(Payload::Late);
        }
    }
}

impl MemoryKeyspace {
    pub(super) fn part(&self, db: u32, key: &[u8], part: Part<'_>) -> Option<Payload> {
        let entry = self.get(db, key).filter(|entry| entry.kind == Kind::Stream)?;
        entry.elements.get(part.name().as_slice()).cloned()
    }

    pub(super) fn entry_ids(&self, db: u32, key: &[u8], from: StreamId, to: StreamId) -> Vec<StreamId> {
        let Some(entry) = self.get(db, key).filter(|entry| entry.kind == Kind::Stream && from <= to) else {
            return Vec::new();
        };
        let range = entry_name(from).to_vec()..=entry_name(to).to_vec();
        entry.elements.range(range).filter_map(|(name, _)| entry_id(name)).collect()
    }
}
