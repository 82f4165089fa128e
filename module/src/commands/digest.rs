//! `SYNCER.DIGEST`: equal for equal datasets, whatever server, encoding and order. In slices, so that nobody stalls.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use syncer_shared::digest::{Digest, KeyDigest};
use syncer_shared::effect::{Kind, Path, Value};
use syncer_shared::keyspace::Keyspace;

use super::arguments::{CommandError, may_block};
use crate::keyspace::{ServerKeyspace, with_keyspace};
use crate::redis::timer::{self, Tick, now_ms};
use crate::redis::{Args, Blocked, Command, CommandResult, Context, KeyScan, Run, entry};

/// `SYNCER.DIGEST`.
pub const COMMAND: Command = Command {
    name: c"syncer.digest",
    entry: entry::<DigestCommand>(),
    flags: c"readonly deny-script",
    categories: c"read slow blocking",
    arity: 1,
    keys: (0, 0, 0),
    summary:
        c"Gives a digest of all keys, values and expiries: equal for equal datasets, on any server, when nobody writes.",
    usage: "",
    complexity: c"O(N) with N elements of all keys, in slices of half a millisecond",
};

/// How long one slice holds the main thread; a key is not cut.
const SLICE: Duration = Duration::from_micros(500);
/// Between slices.
const PAUSE_MS: u32 = 1;

struct DigestCommand;

/// A digest in the making.
struct Walk {
    client: u64,
    blocked: Blocked,
    db: u32,
    scan: KeyScan,
    names: Vec<Vec<u8>>,
    digest: Digest,
}

thread_local! {
    static WALKS: RefCell<Vec<Walk>> = const { RefCell::new(Vec::new()) };
}

/// The client is gone.
pub fn forget(client: u64) {
    WALKS.with_borrow_mut(|walks| walks.retain(|walk| walk.client != client));
}

impl Run for DigestCommand {
    fn run(context: &Context, _: Args<'_>) -> CommandResult {
        if !may_block(context) {
            return Err(CommandError::CannotBlock("SYNCER.DIGEST").into());
        }
        let (client, blocked) = (context.client(), Blocked::new(context));
        let walk = Walk { client, blocked, db: 0, scan: KeyScan::new(), names: Vec::new(), digest: Digest::default() };
        let first = WALKS.with_borrow_mut(|walks| {
            walks.push(walk);
            walks.len() == 1
        });
        if first {
            timer::start::<Self>(context, 0);
        }
        Ok(())
    }
}

impl Tick for DigestCommand {
    fn tick(context: &Context) {
        // Taken out, since walking calls into the server.
        let Some(mut walk) = WALKS.with_borrow_mut(|walks| (!walks.is_empty()).then(|| walks.remove(0))) else {
            return;
        };
        let done = walk.slice(context);
        if done {
            let Walk { blocked, digest, .. } = walk;
            blocked.answer(|reply| reply.text(&digest.to_string()));
        } else {
            WALKS.with_borrow_mut(|walks| walks.push(walk));
        }
        if WALKS.with_borrow(|walks| !walks.is_empty()) {
            timer::start::<Self>(context, PAUSE_MS);
        }
    }
}

impl Walk {
    /// Goes on for a while. Whether everything was visited.
    fn slice(&mut self, context: &Context) -> bool {
        let (begun, home) = (Instant::now(), context.db());
        let mut done = false;
        while !done && begun.elapsed() < SLICE {
            done = self.step(context);
        }
        context.select(home);
        done
    }

    fn step(&mut self, context: &Context) -> bool {
        if !context.select(self.db) {
            return true;
        }
        let more = self.scan.step(context, &mut |name| self.names.push(name.to_vec()));
        with_keyspace(context, |keyspace| {
            for name in self.names.drain(..) {
                keyspace.unnoticed(self.db, &name, |keyspace| add(&mut self.digest, keyspace, self.db, &name));
            }
        });
        if !more {
            self.db += 1;
            self.scan = KeyScan::new();
        }
        false
    }
}

/// Adds one key, unless it has expired: other instances may have deleted it already.
fn add(digest: &mut Digest, keyspace: &mut ServerKeyspace<'_>, db: u32, name: &[u8]) {
    let expire_at = keyspace.expire_at(db, name);
    if expire_at.is_some_and(|at| at.cast_unsigned() <= now_ms()) {
        return;
    }
    let mut key = KeyDigest::new();
    match keyspace.kind(db, name) {
        None => return,
        Some(Kind::Opaque) => {
            let value = keyspace.canonical(db, name);
            key.element(Path::Opaque, Value::Payload(&value));
        }
        Some(_) => keyspace.elements(db, name, &mut |path, value| key.element(path, value)),
    }
    digest.add(key.finish(db, name, expire_at));
}
