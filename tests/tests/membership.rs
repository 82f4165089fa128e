//! Who leaves the group, and what the others then do with it (MERGE_RULES M1 to M7).

use syncer_tests::client::Client;
use syncer_tests::{on_all_kinds, reply, wait};

/// A field of SYNCER.STATUS.
fn status(client: &mut Client, name: &str) -> String {
    let status = client.cmd("SYNCER.STATUS");
    let pair = reply::items(&status).chunks_exact(2).find(|pair| reply::text(&pair[0]) == name);
    pair.map(|pair| reply::text(&pair[1])).unwrap_or_default()
}

/// The members as an instance sees them.
fn members(client: &mut Client) -> String {
    status(client, "members")
}

/// Keys with metadata.
fn metadata(client: &mut Client) -> u64 {
    let counters = status(client, "counters");
    let number = counters.split("metadata_keys, ").nth(1).and_then(|rest| rest.split(',').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(u64::MAX)
}

on_all_kinds! {
    /// Site 3 lives on after it was forgotten: it is told, refuses writes with the reason, keeps its data, and nothing of it comes in any more.
    fn a_forgotten_site_is_told_and_refuses_writes(cluster: 3) {
        cluster.client(3).ok("SET before 3");
        cluster.converged();
        assert_eq!(cluster.client(1).text("SYNCER.FORGET 3"), "OK");
        let (mut one, mut two, mut three) = (cluster.client(1), cluster.client(2), cluster.client(3));
        wait::eventually("the others agree", || members(&mut two) == "[1, 2]" && members(&mut one) == "[1, 2]");
        wait::eventually("site 3 refuses writes", || three.text("SET late 3").starts_with("-SYNCERFORGOTTEN instance 3 "));
        for command in ["INCR n", "SADD s a", "LPUSH l a", "DEL before", "FLUSHALL", "EVAL return(redis.call('SET','x','y')) 0"] {
            assert!(three.text(command).contains("SYNCERFORGOTTEN "), "{command}: {}", three.text(command));
        }
        assert_eq!(three.text("GET before"), "3", "it keeps its data, and reads go on");
        three.ok("MULTI");
        assert_eq!(three.text("SET in multi"), "QUEUED");
        assert!(three.text("EXEC").contains("SYNCERFORGOTTEN "));
        assert!(one.text("SYNCER.FORGET 3").contains("is no member"));
        assert!(three.text("SYNCER.FORGET 1").starts_with("-SYNCERFORGOTTEN "), "it has no say any more");
        one.ok("SET after 1");
        wait::eventually("the others go on", || two.text("GET after") == "1");
        assert_eq!(three.text("GET after"), "(nil)");
    }

    /// A dead site holds back the stable clock; once it is forgotten, metadata goes again, and what it had sent to one stays.
    fn a_dead_site_holds_nothing_back_once_it_is_forgotten(cluster: 3) {
        cluster.converged();
        cluster.site_mut(3).agent.kill();
        cluster.site_mut(3).server.kill();
        cluster.client(1).ok("SET k v");
        cluster.caught_up(1, 2);
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        assert!(metadata(&mut one) > 0, "site 3 may not have it");
        assert_eq!(one.text("SYNCER.FORGET 3"), "OK");
        wait::eventually("metadata is gone", || metadata(&mut one) == 0 && metadata(&mut two) == 0);
        let settled = |client: &mut Client| status(client, "forgotten").contains("settled, 1");
        wait::eventually("it is settled", || settled(&mut one) && settled(&mut two));
    }

    /// Two of three are gone at once.
    fn a_group_of_one_is_left(cluster: 3) {
        cluster.client(2).ok("SET k 2");
        cluster.converged();
        for site in [2, 3] {
            cluster.site_mut(site).agent.kill();
            cluster.site_mut(site).server.kill();
            assert_eq!(cluster.client(1).text(&format!("SYNCER.FORGET {site}")), "OK");
        }
        let mut one = cluster.client(1);
        assert_eq!(members(&mut one), "[1]");
        one.ok("SET k 1");
        assert_eq!(one.text("GET k"), "1");
        assert!(one.text("SYNCER.FORGET 1").contains("this server's own"));
    }
}
