//! What agents and operators ask for in bulk does not hold the server's main thread.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use syncer_tests::client::Client;
use syncer_tests::figures::figure;
use syncer_tests::load::under_load;
use syncer_tests::server::{Server, ServerOptions};
use syncer_tests::stream::{Position, psync};
use syncer_tests::{on_all_kinds, on_each_kind, reply, wait};

/// Microseconds of the main thread that one command took, by the server's own account.
fn microseconds(client: &mut Client, command: &str) -> u64 {
    let stats = client.text("INFO commandstats");
    let line = stats.split(&format!("cmdstat_{command}:")).nth(1).unwrap_or_else(|| panic!("no {command}: {stats}"));
    assert!(line.starts_with("calls=1,"), "{line}");
    let digits = line.split("usec=").nth(1).and_then(|rest| rest.split(',').next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

/// Whether the server has a thread of this name.
fn has_thread(server: &Server, name: &str) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.process().pid())).expect("the server runs");
    tasks.flatten().any(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name))
}

on_each_kind! {
    /// 32 MB in one answer: on another thread, against the same where it must be put together at once, in a transaction.
    fn a_large_read_is_put_together_elsewhere(kind) {
        const MEGABYTES: usize = 32;
        let server = Server::start(kind, ServerOptions::instance(1));
        let (mut client, mut reader) = (server.client(), server.client());
        let other = Server::start(kind, ServerOptions::instance(2));
        let position = Position::of(&mut other.client(), 1);
        let value = "x".repeat(1 << 20);
        (0..MEGABYTES).for_each(|key| drop(client.ok(&format!("SET {key} {value}"))));
        let mut read = |in_transaction: bool| {
            let answer = psync(&mut reader, &position);
            assert!(reply::text(&answer).starts_with("[CONTINUE"), "{}", reply::text(&answer));
            client.ok("CONFIG RESETSTAT");
            let answer = if in_transaction {
                reply::items(&reader.multi(&["SYNCER.READ 1073741824 0"]))[0].clone()
            } else {
                reader.ok("SYNCER.READ 1073741824 0")
            };
            let frames = reply::bytes(&reply::items(&answer)[5]).len();
            assert!(frames > MEGABYTES << 20, "{frames} bytes");
            microseconds(&mut client, "syncer.read")
        };
        let inline: u64 = (0..3).map(|_| read(true)).sum();
        assert!(!has_thread(&server, "syncer-reader"), "nothing was given to it yet");
        let elsewhere: u64 = (0..3).map(|_| read(false)).sum();
        assert!(has_thread(&server, "syncer-reader"));
        assert!(elsewhere * 4 < inline, "{elsewhere} us of the main thread, {inline} us when it does it all");
    }

    /// Others are served between the slices of a digest.
    fn a_digest_lets_others_in(kind) {
        let server = Server::start(kind, ServerOptions::instance(1));
        let (mut client, mut asking) = (server.client(), server.client());
        client.ok("DEBUG POPULATE 200000");
        let is_done = AtomicBool::new(false);
        let (digest, served) = thread::scope(|scope| {
            let digest = scope.spawn(|| {
                let digest = asking.text("SYNCER.DIGEST");
                is_done.store(true, Ordering::Release);
                digest
            });
            let mut served = 0;
            while !is_done.load(Ordering::Acquire) {
                client.ok("GET key:1");
                served += 1;
            }
            (digest.join().expect("it is answered"), served)
        });
        assert_eq!(digest.len(), 32, "{digest}");
        // Held to the end, the first of them would have waited for it, and been the last.
        assert!(served > 20, "{served} commands while 200,000 keys were walked");
    }
}

on_all_kinds! {
    /// Made smaller and larger while both sites write and read: nothing is lost, and nobody must begin anew.
    fn a_backlog_is_resized_under_load(cluster: 2) {
        under_load(cluster, |cluster, load| {
            for size in ["8mb", "256mb", "16mb", "1gb", "8mb"] {
                for site in [1, 2] {
                    cluster.client(site).ok(&format!("CONFIG SET syncer.backlog-size {size}"));
                }
                load.advance(60);
            }
        });
        for site in [1, 2] {
            let mut client = cluster.client(site);
            assert_eq!(figure(&mut client, "backlog_size"), 8 << 20);
            assert_eq!(figure(&mut client, "sync_full_in"), 0, "site {site}");
        }
        // Smaller than what it holds: the oldest goes, and what is left is what the figures say.
        let mut client = cluster.client(1);
        let value = "x".repeat(100_000);
        (0..40).for_each(|key| drop(client.ok(&format!("SET {key} {value}"))));
        assert!(figure(&mut client, "backlog_bytes") > 4_000_000);
        client.ok("CONFIG SET syncer.backlog-size 1mb");
        // As soon as everybody has what would go.
        wait::eventually("the backlog is smaller", || figure(&mut client, "backlog_bytes") <= 1 << 20);
        let [first, end] = ["backlog_first_offset", "backlog_end_offset"].map(|name| figure(&mut client, name));
        assert_eq!(figure(&mut client, "backlog_bytes"), end - first);
        cluster.converged();
    }
}
