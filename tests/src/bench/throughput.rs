//! Throughput, and CPU time per operation at origin, agent and target.

use std::time::Duration;

use super::contestant::{Contestant, Used, Way};
use super::generator::Load;
use super::operations;
use super::options::Options;
use super::statistics::Rounds;
use super::table::{Table, figure, percent};
use super::target::{Bound, Target};
use super::workload::{KEYS, SET, Workload};

/// Commands in flight per connection, and how many commands a round has.
const PIPELINES: [(u64, u64); 2] = [(1, 60_000), (16, 400_000)];

/// Where contestants stand in the list.
const STOCK: usize = 0;
const PAIR: usize = 1;
const ALONE: usize = 2;
const SYNCER: usize = 3;

/// What the rounds of one contestant told.
#[derive(Clone, Debug, Default)]
struct Measured {
    per_second: Rounds,
    /// Microseconds per operation.
    origin: Rounds,
    agents: Rounds,
    target: Rounds,
}

impl Measured {
    fn everywhere(&self) -> Rounds {
        self.origin.plus(&self.agents).plus(&self.target)
    }
}

/// Measures and prints; returns what was to be reached.
pub fn run(options: &Options) -> Vec<Target> {
    let kind = options.kind;
    let contestants = [
        Contestant::stock(kind),
        Contestant::pair(kind, Way::Direct),
        Contestant::alone(kind),
        Contestant::sites(kind, Way::Direct),
    ];
    for contestant in &contestants {
        Load::new(contestant.origin.port(), SET.command, 16, 3 * KEYS).run();
        contestant.settle();
    }
    let mut targets = Vec::new();
    for (pipeline, requests) in PIPELINES {
        println!("\n## Throughput and CPU, -P {pipeline}\n");
        let results = options.commands.iter().map(|&workload| {
            eprintln!("bench: {} -P {pipeline}", workload.name);
            (workload, rounds(options, &contestants, workload, pipeline, options.scaled(requests)))
        });
        let results: Vec<_> = results.collect();
        println!("{}\n{}", speed(&contestants, &results), cpu(&contestants, &results));
        targets.extend(results.iter().flat_map(|(workload, measured)| reached(*workload, pipeline, measured)));
    }
    targets
}

fn rounds(
    options: &Options,
    contestants: &[Contestant; 4],
    workload: Workload,
    pipeline: u64,
    requests: u64,
) -> [Measured; 4] {
    let mut measured: [Measured; 4] = Default::default();
    for round in 0..options.rounds {
        // Each round begins with another contestant: what the machine does meanwhile hits all alike.
        for index in (0..4).map(|offset| (round + offset) % 4) {
            measure(&contestants[index], workload, pipeline, requests, &mut measured[index]);
        }
    }
    measured
}

fn measure(contestant: &Contestant, workload: Workload, pipeline: u64, requests: u64, measured: &mut Measured) {
    if workload.writes {
        contestant.flush();
    }
    let port = contestant.origin.port();
    if let Some(maker) = workload.maker() {
        operations::run(port, maker, pipeline, requests);
        contestant.settle();
    }
    let before = contestant.used();
    let per_second = if workload.transaction == 0 && workload.takes.is_none() {
        Load::new(port, workload.command, pipeline, requests).run()
    } else {
        operations::run(port, workload, pipeline, requests)
    };
    contestant.settle();
    let after = contestant.used();
    let per_operation =
        |of: fn(&Used) -> Duration| (of(&after).saturating_sub(of(&before))).as_secs_f64() * 1e6 / requests as f64;
    measured.per_second.push(per_second);
    measured.origin.push(per_operation(|used| used.origin));
    measured.agents.push(per_operation(|used| used.agents));
    measured.target.push(per_operation(|used| used.target));
}

type Results = [(Workload, [Measured; 4])];

fn speed(contestants: &[Contestant; 4], results: &Results) -> Table {
    let names = contestants.each_ref().map(|contestant| contestant.name);
    let shares = names[1..].iter().map(|name| format!("{name} / stock"));
    let heads: Vec<String> = ["commands/s".to_owned(), "stock".to_owned()].into_iter().chain(shares).collect();
    let heads: Vec<&str> = heads.iter().map(String::as_str).chain(["noise"]).collect();
    let mut table = Table::new(&heads);
    for (workload, measured) in results {
        let stock = &measured[STOCK].per_second;
        let mut row = vec![workload.name.to_owned(), figure(stock.median())];
        row.extend(measured[1..].iter().map(|other| figure(other.per_second.ratio(stock).median())));
        row.push(percent(stock.noise()));
        table.row(row);
    }
    table
}

fn cpu(contestants: &[Contestant; 4], results: &Results) -> Table {
    let names = contestants.each_ref().map(|contestant| contestant.name);
    let pair = format!("{} origin + target", names[PAIR]);
    let heads = [
        "CPU µs/op",
        names[STOCK],
        &pair,
        names[ALONE],
        "Syncer origin + agent + target",
        "Syncer / pair",
        "origin / stock",
        "noise",
    ];
    let mut table = Table::new(&heads);
    for (workload, measured) in results {
        let at = |index: usize| &measured[index];
        let own = at(SYNCER);
        table.row(vec![
            workload.name.to_owned(),
            figure(at(STOCK).origin.median()),
            format!("{} + {}", figure(at(PAIR).origin.median()), figure(at(PAIR).target.median())),
            figure(at(ALONE).origin.median()),
            [&own.origin, &own.agents, &own.target].map(|place| figure(place.median())).join(" + "),
            figure(own.everywhere().ratio(&at(PAIR).everywhere()).median()),
            figure(own.origin.ratio(&at(STOCK).origin).median()),
            percent(at(STOCK).origin.noise()),
        ]);
    }
    table
}

/// On a machine with two cores, agent and target share one with the load generator: the whole path's commands per
/// second say more about that core than about the origin. So the origin's throughput is that of the module alone,
/// and with a peer it is told from the CPU time: what a core that does nothing else could do.
fn reached(workload: Workload, pipeline: u64, measured: &[Measured; 4]) -> Vec<Target> {
    let (stock, own) = (&measured[STOCK], &measured[SYNCER]);
    let share = match (workload.writes, pipeline) {
        (false, 1) => 0.99,
        (true, 1) => 0.95,
        (true, 16) => 0.75,
        _ => return Vec::new(),
    };
    let name = format!("{} -P {pipeline}", workload.name);
    let bound = Bound::AtLeast(share);
    let alone = measured[ALONE].per_second.ratio(&stock.per_second).median();
    let capacity = stock.origin.ratio(&own.origin).median();
    let mut targets = vec![
        Target::new(format!("{name}: commands/s, module alone / stock"), bound, alone),
        Target::new(format!("{name}: commands per CPU second, origin with a peer / stock"), bound, capacity),
    ];
    if workload.writes {
        let total = own.everywhere().ratio(&measured[PAIR].everywhere()).median();
        targets.push(Target::new(format!("{name}: CPU everywhere / stock pair"), Bound::AtMost(2.0), total));
    }
    targets
}
