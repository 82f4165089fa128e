//! Refusing clients' writes where they would never leave this server (MERGE_RULES M7, M11).
//!
//! A filter cannot refuse a command, so it puts one in front that does. Reads, and what agents send, go on.

use std::cell::Cell;

use syncer_shared::shard::{Shard, WritesRefused};

use crate::redis::config::FORGOTTEN_WRITES;
use crate::redis::{Args, Command, CommandResult, Context, Run, entry};
use crate::state;

/// What the filter puts in front of writes. Without rights of its own: whoever may run the command learns why it does not.
pub const COMMAND: Command = Command {
    name: c"syncer.refused",
    entry: entry::<Refused>(),
    flags: c"readonly fast no-auth",
    categories: c"",
    arity: -1,
    keys: (0, 0, 0),
    summary: c"Internal: says why this instance takes no writes.",
    usage: "command [argument ...]",
    complexity: c"O(1)",
};

thread_local! {
    static REFUSES: Cell<bool> = const { Cell::new(false) };
}

/// Whether writes are refused now. One load.
#[inline]
#[must_use]
pub fn refuses() -> bool {
    REFUSES.get()
}

/// Asks the shard.
pub fn recheck(shard: &Shard) {
    let refused = match shard.check_writes() {
        Ok(()) => false,
        Err(WritesRefused::Forgotten(_)) => FORGOTTEN_WRITES.get() == 0,
        Err(WritesRefused::Joining) => true,
    };
    REFUSES.set(refused && shard.is_primary());
}

struct Refused;

impl Run for Refused {
    fn run(_: &Context, _: Args<'_>) -> CommandResult {
        state::shard()?.check_writes()?;
        // It was let in again between the filter and now.
        Err("TRYAGAIN this instance takes writes again; send the command again".into())
    }
}
