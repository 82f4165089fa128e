//! How much memory a server takes at most while something goes on, the child that it forks for it included.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often is looked.
const EVERY: Duration = Duration::from_millis(50);

/// Looks in vain until there is no figure: it is short of a peak then, as it is between two looks.
const ATTEMPTS: usize = 10;

/// A watch over some processes, until [`Peaks::end`].
#[derive(Debug)]
pub struct Peaks {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<u32, u64>>,
    before: BTreeMap<u32, u64>,
}

impl Peaks {
    /// Watches from now on.
    pub fn watch(pids: Vec<u32>) -> Self {
        let before = pids.iter().map(|&pid| (pid, family_bytes(pid))).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut most: BTreeMap<u32, u64> = BTreeMap::new();
            while !stopped.load(Ordering::Relaxed) {
                for &pid in &pids {
                    let highest = most.entry(pid).or_default();
                    *highest = family_bytes(pid).max(*highest);
                }
                thread::sleep(EVERY);
            }
            most
        });
        Self { stop, thread, before }
    }

    /// For each process, the bytes it took in the beginning and at most.
    ///
    /// # Panics
    /// When the watch has failed.
    pub fn end(self) -> BTreeMap<u32, (u64, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        let most = self.thread.join().expect("looking at /proc does not fail");
        let before = |pid| self.before.get(pid).copied().unwrap_or_default();
        most.iter().map(|(pid, &most)| (*pid, (before(pid), most.max(before(pid))))).collect()
    }
}

/// What a process and its children take. Pages that they share count once (PSS). A child that comes or goes meanwhile would make them count twice: then
/// it is looked again.
fn family_bytes(pid: u32) -> u64 {
    let children = || {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children: Vec<u32> = text.split_whitespace().flat_map(str::parse::<u32>).collect();
        children
    };
    let look = || {
        let family: Vec<u32> = children().into_iter().chain([pid]).collect();
        let bytes = family.iter().map(|pid| bytes_of(*pid)).sum();
        // One that has ended is listed until its parent has heard of it, but has no pages.
        let is_there = || children().into_iter().chain([pid]).eq(family.iter().copied());
        (is_there() && family.iter().all(|pid| bytes_of(*pid) > 0)).then_some(bytes)
    };
    (0..ATTEMPTS).find_map(|_| look()).unwrap_or(0)
}

/// 0 when it has just ended.
fn bytes_of(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::Peaks;
    use crate::wait;

    #[test]
    fn a_peak_is_seen_after_it_is_over() {
        const BYTES: usize = 64 << 20;
        let pid = std::process::id();
        let peaks = Peaks::watch(vec![pid]);
        let much = vec![1_u8; BYTES];
        wait::eventually("it is there", || super::bytes_of(pid) > BYTES as u64);
        std::thread::sleep(4 * super::EVERY);
        assert_eq!(much.iter().map(|&byte| usize::from(byte)).sum::<usize>(), BYTES);
        drop(much);
        let (before, most) = peaks.end()[&pid];
        assert!(most >= before + (BYTES as u64) / 2, "{before} {most}");
    }
}
