//! A dataset in memory: the `Keyspace` of the tests and of the simulation.

mod streams;

use std::collections::BTreeMap;

use crate::digest::{Digest, KeyDigest};
use crate::effect::{ClearReason, FlushScope, Kind, Path, UnixMs, Value};
use crate::keyspace::{Keyspace, NotAdded, SetTtl, place};
use crate::metadata::{Payload, element, path_of};
use crate::number::Number;
use crate::stream::{Part, StreamId};

/// Keys with their values and TTLs. It expires nothing by itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryKeyspace {
    keys: BTreeMap<(u32, Vec<u8>), Entry>,
    /// Messages that came, in order: channel and text.
    pub published: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whole values that begin with this byte are of a type that is unknown here.
    pub unknown: Option<u8>,
    /// Deliveries are held without their entries, too, which no server does.
    pub holds_lone_deliveries: bool,
}

/// One key.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its type.
    pub kind: Kind,
    /// Its elements; a string has one with an empty name, those of a list are named by [`place`].
    pub elements: BTreeMap<Vec<u8>, Payload>,
    /// Its TTL.
    pub expire_at: Option<UnixMs>,
}

impl MemoryKeyspace {
    /// All keys.
    #[must_use]
    pub fn entries(&self) -> &BTreeMap<(u32, Vec<u8>), Entry> {
        &self.keys
    }

    /// The digest of the dataset.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut digest = Digest::default();
        for ((db, name), entry) in &self.keys {
            let mut key = KeyDigest::new();
            for (name, payload) in &entry.elements {
                let path = path_of(entry.kind, name);
                key.element(path, payload.value(path));
            }
            digest.add(key.finish(*db, name, entry.expire_at));
        }
        digest
    }

    fn get(&self, db: u32, key: &[u8]) -> Option<&Entry> {
        self.keys.get(&(db, key.to_vec()))
    }

    fn element(&self, db: u32, key: &[u8], path: Path<'_>) -> Option<&Payload> {
        self.get(db, key).filter(|e| e.kind == path.kind())?.elements.get(element(path))
    }

    fn list(&self, db: u32, key: &[u8]) -> Option<&BTreeMap<Vec<u8>, Payload>> {
        self.get(db, key).filter(|entry| entry.kind == Kind::List).map(|entry| &entry.elements)
    }

    fn change_list(&mut self, db: u32, key: &[u8], change: impl FnOnce(&mut Vec<Payload>)) {
        let name = (db, key.to_vec());
        let fresh = || Entry { kind: Kind::List, elements: BTreeMap::new(), expire_at: None };
        let entry = self.keys.entry(name.clone()).or_insert_with(fresh);
        assert_eq!(entry.kind, Kind::List, "the merge writes a list element only to a list");
        let mut list = std::mem::take(&mut entry.elements).into_values().collect();
        change(&mut list);
        entry.elements = list.into_iter().enumerate().map(|(index, value)| (place(index).to_vec(), value)).collect();
        if entry.elements.is_empty() {
            self.keys.remove(&name);
        }
    }

    fn bytes(&self, db: u32, key: &[u8], path: Path<'_>) -> Option<Vec<u8>> {
        self.element(db, key, path)?.text().map(<[u8]>::to_vec)
    }

    fn add(&mut self, db: u32, key: &[u8], path: Path<'_>, delta: i64) -> Result<i64, NotAdded> {
        if self.get(db, key).is_some_and(|e| e.kind != path.kind()) {
            return Err(NotAdded);
        }
        let old = match self.bytes(db, key, path).map(|bytes| Number::parse(&bytes)) {
            None => 0,
            Some(Some(Number::Integer(old))) => old,
            Some(_) => return Err(NotAdded),
        };
        let sum = old.checked_add(delta).ok_or(NotAdded)?;
        let at = self.element(db, key, path).and_then(Payload::expire_at);
        let payload = Payload::text_until(sum.to_string().into_bytes().into(), at);
        self.put(db, key, path, payload.value(path));
        Ok(sum)
    }
}

impl Keyspace for MemoryKeyspace {
    fn kind(&mut self, db: u32, key: &[u8]) -> Option<Kind> {
        self.get(db, key).map(|e| e.kind)
    }

    fn string(&mut self, db: u32, key: &[u8]) -> Option<Vec<u8>> {
        self.bytes(db, key, Path::String)
    }

    fn string_len(&mut self, db: u32, key: &[u8]) -> u64 {
        self.element(db, key, Path::String).and_then(Payload::text).map_or(0, <[u8]>::len) as u64
    }

    fn string_range(&mut self, db: u32, key: &[u8], start: u64, len: usize) -> Vec<u8> {
        let text = self.element(db, key, Path::String).and_then(Payload::text).unwrap_or_default();
        let rest = text.get(start as usize..).unwrap_or_default();
        rest.get(..len).unwrap_or(rest).to_vec()
    }

    fn field(&mut self, db: u32, key: &[u8], field: &[u8]) -> Option<Vec<u8>> {
        self.bytes(db, key, Path::Field(field))
    }

    fn field_expire_at(&mut self, db: u32, key: &[u8], field: &[u8]) -> Option<UnixMs> {
        self.element(db, key, Path::Field(field))?.expire_at()
    }

    fn has_member(&mut self, db: u32, key: &[u8], member: &[u8]) -> bool {
        self.element(db, key, Path::Member(member)).is_some()
    }

    fn score(&mut self, db: u32, key: &[u8], member: &[u8]) -> Option<f64> {
        match self.element(db, key, Path::Scored(member))? {
            Payload::Score(score) => Some(*score),
            _ => None,
        }
    }

    fn payload(&mut self, db: u32, key: &[u8]) -> Option<Vec<u8>> {
        self.bytes(db, key, Path::Opaque)
    }

    fn stream_part(&mut self, db: u32, key: &[u8], part: Part<'_>) -> Option<Payload> {
        self.part(db, key, part)
    }

    fn stream_entries(&mut self, db: u32, key: &[u8], from: StreamId, to: StreamId, visit: &mut dyn FnMut(StreamId)) {
        self.entry_ids(db, key, from, to).into_iter().for_each(visit);
    }

    fn lone_deliveries(&mut self, db: u32, key: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) {
        let Some(entry) = self.get(db, key) else { return };
        for (name, payload) in entry.elements.iter().filter(|(name, _)| entry.is_lone_delivery(name)) {
            if let Payload::Owner(owner) = payload {
                visit(name, owner);
            }
        }
    }

    fn take_group(&mut self, db: u32, key: &[u8], group: &[u8]) {
        let Some(entry) = self.keys.get_mut(&(db, key.to_vec())) else { return };
        entry.take_group(group);
        if entry.elements.is_empty() {
            self.keys.remove(&(db, key.to_vec()));
        }
    }

    fn elements(&mut self, db: u32, key: &[u8], visit: &mut dyn FnMut(Path<'_>, Value<'_>)) {
        let Some(entry) = self.get(db, key) else { return };
        for (name, payload) in entry.elements.iter().filter(|(name, _)| !entry.is_lone_delivery(name)) {
            let path = path_of(entry.kind, name);
            visit(path, payload.value(path));
        }
    }

    fn keys(&mut self, scope: FlushScope, visit: &mut dyn FnMut(u32, &[u8])) {
        self.keys.keys().filter(|(db, _)| scope.includes(*db)).for_each(|(db, name)| visit(*db, name));
    }

    fn expire_at(&mut self, db: u32, key: &[u8]) -> Option<UnixMs> {
        self.get(db, key)?.expire_at
    }

    fn set_string(&mut self, db: u32, key: &[u8], value: &[u8], ttl: SetTtl) {
        let expire_at = match ttl {
            SetTtl::Keep => self.expire_at(db, key),
            SetTtl::Clear => None,
            SetTtl::At(at) => Some(at),
        };
        let elements = BTreeMap::from([(Vec::new(), Payload::Bytes(value.into()))]);
        self.keys.insert((db, key.to_vec()), Entry { kind: Kind::String, elements, expire_at });
    }

    fn write_range(&mut self, db: u32, key: &[u8], start: u64, bytes: &[u8]) {
        let mut text = self.bytes(db, key, Path::String).unwrap_or_default();
        let end = start as usize + bytes.len();
        if text.len() < end {
            text.resize(end, 0);
        }
        if let Some(place) = text.get_mut(start as usize..end) {
            place.copy_from_slice(bytes);
        }
        self.put(db, key, Path::String, Value::Bytes(&text));
    }

    fn add_integer(&mut self, db: u32, key: &[u8], delta: i64) -> Result<i64, NotAdded> {
        self.add(db, key, Path::String, delta)
    }

    fn add_integer_field(&mut self, db: u32, key: &[u8], field: &[u8], delta: i64) -> Result<i64, NotAdded> {
        self.add(db, key, Path::Field(field), delta)
    }

    fn put(&mut self, db: u32, key: &[u8], path: Path<'_>, value: Value<'_>) -> bool {
        if let Value::Payload(payload) = value
            && self.unknown.is_some_and(|unknown| payload.first() == Some(&unknown))
        {
            self.delete(db, key, ClearReason::Deleted);
            return false;
        }
        let fresh = || Entry { kind: path.kind(), elements: BTreeMap::new(), expire_at: None };
        let holds_lone = self.holds_lone_deliveries;
        let entry = self.keys.entry((db, key.to_vec())).or_insert_with(fresh);
        assert_eq!(entry.kind, path.kind(), "the merge writes an element only to a key of its type");
        let payload = Payload::from_value(value);
        match path {
            Path::Stream(name) => {
                let is_held = entry.put_part(name, payload, holds_lone);
                if entry.elements.is_empty() {
                    self.keys.remove(&(db, key.to_vec()));
                }
                return is_held;
            }
            _ => drop(entry.elements.insert(element(path).to_vec(), payload)),
        }
        true
    }

    fn take(&mut self, db: u32, key: &[u8], path: Path<'_>) {
        let Some(entry) = self.keys.get_mut(&(db, key.to_vec())) else { return };
        match path {
            _ if entry.kind != path.kind() => {}
            Path::Stream(name) => entry.take_part(name),
            _ => drop(entry.elements.remove(element(path))),
        }
        if entry.elements.is_empty() {
            self.keys.remove(&(db, key.to_vec()));
        }
    }

    fn list_len(&mut self, db: u32, key: &[u8]) -> usize {
        self.list(db, key).map_or(0, BTreeMap::len)
    }

    fn list_get(&mut self, db: u32, key: &[u8], index: usize) -> Option<Vec<u8>> {
        self.list(db, key)?.get(&place(index)[..])?.text().map(<[u8]>::to_vec)
    }

    fn list_insert(&mut self, db: u32, key: &[u8], index: usize, value: &[u8]) {
        self.change_list(db, key, |list| list.insert(index, Payload::Bytes(value.into())));
    }

    fn list_remove(&mut self, db: u32, key: &[u8], index: usize, count: usize) {
        self.change_list(db, key, |list| drop(list.drain(index..index + count)));
    }

    fn list_set(&mut self, db: u32, key: &[u8], index: usize, value: &[u8]) {
        self.change_list(db, key, |list| list[index] = Payload::Bytes(value.into()));
    }

    fn set_expire_at(&mut self, db: u32, key: &[u8], at: Option<UnixMs>) {
        if let Some(entry) = self.keys.get_mut(&(db, key.to_vec())) {
            entry.expire_at = at;
        }
    }

    fn delete(&mut self, db: u32, key: &[u8], _reason: ClearReason) {
        self.keys.remove(&(db, key.to_vec()));
    }

    fn flush(&mut self, scope: FlushScope) {
        self.keys.retain(|(db, _), _| !scope.includes(*db));
    }

    fn publish(&mut self, _sharded: bool, channel: &[u8], message: &[u8]) {
        self.published.push((channel.to_vec(), message.to_vec()));
    }

    fn finish(&mut self) {}
}
