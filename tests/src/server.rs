//! A real server: one of the three pinned kinds, with the module or without.

use std::ffi::OsString;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::{fmt, fs};

use tempfile::TempDir;

use crate::client::Client;
use crate::process::Process;
use crate::{artifact, port, reply, wait};

/// The servers that everything is tested on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerKind {
    /// redis-server 8.2.3
    Redis8,
    /// valkey-server 9.1.2
    Valkey9,
    /// valkey-server 8.1.8
    Valkey8,
}

impl ServerKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Redis8, Self::Valkey9, Self::Valkey8];

    /// `sites` servers of alternating kinds.
    pub fn mixed(sites: usize) -> Vec<Self> {
        Self::ALL.into_iter().cycle().take(sites).collect()
    }

    /// The kind by the name that `--server` and the cache folder use.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.folder() == name)
    }

    /// The short name, also that of its folder under `.cache/servers`.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Redis8 => "redis8",
            Self::Valkey9 => "valkey9",
            Self::Valkey8 => "valkey8",
        }
    }

    /// The file name of the server's binary.
    pub fn binary(self) -> &'static str {
        match self {
            Self::Redis8 => "redis-server",
            Self::Valkey9 | Self::Valkey8 => "valkey-server",
        }
    }

    /// The version that `--version` must tell.
    pub fn version(self) -> &'static str {
        match self {
            Self::Redis8 => "8.2.3",
            Self::Valkey9 => "9.1.2",
            Self::Valkey8 => "8.1.8",
        }
    }
}

impl fmt::Display for ServerKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if *self == Self::Redis8 { "Redis" } else { "Valkey" };
        write!(out, "{name} {}", self.version())
    }
}

/// How a server is started.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    module: Option<Vec<String>>,
    config: Vec<String>,
    under: Vec<OsString>,
    user: Option<u32>,
}

/// Nobody's, on the machines that tests run on.
const UNPRIVILEGED: u32 = 61_234;

impl ServerOptions {
    /// The stock server.
    pub fn stock() -> Self {
        Self::default()
    }

    /// With the module loaded as this instance.
    pub fn instance(instance: u8) -> Self {
        Self { module: Some(vec!["instance-id".to_owned(), instance.to_string()]), ..Self::default() }
    }

    /// With the module and exactly these arguments, valid or not.
    pub fn module(args: &[&str]) -> Self {
        Self { module: Some(args.iter().map(|&arg| arg.to_owned()).collect()), ..Self::default() }
    }

    /// One more module argument, for example `backlog-size 1mb`.
    pub fn module_arg(mut self, name: &str, value: &str) -> Self {
        self.module.get_or_insert_default().extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// One more server option, for example `appendonly yes`.
    pub fn config(mut self, name: &str, value: &str) -> Self {
        self.config.extend([format!("--{name}"), value.to_owned()]);
        self
    }

    /// Without this command, as operators take it away (`rename-command NAME ""`).
    pub fn without_command(mut self, name: &str) -> Self {
        self.config.extend(["--rename-command", name, ""].map(str::to_owned));
        self
    }

    /// With another module than Syncer, too: that of `tests/other_module`.
    pub fn other_module(self) -> Self {
        let path = artifact::other_module();
        self.config("loadmodule", &path.to_string_lossy())
    }

    /// With the module of `tests/listener`: called as Syncer is, it does nothing.
    pub fn listener(self) -> Self {
        let path = artifact::listener();
        self.config("loadmodule", &path.to_string_lossy())
    }

    /// Run as a user that the system's limits bind: root is above them.
    pub fn unprivileged(mut self) -> Self {
        self.user = rustix::process::geteuid().is_root().then_some(UNPRIVILEGED);
        self
    }

    /// With a wall clock that is so many seconds off, and a monotonic one that is not.
    pub fn clock_off(self, seconds: i32) -> Self {
        let preload = format!("LD_PRELOAD={}", artifact::faketime().display());
        let off = format!("FAKETIME={seconds:+}s");
        let words = ["/usr/bin/env", &preload, &off, "FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_DISABLE_SHM=1"];
        self.under(words.map(OsString::from).to_vec())
    }

    /// Run by another program: its absolute path and arguments, to which the server and its own are added.
    pub fn under(mut self, program: Vec<OsString>) -> Self {
        self.under = program;
        self
    }
}

/// How a server becomes another user, and still ends with the thread that started it: what a change of user undoes.
fn as_user(user: u32) -> Vec<OsString> {
    let id = user.to_string();
    let words = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--pdeathsig", "KILL", "--"];
    words.iter().map(OsString::from).collect()
}

/// A file where the server's user can read it: in the server's own folder.
fn copied(path: PathBuf, folder: &Path, user: Option<u32>) -> OsString {
    if user.is_none() {
        return path.into();
    }
    let copy = folder.join(path.file_name().unwrap_or_default());
    fs::copy(&path, &copy).expect("it can be copied");
    copy.into()
}

/// A running server on a loopback port with a folder of its own. Killed and its folder removed when dropped.
#[derive(Debug)]
pub struct Server {
    kind: ServerKind,
    options: ServerOptions,
    port: u16,
    process: Process,
    // After the process: its log lies here and is shown upon a failure.
    folder: TempDir,
}

/// Ports that others took between the look and the bind, before a start gives up.
const PORT_ATTEMPTS: usize = 5;

impl Server {
    /// Starts a server and waits until it answers PING.
    ///
    /// # Panics
    /// When it ends instead, with what it printed.
    pub fn start(kind: ServerKind, options: ServerOptions) -> Self {
        Self::try_start(kind, options).unwrap_or_else(|log| panic!("{kind} did not start:\n{log}"))
    }

    /// Starts a server; `Err` with everything it printed when it ends instead of answering.
    pub fn try_start(kind: ServerKind, options: ServerOptions) -> Result<Self, String> {
        let mut log = String::new();
        for _ in 0..PORT_ATTEMPTS {
            match Self::start_on(port::free(), kind, options.clone()) {
                Ok(server) => return Ok(server),
                Err(output) => log = output,
            }
            if !log.contains("in use") {
                break;
            }
        }
        Err(log)
    }

    /// Starts a server on a port of the caller's choice; `Err` with everything it printed when it ends instead.
    pub fn start_on(port: u16, kind: ServerKind, options: ServerOptions) -> Result<Self, String> {
        let folder = TempDir::with_prefix("syncer-server-").expect("a temporary folder can be made");
        let process = launch(kind, &options, port, folder.path());
        let mut server = Self { kind, options, port, folder, process };
        server.ready()?;
        Ok(server)
    }

    /// Starts a replica of this server, of the same kind and with these options, and waits until it follows.
    ///
    /// # Panics
    /// When it does not come to follow.
    pub fn replica(&self, options: ServerOptions) -> Self {
        let primary = format!("127.0.0.1 {}", self.port);
        let replica = Self::start(self.kind, options.config("replicaof", &primary));
        replica.follows();
        replica
    }

    /// Waits until this replica has its primary's data and its link is up.
    ///
    /// # Panics
    /// When it does not come to that.
    pub fn follows(&self) {
        let up = || self.client().text("INFO replication").contains("master_link_status:up");
        wait::until(wait::PATIENCE, "the replica follows", || up().then_some(()), || self.process.tail());
    }

    /// Its kind.
    pub fn kind(&self) -> ServerKind {
        self.kind
    }

    /// The port it listens on; kept over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process, to pause, kill or look at.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Its folder: RDB, AOF and log.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A new connection.
    ///
    /// # Panics
    /// When it refuses one.
    pub fn client(&self) -> Client {
        Client::connect(self.port)
            .unwrap_or_else(|error| panic!("{} on port {}: {error}\n{}", self.kind, self.port, self.process.tail()))
    }

    /// Lets its user have so many processes and threads from now on: for a server that is [`ServerOptions::unprivileged`].
    ///
    /// # Panics
    /// When the system does not let it.
    pub fn limit_processes(&self, most: u32) {
        let mut words = self.options.user.map(as_user).unwrap_or_default();
        words.extend(["prlimit".into(), "--pid".into(), self.process.pid().to_string().into()]);
        words.push(format!("--nproc={most}:").into());
        let done = Command::new(&words[0]).args(&words[1..]).status().expect("util-linux has it");
        assert!(done.success(), "prlimit: {done}");
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Ends it as a service manager does (SIGTERM): it makes durable what it has, and ends.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn terminate(&mut self) -> ExitStatus {
        self.process.terminate(wait::PATIENCE)
    }

    /// Ends it as an operator does (`SHUTDOWN`).
    ///
    /// # Panics
    /// When it refuses, or does not end in time.
    pub fn shut_down(&mut self) -> ExitStatus {
        // It says nothing, and closes the connection, unless it refuses.
        if let Ok(answer) = self.client().try_cmd("SHUTDOWN") {
            panic!("SHUTDOWN: {}", reply::text(&answer));
        }
        let log = self.folder.path().to_owned();
        let said = || fs::read_to_string(log_of(&log)).unwrap_or_default();
        wait::until(wait::PATIENCE, "it ends after SHUTDOWN", || self.process.ended(), said)
    }

    /// Starts it again, after [`Server::kill`] or instead of the running one, on the same port and folder.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&mut self) {
        let kind = self.kind;
        self.try_restart().unwrap_or_else(|log| panic!("{kind} did not start again:\n{log}"));
    }

    /// The same; `Err` with everything it printed in its life when it ends instead of answering.
    pub fn try_restart(&mut self) -> Result<(), String> {
        self.kill();
        self.process = launch(self.kind, &self.options, self.port, self.folder.path());
        self.ready()
    }

    /// [`Server::try_restart`] with other options.
    pub fn try_restart_with(&mut self, options: ServerOptions) -> Result<(), String> {
        self.options = options;
        self.try_restart()
    }

    /// Starts it again with other options, on the same port and folder.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart_with(&mut self, options: ServerOptions) {
        self.options = options;
        self.restart();
    }

    /// Waits until the server answers, and is ours: another program may have taken the port first.
    fn ready(&mut self) -> Result<(), String> {
        let (port, process) = (self.port, &mut self.process);
        let ours = format!("process_id:{}\\x0d", process.pid());
        let answers = || {
            let mut client = Client::connect(port).ok()?;
            let pong = client.try_cmd("PING").ok()?;
            let info = client.try_cmd("INFO server").ok()?;
            (reply::text(&pong) == "PONG" && reply::text(&info).contains(&ours)).then_some(Ok(()))
        };
        let up_or_ended = || process.ended().map(|_| Err(process.output())).or_else(answers);
        wait::until(wait::PATIENCE, "the server answers PING", up_or_ended, String::new)
    }
}

fn launch(kind: ServerKind, options: &ServerOptions, port: u16, folder: &Path) -> Process {
    let mut args: Vec<OsString> = Vec::new();
    if let Some(module) = &options.module {
        // An absolute path: `--dir` changes the folder before modules are loaded.
        args.extend(["--loadmodule".into(), copied(artifact::module(), folder, options.user)]);
        args.extend(module.iter().map(OsString::from));
    }
    let port_text = port.to_string();
    for (name, value) in [
        ("--port", port_text.as_str()),
        ("--bind", "127.0.0.1"),
        ("--save", ""),
        ("--enable-debug-command", "yes"),
        ("--enable-module-command", "yes"),
        ("--repl-diskless-sync-delay", "0"),
    ] {
        args.extend([name.into(), value.into()]);
    }
    args.extend(["--dir".into(), folder.into()]);
    args.extend(options.config.iter().map(OsString::from));
    let name = format!("{kind} on port {port}");
    let binary = copied(artifact::server(kind), folder, options.user);
    if let Some(user) = options.user {
        chown(folder, Some(user), Some(user)).expect("root may give files away");
    }
    let becomes = options.user.map(as_user).unwrap_or_default();
    let whole: Vec<OsString> = options.under.iter().cloned().chain(becomes).chain([binary]).chain(args).collect();
    Process::start(&name, Path::new(&whole[0]), &whole[1..], &log_of(folder))
}

fn log_of(folder: &Path) -> PathBuf {
    folder.join("server.log")
}
