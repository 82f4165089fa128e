//! `./run chaos` sees what goes wrong, and says so.

use std::fs;
use std::path::Path;
use std::time::Duration;

use syncer_tests::chaos::{ChaosOptions, run};
use syncer_tests::client::Client;
use syncer_tests::server::{Server, ServerKind, ServerOptions};

/// The newest write of a connection is taken back everywhere.
fn lose_one(client: &mut Client) {
    let keys = client.text_items("KEYS log:1:0:*:0");
    let log = keys.first().expect("something was written");
    let last = client.text_items(&format!("SORT {log} DESC LIMIT 0 1"));
    client.ok(&format!("SREM {log} {}", last.first().expect("a log has members")));
}

#[test]
fn a_write_that_is_lost_fails_the_run_and_leaves_evidence() {
    let options = ChaosOptions {
        seed: 1,
        duration: Duration::from_secs(1),
        kinds: ServerKind::mixed(2),
        faults: Vec::new(),
        is_loud: false,
        sabotage: Some(lose_one),
        ..ChaosOptions::default()
    };
    let wrong = run(options).expect_err("a write is lost");
    assert!(wrong.contains("is lost") || wrong.contains("are lost"), "{wrong}");
    let folder = wrong.rsplit_once("states are in ").map(|(_, folder)| Path::new(folder)).expect("it says where");
    let size = |file: &str| fs::metadata(folder.join(file)).map_or(0, |about| about.len());
    for file in [
        "timeline.txt",
        "site-1-agent.log",
        "site-1-node-0.log",
        "site-2-node-1.txt",
        "site-1-verify.txt",
        "site-1-node-0-files/appendonlydir/appendonly.aof.manifest",
    ] {
        assert!(size(file) > 0, "{file} is missing or empty in {}", folder.display());
    }
    let verified = fs::read_to_string(folder.join("site-1-verify.txt")).unwrap_or_default();
    assert!(verified.contains("exit status: 0"), "all sites have lost it: {verified}");
    fs::remove_dir_all(folder).expect("it can be removed");
}

#[test]
fn a_killed_server_with_another_clock_leaves_nothing_in_memory() {
    let mut server = Server::start(ServerKind::Redis8, ServerOptions::instance(1).clock_off(3));
    let pid = server.process().pid();
    let files = [format!("/dev/shm/faketime_shm_{pid}"), format!("/dev/shm/sem.faketime_sem_{pid}")];
    let there = || files.iter().filter(|file| Path::new(file).exists()).count();
    assert_eq!(there(), files.len(), "libfaketime does not have these any more");
    server.kill();
    assert_eq!(there(), 0);
}
