//! A link that is down for a while under load, and failovers: how long until all is as before.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::contestant::{Contestant, Way};
use super::options::Options;
use super::paced;
use super::statistics::Rounds;
use super::table::{Table, figure, percent};
use super::target::Target;
use crate::client::Client;
use crate::server::{Server, ServerOptions};
use crate::{reply, wait};

/// Writes per second, before, while and after the link is down.
const RATE: u64 = 20_000;

/// How long it is down.
const CUT: Duration = Duration::from_secs(60);

/// So old is the newest write at the target when it has caught up.
const CAUGHT_UP: Duration = Duration::from_millis(50);

/// How long catching up may take.
const CATCH_UP_MAX: Duration = Duration::from_secs(300);

/// Measures and prints; there is nothing to reach.
pub fn run(options: &Options) -> Vec<Target> {
    cut(options);
    failover(options);
    Vec::new()
}

/// Ends a load, also when what is measured beside it fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn cut(options: &Options) {
    let cut = if options.quick { CUT / 10 } else { CUT };
    let mut table =
        Table::new(&["", "s to have what was written until the heal", "s to be less than 50 ms behind", "writes/s"]);
    for contestant in [Contestant::pair(options.kind, Way::Proxy), Contestant::sites(options.kind, Way::Proxy)] {
        eprintln!("bench: {} s of cut of {}", cut.as_secs(), contestant.name);
        let stop = AtomicBool::new(false);
        let port = contestant.origin.port();
        let (all, near, rate) = thread::scope(|scope| {
            let load = scope.spawn(|| paced::set_at(port, RATE, &stop));
            let ends = Stop(&stop);
            contestant.cut();
            thread::sleep(cut);
            let healed = Instant::now();
            contestant.heal();
            arrives(&contestant, "healed");
            let all = healed.elapsed();
            for n in 0.. {
                let sent = Instant::now();
                arrives(&contestant, &format!("probe:{n}"));
                if sent.elapsed() < CAUGHT_UP {
                    break;
                }
            }
            let near = healed.elapsed();
            drop(ends);
            (all, near, load.join().expect("the load runs"))
        });
        let standing = contestant.origin.client().text("INFO everything");
        let is_partial = if contestant.is_syncer() { "syncer_sync_full_out:0\\x0d" } else { "sync_full:1\\x0d" };
        assert!(standing.contains(is_partial), "the backlog did not reach back: {standing}");
        table.row(vec![
            contestant.name.to_owned(),
            figure(all.as_secs_f64()),
            figure(near.as_secs_f64()),
            figure(rate),
        ]);
    }
    println!(
        "\n## Partial sync after a cut of {} s under {RATE} writes/s\n\nThrough haproxy; the writes go on. Connecting again is in it: it takes up to 10 s to be tried.\n\n{table}",
        cut.as_secs()
    );
}

/// Waits until a write of now is at the target.
fn arrives(contestant: &Contestant, key: &str) {
    contestant.origin.client().ok(&format!("SET {key} 1"));
    let mut target = contestant.target().client();
    let there = || (target.text(&format!("EXISTS {key}")) == "1").then_some(());
    wait::until(CATCH_UP_MAX, "a write arrives", there, || contestant.standing());
}

/// The longest time between two writes that were taken, while a replica becomes the primary.
fn failover(options: &Options) {
    let mut measured: [[Rounds; 2]; 2] = Default::default();
    for _ in 0..options.rounds.min(5) {
        for (way, rounds) in [false, true].into_iter().zip(&mut measured) {
            for (server, rounds) in [ServerOptions::stock(), ServerOptions::instance(1)].into_iter().zip(rounds) {
                eprintln!("bench: failover");
                rounds.push(without_writes(options, server, way).as_secs_f64() * 1000.0);
            }
        }
    }
    let mut table = Table::new(&["ms without writes", "stock", "noise", "Syncer", "noise"]);
    for (name, [stock, syncer]) in ["FAILOVER", "primary killed, replica promoted at once"].into_iter().zip(&measured) {
        table.row(vec![
            name.to_owned(),
            figure(stock.median()),
            percent(stock.noise()),
            figure(syncer.median()),
            percent(syncer.noise()),
        ]);
    }
    println!(
        "\n## Failover\n\nA primary and its replica, one client that writes without a pause to whoever takes it.\n\n{table}"
    );
}

fn without_writes(options: &Options, server: ServerOptions, killed: bool) -> Duration {
    let mut primary = Server::start(options.kind, server.clone());
    let replica = primary.replica(server);
    let ports = [primary.port(), replica.port()];
    let (stop, done) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let writer = scope.spawn(|| longest_gap(ports, &stop, &done));
        let ends = Stop(&stop);
        thread::sleep(Duration::from_millis(500));
        if killed {
            primary.kill();
            replica.client().ok("REPLICAOF NO ONE");
        } else {
            primary.client().ok(&format!("FAILOVER TO 127.0.0.1 {}", replica.port()));
        }
        wait::eventually("the replica takes writes", || done.load(Ordering::Relaxed));
        drop(ends);
        writer.join().expect("the writer runs")
    })
}

/// `done` when the second server has taken a write.
fn longest_gap(ports: [u16; 2], stop: &AtomicBool, done: &AtomicBool) -> Duration {
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    let mut clients: [Option<Client>; 2] = ports.map(|port| Client::connect(port).ok());
    for n in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        for (at, client) in clients.iter_mut().enumerate() {
            let Some(open) = client else { continue };
            match open.try_cmd(&format!("SET key:{} {n}", n % 1000)) {
                Ok(answer) if !reply::is_error(&answer) => {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                    done.fetch_or(at == 1, Ordering::Relaxed);
                    break;
                }
                // It is a replica, or not yet a primary.
                Ok(_) => {}
                Err(_) => *client = Client::connect(ports[at]).ok(),
            }
        }
    }
    longest
}
