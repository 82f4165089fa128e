//! How many writes of each connection a server has at a moment, and a thread that looks at random moments.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::figures::Figures;
use super::history::History;
use super::survival::{Place, Role};
use super::write::{LOG_SPAN, WriteId};
use super::writer::Target;
use crate::client::Client;
use crate::reply;

/// A server that takes longer hangs, or is paused.
const PATIENCE: Duration = Duration::from_secs(5);
/// From one look to the next, in milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 20..300;

/// What one server has.
#[derive(Clone, Debug)]
pub struct Sample {
    /// By write 0 of a connection, how many of its writes: a prefix (I-2).
    pub counts: BTreeMap<WriteId, u32>,
    /// When the server had said so.
    pub at: Instant,
}

impl Sample {
    /// Asks a server for what it has of these connections, of which so many writes were sent. Unless it does not answer.
    pub fn take(client: &mut Client, connections: &[(WriteId, u32)]) -> Option<Self> {
        let logs = connections.iter().flat_map(|(first, sent)| {
            let parts = (0..=*sent).step_by(LOG_SPAN as usize);
            parts.map(move |n| (*first, WriteId { n, ..*first }.log()))
        });
        let (firsts, lines): (Vec<WriteId>, Vec<String>) =
            logs.map(|(first, log)| (first, format!("SCARD {log}"))).unzip();
        let replies = client.try_pipeline(&lines).ok()?;
        let mut counts = BTreeMap::new();
        for (first, count) in firsts.into_iter().zip(&replies) {
            // While it loads it says so.
            let count: u32 = reply::text(count).parse().ok()?;
            *counts.entry(first).or_insert(0) += count;
        }
        Some(Self { counts, at: Instant::now() })
    }

    /// What this has less of than another one, in a line.
    pub fn lacks(&self, other: &Self) -> Option<String> {
        let count = |first| self.counts.get(first).copied().unwrap_or(0);
        let lacking: Vec<String> = other
            .counts
            .iter()
            .filter(|(first, had)| count(first) < **had)
            .map(|(first, had)| {
                format!("{} to {}", WriteId { n: count(first), ..*first }, WriteId { n: *had - 1, ..*first })
            })
            .collect();
        (!lacking.is_empty()).then(|| lacking.join(", "))
    }
}

/// Looks at all sites until told to stop.
pub struct Sampler {
    /// Instance ids and where their servers are.
    pub targets: Vec<(u8, Arc<Target>)>,
    /// Told of what was found.
    pub history: Arc<History>,
    /// Told of what the servers have counted.
    pub figures: Arc<Figures>,
    /// When to stop.
    pub stop: Arc<AtomicBool>,
    /// When and where it looks.
    pub random: fastrand::Rng,
}

impl Sampler {
    /// Until told to stop.
    pub fn run(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(self.random.u64(PAUSE_MS)));
            let at = self.random.usize(0..self.targets.len());
            let role = if self.random.bool() { Role::Primary } else { Role::Replica };
            let (site, target) = &self.targets[at];
            // Servers that are away, hang or become something else meanwhile are looked at another time.
            let _ = self.look(*site, target, role);
        }
    }

    fn look(&self, site: u8, target: &Target, role: Role) -> Option<()> {
        // The port was stored before the generation rises: an old port goes with an old generation.
        let generation = target.generation.load(Ordering::SeqCst);
        let primary = target.port.load(Ordering::SeqCst);
        let port = if role == Role::Primary { primary } else { target.replica.load(Ordering::SeqCst) };
        let connections = self.history.connections();
        let mut client = Client::connect(port).ok()?;
        client.patience(PATIENCE);
        if role == Role::Replica && !follows(&mut client, primary) {
            return None;
        }
        let sample = Sample::take(&mut client, &connections)?;
        self.figures.look(&mut client, site)?;
        if target.generation.load(Ordering::SeqCst) == generation {
            self.history.saw(Place { site, generation, role }, &sample);
        }
        Some(())
    }
}

/// Whether a server has the data of the one at this port, and hears from it.
fn follows(client: &mut Client, primary: u16) -> bool {
    let info = client.try_cmd("INFO replication").map(|info| reply::text(&info)).unwrap_or_default();
    info.contains("master_link_status:up") && info.contains(&format!("master_port:{primary}\\x0d"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_less_is_named() {
        let [one, two] = [1, 2].map(|epoch| WriteId { site: 1, writer: 0, epoch, n: 0 });
        let sample =
            |counts: &[(WriteId, u32)]| Sample { counts: counts.iter().copied().collect(), at: Instant::now() };
        let before = sample(&[(one, 5), (two, 3)]);
        assert_eq!(sample(&[(one, 5), (two, 4)]).lacks(&before), None);
        assert_eq!(sample(&[(one, 3)]).lacks(&before).as_deref(), Some("1.0.1.3 to 1.0.1.4, 1.0.2.0 to 1.0.2.2"));
    }
}
