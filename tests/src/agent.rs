//! A real agent process.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Resource;
use tempfile::TempDir;

use crate::artifact;
use crate::process::{Ended, Process};

/// How an agent is started: what it serves, whom it pulls from.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    local: String,
    peers: Vec<(u8, String)>,
    extra: Vec<String>,
}

impl AgentOptions {
    /// An agent beside the server on this loopback port, with no peers yet.
    pub fn beside(port: u16) -> Self {
        Self::at(format!("redis://127.0.0.1:{port}"))
    }

    /// An agent beside the server at this URL, with no peers yet.
    pub fn at(local: String) -> Self {
        Self { local, peers: Vec::new(), extra: Vec::new() }
    }

    /// An agent whose configuration is in a file that [`AgentOptions::arg`] names.
    pub fn from_file() -> Self {
        Self::at(String::new())
    }

    /// Pulls from this instance, reached on this loopback port.
    pub fn peer(self, instance: u8, port: u16) -> Self {
        self.peer_url(instance, format!("redis://127.0.0.1:{port}"))
    }

    /// Pulls from this instance at this URL.
    pub fn peer_url(mut self, instance: u8, url: String) -> Self {
        self.peers.push((instance, url));
        self
    }

    /// One more argument of `syncer-agent run`.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.extra.push(arg.into());
        self
    }

    /// The arguments of `syncer-agent run`.
    pub fn command_line(&self) -> Vec<String> {
        let mut args = vec!["run".to_owned()];
        if !self.local.is_empty() {
            args.extend(["--local".to_owned(), self.local.clone()]);
        }
        for (instance, url) in &self.peers {
            args.extend(["--peer".to_owned(), format!("{instance}={url}")]);
        }
        args.extend(self.extra.iter().cloned());
        args
    }
}

/// A running agent. Killed when dropped.
#[derive(Debug)]
pub struct Agent {
    options: AgentOptions,
    process: Process,
    // After the process: its log lies here and is shown upon a failure.
    folder: TempDir,
}

impl Agent {
    /// Starts an agent. Whether it comes to replicate is for the test to see.
    pub fn start(options: AgentOptions) -> Self {
        let folder = TempDir::with_prefix("syncer-agent-").expect("a temporary folder can be made");
        let process = launch(&options, folder.path());
        Self { options, folder, process }
    }

    /// Starts an agent whose files cannot become larger than so many bytes, as on a disk that is full: until [`Process::limit`] says otherwise.
    ///
    /// # Panics
    /// When limits cannot be set.
    pub fn start_with_small_files(options: AgentOptions, bytes: u64) -> Self {
        let folder = TempDir::with_prefix("syncer-agent-").expect("a temporary folder can be made");
        // Who ignores the signal gets an error instead.
        let process = through_shell(&options, folder.path(), "trap '' XFSZ; exec \"$@\"");
        process.limit(Resource::Fsize, Some(bytes));
        Self { options, folder, process }
    }

    /// Starts an agent whose log goes into a pipe that is full and never read: it hangs at its first line.
    pub fn start_with_log_that_nobody_reads(options: AgentOptions) -> Self {
        let folder = TempDir::with_prefix("syncer-agent-").expect("a temporary folder can be made");
        // Open for reading in the agent itself.
        let script =
            "mkfifo \"$0\"; exec 3<>\"$0\"; dd if=/dev/zero of=\"$0\" oflag=nonblock bs=4096; exec \"$@\" 2>&3";
        let process = through_shell(&options, folder.path(), script);
        Self { options, folder, process }
    }

    /// How it was started.
    pub fn options(&self) -> &AgentOptions {
        &self.options
    }

    /// Its process, to pause or to look at.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Where it keeps snapshots.
    pub fn spool_dir(&self) -> PathBuf {
        spool_dir(self.folder.path())
    }

    /// How it ended, or `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Ends it with SIGTERM.
    ///
    /// # Panics
    /// When it has not ended within `patience`.
    pub fn terminate(&mut self, patience: Duration) -> ExitStatus {
        self.process.terminate(patience)
    }

    /// See [`Process::terminate_timed`].
    ///
    /// # Panics
    /// When it has not ended within `patience`.
    pub fn terminate_timed(&mut self, patience: Duration) -> Ended {
        self.process.terminate_timed(patience)
    }

    /// Starts it again with the same options, after it ended or instead of the running one.
    pub fn restart(&mut self) {
        self.kill();
        self.process = launch(&self.options, self.folder.path());
    }
}

fn launch(options: &AgentOptions, folder: &Path) -> Process {
    let args: Vec<OsString> = arguments(options, folder).collect();
    Process::start(&name(options), &artifact::agent(), &args, &log(folder))
}

/// Lets a shell become the agent: `"$@"`. `$0` is a path at which nothing is yet.
fn through_shell(options: &AgentOptions, folder: &Path, script: &str) -> Process {
    let words = ["-c".into(), script.into(), folder.join("pipe").into_os_string(), artifact::agent().into()];
    let words: Vec<OsString> = words.into_iter().chain(arguments(options, folder)).collect();
    Process::start(&name(options), Path::new("/bin/sh"), &words, &log(folder))
}

fn name(options: &AgentOptions) -> String {
    format!("syncer-agent of {}", options.local.rsplit('@').next().unwrap_or_default())
}

fn arguments(options: &AgentOptions, folder: &Path) -> impl Iterator<Item = OsString> {
    let spool = ["--spool-dir".into(), spool_dir(folder).into_os_string()];
    options.command_line().into_iter().map(OsString::from).chain(spool)
}

fn log(folder: &Path) -> PathBuf {
    folder.join("agent.log")
}

fn spool_dir(folder: &Path) -> PathBuf {
    folder.join("spool")
}
