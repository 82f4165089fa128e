//! What a site says would survive it (DESIGN 2.2 rule 1): on what others may rely when they drop metadata.

use syncer_tests::members::metadata;
use syncer_tests::nodes::{Pair, figure, number};
use syncer_tests::{on_each_kind, wait};

on_each_kind! {
    /// DESIGN 2.2 rule 1: with an append-only file, what is fsynced.
    fn a_file_makes_durable_what_it_has(kind) {
        let pair = Pair::start(kind, 1, &[("appendonly", "yes")]);
        promises(&pair, "aof");
        wait::eventually("not at once", || {
            pair.one.client().ok("INCR n");
            behind(&pair) > 0
        });
        wait::eventually("it is fsynced", || behind(&pair) == 0);
    }

    /// With `appendfsync no` nobody but the kernel knows: it is given a minute.
    fn a_file_that_nobody_fsyncs_makes_durable_what_is_old(kind) {
        let pair = Pair::start(kind, 1, &[("appendonly", "yes"), ("appendfsync", "no")]);
        promises(&pair, "aof");
        // Twice what the server takes to fsync by itself.
        falls_behind(&pair, 6000);
        pair.one.client().ok("CONFIG SET appendfsync everysec");
        wait::eventually("it is fsynced", || behind(&pair) == 0);
        pair.one.client().ok("CONFIG SET appendfsync no");
        falls_behind(&pair, 6000);
        promises(&pair, "aof");
        pair.agree();
    }

    /// With `no-appendfsync-on-rewrite yes` nothing is fsynced while a child writes.
    fn while_a_child_hinders_it_nothing_is_fsynced(kind) {
        let pair = Pair::start(kind, 1, &[("appendonly", "yes"), ("no-appendfsync-on-rewrite", "yes")]);
        promises(&pair, "aof");
        wait::eventually("it is fsynced", || behind(&pair) == 0);
        let mut client = pair.one.client();
        (0..80).for_each(|i| drop(client.ok(&format!("SET k{i} v"))));
        wait::eventually("it is fsynced", || behind(&pair) == 0);
        // Microseconds a key: eight seconds.
        client.ok("CONFIG SET rdb-key-save-delay 100000");
        client.ok("BGSAVE");
        falls_behind(&pair, 6000);
        assert!(client.text("INFO persistence").contains("rdb_bgsave_in_progress:1"), "the child has ended");
        wait::eventually("it is fsynced", || behind(&pair) == 0);
        assert!(client.text("INFO persistence").contains("rdb_bgsave_in_progress:0"));
        pair.agree();
    }

    /// With a replica, what it has acknowledged: not while it hangs.
    fn a_replica_makes_durable_what_it_has(kind) {
        let pair = Pair::start(kind, 2, &[]);
        promises(&pair, "replicas");
        wait::eventually("the replica has acknowledged", || behind(&pair) == 0);
        pair.one.nodes[1].process().pause();
        wait::eventually("it no longer does", || {
            pair.one.nodes[0].client().ok("INCR n");
            behind(&pair) > 0
        });
        pair.one.nodes[1].process().resume();
        wait::eventually("the replica has caught up", || behind(&pair) == 0);
        pair.agree();
    }

    /// The last replica goes, and may be the one that is promoted: nothing more is promised, and so nobody drops metadata (the minute is over in a unit
    /// test of `durable.rs`).
    fn a_replica_that_is_gone_makes_nothing_more_durable(kind) {
        let mut pair = Pair::start(kind, 2, &[]);
        promises(&pair, "replicas");
        wait::eventually("the replica has acknowledged", || behind(&pair) == 0 && metadata(&mut pair.two.client()) == 0);
        pair.one.nodes[1].kill();
        wait::eventually("the primary knows", || pair.one.client().text("INFO replication").contains("connected_slaves:0"));
        pair.one.client().ok("SET after its-death");
        for ms in [1, 1000, 2000] {
            wait::eventually("it falls behind", || {
                pair.one.client().ok("INCR n");
                behind(&pair) >= ms
            });
            promises(&pair, "replicas");
        }
        pair.agree();
        assert!(metadata(&mut pair.two.client()) > 0, "instance 1 may lose what instance 2 has of it");
        pair.one.nodes[1].restart();
        wait::eventually("the replica has caught up", || behind(&pair) == 0);
        wait::eventually("metadata is gone", || metadata(&mut pair.two.client()) == 0);
        pair.agree();
    }

    /// So it is with one of two: the one that is gone may be promoted.
    fn one_of_two_replicas_that_is_gone_makes_nothing_more_durable(kind) {
        let mut pair = Pair::start(kind, 3, &[]);
        promises(&pair, "replicas");
        wait::eventually("the replicas have acknowledged", || behind(&pair) == 0);
        pair.one.nodes[2].kill();
        wait::eventually("the primary knows", || pair.one.client().text("INFO replication").contains("connected_slaves:1"));
        // The other one acknowledges once a second.
        falls_behind(&pair, 5000);
        promises(&pair, "replicas");
        pair.one.nodes[2].restart();
        wait::eventually("both have caught up", || behind(&pair) == 0);
        pair.agree();
    }

    /// With both, what both have: neither a replica that hangs nor a file alone promises anything.
    fn a_replica_and_a_file_make_durable_what_both_have(kind) {
        let pair = Pair::start(kind, 2, &[("appendonly", "yes")]);
        promises(&pair, "replicas-and-aof");
        pair.one.client().ok("SET k v");
        wait::eventually("both have it", || behind(&pair) == 0);
        pair.one.nodes[1].process().pause();
        wait::eventually("the file alone promises nothing", || {
            pair.one.nodes[0].client().ok("INCR n");
            behind(&pair) > 0
        });
        pair.one.nodes[1].process().resume();
        wait::eventually("the replica has caught up", || behind(&pair) == 0);
        pair.agree();
    }

    /// With save points only, what is saved.
    fn a_save_makes_durable_what_it_has(kind) {
        let pair = Pair::start(kind, 1, &[("save", "3600 1")]);
        promises(&pair, "rdb");
        wait::eventually("time passes", || {
            pair.one.client().ok("INCR n");
            behind(&pair) > 0
        });
        pair.one.client().ok("BGSAVE");
        wait::eventually("it is saved", || behind(&pair) == 0);
        pair.one.client().ok("CONFIG SET syncer.report-applied 1");
        promises(&pair, "applied");
    }
}

fn promises(pair: &Pair, by: &str) {
    let what = format!("what survives is told by {by}");
    wait::eventually(&what, || figure(&pair.one.nodes[0], "syncer_durable_by").as_deref() == Some(by));
}

/// Clients go on, and what they write is not durable.
fn falls_behind(pair: &Pair, ms: u64) {
    wait::eventually(&format!("it falls behind by {ms} ms"), || {
        pair.one.client().ok("INCR n");
        behind(pair) >= ms
    });
}

fn behind(pair: &Pair) -> u64 {
    number(&pair.one.nodes[0], "durable_behind_ms")
}
