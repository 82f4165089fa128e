//! `./run chaos`: real servers, random faults, and a history that must be explained. See `syncer_tests::chaos`.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use syncer_tests::chaos::fault::Fault;
use syncer_tests::chaos::{ChaosOptions, run};
use syncer_tests::server::ServerKind;

const USAGE: &str =
    "usage: chaos [--minutes N | --seconds N] [--seed N] [--round SECONDS] [--rate TRANSACTIONS-A-SECOND]
             [--faults a,b,... | --without a,b,...] [--backlog SIZE] [--kinds redis8,valkey9,valkey8] [--quiet]";

fn parse() -> Option<ChaosOptions> {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut options = ChaosOptions { seed, ..ChaosOptions::default() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--quiet" {
            options.is_loud = false;
            continue;
        }
        let value = words.next()?;
        let faults = || value.split(',').map(Fault::from_name).collect::<Option<Vec<_>>>();
        match word.as_str() {
            "--minutes" => options.duration = Duration::from_secs_f64(value.parse::<f64>().ok()? * 60.0),
            "--seconds" => options.duration = Duration::from_secs(value.parse().ok()?),
            "--seed" => options.seed = value.parse().ok()?,
            "--round" => options.round = Duration::from_secs(value.parse().ok()?),
            "--rate" => options.rate = value.parse().ok()?,
            "--faults" => options.faults = faults()?,
            "--without" => {
                let without = faults()?;
                options.faults.retain(|fault| !without.contains(fault));
            }
            "--backlog" => options.backlog = value,
            "--kinds" => options.kinds = value.split(',').map(ServerKind::from_name).collect::<Option<_>>()?,
            _ => return None,
        }
    }
    (!options.round.is_zero() && options.kinds.len() > 1).then_some(options)
}

fn main() -> ExitCode {
    let Some(options) = parse() else {
        let names: Vec<&str> = Fault::ALL.iter().map(|(name, _)| *name).collect();
        eprintln!("{USAGE}\nfaults: {}", names.join(", "));
        return ExitCode::from(2);
    };
    println!("chaos: seed {}", options.seed);
    match run(options) {
        Ok(tally) => {
            println!("chaos: nothing lost, nothing differs: {tally}");
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            println!("chaos: {wrong}");
            ExitCode::FAILURE
        }
    }
}
