//! `verify-every-s`: the same in the background, gently, with what it finds in the log.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use tracing::{info, warn};

use super::{VerifyOptions, verify};
use crate::board::Board;
use crate::config::Config;

/// A twentieth of each server's main thread, and a log that stays readable.
const OPTIONS: VerifyOptions = VerifyOptions { pause_ms: 10, differences_max: 10 };

/// The last comparison in figures.
#[derive(Clone, Copy, Debug)]
pub struct Verification {
    /// When it ended.
    pub at: SystemTime,
    /// Keys that differ, at most as many as are named.
    pub differing: usize,
    /// Keys at the local site.
    pub keys: u64,
}

/// Compares again and again, with pauses of `every`; for ever.
pub async fn verify_every(every: Duration, config: Rc<Config>, board: Rc<Board>) {
    loop {
        // With jitter, so that the agents of all sites do not come at once.
        tokio::time::sleep(every.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        let outcome = match verify(&config, OPTIONS).await {
            Ok(outcome) => outcome,
            Err(error) => {
                warn!(%error, "verify: sites could not be compared");
                continue;
            }
        };
        for difference in &outcome.differences {
            warn!(%difference, "verify: sites differ");
        }
        let (keys, differing) = (outcome.keys, outcome.differences.len());
        let (undecided, seconds) = (outcome.undecided, outcome.seconds);
        match outcome.differs() {
            true => {
                warn!(keys, differing, more = outcome.is_cut, slots = ?outcome.slots_skipped, seconds, "verify: sites differ; report it, and see docs/AGENT.md")
            }
            false => info!(keys, undecided, seconds, "verify: sites are equal"),
        }
        board.verification.set(Some(Verification { at: SystemTime::now(), differing, keys }));
    }
}
