//! CPU time of processes, and which core they run on.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The core of every server that clients write to.
pub const ORIGIN_CORE: &str = "0";

/// The core of load generators, targets, replicas and agents.
pub const OTHER_CORE: &str = "1";

/// Both: where the system puts what nobody has pinned.
pub const ANY_CORE: &str = "0,1";

/// Above other programs of a shared machine, so that rounds differ less; needs root, else it is left out.
const NICE: &str = "-10";

/// CPU time, user and system, of all threads of a process so far. From the scheduler, in nanoseconds:
/// `/proc/<pid>/stat` counts in 10 ms. Threads that have ended are not in it; those of servers and agents stay.
pub fn used(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    let of_task = |task: &Path| -> u64 {
        let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok()).unwrap_or(0)
    };
    Duration::from_nanos(tasks.flatten().map(|task| of_task(&task.path())).sum())
}

/// The same with the children that have ended; of these, in steps of 10 ms.
pub fn used_by_family(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // Behind the name, which may have blanks: state is the first, cutime and cstime are the fourteenth and the fifteenth.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(13).take(2).flat_map(str::parse::<u64>).sum();
    used(pid) + Duration::from_millis(ticks * 10)
}

/// Puts all threads of a process on these cores.
pub fn pin(pid: u32, cores: &str) {
    run("taskset", &["-a", "-c", "-p", cores, &pid.to_string()]);
}

/// Puts the thread that calls it on these cores.
pub fn pin_thread(cores: &str) {
    let own = fs::read_link("/proc/thread-self").expect("/proc is there");
    let id = own.file_name().and_then(|id| id.to_str()).expect("threads have numbers");
    run("taskset", &["-c", "-p", cores, id]);
}

/// Sets this process, and the threads and programs it starts from now on, above others.
pub fn prioritise() {
    run("renice", &["-n", NICE, "-p", &std::process::id().to_string()]);
}

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.unwrap_or_else(|error| panic!("{program} of util-linux: {error}"));
}

#[cfg(test)]
mod tests {
    use super::used;

    #[test]
    fn work_shows_as_cpu_time() {
        let pid = std::process::id();
        let before = used(pid);
        crate::wait::eventually("own work shows", || used(pid) > before);
    }
}
