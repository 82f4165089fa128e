//! A server drops keys whose TTL has passed when it loads its file. What another site had extended meanwhile, and everybody else relied on, comes back.

use std::time::{Duration, Instant};

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
