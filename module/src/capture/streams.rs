//! `XREADGROUP` outside transactions: whether it would block.
//!
//! One that blocks and is served later passes no filter and fires no event: the group's new state travels with the next
//! command on it that does, usually the XACK of what was read.

use crate::keyspace::with_keyspace;
use crate::redis::filter::Call;
use crate::redis::{Context, Element, OwnedText, call};

/// Whether `XREADGROUP GROUP group consumer [options] STREAMS key ... id ...` runs to its end at once.
#[must_use]
pub fn will_not_block(context: &Context, command: &Call, db: u32) -> bool {
    let is = |at: usize, word: &[u8]| command.bytes(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word));
    let Some(streams) = (1..command.len()).find(|at| is(*at, b"streams")) else { return true };
    if !(1..streams).any(|at| is(at, b"block")) {
        return true;
    }
    let Some(group) = (1..streams).find(|at| is(*at, b"group")).and_then(|at| command.bytes(at + 1)) else {
        return true;
    };
    let count = (command.len() - streams - 1) / 2;
    let look = |at| match (command.bytes(at), command.bytes(at + count)) {
        (Some(key), Some(b">")) => has_undelivered(context, key, group),
        // Entries delivered before: there or not, it does not wait for more.
        _ => true,
    };
    // Nothing may expire here: the filter has no place for its event.
    in_database(context, db, || with_keyspace(context, |_| (streams + 1..streams + 1 + count).any(look)))
}

/// Runs `look` with a database selected.
pub fn in_database(context: &Context, db: u32, look: impl FnOnce() -> bool) -> bool {
    let home = context.db();
    let found = context.select(db) && look();
    context.select(home);
    found
}

/// Whether the stream has an entry that the group has not delivered.
fn has_undelivered(context: &Context, key: &[u8], group: &[u8]) -> bool {
    let key = OwnedText::new(key);
    let subcommand = OwnedText::new(b"GROUPS");
    let mut after = None;
    call(context, c"XINFO", &[subcommand.text(), key.text()]).each(|entry: Element<'_>| {
        let field = |name: &[u8]| {
            let at = (0..entry.len()).step_by(2).find(|at| entry.get(*at).and_then(Element::bytes) == Some(name))?;
            entry.get(at + 1)?.bytes().map(<[u8]>::to_vec)
        };
        if field(b"name").as_deref() == Some(group) {
            after = field(b"last-delivered-id");
        }
    });
    let Some(after) = after else { return false };
    let (from, to) = (OwnedText::new(&[b"(", after.as_slice()].concat()), OwnedText::new(b"+"));
    let (count, one) = (OwnedText::new(b"COUNT"), OwnedText::new(b"1"));
    let mut any = false;
    let args = [key.text(), from.text(), to.text(), count.text(), one.text()];
    call(context, c"XRANGE", &args).each(|_: Element<'_>| any = true);
    any
}
