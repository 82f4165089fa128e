//! A full sync breaks off midway because somebody is killed, and is completed all the same, while clients write at both ends (DESIGN 5).

use syncer_tests::client::Client;
use syncer_tests::cluster::{Cluster, ClusterOptions};
use syncer_tests::members::{metadata, status, takes_writes};
use syncer_tests::{on_each_kind, wait};

fn figure(client: &mut Client, name: &str) -> u64 {
    let info = client.text("INFO syncer");
    let (_, rest) = info.split_once(&format!("syncer_{name}:")).unwrap_or_else(|| panic!("no {name}: {info}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

fn fill(client: &mut Client, name: &str) {
    let value = "x".repeat(100_000);
    (0..300).for_each(|key| drop(client.ok(&format!("SET {name}:{key} {value}"))));
}

/// Two sites with files, of which the second has to take some 30 MB from the first: more than all buffers between them hold.
fn apart(kind: syncer_tests::server::ServerKind) -> Cluster {
    let options = ClusterOptions {
        module: vec![("backlog-size", "1mb")],
        config: vec![("appendonly", "yes")],
        ..ClusterOptions::default()
    };
    let cluster = Cluster::with(&[kind; 2], &options);
    let (mut one, mut two) = (cluster.client(1), cluster.client(2));
    one.ok("MSET gone 1 total 1");
    one.ok("RPUSH l a b c");
    cluster.converged();
    cluster.cut(1, 2);
    fill(&mut one, "big");
    one.ok("DEL gone");
    one.ok("INCRBY total 10");
    two.ok("INCRBY total 100");
    two.ok("RPUSH l two");
    cluster
}

/// Heals the link and lets the target hang in the midst of the snapshot: then the source's child waits for it.
fn midway(cluster: &Cluster) {
    cluster.heal();
    let mut two = cluster.client(2);
    wait::eventually("the snapshot comes in", || figure(&mut two, "sync_full_keys") > 0);
    assert_eq!(figure(&mut two, "sync_full_in"), 0, "it is done already");
    cluster.site(2).server.process().pause();
}

/// What was written before and meanwhile is there once, and the sites are equal.
fn is_completed(cluster: &Cluster) {
    let (mut one, mut two) = (cluster.client(1), cluster.client(2));
    one.ok("INCRBY total 1000");
    two.ok("INCRBY total 10000");
    cluster.converged();
    assert_eq!(two.text("GET total"), "11111");
    assert_eq!(two.text("EXISTS gone"), "0");
    assert_eq!(one.text("LRANGE l 0 -1"), "[a, b, c, two]");
    assert_eq!(two.text("DBSIZE"), "302");
    assert!(figure(&mut two, "sync_full_in") >= 1);
}

on_each_kind! {
    /// Both need the other's snapshot, and the link breaks again and again.
    fn two_sites_take_turns_with_each_others_snapshots(kind) {
        let cluster = apart(kind);
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        fill(&mut two, "other");
        for _ in 0..3 {
            cluster.heal();
            wait::eventually("a snapshot comes in", || {
                let running = |client: &mut Client| figure(client, "sync_full_running") > 0;
                let both = running(&mut one) && running(&mut two) && running(&mut one);
                assert!(!both, "each is in the midst of the other's");
                [&mut one, &mut two].into_iter().any(|client| figure(client, "sync_full_keys") > 0)
            });
            cluster.cut(1, 2);
        }
        cluster.heal();
        cluster.converged();
        assert_eq!(one.text("MGET total"), "[111]");
        assert_eq!(two.text("DBSIZE"), "602");
        assert!(figure(&mut one, "sync_full_in") >= 1 && figure(&mut two, "sync_full_in") >= 1, "each needed one");
    }

    fn who_is_about_to_take_a_snapshot_gives_none(kind) {
        let cluster = Cluster::with(&[kind; 2], &ClusterOptions::default());
        cluster.converged();
        let (mut agent, mut other) = (cluster.client(1), cluster.client(1));
        assert_eq!(agent.text("SYNCER.SYNC PREPARE 2"), "OK");
        let refused = other.text("SYNCER.SNAPSHOT BEGIN 2");
        assert!(refused.starts_with("-SYNCERSYNC a full sync goes on here"), "{refused}");
        drop(agent);
        wait::eventually("it is over with its client", || !other.text("SYNCER.SNAPSHOT BEGIN 2").starts_with('-'));
    }

    fn the_child_of_the_source_is_killed(kind) {
        let cluster = apart(kind);
        midway(&cluster);
        cluster.site(1).server.process().kill_children();
        cluster.site(2).server.process().resume();
        is_completed(&cluster);
        assert!(figure(&mut cluster.client(1), "sync_full_out") >= 2, "it did not break off");
    }

    fn the_source_is_killed(kind) {
        let mut cluster = apart(kind);
        midway(&cluster);
        cluster.site_mut(1).server.kill();
        cluster.site(2).server.process().resume();
        // Half of it is here, and it is known to be half: the site goes on, and what it had is there.
        let mut two = cluster.client(2);
        two.ok("SET meanwhile v");
        two.ok("DEL meanwhile");
        cluster.site_mut(1).server.restart();
        is_completed(&cluster);
        assert!(figure(&mut cluster.client(1), "sync_full_out") >= 1, "it did not break off");
    }

    fn the_target_is_killed(kind) {
        let mut cluster = apart(kind);
        midway(&cluster);
        cluster.site_mut(2).server.kill();
        cluster.client(1).ok("INCRBY total 0");
        cluster.site_mut(2).server.restart();
        is_completed(&cluster);
        assert!(figure(&mut cluster.client(1), "sync_full_out") >= 2, "it did not break off");
    }

    /// It came back from an old file: what the others count as known everywhere is unknown to it until its full sync is done (2.2 rule 5).
    fn who_lacks_what_is_stable_takes_no_writes_meanwhile(kind) {
        let options = ClusterOptions { module: vec![("backlog-size", "1mb")], ..ClusterOptions::default() };
        let mut cluster = Cluster::with(&[kind; 2], &options);
        let mut one = cluster.client(1);
        one.ok("MSET k old gone v");
        cluster.converged();
        cluster.client(2).ok("SAVE");
        one.ok("SET k new");
        one.ok("DEL gone");
        cluster.converged();
        wait::eventually("it is stable", || metadata(&mut one) == 0);
        cluster.site_mut(2).server.kill();
        fill(&mut one, "big");
        cluster.site_mut(2).server.restart();
        let mut two = cluster.client(2);
        wait::eventually("the snapshot comes in", || figure(&mut two, "sync_full_keys") > 0);
        cluster.site(1).server.process().pause();
        assert!(two.text("SET k mine").starts_with("-SYNCERSYNC this instance lacks "), "{}", two.text("SET k mine"));
        assert!(status(&mut two, "writes").starts_with("SYNCERSYNC "));
        cluster.site(1).server.process().resume();
        takes_writes(&mut two);
        assert_eq!(two.text("MGET k gone"), "[new, (nil)]");
        two.ok("SET k mine");
        cluster.converged();
        assert_eq!(one.text("GET k"), "mine");
    }
}
