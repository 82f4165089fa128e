//! The network between sites is cut, hangs and heals, under load.

use syncer_tests::load::under_load;
use syncer_tests::on_all_kinds;

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
