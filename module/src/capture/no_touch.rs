//! Clients with `CLIENT NO-TOUCH` on: see [`inside`]. Once there was one, every look from the filter takes the longer way.

use std::cell::Cell;

use crate::redis::filter::Call;
use crate::redis::{Args, Command, CommandResult, Context, OwnedText, Run, call, entry, inside};

crate::redis::server_local! {
    static SEEN: Cell<bool> = const { Cell::new(false) };
}

/// For looks from the filter, and for nothing else.
pub const COMMAND: Command = Command {
    name: c"syncer.look",
    entry: entry::<Look>(),
    flags: c"readonly",
    categories: c"read",
    arity: 1,
    keys: (0, 0, 0),
    summary: c"Internal: what the module looks at before a command runs.",
    usage: "",
    complexity: c"That of the look.",
};

struct Look;

impl Run for Look {
    fn run(context: &Context, _args: Args<'_>) -> CommandResult {
        match inside::run() {
            true => context.reply().ok(),
            false => context.reply().error("ERR SYNCER.LOOK is internal: clients have nothing to look at"),
        }
        Ok(())
    }
}

/// Clients that were there before the module.
pub fn init(context: &Context) {
    let reply = call(context, c"CLIENT", &[OwnedText::new(b"LIST").text()]);
    let list = reply.root().and_then(|root| root.bytes().map(String::from_utf8_lossy).map(String::from));
    let mut flags = list.iter().flat_map(|list| list.split_whitespace()).filter_map(|word| word.strip_prefix("flags="));
    SEEN.set(flags.any(|flags| flags.contains('T')));
}

/// `CLIENT ...` is about to run, or to be queued.
pub fn saw(call: &Call) {
    if call.bytes(1).is_some_and(|word| word.eq_ignore_ascii_case(b"no-touch")) {
        SEEN.set(true);
    }
}

/// The same of any command, where the filter reads no names otherwise.
pub fn look_for(call: &Call) {
    if call.bytes(0).is_some_and(|name| name.eq_ignore_ascii_case(b"client")) {
        saw(call);
    }
}

/// What a look from the filter finds.
pub fn look<R>(context: &Context, look: impl FnOnce() -> R) -> Option<R> {
    if !SEEN.get() {
        return Some(look());
    }
    let (mut look, mut found) = (Some(look), None);
    inside::of(context, COMMAND.name, || found = look.take().map(|look| look()));
    found
}
