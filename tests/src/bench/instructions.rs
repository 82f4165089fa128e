//! Instructions per operation, of the stock server, the stock pair, a module that only listens, Syncer alone and two sites: figures that other
//! programs on the machine do not change, so that a regression shows anywhere.
//!
//! Only user space is counted, so the cost of sockets, the same for all, is not in it; nor is what servers and module do by
//! the clock. An agent's part is played here, one
//! step at a time, so that each read and each report comes after the same number of writes.

use super::callgrind::Counted;
use super::options::Options;
use super::table::{Table, figure};
use super::target::Target;
use super::workload::Workload;
use crate::client::Client;
use crate::reply;
use crate::server::{Server, ServerKind, ServerOptions};
use crate::stream::Source;
use crate::wait;

/// Commands in flight per connection, and connections.
const PIPELINE: usize = 16;
const CLIENTS: usize = 8;
/// Operations of a round, and before it.
const OPERATIONS: usize = 20_480;
const WARM_UP: usize = 4 * STEP;
/// Operations between two reads of the backlog, and reads between two reports: as at 200,000 a second.
const STEP: usize = PIPELINE * CLIENTS;
const REPORT_STEPS: usize = 32;

/// Two sites, and what agents do between them.
struct Sites {
    origin: Counted,
    target: Counted,
    agent: Source,
    reporter: [Client; 2],
}

/// Instructions per operation, by contestant.
struct Row {
    workload: Workload,
    stock: f64,
    pair: [f64; 2],
    listener: f64,
    alone: f64,
    sites: [f64; 2],
}

/// Measures and prints.
pub fn run(options: &Options) -> Vec<Target> {
    let kind = options.kind;
    let start = |options| Counted::start(kind, options);
    let stock = start(ServerOptions::stock());
    let pair = [ServerOptions::stock(), ServerOptions::stock()].map(start);
    follow(&pair[1].server, &pair[0].server);
    let listener = start(ServerOptions::stock().listener());
    let alone = start(ServerOptions::instance(1));
    let mut sites = Sites::start(kind);
    let rows = options.commands.iter().map(|&workload| {
        eprintln!("bench: instructions of {}", workload.name);
        let [stock] = measure(workload, [&stock], |_| {});
        let [listener] = measure(workload, [&listener], |_| {});
        let [alone] = measure(workload, [&alone], |_| {});
        let [primary, replica] = &pair;
        let settle = follower(&primary.server);
        let pair = measure(workload, [primary, replica], settle);
        Row { workload, stock, listener, alone, pair, sites: sites.measure(workload) }
    });
    let rows: Vec<Row> = rows.collect();
    if let Some(folder) = &options.keep {
        let [primary, replica] = &pair;
        let named =
            [("stock", &stock), ("primary", primary), ("replica", replica), ("listener", &listener), ("alone", &alone)];
        let named = named.into_iter().chain([("origin", &sites.origin), ("target", &sites.target)]);
        named.for_each(|(name, counted)| counted.keep(&folder.join(name)));
    }
    println!("\n## Instructions per operation\n\n{}", table(&rows));
    Vec::new()
}

fn table(rows: &[Row]) -> Table {
    let heads = [
        "command",
        "stock",
        "pair: primary + replica",
        "listener",
        "module alone",
        "sites: origin + target",
        "stock / listener",
        "stock / alone",
        "stock / origin",
        "sites / pair",
    ];
    let mut table = Table::new(&heads);
    for Row { workload, stock, pair, listener, alone, sites } in rows {
        let sum = |parts: &[f64; 2]| parts.iter().sum::<f64>();
        table.row(vec![
            workload.name.to_owned(),
            figure(*stock),
            pair.map(figure).join(" + "),
            figure(*listener),
            figure(*alone),
            sites.map(figure).join(" + "),
            figure(stock / listener),
            figure(stock / alone),
            figure(stock / sites[0]),
            figure(sum(sites) / sum(pair)),
        ]);
    }
    table
}

/// Runs the workload at the first of the servers; `step` is told after every [`STEP`] operations, and at the end.
fn measure<const N: usize>(workload: Workload, servers: [&Counted; N], mut step: impl FnMut(bool)) -> [f64; N] {
    let mut clients: [Client; CLIENTS] = std::array::from_fn(|_| servers[0].server.client());
    let mut load = |workload: Workload, random: &mut fastrand::Rng, operations: usize| {
        for _ in 0..operations / STEP {
            step_of(workload, &mut clients, random);
            step(false);
        }
        step(true);
    };
    let seeded = || fastrand::Rng::with_seed(7);
    if let Some(maker) = workload.maker() {
        load(maker, &mut seeded(), WARM_UP + OPERATIONS);
    }
    let mut random = seeded();
    load(workload, &mut random, WARM_UP);
    servers.iter().for_each(|server| server.begin());
    load(workload, &mut random, OPERATIONS);
    servers.map(|server| server.count() / OPERATIONS as f64)
}

/// One pipeline on every connection.
fn step_of(workload: Workload, clients: &mut [Client], random: &mut fastrand::Rng) {
    for client in &mut *clients {
        let mut bytes = Vec::new();
        for _ in 0..PIPELINE {
            workload.operation(random).iter().for_each(|words| crate::client::encode(words, &mut bytes));
        }
        client.send_raw(&bytes).expect("the server takes a pipeline");
    }
    for client in clients {
        for _ in 0..PIPELINE * workload.commands() {
            let answer = client.receive().expect("the server answers a pipeline");
            assert!(!reply::is_error(&answer), "{}: {}", workload.name, reply::text(&answer));
        }
    }
}

fn follow(replica: &Server, primary: &Server) {
    let mut client = replica.client();
    client.ok(&format!("REPLICAOF 127.0.0.1 {}", primary.port()));
    wait::eventually("the replica follows", || client.text("INFO replication").contains("master_link_status:up"));
}

/// Waits at the end until the replica has everything.
fn follower(primary: &Server) -> impl FnMut(bool) + use<> {
    let mut client = primary.client();
    move |end| {
        if end {
            client.ok("SET settled 1");
            wait::eventually("the replica has everything", || client.text("WAIT 1 1000") == "1");
        }
    }
}

impl Sites {
    /// Two sites that know each other.
    fn start(kind: ServerKind) -> Self {
        let [origin, target] = [1, 2].map(|instance| {
            // Valgrind is slow: what is one slice there must be one here.
            let options = ServerOptions::instance(instance).module_arg("apply-slice-us", "1000000");
            Counted::start(kind, options)
        });
        let mut back = Source::handshake(target.server.client(), 2, &mut origin.server.client());
        let mut agent = Source::handshake(origin.server.client(), 1, &mut target.server.client());
        for _ in 0..3 {
            bring(&mut agent, &mut target.server.client());
            bring(&mut back, &mut origin.server.client());
        }
        let reporter = [origin.server.client(), target.server.client()];
        Self { origin, target, agent, reporter }
    }

    fn measure(&mut self, workload: Workload) -> [f64; 2] {
        let Self { origin, target, agent, reporter } = self;
        let mut target_client = target.server.client();
        let mut steps = 0;
        measure(workload, [origin, target], |end| {
            steps += 1;
            if workload.writes {
                bring(agent, &mut target_client);
                if end || steps % REPORT_STEPS == 0 {
                    report(reporter);
                }
            }
        })
    }
}

/// What an agent does: reads once, and applies it all.
fn bring(source: &mut Source, target: &mut Client) {
    let mut chunk = source.read();
    while !chunk.frames.is_empty() {
        let answer = chunk.apply(target);
        let [status, offset, ..] = reply::items(&answer) else { panic!("SYNCER.APPLY: {}", reply::text(&answer)) };
        match reply::text(status).as_str() {
            "DONE" => return,
            "SLICE" => chunk.skip_to(reply::integer(offset)),
            other => panic!("SYNCER.APPLY answers {other}"),
        }
    }
}

/// Each tells the other what it has.
fn report([first, second]: &mut [Client; 2]) {
    tell("1", first, second);
    tell("2", second, first);
}

fn tell(instance: &str, from: &mut Client, to: &mut Client) {
    let report = from.ok("SYNCER.REPORT");
    let answer = to.args(&[b"SYNCER.REPORT", instance.as_bytes(), reply::bytes(&report)]);
    assert!(!reply::is_error(&answer), "SYNCER.REPORT: {}", reply::text(&answer));
}
