//! How fast a target that was cut off gets what it missed, once its stream goes on.

use std::time::{Duration, Instant};

use super::contestant::{Contestant, Way};
use super::options::Options;
use super::paced;
use super::slices;
use super::statistics::Rounds;
use super::table::{Table, figure, percent};
use super::target::{Bound, Target};
use crate::client::Client;
use crate::wait;

/// Keys written during the cut.
const MISSED: u64 = 500_000;

/// For how long the target may lack what it missed.
const CATCH_UP_MAX: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
struct Measured {
    per_second: Rounds,
    /// Seconds from the end of the cut until everything is there: connecting again is in it.
    total: Rounds,
}

/// Measures and prints; returns what was to be reached.
pub fn run(options: &Options) -> Vec<Target> {
    let missed = options.scaled(MISSED);
    let contestants = [Contestant::pair(options.kind, Way::Proxy), Contestant::sites(options.kind, Way::Proxy)];
    let mut measured: [Measured; 2] = Default::default();
    let mut syncer_target = contestants[1].target().client();
    slices::reset(&mut syncer_target);
    for round in 0..options.rounds.min(3) {
        for index in (0..2).map(|offset| (round + offset) % 2) {
            eprintln!("bench: catch-up of {}", contestants[index].name);
            measure(&contestants[index], missed, &mut measured[index]);
        }
    }
    println!("\n## Catch-up after a cut\n\n{missed} SETs of new keys at the origin meanwhile, through haproxy.\n");
    let mut table = Table::new(&["", "effects/s", "noise", "seconds from the heal, connecting included"]);
    for (contestant, measured) in contestants.iter().zip(&measured) {
        table.row(vec![
            contestant.name.to_owned(),
            figure(measured.per_second.median()),
            percent(measured.per_second.noise()),
            figure(measured.total.median()),
        ]);
    }
    println!("{table}");
    let ratio = measured[1].per_second.ratio(&measured[0].per_second).median();
    println!("Syncer / stock pair: {}", figure(ratio));
    match slices::microseconds(&mut syncer_target) {
        Some([p50, p99, p999]) => {
            println!("\nSYNCER.APPLY on the main thread: p50 {p50} µs, p99 {p99} µs, p99.9 {p999} µs.");
            vec![Target::new("SYNCER.APPLY p99 while catching up, µs", Bound::AtMost(1000.0), p99)]
        }
        None => Vec::new(),
    }
}

fn measure(contestant: &Contestant, missed: u64, measured: &mut Measured) {
    contestant.flush();
    contestant.cut();
    paced::set_all(contestant.origin.port(), 0..missed);
    let mut target = contestant.target().client();
    let before = keys(&mut target);
    let healed = Instant::now();
    contestant.heal();
    let moved = |at_least: u64| {
        let mut target = contestant.target().client();
        let look = move || Some(keys(&mut target)).filter(|&keys| keys >= at_least);
        wait::until(CATCH_UP_MAX, "the target gets what it missed", look, || contestant.standing())
    };
    let first = moved(before + 1);
    let begun = Instant::now();
    moved(missed);
    measured.per_second.push((missed - first) as f64 / begun.elapsed().as_secs_f64());
    measured.total.push(healed.elapsed().as_secs_f64());
    contestant.settle();
}

fn keys(client: &mut Client) -> u64 {
    client.text("DBSIZE").parse().expect("DBSIZE is a number")
}
