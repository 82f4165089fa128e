//! Clients that increment counters at both instances of a pair while servers are killed, moved and promoted, and what has to be left of that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::client::Client;
use crate::nodes::Pair;
use crate::server::Server;
use crate::{reply, wait};

/// Counters, which both instances increment: as many as a log names when it tells of keys.
const COUNTERS: usize = 10;

/// What each instance adds: so every counter says how often each of them has.
const STEPS: [u64; 2] = [1, 1 << 32];

/// A number of each counter.
type Counts = [u64; COUNTERS];

/// What the clients of one instance know of their increments.
#[derive(Debug, Default)]
struct Tally {
    /// Acknowledged, by the port of the server that did.
    acknowledged: BTreeMap<u16, Counts>,
    /// The connection broke before an answer came: made or not.
    unanswered: Counts,
    /// Acknowledged by a primary that crashed, and nowhere afterwards.
    crashed: Counts,
}

impl Tally {
    fn acknowledged(&self, counter: usize) -> u64 {
        self.acknowledged.values().map(|counts| counts[counter]).sum()
    }

    /// What servers had acknowledged that have dropped some of it; told by port.
    fn dropped(&self, counter: usize, told: &[(u16, BTreeSet<String>)]) -> u64 {
        let told = told.iter().filter(|(_, keys)| keys.contains(&name(counter)));
        told.filter_map(|(port, _)| Some(self.acknowledged.get(port)?[counter])).sum()
    }
}

/// Increments that go on.
#[derive(Debug)]
pub struct Rounds {
    tallies: [Mutex<Tally>; 2],
    /// What was there before.
    begun: [Counts; 2],
    /// How many were acknowledged at each instance.
    done: [AtomicU64; 2],
    /// Which counter is next.
    next: AtomicUsize,
    /// Somebody waits for the writer of instance 1 to stand still.
    awaited: AtomicBool,
    ended: AtomicBool,
}

/// Whoever panicked has left numbers that are as good as before.
fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name(counter: usize) -> String {
    format!("load:{counter}")
}

/// How often each instance has incremented each counter, as a server has it.
fn read(server: &Server) -> [Counts; 2] {
    let lines: Vec<String> = (0..COUNTERS).map(|counter| format!("GET {}", name(counter))).collect();
    // Who promotes it may close its clients' connections.
    let ask = || Client::connect(server.port()).ok()?.try_pipeline(&lines).ok();
    let answers = wait::until(wait::PATIENCE, "a server tells its counters", ask, || server.process().tail());
    let mut counts = [Counts::default(); 2];
    for (counter, answer) in answers.iter().map(reply::text).enumerate() {
        let value = if answer == "(nil)" { 0 } else { answer.parse::<u64>().expect("a counter is a number") };
        (counts[0][counter], counts[1][counter]) = (value % STEPS[1], value / STEPS[1]);
    }
    counts
}

impl Rounds {
    fn begin(pair: &Pair) -> Self {
        let begun = read(pair.two.primary());
        let (tallies, done) = (<[Mutex<Tally>; 2]>::default(), <[AtomicU64; 2]>::default());
        Self { tallies, begun, done, next: 0.into(), awaited: false.into(), ended: false.into() }
    }

    /// Increments at whichever server of an instance is its primary.
    fn write(&self, instance: usize, ports: &[u16]) {
        for attempt in 0.. {
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            let port = ports[attempt % ports.len()];
            let Ok(mut client) = Client::connect(port) else { continue };
            // Until the node is no primary any more.
            while !self.ended.load(Ordering::Relaxed) {
                if !self.increment(instance, port, &mut client) {
                    break;
                }
            }
        }
    }

    /// Whether it was acknowledged.
    fn increment(&self, instance: usize, port: u16, client: &mut Client) -> bool {
        while instance == 0 && self.awaited.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        let mut tally = lock(&self.tallies[instance]);
        let counter = self.next.fetch_add(1, Ordering::Relaxed) % COUNTERS;
        let answer = client.try_cmd(&format!("INCRBY {} {}", name(counter), STEPS[instance]));
        let is_done = answer.as_ref().is_ok_and(|answer| !reply::is_error(answer));
        if is_done {
            tally.acknowledged.entry(port).or_default()[counter] += 1;
            self.done[instance].fetch_add(1, Ordering::Relaxed);
        } else if answer.is_err() {
            tally.unanswered[counter] += 1;
        }
        is_done
    }

    /// Waits until so many more are acknowledged, a tenth of them or more at each instance: time passes by progress, not by the clock.
    pub fn advance(&self, by: u64) {
        self.advance_by([by / 10, by / 10], by);
    }

    /// Waits until so many more are acknowledged at instance 2.
    pub fn advance_at_two(&self, by: u64) {
        self.advance_by([0, by], by);
    }

    fn advance_by(&self, each: [u64; 2], all: u64) {
        let done = || [0, 1].map(|instance: usize| self.done[instance].load(Ordering::Relaxed));
        let before = done();
        wait::eventually("the writers go on", || {
            let now = done();
            let more = [0, 1].map(|instance: usize| now[instance] - before[instance]);
            more[0] >= each[0] && more[1] >= each[1] && more[0] + more[1] >= all
        });
    }

    /// No increment of instance 1 is under way while what this returns lives.
    pub fn still(&self) -> Still<'_> {
        self.awaited.store(true, Ordering::Relaxed);
        let tally = lock(&self.tallies[0]);
        self.awaited.store(false, Ordering::Relaxed);
        Still { tally, begun: &self.begun[0] }
    }
}

/// No increment of instance 1 is under way.
#[derive(Debug)]
pub struct Still<'a> {
    tally: MutexGuard<'a, Tally>,
    begun: &'a Counts,
}

impl Still<'_> {
    /// The primary of instance 1 has crashed, and these servers have all that is left: what *none* of them has of what was acknowledged so far
    /// may be lost, and nothing else.
    pub fn is_left_at(&mut self, servers: &[&Server]) {
        let left: Vec<Counts> = servers.iter().map(|server| read(server)[0]).collect();
        for counter in 0..COUNTERS {
            // Each has all up to some point.
            let most = left.iter().map(|left| left[counter].saturating_sub(self.begun[counter])).max();
            self.tally.crashed[counter] = self.tally.acknowledged(counter).saturating_sub(most.unwrap_or_default());
        }
    }
}

/// What became of the increments.
#[derive(Debug)]
pub struct Written(Rounds);

impl Written {
    /// All that was acknowledged is there, once; but for what was lost with a crash ([`Still::is_left_at`]).
    ///
    /// # Panics
    /// When something is lost, or counts twice.
    pub fn is_kept(&self, pair: &Pair) {
        self.is_kept_or_told(pair, &[]);
    }

    /// The same, but for what a server that had acknowledged it has dropped, and has told by its log: of which keys, and no more of each than it had acknowledged.
    ///
    /// # Panics
    /// When something else is lost, or anything counts twice.
    pub fn is_kept_or_told(&self, pair: &Pair, logs: &[(u16, String)]) {
        let now = read(pair.two.primary());
        let told: Vec<_> = logs.iter().map(|(port, log)| (*port, dropped(log))).collect();
        for (instance, tally) in self.0.tallies.iter().enumerate() {
            let tally = lock(tally);
            for (counter, (now, begun)) in now[instance].iter().zip(&self.0.begun[instance]).enumerate() {
                let kept = now - begun;
                let (acknowledged, key) = (tally.acknowledged(counter), name(counter));
                let excused = tally.crashed[counter] + tally.dropped(counter, &told);
                let most = acknowledged + tally.unanswered[counter];
                assert!(
                    (acknowledged.saturating_sub(excused)..=most).contains(&kept),
                    "instance {}, {key}: {kept} of {acknowledged} to {most}, of which {excused} may be lost; dropped: {told:?}; {tally:?}",
                    instance + 1
                );
            }
        }
    }
}

/// The keys of which a server that became a replica says that it dropped something.
fn dropped(log: &str) -> BTreeSet<String> {
    let said = log.lines().filter(|line| line.contains("syncer: rejected: "));
    let names = said.filter_map(|line| Some(line.split_once("they are dropped here: ")?.1.split(", ")));
    names.flatten().filter_map(|name| Some(name.strip_suffix(" (database 0)")?.to_owned())).collect()
}

/// Increments at the primary of instance 1, wherever it is, and at instance 2, while `act` runs. Both instances agree afterwards.
///
/// # Panics
/// When they do not come to agree.
pub fn under_load(pair: &mut Pair, act: impl FnOnce(&mut Pair, &Rounds)) -> Written {
    let rounds = Rounds::begin(pair);
    let ports = [&pair.one, &pair.two].map(|instance| instance.nodes.iter().map(Server::port).collect::<Vec<_>>());
    thread::scope(|scope| {
        for (instance, ports) in ports.iter().enumerate() {
            let rounds = &rounds;
            scope.spawn(move || rounds.write(instance, ports));
        }
        let _end = End(&rounds.ended);
        act(pair, &rounds);
    });
    pair.agree();
    Written(rounds)
}

/// Ends the load also when the test panics: the writers' threads would be waited for in vain.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
