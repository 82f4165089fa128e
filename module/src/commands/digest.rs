//! `SYNCER.DIGEST`: equal for equal datasets, whatever server, encoding and order. In slices, so that nobody stalls.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use syncer_shared::digest::{Digest, KeyDigest};
use syncer_shared::effect::{Kind, Path, UnixMs, Value};
use syncer_shared::keyspace::Keyspace;
use syncer_shared::slot::SlotDigests;

use super::arguments::{Arguments, CommandError, may_block};
use super::slices::{Goal, KEYS_MAX, SlotSet};
use crate::keyspace::{ServerKeyspace, with_keyspace};
use crate::redis::timer::{self, Tick, now_ms};
use crate::redis::{Args, Blocked, Command, CommandResult, Context, KeyScan, Run, entry};
use crate::state;

/// `SYNCER.DIGEST`.
pub const COMMAND: Command = Command {
    name: c"syncer.digest",
    entry: entry::<DigestCommand>(),
    flags: c"readonly deny-script",
    categories: c"read slow blocking",
    arity: -1,
    keys: (0, 0, 0),
    summary:
        c"Gives a digest of all keys, values and expiries, or one of each hash slot, or of single keys: equal for equal datasets, on any server, when nobody writes.",
    usage: "[SLOTS [pause-ms] | KEYS slots limit [pause-ms] | KEY db key]",
    complexity: c"O(N) with N elements of all keys, in slices of half a millisecond",
};

/// How long one slice holds the main thread; a key is not cut.
const SLICE: Duration = Duration::from_micros(500);
/// Between slices, unless the caller wants it gentler.
const PAUSE_MS: u32 = 1;
/// Half a millisecond a second.
const PAUSE_MS_MAX: i64 = 1_000;

struct DigestCommand;

/// A digest in the making.
struct Walk {
    client: u64,
    blocked: Blocked,
    db: u32,
    scan: KeyScan,
    names: Vec<Vec<u8>>,
    goal: Goal,
    pause_ms: u32,
}

crate::redis::server_local! {
    static WALKS: RefCell<Vec<Walk>> = const { RefCell::new(Vec::new()) };
}

/// The client is gone.
pub fn forget(client: u64) {
    WALKS.with_borrow_mut(|walks| walks.retain(|walk| walk.client != client));
}

impl Run for DigestCommand {
    fn run(context: &Context, args: Args<'_>) -> CommandResult {
        let args = Arguments(args);
        crate::capture::flush(context);
        if context.flags().is_cluster() && !context.flags().is_primary() {
            return Err(CommandError::ClusterReplica("SYNCER.DIGEST").into());
        }
        let word = if args.0.len() > 1 { args.text(1)?.to_ascii_uppercase() } else { String::new() };
        let (goal, pause) = match (word.as_str(), args.0.len()) {
            ("", 1) => (Goal::All(Digest::default()), 1),
            ("SLOTS", 2 | 3) => (Goal::Slots(SlotDigests::default()), 2),
            ("KEYS", 4 | 5) => {
                let (wanted, limit) = (SlotSet::parse(args.text(2)?)?, args.number(3, "limit", KEYS_MAX)? as usize);
                (Goal::Keys { wanted, limit, found: Vec::new(), is_cut: false }, 4)
            }
            ("KEY", 4) => return one_key(context, args.number(2, "db", i64::from(i32::MAX))? as u32, args.bytes(3)?),
            ("SLOTS" | "KEYS" | "KEY", _) => return Err(CommandError::Arity.into()),
            _ => return Err(CommandError::Word { name: "subcommand", word, known: "SLOTS, KEYS, KEY" }.into()),
        };
        let pause_ms = match args.0.len() > pause {
            true => args.number(pause, "pause-ms", PAUSE_MS_MAX)? as u32,
            false => PAUSE_MS,
        };
        if !may_block(context) {
            return Err(CommandError::CannotBlock("SYNCER.DIGEST").into());
        }
        let (client, blocked) = (context.client(), Blocked::new(context));
        let walk = Walk { client, blocked, db: 0, scan: KeyScan::new(), names: Vec::new(), goal, pause_ms };
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
            let Walk { blocked, goal, .. } = walk;
            blocked.answer(|reply| goal.write(reply));
        } else {
            WALKS.with_borrow_mut(|walks| walks.push(walk));
        }
        // They take turns.
        if let Some(pause_ms) = WALKS.with_borrow(|walks| walks.first().map(|walk| walk.pause_ms)) {
            timer::start::<Self>(context, pause_ms);
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
        if self.goal.is_reached() || !context.select(self.db) {
            return true;
        }
        let Self { scan, names, goal, .. } = self;
        let more = scan.step(context, &mut |name| {
            if goal.wants(name) {
                names.push(name.to_vec());
            }
        });
        with_keyspace(context, |keyspace| {
            for name in self.names.drain(..) {
                let digest = keyspace.unnoticed(self.db, &name, |keyspace| look(keyspace, self.db, &name).digest);
                if let Some(digest) = digest {
                    self.goal.add(self.db, &name, digest);
                }
            }
        });
        if !more {
            self.db += 1;
            self.scan = KeyScan::new();
        }
        false
    }
}

/// One key at this moment.
#[derive(Default)]
struct Look {
    /// `None` when it is absent, or has expired: other instances may have deleted it already.
    digest: Option<u128>,
    kind: Option<Kind>,
    /// Elements, or bytes of a string or a whole value.
    size: u64,
    expire_at: Option<UnixMs>,
}

fn look(keyspace: &mut ServerKeyspace<'_>, db: u32, name: &[u8]) -> Look {
    let expire_at = keyspace.expire_at(db, name);
    if expire_at.is_some_and(|at| at.cast_unsigned() <= now_ms()) {
        return Look::default();
    }
    let kind = keyspace.kind(db, name);
    let mut found = Look { kind, expire_at, ..Look::default() };
    let mut key = KeyDigest::new();
    match kind {
        None => return found,
        Some(Kind::Opaque) => {
            let value = keyspace.canonical(db, name);
            key.element(Path::Opaque, Value::Payload(&value));
            found.size = value.len() as u64;
        }
        Some(_) => keyspace.elements(db, name, &mut |path, value| {
            key.element(path, value);
            found.size += match (path, value) {
                (Path::String, Value::Bytes(bytes)) => bytes.len() as u64,
                _ => 1,
            };
        }),
    }
    found.digest = Some(key.finish(db, name, expire_at));
    found
}

/// Answers for one key, at once: its digest and how to recognise a later change.
fn one_key(context: &Context, db: u32, name: &[u8]) -> CommandResult {
    let home = context.db();
    let exists = context.select(db);
    let found = match exists {
        true => with_keyspace(context, |keyspace| keyspace.unnoticed(db, name, |keyspace| look(keyspace, db, name))),
        false => Look::default(),
    };
    context.select(home);
    let newest =
        with_keyspace(context, |keyspace| state::shard().map(|mut shard| shard.newest_dot(db, name, keyspace)))?;
    let reply = context.reply();
    reply.array(5);
    reply.text(&found.digest.map(|digest| format!("{:016x}", digest as u64)).unwrap_or_default());
    reply.number(newest.bits());
    reply.text(found.kind.filter(|_| found.digest.is_some()).map_or("none", super::key::kind_name));
    reply.number(found.size);
    reply.integer(found.expire_at.unwrap_or(-1));
    Ok(())
}
