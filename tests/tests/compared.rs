//! A full sync by merge that the test brings itself, as an agent would: so it is known what changes between which of its steps, on real servers.

use syncer_tests::client::Client;
use syncer_tests::cluster::Cluster;
use syncer_tests::snapshot::{Snapshot, bring, merge};
use syncer_tests::{members, on_all_kinds, reply, wait};

/// Enough for several pieces of a snapshot.
const KEYS: usize = 3_000;

/// Strings of which all are the same at both sites, and one of each other type.
fn fill(client: &mut Client) {
    let value = "x".repeat(100);
    let lines: Vec<String> = (0..KEYS).map(|key| format!("SET s:{key} {value}")).collect();
    lines.chunks(500).for_each(|lines| drop(client.pipeline(lines)));
    for line in ["HSET h f 1 g 2", "SADD set a b c", "ZADD z 1 a 2 b", "RPUSH l 1 2 3", "XADD x 1-1 k v"] {
        client.ok(line);
    }
}

/// Every `step`-th key, beginning with `first`: of each piece some.
fn some(first: usize, step: usize) -> impl Iterator<Item = usize> {
    (first..KEYS).step_by(step)
}

/// Changes of every sort to keys that end so; `tag` makes their values.
fn change(client: &mut Client, first: usize, tag: &str) {
    let mut lines = Vec::new();
    for key in some(first, 100) {
        lines.extend([
            format!("DEL s:{key}"),
            format!("SET s:{} {tag}", key + 1),
            format!("APPEND s:{} {tag}", key + 2),
            format!("PEXPIRE s:{} 1", key + 3),
            format!("RENAME s:{} {tag}:{key}", key + 4),
            // As it was.
            format!("SET s:{} {}", key + 5, "x".repeat(100)),
            format!("SET {tag}:new:{key} {tag}"),
        ]);
    }
    client.pipeline(&lines);
    for line in ["HINCRBY h f 1", "SREM set a", "ZINCRBY z 1 a", "RPUSH l 4", "XADD x * k v"] {
        client.ok(line);
    }
    client.ok(&format!("SADD set {tag}"));
    let expired: Vec<String> = some(first + 3, 100).map(|key| format!("s:{key}")).collect();
    wait::eventually("what has run out is gone", || client.text(&format!("EXISTS {}", expired.join(" "))) == "0");
}

/// Waits until all is everywhere, and known to be.
fn at_rest(cluster: &Cluster) {
    cluster.converged();
    for site in [1, 2] {
        let mut client = cluster.client(site);
        // The ids of the list stay for ever.
        wait::eventually("all else is at rest", || members::metadata(&mut client) <= 1);
    }
}

/// Apart from now on, with everything at rest.
fn apart(cluster: &mut Cluster) {
    fill(&mut cluster.client(1));
    cluster.client(1).ok("MSET lacks:1 v lacks:2 v");
    at_rest(cluster);
    [1, 2].into_iter().for_each(|site| cluster.site_mut(site).agent.kill());
}

/// The whole sync into site 2; `between` is called between its steps.
fn sync(cluster: &Cluster, mut between: impl FnMut(&mut Client, Moment)) {
    let (mut agent, mut client) = (cluster.client(2), cluster.client(2));
    let snapshot = Snapshot::of(&mut cluster.client(1), 2);
    assert!(snapshot.pieces.len() > 3, "{} pieces", snapshot.pieces.len());
    let total = snapshot.keys.as_bytes();
    let copy: [&[u8]; 7] = [b"SYNCER.SYNC", b"COPY", b"1", b"0", total, b"0", &snapshot.head];
    assert_eq!(reply::text(&agent.args(&copy)), "OK");
    let (front, back) = snapshot.pieces.split_at(snapshot.pieces.len() / 2);
    let mut compare = |pieces: &[Vec<u8>]| {
        pieces.iter().for_each(|piece| bring(&mut agent, &[b"SYNCER.SYNC", b"COMPARE"], piece));
    };
    compare(front);
    between(&mut client, Moment::WhileCompared);
    compare(back);
    between(&mut client, Moment::BeforeMerge);
    let token = snapshot.begin(&mut agent, "1");
    merge(&mut agent, &token, front);
    between(&mut client, Moment::WhileMerged);
    merge(&mut agent, &token, back);
    between(&mut client, Moment::BeforeEnd);
    wait::eventually("it ends", || agent.text(&format!("SYNCER.SYNC END {token}")) == "DONE");
}

/// Steps of a sync that something may come between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    WhileCompared,
    BeforeMerge,
    WhileMerged,
    BeforeEnd,
}

/// With agents again both come to have the same, and the sync was this one.
fn agree(cluster: &mut Cluster) {
    [1, 2].into_iter().for_each(|site| cluster.site_mut(site).agent.restart());
    cluster.converged();
    let info = cluster.client(2).text("INFO syncer");
    assert!(info.contains("syncer_sync_full_in:1\\x0d"), "{info}");
}

on_all_kinds! {
    /// What the target's clients change, delete, add and let run out between any two steps is neither lost nor passed over.
    fn changes_at_the_target_between_the_steps_of_a_sync(cluster: 2) {
        apart(cluster);
        let mut source = cluster.client(1);
        change(&mut source, 10, "before");
        source.ok("DEL lacks:1 lacks:2");
        sync(cluster, |target, moment| {
            let (first, tag) = match moment {
                Moment::WhileCompared => (20, "compared"),
                Moment::BeforeMerge => (30, "ready"),
                Moment::WhileMerged => (40, "merged"),
                Moment::BeforeEnd => (50, "ending"),
            };
            change(target, first, tag);
            if moment == Moment::WhileMerged {
                change(&mut source, 60, "after");
            }
        });
        agree(cluster);
        for site in [1, 2] {
            let mut client = cluster.client(site);
            for (first, tag) in
                [(10, "before"), (20, "compared"), (30, "ready"), (40, "merged"), (50, "ending"), (60, "after")]
            {
                for key in some(first, 100) {
                    let gone = format!("EXISTS s:{key} s:{} s:{}", key + 3, key + 4);
                    assert_eq!(client.text(&gone), "0", "site {site} {tag}");
                    assert_eq!(client.text(&format!("GET s:{}", key + 1)), tag, "site {site}");
                    assert_eq!(client.text(&format!("STRLEN s:{}", key + 2)), (100 + tag.len()).to_string());
                    assert_eq!(client.text(&format!("STRLEN {tag}:{key}")), "100", "site {site}");
                    assert_eq!(client.text(&format!("STRLEN s:{}", key + 5)), "100", "site {site}");
                    assert_eq!(client.text(&format!("GET {tag}:new:{key}")), tag, "site {site}");
                }
                assert_eq!(client.text(&format!("SISMEMBER set {tag}")), "1", "site {site}");
            }
            assert_eq!(client.text("EXISTS lacks:1 lacks:2"), "0", "site {site}");
            assert_eq!(client.text("HGET h f"), "7", "site {site}: all six increments");
        }
    }

    /// What the snapshot lacks goes, also where as many keys of it have gone meanwhile, so that the number of keys is as if nothing were left over.
    fn what_the_snapshot_lacks_goes_though_the_number_of_keys_is_as_if_it_did_not(cluster: 2) {
        apart(cluster);
        let mut source = cluster.client(1);
        source.ok("DEL lacks:1 lacks:2");
        sync(cluster, |target, moment| match moment {
            // Merged before or after that, it is there all the same.
            Moment::WhileMerged => {
                target.ok("DEL s:7");
                target.ok("SET s:7 again");
            }
            // Two that are merged go, as many as the snapshot lacks; one comes, and one comes and goes.
            Moment::BeforeEnd => {
                target.ok("DEL s:8 s:9");
                target.ok("MSET come 1 comes 1");
                target.ok("DEL comes");
            }
            Moment::WhileCompared | Moment::BeforeMerge => {}
        });
        assert_eq!(cluster.client(2).text("EXISTS lacks:1 lacks:2 s:8 s:9 comes"), "0");
        assert_eq!(cluster.client(2).text("MGET come s:7"), "[1, again]");
        agree(cluster);
    }

    /// Who came back from an old state has other values at rest, or none: neither is the same, and what was the same and is deleted before the merge is not
    /// any more.
    fn a_target_that_came_back_from_an_old_state(cluster: 2) {
        fill(&mut cluster.client(1));
        at_rest(cluster);
        cluster.client(2).ok("SAVE");
        let mut source = cluster.client(1);
        for key in some(10, 100) {
            source.pipeline(&[
                format!("SET s:{key} news"),
                format!("DEL s:{}", key + 1),
                format!("SET later:{key} news"),
            ]);
        }
        source.ok("HSET h f 9 i 3");
        at_rest(cluster);
        [1, 2].into_iter().for_each(|site| cluster.site_mut(site).agent.kill());
        cluster.site_mut(2).server.restart();
        assert_eq!(cluster.client(2).text("STRLEN s:10"), "100", "it knows nothing of that");
        sync(cluster, |target, moment| {
            if moment == Moment::BeforeMerge {
                target.ok("DEL s:20 s:120");
            }
        });
        agree(cluster);
        for site in [1, 2] {
            let mut client = cluster.client(site);
            for key in some(10, 100) {
                assert_eq!(client.text(&format!("MGET s:{key} later:{key}")), "[news, news]", "site {site}");
                assert_eq!(client.text(&format!("EXISTS s:{}", key + 1)), "0", "site {site}");
            }
            assert_eq!(client.text("HMGET h f g i"), "[9, 2, 3]", "site {site}");
        }
    }

    /// A flush between two steps is one of all keys that were there.
    fn a_flush_at_the_target_between_the_steps_of_a_sync(cluster: 2) {
        apart(cluster);
        cluster.client(1).ok("SET s:1 news");
        sync(cluster, |target, moment| {
            if moment == Moment::BeforeMerge {
                target.ok("FLUSHALL");
                target.ok("SET s:2 mine");
            }
        });
        agree(cluster);
        for site in [1, 2] {
            let mut client = cluster.client(site);
            assert_eq!(client.text("MGET s:1 s:2"), "[news, mine]", "site {site}: what the flush had not seen");
            assert_eq!(client.text("DBSIZE"), "2", "site {site}");
        }
    }
}
