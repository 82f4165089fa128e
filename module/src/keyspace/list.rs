//! Lists on the server, by index: from the nearer end, as its own commands go.

use syncer_shared::effect::{Path, Value};
use syncer_shared::keyspace::place;

use super::event::Event;
use super::server::ServerKeyspace;
use crate::redis::{Key, KeyType, OwnedText};

impl ServerKeyspace<'_> {
    pub(super) fn length_of_list(&mut self, db: u32, name: &[u8]) -> usize {
        length(self.key(db, name))
    }

    pub(super) fn element_of_list(&mut self, db: u32, name: &[u8], index: usize) -> Option<Vec<u8>> {
        let element = self.key(db, name).element(index).map(|element| element.text().as_bytes().to_vec());
        self.release();
        element
    }

    pub(super) fn each_of_list(&mut self, db: u32, name: &[u8], visit: &mut dyn FnMut(Path<'_>, Value<'_>)) {
        let key = self.key(db, name);
        for index in 0..key.value_len() {
            let Some(element) = key.element(index) else { break };
            visit(Path::Element(&place(index)), Value::Bytes(element.text().as_bytes()));
        }
        self.release();
    }

    pub(super) fn insert_into_list(&mut self, db: u32, name: &[u8], index: usize, value: &[u8]) {
        let key = self.key(db, name);
        let len = length(key);
        // A server that loads a file drops what has expired meanwhile; one that is to insert behind what is not there ends.
        let index = index.min(len);
        let is_in = key.insert_element(index, OwnedText::new(value).text());
        if index > 0 && index < len {
            self.release();
        }
        if is_in {
            self.changed(match index {
                _ if index == len => Event::RPUSH,
                0 => Event::LPUSH,
                _ => Event::LINSERT,
            });
        }
    }

    pub(super) fn remove_from_list(&mut self, db: u32, name: &[u8], index: usize, count: usize) {
        let key = self.key(db, name);
        let len = length(key);
        let is_tail = index + count == len;
        if index == 0 || is_tail {
            // An end is nearer than an index.
            let _ = (0..count).all(|_| key.pop_element(index == 0));
        } else {
            let _ = (0..count).all(|_| key.remove_element(index));
            self.release();
        }
        let event = match index {
            0 => Event::LPOP,
            _ if is_tail => Event::RPOP,
            _ => Event::LREM,
        };
        if count < len {
            self.changed(event);
        } else {
            self.shrunk(db, name, event);
        }
    }

    pub(super) fn set_in_list(&mut self, db: u32, name: &[u8], index: usize, value: &[u8]) {
        let is_set = self.key(db, name).set_element(index, OwnedText::new(value).text());
        self.release();
        if is_set {
            self.changed(Event::LSET);
        }
    }
}

fn length(key: &Key) -> usize {
    if key.key_type() == KeyType::List { key.value_len() } else { 0 }
}
