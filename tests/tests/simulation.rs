//! `./run sim` as people use it: a seed plays the same every time, and says what happens.

use std::collections::BTreeSet;
use std::process::Command;

/// Of each range of plans: the merge with streams, patches and lists, hot counters.
const SEEDS: [&str; 3] = ["7", "4294967299", "8589934596"];

/// Whether it held, and what it said.
fn sim(args: &[&str]) -> (bool, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_sim")).args(args).output().expect("it can be started");
    (done.status.success(), String::from_utf8_lossy(&done.stdout).into_owned())
}

#[test]
fn a_seed_replays_with_the_same_trace() {
    let traces: BTreeSet<String> = SEEDS
        .iter()
        .map(|seed| {
            let (held, trace) = sim(&["--seed", seed]);
            assert!(held, "{trace}");
            assert_eq!(sim(&["--seed", seed]), (true, trace.clone()), "seed {seed} plays something else again");
            for word in ["Plan {", " writes ", " applies ", " reports to ", "is up", " ms  "] {
                assert!(trace.contains(word), "no {word:?} in {trace}");
            }
            trace
        })
        .collect();
    assert_eq!(traces.len(), SEEDS.len());
}

#[test]
fn many_seeds_are_counted() {
    assert_eq!(sim(&["--from", "100", "--seeds", "5"]), (true, "5 seeds, 0 failed\n".to_owned()));
    assert!(!sim(&["--seeds", "many"]).0);
}
