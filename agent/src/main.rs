//! `syncer-agent`: see the library's documentation and `docs/AGENT.md`.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use syncer_agent::check::{Level, check};
use syncer_agent::config::{Config, LocalFlags, Settings, SiteFlags};
use syncer_agent::membership::{self, JoinOptions};
use syncer_agent::status::Status;
use syncer_agent::stop::stopped;
use syncer_agent::verify::{VerifyOptions, verify};
use syncer_shared::instance::InstanceId;
use tracing_subscriber::EnvFilter;

/// Carries effects from every peer to the primary beside it.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How the log is written, on standard error.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// What is logged: error, warn, info, debug, or a filter as `tracing` has them.
    #[arg(long, global = true, env = "SYNCER_LOG", default_value = "info")]
    log: String,
}

#[derive(Subcommand)]
enum Command {
    /// Replicates until SIGTERM or SIGINT.
    Run(SiteFlags),
    /// Shows the local server's view: itself and its peers.
    Status {
        #[command(flatten)]
        local: LocalFlags,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Looks whether `run` with the same flags would work. Exit status 0 when nothing must be mended.
    Check(SiteFlags),
    /// Lets the local server join the group of its peers: with the same flags as `run`, which then brings the data.
    Join {
        #[command(flatten)]
        site: SiteFlags,
        /// What becomes of data that the local server has. Who was forgotten and has no wish here writes again what the group lacks of it.
        #[arg(long, value_enum, default_value_t = JoinData::Refuse)]
        data: JoinData,
        /// Who wins where both have something: what is written again, or what the group has.
        #[arg(long, value_enum, default_value_t = JoinWins::Mine)]
        wins: JoinWins,
        /// How long to wait for a peer that is not ready, in seconds.
        #[arg(long, default_value_t = 60)]
        wait_s: u64,
    },
    /// Takes a dead instance out of the group of the local server.
    Forget {
        #[command(flatten)]
        local: LocalFlags,
        /// Its instance id.
        #[arg(value_parser = clap::value_parser!(u8).range(1..=63))]
        instance: u8,
    },
    /// Looks whether all sites hold the same, while they go on. Exit status 0: equal, 1: keys differ, 2: not compared.
    Verify {
        #[command(flatten)]
        site: SiteFlags,
        /// Pause of a server after each half millisecond of comparing: 1 costs a third of its main thread, 10 a twentieth.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
        pause_ms: u32,
        /// How many differing keys are named.
        #[arg(long, default_value_t = 100)]
        max: usize,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum JoinData {
    Refuse,
    Replace,
    Merge,
}

#[derive(Clone, Copy, ValueEnum)]
enum JoinWins {
    Mine,
    Group,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("syncer-agent: {error}");
            ExitCode::from(2)
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<ExitCode> {
    start_log(&cli)?;
    // One thread: the work is small pieces for few connections, and threads would only pass them around.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(run(cli.command));
    // Not waiting for the resolver, which may hang for long.
    runtime.shutdown_background();
    result
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let environment = |name: &str| std::env::var(name).ok();
    match command {
        Command::Run(flags) => {
            let config = Config::load(&flags, &environment)?;
            syncer_agent::run::run(config, stopped()?).await;
            tracing::info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
        Command::Status { local, json } => {
            let local = Config::load_local(&local, &environment)?;
            let status = Status::ask(&local, Settings::default().connect_timeout).await?;
            if json {
                println!("{:#}", status.json())
            } else {
                print!("{}", status.table())
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Verify { site, pause_ms, max, json } => {
            let config = Config::load(&site, &environment)?;
            let outcome = verify(&config, VerifyOptions { pause_ms, differences_max: max.max(1) }).await?;
            if json {
                println!("{:#}", outcome.json())
            } else {
                println!("{outcome}")
            }
            Ok(ExitCode::from(u8::from(outcome.differs())))
        }
        Command::Join { site, data, wins, wait_s } => {
            let config = Config::load(&site, &environment)?;
            let data = match data {
                JoinData::Refuse => "REFUSE",
                JoinData::Replace => "REPLACE",
                JoinData::Merge => "MERGE",
            };
            let wins = match wins {
                JoinWins::Mine => "MINE",
                JoinWins::Group => "GROUP",
            };
            let options = JoinOptions { data, wins, patience: Duration::from_secs(wait_s) };
            let sponsor = membership::join(&config, options).await?;
            println!(
                "joining by instance {sponsor}; `syncer-agent run` brings the data, `syncer-agent status` shows it. It takes no writes until the others have reported to it: their agents need a --peer for this instance, too"
            );
            Ok(ExitCode::SUCCESS)
        }
        Command::Forget { local, instance } => {
            let local = Config::load_local(&local, &environment)?;
            let id = InstanceId::new(instance).ok_or_else(|| anyhow::anyhow!("no instance id: {instance}"))?;
            membership::forget(&local, id, Settings::default().connect_timeout).await?;
            println!("instance {instance} is forgotten");
            Ok(ExitCode::SUCCESS)
        }
        Command::Check(flags) => {
            let findings = check(&Config::load(&flags, &environment)?).await;
            findings.iter().for_each(|finding| println!("{finding}"));
            Ok(ExitCode::from(u8::from(findings.iter().any(|finding| finding.level == Level::Fail))))
        }
    }
}

fn start_log(cli: &Cli) -> anyhow::Result<()> {
    let builder = tracing_subscriber::fmt().with_env_filter(EnvFilter::try_new(&cli.log)?).with_writer(std::io::stderr);
    match cli.log_format {
        LogFormat::Text => builder.with_ansi(false).with_target(false).init(),
        LogFormat::Json => builder.json().with_target(false).init(),
    }
    Ok(())
}
