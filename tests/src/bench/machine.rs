//! What the figures were measured on, and how much else went on there.

use std::fs;
use std::process::Command;

/// The CPU of the machine, idle or stolen by other guests, at one moment.
#[derive(Debug)]
pub struct Usage {
    total: u64,
    stolen: u64,
}

impl Usage {
    /// Now.
    pub fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let ticks: Vec<u64> =
            stat.lines().next().unwrap_or_default().split_whitespace().skip(1).flat_map(str::parse).collect();
        Self { total: ticks.iter().take(8).sum(), stolen: ticks.get(7).copied().unwrap_or(0) }
    }

    /// The share of CPU time that the hypervisor took since then.
    pub fn stolen_since(&self) -> f64 {
        let now = Self::now();
        (now.stolen - self.stolen) as f64 / (now.total - self.total).max(1) as f64
    }
}

/// Processor, cores, kernel.
pub fn description() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} (family {}), {cores} cores, Linux {}", field("model name"), field("cpu family"), kernel.trim())
}

/// Load averages of the last 1, 5 and 15 minutes.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// The commit that was measured, marked when the checkout differs from it.
pub fn commit() -> String {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// The time, UTC.
pub fn time() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
