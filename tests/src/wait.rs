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
pub fn until<T>(patience: Duration, what: &str, ask: impl FnMut() -> Option<T>, why: impl FnOnce() -> String) -> T {
    within(patience, ask).unwrap_or_else(|| panic!("waited {patience:?} in vain for: {what}\n{}", why()))
}

/// Asks until the answer is `Some`, or `patience` is over.
pub fn within<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() >= deadline {
            return answer;
        }
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
