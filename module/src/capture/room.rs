//! The backlog is memory like any other to the server: it evicts keys for it, and refuses writes. Whoever sets `maxmemory` is told.

use std::cell::Cell;
use std::ffi::CStr;
use std::time::{Duration, Instant};

use crate::redis::config::BACKLOG_SIZE;
use crate::redis::server::Info;
use crate::redis::{Context, log};

/// How often this is looked at: `INFO memory` is not for every tick.
const EVERY: Duration = Duration::from_secs(10);
/// Where the server says what it may use; 0 is no limit.
const MAXMEMORY: &CStr = c"maxmemory";

crate::redis::server_local! {
    static LOOKED: Cell<Option<Instant>> = const { Cell::new(None) };
    /// Of what was told last: the limit, and the size of the backlog.
    static TOLD: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
}

/// Looks, now and then.
pub fn beat(context: &Context, now: Instant) {
    if LOOKED.get().is_some_and(|looked| now.saturating_duration_since(looked) < EVERY) {
        return;
    }
    LOOKED.set(Some(now));
    let maxmemory = Info::section(context, c"memory").number(MAXMEMORY).unwrap_or(0);
    let backlog = BACKLOG_SIZE.get().unsigned_abs();
    let is_tight = is_tight(maxmemory, backlog).then_some((maxmemory, backlog));
    if TOLD.replace(is_tight) != is_tight && is_tight.is_some() {
        let left = maxmemory.saturating_sub(backlog);
        log::warning(&format!(
            "syncer: the backlog counts as used memory: once it is full, its {backlog} bytes (backlog-size) leave {left} of the {maxmemory} that maxmemory allows for data. What does not fit then is evicted, at all sites, or writes are refused. Raise maxmemory by the size of the backlog, or lower syncer.backlog-size"
        ));
    }
}

/// Whether the backlog may take half of the memory or more.
const fn is_tight(maxmemory: u64, backlog: u64) -> bool {
    maxmemory > 0 && backlog >= maxmemory / 2
}

#[cfg(test)]
mod tests {
    use super::is_tight;

    #[test]
    fn half_for_the_backlog_is_too_much() {
        assert!(!is_tight(0, 1 << 28), "no limit");
        assert!(is_tight(1 << 28, 1 << 28) && is_tight(1 << 29, 1 << 28) && is_tight(1 << 20, 1 << 28));
        assert!(!is_tight((1 << 29) + 2, 1 << 28));
    }
}
