//! One counter that everybody writes to, while nothing becomes stable: an increment costs the same whatever has been added before.

use std::time::Duration;

use syncer_tests::bench::cpu;
use syncer_tests::cluster::Cluster;
use syncer_tests::on_all_kinds;

/// Increments of each counter while the sites are cut, at either site.
const INCREMENTS: usize = 20_000;

/// How many times what the first quarter took the last one may: were each increment to walk those before it, 7.
const GROWTH_MAX: f64 = 3.0;

/// The counters, how to add to one, and what each increment adds in hundredths.
const COUNTERS: [(&str, &str, i64); 4] = [
    ("INCR n", "GET n", 100),
    ("INCRBYFLOAT x 0.01", "GET x", 1),
    ("HINCRBYFLOAT h f 0.25", "HGET h f", 25),
    ("ZINCRBY z 2 m", "ZSCORE z m", 200),
];

/// CPU time that the server of a site takes for `work`.
fn cost(cluster: &Cluster, site: u8, work: impl FnOnce()) -> Duration {
    let pid = cluster.site(site).server.process().pid();
    let before = cpu::used(pid);
    work();
    cpu::used(pid).saturating_sub(before)
}

/// Adds to a counter of a site so often.
fn add(cluster: &Cluster, site: u8, increment: &str, times: usize) {
    cluster.client(site).pipeline(&vec![increment; times]);
}

on_all_kinds! {
    fn an_increment_costs_the_same_however_many_are_live(cluster: 2) {
        cluster.cut(1, 2);
        for (increment, ..) in COUNTERS {
            let quarters: Vec<Duration> =
                (0..4).map(|_| cost(cluster, 1, || add(cluster, 1, increment, INCREMENTS / 4))).collect();
            let growth = quarters[3].as_secs_f64() / quarters[0].as_secs_f64();
            assert!(growth < GROWTH_MAX, "{increment}: {growth:.1} times as much in the end: {quarters:?}");
        }
    }

    /// Both sites add while cut, so what comes meets as many that it is concurrent to.
    fn what_comes_after_a_cut_costs_the_same_too(cluster: 2) {
        let mut shown = [0; 4];
        let mut round = |times: usize| {
            cluster.cut(1, 2);
            for (increment, ..) in COUNTERS {
                add(cluster, 1, increment, times);
                add(cluster, 2, increment, times);
            }
            let taken = cost(cluster, 2, || {
                cluster.heal();
                cluster.converged();
            });
            for ((increment, get, hundredths), sum) in COUNTERS.into_iter().zip(&mut shown) {
                *sum += 2 * hundredths * times as i64;
                let number: f64 = cluster.client(2).text(get).parse().unwrap_or_else(|e| panic!("{get}: {e}"));
                assert_eq!((number * 100.0).round() as i64, *sum, "{increment}");
            }
            taken
        };
        round(INCREMENTS / 8);
        let few = round(INCREMENTS / 8);
        let many = round(INCREMENTS);
        let growth = many.as_secs_f64() / 8.0 / few.as_secs_f64();
        assert!(growth < GROWTH_MAX, "{growth:.1} times as much for each of many: {few:?} for an eighth, {many:?}");
    }
}
