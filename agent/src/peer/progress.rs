//! How far a full sync is, for people.

use std::time::{Duration, Instant};

/// How often it is told, and logged.
const TELL_EVERY: Duration = Duration::from_secs(1);
const LOG_EVERY: Duration = Duration::from_secs(10);

/// How far one phase is.
#[derive(Debug)]
pub(super) struct Progress {
    /// What is done with the bytes: `copied` or `merged`.
    phase: &'static str,
    begun: Instant,
    told: Instant,
    logged: Instant,
    pub(super) bytes: u64,
    pub(super) keys: u64,
    /// 0 when it is not known how many keys the bytes are.
    pub(super) keys_total: u64,
}

impl Progress {
    /// At the beginning.
    pub(super) fn new(phase: &'static str, keys_total: u64) -> Self {
        let now = Instant::now();
        Self { phase, begun: now, told: now, logged: now, bytes: 0, keys: 0, keys_total }
    }

    /// Since the beginning.
    pub(super) fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// In hundredths of the keys; their number is an estimate.
    fn percent(&self) -> u64 {
        (self.keys * 100).checked_div(self.keys_total).unwrap_or(0).min(100)
    }

    /// Seconds until the phase ends, at the rate so far.
    fn seconds_left(&self) -> u64 {
        let rate = self.keys as f64 / self.seconds().max(0.001);
        (self.keys_total.saturating_sub(self.keys) as f64 / rate.max(0.001)) as u64
    }

    /// A text now and then; it is logged more rarely.
    pub(super) fn news(&mut self, peer: syncer_shared::instance::InstanceId, reason: &str) -> Option<String> {
        let now = Instant::now();
        if now.duration_since(self.told) < TELL_EVERY {
            return None;
        }
        self.told = now;
        let Self { phase, bytes, keys, keys_total, .. } = *self;
        let per_second = bytes as f64 / self.seconds().max(0.001);
        let (percent, left) = (self.percent(), self.seconds_left());
        if now.duration_since(self.logged) >= LOG_EVERY {
            self.logged = now;
            let per_second = per_second as u64;
            tracing::info!(%peer, phase, keys, keys_total, percent, bytes, per_second, seconds_left = left, "full sync goes on");
        }
        Some(match keys_total {
            0 => format!("{reason}; {bytes} bytes of a file {phase} so far, {per_second:.0} per second"),
            _ => format!(
                "{reason}; {keys} of {keys_total} keys {phase} ({percent} %), {bytes} bytes so far, {per_second:.0} per second, {left} s left"
            ),
        })
    }
}
