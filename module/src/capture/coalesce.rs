//! A burst of writes to a large value that is captured whole: at most one capture in a while, which is longer for larger values.
//!
//! The first write is captured at once. One that follows soon marks the key (`shared/src/shard/changed.rs` says why nothing is lost by
//! that, and what is never overtaken); further ones cost nothing but themselves. A timer captures what is left. Only units that wrote that key
//! and nothing else wait, so that no transaction is ever seen in part.

use syncer_shared::effect::{Effect, Kind, Op, Path, Value};
use syncer_shared::group;
use syncer_shared::keyspace::Keyspace;

use super::{Capture, Mode, ServerDataset, replication, role, with};
use crate::keyspace::with_keyspace;
use crate::redis::config::{WHOLE_COALESCE_MS, WHOLE_COALESCE_SIZE};
use crate::redis::timer::{self, Tick};
use crate::redis::{Context, is_handing_over, notify};
use crate::state;

/// All that waits goes into one group, and must be no more than that.
const BYTES_MAX: usize = 256 << 20;

/// A value is captured at this pace at most: to serialise so much takes some tenth of a millisecond.
const BYTES_A_MS: usize = 8 << 10;

/// Large values captured lately; more are not remembered.
const KNOWN_MAX: usize = 64;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Coalescing {
    lately: Vec<Captured>,
    scheduled: bool,
}

#[derive(Debug)]
struct Captured {
    db: u32,
    key: Box<[u8]>,
    at_ms: u64,
    bytes: usize,
}

impl Captured {
    /// When it may be captured again.
    fn due_ms(&self) -> u64 {
        let period_ms = WHOLE_COALESCE_MS.get().unsigned_abs();
        let paced_ms = if period_ms == 0 { 0 } else { (self.bytes / BYTES_A_MS) as u64 };
        self.at_ms.saturating_add(period_ms.max(paced_ms))
    }

    fn is_recent(&self, now_ms: u64) -> bool {
        // Not if the clock was set back.
        (self.at_ms..self.due_ms()).contains(&now_ms)
    }
}

impl Coalescing {
    /// A group is logged: which of its values are large?
    pub fn captured(&mut self, body: &[u8], now_ms: u64) {
        let least = usize::try_from(WHOLE_COALESCE_SIZE.get()).unwrap_or(usize::MAX);
        if body.len() < least {
            return;
        }
        self.lately.retain(|captured| captured.is_recent(now_ms));
        for Effect { db, key, op, .. } in group::effects(body) {
            let Op::Assign { path: Path::Opaque, value: Value::Payload(payload), .. } = op else { continue };
            self.lately.retain(|captured| captured.db != db || *captured.key != *key);
            if payload.len() >= least && self.lately.len() < KNOWN_MAX {
                self.lately.push(Captured { db, key: key.into(), at_ms: now_ms, bytes: payload.len() });
            }
        }
    }

    /// Until when the value waits, if it is to.
    fn due_ms(&self, db: u32, key: &[u8], now_ms: u64, is_waiting: impl Fn(u32, &[u8]) -> bool) -> Option<u64> {
        let is_it = |captured: &Captured| captured.db == db && *captured.key == *key;
        let due_ms = self.lately.iter().find(|one| is_it(one) && one.is_recent(now_ms))?.due_ms();
        let with_it = self.lately.iter().filter(|one| is_it(one) || is_waiting(one.db, &one.key));
        (with_it.map(|one| one.bytes).sum::<usize>() <= BYTES_MAX).then_some(due_ms)
    }
}

impl Capture {
    /// Leaves the capture of what the unit has written for later, if that may be. Whether it does.
    pub(super) fn postpones(&mut self, context: &Context, dataset: &mut ServerDataset<'_>) -> bool {
        if self.coalescing.lately.is_empty() {
            return false;
        }
        let now_ms = timer::cached_ms();
        let Some((db, key)) = self.unit.only_whole() else { return false };
        let Ok(mut shard) = state::shard() else { return false };
        let due_ms = self.coalescing.due_ms(db, key, now_ms, |db, key| shard.is_changed(db, key));
        let Some(due_ms) = due_ms else { return false };
        if !shard.may_note_changed(db, key) || dataset.kind(db, key) != Some(Kind::Opaque) {
            return false;
        }
        replication::drain(context, &mut shard);
        if let Some(record) = shard.note_changed(db, key)
            && replication::needed()
        {
            notify::replicate_log(context, record);
        }
        self.counters.coalesced += 1;
        if !std::mem::replace(&mut self.coalescing.scheduled, true) {
            timer::start::<Flush>(context, u32::try_from(due_ms.saturating_sub(now_ms)).unwrap_or(u32::MAX));
        }
        true
    }
}

struct Flush;

impl Tick for Flush {
    fn tick(context: &Context) {
        with(|capture| capture.coalescing.scheduled = false);
        flush(context);
    }
}

/// Now and then: what a primary before this one had left, or this one before it was started again.
pub fn recheck(context: &Context) {
    if with(|capture| capture.coalescing.scheduled) == Some(false) {
        flush(context);
    }
}

/// Captures what was left for later.
pub fn flush(context: &Context) {
    let has_changed = || state::shard().is_ok_and(|shard| shard.has_changed());
    if role::mode() == Mode::Primary && !is_handing_over() && has_changed() {
        with(|capture| capture.log_changed(context));
    }
}

impl Capture {
    fn log_changed(&mut self, context: &Context) {
        if let Ok(shard) = state::shard() {
            with_keyspace(context, |keyspace| shard.add_changed(&mut self.group.builder, keyspace));
        }
        self.commit(context, &mut ServerDataset::new(context));
    }
}
