//! A full sync breaks off midway because somebody is killed, and is completed all the same, while clients write at both ends (DESIGN 5).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use syncer_tests::agent::Agent;
use syncer_tests::client::Client;
use syncer_tests::cluster::{Cluster, ClusterOptions};
use syncer_tests::members::{metadata, status, takes_writes};
use syncer_tests::nodes::{Pair, number};
use syncer_tests::server::ServerKind;
use syncer_tests::{on_each_kind, wait};

fn figure(client: &mut Client, name: &str) -> u64 {
    let info = client.text("INFO syncer");
    let (_, rest) = info.split_once(&format!("syncer_{name}:")).unwrap_or_else(|| panic!("no {name}: {info}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

/// Many keys, some 12 MB: a backlog of 1 MB does not hold them, and merging them takes long enough to be interrupted.
fn fill(client: &mut Client, name: &str) {
    const KEYS: usize = 24_000;
    const AT_ONCE: usize = 200;
    let value = "x".repeat(500);
    for first in (0..KEYS).step_by(AT_ONCE) {
        let pairs = (first..first + AT_ONCE).map(|key| format!("{name}:{key} {value}"));
        client.ok(&format!("MSET {}", pairs.collect::<Vec<_>>().join(" ")));
    }
}

/// How many keys that makes.
const FILLED: u64 = 24_000;

fn options(config: &[(&'static str, &'static str)]) -> ClusterOptions {
    ClusterOptions { module: vec![("backlog-size", "1mb")], config: config.to_vec(), ..ClusterOptions::default() }
}

/// Two sites with append-only files, of which the second has to take all that the first has.
fn apart(kind: ServerKind) -> Cluster {
    apart_with(kind, &[("appendonly", "yes"), ("appendfsync", "always")])
}

fn apart_with(kind: ServerKind, config: &[(&'static str, &'static str)]) -> Cluster {
    let cluster = Cluster::with(&[kind; 2], &options(config));
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

/// Waits until a site has merged a part of a snapshot, and lets its agent hang there.
fn midway(cluster: &Cluster, target: u8) {
    let mut client = cluster.client(target);
    wait::eventually("a part of the snapshot is merged", || {
        figure(&mut client, "sync_full_running") > 0 && figure(&mut client, "sync_full_keys") > 0
    });
    cluster.site(target).agent.process().pause();
    assert_eq!(figure(&mut client, "sync_full_in"), 0, "it is done already");
    assert!(client.text("SYNCER.SYNC STATUS").contains("RUNNING"));
}

/// The names of the files of an agent that end so.
fn spooled(agent: &Agent, end: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(agent.spool_dir()).into_iter().flatten().flatten().map(|entry| entry.path());
    files.filter(|path| path.to_string_lossy().ends_with(end)).collect()
}

/// Waits until an agent has copied a part of a snapshot, and lets it hang there.
fn copying(cluster: &Cluster, target: u8) {
    let agent = &cluster.site(target).agent;
    wait::eventually("a snapshot is being copied", || !spooled(agent, ".part").is_empty());
    agent.process().pause();
    assert!(spooled(agent, ".snapshot").is_empty(), "it is whole already");
    assert_eq!(figure(&mut cluster.client(target), "sync_full_running"), 0, "nothing of it is merged yet");
}

/// Snapshots that a site was asked for since it started.
fn snapshots_of(cluster: &Cluster, source: u8) -> usize {
    cluster.site(source).server.log().matches("a child writes a snapshot").count()
}

fn is_merged(client: &mut Client) {
    wait::eventually("the snapshot is merged", || figure(client, "sync_full_in") == 1);
    assert!(client.text("SYNCER.SYNC STATUS").starts_with("[NONE"));
    assert_eq!(client.text("EXISTS big:0 big:23999 gone"), "2");
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
    assert_eq!(two.text("DBSIZE"), (FILLED + 2).to_string());
    assert!(figure(&mut two, "sync_full_in") >= 1);
    let agent = &cluster.site(2).agent;
    wait::eventually("what is durable is in no file", || {
        spooled(agent, "").iter().all(|path| path.to_string_lossy().ends_with(".lock"))
    });
}

on_each_kind! {
    fn the_source_is_gone_for_good_while_its_snapshot_is_merged(kind) {
        let mut cluster = apart(kind);
        cluster.heal();
        midway(&cluster, 2);
        let snapshots = snapshots_of(&cluster, 1);
        cluster.site_mut(1).server.kill();
        let file = spooled(&cluster.site(2).agent, ".snapshot").remove(0);
        assert_eq!(fs::metadata(file).expect("it is there").permissions().mode() & 0o777, 0o600, "it holds users' data");
        cluster.site(2).agent.process().resume();
        is_merged(&mut cluster.client(2));
        assert_eq!(snapshots, 1);
        cluster.site_mut(1).server.restart();
        is_completed(&cluster);
    }

    /// The next one finds the file, and needs the source no more than the first did.
    fn the_agent_is_killed_while_it_merges(kind) {
        let mut cluster = apart(kind);
        cluster.heal();
        midway(&cluster, 2);
        cluster.cut(1, 2);
        cluster.site_mut(2).agent.restart();
        is_merged(&mut cluster.client(2));
        assert!(cluster.site(2).server.log().contains("full sync from instance 1 goes on"), "it began anew");
        cluster.heal();
        is_completed(&cluster);
        assert_eq!((snapshots_of(&cluster, 1), figure(&mut cluster.client(1), "sync_full_out")), (1, 1));
    }

    fn the_target_is_killed_while_it_merges(kind) {
        let mut cluster = apart(kind);
        cluster.heal();
        midway(&cluster, 2);
        cluster.cut(1, 2);
        cluster.site_mut(2).server.kill();
        cluster.site(2).agent.process().resume();
        cluster.site_mut(2).server.restart();
        is_merged(&mut cluster.client(2));
        cluster.heal();
        is_completed(&cluster);
        assert_eq!(snapshots_of(&cluster, 1), 1);
    }

    /// It has RDB files only, and the last one is from the middle of the merge: what came after is lost, but the snapshot is not.
    fn the_target_comes_back_from_a_file_of_midway(kind) {
        // Without save points nothing of it would count as durable, or all: then the snapshot's file goes at once.
        let mut cluster = apart_with(kind, &[("save", "3600 1000000000")]);
        cluster.client(1).ok("SAVE");
        cluster.heal();
        midway(&cluster, 2);
        cluster.client(2).ok("SAVE");
        cluster.site(2).agent.process().resume();
        is_merged(&mut cluster.client(2));
        cluster.site_mut(1).server.kill();
        cluster.site_mut(2).server.kill();
        cluster.site_mut(2).server.restart();
        is_merged(&mut cluster.client(2));
        // The end of a `SAVE` is told in whole seconds.
        wait::eventually("the merge is saved", || {
            cluster.client(2).ok("SAVE");
            spooled(&cluster.site(2).agent, ".snapshot").is_empty()
        });
        cluster.site_mut(1).server.restart();
        is_completed(&cluster);
    }

    /// The replica has followed the merge: it knows how far it had come.
    fn the_target_fails_over_while_it_merges(kind) {
        let mut pair = Pair::start(kind, 2, &[]);
        pair.one.client().ok("INCRBY total 1");
        pair.agree();
        let mut source = pair.two.client();
        source.ok("CONFIG SET syncer.backlog-size 1mb");
        pair.stop_agents();
        fill(&mut source, "big");
        source.ok("INCRBY total 10");
        pair.one.client().ok("INCRBY total 100");
        pair.restart_agents();
        let figure = |name: &str| number(&pair.one.nodes[0], name);
        wait::eventually("a part of the snapshot is merged", || {
            figure("sync_full_running") > 0 && figure("sync_full_keys") > 0
        });
        let agent = pair.one.agent.as_ref().expect("it runs");
        agent.process().pause();
        assert_eq!(number(&pair.one.nodes[0], "sync_full_in"), 0, "it is done already");
        let knows = || pair.one.nodes[1].client().text("SYNCER.SYNC STATUS").starts_with("[BROKEN");
        wait::eventually("the replica knows", knows);
        pair.one.nodes[0].kill();
        pair.two.nodes[0].process().pause();
        pair.one.nodes[1].client().ok("REPLICAOF NO ONE");
        agent.process().resume();
        wait::eventually("the snapshot is merged", || number(&pair.one.nodes[1], "sync_full_in") == 1);
        pair.two.nodes[0].process().resume();
        wait::eventually("both instances agree", || pair.agree_now());
        assert_eq!(pair.one.client().text("GET total"), "111");
        assert_eq!(pair.one.client().text("DBSIZE"), (FILLED + 1).to_string());
        assert_eq!(pair.two.nodes[0].log().matches("a child writes a snapshot").count(), 1);
    }

    /// Before the source forks in vain.
    fn a_folder_that_cannot_be_written_to_is_told(kind) {
        let cluster = apart(kind);
        let (folder, mut two) = (cluster.site(2).agent.spool_dir(), cluster.client(2));
        fs::remove_dir_all(&folder).expect("it is there");
        fs::write(&folder, b"no folder").expect("it can be written");
        cluster.heal();
        wait::eventually("the cause is told", || two.text("SYNCER.PEERS").contains("or set spool-dir"));
        assert_eq!((snapshots_of(&cluster, 1), figure(&mut two, "sync_full_in")), (0, 0));
        fs::remove_file(&folder).expect("it can be removed");
        is_completed(&cluster);
    }

    fn a_file_that_is_damaged_is_noticed_and_replaced(kind) {
        let mut cluster = apart(kind);
        cluster.heal();
        midway(&cluster, 2);
        cluster.site_mut(2).agent.kill();
        let path = spooled(&cluster.site(2).agent, ".snapshot").remove(0);
        let mut bytes = fs::read(&path).expect("it is there");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).expect("it can be damaged");
        cluster.site_mut(2).agent.restart();
        is_completed(&cluster);
        let log = cluster.site(2).agent.log();
        assert!(log.contains("is damaged: its hash is another one"), "{log}");
        assert_eq!(snapshots_of(&cluster, 1), 2);
    }

    fn the_child_of_the_source_is_killed_while_it_is_copied(kind) {
        let cluster = apart(kind);
        cluster.heal();
        copying(&cluster, 2);
        assert_eq!(cluster.site(1).server.process().kill_children(), 1);
        cluster.site(2).agent.process().resume();
        is_completed(&cluster);
        assert_eq!(snapshots_of(&cluster, 1), 2);
    }

    /// Nothing is half merged then: the site goes on as if there had been no full sync.
    fn the_source_is_killed_while_it_is_copied(kind) {
        let mut cluster = apart(kind);
        cluster.heal();
        copying(&cluster, 2);
        cluster.site_mut(1).server.kill();
        cluster.site(2).agent.process().resume();
        let mut two = cluster.client(2);
        wait::eventually("the part is removed", || spooled(&cluster.site(2).agent, ".part").is_empty());
        assert!(two.text("SYNCER.SYNC STATUS").starts_with("[NONE"));
        cluster.site_mut(1).server.restart();
        is_completed(&cluster);
    }

    /// The next one removes what it left, and begins anew.
    fn the_agent_is_killed_while_it_copies(kind) {
        let mut cluster = apart(kind);
        cluster.heal();
        copying(&cluster, 2);
        cluster.site_mut(2).agent.kill();
        let left = spooled(&cluster.site(2).agent, ".part");
        assert_eq!(left.len(), 1, "{left:?}");
        let mut two = cluster.client(2);
        wait::eventually("it is over with its client", || status(&mut two, "full_sync") == "(nil)");
        assert!(two.text("SYNCER.SYNC STATUS").starts_with("[NONE"), "nothing of it is here");
        for site in [1, 2] {
            cluster.client(site).ok("INCRBY meanwhile 1");
        }
        cluster.site_mut(2).agent.restart();
        cluster.converged();
        assert_eq!(two.text("GET meanwhile"), "2");
        two.ok("DEL meanwhile");
        is_completed(&cluster);
        assert!(!left[0].exists(), "{left:?}");
        assert_eq!(snapshots_of(&cluster, 1), 2);
    }

    fn the_target_is_killed_while_it_is_copied(kind) {
        let mut cluster = apart(kind);
        cluster.heal();
        copying(&cluster, 2);
        cluster.site_mut(2).server.kill();
        cluster.client(1).ok("INCRBY meanwhile 1");
        cluster.site(2).agent.process().resume();
        cluster.site_mut(2).server.restart();
        cluster.client(1).ok("DEL meanwhile");
        is_completed(&cluster);
    }

    fn the_link_is_cut_while_it_is_copied(kind) {
        let cluster = apart(kind);
        cluster.heal();
        copying(&cluster, 2);
        cluster.cut(1, 2);
        cluster.site(2).agent.process().resume();
        wait::eventually("the part is removed", || spooled(&cluster.site(2).agent, ".part").is_empty());
        assert!(spooled(&cluster.site(2).agent, ".snapshot").is_empty(), "it is whole");
        for site in [1, 2] {
            cluster.client(site).ok("INCRBY meanwhile 1");
        }
        cluster.heal();
        cluster.converged();
        cluster.client(2).ok("DEL meanwhile");
        is_completed(&cluster);
        assert_eq!(snapshots_of(&cluster, 1), 2);
    }

    /// Each is in the midst of the other's. Neither needs the other to finish.
    fn two_sites_merge_each_others_snapshots_at_once(kind) {
        let cluster = apart(kind);
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        fill(&mut two, "other");
        cluster.site(1).agent.process().pause();
        cluster.heal();
        copying(&cluster, 2);
        cluster.site(1).agent.process().resume();
        midway(&cluster, 1);
        cluster.site(2).agent.process().resume();
        midway(&cluster, 2);
        cluster.cut(1, 2);
        [1, 2].into_iter().for_each(|site| cluster.site(site).agent.process().resume());
        is_merged(&mut two);
        is_merged(&mut one);
        cluster.heal();
        cluster.converged();
        assert_eq!(one.text("GET total"), "111");
        assert_eq!(two.text("DBSIZE"), (2 * FILLED + 2).to_string());
    }

    /// Found by chaos (seed 11): the source of a half-merged snapshot comes back from an older file, while a third site has a part of a
    /// snapshot of the target. Each waited for another for ever.
    fn a_source_that_lost_its_tail_is_not_waited_for(kind) {
        let mut cluster = Cluster::with(&[kind; 3], &options(&[]));
        let [mut one, mut two, mut three] = [1, 2, 3].map(|site| cluster.client(site));
        one.ok("SET total 1");
        cluster.converged();
        one.ok("SAVE");
        cluster.cut_all();
        fill(&mut one, "big");
        fill(&mut two, "other");
        one.ok("SET lost here");
        cluster.site(1).agent.process().pause();
        cluster.heal_between(2, 3);
        midway(&cluster, 3);
        cluster.heal_between(1, 2);
        midway(&cluster, 2);
        cluster.site_mut(1).server.kill();
        cluster.site_mut(1).server.restart();
        assert_eq!(cluster.client(1).text("EXISTS lost big:0"), "0", "it came back from the older file");
        cluster.heal();
        (1..=3).for_each(|site| cluster.site(site).agent.process().resume());
        is_merged(&mut two);
        cluster.converged();
        assert_eq!(cluster.client(1).text("GET lost"), "here", "what another site had came back");
        assert_eq!(three.text("DBSIZE"), (2 * FILLED + 2).to_string());
    }

    /// Modules serve agents of earlier releases, which merge as they copy.
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

    /// The source has one snapshot for an instance: the copies of two agents would end each other.
    fn one_agent_at_a_time_copies_a_snapshot(kind) {
        let cluster = Cluster::with(&[kind; 2], &ClusterOptions::default());
        let (mut agent, mut other) = (cluster.client(1), cluster.client(1));
        assert_eq!(agent.text("SYNCER.SYNC COPY 2 5 10 1000"), "OK");
        assert!(agent.text("SYNCER.STATUS").contains("percent, 50"), "{}", agent.text("SYNCER.STATUS"));
        let refused = other.text("SYNCER.SYNC COPY 2 0 0 0");
        assert!(refused.starts_with("-SYNCERSYNC another agent is bringing a full sync from instance 2"), "{refused}");
        assert_eq!(other.text("SYNCER.SYNC STATUS"), "[NONE, [], []]", "nothing of it is here");
        assert_ne!(other.text("SYNCER.SNAPSHOT BEGIN 2").chars().next(), Some('-'), "it serves others meanwhile");
        drop(agent);
        wait::eventually("it is over with its client", || other.text("SYNCER.SYNC COPY 2 0 0 0") == "OK");
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
        wait::eventually("the snapshot comes in", || {
            figure(&mut two, "sync_full_running") > 0 && figure(&mut two, "sync_full_keys") > 0
        });
        cluster.site(2).agent.process().pause();
        assert!(two.text("SET k mine").starts_with("-SYNCERSYNC this instance lacks "), "{}", two.text("SET k mine"));
        assert!(status(&mut two, "writes").starts_with("SYNCERSYNC "));
        cluster.site(2).agent.process().resume();
        takes_writes(&mut two);
        assert_eq!(two.text("MGET k gone"), "[new, (nil)]");
        two.ok("SET k mine");
        cluster.converged();
        assert_eq!(one.text("GET k"), "mine");
    }
}
