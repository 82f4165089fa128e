//! Full syncs: into an empty target, and into one that has the data but was away too long.

use std::time::{Duration, Instant};

use super::contestant::{Contestant, Way};
use super::options::Options;
use super::peak::Peaks;
use super::statistics::Rounds;
use super::table::{Table, figure, percent};
use super::target::{Bound, Target};
use super::{cpu, paced};
use crate::agent::{Agent, AgentOptions};
use crate::client::Client;
use crate::server::{Server, ServerOptions};
use crate::{members, wait};

/// Of the source, as soon as it has the data. The smallest one: what a site misses while it is away must not fit.
const BACKLOG: &str = "1mb";

/// One in so many keys is written anew while the target of the merge is away.
const WRITTEN_ANEW: u64 = 4;

/// How long one may take.
const SYNC_MAX: Duration = Duration::from_secs(300);

/// What is stored under each key: its name, how many, and what appends the write of a key's n-th version.
struct Shape {
    name: &'static str,
    keys: u64,
    write: fn(&mut String, key: u64, version: u64),
}

const SHAPES: [Shape; 2] = [
    Shape {
        name: "strings of 100 bytes",
        keys: 1_000_000,
        write: |batch, key, version| {
            paced::append(batch, &["SET", &format!("key:{key:012}"), &format!("{version:x>100}")]);
        },
    },
    Shape {
        name: "hashes of 5 fields",
        keys: 200_000,
        write: |batch, key, version| {
            let elements = (0..5).flat_map(|n| [format!("field:{n}"), format!("value:{version}:{n}")]);
            let words: Vec<String> =
                ["HSET".to_owned(), format!("key:{key:012}")].into_iter().chain(elements).collect();
            paced::append(batch, &words.iter().map(String::as_str).collect::<Vec<_>>());
        },
    },
];

/// What a round looks at. Not both: to ask for the memory of a process is to walk over all its pages, which took 17 % of a core (perf, hashes),
/// and more of it where a process is larger; a sync keeps both cores busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Time,
    Memory,
}

/// One way to bring a target up to date.
#[derive(Debug, Default)]
struct Measured {
    seconds: Rounds,
    cpu: Rounds,
    /// Beyond what the source took before.
    source_bytes: Rounds,
    /// At most, in all.
    target_bytes: Rounds,
    /// Of that, what the target did not take before.
    target_more: Rounds,
}

/// Measures and prints; returns what was to be reached.
pub fn run(options: &Options) -> Vec<Target> {
    println!("\n## Full sync\n");
    println!(
        "The backlog of the source is {BACKLOG}; all sites know that all have the data. For the merge, one in {WRITTEN_ANEW} keys is written anew at the source while the target is away.\n"
    );
    SHAPES.iter().flat_map(|shape| measure(options, shape)).collect()
}

fn measure(options: &Options, shape: &Shape) -> Vec<Target> {
    // A tenth of the hashes would fit into the backlog.
    let keys = if options.quick { shape.keys / 5 } else { shape.keys };
    let mut measured: [Measured; 3] = Default::default();
    let looks = (0..options.rounds.min(3)).map(|_| Look::Time).chain([Look::Memory]);
    for look in looks {
        let [stock, empty, merge] = &mut measured;
        eprintln!("bench: full sync of {}: {look:?}", shape.name);
        by_stock(options, shape, (keys, look), stock);
        by_syncer(options, shape, (keys, look), empty, merge);
    }
    let [stock, empty, merge] = &measured;
    let mb = |bytes: &Rounds| figure(bytes.median() / 1e6);
    let head = format!("{keys} {}", shape.name);
    let mut table = Table::new(&[
        &head,
        "seconds",
        "noise",
        "/ stock",
        "CPU s",
        "/ stock",
        "source: more MB",
        "target: peak MB",
        "more MB",
    ]);
    for (name, ways) in [("stock replica", stock), ("Syncer, into an empty target", empty), ("Syncer, by merge", merge)]
    {
        table.row(vec![
            name.to_owned(),
            figure(ways.seconds.median()),
            percent(ways.seconds.noise()),
            figure(ways.seconds.ratio(&stock.seconds).median()),
            figure(ways.cpu.median()),
            figure(ways.cpu.ratio(&stock.cpu).median()),
            mb(&ways.source_bytes),
            mb(&ways.target_bytes),
            mb(&ways.target_more),
        ]);
    }
    println!("{table}");
    let targets = [("an empty target", empty, 1.2), ("a merge", merge, 2.5)];
    let target = |(way, measured, most): (&str, &Measured, f64)| {
        let ratio = measured.seconds.ratio(&stock.seconds).median();
        Target::new(format!("full sync of {}, {way}: seconds / stock", shape.name), Bound::AtMost(most), ratio)
    };
    targets.map(target).to_vec()
}

fn by_stock(options: &Options, shape: &Shape, (keys, look): (u64, Look), measured: &mut Measured) {
    let servers = [(); 2].map(|()| Server::start(options.kind, ServerOptions::stock()));
    write(&servers[0], shape, 0..keys, 0);
    let watched = Watched::begin([&servers[0], &servers[1]], look);
    let pair = Contestant::following(servers);
    let is_up = |target: &mut Client| target.text("INFO replication").contains("master_link_status:up");
    until_done(pair.target(), is_up, || pair.standing());
    watched.end(Duration::ZERO, measured);
}

/// Two sites at rest have the data. A third one comes; then the second one is away for a while.
fn by_syncer(options: &Options, shape: &Shape, (keys, look): (u64, Look), empty: &mut Measured, merge: &mut Measured) {
    let site = |instance| Server::start(options.kind, ServerOptions::instance(instance));
    let mut sites = Contestant::joined([1, 2].map(site), Way::Direct);
    write(&sites.origin, shape, 0..keys, 0);
    sites.settle();
    let (mut origin, mut target) = (sites.origin.client(), sites.target().client());
    // At both: what the target has not pruned yet would not be at rest there, and be met key by key.
    let at_rest = || (members::metadata(&mut origin) + members::metadata(&mut target) == 0).then_some(());
    wait::until(SYNC_MAX, "the metadata is pruned", at_rest, || sites.standing());

    origin.ok(&format!("CONFIG SET syncer.backlog-size {BACKLOG}"));
    sites.unpin();

    into_empty(&sites.origin, site(3), look, empty);

    sites.kill_agents();
    write(&sites.origin, shape, 0..keys / WRITTEN_ANEW, 1);
    let watched = Watched::begin([&sites.origin, sites.target()], look);
    sites.restart_agents();
    until_done(sites.target(), has_synced, || sites.standing());
    watched.end(sites.used().agents, merge);
}

fn into_empty(origin: &Server, target: Server, look: Look, measured: &mut Measured) {
    let watched = Watched::begin([origin, &target], look);
    let agent = Agent::start(AgentOptions::beside(target.port()).peer(1, origin.port()));
    until_done(&target, has_synced, || agent.log());
    watched.end(cpu::used(agent.process().pid()), measured);
}

fn write(server: &Server, shape: &Shape, keys: std::ops::Range<u64>, version: u64) {
    paced::each(server.port(), keys, |batch, key| (shape.write)(batch, key, version));
}

fn has_synced(target: &mut Client) -> bool {
    target.text("INFO syncer").contains("syncer_sync_full_in:1\\x0d")
}

fn until_done(target: &Server, mut done: impl FnMut(&mut Client) -> bool, why: impl FnOnce() -> String) {
    let mut client = target.client();
    client.patience(SYNC_MAX);
    wait::until(SYNC_MAX, "the full sync is complete", || done(&mut client).then_some(()), why);
}

/// What is measured from a beginning to an end.
struct Watched {
    pids: [u32; 2],
    /// If it is memory that is looked at, and not the time.
    peaks: Option<Peaks>,
    used: Duration,
    begun: Instant,
}

impl Watched {
    /// Before the two are connected: agents are started for it, so all that they use counts.
    fn begin(servers: [&Server; 2], look: Look) -> Self {
        let pids = servers.map(|server| server.process().pid());
        let used = pids.map(cpu::used_by_family).iter().sum();
        let peaks = (look == Look::Memory).then(|| Peaks::watch(pids.to_vec()));
        Self { pids, peaks, used, begun: Instant::now() }
    }

    fn end(self, agents: Duration, measured: &mut Measured) {
        let Some(peaks) = self.peaks else {
            measured.seconds.push(self.begun.elapsed().as_secs_f64());
            let used = self.pids.map(cpu::used_by_family).iter().sum::<Duration>() + agents;
            measured.cpu.push((used - self.used).as_secs_f64());
            return;
        };
        let peaks = peaks.end();
        let [(before, source), (target_before, target)] =
            self.pids.map(|pid| peaks.get(&pid).copied().unwrap_or_default());
        measured.source_bytes.push((source - before) as f64);
        measured.target_bytes.push(target as f64);
        measured.target_more.push((target - target_before) as f64);
    }
}
