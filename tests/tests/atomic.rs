//! One transaction, script or function is one group: a reader at a peer never sees half of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use syncer_tests::client::Client;
use syncer_tests::cluster::{Cluster, ClusterOptions};
use syncer_tests::nodes::until_rewritten;
use syncer_tests::server::{Server, ServerKind, ServerOptions};
use syncer_tests::{dataset, on_all_kinds, on_each_kind, reply, wait};

/// Transactions written while the reader looks.
const ROUNDS: u32 = 1_000;

/// Writes with `write`, which keeps all of these keys equal, while a reader at the other site compares them.
fn never_half(cluster: &Cluster, keys: &str, write: impl Fn(&mut Client, u32)) {
    let written = AtomicBool::new(false);
    let looks = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut client = cluster.client(2);
            let mut seen = std::collections::BTreeSet::new();
            while !written.load(Ordering::Relaxed) {
                let values = reply::text_items(&client.ok(&format!("MGET {keys}")));
                assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "half of a transaction: {values:?}");
                seen.insert(values[0].clone());
            }
            seen.len()
        });
        let mut client = cluster.client(1);
        for round in 0..ROUNDS {
            write(&mut client, round);
        }
        cluster.caught_up(1, 2);
        written.store(true, Ordering::Relaxed);
        reader.join().expect("the reader saw whole transactions only")
    });
    assert!(looks > 1, "the reader saw nothing arrive");
    cluster.converged();
}

/// Strings of a transaction are looked at together when it has ended: each is what it is then, whatever else was done.
fn strings_arrive_as_they_end(cluster: &Cluster) {
    let long = "x".repeat(300);
    let value = |n: usize| [n.to_string(), format!("text{n}"), format!("{long}{n}")][n % 3].clone();
    let mut lines: Vec<String> = (0..200).map(|n| format!("SET k{} {}", n % 150, value(n))).collect();
    lines.extend(["SELECT 1".to_owned(), "SET other 1".to_owned(), "SELECT 0".to_owned()]);
    lines.extend(
        ["SET counted 5", "INCR counted", "SET gone 1", "DEL gone", "SET moved 1", "MOVE moved 2"].map(str::to_owned),
    );
    lines.extend(
        ["SETEX short 1000 v", "SET ttl v PX 1000000", "SET ttl w KEEPTTL", "MSET a 1 b 2", "SET a 3", "APPEND b x"]
            .map(str::to_owned),
    );
    let mut one = cluster.client(1);
    let answer = one.multi(&lines);
    assert!(!reply::items(&answer).iter().any(reply::is_error), "{}", reply::text(&answer));
    cluster.converged();
    let mut two = cluster.client(2);
    for key in ["k0", "k49", "k50", "k149", "counted", "a"] {
        let looks = [format!("GET {key}"), format!("OBJECT ENCODING {key}")];
        assert_eq!(looks.each_ref().map(|line| two.text(line)), looks.each_ref().map(|line| one.text(line)), "{key}");
    }
    assert_eq!([two.text("GET k0"), two.text("GET counted"), two.text("GET b")], ["150", "6", "2x"]);
    assert!(two.text("PTTL short") != "-1" && two.text("PTTL ttl") != "-1");
    one.multi(&["SET lost 1", "SET lost2 2", "FLUSHDB", "SET after 1", "SET later 2", "SWAPDB 0 1"]);
    cluster.converged();
    assert_eq!([two.text("DBSIZE"), two.text("GET other")], ["1", "1"]);
}

on_all_kinds! {
    fn transactions_arrive_in_one_step(cluster: 2) {
        never_half(cluster, "a b c", |client, round| {
            let answer = client.multi(&[format!("SET a {round}"), format!("SET b {round}"), format!("SET c {round}")]);
            assert_eq!(reply::text(&answer), "[OK, OK, OK]");
        });
    }

    fn scripts_arrive_in_one_step(cluster: 2) {
        never_half(cluster, "a b c", |client, round| {
            client.ok(&format!("EVAL redis.call('SET','a',ARGV[1])redis.call('MSET','b',ARGV[1],'c',ARGV[1]) 0 {round}"));
        });
    }

    fn functions_arrive_in_one_step(cluster: 2) {
        let library = "#!lua name=tests\nredis.register_function('put',function(keys,args)redis.call('SET','a',args[1])redis.call('MSET','b',args[1],'c',args[1])end)";
        cluster.client(1).args(&["FUNCTION", "LOAD", library]);
        never_half(cluster, "a b c", |client, round| {
            client.ok(&format!("FCALL put 0 {round}"));
        });
    }

    fn a_large_transaction_arrives_in_one_step(cluster: 2) {
        let keys: Vec<String> = (0..2_000).map(|key| format!("k{key}")).collect();
        let all = keys.join(" ");
        let written = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut client = cluster.client(2);
                while !written.load(Ordering::Relaxed) {
                    let there = client.text(&format!("EXISTS {all}"));
                    assert!(there == "0" || there == "2000", "{there} of 2000 keys have arrived");
                }
            });
            let lines: Vec<String> = keys.iter().map(|key| format!("HSET {key} f {key}")).collect();
            cluster.client(1).multi(&lines);
            cluster.caught_up(1, 2);
            written.store(true, Ordering::Relaxed);
        });
        cluster.converged();
    }

    fn a_transaction_of_strings_arrives_as_it_ends(cluster: 2) {
        strings_arrive_as_they_end(cluster);
    }

    /// A transaction that is discarded, aborted or refused leaves nothing to replicate.
    fn what_does_not_happen_is_not_replicated(cluster: 2) {
        let mut client = cluster.client(1);
        client.ok("SET k v");
        cluster.converged();
        let clock = client.text("SYNCER.CLOCK");
        client.pipeline(&["MULTI", "SET k discarded", "DISCARD"]);
        client.pipeline(&["MULTI", "SET k", "SET k aborted", "EXEC"]);
        client.ok("WATCH k");
        cluster.client(1).ok("GET k");
        client.pipeline(&["HSET k f wrongtype", "INCR k", "SETRANGE k -1 x", "SET k new NX", "GETEX k"]);
        assert_eq!(client.text("SYNCER.CLOCK"), clock);
        assert_eq!(cluster.client(2).text("GET k"), "v");
    }
}

on_each_kind! {
    /// As an operator may have it (`rename-command`): they are looked at one by one.
    fn strings_arrive_where_mget_is_renamed_away(kind) {
        let options = ClusterOptions { without_commands: vec!["MGET"], ..ClusterOptions::default() };
        let cluster = Cluster::with(&[kind; 2], &options);
        assert!(cluster.client(1).text("MGET k").contains("unknown command"));
        strings_arrive_as_they_end(&cluster);
    }
}

/// Found by torture: on Valkey 8.1, with a subscriber of its events, who copies or moves to another database stays there: so did replicas and who
/// read the append-only file, and wrote everything else there, too.
#[test]
fn what_goes_to_another_database_is_the_same_at_a_replica_and_out_of_a_file() {
    let writes = [
        "SET a 1",
        "COPY a b DB 1",
        "SET c 1",
        "SET moved 1",
        "MOVE moved 1",
        "SET d 1",
        "COPY a b DB 1",
        "EVAL \"redis.call('COPY', 'a', 'e', 'DB', '1') redis.call('SET', 'f', '1') return redis.call('MOVE', 'f', 1)\" 0",
        "SET g 1",
        // The last one counts.
        "COPY a o DB 0 DB 1",
        "SET p 1",
    ];
    for kind in ServerKind::ALL {
        let options = |server: ServerOptions| server.config("appendonly", "yes").config("appendfsync", "always");
        let mut primary = Server::start(kind, options(ServerOptions::instance(1)));
        let replica = primary.replica(ServerOptions::instance(1));
        let mut client = primary.client();
        writes.iter().for_each(|line| drop(client.text(line)));
        client.multi(&["SET h 1", "COPY h i DB 1", "SET j 1", "MOVE j 1", "SET k 1"]);
        client.ok("SELECT 1");
        client.multi(&["SET l 1", "COPY l m DB 0", "SET n 1"]);
        let written = dataset::digest(&mut client);
        assert_eq!([client.text("DBSIZE"), client.text("SELECT 0"), client.text("DBSIZE")], ["9", "OK", "8"], "{kind}");
        let mut there = replica.client();
        wait::eventually("the replica has the same", || dataset::digest(&mut there) == written);
        primary.restart();
        assert_eq!(dataset::digest(&mut primary.client()), written, "{kind}, out of its file");
    }
}

/// Found by chaos (seed 903): the file of a replica of Valkey 8.1 has `SELECT 2` in front of `COPY a b DB 2`: who comes back from it has copied or moved
/// nothing, and differs for good once it is a primary.
#[test]
fn what_goes_to_another_database_is_the_same_out_of_a_replicas_file() {
    for kind in ServerKind::ALL {
        let options = || ServerOptions::instance(1).config("appendonly", "yes").config("appendfsync", "always");
        let primary = Server::start(kind, options());
        let mut replica = primary.replica(options());
        let mut there = replica.client();
        until_rewritten(&replica);
        let mut client = primary.client();
        for line in ["SELECT 1", "SET a 1", "COPY a b DB 2 REPLACE", "SET m 1", "MOVE m 2", "SET z 1"] {
            client.ok(line);
        }
        let written = dataset::digest(&mut client);
        wait::eventually("the replica has the same", || dataset::digest(&mut there) == written);
        replica.kill();
        replica.restart_with(options());
        assert_eq!(dataset::digest(&mut replica.client()), written, "{kind}, out of the file of a replica");
    }
}

/// Found by torture: Redis 8.2 tells neither its replicas nor its file of a new vector of an element that is there, but all other sites have it.
#[test]
fn a_new_vector_of_an_element_is_the_same_at_a_replica_and_out_of_a_file() {
    let options = |server: ServerOptions| server.config("appendonly", "yes").config("appendfsync", "always");
    let mut primary = Server::start(ServerKind::Redis8, options(ServerOptions::instance(1)));
    let replica = primary.replica(ServerOptions::instance(1));
    let mut client = primary.client();
    client.ok("VADD v VALUES 2 1 1 e");
    client.ok("VADD v VALUES 2 3 1 e");
    client.multi(&["VADD v VALUES 2 1 1 f", "VADD v VALUES 2 7 1 f CAS SETATTR x"]);
    client.ok("EVAL \"redis.call('VADD', 'w', 'VALUES', '2', '1', '1', 'e') return redis.call('VADD', 'w', 'VALUES', '2', '5', '1', 'e')\" 0");
    client.ok("HELLO 3");
    client.cmd("VADD w VALUES 2 6 2 e");
    let written = dataset::digest(&mut primary.client());
    let mut there = replica.client();
    wait::eventually("the replica has the same", || dataset::digest(&mut there) == written);
    primary.restart();
    assert_eq!(dataset::digest(&mut primary.client()), written, "out of its file");
}

/// Found by torture: a server that loads a file drops keys that have expired meanwhile. As long as not everybody has their TTLs, that is known.
#[test]
fn what_was_extended_elsewhere_while_it_was_dropped_is_there_again() {
    for kind in ServerKind::ALL {
        for reload in ["DEBUG RELOAD", "DEBUG RELOAD NOSAVE"] {
            let cluster = Cluster::new(&[kind, kind, kind]);
            let (mut one, mut two) = (cluster.client(1), cluster.client(2));
            cluster.site(3).agent.process().pause();
            two.ok("DEBUG SET-ACTIVE-EXPIRE 0");
            one.ok("RPUSH l a b c");
            one.ok("PEXPIRE l 1500");
            one.ok("SET s v PX 1500");
            cluster.caught_up(1, 2);
            two.ok("SAVE");
            cluster.cut(1, 2);
            one.ok("PERSIST l");
            one.ok("PERSIST s");
            two.ok("DEBUG SLEEP 1.6");
            two.ok(reload);
            cluster.heal();
            cluster.caught_up(1, 2);
            one.ok("LINSERT l AFTER b x");
            two.ok("DEBUG SET-ACTIVE-EXPIRE 1");
            cluster.site(3).agent.process().resume();
            cluster.converged();
            assert_eq!(two.text("LRANGE l 0 -1"), "[a, b, x, c]", "{kind}");
            assert_eq!(two.text("GET s"), "v", "{kind}");
        }
    }
}
