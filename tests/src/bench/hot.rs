//! One key that everybody writes to: its live dots pile up until they are known to be everywhere.

use super::contestant::{Contestant, Way};
use super::generator::Load;
use super::options::Options;
use super::statistics::Rounds;
use super::table::{Table, figure, percent};
use super::target::Target;

/// Commands of one round.
const REQUESTS: u64 = 20_000;

/// Commands of one round during a cut.
const REQUESTS_CUT: u64 = 5_000;

const COMMANDS: [&[&str]; 6] = [
    &["INCR", "count"],
    &["HINCRBY", "hash", "field", "1"],
    &["ZINCRBY", "board", "1", "member"],
    &["INCRBYFLOAT", "sum", "0.5"],
    &["SADD", "set", "member"],
    &["SET", "key", "value"],
];

/// Measures and prints. The issue asks for nothing here.
pub fn run(options: &Options) -> Vec<Target> {
    let stock = Contestant::stock(options.kind);
    let sites = Contestant::sites(options.kind, Way::Proxy);
    println!("\n## One hot key, -P 16\n");
    let mut table = Table::new(&["command", "stock/s", "Syncer / stock", "during a cut / stock", "noise"]);
    for command in COMMANDS {
        let mut measured: [Rounds; 3] = Default::default();
        for _ in 0..options.rounds.min(3) {
            eprintln!("bench: hot {}", command[0]);
            let requests = options.scaled(REQUESTS);
            measured[0].push(per_second(&stock, command, requests));
            measured[1].push(per_second(&sites, command, requests));
            sites.cut();
            measured[2].push(per_second(&sites, command, options.scaled(REQUESTS_CUT)));
            sites.heal();
            sites.settle();
        }
        let [native, whole, cut] = &measured;
        let shares = [whole, cut].map(|own| figure(own.ratio(native).median()));
        let mut row = vec![command[0].to_owned(), figure(native.median())];
        row.extend(shares);
        row.push(percent(native.noise()));
        table.row(row);
    }
    println!("{table}");
    Vec::new()
}

fn per_second(contestant: &Contestant, command: &[&str], requests: u64) -> f64 {
    contestant.origin.client().ok("FLUSHALL SYNC");
    Load::new(contestant.origin.port(), command, 16, requests).run()
}
