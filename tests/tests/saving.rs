//! Files and native full syncs while everybody writes, in every form that the servers offer.

use syncer_tests::nodes::{Pair, advance, figure, save, sum, under_load};
use syncer_tests::server::ServerOptions;
use syncer_tests::{on_each_kind, wait};

fn until_saved(pair: &Pair) {
    wait::eventually("no child runs", || {
        let info = pair.one.nodes[0].client().text("INFO persistence");
        ["rdb_bgsave_in_progress:0", "aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0"]
            .iter()
            .all(|field| info.contains(field))
    });
}

/// Native ones, of replicas of instance 1.
fn full_syncs(pair: &Pair) -> u32 {
    let count = figure(&pair.one.nodes[0], "sync_full").and_then(|count| count.parse().ok());
    count.expect("a figure of INFO")
}

on_each_kind! {
    fn saves_rewrites_and_settings_under_load_lose_nothing(kind) {
        let mut pair = Pair::start(kind, 1, &[]);
        let before = under_load(&mut pair, |pair, rounds| {
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
                advance(rounds, 100);
                until_saved(pair);
            }
        });
        assert_eq!(sum(&pair), before);
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

    /// Disk-based and diskless at both ends, also with the old data served meanwhile.
    fn replicas_take_the_state_in_every_way(kind) {
        let mut pair = Pair::start(kind, 2, &[("repl-backlog-size", "16kb")]);
        let mut ended = 0;
        let total = under_load(&mut pair, |pair, rounds| {
            for (diskless, load) in [("no", "disabled"), ("yes", "disabled"), ("yes", "swapdb"), ("no", "on-empty-db")] {
                pair.one.nodes[0].client().ok(&format!("CONFIG SET repl-diskless-sync {diskless}"));
                let mut replica = pair.one.nodes[1].client();
                replica.ok(&format!("CONFIG SET repl-diskless-load {load}"));
                // More than the native backlog holds, while the link is down.
                pair.one.nodes[1].process().pause();
                pair.one.nodes[0].client().ok("CLIENT KILL TYPE replica");
                for chunk in 0..4 {
                    pair.one.nodes[0].client().ok(&format!("SET large:{chunk} {}", "x".repeat(20_000)));
                }
                advance(rounds, 50);
                pair.one.nodes[1].process().resume();
                wait::eventually("a native full sync was needed", || full_syncs(pair) > ended + 1);
                pair.one.nodes[1].follows();
                advance(rounds, 50);
                ended += 1;
            }
        });
        assert_eq!((sum(&pair), ended), (total, 4));
        pair.one.promote(1);
        pair.agree();
    }
}
