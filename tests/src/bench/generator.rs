//! redis-benchmark as load generator: clients in a closed loop, as fast as they get answers.

use std::process::{Child, Command, Stdio};

use super::cpu;
use super::workload::KEYS;

/// One load.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// Of the server.
    pub port: u16,
    /// With `__rand_int__` where a random number goes.
    pub command: &'a [&'a str],
    /// Commands in flight per connection.
    pub pipeline: u64,
    /// Connections.
    pub clients: u64,
    /// Commands in all.
    pub requests: u64,
    /// Which cores the generator runs on.
    pub cores: &'a str,
}

impl<'a> Load<'a> {
    /// So many of these commands on 50 connections, from the core beside the server's.
    pub fn new(port: u16, command: &'a [&'a str], pipeline: u64, requests: u64) -> Self {
        Self { port, command, pipeline, clients: 50, requests, cores: cpu::OTHER_CORE }
    }

    /// Runs it and returns the commands per second.
    ///
    /// # Panics
    /// When redis-benchmark is missing or fails.
    pub fn run(&self) -> f64 {
        let output = self.start().wait_with_output().expect("a child can be waited for");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        per_second(&text).unwrap_or_else(|| panic!("redis-benchmark says no figure:\n{text}{errors}"))
    }

    /// Starts it, for the caller to wait for or kill.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&self) -> Child {
        let numbers = [
            ("-p", u64::from(self.port)),
            ("-c", self.clients),
            ("-n", self.requests),
            ("-r", KEYS),
            ("-P", self.pipeline),
        ];
        let mut command = Command::new("taskset");
        command.args(["-c", self.cores, "redis-benchmark", "--csv"]);
        for (name, value) in numbers {
            command.args([name, &value.to_string()]);
        }
        command.args(self.command).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("taskset and redis-benchmark can be started")
    }
}

/// The second column of the last line; the first, the command, stands in quotes.
fn per_second(csv: &str) -> Option<f64> {
    let line = csv.lines().rfind(|line| line.starts_with('"') && !line.contains("\"rps\""))?;
    let columns: Vec<&str> = line.split("\",\"").collect();
    columns.get(columns.len().checked_sub(7)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::per_second;

    #[test]
    fn the_figure_is_found() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\
                   \"p99_latency_ms\",\"max_latency_ms\"\n\
                   \"SET k \",\" v\",\"3574.62\",\"12.670\",\"0.160\",\"6.351\",\"18.671\",\"74.175\",\"2754.559\"\n";
        assert_eq!(per_second(csv), Some(3574.62));
        assert_eq!(per_second("Could not connect\n"), None);
    }
}
