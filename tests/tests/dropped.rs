//! A server drops keys whose TTL has passed when it loads its file. What another site had extended meanwhile, and everybody else relied on, comes back.

use std::time::{Duration, Instant};

use syncer_tests::cluster::Cluster;
use syncer_tests::nodes::{Pair, until_rewritten};
use syncer_tests::server::{Server, ServerOptions};
use syncer_tests::snapshot::{Snapshot, merge};
use syncer_tests::{dataset, members, on_all_kinds, on_each_kind, wait};

/// Keys that everybody relies on are due while site 2 is down, and site 1 has extended some of them.
fn extended_while_down(cluster: &mut Cluster, keep: impl Fn(&Server), come_back: impl Fn(&mut Server)) {
    let mut one = cluster.client(1);
    one.ok("HSET session user u1");
    one.ok("RPUSH list a b c");
    one.ok("SET counter 100");
    one.ok("SET gone v");
    for key in ["session", "list", "counter", "gone"] {
        one.ok(&format!("PEXPIRE {key} 6000"));
    }
    // Nobody keeps in mind any more how the keys got their TTLs.
    for mut client in cluster.settled() {
        wait::eventually("all metadata is gone but that of the list", || members::metadata(&mut client) <= 1);
    }
    keep(&cluster.site(2).server);
    cluster.cut(1, 2);
    cluster.site_mut(2).server.kill();
    one.ok("PEXPIRE session 600000");
    one.ok("HSET session seen 2");
    one.ok("PERSIST list");
    one.ok("RPUSH list d");
    one.ok("PEXPIRE counter 600000");
    one.ok("INCRBY counter 5");
    wait::eventually("their time has passed", || one.text("EXISTS gone") == "0");
    come_back(&mut cluster.site_mut(2).server);
    let mut two = cluster.client(2);
    cluster.heal();
    cluster.converged();
    assert_eq!(two.text("HMGET session user seen"), "[u1, 2]");
    assert_eq!(two.text("LRANGE list 0 -1"), "[a, b, c, d]");
    assert_eq!(two.text("GET counter"), "105");
    assert_eq!(two.text("EXISTS gone"), "0");
}

on_all_kinds! {
    fn what_was_extended_while_a_server_was_down_comes_back(cluster: 2) {
        extended_while_down(cluster, |server| drop(server.client().ok("SAVE")), |server| {
            server.restart();
            assert_eq!(server.client().text("DBSIZE"), "0", "it has dropped them all");
        });
    }

    /// An append-only file drops nothing: its server expires them, before its first command.
    fn what_was_extended_comes_back_to_an_append_only_file(cluster: 2) {
        let has_file = |server: &Server| {
            server.client().ok("CONFIG SET appendonly yes");
            until_rewritten(server);
        };
        extended_while_down(cluster, has_file, |server| {
            server.restart_with(ServerOptions::instance(2).config("appendonly", "yes"));
            wait::eventually("it has expired them", || server.client().text("DBSIZE") == "0");
        });
    }

    fn what_was_dropped_is_known_after_one_more_restart(cluster: 2) {
        let mut one = cluster.client(1);
        one.ok("HSET session user u1");
        one.ok("PEXPIRE session 3000");
        for mut client in cluster.settled() {
            wait::eventually("all metadata is gone", || members::metadata(&mut client) == 0);
        }
        cluster.client(2).ok("SAVE");
        cluster.cut(1, 2);
        cluster.site_mut(2).server.kill();
        one.ok("PEXPIRE session 600000");
        let asked = Instant::now();
        wait::eventually("its time has passed", || asked.elapsed() > Duration::from_millis(3000));
        cluster.site_mut(2).server.restart();
        assert_eq!(cluster.client(2).text("DBSIZE"), "0", "it has dropped it");
        cluster.client(2).ok("SAVE");
        cluster.site_mut(2).server.kill();
        cluster.site_mut(2).server.restart();
        cluster.heal();
        cluster.converged();
        assert_eq!(cluster.client(2).text("HGETALL session"), "[user, u1]");
    }

    fn a_key_made_anew_where_it_was_dropped_has_nothing_of_the_old_one(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.ok("DEBUG SET-ACTIVE-EXPIRE 0");
        two.ok("HSET session user u1");
        two.ok("RPUSH list a");
        two.ok("PEXPIRE list 2000");
        two.ok("PEXPIRE session 2000");
        for mut client in cluster.settled() {
            wait::eventually("all metadata is gone but that of the list", || members::metadata(&mut client) <= 1);
        }
        two.ok("SAVE");
        cluster.site_mut(2).server.kill();
        let asked = Instant::now();
        wait::eventually("their time has passed", || asked.elapsed() > Duration::from_millis(2000));
        cluster.site_mut(2).server.restart();
        let mut two = cluster.client(2);
        two.ok("HSET session seen 2");
        two.ok("RPUSH list b");
        cluster.converged();
        for client in [&mut one, &mut two] {
            assert_eq!(client.text("HGETALL session"), "[seen, 2]");
            assert_eq!(client.text("LRANGE list 0 -1"), "[b]");
            assert_eq!(client.text("TTL session"), "-1");
        }
    }
}

on_each_kind! {
    /// Amid a full sync what was dropped may have hidden something that its snapshot has brought: that shows now, at a replica, too, before the first client writes to it.
    fn what_a_dropped_key_has_hidden_shows_at_a_replica_before_the_first_write(kind) {
        let mut pair = Pair::start(kind, 2, &[("save", "3600 100000")]);
        pair.stop_agents();
        let mut source = pair.two.client();
        source.ok("RPUSH l a b");
        let snapshot = Snapshot::of(&mut source, 1);
        let mut one = pair.one.client();
        let token = snapshot.begin(&mut one, "2");
        // Later than all that the snapshot has.
        one.ok("SET l v PX 5000");
        let asked = Instant::now();
        merge(&mut one, &token, &snapshot.pieces);
        assert_eq!(one.text("GET l"), "v");
        pair.one.nodes[0].shut_down();
        wait::eventually("its time has passed", || asked.elapsed() > Duration::from_millis(5000));
        pair.one.nodes[0].restart();
        let mut one = pair.one.nodes[0].client();
        assert_eq!(one.text("RPUSH l c"), "3");
        assert_eq!(one.text("LRANGE l 0 -1"), "[a, b, c]");
        pair.one.nodes[1].follows();
        let mut replica = pair.one.nodes[1].client();
        wait::eventually("the replica has all", || one.text("WAIT 1 1000") == "1");
        assert!(pair.one.nodes[0].log().contains("Partial resynchronization request from"), "it had all anew");
        assert_eq!(replica.text("LRANGE l 0 -1"), "[a, b, c]");
        assert_eq!(dataset::digest(&mut replica), dataset::digest(&mut one));
        pair.restart_agents();
        wait::eventually("both instances agree", || pair.agree_now());
        assert_eq!(pair.two.client().text("LRANGE l 0 -1"), "[a, b, c]");
    }
}
