//! When to capture: on a primary whose dataset is loaded.

use std::cell::Cell;

use super::{aof, heartbeat, no_touch, refuse, replication, stray};
use crate::commands::progress;
use crate::keyspace::field_ttls;
use crate::redis::events::Load;
use crate::redis::filter::Call;
use crate::redis::{Context, detached};
use crate::{persist, state};

/// What the server is doing, cached so that the filter need not ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Started or promoted: the reign begins with the first command or tick.
    Waiting,
    /// A primary that takes writes.
    Primary,
    /// Follows a primary.
    Replica,
    /// Loads a dataset.
    Loading,
}

crate::redis::server_local! {
    static MODE: Cell<Mode> = const { Cell::new(Mode::Waiting) };
    /// Whether the shard's reign is this server's.
    static REIGNS: Cell<bool> = const { Cell::new(false) };
    /// Whether a file was loaded, and the shard was not told yet.
    static LOADED: Cell<bool> = const { Cell::new(false) };
}

/// What the server is doing.
#[must_use]
pub fn mode() -> Mode {
    MODE.get()
}

/// At the first command or tick after a start or a promotion: begins the reign. Whether the server is a primary that
/// takes writes now.
#[cold]
pub fn try_begin() -> bool {
    if MODE.get() != Mode::Waiting {
        return false;
    }
    let Some(context) = detached() else { return false };
    let flags = context.flags();
    if flags.is_loading() {
        return false;
    }
    if !flags.is_primary() {
        changed(context, false);
        return false;
    }
    // Once: what the server says of its last file stays when it is promoted again.
    let has_loaded = LOADED.replace(false);
    if !REIGNS.replace(true) {
        aof::require(context);
        state::begin_reign(context, has_loaded);
        // The command that this is for may be a write already.
        if let Ok(shard) = state::shard() {
            refuse::recheck(&shard);
        }
    } else if has_loaded {
        state::reloaded(context);
    }
    MODE.set(Mode::Primary);
    true
}

/// The same before a command runs.
#[cold]
pub fn try_begin_before_command(call: &mut Call) -> bool {
    no_touch::look_for(call);
    stray::command(call);
    let has_begun = try_begin();
    if has_begun {
        replication::tell_first();
    }
    has_begun
}

/// The role has changed.
pub fn changed(context: &Context, primary: bool) {
    if primary {
        MODE.set(Mode::Waiting);
        heartbeat::soon(context);
        // As a replica it got a replication backlog, which others may come back to before the next beat.
        replication::assume();
    } else {
        MODE.set(Mode::Replica);
        field_ttls::lose_sight();
        REIGNS.set(false);
        // Who brings a full sync here has to begin anew, also when this server is soon a primary again, with another's state.
        progress::abandon();
        // What is known stays: after a native partial resync it goes on, else a full sync brings another.
        if let Ok(mut shard) = state::shard() {
            shard.follow_primary();
        }
    }
}

/// A file is about to be loaded into this primary: what the server does to its dataset for that is nobody's write.
pub fn suspend() {
    MODE.set(Mode::Loading);
}

/// It is loaded, or not.
pub fn resume() {
    MODE.set(Mode::Waiting);
}

/// A dataset is being loaded, or has been.
pub fn loading(load: Load) {
    progress::abandon();
    if !persist::loading(load) {
        REIGNS.set(false);
    }
    match (load, MODE.get()) {
        (_, Mode::Replica) | (Load::Swap, _) => {}
        (Load::Begins { .. }, _) => MODE.set(Mode::Loading),
        (Load::Ends { .. }, _) => {
            LOADED.set(true);
            MODE.set(Mode::Waiting);
            if let Some(context) = detached() {
                heartbeat::soon(context);
            }
        }
    }
}
