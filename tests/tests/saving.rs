//! Files and native full syncs while everybody writes, in every form that the servers offer.

use syncer_tests::nodes::{Pair, figure, save};
use syncer_tests::rounds::under_load;
use syncer_tests::server::{Server, ServerKind, ServerOptions};
use syncer_tests::{on_each_kind, wait};

fn until_saved(pair: &Pair) {
    wait::eventually("no child runs", || {
        let info = pair.one.nodes[0].client().text("INFO persistence");
        ["rdb_bgsave_in_progress:0", "aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0"]
            .iter()
            .all(|field| info.contains(field))
    });
}

fn until_begun(pair: &Pair) {
    wait::eventually("there is to be a file", || {
        pair.one.nodes[0].client().text("INFO persistence").contains("aof_enabled:1")
    });
}

/// Native ones, of replicas of instance 1.
fn full_syncs(pair: &Pair) -> u32 {
    let count = figure(&pair.one.nodes[0], "sync_full").and_then(|count| count.parse().ok());
    count.expect("a figure of INFO")
}

/// Settings of a server.
type Way = Vec<(&'static str, &'static str)>;

/// The names under which servers know a full sync over a connection of its own, beside the stream.
const OWN_CONNECTION_SETTINGS: [(&str, &[ServerKind]); 2] = [
    ("repl-rdb-channel", &[ServerKind::Redis8]),
    ("dual-channel-replication-enabled", &[ServerKind::Valkey8, ServerKind::Valkey9]),
];

/// What a replica logs of it.
const OWN_CONNECTION: [&str; 2] = [
    "Successfully streamed replication buffer into the db",
    "Dual channel replication: Successfully streamed replication data into memory",
];

/// The ways that a server offers.
fn ways(server: &Server) -> Vec<Way> {
    let way = |sync, load| vec![("repl-diskless-sync", sync), ("repl-diskless-load", load)];
    let mut ways = vec![way("no", "disabled"), way("yes", "disabled"), way("yes", "swapdb"), way("no", "on-empty-db")];
    if server.kind() != ServerKind::Redis8 {
        ways.push(way("yes", "flush-before-load"));
    }
    for (name, kinds) in OWN_CONNECTION_SETTINGS {
        let is_known = server.client().text(&format!("CONFIG GET {name}")) != "[]";
        assert_eq!(is_known, kinds.contains(&server.kind()), "{} knows {name}", server.kind());
        if is_known {
            let loads = ["disabled", "swapdb"].map(|load| [way("yes", load), vec![(name, "yes")]].concat());
            ways.extend(loads);
        }
    }
    ways
}

on_each_kind! {
    fn saves_rewrites_and_settings_under_load_lose_nothing(kind) {
        let mut pair = Pair::start(kind, 1, &[]);
        let written = under_load(&mut pair, |pair, rounds| {
            for commands in [
                &["BGSAVE"][..],
                &["CONFIG SET appendonly yes"],
                &["BGREWRITEAOF"],
                &["CONFIG SET appendonly no", "CONFIG SET save \"3600 1\""],
                &["CONFIG SET appendonly yes", "CONFIG SET appendfsync always"],
                &["BGREWRITEAOF"],
            ] {
                let mut client = pair.one.nodes[0].client();
                commands.iter().for_each(|command| drop(client.ok(command)));
                rounds.advance(100);
                until_saved(pair);
            }
        });
        written.is_kept(&pair);
        // The file is complete: nothing need come back.
        pair.stop_agents();
        let had = pair.one.client().text("SYNCER.DIGEST");
        pair.one.client().ok("CONFIG SET appendonly no");
        save(pair.one.primary());
        pair.one.nodes[0].restart();
        assert_eq!(pair.one.client().text("SYNCER.DIGEST"), had);
        // The append-only file was rewritten under the same load.
        pair.one.nodes[0].restart_with(ServerOptions::instance(1).config("appendonly", "yes"));
        assert_eq!(pair.one.client().text("SYNCER.DIGEST"), had);
        pair.restart_agents();
        pair.agree();
    }

    /// A file that a child writes while clients write is loaded, after a crash: of what came later instance 2 brings back what it had.
    fn a_file_written_under_load_is_loaded(kind) {
        let mut pair = Pair::start(kind, 1, &[]);
        let written = under_load(&mut pair, |pair, rounds| {
            for way in ["BGSAVE", "CONFIG SET appendonly yes", "BGREWRITEAOF"] {
                rounds.advance(100);
                pair.one.nodes[0].client().ok(way);
                until_saved(pair);
                rounds.advance(100);
                pair.one.nodes[0].kill();
                let mut still = rounds.still();
                // With an append-only file: by the new configuration.
                let file = if way == "BGSAVE" { "no" } else { "yes" };
                pair.one.nodes[0].restart_with(ServerOptions::instance(1).config("appendonly", file));
                still.is_left_at(&[&pair.one.nodes[0], &pair.two.nodes[0]]);
            }
            rounds.advance(100);
        });
        written.is_kept(&pair);
    }

    /// Persistence is changed at run time, and the server crashes before the new file is whole, and comes back by the old configuration: an older file than what it
    /// had reported by then.
    fn a_crash_amid_a_change_of_persistence_loses_nothing_that_is_left(kind) {
        for until in [until_begun, until_saved] {
            let mut pair = Pair::start(kind, 1, &[("save", "3600 1")]);
            let written = under_load(&mut pair, |pair, rounds| {
                rounds.advance(100);
                // Whoever reports an append-only file has one.
                save(&pair.one.nodes[0]);
                rounds.advance(100);
                pair.one.nodes[0].client().ok("CONFIG SET appendonly yes");
                until(pair);
                rounds.advance(100);
                pair.one.nodes[0].kill();
                let mut still = rounds.still();
                pair.one.nodes[0].restart();
                still.is_left_at(&[&pair.one.nodes[0], &pair.two.nodes[0]]);
                drop(still);
                rounds.advance(100);
            });
            written.is_kept(&pair);
        }
    }

    /// Disk-based and diskless at both ends, also with the old data served meanwhile, also beside the stream, over a connection of its own.
    fn replicas_take_the_state_in_every_way(kind) {
        let mut pair = Pair::start(kind, 2, &[("repl-backlog-size", "16kb")]);
        let ways = ways(&pair.one.nodes[0]);
        let mut ended = 0;
        let written = under_load(&mut pair, |pair, rounds| {
            for way in &ways {
                for node in &pair.one.nodes {
                    for (name, value) in way {
                        node.client().ok(&format!("CONFIG SET {name} {value}"));
                    }
                }
                // More than the native backlog holds, while the link is down.
                pair.one.nodes[1].process().pause();
                pair.one.nodes[0].client().ok("CLIENT KILL TYPE replica");
                for chunk in 0..4 {
                    pair.one.nodes[0].client().ok(&format!("SET large:{chunk} {}", "x".repeat(20_000)));
                }
                rounds.advance(50);
                pair.one.nodes[1].process().resume();
                wait::eventually("a native full sync was needed", || full_syncs(pair) > ended + 1);
                pair.one.nodes[1].follows();
                rounds.advance(50);
                ended += 1;
            }
        });
        let log = pair.one.nodes[1].log();
        assert!(OWN_CONNECTION.iter().any(|said| log.contains(said)), "no full sync had a connection of its own:\n{log}");
        written.is_kept(&pair);
        assert_eq!(ended, ways.len() as u32);
        pair.one.promote(1);
        pair.agree();
    }
}
