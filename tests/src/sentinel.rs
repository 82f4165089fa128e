//! A real Sentinel: the pinned servers can be one.

use std::fs;

use tempfile::TempDir;

use crate::client::Client;
use crate::process::{Process, arguments};
use crate::server::{Server, ServerKind};
use crate::{artifact, port, wait};

/// What it calls the primary.
pub const NAME: &str = "mymaster";

/// One Sentinel that watches one primary. Killed when dropped.
#[derive(Debug)]
pub struct Sentinel {
    port: u16,
    process: Process,
    // After the process: its log lies here and is shown upon a failure.
    _folder: TempDir,
}

/// Ports that others took between the look and the bind, before a start gives up.
const PORT_ATTEMPTS: usize = 5;

impl Sentinel {
    /// Watches this primary; fails over when it has been silent for two seconds: a machine that is busy must not look like one.
    ///
    /// # Panics
    /// When it does not start, with what it printed.
    pub fn start(kind: ServerKind, primary: &Server) -> Self {
        Self::start_of(kind, primary, 1)
    }

    /// Three that watch this primary, of which two have to agree; they know of each other.
    ///
    /// # Panics
    /// When one does not start, or they do not find each other.
    pub fn start_three(kind: ServerKind, primary: &Server) -> [Self; 3] {
        let three = [(); 3].map(|()| Self::start_of(kind, primary, 2));
        for sentinel in &three {
            wait::eventually("the Sentinel knows the others", || {
                sentinel.client().text(&format!("SENTINEL CKQUORUM {NAME}")).starts_with("OK 3 usable Sentinels")
            });
        }
        three
    }

    fn start_of(kind: ServerKind, primary: &Server, quorum: usize) -> Self {
        let mut said = String::new();
        for _ in 0..PORT_ATTEMPTS {
            match Self::try_start(kind, primary.port(), quorum) {
                Ok(sentinel) => return sentinel,
                Err(output) => said = output,
            }
        }
        panic!("the Sentinel does not start:\n{said}");
    }

    fn try_start(kind: ServerKind, primary: u16, quorum: usize) -> Result<Self, String> {
        let folder = TempDir::with_prefix("syncer-sentinel-").expect("a temporary folder can be made");
        let port = port::free();
        let config = folder.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {NAME} 127.0.0.1 {primary} {quorum}\n\
             sentinel down-after-milliseconds {NAME} 2000\nsentinel failover-timeout {NAME} 3000\n",
            folder.path().display()
        );
        fs::write(&config, text).expect("the folder is ours");
        let log = folder.path().join("sentinel.log");
        let args = arguments([&config, &"--sentinel"]);
        let mut process = Process::start(&format!("Sentinel on port {port}"), &artifact::server(kind), &args, &log);
        let answers = || match process.ended() {
            Some(_) => Some(Err(process.output())),
            None => Client::connect(port).ok()?.try_cmd("PING").ok().map(|_| Ok(())),
        };
        wait::until(wait::PATIENCE, "the Sentinel answers PING", answers, String::new)?;
        Ok(Self { port, process, _folder: folder })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process, to pause or to look at.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Ends it, as a crash does.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// A connection to it.
    ///
    /// # Panics
    /// When it refuses one.
    pub fn client(&self) -> Client {
        Client::connect(self.port).unwrap_or_else(|error| panic!("{error}\n{}", self.process.tail()))
    }

    /// The port of the primary as it knows it.
    pub fn primary(&self) -> u16 {
        let address = self.client().text_items(&format!("SENTINEL GET-MASTER-ADDR-BY-NAME {NAME}"));
        address.get(1).and_then(|port| port.parse().ok()).expect("a Sentinel knows the primary's port")
    }

    /// Waits until it knows so many replicas that can be promoted.
    ///
    /// # Panics
    /// When it does not come to know them.
    pub fn knows_replicas(&self, count: usize) {
        wait::eventually("the Sentinel knows the replicas", || {
            let replicas = self.client().text(&format!("SENTINEL REPLICAS {NAME}"));
            replicas.matches("master-link-status, ok").count() >= count
        });
    }

    /// Makes it promote a replica, and waits until it has.
    ///
    /// # Panics
    /// When it refuses, or does not come to do it.
    pub fn fail_over(&self) {
        let before = self.primary();
        // It takes a moment to see that a replica is fit again.
        wait::eventually("the Sentinel agrees", || self.client().text(&format!("SENTINEL FAILOVER {NAME}")) == "OK");
        wait::eventually("the Sentinel names another primary", || self.primary() != before);
    }
}
