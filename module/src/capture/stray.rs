//! `COPY` and `MOVE` to another database, at a replica of Valkey 8: their events leave the client there ([`wrap::has_copy_bug`]), so that the server would write
//! them to its append-only file behind a `SELECT` of that database. From there they copy nothing (found by chaos). A primary puts that right where it
//! captures them (`Capture::pinned_db`); here the filter notes where they come from, also of those that wait for `EXEC`.
//!
//! [`wrap::has_copy_bug`]: super::wrap::has_copy_bug

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::event::Event;
use crate::redis::filter::Call;
use crate::redis::{Context, client};

/// What a client is about to copy or move.
struct Move {
    from: u32,
    to: u32,
    key: Box<[u8]>,
}

#[derive(Default)]
struct Client {
    /// Of a `SELECT` that waits for `EXEC`.
    selected: Option<u32>,
    moves: Vec<Move>,
}

crate::redis::server_local! {
    static HAS_BUG: Cell<bool> = const { Cell::new(false) };
    static CLIENTS: RefCell<BTreeMap<u64, Client>> = const { RefCell::new(BTreeMap::new()) };
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
pub fn command(call: &Call) {
    if !HAS_BUG.get() {
        return;
    }
    let is = |name: &[u8]| call.bytes(0).is_some_and(|word| word.eq_ignore_ascii_case(name));
    CLIENTS.with_borrow_mut(|clients| match call.bytes(0).map_or(0, <[u8]>::len) {
        4 if is(b"copy") || is(b"move") => {
            let (id, to) = (call.client(), target(call));
            let Some((info, (to, key))) = client::info(id).zip(to) else { return };
            let client = clients.entry(id).or_default();
            if !info.in_multi {
                client.moves.clear();
            }
            let from = client.selected.filter(|_| info.in_multi).unwrap_or(info.db);
            client.moves.push(Move { from, to, key });
        }
        4 if is(b"exec") && !clients.is_empty() => {
            if let Some(client) = clients.get_mut(&call.client()) {
                client.selected = None;
            }
        }
        5 if is(b"multi") && !clients.is_empty() => drop(clients.remove(&call.client())),
        6 if is(b"select") => {
            if client::info(call.client()).is_some_and(|info| info.in_multi) {
                clients.entry(call.client()).or_default().selected = call.bytes(1).and_then(number);
            }
        }
        7 if is(b"discard") => drop(clients.remove(&call.client())),
        _ => {}
    });
}

/// An event at a replica: puts its client back. The last one of a copy or a move says so by its name.
pub fn event(context: &Context, event: Event, key: &[u8]) {
    if !HAS_BUG.get() || !matches!(event, Event::New | Event::Replaced) {
        return;
    }
    let from = CLIENTS.with_borrow_mut(|clients| {
        let moves = &mut clients.get_mut(&context.client())?.moves;
        let to = context.db();
        let at = moves.iter().position(|of| of.to == to && *of.key == *key)?;
        let from = moves.get(at)?.from;
        if event == Event::Replaced {
            moves.remove(at);
        }
        Some(from)
    });
    if let Some(from) = from {
        context.select(from);
    }
}

/// A client is gone.
pub fn gone(client: u64) {
    CLIENTS.with_borrow_mut(|clients| drop(clients.remove(&client)));
}

/// The other database, and the key there.
fn target(call: &Call) -> Option<(u32, Box<[u8]>)> {
    let is_copy = call.bytes(0).is_some_and(|name| name.eq_ignore_ascii_case(b"copy"));
    if !is_copy {
        return Some((number(call.bytes(2)?)?, call.bytes(1)?.into()));
    }
    // The last one counts.
    let words = (3..call.len()).rev();
    let mut dbs = words.filter(|at| call.bytes(*at).is_some_and(|word| word.eq_ignore_ascii_case(b"db")));
    Some((number(call.bytes(dbs.next()? + 1)?)?, call.bytes(2)?.into()))
}

fn number(word: &[u8]) -> Option<u32> {
    std::str::from_utf8(word).ok()?.parse().ok()
}
