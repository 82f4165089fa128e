//! A child process that cannot outlive its owner, with its output in a file.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, kill_process, prlimit, waitid};

use crate::wait;

/// Lines of a log that a failure shows.
const TAIL_LINES: usize = 40;

/// How servers and Rust programs begin to tell of a crash.
const CRASH_MARKS: [&str; 4] = ["BUG REPORT START", "crashed by signal", "ASSERTION FAILED", "panicked at"];

/// How a process ended upon a signal.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// From the signal on, less what it, and we, waited for a CPU.
    pub took: Duration,
    /// How long its first thread waited for a CPU meanwhile.
    pub starved: Duration,
}

/// A running child. Killed when dropped, and by the kernel when the *thread* that started it ends (so start it from
/// the thread that keeps it). After a panic its last lines of output are printed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with output appended to `log`. `name` is what failures call it.
    ///
    /// # Panics
    /// When it cannot be started at all.
    pub fn start<A: AsRef<OsStr>>(name: &str, program: &Path, args: &[A], log: &Path) -> Self {
        let output = File::options().create(true).append(true).open(log).expect("the log file can be written");
        let errors = output.try_clone().expect("a file handle can be doubled");
        // `setpriv` sets the parent-death signal and becomes the program: std alone would need an unsafe `pre_exec`.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: cannot start setpriv for {}: {error}", program.display()));
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, or `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked whether it runs")
    }

    /// Ends it at once, as a crash does (SIGKILL).
    pub fn kill(&mut self) {
        if self.ended().is_some() {
            return;
        }
        // An error says that it has ended in between.
        let _ = self.child.kill();
        if let Some(pid) = Pid::from_raw(self.pid() as i32) {
            // Until it is waited for, the number is nobody else's.
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            remove_faketime(self.pid());
        }
        let _ = self.child.wait();
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Panics
    /// When it has not ended within `patience`.
    pub fn terminate(&mut self, patience: Duration) -> ExitStatus {
        self.end_by(Signal::TERM, patience)
    }

    /// The same as Ctrl-C does (SIGINT).
    ///
    /// # Panics
    /// When it has not ended within `patience`.
    pub fn interrupt(&mut self, patience: Duration) -> ExitStatus {
        self.end_by(Signal::INT, patience)
    }

    /// [`Process::terminate`], with how long that took on a machine that has a CPU for it.
    ///
    /// # Panics
    /// When it has not ended within `patience`.
    pub fn terminate_timed(&mut self, patience: Duration) -> Ended {
        let (own, pid) = ("thread-self".to_owned(), self.pid().to_string());
        let starved = || [&own, &pid].map(|whose| waited_for_cpu(whose));
        let (before, begun) = (starved(), Instant::now());
        self.signal(Signal::TERM);
        let id = WaitId::Pid(Pid::from_raw(self.pid() as i32).expect("a process id is not 0"));
        // Looked at before it is gone for good, and its figures with it.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let what = format!("{} ends after SIGTERM", self.name);
        let has_ended = || waitid(id.clone(), look).expect("a child can be asked whether it runs");
        wait::until(patience, &what, has_ended, || tail(&self.log));
        let (took, after) = (begun.elapsed(), starved());
        let [own, starved] = [0, 1].map(|at| after[at].saturating_sub(before[at]));
        let status = self.ended().expect("it has ended");
        Ended { status, took: took.saturating_sub(own + starved), starved }
    }

    fn end_by(&mut self, signal: Signal, patience: Duration) -> ExitStatus {
        self.signal(signal);
        let what = format!("{} ends after {signal:?}", self.name);
        let log = self.log.clone();
        wait::until(patience, &what, || self.ended(), || tail(&log))
    }

    /// Stops it where it is, sockets open (SIGSTOP): a host that hangs.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// The processes that its first thread has started and that it has not heard the end of.
    pub fn children(&self) -> Vec<u32> {
        let path = format!("/proc/{0}/task/{0}/children", self.pid());
        let children = fs::read_to_string(path).unwrap_or_default();
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Kills the processes that it has forked, as the system does when memory runs out. Returns how many.
    pub fn kill_children(&self) -> usize {
        let pids = self.children().into_iter().filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        pids.filter(|pid| kill_process(*pid, Signal::KILL).is_ok()).count()
    }

    /// Sets how much it may have of something from now on; `None`: as much as it likes. Never beyond its hard limit.
    ///
    /// # Panics
    /// When the system does not let it.
    pub fn limit(&self, what: Resource, most: Option<u64>) {
        let pid = Pid::from_raw(self.child.id() as i32);
        let hard = rustix::process::getrlimit(what).maximum;
        prlimit(pid, what, Rlimit { current: most.or(hard), maximum: hard }).expect("limits can be set");
    }

    /// The system call that its first thread waits in, by number and arguments in hexadecimal; `running` if in none.
    pub fn system_call(&self) -> String {
        fs::read_to_string(format!("/proc/{}/syscall", self.pid())).unwrap_or_default()
    }

    /// Everything it has printed so far.
    pub fn output(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines it printed, under its name.
    pub fn tail(&self) -> String {
        format!("--- the last lines of {} (pid {})\n{}", self.name, self.pid(), tail(&self.log))
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process id is not 0");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{}: {signal:?}: {error}\n{}", self.name, self.tail()));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("{}", self.tail());
        }
    }
}

/// What `libfaketime` leaves in memory of a process that is killed.
fn remove_faketime(pid: u32) {
    for name in ["faketime_shm_", "sem.faketime_sem_"] {
        // Processes with the real clock have none.
        let _ = fs::remove_file(format!("/dev/shm/{name}{pid}"));
    }
}

/// How long the first thread of a process has been ready to run without running; also of one that has ended.
fn waited_for_cpu(process: &str) -> Duration {
    let text = fs::read_to_string(format!("/proc/{process}/schedstat")).unwrap_or_default();
    Duration::from_nanos(text.split(' ').nth(1).and_then(|nanoseconds| nanoseconds.parse().ok()).unwrap_or(0))
}

/// The end of a log, or what it says of a crash: that stands before pages of registers and settings.
fn tail(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let crash = lines.iter().position(|line| CRASH_MARKS.iter().any(|mark| line.contains(mark)));
    let from = crash.unwrap_or(lines.len().saturating_sub(TAIL_LINES));
    lines[from..].iter().take(TAIL_LINES).copied().collect::<Vec<_>>().join("\n")
}

/// A list of arguments of mixed kinds.
pub fn arguments<const N: usize>(args: [&dyn AsRef<OsStr>; N]) -> Vec<OsString> {
    args.iter().map(|arg| arg.as_ref().to_owned()).collect()
}
