//! The network between sites is cut, hangs and heals, under load.

use syncer_tests::cluster::{Cluster, ClusterOptions};
use syncer_tests::figures::figure;
use syncer_tests::load::under_load;
use syncer_tests::{on_all_kinds, on_each_kind, wait};

/// What was missed was read on from the backlog: no link began from nothing, however often it broke.
fn was_only_read_on(cluster: &Cluster) {
    for site in cluster.sites() {
        let mut client = site.client();
        assert_eq!(figure(&mut client, "sync_full_in"), 0, "site {}", site.instance);
    }
}

on_all_kinds! {
    fn cuts_under_load_lose_and_double_nothing(cluster: 2) {
        under_load(cluster, |cluster, load| {
            for _ in 0..5 {
                load.advance(50);
                cluster.cut(1, 2);
                load.advance(200);
                cluster.heal();
                load.advance(50);
                cluster.kill_sessions();
            }
        });
        was_only_read_on(cluster);
        for site in cluster.sites() {
            let handshakes = figure(&mut site.client(), "sync_partial_ok");
            assert!(handshakes > 1, "site {}: no connection was made anew", site.instance);
        }
    }

    fn a_hanging_network_loses_and_doubles_nothing(cluster: 2) {
        under_load(cluster, |cluster, load| {
            for _ in 0..3 {
                load.advance(50);
                cluster.proxy().pause();
                load.advance(300);
                cluster.proxy().resume();
            }
        });
        was_only_read_on(cluster);
    }

    /// One direction only: what comes the other way is not disturbed.
    fn a_one_way_cut_stops_one_way(cluster: 2) {
        cluster.proxy().cut(&syncer_tests::cluster::link(1, 2));
        cluster.client(1).ok("SET k v");
        cluster.caught_up(1, 2);
        cluster.client(2).ok("SET k w");
        assert_eq!(cluster.client(1).text("GET k"), "v");
        cluster.heal();
        cluster.converged();
        assert_eq!(cluster.client(1).text("GET k"), "w");
        was_only_read_on(cluster);
    }

    /// DESIGN 4: any connected topology converges.
    fn a_third_site_relays_what_cannot_come_directly(cluster: 3) {
        under_load(cluster, |cluster, load| {
            cluster.cut(1, 2);
            load.advance(100);
            cluster.client(1).ok("SET over relay");
            cluster.caught_up(1, 2);
            assert_eq!(cluster.client(2).text("GET over"), "relay");
            cluster.caught_up(2, 1);
            load.advance(100);
            cluster.heal();
        });
        was_only_read_on(cluster);
    }
}

on_each_kind! {
    /// I-3: what its author had seen is not here yet, and nobody relays it. It is not applied, it is said for whom it waits, and both come in the end.
    fn an_effect_waits_for_what_its_author_had_seen(kind) {
        let options = ClusterOptions { agent: vec!["--relay-after-ms", "3600000"], ..ClusterOptions::default() };
        let cluster = Cluster::with(&[kind; 3], &options);
        cluster.client(1).ok("SET cause 0");
        cluster.converged();
        cluster.cut(1, 3);
        cluster.client(1).ok("SET cause 1");
        cluster.caught_up(1, 2);
        cluster.client(2).ok("SET effect 1");
        let mut three = cluster.client(3);
        wait::eventually("it is said", || {
            let peers = three.text("SYNCER.PEERS");
            peers.contains("state, waiting") && peers.contains("instance 1")
        });
        assert_eq!(three.text("MGET effect cause"), "[(nil), 0]");
        cluster.heal();
        cluster.converged();
        assert_eq!(three.text("MGET effect cause"), "[1, 1]");
        was_only_read_on(&cluster);
    }
}
