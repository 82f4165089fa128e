//! A backlog that does not reach back: a snapshot of the peer is merged, while clients write at both ends (MERGE_CASES A5, DESIGN 5).

use std::time::Duration;

use syncer_tests::agent::{Agent, AgentOptions};
use syncer_tests::chaos::link::{Link, Mode};
use syncer_tests::client::Client;
use syncer_tests::cluster::{Cluster, ClusterOptions};
use syncer_tests::figures::announced;
use syncer_tests::load::under_load;
use syncer_tests::members::{status, tell};
use syncer_tests::server::{Server, ServerKind, ServerOptions};
use syncer_tests::wait;

fn small_backlogs(kinds: &[ServerKind]) -> Cluster {
    let options = ClusterOptions { module: vec![("backlog-size", "1mb")], ..ClusterOptions::default() };
    Cluster::with(kinds, &options)
}

fn figure(client: &mut Client, name: &str) -> u64 {
    let info = client.text("INFO syncer");
    let (_, rest) = info.split_once(&format!("syncer_{name}:")).unwrap_or_else(|| panic!("no {name}: {info}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

/// Writes more than a backlog of 1 MB holds.
fn overflow(client: &mut Client, name: &str) {
    let value = "x".repeat(100_000);
    for key in 0..20 {
        client.ok(&format!("SET {name}:{key} {value}"));
    }
}

/// One of every type, some with a TTL, and what must be gone afterwards.
fn write_all_types(client: &mut Client, tag: &str) {
    for line in [
        format!("MSET s:{tag} v n:{tag} 41"),
        format!("INCR n:{tag}"),
        format!("HSET h:{tag} f 1 g 2"),
        format!("SADD set:{tag} a b c"),
        format!("ZADD z:{tag} 1 a 2.5 b"),
        format!("RPUSH l:{tag} 1 2 3"),
        format!("XADD x:{tag} 1-1 k v"),
        format!("SET t:{tag} v PX 10000000"),
        format!("SADD both {tag}"),
        "HINCRBY count f 5".to_owned(),
        "INCRBY total 7".to_owned(),
        "ZINCRBY board 2 m".to_owned(),
        "INCRBYFLOAT float 0.5".to_owned(),
    ] {
        client.ok(&line);
    }
}

fn scenario(kinds: &[ServerKind]) {
    let cluster = small_backlogs(kinds);
    let (mut one, mut two) = (cluster.client(1), cluster.client(2));
    write_all_types(&mut one, "before");
    one.ok("MSET gone 1 goes 1");
    one.ok("SADD shrinks a b c");
    cluster.converged();
    cluster.cut(1, 2);
    write_all_types(&mut one, "1");
    write_all_types(&mut two, "2");
    one.ok("DEL gone l:before");
    one.ok("SREM shrinks a");
    two.ok("SREM shrinks b");
    two.ok("DEL goes");
    one.ok("HSET h:before f one");
    two.ok("SELECT 3");
    two.ok("SET other database");
    two.ok("SELECT 0");
    overflow(&mut one, "big");
    cluster.heal();
    cluster.converged();
    assert_eq!(figure(&mut two, "sync_full_in"), 1, "site 2 could not read on");
    assert_eq!(two.text("INCRBY total 0"), "21");
    assert_eq!(two.text("HGET count f"), "15");
    assert_eq!(two.text("ZSCORE board m"), "6");
    assert_eq!(two.text("GET float"), "1.5");
    assert_eq!(two.text("EXISTS gone goes l:before"), "0");
    assert_eq!(two.text("SMEMBERS shrinks"), "[c]");
    assert_eq!(two.text("SCARD both"), "3");
    assert_eq!(two.text("HGET h:before f"), "one");
    assert!(one.text("PTTL t:2").parse::<i64>().is_ok_and(|ttl| ttl > 0));
    let log = cluster.site(2).server.log();
    let (begins, asked) = announced(&log);
    assert!(asked.is_some_and(|asked| asked < begins), "it begins behind what was asked for: {begins}, {asked:?}");
    // And on by the stream.
    one.ok("SET on streams");
    two.ok("SET on2 streams");
    cluster.converged();
}

#[test]
fn what_a_backlog_has_lost_comes_by_a_full_sync() {
    for kind in ServerKind::ALL {
        scenario(&[kind, kind]);
    }
}

#[test]
fn servers_of_other_versions_merge_each_others_snapshots() {
    scenario(&[ServerKind::Redis8, ServerKind::Valkey9]);
    scenario(&[ServerKind::Valkey9, ServerKind::Redis8]);
    scenario(&[ServerKind::Valkey8, ServerKind::Redis8]);
    scenario(&[ServerKind::Valkey8, ServerKind::Valkey9]);
}

/// It has read there before and is empty still: it takes a file, and says from where on it would have read.
#[test]
fn an_empty_site_that_was_away_takes_a_file() {
    for kind in ServerKind::ALL {
        let cluster = small_backlogs(&[kind, kind]);
        cluster.cut(1, 2);
        overflow(&mut cluster.client(1), "big");
        cluster.heal();
        cluster.converged();
        let log = cluster.site(2).server.log();
        assert!(log.contains(" keys as a file, since this instance is empty: "), "{log}");
        let (begins, asked) = announced(&log);
        assert!(asked.is_some_and(|asked| asked < begins), "it begins behind what was asked for: {begins}, {asked:?}");
        assert_eq!(figure(&mut cluster.client(2), "sync_full_in"), 1);
    }
}

/// I-6: no window of missing data. What both sites have is there throughout, at a target that merges.
#[test]
fn nothing_is_missing_at_the_target_meanwhile() {
    for kind in ServerKind::ALL {
        let cluster = small_backlogs(&[kind, kind]);
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        let names = |prefix: &str| (0..2000).map(|i| format!("{prefix}{i}")).collect::<Vec<_>>();
        let write = |client: &mut Client, prefix: &str| {
            for names in names(prefix).chunks(500) {
                client.ok(&format!("MSET {} v", names.join(" v ")));
            }
        };
        write(&mut one, "k");
        for line in ["RPUSH l 1 2 3", "XADD x 1-1 f v", "HSET h f v g v", "SADD s a b", "ZADD z 1 a"] {
            one.ok(line);
        }
        cluster.converged();
        cluster.cut(1, 2);
        (0..10).for_each(|more| write(&mut one, &format!("new{more}:")));
        overflow(&mut one, "one");
        overflow(&mut two, "two");
        cluster.heal();
        let (all, mut looks) = (format!("EXISTS {}", names("k").join(" ")), 0);
        wait::eventually("the snapshot is merged", || {
            let merges = status(&mut two, "full_sync").contains("merging");
            let there = [&all, "MGET k0 k1999", "LRANGE l 0 -1", "XLEN x", "HVALS h", "SCARD s", "ZSCORE z a"]
                .map(|line| two.text(line));
            assert_eq!(there, ["2000", "[v, v]", "[1, 2, 3]", "1", "[v, v]", "2", "1"], "{kind}");
            looks += usize::from(merges);
            figure(&mut two, "sync_full_in") == 1
        });
        assert!(looks > 0, "{kind}: nobody looked while it merged");
        cluster.converged();
    }
}

/// Both directions at once, with writers that go on: nothing lost, nothing doubled.
#[test]
fn clients_write_at_both_ends_throughout() {
    let mixed = [[ServerKind::Redis8, ServerKind::Valkey9], [ServerKind::Valkey8, ServerKind::Redis8]];
    for kinds in ServerKind::ALL.map(|kind| [kind; 2]).into_iter().chain(mixed) {
        let mut cluster = small_backlogs(&kinds);
        under_load(&mut cluster, |cluster, load| {
            for round in 0..2 {
                load.advance(50);
                cluster.cut(1, 2);
                overflow(&mut cluster.client(1), &format!("one:{round}"));
                overflow(&mut cluster.client(2), &format!("two:{round}"));
                load.advance(200);
                cluster.heal();
                load.advance(100);
            }
        });
        let full: u64 = [1, 2].map(|site| figure(&mut cluster.client(site), "sync_full_in")).iter().sum();
        assert!(full >= 2, "{full} full syncs");
    }
}

#[test]
fn an_operator_asks_for_a_full_sync() {
    for kind in ServerKind::ALL {
        let cluster = Cluster::new(&[kind, kind]);
        let mut one = cluster.client(1);
        write_all_types(&mut cluster.client(2), "2");
        cluster.converged();
        assert!(one.text("SYNCER.RESYNC 7").contains("no peer"));
        assert!(one.text("SYNCER.RESYNC 1").contains("no peer"));
        assert_eq!(one.text("SYNCER.RESYNC 2"), "OK");
        wait::eventually("the full sync is done", || figure(&mut one, "sync_full_in") == 1);
        cluster.client(2).ok("SET goes on");
        cluster.converged();
        assert_eq!(figure(&mut one, "sync_full_in"), 1);
        // It used to take the one that was done for wanted still, and to call the peer down for it.
        let log = cluster.site(1).agent.log();
        assert!(!log.contains("state=down") && !log.contains("a full sync is needed"), "{log}");
    }
}

/// Killed agents, and children that are killed, break a sync off; the next attempt completes it.
#[test]
fn a_sync_that_breaks_off_is_taken_up_again() {
    for kind in ServerKind::ALL {
        let mut cluster = small_backlogs(&[kind, kind]);
        let mut one = cluster.client(1);
        cluster.cut(1, 2);
        overflow(&mut one, "big");
        for key in 0..20_000 {
            one.send(&["SET", &format!("k:{key}"), "value"]).expect("the server is there");
        }
        (0..20_000).for_each(|_| drop(one.receive().expect("it answers")));
        let mut two = cluster.client(2);
        two.ok("INCRBY total 5");
        cluster.heal();
        for _ in 0..3 {
            wait::eventually("a full sync is under way, or done", || {
                figure(&mut two, "sync_full_keys") > 0 || figure(&mut two, "sync_full_in") > 0
            });
            cluster.site_mut(2).agent.kill();
            two.ok("INCRBY total 5");
            one.ok("INCRBY total 100");
            cluster.site_mut(2).agent.restart();
        }
        cluster.converged();
        assert!(figure(&mut two, "sync_full_in") >= 1);
        assert_eq!(two.text("GET total"), "320");
    }
}

/// No fork is possible while another child runs: the agent says so, waits and retries.
#[test]
fn a_source_that_saves_is_waited_for() {
    for kind in ServerKind::ALL {
        let cluster = small_backlogs(&[kind, kind]);
        let mut one = cluster.client(1);
        cluster.cut(1, 2);
        overflow(&mut one, "big");
        // The child of BGSAVE sleeps for a second after each key.
        one.ok("CONFIG SET rdb-key-save-delay 1000000");
        one.ok("BGSAVE");
        cluster.heal();
        let mut two = cluster.client(2);
        wait::eventually("the cause is told", || two.text("SYNCER.PEERS").contains("another child process"));
        assert_eq!(figure(&mut two, "sync_full_in"), 0);
        one.ok("CONFIG SET rdb-key-save-delay 0");
        one.ok("CONFIG SET save \"\"");
        let child = one.text("INFO persistence");
        assert!(child.contains("rdb_bgsave_in_progress:1"), "{child}");
        cluster.site(1).server.process().kill_children();
        cluster.converged();
        assert_eq!(figure(&mut two, "sync_full_in"), 1);
    }
}

/// The source knows how far its readers are from losing their place, and its agent says so before they do.
#[test]
fn a_reader_that_falls_behind_is_told_of_before_it_needs_a_full_sync() {
    for kind in ServerKind::ALL {
        let cluster = small_backlogs(&[kind, kind]);
        let mut one = cluster.client(1);
        one.ok("SET k v");
        cluster.converged();
        let peers = one.text("SYNCER.PEERS");
        assert!(peers.contains("reading, 1, headroom_bytes, 10"), "{peers}");
        cluster.cut(1, 2);
        let value = "x".repeat(100_000);
        (0..7).for_each(|key| drop(one.ok(&format!("SET big:{key} {value}"))));
        let agent = &cluster.site(1).agent;
        wait::eventually("the agent of the source warns", || agent.log().contains("backlog: the peer is behind"));
        let peers = one.text("SYNCER.PEERS");
        assert!(peers.contains("reading, 0, headroom_bytes, 3"), "{peers}");
        let is_told = |peers: &str| field(peers, "headroom_seconds").is_some_and(|seconds| seconds < 1_000);
        wait::eventually("at the rate of the writes", || {
            one.ok(&format!("SET small {}", "x".repeat(1_000)));
            is_told(&one.text("SYNCER.PEERS"))
        });
        (7..20).for_each(|key| drop(one.ok(&format!("SET big:{key} {value}"))));
        wait::eventually("and says when it is too late", || {
            agent.log().contains("it needs a full sync; raise backlog-size")
        });
        cluster.heal();
        cluster.converged();
        wait::eventually("and when it is over", || agent.log().contains("backlog: the peer has caught up"));
    }
}

/// A number in an answer with names before values.
fn field(answer: &str, name: &str) -> Option<u64> {
    let (_, rest) = answer.split_once(&format!("{name}, "))?;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

/// What is copied is merged now, and that is told as well.
fn merging(target: &Server, agent: &Agent, keys_total: u64) {
    let mut client = target.client();
    let merges =
        |progress: &str| progress.contains("phase, merging") && field(progress, "keys").is_some_and(|keys| keys > 0);
    wait::eventually("a part of it is merged", || merges(&status(&mut client, "full_sync")));
    agent.process().pause();
    let progress = status(&mut client, "full_sync");
    let number = |name| field(&progress, name).unwrap_or_else(|| panic!("no {name}: {progress}"));
    let [keys, total, percent, bytes, rate, _] =
        ["keys", "keys_total", "percent", "bytes", "keys_per_second", "seconds_left"].map(number);
    assert!(merges(&progress) && keys < total && total == keys_total && percent == keys * 100 / total, "{progress}");
    assert!(bytes > keys * 500 && rate > 0, "{progress}");
    let (done, table) = tell(&["status", "--local", &format!("redis://127.0.0.1:{}", target.port())]);
    // What it had asked for already goes on.
    assert!(
        done && table.contains("from instance 1: merging, ") && table.contains(&format!(" of {total} keys (")),
        "{table}"
    );
    // The agent tells how far it is once a second. The rate says how long it has been.
    wait::eventually("that has passed", || {
        let progress = status(&mut client, "full_sync");
        let [keys, rate] = ["keys", "keys_per_second"].map(|name| field(&progress, name).expect("a number"));
        rate * 11 < keys * 10
    });
    agent.process().resume();
    let told = format!(" of {total} keys merged (");
    wait::eventually("the agent tells it", || client.text("SYNCER.PEERS").contains(&told));
}

/// How far it is stands in STATUS, in PEERS, in INFO and in what `syncer-agent status` says.
#[test]
fn how_far_a_full_sync_is_can_be_seen() {
    const KEYS: u64 = 24_000;
    for kind in ServerKind::ALL {
        let [source, target] =
            [1, 2].map(|id| Server::start(kind, ServerOptions::instance(id).module_arg("backlog-size", "1mb")));
        let mut client = target.client();
        let agents = [(&source, 2, &target), (&target, 1, &source)]
            .map(|(local, id, peer)| Agent::start(AgentOptions::beside(local.port()).peer(id, peer.port())));
        source.client().ok("SET own v");
        wait::eventually("they know each other", || client.text("GET own") == "v");
        drop(agents);
        let value = "x".repeat(500);
        let lines: Vec<String> = (0..KEYS).map(|key| format!("SET key:{key} {value}")).collect();
        lines.chunks(1_000).for_each(|lines| drop(source.client().pipeline(lines)));
        let link = Link::start(source.port()).expect("there is a port");
        link.set(Mode::Slow { bytes_per_second: 1_000_000, latency: Duration::ZERO });
        let agent = Agent::start(AgentOptions::beside(target.port()).peer(1, link.port()));
        wait::eventually("the cause of the full sync tells how far it is", || {
            client.text("SYNCER.PEERS").contains(" s left")
        });
        let peers = client.text("SYNCER.PEERS");
        for part in ["state, syncing", " of 24001 keys copied (", " %), ", " bytes so far, ", " per second, "] {
            assert!(peers.contains(part), "{part}: {peers}");
        }
        let progress = status(&mut client, "full_sync");
        let number = |name| field(&progress, name).unwrap_or_else(|| panic!("no {name}: {progress}"));
        let [keys, total, percent, bytes, rate, left] =
            ["keys", "keys_total", "percent", "bytes", "keys_per_second", "seconds_left"].map(number);
        assert!(number("source") == 1 && progress.contains("phase, copying"), "{progress}");
        assert!(0 < keys && keys < KEYS && total == KEYS + 1 && percent == keys * 100 / total, "{progress}");
        assert!(bytes > keys * 500 && bytes < keys * 1_000, "{progress}");
        let expected = (total - keys) / rate.max(1);
        assert!(rate > 0 && left <= expected + 1 && left + 1 >= expected, "{progress}");
        assert!(
            figure(&mut client, "sync_full_keys") >= keys && figure(&mut client, "sync_full_keys_total") == KEYS + 1
        );
        let (done, table) = tell(&["status", "--local", &format!("redis://127.0.0.1:{}", target.port())]);
        assert!(
            done && table.contains("full sync  from instance 1: copying, ") && table.contains(" of 24001 keys ("),
            "{table}"
        );
        assert!(table.contains(" keys/s, ") && table.contains(" s left"), "{table}");
        link.set(Mode::Whole);
        merging(&target, &agent, KEYS + 1);
        wait::eventually("it is done", || figure(&mut client, "sync_full_in") == 1);
        assert_eq!(status(&mut client, "full_sync"), "(nil)", "and then nothing goes on");
        assert_eq!(client.text("DBSIZE"), (KEYS + 1).to_string());
    }
}
