//! What is known of TTLs of hash fields: whether the server has them, whether any field may have one, and which.
//!
//! When a field expires, the server says of which key but not which field (CAPTURE 17).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};

type Key = (u32, Box<[u8]>);
type Fields = HashSet<Box<[u8]>>;

crate::redis::server_local! {
    static SUPPORTED: Cell<bool> = const { Cell::new(false) };
    static SEEN: Cell<bool> = const { Cell::new(false) };
    static KNOWN: RefCell<BTreeMap<Key, Fields>> = const { RefCell::new(BTreeMap::new()) };
}

/// Whether the server has them, and keys that may have some already; once, at load.
pub fn init(supported: bool, has_keys: bool) {
    SUPPORTED.set(supported);
    SEEN.set(supported && has_keys);
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

/// This field has got one.
pub fn note(db: u32, key: &[u8], field: &[u8]) {
    if SUPPORTED.get() {
        SEEN.set(true);
        KNOWN.with_borrow_mut(|known| known.entry((db, key.into())).or_default().insert(field.into()));
    }
}

/// The fields of a key that have, or had, one.
#[must_use]
pub fn known(db: u32, key: &[u8]) -> Vec<Box<[u8]>> {
    KNOWN.with_borrow(|known| {
        if known.is_empty() {
            return Vec::new();
        }
        known.get(&(db, key.into())).into_iter().flatten().cloned().collect()
    })
}

/// The field is gone.
pub fn forget(db: u32, key: &[u8], field: &[u8]) {
    KNOWN.with_borrow_mut(|known| {
        let name = (db, key.into());
        if let Some(fields) = known.get_mut(&name) {
            fields.remove(field);
            if fields.is_empty() {
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
