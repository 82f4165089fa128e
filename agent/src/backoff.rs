//! Pauses between attempts: exponential, with jitter, so that agents that lost the same peer don't return in step.

use std::time::Duration;

/// The first pause.
const FIRST: Duration = Duration::from_millis(100);

/// Doubles from 100 ms to a limit.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    /// Pauses of at most `max`.
    #[must_use]
    pub fn new(max: Duration) -> Self {
        Self { next: FIRST.min(max), max }
    }

    /// The next pause: between half and all of the current step, by `random` in 0..1.
    pub fn pause(&mut self, random: f64) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.max);
        step.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }

    /// The longest pause, for what only a person can mend.
    pub fn long_pause(&mut self, random: f64) -> Duration {
        self.next = self.max;
        self.pause(random)
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.next = FIRST.min(self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_limit_within_the_jitter() {
        let mut backoff = Backoff::new(Duration::from_secs(10));
        for step_ms in [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000] {
            let pause = backoff.pause(if step_ms % 400 == 0 { 0.999 } else { 0.0 });
            assert!(
                pause >= Duration::from_millis(step_ms / 2) && pause <= Duration::from_millis(step_ms),
                "{pause:?}"
            );
        }
        backoff.reset();
        assert!(backoff.pause(0.5) <= FIRST);
        assert!(backoff.long_pause(0.0) >= Duration::from_secs(5));
    }
}
