//! The command line of the benchmark.

use std::path::PathBuf;

use super::workload::{WORKLOADS, Workload};
use crate::server::ServerKind;

/// What `--help` prints.
pub const HELP: &str = "\
usage: ./run bench [--quick] [--only SECTION[,SECTION...]] [--server NAME] [--rounds N]
       ./run bench --instructions [--commands NAME[,NAME...]] [--keep FOLDER] [--server NAME]
       ./run bench --reading [--server NAME]

  --instructions  instructions per operation (valgrind): holds on a busy machine, too; nothing else is run
  --reading       the same of SYNCER.READ and SYNCER.DIGEST, beside stock commands
  --commands LIST of GET, SET, INCR, HSET, SADD, SREM, ZADD, XADD, LPUSH, RPOP, PFADD, SETBIT,
                       HSET10, MULTI10, LUA10: only those, for instructions and throughput
  --keep FOLDER   callgrind's files go there, for callgrind_annotate
  --quick         short rounds: to see that everything runs, not to believe the figures
  --only LIST     of throughput, hot, lag, catch-up, memory, neighbour, full-sync,
                  footprint, outage
  --server NAME   redis8, valkey9 or valkey8 (redis8)
  --rounds N      rounds of each figure (5; 2 when quick)";

/// The parts of a run, in their order.
pub const SECTIONS: [&str; 9] =
    ["throughput", "hot", "lag", "catch-up", "memory", "neighbour", "full-sync", "footprint", "outage"];

/// Not part of a run: other programs on the machine don't disturb it, but valgrind must be there.
pub const INSTRUCTIONS: &str = "instructions";

/// Nor is this.
pub const READING: &str = "reading";

/// What to measure, and how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Short rounds.
    pub quick: bool,
    /// Sections to run.
    pub sections: Vec<&'static str>,
    /// The server of all contestants.
    pub kind: ServerKind,
    /// Rounds of each figure.
    pub rounds: usize,
    /// Commands to measure throughput with, and to count instructions of.
    pub commands: Vec<Workload>,
    /// Where callgrind's files go.
    pub keep: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments.
    ///
    /// # Errors
    /// A complaint for the user.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut quick, mut rounds) = (false, None);
        let (mut sections, mut kind) = (SECTIONS.to_vec(), ServerKind::Redis8);
        let (mut commands, mut keep) = (WORKLOADS.to_vec(), None);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} wants a value"));
            match arg.as_str() {
                "--quick" => quick = true,
                "--instructions" => sections = vec![INSTRUCTIONS],
                "--reading" => sections = vec![READING],
                "--commands" => commands = value()?.split(',').map(command).collect::<Result<_, _>>()?,
                "--keep" => keep = Some(PathBuf::from(value()?)),
                "--only" => sections = value()?.split(',').map(section).collect::<Result<_, _>>()?,
                "--server" => kind = server(&value()?)?,
                "--rounds" => rounds = Some(value()?.parse().map_err(|_| "--rounds wants a number".to_owned())?),
                _ => return Err(format!("{arg} is no option")),
            }
        }
        let rounds = rounds.unwrap_or(if quick { 2 } else { 5 });
        if rounds == 0 {
            return Err("--rounds wants at least 1".to_owned());
        }
        Ok(Self { quick, sections, kind, rounds, commands, keep })
    }

    /// `full`, or a tenth of it in a quick run.
    pub fn scaled(&self, full: u64) -> u64 {
        if self.quick { full / 10 } else { full }
    }
}

fn section(name: &str) -> Result<&'static str, String> {
    let known = SECTIONS.into_iter().find(|section| *section == name);
    known.ok_or_else(|| format!("{name} is no section; there are {}", SECTIONS.join(", ")))
}

fn server(name: &str) -> Result<ServerKind, String> {
    ServerKind::from_name(name).ok_or_else(|| format!("{name} is no server"))
}

fn command(name: &str) -> Result<Workload, String> {
    let known = WORKLOADS.into_iter().find(|workload| workload.name.eq_ignore_ascii_case(name));
    known.ok_or_else(|| format!("{name} is no command that is measured"))
}
