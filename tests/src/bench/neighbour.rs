//! What clients of one site feel while the other site takes writes at full speed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::contestant::{Contestant, Way};
use super::generator::Load;
use super::options::Options;
use super::percentile::Times;
use super::table::{Table, figure};
use super::target::{Bound, Target};
use super::workload::SET;
use super::{cpu, slices};
use crate::client::Client;

/// Between two commands of the client.
const EVERY: Duration = Duration::from_micros(500);

/// Commands of one round.
const COMMANDS: u64 = 6_000;

/// Measures and prints; returns what was to be reached.
pub fn run(options: &Options) -> Vec<Target> {
    let contestants = [Contestant::pair(options.kind, Way::Direct), Contestant::sites(options.kind, Way::Direct)];
    let syncer = &contestants[1];
    let commands = options.scaled(COMMANDS);
    slices::reset(&mut syncer.target().client());
    let rows = [("stock pair", 0, "GET key:1"), ("Syncer", 1, "GET key:1"), ("Syncer", 1, "SET key:1 v")];
    let mut idle: [Times; 3] = Default::default();
    let mut busy: [Times; 3] = Default::default();
    for _ in 0..options.rounds {
        for (index, (name, contestant, line)) in rows.into_iter().enumerate() {
            eprintln!("bench: clients beside full speed: {name} {line}");
            let contestant = &contestants[contestant];
            idle[index].extend(latencies(contestant.target().client(), line, commands));
            busy[index].extend(beside_full_speed(contestant, line, commands));
        }
    }
    println!("\n## Clients at the target while the origin takes SETs at full speed, -P 16\n");
    let mut table = Table::new(&["", "command", "idle p50 ms", "idle p99 ms", "p50 ms", "p99 ms", "p99.9 ms"]);
    for (index, (name, _, line)) in rows.into_iter().enumerate() {
        let mut row = vec![name.to_owned(), line.split(' ').next().unwrap_or_default().to_owned()];
        row.extend(idle[index].milliseconds([50.0, 99.0]).map(figure));
        row.extend(busy[index].milliseconds([50.0, 99.0, 99.9]).map(figure));
        table.row(row);
    }
    println!("{table}");
    match slices::microseconds(&mut syncer.target().client()) {
        Some([p50, p99, p999]) => {
            println!("SYNCER.APPLY on the main thread: p50 {p50} µs, p99 {p99} µs, p99.9 {p999} µs.");
            vec![Target::new("SYNCER.APPLY p99 at full speed, µs", Bound::AtMost(1000.0), p99)]
        }
        None => Vec::new(),
    }
}

/// The generator stays on the origin's core, so that the target's core is the target's.
fn beside_full_speed(contestant: &Contestant, line: &str, commands: u64) -> Times {
    let ended = AtomicBool::new(false);
    let times = thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                let load = Load::new(contestant.origin.port(), SET.command, 16, 50_000);
                Load { cores: cpu::ORIGIN_CORE, ..load }.run();
            }
        });
        let times = latencies(contestant.target().client(), line, commands);
        ended.store(true, Ordering::Relaxed);
        times
    });
    contestant.settle();
    times
}

fn latencies(mut client: Client, line: &str, commands: u64) -> Times {
    let mut times = Times::default();
    for _ in 0..commands {
        let sent = Instant::now();
        client.ok(line);
        times.push(sent.elapsed());
        thread::sleep(EVERY);
    }
    times
}
