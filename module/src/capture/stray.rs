//! `COPY` and `MOVE` to another database on Valkey 8: their events leave the client there ([`wrap::has_copy_bug`]). A primary puts that right where it captures
//! them (`Capture::pinned_db`). A replica would write them to its append-only file behind a `SELECT` of that database, from where they copy nothing, and who reads
//! the file has the same bug (found by chaos). So there they run in `SYNCER.CALL`, too, and a `SELECT` comes behind them.
//!
//! [`wrap::has_copy_bug`]: super::wrap::has_copy_bug

use std::cell::Cell;

use super::call;
use super::event::Event;
use crate::redis::filter::Call;
use crate::redis::{Context, notify};

crate::redis::server_local! {
    static HAS_BUG: Cell<bool> = const { Cell::new(false) };
    /// The database that such a command runs in, at a replica.
    static HOME: Cell<Option<u32>> = const { Cell::new(None) };
    static HAS_STRAYED: Cell<bool> = const { Cell::new(false) };
}

/// At load.
pub fn init(has_bug: bool) {
    HAS_BUG.set(has_bug);
}

/// Whether the server is one that does that.
#[must_use]
pub fn has_bug() -> bool {
    HAS_BUG.get()
}

/// Before a command at a replica, or before it is queued.
pub fn command(call: &mut Call) {
    let is = |name: &[u8]| call.bytes(0).is_some_and(|word| word.eq_ignore_ascii_case(name));
    // To another database.
    if HAS_BUG.get() && ((is(b"copy") && call.len() > 4) || is(b"move")) {
        call.prefix(call::PLAIN.name.to_bytes());
    }
}

/// Runs such a command at a replica.
pub fn at_home<T>(context: &Context, run: impl FnOnce() -> T) -> T {
    if !HAS_BUG.get() {
        return run();
    }
    HOME.set(Some(context.db()));
    let given = run();
    HOME.set(None);
    if HAS_STRAYED.replace(false) {
        notify::replicate_select(context);
    }
    given
}

/// An event at a replica: puts the client back.
pub fn event(context: &Context, event: Event) {
    if let Some(home) = HOME.get()
        && matches!(event, Event::New | Event::Replaced)
        && context.db() != home
    {
        HAS_STRAYED.set(true);
        context.select(home);
    }
}
