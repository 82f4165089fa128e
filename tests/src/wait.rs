//! Waiting for a condition, never for a time.

use std::thread;
use std::time::{Duration, Instant};

/// How long a condition that is expected to come may take. Generous: it is only ever used up by a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(5);

/// Asks until the answer is `Some`, and returns it.
///
/// # Panics
/// When `patience` is over; the message says what was waited for and, from `why`, how things stood.
pub fn until<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Option<T>, why: impl FnOnce() -> String) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain for: {what}\n{}", why());
        thread::sleep(POLL);
    }
}

/// Asks until the condition holds, for at most [`PATIENCE`].
///
/// # Panics
/// When it does not come to hold.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    until(PATIENCE, what, || condition().then_some(()), String::new);
}
