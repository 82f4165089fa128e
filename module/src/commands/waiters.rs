//! Clients in `SYNCER.AWAIT` and `SYNCER.WAIT`.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use syncer_shared::shard::Shard;
use syncer_shared::timestamp::Timestamp;
use syncer_shared::token::ClockToken;

use super::turn;
use crate::redis::{Blocked, Context};

/// A day; longer waits are a mistake.
pub const TIMEOUT_MS_MAX: i64 = 86_400_000;

/// What a client waits for.
pub enum Condition {
    /// `AWAIT`.
    Covers(ClockToken),
    /// `WAIT`.
    AppliedBy {
        /// The last timestamp of this instance at the call.
        own: Timestamp,
        /// How many others must have it.
        instances: u64,
    },
}

struct Waiter {
    client: u64,
    blocked: Blocked,
    condition: Condition,
    deadline: Option<Instant>,
}

crate::redis::server_local! {
    static WAITERS: RefCell<Vec<Waiter>> = const { RefCell::new(Vec::new()) };
}

/// Makes the client of the current command wait; no time limit when `timeout_ms` is 0.
pub fn wait(context: &Context, condition: Condition, timeout_ms: u64) {
    let deadline = (timeout_ms > 0).then(|| Instant::now() + Duration::from_millis(timeout_ms));
    let waiter = Waiter { client: context.client(), blocked: Blocked::new(context), condition, deadline };
    WAITERS.with_borrow_mut(|waiters| waiters.push(waiter));
    turn::begin(context, deadline);
}

/// Whether a client here is in `SYNCER.WAIT`.
pub fn wants_reports() -> bool {
    WAITERS.with_borrow(|waiters| waiters.iter().any(|w| matches!(w.condition, Condition::AppliedBy { .. })))
}

/// Whether nobody waits.
pub fn is_empty() -> bool {
    WAITERS.with_borrow(Vec::is_empty)
}

/// The client is gone.
pub fn forget(client: u64) {
    WAITERS.with_borrow_mut(|waiters| waiters.retain(|waiter| waiter.client != client));
}

/// Answers whoever has waited long enough; gives the next deadline.
pub fn serve(shard: &Shard, now: Instant) -> Option<Instant> {
    WAITERS.with_borrow_mut(|waiters| {
        let due = |waiter: &mut Waiter| waiter.is_met(shard) || waiter.deadline.is_some_and(|at| at <= now);
        for waiter in waiters.extract_if(.., due) {
            let result = waiter.result(shard);
            waiter.blocked.answer(|reply| reply.number(result));
        }
        waiters.iter().filter_map(|waiter| waiter.deadline).min()
    })
}

impl Waiter {
    fn is_met(&self, shard: &Shard) -> bool {
        match &self.condition {
            Condition::Covers(token) => shard.covers(token),
            Condition::AppliedBy { own, instances } => shard.applied_by(*own) as u64 >= *instances,
        }
    }

    fn result(&self, shard: &Shard) -> u64 {
        match &self.condition {
            Condition::Covers(token) => u64::from(shard.covers(token)),
            Condition::AppliedBy { own, .. } => shard.applied_by(*own) as u64,
        }
    }
}
