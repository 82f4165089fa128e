//! The network between sites is cut, hangs and heals, under load; a backlog that does not reach back is noticed.

use syncer_tests::cluster::{Cluster, ClusterOptions};
use syncer_tests::load::under_load;
use syncer_tests::server::ServerKind;
use syncer_tests::{on_all_kinds, wait};

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
    }
}

/// Full sync does not exist yet: what is missing must be told, not skipped.
fn overflow(kinds: &[ServerKind]) {
    let options = ClusterOptions { module: vec![("backlog-size", "1mb")], ..ClusterOptions::default() };
    let cluster = Cluster::with(kinds, &options);
    cluster.client(1).ok("SET before cut");
    cluster.converged();
    cluster.cut(1, 2);
    let value = "x".repeat(100_000);
    let mut client = cluster.client(1);
    for key in 0..40 {
        client.ok(&format!("SET big:{key} {value}"));
    }
    client.ok("SET after overflow");
    cluster.heal();
    let mut other = cluster.client(2);
    wait::eventually("site 2 tells that it needs a full sync", || {
        other.text("SYNCER.PEERS").to_lowercase().contains("full sync")
    });
    assert_eq!(other.text("EXISTS big:0 big:39 after"), "0", "site 2 has skipped what it cannot get");
    assert_eq!(other.text("GET before"), "cut");
    assert!(client.text("INFO syncer").contains("sync_partial_err:"), "{}", client.text("INFO syncer"));
    assert!(
        !client.text("INFO syncer").contains("sync_partial_err:0\\x0d"),
        "the source counts what it could not serve"
    );
    // The other direction is not concerned.
    other.ok("SET from 2");
    cluster.caught_up(2, 1);
    assert_eq!(client.text("GET from"), "2");
}

#[test]
fn a_backlog_that_does_not_reach_back_is_told() {
    for kind in ServerKind::ALL {
        overflow(&[kind, kind]);
    }
}
