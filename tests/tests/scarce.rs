//! A full sync where the system has nothing left: no process for the source, no disk for the agent. It is said, waited for, and nothing is lost.

use rustix::process::Resource;
use syncer_tests::agent::{Agent, AgentOptions};
use syncer_tests::client::Client;
use syncer_tests::nodes::number;
use syncer_tests::server::{Server, ServerKind, ServerOptions};
use syncer_tests::{on_each_kind, wait};

const KEYS: usize = 3_000;

fn start(kind: ServerKind, change: impl Fn(ServerOptions) -> ServerOptions) -> [Server; 2] {
    [1, 2].map(|id| Server::start(kind, change(ServerOptions::instance(id).module_arg("backlog-size", "1mb"))))
}

/// Two sites that know each other, of which the second has to take from the first more than a backlog of 1 MB holds.
fn apart(kind: ServerKind, change: impl Fn(ServerOptions) -> ServerOptions) -> [Server; 2] {
    let servers = start(kind, change);
    let [one, two] = &servers;
    let agents = [(one, 2, two), (two, 1, one)]
        .map(|(local, id, peer)| Agent::start(AgentOptions::beside(local.port()).peer(id, peer.port())));
    one.client().ok("SET own v");
    wait::eventually("both have it", || two.client().text("GET own") == "v");
    drop(agents);
    fill(one);
    servers
}

fn fill(one: &Server) {
    let value = "x".repeat(1_000);
    let lines: Vec<String> = (0..KEYS).map(|key| format!("SET key:{key} {value}")).collect();
    lines.chunks(500).for_each(|lines| drop(one.client().pipeline(lines)));
}

/// What was there and what was written meanwhile is at both.
fn are_equal([one, two]: &[Server; 2], agent: &Agent) {
    let is_done = || (number(two, "sync_full_in") == 1).then_some(());
    wait::until(wait::PATIENCE, "the full sync is done", is_done, || agent.log());
    let _back = Agent::start(AgentOptions::beside(one.port()).peer(2, two.port()));
    let (mut one, mut two) = (one.client(), two.client());
    for client in [&mut one, &mut two] {
        wait::eventually("it has all", || client.text("DBSIZE") == (KEYS + 3).to_string());
        assert_eq!(client.text("MGET own meanwhile:1 meanwhile:2"), "[v, 1, 2]");
    }
    wait::eventually("they are equal", || one.text("SYNCER.DIGEST") == two.text("SYNCER.DIGEST"));
}

/// The cause is told while the source may not fork.
fn is_told_that_it_may_not_fork(target: &Server) {
    let mut client = target.client();
    wait::eventually("the cause is told", || {
        client.text("SYNCER.PEERS").contains("lets the server have no child process")
    });
    let peers = client.text("SYNCER.PEERS");
    assert!(peers.contains("Resource temporarily unavailable"), "{peers}");
    assert_eq!(number(target, "sync_full_in"), 0);
}

fn write_meanwhile(servers: &[Server; 2]) {
    for (server, n) in servers.iter().zip(1..) {
        let mut client: Client = server.client();
        client.ok(&format!("SET meanwhile:{n} {n}"));
    }
}

on_each_kind! {
    /// As for want of memory: the system refuses the source's fork.
    fn a_source_that_may_not_fork_is_waited_for(kind) {
        let servers = apart(kind, ServerOptions::unprivileged);
        let [one, two] = &servers;
        one.limit_processes(1);
        let agent = Agent::start(AgentOptions::beside(two.port()).peer(1, one.port()));
        is_told_that_it_may_not_fork(two);
        write_meanwhile(&servers);
        assert_eq!(number(two, "sync_full_in"), 0);
        one.limit_processes(1_000);
        are_equal(&servers, &agent);
    }

    /// The same with a target that is empty: what comes in the end is a file.
    fn a_source_that_may_not_fork_for_a_file_is_waited_for(kind) {
        let servers = start(kind, ServerOptions::unprivileged);
        let [one, two] = &servers;
        one.client().ok("SET own v");
        fill(one);
        one.limit_processes(1);
        let agent = Agent::start(AgentOptions::beside(two.port()).peer(1, one.port()));
        is_told_that_it_may_not_fork(two);
        one.client().ok("SET meanwhile:1 1");
        assert_eq!((two.client().text("DBSIZE"), number(two, "sync_full_in")), ("0".into(), 0));
        one.limit_processes(1_000);
        wait::until(wait::PATIENCE, "the full sync is done", || (number(two, "sync_full_in") == 1).then_some(()), || agent.log());
        two.client().ok("SET meanwhile:2 2");
        are_equal(&servers, &agent);
        assert!(two.log().contains("as a file, since this instance is empty") && two.log().contains("bytes, loaded in "), "{}", two.log());
    }

    /// The disk is full in the midst of the copy.
    fn an_agent_without_disk_space_says_so_and_tries_again(kind) {
        let servers = apart(kind, |options| options);
        let [one, two] = &servers;
        let agent = Agent::start_with_small_files(AgentOptions::beside(two.port()).peer(1, one.port()), 1 << 20);
        let mut client = two.client();
        wait::eventually("the cause is told", || client.text("SYNCER.PEERS").contains("File too large"));
        let peers = client.text("SYNCER.PEERS");
        assert!(peers.contains("cannot write") && peers.contains("spool-dir"), "{peers}");
        let left = || std::fs::read_dir(agent.spool_dir()).expect("it is there").flatten().map(|file| file.file_name());
        wait::eventually("no part of it is left", || left().all(|name| !name.to_string_lossy().ends_with(".part")));
        write_meanwhile(&servers);
        assert_eq!(client.text("SYNCER.SYNC STATUS"), "[NONE, [], []]", "nothing is half merged");
        agent.process().limit(Resource::Fsize, None);
        are_equal(&servers, &agent);
    }
}

on_each_kind! {
    /// It used to be silent: a `maxmemory` below the backlog's size emptied every site.
    fn a_backlog_that_leaves_no_room_for_data_is_told(kind) {
        let server = Server::start(kind, ServerOptions::instance(1).module_arg("backlog-size", "16mb"));
        let mut client = server.client();
        client.ok("CONFIG SET maxmemory 20mb");
        let told = |left: u64| {
            let text = format!("its 16777216 bytes (backlog-size) leave {left} of the");
            wait::eventually("it is told", || server.log().contains(&text));
            assert_eq!(server.log().matches(&text).count(), 1, "{}", server.log());
        };
        told(4 << 20);
        client.ok("CONFIG SET maxmemory 12mb");
        told(0);
    }
}
