//! Asking the server which commands it has.

use super::table::{Command, Table};
use crate::redis::{Context, Element, OwnedText, call};

/// The table of all commands, as `COMMAND` tells them now.
#[must_use]
pub fn read(context: &Context) -> Table {
    let reply = call(context, c"COMMAND", &[]);
    let mut commands = Vec::new();
    reply.each(|entry: Element<'_>| commands.extend(command(entry)));
    Table::new(commands)
}

/// The command that the server runs under `name`.
#[must_use]
pub fn read_one(context: &Context, name: &[u8]) -> Option<Command> {
    let (info, name) = (OwnedText::new(b"INFO"), OwnedText::new(name));
    let reply = call(context, c"COMMAND", &[info.text(), name.text()]);
    let mut found = None;
    reply.each(|entry: Element<'_>| found = command(entry));
    found
}

/// `name, arity, flags, first key, last key, step, categories, tips, key specs, subcommands`.
fn command(entry: Element<'_>) -> Option<Command> {
    let name = entry.get(0)?.bytes()?.to_vec();
    let arity = i32::try_from(entry.get(1)?.integer()?).ok()?;
    let (mut write, deny_oom) = flags(entry);
    if let Some(subcommands) = entry.get(9) {
        subcommands.each(&mut |subcommand: Element<'_>| write |= flags(subcommand).0);
    }
    Some(Command { name, arity, write, deny_oom })
}

/// Whether it writes, and whether it is refused when out of memory.
fn flags(entry: Element<'_>) -> (bool, bool) {
    let (mut write, mut deny_oom) = (false, false);
    if let Some(flags) = entry.get(2) {
        flags.each(&mut |flag: Element<'_>| match flag.bytes() {
            Some(b"write") => write = true,
            Some(b"denyoom") => deny_oom = true,
            _ => {}
        });
    }
    (write, deny_oom)
}
