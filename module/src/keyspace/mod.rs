//! The dataset of the server as the merge sees it.

mod event;
pub mod field_ttls;
pub mod functions;
mod list;
mod module_type;
mod open;
mod payload;
pub mod plain;
mod server;
pub mod stream;
mod string;
mod tail;
mod whole;

use std::cell::Cell;

pub use server::ServerKeyspace;

use crate::redis::{Context, ExpiryOff, without_expiry};

crate::redis::server_local! {
    static APPLYING: Cell<bool> = const { Cell::new(false) };
}

/// Whether the module itself is writing, so that keyspace events and server events of the moment are ours and
/// must not be captured (I-8). Main thread only.
#[must_use]
pub fn applying() -> bool {
    APPLYING.get()
}

/// Runs `body` with the dataset: nothing is captured, no key expires, and afterwards every key is closed, every
/// notification sent and the context's database is what it was.
pub fn with_keyspace<R>(context: &Context, body: impl FnOnce(&mut ServerKeyspace<'_>) -> R) -> R {
    let _applying = Applying::begin();
    without_expiry(context, |expiry| body(&mut ServerKeyspace::new(context, expiry)))
}

/// The same for a look, which changes nothing. `volatile`: whether a key may have a TTL; if not, expiry need not be switched off.
pub fn look<R>(context: &Context, volatile: bool, body: impl FnOnce(&mut ServerKeyspace<'_>) -> R) -> R {
    if volatile {
        return with_keyspace(context, body);
    }
    let _applying = Applying::begin();
    body(&mut ServerKeyspace::new(context, ExpiryOff::as_nothing_expires()))
}

/// Puts the beginning of a string back as it was: nothing that anybody is to be told of.
pub fn put_back(context: &Context, db: u32, key: &[u8], beginning: &[u8]) {
    with_keyspace(context, |keyspace| keyspace.key(db, key).write_string(0, beginning));
}

/// Resets the flag also when `body` panics.
struct Applying {
    outer: bool,
}

impl Applying {
    fn begin() -> Self {
        Self { outer: APPLYING.replace(true) }
    }
}

impl Drop for Applying {
    fn drop(&mut self) {
        APPLYING.set(self.outer);
    }
}
