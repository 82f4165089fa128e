//! What runs by the clock: ten times a second, bounded work.

use std::cell::Cell;
use std::time::Instant;

use syncer_shared::replid::ReplId;
use syncer_shared::shard::Shard;

use super::{VOLATILE, coalesce, refuse, replication, role, room, touch};
use crate::commands::headroom;
use crate::keyspace::with_keyspace;
use crate::redis::timer::{self, Tick};
use crate::redis::{Context, is_handing_over, log, server};
use crate::{durable, persist, state};

const PERIOD_MS: u32 = 100;
/// Queue entries pruned in one tick: some 100 us.
const PRUNE_STEPS: usize = 2000;

/// Keys that a joining instance writes again at a report of its agent, every 25 ms.
const RENEWALS: usize = 100;

crate::redis::server_local! {
    /// Whether the server may know other types of values than when it was last tried.
    static TYPES_ARE_NEW: Cell<bool> = const { Cell::new(true) };
}

/// A module has come or gone, or a state was loaded.
pub fn saw_types() {
    TYPES_ARE_NEW.set(true);
}

/// The beat.
struct Heartbeat;

/// Starts it.
pub fn start(context: &Context) {
    timer::start::<Heartbeat>(context, PERIOD_MS);
}

/// Has it beat right after what the event loop is doing now, too. A server that was started or promoted is to begin its reign before its cron
/// expires what is due: nobody would capture that.
pub fn soon(context: &Context) {
    timer::start::<Soon>(context, 0);
}

struct Soon;

impl Tick for Soon {
    fn tick(context: &Context) {
        beat(context);
    }
}

impl Tick for Heartbeat {
    fn tick(context: &Context) {
        timer::start::<Self>(context, PERIOD_MS);
        beat(context);
    }
}

fn beat(context: &Context) {
    role::try_begin();
    if is_handing_over() {
        return;
    }
    if role::mode() == role::Mode::Primary {
        durable::beat(context);
    }
    replication::recheck(context);
    room::beat(context, Instant::now());
    let (_, volatile) = server::key_counts(context, server::databases(context));
    VOLATILE.set(volatile > 0);
    touch::flush(context);
    coalesce::recheck(context);
    if let Ok(mut shard) = state::shard() {
        headroom::beat(shard.backlog().end_offset(), Instant::now());
        shard.prune(PRUNE_STEPS);
        shard.drop_passed(timer::now_ms());
        shard.recheck_behind(timer::now_ms());
        refuse::recheck(&shard);
        warn_if_superseded(&mut shard);
        if role::mode() == role::Mode::Primary {
            replication::drain(context, &mut shard);
        }
    }
}

/// What this server is to write by itself, and may be unable to read. Only from a client's command: a server that fails to read a value while it
/// serves nobody takes that for a broken file, and exits.
pub fn go_on(context: &Context) {
    show_unknown(context);
    if role::mode() != role::Mode::Primary || is_handing_over() {
        return;
    }
    if let Ok(mut shard) = state::shard() {
        if shard.renewals_left().is_some() {
            with_keyspace(context, |keyspace| shard.go_on_joining(keyspace, timer::now_ms(), RENEWALS));
        }
        with_keyspace(context, |keyspace| shard.revive_orphans(keyspace, timer::now_ms()));
        replication::drain(context, &mut shard);
    }
}

/// What the server could not read, it may now.
fn show_unknown(context: &Context) {
    let is_ready = matches!(role::mode(), role::Mode::Primary | role::Mode::Replica);
    if !is_ready || !TYPES_ARE_NEW.replace(false) {
        return;
    }
    if let Ok(mut shard) = state::shard() {
        let shown = with_keyspace(context, |keyspace| shard.show_unknown(keyspace));
        if shown > 0 {
            log::notice(&format!("syncer: {shown} values that this server could not read before show now"));
        }
    }
}

/// Says once that this server was replaced while it lived on.
fn warn_if_superseded(shard: &mut Shard) {
    crate::redis::server_local! {
        static SAID: Cell<Option<ReplId>> = const { Cell::new(None) };
    }
    let Some(by) = shard.replaced_by() else { return };
    if SAID.replace(Some(by)) == Some(by) {
        return;
    }
    log::warning(&format!(
        "syncer: another server is the primary of this instance now ({by}); the other instances take nothing from this one any more. Make it a replica of the new primary; if there is none, restart it; if it came back without its state, SYNCER.FORGET its id at a member, then run syncer-agent join beside it"
    ));
    let unheard = shard.unheard();
    let what_now =
        "they are lost, unless they are written again at the new primary, or this server joins with --data merge";
    persist::say_rejected(&unheard, what_now);
}
