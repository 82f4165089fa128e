//! Writes of other modules converge, however they are made: `tests/other_module` makes them.

use std::collections::BTreeMap;

use syncer_tests::artifact;
use syncer_tests::client::Client;
use syncer_tests::cluster::{Cluster, ClusterOptions};
use syncer_tests::dataset;
use syncer_tests::examples::{Example, Way};
use syncer_tests::figures::figure;
use syncer_tests::prefix::on_own_keys;
use syncer_tests::server::{Server, ServerKind, ServerOptions};
use syncer_tests::{on_each_kind, reply, wait};

/// How the other module runs a command, and as itself for comparison.
const WAYS: [&str; 5] = ["", "OTHER.CALL ", "OTHER.QUIET ", "OTHER.LATER ", "OTHER.THREAD "];

fn two_sites(kind: ServerKind) -> Cluster {
    let other = artifact::other_module().to_string_lossy().into_owned();
    let config = vec![("loadmodule", &*other.leak())];
    Cluster::with(&[kind; 2], &ClusterOptions { config, ..ClusterOptions::default() })
}

/// The dataset, by way: what keys hold that examples run that way have written.
fn by_way(client: &mut Client) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut ways: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (key, entry) in dataset::read(client) {
        let mut parts = key.split(':');
        let (line, way, key) = (parts.next(), parts.next(), parts.collect::<Vec<_>>().join(":"));
        let name = format!("{}:{key}", line.unwrap_or_default());
        // Relative TTLs end when they end.
        let shown = format!("{} {}", entry.kind, if entry.expires_at_ms.is_some() { "with TTL" } else { "" });
        ways.entry(way.unwrap_or_default().to_owned()).or_default().insert(name, shown);
    }
    ways
}

on_each_kind! {
    /// Every example of `capture.txt`, as a command that another module calls: replicated by it, or the module's own command
    /// verbatim; from a timer; from a thread that holds the server's lock.
    fn what_other_modules_call_converges(kind) {
        let cluster = two_sites(kind);
        let mut client = cluster.client(1);
        // The last one who ran a transaction: whose rights are none of a timer's.
        client.ok("ACL SETUSER weak on >pw +auth +multi +exec +ping");
        let mut weak = cluster.client(1);
        weak.ok("AUTH weak pw");
        weak.multi(&["PING"]);
        // A module cannot call what blocks, what asks for a connection, or a script whose keys are not told.
        let can = |example: &&Example| {
            let is_between = example.command.contains(" DB ") || example.command.starts_with("MOVE");
            // Valkey 8.1 with any module that hears of changes leaves the caller in the other database (docs/SEMANTICS.md).
            let is_sound = kind != ServerKind::Valkey8 || !is_between;
            is_sound && !example.alone && example.server.is_none() && !example.command.starts_with("MIGRATE")
        };
        let examples = Example::on(&[kind]);
        let examples: Vec<&Example> = examples.iter().filter(can).collect();
        for example in &examples {
            for (at, way) in WAYS.iter().enumerate() {
                let own = |line: &str| on_own_keys(line, &format!("{}:{at}:", example.line), &Example::KEYS);
                for line in &example.before {
                    Way::Plain.run(&mut client, &own(line), 0);
                }
                Way::Plain.run(&mut client, &format!("{way}{}", own(example.command)), 0);
            }
        }
        assert!(examples.len() > 300, "{} examples", examples.len());
        let mut known = BTreeMap::new();
        let done = wait::within(wait::PATIENCE, || {
            known = by_way(&mut client);
            let plain = known.get("0").expect("the plain way");
            known.values().all(|way| way == plain).then_some(())
        });
        let differing: Vec<String> = known.iter().filter(|(_, keys)| **keys != known["0"]).map(|(at, keys)| {
            let odd = keys.iter().filter(|(key, shown)| known["0"].get(*key) != Some(*shown));
            let lost = known["0"].keys().filter(|key| !keys.contains_key(*key));
            format!("way {at}: {:?}, lost {:?}", odd.collect::<Vec<_>>(), lost.collect::<Vec<_>>())
        }).collect();
        assert!(done.is_some(), "not as the plain way: {differing:#?}");
        cluster.converged();
        assert_eq!(figure(&mut client, "writes_lost"), 0);
        assert!(!cluster.site(1).server.log().contains("bug"), "{}", cluster.site(1).server.log());
    }

    /// As a patch, not as the 12 KB that it makes.
    fn a_bitop_that_other_modules_call_sends_what_it_changes(kind) {
        let cluster = two_sites(kind);
        let mut client = cluster.client(1);
        client.pipeline(&["SETBIT other 100000 1", "SETBIT bit 12345 1"]);
        for (at, way) in WAYS.iter().enumerate() {
            client.ok(&format!("COPY other k{at}"));
            let before = figure(&mut client, "backlog_end_offset");
            client.ok(&format!("{way}BITOP OR k{at} other bit"));
            wait::eventually("it has run", || client.text(&format!("BITCOUNT k{at}")) == "2");
            let sent = figure(&mut client, "backlog_end_offset") - before;
            assert!((1..500).contains(&sent), "{way}: {sent} bytes");
        }
        cluster.converged();
    }

    /// Through the key API: in a command, whose keys are told, and from a timer with an event, or with that of a new key only.
    fn what_other_modules_write_to_keys_converges(kind) {
        let cluster = two_sites(kind);
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.ok("SET {k}2 old");
        one.multi(&["OTHER.RAW {k}1 v", "OTHER.RAW {k}2 v"]);
        one.ok("OTHER.RAW {k}3 v");
        one.ok("EVAL return(redis.call('OTHER.RAW','{k}4','v')) 0");
        one.ok("OTHER.RAWLATER {k}5 v");
        wait::eventually("the timer has run", || one.text("GET {k}5") == "v");
        // Of a hash that is there, no other event tells.
        one.ok("HSET there f old");
        one.ok("OTHER.FIELDLATER there f v");
        wait::eventually("the timer has run", || one.text("HGET there f") == "v");
        one.ok("OTHER.SILENTLATER h f v");
        wait::eventually("the timer has run", || one.text("HGET h f") == "v");
        cluster.converged();
        assert_eq!(two.text("MGET {k}1 {k}2 {k}3 {k}4 {k}5"), "[v, v, v, v, v]");
        assert_eq!(two.text("HGET there f"), "v", "the module's own event");
        assert_eq!(two.text("HGET h f"), "v", "a new key has an event of its own");
    }

    /// `SADD` of a member that is there fires no event: what comes between it and the next command must not make it forgotten.
    fn an_add_that_changes_nothing_outlives_the_unit_of_a_timer(kind) {
        let server = Server::start(kind, ServerOptions::instance(1).other_module());
        let mut client = server.client();
        const ROUNDS: u64 = 20;
        (0..ROUNDS).for_each(|round| drop(client.ok(&format!("SADD s {round}"))));
        client.ok("CONFIG SET notify-keyspace-events KEA");
        let mut subscriber = server.client();
        subscriber.ok("PSUBSCRIBE __keyspace@0__:later*");
        for round in 0..ROUNDS {
            client.pipeline(&[format!("OTHER.RAWLATER later{round} v"), format!("SADD s {round}")]);
            // No command meanwhile.
            while !reply::text(&subscriber.receive().expect("the timer runs")).contains("other.raw") {}
        }
        let mut logged = 0;
        let all = wait::within(wait::PATIENCE, || {
            logged = figure(&mut client, "touches");
            (logged == ROUNDS).then_some(())
        });
        assert!(all.is_some(), "{logged} of {ROUNDS} are logged");
    }
}
