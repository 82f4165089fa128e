//! What becomes of the data of a site that joins with `--data merge`: one key of every type, which the group has too, or not (MERGE_RULES M12).

use syncer_tests::agent::{Agent, AgentOptions};
use syncer_tests::client::Client;
use syncer_tests::cluster::Cluster;
use syncer_tests::dataset::{self, Dataset};
use syncer_tests::members::{join, metadata, newcomer, takes_writes};
use syncer_tests::{on_all_kinds, wait};

/// One key of every type, with a prefix; `who` tells the values apart.
fn write(client: &mut Client, prefix: &str, who: &str) {
    let (number, position, seconds) = if who == "mine" { (7, 2, 5000) } else { (5, 1, 1000) };
    for line in [
        format!("SET {prefix}:string {who}"),
        format!("SET {prefix}:number {number}"),
        format!("SET {prefix}:ttl {who} EX {seconds}"),
        format!("HSET {prefix}:hash both {who} {who} 1"),
        format!("SADD {prefix}:set both {who}"),
        format!("ZADD {prefix}:zset {number} both 1 {who}"),
        format!("RPUSH {prefix}:list {who}1 {who}2"),
        format!("XADD {prefix}:stream {position}-1 from {who}"),
        format!("XADD {prefix}:stream {position}-2 from {who}"),
        format!("XGROUP CREATE {prefix}:stream readers 0"),
        format!("XREADGROUP GROUP readers {who} COUNT 1 STREAMS {prefix}:stream >"),
        format!("PFADD {prefix}:hll {who}1 {who}2"),
        "SELECT 2".to_owned(),
        format!("SET {prefix}:second {who} EX {seconds}"),
        "SELECT 0".to_owned(),
    ] {
        client.ok(&line);
    }
}

/// Lists of the group: the dots of their elements stay (L8).
const LISTS: u64 = 2;

/// The keys with this prefix, in all databases.
fn of(client: &mut Client, prefix: &str) -> Dataset {
    let mut all = dataset::read(client);
    all.retain(|key, _| key.split('/').nth(1).is_some_and(|key| key.starts_with(prefix)));
    all
}

/// What the group has under the prefix `both`, and in `types`, once the site is in.
struct Expected {
    wins: &'static str,
    string: &'static str,
    number: &'static str,
    seconds: std::ops::Range<i64>,
    hash: &'static str,
    zset: &'static str,
    hll: &'static str,
    types: &'static str,
}

fn merged(cluster: &Cluster, expected: &Expected) {
    let mut one = cluster.client(1);
    write(&mut one, "group", "group");
    write(&mut one, "both", "group");
    one.ok("SET types group");
    cluster.converged();
    let mut left = 0;
    let is_at_rest = || {
        left = metadata(&mut one);
        (left == LISTS).then_some(())
    };
    assert!(
        wait::within(wait::PATIENCE, is_at_rest).is_some(),
        "metadata of {left} keys is left: {}",
        one.text("SYNCER.STATUS")
    );
    let ports = [1, 2].map(|site| cluster.site(site).server.port());
    let (server, flags) = newcomer(cluster.site(1).server.kind(), 3, &[(1, ports[0]), (2, ports[1])]);
    let mut three = server.client();
    write(&mut three, "own", "mine");
    write(&mut three, "both", "mine");
    three.ok("RPUSH types mine");
    let (own, groups) = (of(&mut three, "own"), of(&mut one, "group"));
    let (done, said) = join(&flags, &["--data", "merge", "--wins", expected.wins]);
    assert!(done, "{said}");
    let beside = |port| Agent::start(AgentOptions::beside(port).peer(3, server.port()));
    let _agents = [Agent::start(flags), beside(ports[0]), beside(ports[1])];
    takes_writes(&mut three);
    let mut two = cluster.client(2);
    for client in [&mut one, &mut two, &mut three] {
        let mut differences = String::new();
        let is_written = || {
            differences = dataset::differences(&of(client, "own"), &own);
            differences.is_empty().then_some(())
        };
        assert!(wait::within(wait::PATIENCE, is_written).is_some(), "what only the site had:\n{differences}");
    }
    let mut digests = Vec::new();
    let is_equal = || {
        digests = [&mut one, &mut two, &mut three].map(|client| client.text("SYNCER.DIGEST")).to_vec();
        digests.windows(2).all(|pair| pair[0] == pair[1]).then_some(())
    };
    let equal = wait::within(wait::PATIENCE, is_equal);
    assert!(equal.is_some(), "{}", dataset::differences(&dataset::read(&mut one), &dataset::read(&mut three)));
    for client in [&mut one, &mut two, &mut three] {
        assert_eq!(dataset::differences(&of(client, "group"), &groups), "", "what only the group had");
        check(client, expected);
    }
}

fn check(client: &mut Client, expected: &Expected) {
    let mut both = of(client, "both");
    let mut take = |key: &str| both.remove(key).map(|entry| entry.value).unwrap_or_default();
    assert_eq!(take("0/both:string"), expected.string);
    assert_eq!(take("0/both:number"), expected.number);
    assert_eq!([take("0/both:ttl"), take("2/both:second")], [expected.string; 2]);
    assert_eq!(take("0/both:hash"), expected.hash);
    assert_eq!(take("0/both:set"), "both group mine");
    assert_eq!(take("0/both:zset"), expected.zset);
    assert_eq!(take("0/both:list"), "group1 group2 mine1 mine2");
    let stream = take("0/both:stream");
    for entry in ["1-1, [from, group]", "1-2, [from, group]", "2-1, [from, mine]", "2-2, [from, mine]", " readers@"] {
        assert!(stream.contains(entry), "{entry}: {stream}");
    }
    assert_eq!(client.text("PFCOUNT both:hll"), expected.hll);
    let shown =
        if client.text("TYPE types") == "list" { client.text("LRANGE types 0 -1") } else { client.text("GET types") };
    assert_eq!(shown, expected.types);
    let seconds = client.text("TTL both:ttl").parse().expect("a number");
    assert!(expected.seconds.contains(&seconds), "{seconds}");
}

on_all_kinds! {
    fn what_a_site_had_wins(cluster: 2) {
        merged(cluster, &Expected {
            wins: "mine",
            string: "mine",
            number: "7",
            seconds: 4000..5001,
            hash: "both=mine group=1 mine=1",
            zset: "both=7 group=1 mine=1",
            hll: "4",
            types: "[mine]",
        });
    }

    fn what_the_group_has_wins(cluster: 2) {
        merged(cluster, &Expected {
            wins: "group",
            string: "group",
            number: "5",
            seconds: 1..1001,
            hash: "both=group group=1 mine=1",
            zset: "both=5 group=1 mine=1",
            hll: "4",
            types: "group",
        });
    }
}
