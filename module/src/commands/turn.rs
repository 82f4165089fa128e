//! Serving those who wait: at the end of each turn of the event loop, and by a timer for deadlines.
//!
//! So what many commands of a turn changed is looked at once, and nobody waits for more than a turn, or a
//! millisecond where answers are paced.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::{readers, waiters};
use crate::redis::event_loop::{self, Turn};
use crate::redis::{Context, timer};
use crate::state;

/// Both ways.
struct Serve;

crate::redis::server_local! {
    /// When the earliest timer that is under way fires.
    static ARMED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Somebody waits now, at most until `deadline`.
pub fn begin(context: &Context, deadline: Option<Instant>) {
    event_loop::subscribe::<Serve>(context);
    arm(context, deadline);
}

impl Turn for Serve {
    fn turn(context: &Context) {
        serve(context);
    }
}

impl timer::Tick for Serve {
    fn tick(context: &Context) {
        ARMED.set(None);
        serve(context);
    }
}

fn serve(context: &Context) {
    if readers::is_idle() && waiters::is_empty() {
        return;
    }
    let now = Instant::now();
    let Ok(mut shard) = state::shard() else { return };
    let next = [readers::serve(&mut shard, now), waiters::serve(&shard, now)];
    drop(shard);
    arm(context, next.into_iter().flatten().min());
}

/// Sees to it that [`serve`] runs at `at`, to the millisecond.
fn arm(context: &Context, at: Option<Instant>) {
    let Some(at) = at else { return };
    if ARMED.get().is_some_and(|armed| armed <= at) {
        return;
    }
    ARMED.set(Some(at));
    let wait = at.saturating_duration_since(Instant::now());
    // Rounded up: a timer that fires early would only start another one.
    let milliseconds = u32::try_from((wait + Duration::from_micros(999)).as_millis()).unwrap_or(u32::MAX);
    timer::start::<Serve>(context, milliseconds.max(1));
}
