//! Replicas and failover: whatever is promoted, killed or moved, a partial sync is enough and all nodes agree.

use syncer_tests::agent::{Agent, AgentOptions};
use syncer_tests::nodes::{Pair, save, until_rewritten};
use syncer_tests::rounds::under_load;
use syncer_tests::server::{Server, ServerKind, ServerOptions};
use syncer_tests::{on_each_kind, wait};

/// Lets a replica hang, without a connection: it gets nothing of what is written from now on until its primary is gone.
fn cut_off(pair: &Pair, node: usize) {
    pair.one.nodes[node].process().pause();
    pair.one.nodes[0].client().ok("CLIENT KILL TYPE replica");
}

/// Files that have every write as soon as it is acknowledged.
const EACH_WRITE: [(&str, &str); 2] = [("appendonly", "yes"), ("appendfsync", "always")];

/// Instance 1's primary has crashed with writes that only its own file has, and its replica was promoted.
fn crashed_with_the_last_writes(kind: ServerKind) -> Pair {
    let mut pair = Pair::start(kind, 2, &EACH_WRITE);
    let mut client = pair.one.nodes[0].client();
    client.ok("MSET removed v kept v");
    pair.agree();
    cut_off(&pair, 1);
    client.ok("SET heard v");
    wait::eventually("instance 2 has it, and says so", || {
        pair.two.client().text("GET heard") == "v" && client.text("SYNCER.WAIT 1 1") == "1"
    });
    pair.stop_agents();
    for line in ["SET unheard v", "DEL removed", "SADD set a", "SREM set a"] {
        client.ok(line);
    }
    pair.one.nodes[0].kill();
    pair.one.nodes[1].process().resume();
    pair.one.nodes[1].client().ok("REPLICAOF NO ONE");
    pair.one.nodes[1].client().ok("SET by new");
    pair.restart_agents();
    wait::eventually("what instance 2 had comes back", || pair.one.nodes[1].client().text("GET heard") == "v");
    // The old one would be taken for the primary where it comes back as one.
    pair.stop_agents();
    pair
}

/// Its log names them, removals too, and nothing else; all nodes agree.
fn names_what_it_drops(pair: &mut Pair) {
    let old = &pair.one.nodes[0];
    old.follows();
    wait::eventually("it says what is dropped", || old.log().contains("they are dropped here: "));
    let dropped = "are dropped here: removed (database 0), set (database 0), unheard (database 0)\n";
    assert!(old.log().contains("rejected: 3 keys have writes of this server"), "{}", old.log());
    assert!(old.log().contains(dropped), "{}", old.log());
    pair.restart_agents();
    pair.agree();
    assert_eq!(pair.two.client().text("MGET heard removed kept unheard by"), "[v, v, v, (nil), new]");
}

on_each_kind! {
    /// FAILOVER hands over without losing anything.
    fn a_handover_under_load_loses_nothing(kind) {
        let mut pair = Pair::start(kind, 2, &[]);
        let written = under_load(&mut pair, |pair, rounds| {
            for _ in 0..2 {
                rounds.advance(100);
                let old = pair.one.primary().port();
                pair.one.client().ok("FAILOVER TIMEOUT 20000");
                wait::eventually("another node is the primary", || pair.one.primary().port() != old);
                rounds.advance(100);
            }
        });
        written.is_kept(&pair);
    }

    /// I-12: the new primary's backlog goes on where the old one's was, byte by byte.
    fn a_promoted_replica_has_the_backlog_of_its_primary(kind) {
        let pair = Pair::start(kind, 2, &[]);
        for i in 0..50 {
            pair.one.client().ok(&format!("HSET h f{i} {i}"));
            pair.two.client().ok(&format!("SADD s {i}"));
        }
        pair.agree();
        let before = pair.backlog(0);
        assert!(before.len() > 3000);
        pair.one.promote(1);
        pair.agree();
        let after = pair.backlog(0);
        assert!(after.starts_with(&before), "the new primary's backlog is another one");
        assert!(after.len() > before.len(), "its reign is behind");
    }

    /// And back again: both nodes have had both roles. The old primary takes writes for a moment longer, and says what it drops of them.
    fn the_primary_moves_and_comes_back(kind) {
        let mut pair = Pair::start(kind, 2, &[]);
        let written = under_load(&mut pair, |pair, rounds| {
            for node in [1, 0, 1] {
                rounds.advance(50);
                pair.one.promote(node);
            }
            rounds.advance(50);
        });
        written.is_kept_or_told(&pair, &pair.one.logs());
    }

    fn a_replica_crashes_restarts_and_is_promoted(kind) {
        let mut pair = Pair::start(kind, 2, &[]);
        let written = under_load(&mut pair, |pair, rounds| {
            rounds.advance(100);
            save(&pair.one.nodes[1]);
            rounds.advance(100);
            pair.one.nodes[1].kill();
            rounds.advance(100);
            pair.one.nodes[1].restart();
            pair.one.nodes[1].follows();
            rounds.advance(100);
        });
        written.is_kept(&pair);
        pair.one.promote(1);
        pair.agree();
        written.is_kept(&pair);
    }

    /// It had nobody to tell anything until now, and its old primary follows it without a full sync of the server's.
    fn who_is_promoted_right_after_its_first_sync_tells_all(kind) {
        let mut pair = Pair::start(kind, 1, &[]);
        pair.one.client().ok("SET n 0 EX 1000");
        let new = Server::start(kind, ServerOptions::instance(1).config("replicaof", "127.0.0.1 1"));
        let mut client = new.client();
        wait::eventually("it has been alone for a while", || !client.text("INFO server").contains("uptime_in_seconds:0"));
        client.ok(&format!("REPLICAOF 127.0.0.1 {}", pair.one.nodes[0].port()));
        new.follows();
        client.ok("REPLICAOF NO ONE");
        client.ok("INCR n");
        let known = client.text("SYNCER.KEY n");
        assert!(known.contains("strong, 0"), "T2: the increment says nothing of the TTL that came in a file: {known}");
        pair.one.nodes.push(new);
        pair.one.promote(1);
        (0..20).for_each(|_| drop(client.ok("INCR n")));
        pair.restart_agents();
        pair.agree();
        assert_eq!(pair.two.client().text("GET n"), "21");
    }

    /// The primary is gone; the replica had not got the last writes, but instance 2 had.
    fn a_replica_that_lacks_the_last_writes_gets_them_from_the_peer(kind) {
        let mut pair = Pair::start(kind, 2, &[]);
        pair.one.client().ok("SET early v");
        pair.agree();
        cut_off(&pair, 1);
        for i in 0..20 {
            pair.one.nodes[0].client().ok(&format!("INCR late:{}", i % 3));
        }
        wait::eventually("instance 2 has the last write", || pair.two.client().text("GET late:1") == "7");
        pair.one.nodes[0].kill();
        pair.one.nodes[1].process().resume();
        assert_eq!(pair.one.nodes[1].client().text("MGET early late:1"), "[v, (nil)]", "the replica lacks them");
        pair.one.nodes[1].client().ok("REPLICAOF NO ONE");
        pair.agree();
        assert_eq!(pair.one.client().text("MGET late:0 late:1 late:2"), "[7, 7, 6]");
        // The old primary comes back, and is a replica then.
        pair.one.nodes[0].restart();
        let port = pair.one.nodes[1].port();
        pair.one.nodes[0].client().ok(&format!("REPLICAOF 127.0.0.1 {port}"));
        pair.one.nodes[0].follows();
        pair.agree();
    }

    /// Replica, replica of a replica, and a new node that takes over in the end.
    fn an_instance_moves_to_a_new_node(kind) {
        let mut pair = Pair::start(kind, 2, &[]);
        let chained = pair.one.nodes[1].replica(ServerOptions::instance(1));
        pair.one.nodes.push(chained);
        let new = pair.one.grow();
        pair.restart_agents();
        let mut gone = None;
        let written = under_load(&mut pair, |pair, rounds| {
            rounds.advance(100);
            pair.one.promote(2);
            rounds.advance(100);
            pair.one.promote(new);
            rounds.advance(100);
            let mut old = pair.one.nodes.remove(0);
            old.kill();
            gone = Some((old.port(), old.log()));
        });
        let logs: Vec<_> = pair.one.logs().into_iter().chain(gone).collect();
        written.is_kept_or_told(&pair, &logs);
    }

    /// The primary comes back from an older file, and its replica with it. Of what came later, instance 2 brings back what it had.
    fn a_primary_with_a_replica_restarts_from_an_older_file(kind) {
        let mut pair = Pair::start(kind, 2, &[]);
        let written = under_load(&mut pair, |pair, rounds| {
            rounds.advance(100);
            save(&pair.one.nodes[0]);
            rounds.advance(100);
            pair.one.nodes[0].kill();
            let mut still = rounds.still();
            pair.one.nodes[0].restart();
            still.is_left_at(&[&pair.one.nodes[0], &pair.two.nodes[0]]);
            drop(still);
            pair.one.nodes[1].follows();
            rounds.advance(100);
        });
        written.is_kept(&pair);
    }

    /// Killed under load, it comes back from its append-only file, also with a replica. With `always` nothing is missing; else what instance 2 had comes back.
    fn a_primary_is_killed_under_load_and_comes_back_from_its_append_only_file(kind) {
        for (fsync, nodes) in [("always", 1), ("always", 2), ("everysec", 1), ("everysec", 2)] {
            let mut pair = Pair::start(kind, nodes, &[("appendonly", "yes"), ("appendfsync", fsync)]);
            let written = under_load(&mut pair, |pair, rounds| {
                for _ in 0..2 {
                    rounds.advance(100);
                    pair.one.nodes[0].kill();
                    if fsync == "always" {
                        pair.one.nodes[0].restart();
                    } else {
                        let mut still = rounds.still();
                        pair.one.nodes[0].restart();
                        still.is_left_at(&[&pair.one.nodes[0], &pair.two.nodes[0]]);
                    }
                    pair.one.nodes.iter().skip(1).for_each(Server::follows);
                }
                rounds.advance(100);
            });
            written.is_kept(&pair);
        }
    }

    /// A primary that was replaced lives on, and clients that nobody told write to it: the others take nothing from it, and it says so.
    /// At last it is a replica like any other.
    fn a_primary_that_was_replaced_and_lives_on_is_refused(kind) {
        let mut pair = Pair::start(kind, 2, &[]);
        pair.stop_agents();
        pair.one.nodes[1].client().ok("REPLICAOF NO ONE");
        let old = pair.one.nodes.remove(0);
        pair.restart_agents();
        pair.one.client().ok("SET k new");
        pair.agree();
        old.client().ok("SET misled v");
        let two = pair.two.nodes[0].port();
        let _misled = Agent::start(AgentOptions::beside(old.port()).peer(2, two).arg("--relay-after-ms").arg("300"));
        wait::eventually("the old primary knows that it was replaced", || {
            old.log().contains("another server is the primary of this instance now")
        });
        let fenced = Agent::start(AgentOptions::beside(two).peer(1, old.port()));
        wait::eventually("its effects are refused", || fenced.log().contains("SYNCERFENCED"));
        drop(fenced);
        wait::eventually("it names what it had taken", || old.log().contains("rejected: 1 keys have writes of this server") && old.log().contains("misled (database 0)"));
        let mut client = old.client();
        for line in ["SET later v", "DEL k", "EVAL return(redis.call('SET','later','v')) 0", "FLUSHALL"] {
            assert!(client.text(line).contains("SYNCERFENCED another server is the primary"), "{line}: {}", client.text(line));
        }
        client.ok("MULTI");
        assert_eq!(client.text("SET later v"), "QUEUED");
        assert!(client.text("EXEC").contains("SYNCERFENCED"));
        assert_eq!(client.text("MGET k misled later"), "[new, v, (nil)]", "reads go on");
        assert_eq!(pair.two.client().text("GET misled"), "(nil)");
        pair.restart_agents();
        let new = pair.one.nodes[0].port();
        old.client().ok(&format!("REPLICAOF 127.0.0.1 {new}"));
        old.follows();
        pair.one.nodes.push(old);
        pair.agree();
        assert_eq!(pair.one.nodes[1].client().text("MGET k misled"), "[new, (nil)]");
    }

    /// Nobody told it, but it is made a replica: what only it had is dropped, and it says of which keys. What its peers had got of it comes back.
    fn a_primary_that_is_demoted_names_what_is_dropped(kind) {
        let mut pair = Pair::start(kind, 2, &[]);
        // The replica hangs, so that the new primary has nothing of this.
        cut_off(&pair, 1);
        pair.one.nodes[0].client().ok("SET heard v");
        wait::eventually("instance 2 has it, and says so", || {
            pair.two.client().text("GET heard") == "v" && pair.one.nodes[0].client().text("SYNCER.WAIT 1 1") == "1"
        });
        pair.stop_agents();
        pair.one.nodes[0].client().ok("SET unheard v");
        pair.one.nodes[0].process().pause();
        pair.one.nodes[1].process().resume();
        pair.one.nodes[1].client().ok("REPLICAOF NO ONE");
        pair.one.nodes[1].client().ok("SET by new");
        pair.one.nodes[0].process().resume();
        let (old, new) = (&pair.one.nodes[0], pair.one.nodes[1].port());
        old.client().ok(&format!("REPLICAOF 127.0.0.1 {new}"));
        old.follows();
        wait::eventually("it says what is dropped", || old.log().contains("they are dropped here: unheard (database 0)"));
        assert!(old.log().contains("rejected: 1 keys"), "{}", old.log());
        pair.restart_agents();
        pair.agree();
        assert_eq!(pair.two.client().text("MGET heard unheard by"), "[v, (nil), new]");
    }

    /// As a sentinel does with who comes back.
    fn a_primary_that_crashed_and_is_made_a_replica_names_what_is_dropped(kind) {
        let mut pair = crashed_with_the_last_writes(kind);
        pair.one.nodes[0].restart();
        assert_eq!(pair.one.nodes[0].client().text("MGET unheard removed"), "[v, (nil)]", "its file has them");
        let port = pair.one.nodes[1].port();
        pair.one.nodes[0].client().ok(&format!("REPLICAOF 127.0.0.1 {port}"));
        names_what_it_drops(&mut pair);
    }

    /// As an operator does who has changed its configuration.
    fn a_primary_that_crashed_and_comes_back_as_a_replica_names_what_is_dropped(kind) {
        let mut pair = crashed_with_the_last_writes(kind);
        let primary = format!("127.0.0.1 {}", pair.one.nodes[1].port());
        let options = EACH_WRITE.iter().fold(ServerOptions::instance(1), |all, (name, value)| all.config(name, value));
        pair.one.nodes[0].restart_with(options.config("replicaof", &primary));
        names_what_it_drops(&mut pair);
    }

    /// What a replica drops is named only if its primary lacks it.
    fn a_replica_that_takes_all_anew_drops_nothing(kind) {
        let mut pair = Pair::start(kind, 2, &EACH_WRITE);
        // The file of a replica begins with its first rewrite.
        until_rewritten(&pair.one.nodes[1]);
        pair.stop_agents();
        (0..50).for_each(|i| drop(pair.one.client().ok(&format!("SET k{i} v"))));
        wait::eventually("the replica has all", || pair.one.nodes[1].client().text("EXISTS k49") == "1");
        // From an append-only file a server always takes all anew.
        pair.one.nodes[1].kill();
        pair.one.nodes[0].process().pause();
        pair.one.nodes[1].restart();
        assert_eq!(pair.one.nodes[1].client().text("EXISTS k0 k49"), "2", "its file has them");
        pair.one.nodes[0].process().resume();
        pair.one.nodes[1].follows();
        pair.restart_agents();
        pair.agree();
        let log = pair.one.nodes[1].log();
        assert!(log.matches("syncer: state loaded").count() > 1, "it took all anew: {log}");
        assert!(!log.contains("rejected"), "{log}");
    }
}
