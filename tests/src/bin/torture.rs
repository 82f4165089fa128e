//! `./run torture --minutes 60 [--seed N]` runs one seed after the other on real servers, from N or from a new one;
//! `./run torture --seed N` replays one.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use syncer_tests::torture::{self, Plan};

const USAGE: &str = "usage: torture [--minutes N] [--seed N]";

/// Clusters at a time.
const WORKERS: usize = 2;
/// They often have one cause.
const FAILURES_MAX: usize = 5;

#[derive(Default)]
struct Args {
    minutes: Option<u64>,
    seed: Option<u64>,
}

fn parse() -> Option<Args> {
    let mut args = Args::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next()?.parse().ok()?;
        match word.as_str() {
            "--minutes" => args.minutes = Some(value),
            "--seed" => args.seed = Some(value),
            _ => return None,
        }
    }
    (args.minutes.is_some() || args.seed.is_some()).then_some(args)
}

fn main() -> ExitCode {
    let Some(args) = parse() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    // New ones every time, unless one is given.
    let new = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() << 20;
    let from = args.seed.unwrap_or_else(new);
    let failed = match args.minutes {
        Some(minutes) => run_many(from, Instant::now() + Duration::from_secs(60 * minutes)),
        None => run(from).err().map(|why| (from, why)).into_iter().collect(),
    };
    for (seed, why) in &failed {
        println!("seed {seed} failed: {why}\n  replay it: ./run torture --seed {seed}");
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A panic is a failure of its seed, too.
fn run(seed: u64) -> Result<usize, String> {
    println!("seed {seed}: {}", Plan::from_seed(seed));
    std::panic::catch_unwind(|| torture::run(seed)).unwrap_or_else(|_| Err("it panicked, see above".into()))
}

fn run_many(from: u64, end: Instant) -> Vec<(u64, String)> {
    let (next, commands) = (AtomicU64::new(from), AtomicUsize::new(0));
    let failed = Mutex::new(Vec::new());
    let work = || {
        while Instant::now() < end && failed.lock().is_ok_and(|failed| failed.len() < FAILURES_MAX) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            match run(seed) {
                Ok(count) => drop(commands.fetch_add(count, Ordering::Relaxed)),
                Err(why) => failed.lock().expect("no worker panics").push((seed, why)),
            }
        }
    };
    std::thread::scope(|scope| (0..WORKERS).for_each(|_| drop(scope.spawn(work))));
    let seeds = next.load(Ordering::Relaxed) - from;
    let mut failed = failed.into_inner().expect("no worker panics");
    failed.sort();
    println!("{seeds} seeds, {} commands, {} failed", commands.load(Ordering::Relaxed), failed.len());
    failed
}
