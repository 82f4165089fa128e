//! How far a full sync is, for people.

use std::time::{Duration, Instant};

/// How often it is told, and logged.
const TELL_EVERY: Duration = Duration::from_secs(1);
const LOG_EVERY: Duration = Duration::from_secs(10);

/// How far one phase is.
#[derive(Debug)]
pub(super) struct Progress {
    /// What is done with the bytes: `copied`, `copied as a file` or `merged`.
    phase: &'static str,
    begun: Instant,
    told: Instant,
    logged: Instant,
    pub(super) bytes: u64,
    /// 0 as long as it is not known how many keys the bytes are.
    pub(super) keys: u64,
    /// About.
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

    /// Keys, hundredths of them (their number is an estimate), and seconds until the phase ends, at the rate so far: if anything is known of it.
    fn known(&self) -> Option<[u64; 3]> {
        let keys = self.keys;
        let percent = (keys * 100).checked_div(self.keys_total).filter(|_| keys > 0)?;
        let left = self.keys_total.saturating_sub(keys) as f64 * self.seconds() / keys as f64;
        Some([keys, percent.min(100), left as u64])
    }

    /// A text now and then; it is logged more rarely.
    pub(super) fn news(&mut self, peer: syncer_shared::instance::InstanceId, reason: &str) -> Option<String> {
        let now = Instant::now();
        if now.duration_since(self.told) < TELL_EVERY {
            return None;
        }
        self.told = now;
        let Self { phase, bytes, keys_total, .. } = *self;
        let per_second = bytes as f64 / self.seconds().max(0.001);
        let known = self.known();
        if now.duration_since(self.logged) >= LOG_EVERY {
            self.logged = now;
            let per_second = per_second as u64;
            let [keys, percent, seconds_left] = [0, 1, 2].map(|at| known.map(|known| known[at]));
            tracing::info!(%peer, phase, keys, keys_total, percent, bytes, per_second, seconds_left, "full sync goes on");
        }
        Some(match known {
            None => format!("{reason}; {bytes} bytes {phase} so far, {per_second:.0} per second"),
            Some([keys, percent, left]) => format!(
                "{reason}; {keys} of {keys_total} keys {phase} ({percent} %), {bytes} bytes so far, {per_second:.0} per second, {left} s left"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use syncer_shared::instance::InstanceId;

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nobody panics").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is told and what is logged of 10,000 of 40,000 keys, after so many seconds.
    fn after(seconds: u64) -> (Option<String>, String) {
        at(seconds, 10_000)
    }

    fn at(seconds: u64, keys: u64) -> (Option<String>, String) {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let begun = Instant::now().checked_sub(Duration::from_secs(seconds)).expect("the machine runs for longer");
        let mut progress = Progress { begun, told: begun, logged: begun, ..Progress::new("copied", 40_000) };
        (progress.keys, progress.bytes) = (keys, 5_000_000);
        let peer = InstanceId::new(2).expect("an id");
        let told = tracing::subscriber::with_default(subscriber, || progress.news(peer, "a reason"));
        let logged = String::from_utf8(log.0.lock().expect("nobody panics").clone()).expect("text");
        (told, logged)
    }

    #[test]
    fn the_log_says_how_far_it_is_now_and_then() {
        assert_eq!(after(0), (None, String::new()), "nothing so soon");
        let (told, logged) = after(5);
        let told = told.expect("it is told");
        assert!(told.starts_with("a reason; 10000 of 40000 keys copied (25 %), 5000000 bytes so far, "), "{told}");
        assert!(told.ends_with(" per second, 15 s left"), "{told}");
        assert_eq!(logged, "", "more rarely");
        let (_, logged) = after(20);
        for part in ["full sync goes on", "peer=2", "keys=10000", "keys_total=40000", "percent=25", "bytes=5000000"] {
            assert!(logged.contains(part), "{part}: {logged}");
        }
        // Of 250,000 bytes and 500 keys a second.
        assert!(logged.contains("per_second=249") || logged.contains("per_second=250000"), "{logged}");
        assert!(logged.contains("seconds_left=60") || logged.contains("seconds_left=59"), "{logged}");
    }

    #[test]
    fn what_is_not_known_is_not_made_up() {
        let (told, logged) = at(20, 0);
        let told = told.expect("it is told");
        assert!(told.starts_with("a reason; 5000000 bytes copied so far, ") && told.ends_with(" per second"), "{told}");
        assert!(logged.contains("keys_total=40000 bytes=5000000 per_second="), "{logged}");
        for part in [" keys=", "percent=", "seconds_left="] {
            assert!(!logged.contains(part), "{part}: {logged}");
        }
    }
}
