//! Lag: from the moment a client sends a write at the origin until a client of the target is told of the key.
//!
//! Probes are SADDs beside the load of SETs, and the target publishes keyspace events of sets only: so the same
//! method works for a replica and for a site, and costs nothing for the load.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::contestant::{Contestant, Way};
use super::options::Options;
use super::percentile::Times;
use super::statistics::Rounds;
use super::table::{Table, figure};
use super::target::{Bound, Target};
use super::{paced, slices};
use crate::client::Client;
use crate::{reply, wait};

/// Writes per second of the load.
const RATES: [u64; 2] = [10_000, 50_000];

/// Between probes; odd, so that they fall on all phases of the load.
const PROBE_EVERY: Duration = Duration::from_micros(1_070);

/// Probes before the first that counts.
const WARM_UP: u64 = 300;

const PREFIX: &str = "probe:";

#[derive(Debug, Default)]
struct Measured {
    lags: Times,
    rate: Rounds,
}

/// Measures and prints; returns what was to be reached.
pub fn run(options: &Options) -> Vec<Target> {
    let contestants = [Contestant::pair(options.kind, Way::Direct), Contestant::sites(options.kind, Way::Direct)];
    let syncer = &contestants[1];
    for contestant in &contestants {
        contestant.target().client().ok("CONFIG SET notify-keyspace-events Ks");
    }
    println!("\n## Lag\n");
    let mut table = Table::new(&["writes/s", "", "p50 ms", "p99 ms", "p99.9 ms", "probes", "reached writes/s"]);
    let mut targets = Vec::new();
    slices::reset(&mut syncer.target().client());
    for rate in RATES {
        let mut measured: [Measured; 2] = Default::default();
        for round in 0..options.rounds {
            for index in (0..2).map(|offset| (round + offset) % 2) {
                eprintln!("bench: lag of {} at {rate} writes/s", contestants[index].name);
                measure(&contestants[index], rate, options.scaled(6_000), &mut measured[index]);
            }
        }
        for (contestant, measured) in contestants.iter().zip(&measured) {
            let lags = measured.lags.milliseconds([50.0, 99.0, 99.9]);
            let mut row = vec![figure(rate as f64), contestant.name.to_owned()];
            row.extend(lags.map(figure));
            row.extend([measured.lags.len().to_string(), figure(measured.rate.median())]);
            table.row(row);
        }
        let [p50, p99] = measured[1].lags.milliseconds([50.0, 99.0]);
        if rate == RATES[1] {
            targets.push(Target::new("lag p50 at 50k/s, ms", Bound::AtMost(1.0), p50));
            targets.push(Target::new("lag p99 at 50k/s, ms", Bound::AtMost(10.0), p99));
        }
    }
    println!("{table}");
    if let Some([p50, p99, p999]) = slices::microseconds(&mut syncer.target().client()) {
        println!("SYNCER.APPLY on the main thread: p50 {p50} µs, p99 {p99} µs, p99.9 {p999} µs.");
        targets.push(Target::new("SYNCER.APPLY p99 at 10k and 50k writes/s, µs", Bound::AtMost(1000.0), p99));
    }
    targets
}

fn measure(contestant: &Contestant, rate: u64, probes: u64, measured: &mut Measured) {
    contestant.flush();
    let stop = AtomicBool::new(false);
    let target = contestant.target();
    thread::scope(|scope| {
        let load = scope.spawn(|| paced::set_at(contestant.origin.port(), rate, &stop));
        let seen = listen(target.client(), WARM_UP + probes, scope);
        let sent = probe(contestant.origin.client(), WARM_UP + probes);
        let seen = seen.join().expect("every probe arrives");
        stop.store(true, Ordering::Relaxed);
        measured.rate.push(load.join().expect("the load goes on"));
        for (number, sent) in (0..).zip(&sent).skip(WARM_UP as usize) {
            measured.lags.push(seen[&number].saturating_duration_since(*sent));
        }
    });
    contestant.settle();
}

/// Sends the probes, one after the other; returns when each was sent.
fn probe(mut client: Client, probes: u64) -> Vec<Instant> {
    let begun = Instant::now();
    let mut sent = Vec::new();
    for number in 0..probes {
        let due = begun + PROBE_EVERY * u32::try_from(number).expect("probes are few");
        thread::sleep(due.saturating_duration_since(Instant::now()));
        sent.push(Instant::now());
        client.ok(&format!("SADD {PREFIX}{number} x"));
    }
    sent
}

/// Listens for the probes; returns, when all are there, when each was seen.
fn listen<'scope>(
    mut client: Client,
    probes: u64,
    scope: &'scope thread::Scope<'scope, '_>,
) -> thread::ScopedJoinHandle<'scope, HashMap<u64, Instant>> {
    client.patience(wait::PATIENCE);
    client.ok(&format!("PSUBSCRIBE __keyspace@0__:{PREFIX}*"));
    scope.spawn(move || {
        let mut seen = HashMap::new();
        while (seen.len() as u64) < probes {
            let message = client.receive().expect("probes arrive");
            let now = Instant::now();
            let channel = reply::items(&message).get(2).map(reply::text).unwrap_or_default();
            if let Some(number) = channel.rsplit(':').next().and_then(|number| number.parse().ok()) {
                seen.entry(number).or_insert(now);
            }
        }
        seen
    })
}
