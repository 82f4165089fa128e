//! Measures Syncer beside the stock server and prints Markdown: see `docs/BENCHMARKS.md`.

use std::env;
use std::panic;
use std::process::ExitCode;

use syncer_tests::bench::options::{HELP, INSTRUCTIONS, Options, READING};
use syncer_tests::bench::target::{self, Target};
use syncer_tests::bench::{
    catch_up, cpu, footprint, full_sync, hot, instructions, lag, machine, memory, neighbour, outage, reading,
    throughput,
};

fn main() -> ExitCode {
    if env::args().skip(1).any(|arg| arg == "--help") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match Options::parse(env::args().skip(1)) {
        Ok(options) => measure(&options),
        Err(complaint) => {
            eprintln!("{complaint}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

/// Every section on its own: one that fails says why and hides no other.
fn measure(options: &Options) -> ExitCode {
    cpu::prioritise();
    let usage = machine::Usage::now();
    println!(
        "Measured {}, {}, commit {}, {} rounds{}.",
        machine::time(),
        options.kind,
        machine::commit(),
        options.rounds,
        if options.quick { ", quick" } else { "" }
    );
    println!("\n{}. Load before: {}.", machine::description(), machine::load());
    let (mut targets, mut failed) = (Vec::new(), false);
    for section in &options.sections {
        match panic::catch_unwind(|| run(section, options)) {
            Ok(reached) => targets.extend(reached),
            Err(_) => {
                println!("\n## {section}: failed, see the messages\n");
                failed = true;
            }
        }
    }
    if !targets.is_empty() {
        println!("\n## Targets\n\n{}", target::table(&targets));
    }
    println!("The hypervisor took {:.1} % of the CPU. Load after: {}.", usage.stolen_since() * 100.0, machine::load());
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn run(section: &str, options: &Options) -> Vec<Target> {
    match section {
        "throughput" => throughput::run(options),
        "hot" => hot::run(options),
        "lag" => lag::run(options),
        "catch-up" => catch_up::run(options),
        "memory" => memory::run(options),
        "full-sync" => full_sync::run(options),
        "footprint" => footprint::run(options),
        "outage" => outage::run(options),
        "neighbour" => neighbour::run(options),
        INSTRUCTIONS => instructions::run(options),
        READING => reading::run(options),
        unknown => unreachable!("{unknown} is not in SECTIONS"),
    }
}
