//! What runs by the clock: ten times a second, bounded work.

use super::{VOLATILE, refuse, replication, role, touch};
use crate::redis::timer::{self, Tick};
use crate::redis::{Context, is_handing_over, server};
use crate::state;

const PERIOD_MS: u32 = 100;
/// Queue entries pruned in one tick: some 100 us.
const PRUNE_STEPS: usize = 2000;

/// The beat.
struct Heartbeat;

/// Starts it.
pub fn start(context: &Context) {
    timer::start::<Heartbeat>(context, PERIOD_MS);
}

impl Tick for Heartbeat {
    fn tick(context: &Context) {
        timer::start::<Self>(context, PERIOD_MS);
        role::try_begin();
        if is_handing_over() {
            return;
        }
        replication::recheck(context);
        let (_, volatile) = server::key_counts(context, server::databases(context));
        VOLATILE.set(volatile > 0);
        touch::flush(context);
        if let Ok(mut shard) = state::shard() {
            shard.prune(PRUNE_STEPS);
            refuse::recheck(&shard);
            if role::mode() == role::Mode::Primary {
                replication::drain(context, &mut shard);
            }
        }
    }
}
