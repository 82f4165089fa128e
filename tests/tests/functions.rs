//! Libraries of functions across sites (`syncer.functions`): per library, the last writer wins.

use syncer_tests::client::Client;
use syncer_tests::cluster::{Cluster, ClusterOptions};
use syncer_tests::on_all_kinds;
use syncer_tests::server::ServerKind;

/// A library with one function that returns a number.
fn library(name: &str, function: &str, number: u32) -> String {
    format!(
        "#!lua name={name}\nredis.register_function{{function_name='{function}',callback=function()return({number})end,flags={{'no-writes'}}}}"
    )
}

fn load(client: &mut Client, name: &str, function: &str, number: u32) {
    let answer = client.args(&["FUNCTION", "LOAD", "REPLACE", &library(name, function, number)]);
    assert_eq!(syncer_tests::reply::text(&answer), name);
}

fn libraries(client: &mut Client) -> String {
    let mut names: Vec<String> = client
        .text("FUNCTION LIST")
        .split("library_name, ")
        .skip(1)
        .map(|rest| rest.split(',').next().unwrap_or_default().to_owned())
        .collect();
    names.sort();
    names.join(" ")
}

fn switch_on(cluster: &Cluster) {
    cluster.sites().iter().for_each(|site| drop(site.client().ok("CONFIG SET syncer.functions on")));
}

on_all_kinds! {
    fn libraries_travel_when_the_setting_says_so(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        load(&mut one, "off", "f0", 0);
        cluster.converged();
        assert_eq!(libraries(&mut two), "");
        one.ok("FUNCTION FLUSH");
        switch_on(cluster);
        load(&mut one, "a", "fa", 1);
        load(&mut one, "b", "fb", 2);
        cluster.converged();
        assert_eq!((libraries(&mut two), two.text("FCALL_RO fa 0")), ("a b".into(), "1".into()));
        load(&mut two, "a", "fa", 7);
        cluster.converged();
        assert_eq!(one.text("FCALL_RO fa 0"), "7");
        // Loaded again as it is: nothing to tell.
        let clock = one.text("SYNCER.CLOCK");
        load(&mut one, "a", "fa", 7);
        assert_eq!(one.text("SYNCER.CLOCK"), clock);
        one.multi(&["SET k v", "FUNCTION DELETE a"]);
        cluster.converged();
        assert_eq!(libraries(&mut two), "b");
        let dump = one.cmd("FUNCTION DUMP");
        two.ok("FUNCTION FLUSH");
        cluster.converged();
        assert_eq!(libraries(&mut one), "");
        assert_eq!(syncer_tests::reply::text(&one.args(&[&b"FUNCTION"[..], b"RESTORE", syncer_tests::reply::bytes(&dump)])), "OK");
        cluster.converged();
        assert_eq!(two.text("FCALL_RO fb 0"), "2");
        one.ok("FLUSHALL");
        cluster.converged();
        assert_eq!((libraries(&mut one), libraries(&mut two)), ("b".into(), "b".into()), "FLUSHALL leaves libraries alone");
        assert!(one.text("CONFIG SET syncer.functions maybe").contains("must be on or off"));
    }

    fn of_two_loads_at_once_the_later_stays(cluster: 2) {
        switch_on(cluster);
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        load(&mut one, "a", "fa", 0);
        load(&mut one, "d", "fd", 0);
        cluster.converged();
        cluster.cut(1, 2);
        load(&mut one, "a", "fa", 1);
        load(&mut one, "only1", "f1", 1);
        one.ok("FUNCTION DELETE d");
        load(&mut two, "a", "fa", 2);
        load(&mut two, "d", "fd", 2);
        cluster.heal();
        cluster.converged();
        for client in [&mut one, &mut two] {
            assert_eq!(libraries(client), "a d only1", "a load stays against a delete that has not seen it");
            assert_eq!((client.text("FCALL_RO fa 0"), client.text("FCALL_RO fd 0")), ("2".into(), "2".into()));
        }
    }
}

/// By a snapshot, too: also that a library is gone.
#[test]
fn a_full_sync_brings_libraries() {
    let options =
        ClusterOptions { module: vec![("backlog-size", "1mb"), ("functions", "on")], ..ClusterOptions::default() };
    let cluster = Cluster::with(&[ServerKind::Redis8, ServerKind::Valkey9], &options);
    let (mut one, mut two) = (cluster.client(1), cluster.client(2));
    load(&mut one, "stays", "f1", 1);
    load(&mut one, "goes", "f2", 2);
    cluster.converged();
    cluster.cut(1, 2);
    one.ok("FUNCTION DELETE goes");
    load(&mut one, "new", "f3", 3);
    let value = "x".repeat(100_000);
    (0..20).for_each(|key| drop(one.ok(&format!("SET big:{key} {value}"))));
    cluster.heal();
    cluster.converged();
    assert!(two.text("INFO syncer").contains("syncer_sync_full_in:1"));
    assert_eq!(libraries(&mut two), "new stays");
}
