//! Values that the module knows nothing of: vector sets of Redis 8, which Valkey cannot read. Whole, last writer wins, and a
//! site that cannot show one keeps it and passes it on.

use std::time::{Duration, Instant};

use syncer_tests::client::Client;
use syncer_tests::cluster::{Cluster, ClusterOptions};
use syncer_tests::nodes::until_rewritten;
use syncer_tests::server::ServerKind::{Redis8, Valkey9};
use syncer_tests::wait;

fn figure(client: &mut Client, name: &str) -> String {
    let info = client.text("INFO syncer");
    let found = info.split(&format!("syncer_{name}:")).nth(1).unwrap_or_else(|| panic!("no {name}: {info}"));
    found.split("\\x0d").next().unwrap_or_default().to_owned()
}

const ADD: &str = "VADD v VALUES 3 0.1 0.2 0.3 a SETATTR {\"n\":1}";

#[test]
fn the_last_writer_of_a_vector_set_wins_whole() {
    let cluster = Cluster::new(&[Redis8, Redis8]);
    let (mut one, mut two) = (cluster.client(1), cluster.client(2));
    one.ok(ADD);
    cluster.converged();
    cluster.cut(1, 2);
    one.ok("VADD v VALUES 3 1 0 0 earlier");
    two.ok("VADD v VALUES 3 0 1 0 later");
    cluster.heal();
    cluster.converged();
    assert_eq!(one.text("VCARD v"), "2");
    assert_eq!(one.text("VGETATTR v a"), "{\"n\":1}");
    assert_eq!((one.text("VEMB v earlier"), one.text("VDIM v")), ("(nil)".into(), "3".into()));
    two.ok("VREM v a");
    two.ok("VREM v later");
    cluster.converged();
    assert_eq!(one.text("EXISTS v"), "0");
}

/// A write that changes nothing is not logged, and a transaction or script logs the value once.
#[test]
fn only_what_changed_is_logged_once_a_unit() {
    let cluster = Cluster::new(&[Redis8, Redis8]);
    let mut one = cluster.client(1);
    one.ok(ADD);
    let before = figure(&mut one, "effects_captured");
    one.ok("VSETATTR v a {\"n\":1}");
    one.ok("VREM v nobody");
    assert_eq!(figure(&mut one, "effects_captured"), before, "nothing has changed");
    let adds: Vec<String> = (0..50).map(|n| format!("VADD v VALUES 3 {n} 0.5 1 e{n}")).collect();
    let end = figure(&mut one, "backlog_end_offset");
    one.ok("VADD v VALUES 3 9 9 9 last");
    let one_value: u64 = figure(&mut one, "backlog_end_offset").parse::<u64>().unwrap() - end.parse::<u64>().unwrap();
    let end: u64 = figure(&mut one, "backlog_end_offset").parse().unwrap();
    one.multi(&adds);
    let fifty: u64 = figure(&mut one, "backlog_end_offset").parse::<u64>().unwrap() - end;
    assert!(fifty < one_value * 40, "{fifty} bytes for fifty vectors in a transaction, {one_value} for two");
    assert!(figure(&mut one, "captured_whole_by_type").starts_with("vectorset="));
    cluster.converged();
}

#[test]
fn a_site_that_cannot_read_a_value_keeps_it_and_passes_it_on() {
    let options = ClusterOptions { module: vec![("backlog-size", "1mb")], ..ClusterOptions::default() };
    let cluster = Cluster::with(&[Redis8, Valkey9, Redis8], &options);
    let (mut one, mut two, mut three) = (cluster.client(1), cluster.client(2), cluster.client(3));
    one.ok("SET v old");
    cluster.converged();
    cluster.cut(1, 3);
    cluster.cut(2, 3);
    one.ok("DEL v");
    one.ok(ADD);
    one.ok("VADD gone VALUES 3 1 2 3 a");
    cluster.caught_up(1, 2);
    assert_eq!(two.text("EXISTS v"), "0", "nothing stale is shown");
    assert_eq!(figure(&mut two, "payloads_unknown"), "2");
    assert!(two.text("SYNCER.STATUS").contains("payloads_unknown, 2"));
    assert!(two.text("SYNCER.KEY v").contains("unknown_payload, 1"), "{}", two.text("SYNCER.KEY v"));
    one.ok("DEL gone");
    cluster.caught_up(1, 2);
    assert_eq!(figure(&mut two, "payloads_unknown"), "1");
    // More than the backlog of site 2 holds: site 3 gets a snapshot from there, and has no other way.
    let value = "x".repeat(100_000);
    (0..20).for_each(|key| drop(one.ok(&format!("SET big:{key} {value}"))));
    cluster.caught_up(1, 2);
    cluster.heal_between(2, 3);
    cluster.caught_up(2, 3);
    assert_ne!(figure(&mut three, "sync_full_in"), "0");
    assert_eq!((three.text("VCARD v"), three.text("VGETATTR v a")), ("1".into(), "{\"n\":1}".into()));
    cluster.heal();
    cluster.settled();
    wait::eventually("everything is stable at site 2", || two.text("SYNCER.KEY v").contains("stable, 1"));
    assert_eq!(figure(&mut two, "payloads_unknown"), "1", "kept also when everyone has it");
    // Written where nobody could see it.
    two.ok("SADD v m");
    cluster.converged();
    assert_eq!((three.text("SMEMBERS v"), figure(&mut two, "payloads_unknown")), ("[m]".into(), "0".into()));
}

/// From the append-only file: from its records, and from the state in its preamble. A server must not try to read what it cannot
/// while it loads: it would take the file for corrupt, and exit.
#[test]
fn values_survive_restarts_where_they_are_kept_and_where_they_are_read() {
    let options =
        ClusterOptions { config: vec![("appendonly", "yes"), ("appendfsync", "always")], ..ClusterOptions::default() };
    let mut cluster = Cluster::with(&[Redis8, Valkey9, Redis8], &options);
    cluster.client(1).ok(ADD);
    cluster.settled();
    for rewritten in [false, true] {
        for instance in [2, 3] {
            if rewritten {
                cluster.client(instance).ok("BGREWRITEAOF");
                until_rewritten(&cluster.site(instance).server);
            }
            cluster.site_mut(instance).server.restart();
        }
        let mut two = cluster.client(2);
        assert_eq!(figure(&mut two, "payloads_unknown"), "1", "rewritten: {rewritten}");
        assert_eq!((two.text("EXISTS v"), cluster.client(3).text("VCARD v")), ("0".into(), "1".into()));
        cluster.settled();
    }
    cluster.client(1).ok("DEL v");
    cluster.converged();
    assert_eq!(figure(&mut cluster.client(2), "payloads_unknown"), "0");
}

/// A value that this server cannot hold is not in the dataset: as it loads a file and drops a key, that is no sign that it has expired.
#[test]
fn a_value_that_a_site_cannot_read_is_not_taken_for_dropped() {
    let mut cluster = Cluster::new(&[Redis8, Valkey9]);
    let (mut one, mut two) = (cluster.client(1), cluster.client(2));
    one.ok(ADD);
    two.ok("SET due 1 PX 1000");
    cluster.caught_up(1, 2);
    wait::eventually("it is kept, and nobody keeps in mind how it came", || {
        two.text("SYNCER.KEY v").contains("ttls, []")
    });
    two.ok("SAVE");
    cluster.site_mut(2).server.kill();
    let killed = Instant::now();
    wait::eventually("the other key's time has passed", || killed.elapsed() > Duration::from_millis(1000));
    cluster.site_mut(2).server.restart();
    let mut two = cluster.client(2);
    let persistence = two.text("INFO persistence");
    assert!(persistence.contains("rdb_last_load_keys_expired:1"), "{persistence}");
    two.ok("SET k v");
    cluster.caught_up(2, 1);
    assert_eq!(figure(&mut two, "payloads_unknown"), "1");
    assert_eq!((one.text("VCARD v"), one.text("GET k")), ("1".to_owned(), "v".to_owned()));
}
