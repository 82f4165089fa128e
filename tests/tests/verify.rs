//! `syncer-agent verify`: finds what differs, names it, and never cries wolf.

use std::fs::{self, File};
use std::io::Write;

use syncer_tests::agent::Agent;
use syncer_tests::bench::cpu;
use syncer_tests::client::{encode, words};
use syncer_tests::cluster::{Cluster, ClusterOptions};
use syncer_tests::load::under_load;
use syncer_tests::members::metadata;
use syncer_tests::verify::{Verified, verify};
use syncer_tests::{artifact, on_all_kinds, on_each_kind, wait};

/// Has another module do something that no event tells of, as a defect would: nothing is captured.
fn plant(cluster: &Cluster, instance: u8, write: &str, look: &str, expected: &str) {
    let mut client = cluster.client(instance);
    if client.text(write).starts_with("-ERR unknown command") {
        client.ok(&format!("MODULE LOAD {}", artifact::other_module().display()));
        client.ok(write);
    }
    wait::eventually("the timer has run", || client.text(look) == expected);
}

/// The same for what modules have no calls for: behind all that is in the append-only file of a site that is down.
fn plant_in_file(cluster: &mut Cluster, instance: u8, lines: &[&str]) {
    let server = &mut cluster.site_mut(instance).server;
    server.kill();
    let files = fs::read_dir(server.folder().join("appendonlydir")).expect("it has one").flatten();
    let path = files.map(|file| file.path()).find(|path| path.to_string_lossy().contains(".incr."));
    let mut bytes = Vec::new();
    lines.iter().for_each(|line| encode(&words(line), &mut bytes));
    let mut file = File::options().append(true).open(path.expect("there is one")).expect("it is ours");
    file.write_all(&bytes).expect("it can be written");
    server.restart();
}

/// What is said of a key that differs.
fn line_of<'a>(text: &'a str, key: &str) -> &'a str {
    let mut found = text.lines().filter(|line| line.starts_with(&format!("DIFFERS {key}: ")));
    found.next().unwrap_or_else(|| panic!("{key}: {text}"))
}

/// What each of three sites has of it: `instance: size, TTL, digest`.
fn sides<'a>(text: &'a str, key: &str) -> [&'a str; 3] {
    let sides = line_of(text, key).split("; ").map(|side| side.rsplit_once("instance ").map_or(side, |(_, side)| side));
    sides.collect::<Vec<_>>().try_into().unwrap_or_else(|_| panic!("{key}: {text}"))
}

/// All have so much of it, and this site something else than the others.
fn other_digest(text: &str, key: &str, size: &str, instance: usize) {
    let mut sides = sides(text, key).to_vec();
    assert!(sides.iter().all(|side| side.contains(&format!(": {size}, digest "))), "{key}: {text}");
    let other = sides.remove(instance - 1);
    let digests = [sides[0], sides[1], other].map(|side| side.rsplit_once("digest ").map(|(_, digest)| digest));
    assert!(digests[0].is_some() && digests[0] == digests[1] && digests[0] != digests[2], "{key}: {text}");
}

/// So many keys that a comparison takes a while; everything is at rest then.
fn fill(cluster: &mut Cluster) {
    const KEYS: u64 = 100_000;
    let lines: Vec<String> = (0..KEYS).map(|key| format!("SET key:{key} {key}")).collect();
    let mut one = cluster.client(1);
    lines.chunks(1_000).for_each(|lines| drop(one.pipeline(lines)));
    cluster.converged();
    for site in [1, 2] {
        wait::eventually("the metadata is pruned", || metadata(&mut cluster.client(site)) == 0);
    }
}

/// How long a comparison took, as it says itself: by hand, or in the log.
fn seconds(text: &str) -> Option<f64> {
    let (_, rest) = text.split_once("compared in ").or_else(|| text.split_once("seconds="))?;
    rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect::<String>().parse().ok()
}

on_all_kinds! {
    fn a_planted_difference_is_found_and_named(cluster: 3) {
        let mut one = cluster.client(1);
        for key in 0..500 {
            one.ok(&format!("SET key:{key} {key}"));
            one.ok(&format!("HSET {{tag}}:{key} f {key} g 1"));
        }
        one.ok("SADD set a b c");
        one.ok("SELECT 3");
        one.ok("ZADD board 1.5 a");
        cluster.converged();
        let Verified { status, text } = verify(cluster);
        assert_eq!((status, text.contains("are equal: 1002 keys")), (0, true), "{text}");

        one.ok("SELECT 0");
        one.ok("SET only 0123456789");
        one.ok("HSET all f v");
        one.ok("HSET same f before");
        one.ok("SET lasting v");
        one.ok("SET lives v PX 90000000");
        cluster.converged();
        for instance in [1, 3] {
            plant(cluster, instance, "OTHER.DROPLATER only", "EXISTS only", "0");
        }
        plant(cluster, 2, "OTHER.SILENTLATER all g w", "HGET all g", "w");
        // Of the same size.
        plant(cluster, 3, "OTHER.SILENTLATER same f behind", "HGET same f", "behind");
        // The same value, but for another time; or for ever elsewhere.
        let is_short = |key: &str| format!("EVAL \"local ms = redis.call('pttl', KEYS[1]) return ms > 0 and ms < 60000000\" 1 {key}");
        plant(cluster, 1, "OTHER.EXPIRELATER lives 50000000", &is_short("lives"), "1");
        plant(cluster, 2, "OTHER.EXPIRELATER lasting 50000000", &is_short("lasting"), "1");
        let Verified { status, text } = verify(cluster);
        assert_eq!(status, 1, "{text}");
        let found: Vec<&str> = text.lines().filter(|line| line.starts_with("DIFFERS")).collect();
        assert_eq!(found.len(), 5, "{text}");
        let [all, only] = ["db 0 key all", "db 0 key only"].map(|key| line_of(&text, key));
        assert!(all.contains("key all: instance 1: hash of 1 ") && all.contains("instance 2: hash of 2 "), "{text}");
        assert!(only.contains("key only: instance 1: absent") && only.contains("instance 2: string of 10 bytes"), "{text}");
        assert!(only.contains("instance 3: absent"), "{text}");
        other_digest(&text, "db 0 key same", "hash of 1 elements", 3);
        let at = |side: &str| side.split_once("expires at ").and_then(|(_, at)| at.split(',').next()?.parse::<u64>().ok());
        let [one, two, three] = sides(&text, "db 0 key lives");
        assert!(at(one) < at(two) && at(two) == at(three) && at(one).is_some(), "{text}");
        let [one, two, three] = sides(&text, "db 0 key lasting");
        assert!(at(one).is_none() && at(two).is_some() && at(three).is_none(), "{text}");
    }

    fn writes_that_go_on_are_no_difference(cluster: 2) {
        under_load(cluster, |cluster, load| {
            for _ in 0..5 {
                load.advance(20);
                let Verified { status, text } = verify(cluster);
                assert_eq!(status, 0, "{text}");
            }
            cluster.client(2).ok("HSET planted f v");
            let mut one = cluster.client(1);
            wait::eventually("it has come", || one.text("HGET planted f") == "v");
            plant(cluster, 1, "OTHER.SILENTLATER planted g w", "HGET planted g", "w");
            let Verified { status, text } = verify(cluster);
            assert_eq!(status, 1, "{text}");
            assert!(text.contains("key planted:") && text.matches("DIFFERS").count() == 1, "{text}");
            one.ok("DEL planted");
        });
    }

    fn the_agent_compares_in_the_background(cluster: 2) {
        let urls = cluster.site(1).agent.options().clone();
        let agent = Agent::start(urls.arg("--verify-every-s").arg("1"));
        cluster.client(1).ok("SET k v");
        wait::eventually("the agent has compared", || agent.log().contains("verify: sites are equal"));
        plant(cluster, 1, "OTHER.DROPLATER k", "EXISTS k", "0");
        let found = || agent.log().contains("db 0 key k: instance 1: absent; instance 2: string of 1 bytes");
        wait::eventually("the agent logs what differs", found);
    }

    /// The share of a server's main thread that the documentation promises, with slack: what a server does by itself counts, too, and slices end with a key.
    /// On a busy machine it takes longer, which makes the share smaller.
    fn it_takes_a_bounded_share_of_each_main_thread(cluster: 2) {
        fill(cluster);
        let servers = [1, 2].map(|site| cluster.site(site).server.process().pid());
        let share = |text: &dyn Fn() -> String| {
            let before = servers.map(cpu::used);
            let text = text();
            let used = servers.map(cpu::used);
            let seconds = seconds(&text).unwrap_or_else(|| panic!("it does not say how long it took: {text}"));
            assert!(text.contains("are equal"), "{text}");
            [0, 1].map(|at| (used[at] - before[at]).as_secs_f64() / seconds)
        };
        let quick = share(&|| verify(cluster).text);
        let urls = cluster.site(1).agent.options().clone();
        let gentle = share(&|| {
            let agent = Agent::start(urls.clone().arg("--verify-every-s").arg("1"));
            wait::eventually("the agent has compared", || agent.log().contains("verify: sites are equal"));
            agent.log()
        });
        println!("share of the main threads: {quick:.3?} by hand, {gentle:.3?} in the background");
        assert!(quick.iter().all(|share| *share < 1.5 / 3.0), "a third is promised: {quick:?}");
        assert!(gentle.iter().all(|share| *share < 2.0 / 20.0), "a twentieth is promised: {gentle:?}");
    }

    /// It used to say that they are equal, after waiting for each of their keys.
    fn sites_that_stand_apart_are_not_called_equal(cluster: 2) {
        cluster.client(1).ok("SET k v");
        cluster.converged();
        [1, 2].into_iter().for_each(|site| cluster.site_mut(site).agent.kill());
        cluster.client(1).ok("SET k w");
        let Verified { status, text } = verify(cluster);
        assert!(status == 2 && text.contains("instance 2: it does not come to have what the local site has"), "{status}: {text}");
    }

    fn a_site_that_is_away_is_named(cluster: 3) {
        cluster.site_mut(3).server.kill();
        let Verified { status, text } = verify(cluster);
        assert_eq!((status, text.contains("SKIPPED instance 3")), (0, true), "{text}");
        cluster.site_mut(2).server.kill();
        assert_eq!(verify(cluster).status, 2);
    }
}

on_each_kind! {
    /// Planted so that sizes are the same, but for what is acknowledged.
    fn order_and_groups_and_other_databases_are_compared(kind) {
        let config = vec![("appendonly", "yes"), ("appendfsync", "always")];
        let mut cluster = Cluster::with(&[kind; 3], &ClusterOptions { config, ..ClusterOptions::default() });
        let mut one = cluster.client(1);
        one.ok("RPUSH list a b c");
        for stream in ["acked", "claimed"] {
            one.ok(&format!("XGROUP CREATE {stream} g 0 MKSTREAM"));
            for (entry, consumer) in [("1-1", "c"), ("2-1", "d")] {
                one.ok(&format!("XADD {stream} {entry} f v"));
                one.ok(&format!("XREADGROUP GROUP g {consumer} STREAMS {stream} >"));
            }
        }
        one.ok("SET other v");
        one.ok("SELECT 3");
        one.ok("MSET other v same v");
        cluster.converged();
        let Verified { status, text } = verify(&cluster);
        assert_eq!((status, text.contains("are equal: 6 keys")), (0, true), "{text}");

        plant_in_file(&mut cluster, 2, &["SELECT 0", "RPOPLPUSH list list", "XACK acked g 1-1"]);
        plant_in_file(&mut cluster, 3, &["SELECT 0", "XCLAIM claimed g c 0 2-1", "SELECT 3", "SET other w"]);
        let (mut two, mut three) = (cluster.client(2), cluster.client(3));
        assert_eq!(two.text("LRANGE list 0 -1"), "[c, a, b]");
        assert_eq!(two.text("XPENDING acked g"), "[1, 2-1, 2-1, [[d, 1]]]");
        assert_eq!(three.text("XPENDING claimed g"), "[2, 1-1, 2-1, [[c, 2]]]");
        cluster.settled();
        let Verified { status, text } = verify(&cluster);
        assert_eq!((status, text.matches("DIFFERS").count()), (1, 4), "{text}");
        other_digest(&text, "db 0 key list", "list of 3 elements", 2);
        other_digest(&text, "db 3 key other", "string of 1 bytes", 3);
        // The group, two consumers, two entries, what is pending of them, and the last id.
        other_digest(&text, "db 0 key claimed", "stream of 8 elements", 3);
        let sizes = sides(&text, "db 0 key acked").map(|side| side.split(", ").next().unwrap_or_default());
        assert_eq!(sizes, ["1: stream of 8 elements", "2: stream of 7 elements", "3: stream of 8 elements"], "{text}");
    }
}
