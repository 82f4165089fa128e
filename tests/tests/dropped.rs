//! A server drops keys whose TTL has passed when it loads its file. What another site had extended meanwhile, and everybody else relied on, comes back.

use syncer_tests::{members, on_all_kinds, wait};

on_all_kinds! {
    fn what_was_extended_while_a_server_was_down_comes_back(cluster: 2) {
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
        cluster.client(2).ok("SAVE");
        cluster.cut(1, 2);
        cluster.site_mut(2).server.kill();
        one.ok("PEXPIRE session 600000");
        one.ok("HSET session seen 2");
        one.ok("PERSIST list");
        one.ok("RPUSH list d");
        one.ok("PEXPIRE counter 600000");
        one.ok("INCRBY counter 5");
        wait::eventually("their time has passed", || one.text("EXISTS gone") == "0");
        cluster.site_mut(2).server.restart();
        let mut two = cluster.client(2);
        assert_eq!(two.text("DBSIZE"), "0", "it has dropped them all");
        cluster.heal();
        cluster.converged();
        assert_eq!(two.text("HMGET session user seen"), "[u1, 2]");
        assert_eq!(two.text("LRANGE list 0 -1"), "[a, b, c, d]");
        assert_eq!(two.text("GET counter"), "105");
        assert_eq!(two.text("EXISTS gone"), "0");
    }
}
