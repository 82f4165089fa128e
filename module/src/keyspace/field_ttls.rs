//! What is known of TTLs of hash fields: whether the server has them, whether any field may have one, and which.
//!
//! When a field expires, the server says of which key but not which field (CAPTURE 17).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};

type Key = (u32, Box<[u8]>);

/// Fields of a key that have, or had, a TTL.
#[derive(Default)]
struct Fields {
    names: HashSet<Box<[u8]>>,
    /// Whether no other field of it that anybody else knows of may have one.
    all: bool,
}

crate::redis::server_local! {
    static SUPPORTED: Cell<bool> = const { Cell::new(false) };
    static SEEN: Cell<bool> = const { Cell::new(false) };
    /// Whether there may be some of which no event has told: out of a file, or of the time as a replica.
    static UNTOLD: Cell<bool> = const { Cell::new(false) };
    static KNOWN: RefCell<BTreeMap<Key, Fields>> = const { RefCell::new(BTreeMap::new()) };
}

/// Whether the server has them, and keys that may have some already; once, at load.
pub fn init(supported: bool, has_keys: bool) {
    SUPPORTED.set(supported);
    SEEN.set(supported && has_keys);
    UNTOLD.set(supported && has_keys);
}

/// Whether the server has them.
#[must_use]
pub fn are_supported() -> bool {
    SUPPORTED.get()
}

/// Whether any field may have one, so that reading a field must look for it.
#[must_use]
pub fn may_exist() -> bool {
    SEEN.get()
}

/// All keys are gone.
pub fn forget_all() {
    KNOWN.with_borrow_mut(BTreeMap::clear);
}

/// A field may have got one.
pub fn saw() {
    SEEN.set(SUPPORTED.get());
}

/// Fields get some of which no event tells.
pub fn lose_sight() {
    forget_all();
    saw();
    UNTOLD.set(SUPPORTED.get());
}

/// This field has got one. `created`: its key was made just now.
pub fn note(db: u32, key: &[u8], field: &[u8], created: bool) {
    if SUPPORTED.get() {
        SEEN.set(true);
        let all = created || !UNTOLD.get();
        let begin = || Fields { names: HashSet::new(), all };
        KNOWN.with_borrow_mut(|known| {
            let fields = known.entry((db, key.into())).or_insert_with(begin);
            fields.names.insert(field.into());
        });
    }
}

/// All fields of a key that have one have been noted.
pub fn noted_all(db: u32, key: &[u8]) {
    KNOWN.with_borrow_mut(|known| {
        if let Some(fields) = known.get_mut(&(db, key.into())) {
            fields.all = true;
        }
    });
}

/// The fields of a key that have, or had, one; none if there may be others.
#[must_use]
pub fn known(db: u32, key: &[u8]) -> Vec<Box<[u8]>> {
    KNOWN.with_borrow(|known| {
        if known.is_empty() {
            return Vec::new();
        }
        let fields = known.get(&(db, key.into())).filter(|fields| fields.all);
        fields.into_iter().flat_map(|fields| &fields.names).cloned().collect()
    })
}

/// Whether nobody knows that the field has one: if it is hidden all the same, it came along with a copy of its key.
#[must_use]
pub fn is_unheard_of(db: u32, key: &[u8], field: &[u8]) -> bool {
    may_exist()
        && KNOWN.with_borrow(|known| match known.get(&(db, key.into())) {
            Some(fields) => fields.all && !fields.names.contains(field),
            None => !UNTOLD.get(),
        })
}

/// The field is gone.
pub fn forget(db: u32, key: &[u8], field: &[u8]) {
    KNOWN.with_borrow_mut(|known| {
        let name = (db, key.into());
        if let Some(fields) = known.get_mut(&name) {
            fields.names.remove(field);
            // That these were all is known of few keys, then, and is not learnt again but by capturing the key whole.
            if fields.names.is_empty() && !(fields.all && UNTOLD.get()) {
                known.remove(&name);
            }
        }
    });
}

/// The key is gone.
pub fn forget_key(db: u32, key: &[u8]) {
    KNOWN.with_borrow_mut(|known| {
        if !known.is_empty() {
            known.remove(&(db, key.into()));
        }
    });
}
