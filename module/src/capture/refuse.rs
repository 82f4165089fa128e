//! Refusing clients' writes where they would never leave this server (MERGE_RULES M7, M11).
//!
//! A filter cannot refuse a command, so it puts one in front that does. Reads, and what agents send, go on.

use std::cell::Cell;
use std::mem::{Discriminant, discriminant};

use syncer_shared::shard::{Shard, WritesRefused};

use super::Capture;
use super::call::check_user;
use super::wrap::{Unwrapped, wrapper};
use crate::redis::config::FORGOTTEN_WRITES;
use crate::redis::filter::Call;
use crate::redis::{Args, Command, CommandResult, Context, Run, entry, log};
use crate::state;

/// What the filter puts in front of writes.
pub const COMMAND: Command = command(c"syncer.refused", entry::<Refused>(), c"readonly fast");
/// The same for users who may not run it.
pub const TWIN: Command = command(c"syncer.refused.as", entry::<RefusedTwin>(), c"readonly fast no-auth");

const fn command(
    name: &'static std::ffi::CStr,
    entry: crate::redis::command::Entry,
    flags: &'static std::ffi::CStr,
) -> Command {
    Command {
        name,
        entry,
        flags,
        categories: c"fast",
        arity: -1,
        keys: (0, 0, 0),
        summary: c"Internal: says why this instance takes no writes.",
        usage: "command [argument ...]",
        complexity: c"O(1)",
    }
}

crate::redis::server_local! {
    static REFUSES: Cell<bool> = const { Cell::new(false) };
    /// The kind of refusal that the log was told of.
    static LOGGED: Cell<Option<Discriminant<WritesRefused>>> = const { Cell::new(None) };
}

/// Whether writes are refused now. One load.
#[inline]
#[must_use]
pub fn refuses() -> bool {
    REFUSES.get()
}

/// Asks the shard. The log is told when that changes: the clients that are refused may be nobody's who reads it.
pub fn recheck(shard: &Shard) {
    let why = match shard.check_writes() {
        Err(WritesRefused::Forgotten(_)) if FORGOTTEN_WRITES.get() != 0 => None,
        answer => answer.err().filter(|_| shard.is_primary()),
    };
    REFUSES.set(why.is_some());
    let kind = why.as_ref().map(discriminant);
    if LOGGED.replace(kind) == kind {
        return;
    }
    match why {
        Some(why) => log::warning(&format!("syncer: clients' writes are refused here: {why}")),
        None if shard.is_primary() => log::notice("syncer: clients' writes are taken here again"),
        None => {}
    }
}

impl Capture {
    /// Puts the refusal in front of a write, unless the server refuses it anyway.
    #[cold]
    pub(super) fn refuse(&mut self, call: &mut Call) {
        let caller = self.caller(call);
        let name = match wrapper(caller, self.outer, &call.args(), (&COMMAND, &TWIN)) {
            Ok(name) => name,
            Err(Unwrapped::Forbidden) => return,
            // The server says which right is missing, or NOAUTH. The command must not run in any case.
            Err(Unwrapped::DefaultUser) => COMMAND.name.to_bytes(),
        };
        call.prefix(name);
    }
}

struct Refused;
struct RefusedTwin;

impl Run for Refused {
    fn run(_: &Context, _: Args<'_>) -> CommandResult {
        state::shard()?.check_writes()?;
        // It was let in again between the filter and now.
        Err("TRYAGAIN this instance takes writes again; send the command again".into())
    }
}

impl Run for RefusedTwin {
    fn run(context: &Context, args: Args<'_>) -> CommandResult {
        check_user(context)?;
        Refused::run(context, args)
    }
}
