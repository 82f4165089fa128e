//! Joining and leaving: what the agent's commands do, and what a server says of it.

use std::process::Command;

use crate::agent::AgentOptions;
use crate::client::Client;
use crate::server::{Server, ServerKind, ServerOptions};
use crate::{artifact, reply, wait};

/// A field of SYNCER.STATUS, as text.
pub fn status(client: &mut Client, name: &str) -> String {
    let status = client.cmd("SYNCER.STATUS");
    let pair = reply::items(&status).chunks_exact(2).find(|pair| reply::text(&pair[0]) == name);
    pair.map(|pair| reply::text(&pair[1])).unwrap_or_default()
}

/// Keys with metadata, and groups of which none was made yet.
pub fn metadata(client: &mut Client) -> u64 {
    let counters = status(client, "counters");
    let figure = |name: &str| {
        let number = counters.split(&format!("{name}, ")).nth(1).and_then(|rest| rest.split(',').next());
        number.and_then(|number| number.parse().ok()).unwrap_or(u64::MAX)
    };
    u64::saturating_add(figure("metadata_keys"), figure("waiting_groups"))
}

/// Waits until a server's clients may write.
///
/// # Panics
/// When they may not in time.
pub fn takes_writes(client: &mut Client) {
    let mut why = String::new();
    let is_in = || {
        why = status(client, "writes");
        (why == "taken").then_some(())
    };
    let done = wait::within(wait::PATIENCE, is_in);
    assert!(
        done.is_some(),
        "it takes no writes: {why}\n{}\n{}",
        client.text("SYNCER.STATUS"),
        client.text("SYNCER.PEERS")
    );
}

/// A new site: its server, and the flags for its agent with these peers.
pub fn newcomer(kind: ServerKind, instance: u8, peers: &[(u8, u16)]) -> (Server, AgentOptions) {
    let server = Server::start(kind, ServerOptions::instance(instance));
    let local = AgentOptions::beside(server.port());
    let flags = peers.iter().fold(local, |flags, (peer, port)| flags.peer(*peer, *port));
    (server, flags)
}

/// Runs `syncer-agent join` with the flags of an agent; whether it went well, and what it says.
pub fn join(flags: &AgentOptions, further: &[&str]) -> (bool, String) {
    let mut words = flags.command_line();
    words[0] = "join".into();
    tell(&words.iter().map(String::as_str).chain(further.iter().copied()).collect::<Vec<_>>())
}

/// Runs `syncer-agent forget` beside a server; whether it went well, and what it says.
pub fn forget(port: u16, instance: u8) -> (bool, String) {
    tell(&["forget", "--local", &format!("redis://127.0.0.1:{port}"), &instance.to_string()])
}

/// Runs `syncer-agent` with these words; whether it went well, and what it says.
pub fn tell(words: &[&str]) -> (bool, String) {
    let output = Command::new(artifact::agent()).args(words).output().expect("the agent starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}
