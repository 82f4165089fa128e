//! An append-only file without an RDB head cannot hold the state: it is said loudly, and nothing goes wrong (CAPTURE 10).

use syncer_tests::nodes::{Pair, until_rewritten};
use syncer_tests::server::{Server, ServerOptions};
use syncer_tests::{on_each_kind, wait};

const HEADLESS: [(&str, &str); 3] = [("appendonly", "yes"), ("appendfsync", "always"), ("aof-use-rdb-preamble", "no")];

/// Of instance 1, as a primary.
fn options() -> ServerOptions {
    HEADLESS.iter().fold(ServerOptions::instance(1), |all, (name, value)| all.config(name, value))
}

fn rewrite(node: &Server) {
    node.client().ok("BGREWRITEAOF");
    until_rewritten(node);
}

fn write(pair: &Pair, tag: &str) {
    for client in &mut [pair.one.client(), pair.two.client()] {
        for line in ["INCRBY count 5", "HINCRBY h f 5", "RPUSH l a", "SET last "] {
            client.ok(&if line.ends_with(' ') { format!("{line}{tag}") } else { line.to_owned() });
        }
    }
}

on_each_kind! {
    /// Configured so: the file begins with the first record of the shard, and the option is turned on before any rewrite.
    fn the_option_is_turned_on_at_the_start(kind) {
        let mut pair = Pair::start(kind, 1, &HEADLESS);
        wait::eventually("it says so", || pair.one.nodes[0].log().contains("aof-use-rdb-preamble is no: an append-only file without an RDB head cannot hold the Active-Active state. It was set to yes"));
        for rewritten in [false, true] {
            write(&pair, "first");
            pair.agree();
            if rewritten {
                rewrite(&pair.one.nodes[0]);
                write(&pair, "second");
                pair.agree();
            }
            // What is there is from the file, not from instance 2.
            pair.stop_agents();
            let before = ["SYNCER.DIGEST", "GET count"].map(|line| pair.one.client().text(line));
            pair.one.nodes[0].restart();
            assert_eq!(["SYNCER.DIGEST", "GET count"].map(|line| pair.one.client().text(line)), before);
            pair.restart_agents();
            pair.agree();
        }
        write(&pair, "third");
        pair.agree();
        assert_eq!(pair.one.client().text("GET count"), "40");
    }

    /// A replica turns it on, too, before it makes a file of what its primary sends it. So it keeps its history when it is promoted, and killed.
    fn a_replica_turns_the_option_on(kind) {
        let mut pair = Pair::start(kind, 1, &HEADLESS);
        write(&pair, "before");
        pair.agree();
        pair.one.grow();
        until_rewritten(&pair.one.nodes[1]);
        write(&pair, "first");
        pair.agree();
        pair.one.nodes[0].kill();
        pair.one.nodes[1].client().ok("REPLICAOF NO ONE");
        write(&pair, "second");
        wait::eventually("it is a primary", || pair.one.primary().port() == pair.one.nodes[1].port());
        pair.one.nodes.remove(0);
        pair.restart_agents();
        pair.agree();
        pair.one.nodes[0].restart_with(options());
        write(&pair, "third");
        pair.agree();
        assert_eq!(pair.one.client().text("GET count"), "40");
    }

    /// Without an append-only file at the start, and with one from then on: the server forks for that at once.
    fn a_file_that_is_asked_for_later_has_the_state(kind) {
        let mut pair = Pair::start(kind, 1, &HEADLESS[2..]);
        write(&pair, "first");
        pair.agree();
        for line in ["CONFIG SET appendfsync always", "CONFIG SET appendonly yes"] {
            pair.one.client().ok(line);
        }
        wait::eventually("the file is written", || {
            let info = pair.one.client().text("INFO persistence");
            info.contains("aof_enabled:1") && info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
        });
        write(&pair, "second");
        pair.agree();
        pair.one.nodes[0].restart_with(options());
        write(&pair, "third");
        pair.agree();
        assert_eq!(pair.one.client().text("GET count"), "30");
    }

    /// Turned off at run time, and rewritten: the file has lost the state. The server warns before and after, keeps its data, and is not taken
    /// for one that has its history.
    fn a_file_that_lost_the_state_is_told_of(kind) {
        let mut pair = Pair::start(kind, 1, &HEADLESS[..2]);
        write(&pair, "first");
        pair.agree();
        pair.one.client().ok("CONFIG SET aof-use-rdb-preamble no");
        rewrite(&pair.one.nodes[0]);
        let log = pair.one.nodes[0].log();
        assert!(log.contains("after a restart from a rewritten append-only file the other instances will need a full sync"), "{log}");
        write(&pair, "second");
        pair.agree();
        pair.one.nodes[0].restart();
        for said in ["records come that belong to no state here", "that no backlog has"] {
            wait::eventually(&format!("it says: {said}"), || pair.one.nodes[0].log().contains(said));
        }
        let mut one = pair.one.client();
        assert_eq!(one.text("MGET count last"), "[15, second]", "its data is kept");
        wait::eventually("it is told that it lost its history", || pair.agent_logs().contains("SYNCERID"));
        pair.two.client().ok("INCRBY count 1");
        assert_eq!(pair.two.client().text("GET count"), "21");
    }
}
