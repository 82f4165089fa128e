//! A burst of writes to a large value that is captured whole is captured a few times only, and loses nothing by that.

use syncer_tests::client::Client;
use syncer_tests::cluster::{Cluster, ClusterOptions};
use syncer_tests::nodes::{Pair, until_rewritten};
use syncer_tests::server::ServerKind::Redis8;
use syncer_tests::{on_each_kind, wait};

/// Elements of `v` at the beginning: some 50 KB.
const ELEMENTS: u64 = 400;

/// Only what else makes a capture necessary does so.
const HOURS: (&str, &str) = ("whole-coalesce-ms", "60000");

fn add(element: &str) -> String {
    format!("VADD v VALUES 3 1 0.5 0.25 {element}")
}

/// A vector set that is captured, and counts as written just now.
fn large(client: &mut Client) {
    client.multi(&(0..ELEMENTS).map(|n| add(&format!("e{n}"))).collect::<Vec<_>>());
}

fn number(client: &mut Client, name: &str) -> u64 {
    let info = client.text("INFO syncer");
    let found = info.split(&format!("syncer_{name}:")).nth(1).unwrap_or_else(|| panic!("no {name}: {info}"));
    found.split("\\x0d").next().and_then(|text| text.parse().ok()).expect("a number")
}

fn patient() -> Cluster {
    Cluster::with(&[Redis8, Redis8], &ClusterOptions { module: vec![HOURS], ..ClusterOptions::default() })
}

#[test]
fn a_burst_is_captured_a_few_times_and_the_last_write_arrives_by_itself() {
    let cluster = Cluster::new(&[Redis8, Redis8]);
    let (mut one, mut two) = (cluster.client(1), cluster.client(2));
    let end = number(&mut one, "backlog_end_offset");
    large(&mut one);
    let value = number(&mut one, "backlog_end_offset") - end;
    assert!(value > 20_000, "{value} bytes are not large");
    one.pipeline(&(0..300).map(|n| add(&format!("f{n}"))).collect::<Vec<_>>());
    // No command that captures it: the timer does.
    wait::eventually("the other site has all of it", || two.text("VCARD v") == (ELEMENTS + 300).to_string());
    let (logged, waited) = (number(&mut one, "backlog_end_offset") - end, number(&mut one, "writes_coalesced"));
    assert!(logged < 40 * value, "{logged} bytes of backlog for 300 writes to {value} bytes");
    assert!(waited > 250, "{waited} of 300 writes waited");
    cluster.converged();
}

on_each_kind! {
    fn so_is_a_burst_of_writes_to_the_value_of_another_module(kind) {
        let cluster = Cluster::with(&[kind; 2], &ClusterOptions { other_module: vec![1, 2], ..ClusterOptions::default() });
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        // Values are compressed when they are written out.
        let part = |n: u64| format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let item = |n: u64| (1..8).map(|i| part(n * 8 + i)).collect::<String>();
        let puts = |from: u64, to: u64| (from..to).map(|n| format!("OTHER.PUT bag {}", item(n))).collect::<Vec<_>>();
        let end = number(&mut one, "backlog_end_offset");
        one.multi(&puts(0, ELEMENTS));
        let value = number(&mut one, "backlog_end_offset") - end;
        assert!(value > 20_000, "{value} bytes are not large");
        one.pipeline(&puts(ELEMENTS, ELEMENTS + 300));
        wait::eventually("the other site has all of it", || two.text_items("OTHER.SHOW bag").len() as u64 == ELEMENTS + 300);
        let (logged, waited) = (number(&mut one, "backlog_end_offset") - end, number(&mut one, "writes_coalesced"));
        assert!(logged < 40 * value, "{logged} bytes of backlog for 300 writes to {value} bytes");
        assert!(waited > 250, "{waited} of 300 writes waited");
        cluster.converged();
    }
}

#[test]
fn a_write_that_changes_nothing_is_not_captured_later_either() {
    let cluster = patient();
    let mut one = cluster.client(1);
    large(&mut one);
    let end = number(&mut one, "backlog_end_offset");
    one.ok("VREM v nobody");
    cluster.converged();
    assert_eq!((number(&mut one, "backlog_end_offset"), number(&mut one, "writes_coalesced")), (end, 0));
}

/// Agents ask for the clock every second: found as `who_is_promoted_captures_it` failed now and then.
#[test]
fn what_agents_ask_captures_nothing_early() {
    let cluster = patient();
    let (mut one, mut two) = (cluster.client(1), cluster.client(2));
    large(&mut one);
    cluster.converged();
    let end = number(&mut one, "backlog_end_offset");
    one.ok(&add("later"));
    let asked = calls(&mut one);
    // One second's questions may have been under way.
    wait::eventually("both agents have asked again", || calls(&mut one) >= asked + 6);
    assert_eq!((number(&mut one, "backlog_end_offset"), two.text("VCARD v")), (end, ELEMENTS.to_string()));
    cluster.converged();
    assert_eq!(two.text("VCARD v"), (ELEMENTS + 1).to_string());
}

/// How often the server was asked for its clock.
fn calls(client: &mut Client) -> u64 {
    let stats = client.text("INFO commandstats");
    let calls = stats.split("cmdstat_syncer.clock:calls=").nth(1).and_then(|rest| rest.split(',').next());
    calls.and_then(|calls| calls.parse().ok()).unwrap_or_default()
}

/// Causality: whoever sees the later write sees the earlier one.
#[test]
fn no_later_write_overtakes_it_and_no_transaction_is_seen_in_part() {
    let cluster = patient();
    let (mut one, mut two) = (cluster.client(1), cluster.client(2));
    large(&mut one);
    one.ok(&add("before"));
    assert_eq!(number(&mut one, "writes_coalesced"), 1);
    one.ok("SADD flag up");
    wait::eventually("the flag is there", || two.text("EXISTS flag") == "1");
    assert_eq!(two.text("VCARD v"), (ELEMENTS + 1).to_string());
    one.multi(&[add("with"), "SADD flag two".to_owned()]);
    one.multi(&["SADD flag three".to_owned(), add("with:too")]);
    assert_eq!(number(&mut one, "writes_coalesced"), 1);
    one.ok(&add("again"));
    one.ok("EXPIRE v 1000");
    wait::eventually("the TTL is there", || two.text("TTL v") != "-1");
    assert_eq!((two.text("VCARD v"), two.text("SCARD flag")), ((ELEMENTS + 4).to_string(), "3".to_owned()));
    one.ok(&add("last"));
    one.ok("RENAME v w");
    wait::eventually("it has its new name", || two.text("EXISTS v") == "0");
    assert_eq!(two.text("VCARD w"), (ELEMENTS + 5).to_string());
    cluster.converged();
}

#[test]
fn a_concurrent_write_elsewhere_meets_it() {
    let cluster = patient();
    let (mut one, mut two) = (cluster.client(1), cluster.client(2));
    large(&mut one);
    cluster.converged();
    cluster.cut(1, 2);
    two.ok("VREM v e0");
    one.ok(&add("later"));
    cluster.heal();
    cluster.converged();
    assert_eq!((one.text("VCARD v"), two.text("VCARD v")), ((ELEMENTS + 1).to_string(), (ELEMENTS + 1).to_string()));
    // And not only of the key.
    one.ok(&add("unseen"));
    two.ok("FLUSHALL");
    cluster.converged();
    assert_eq!(two.text("VCARD v"), (ELEMENTS + 2).to_string(), "what FLUSHALL had not seen stays");
}

/// I-1: the mark is with the write in the append-only file, and in the state of a rewritten one.
#[test]
fn a_crash_between_write_and_capture_loses_nothing() {
    for rewritten in [false, true] {
        let options = ClusterOptions {
            module: vec![HOURS],
            config: vec![("appendonly", "yes"), ("appendfsync", "always")],
            ..ClusterOptions::default()
        };
        let mut cluster = Cluster::with(&[Redis8, Redis8], &options);
        let mut one = cluster.client(1);
        large(&mut one);
        one.ok(&add("before:crash"));
        if rewritten {
            one.ok("BGREWRITEAOF");
            until_rewritten(&cluster.site(1).server);
        }
        assert_eq!(number(&mut one, "writes_coalesced"), 1);
        drop(one);
        cluster.site_mut(1).server.kill();
        cluster.site_mut(1).server.restart();
        let mut two = cluster.client(2);
        let all = (ELEMENTS + 1).to_string();
        wait::eventually("the other site has the last write", || two.text("VCARD v") == all);
        cluster.converged();
        assert_eq!(cluster.client(1).text("VCARD v"), all, "rewritten: {rewritten}");
    }
}

#[test]
fn who_is_promoted_captures_it() {
    let pair = Pair::start(Redis8, 2, &[]);
    let mut client = pair.one.client();
    client.ok("CONFIG SET syncer.whole-coalesce-ms 60000");
    large(&mut client);
    client.ok(&add("before:failover"));
    let all = (ELEMENTS + 1).to_string();
    let mut replica = pair.one.nodes[1].client();
    wait::eventually("the replica has it", || replica.text("VCARD v") == all);
    wait::eventually("the other site has the first", || pair.two.client().text("VCARD v") == ELEMENTS.to_string());
    pair.one.promote(1);
    wait::eventually("the other site has it", || pair.two.client().text("VCARD v") == all);
    pair.agree();
}
