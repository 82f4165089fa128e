//! Writers that go on at several sites while a test does something to them, and what must be there afterwards.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::cluster::Cluster;
use crate::wait;

/// Counters that all sites increment.
const COUNTERS: u64 = 20;

/// The load as the test sees it while it goes on.
#[derive(Debug, Default)]
pub struct Load {
    /// Rounds of writes that servers have acknowledged, at all sites together.
    rounds: AtomicU64,
    ended: AtomicBool,
}

impl Load {
    /// Waits until so many more rounds are acknowledged: time passes by progress, not by the clock.
    pub fn advance(&self, rounds: u64) {
        let target = self.rounds.load(Ordering::Relaxed) + rounds;
        wait::eventually("the writers go on", || self.rounds.load(Ordering::Relaxed) >= target);
    }
}

/// Ends the load also when the test panics: the writers' threads would be waited for in vain.
struct EndOnDrop<'a>(&'a Load);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

/// Keeps a writer going at every site while `act` runs, then waits until the sites agree, and checks that every
/// acknowledged write is there, once.
///
/// # Panics
/// When the sites differ, or a counter is not the sum of what was acknowledged.
pub fn under_load<T>(cluster: &mut Cluster, act: impl FnOnce(&mut Cluster, &Load) -> T) -> T {
    let load = Load::default();
    let ports: Vec<(u8, u16)> = cluster.sites().iter().map(|site| (site.instance, site.server.port())).collect();
    let result = thread::scope(|scope| {
        let load = &load;
        for (instance, port) in ports {
            scope.spawn(move || write(instance, port, load));
        }
        let _end = EndOnDrop(load);
        act(cluster, load)
    });
    cluster.converged();
    check(cluster, load.rounds.load(Ordering::Relaxed));
    result
}

/// One round: a transaction that counts, and elements that only this site adds and removes.
fn write(instance: u8, port: u16, load: &Load) {
    let mut client = crate::client::Client::connect(port).expect("the server of the site is there");
    for round in 0u64.. {
        if load.ended.load(Ordering::Relaxed) {
            return;
        }
        let counter = round % COUNTERS;
        let lines = [
            format!("MULTI\nINCR count:{counter}\nHINCRBY counts f{counter} 2\nZINCRBY board 3 m{counter}\nEXEC"),
            format!(
                "SADD set:{counter} {instance}-{round}\nSREM set:{counter} {instance}-{}",
                round.saturating_sub(COUNTERS)
            ),
            format!("SET latest:{counter} {instance}-{round}"),
        ];
        let lines: Vec<&str> = lines.iter().flat_map(|line| line.lines()).collect();
        let answers = client.pipeline(&lines);
        // Also within what EXEC answers.
        let failed = answers.iter().any(|answer| crate::reply::text(answer).contains("-SYNCER"));
        assert!(!failed && !answers.iter().any(crate::reply::is_error), "site {instance}: {answers:?}");
        load.rounds.fetch_add(1, Ordering::Relaxed);
    }
}

fn check(cluster: &Cluster, rounds: u64) {
    for site in cluster.sites() {
        let mut client = site.client();
        let sum = |client: &mut crate::client::Client, line: &dyn Fn(u64) -> String| -> u64 {
            (0..COUNTERS).map(|counter| client.text(&line(counter)).parse::<u64>().unwrap_or(0)).sum()
        };
        let strings = sum(&mut client, &|counter| format!("GET count:{counter}"));
        let fields = sum(&mut client, &|counter| format!("HGET counts f{counter}"));
        let scores = sum(&mut client, &|counter| format!("ZSCORE board m{counter}"));
        assert_eq!(
            (strings, fields, scores),
            (rounds, 2 * rounds, 3 * rounds),
            "site {} has lost or doubled increments",
            site.instance
        );
        let members: u64 =
            (0..COUNTERS).map(|counter| client.text(&format!("SCARD set:{counter}")).parse::<u64>().unwrap_or(0)).sum();
        let sites = u64::try_from(cluster.sites().len()).expect("a small number");
        assert!(members <= sites * COUNTERS, "site {}: {members} members, removed ones are back", site.instance);
    }
}
