//! `syncer-agent verify` as an operator runs it.

use std::process::Command;

use crate::artifact;
use crate::cluster::Cluster;

/// How it ended.
#[derive(Debug)]
pub struct Verified {
    /// Exit status.
    pub status: i32,
    /// What it printed.
    pub text: String,
}

/// Compares site 1 with the others, by the same addresses as its agent.
///
/// # Panics
/// When it cannot be started.
pub fn verify(cluster: &Cluster) -> Verified {
    run(cluster.site(1).agent.options().command_line().split_off(1))
}

/// Runs it with these flags.
///
/// # Panics
/// When it cannot be started.
pub fn run(flags: Vec<String>) -> Verified {
    let output = Command::new(artifact::agent()).arg("verify").args(flags).output().expect("the agent can be started");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Verified { status: output.status.code().unwrap_or(-1), text }
}
