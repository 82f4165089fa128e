//! A panic must not cross into the server, which would abort: every entry from it is guarded (I-10).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use super::context::log;

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Runs `body`; when it panics, counts it, says so in the log and gives `fallback`.
pub(in crate::redis) fn guard<R>(entry: &str, fallback: R, body: impl FnOnce() -> R) -> R {
    // AssertUnwindSafe: what `body` shares with later calls sits behind RefCells of state.rs, whose borrows
    // end on unwinding; the values in them are kept valid by their owners between any two calls.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => result,
        Err(panic) => {
            PANICS.fetch_add(1, Ordering::Relaxed);
            let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
            log::warning(&format!("syncer: bug: panic in {entry}: {}", text.unwrap_or("no message")));
            fallback
        }
    }
}

/// How many panics were caught. Anything above 0 is a bug to report.
#[must_use]
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}
