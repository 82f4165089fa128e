//! What one site does arrives at the others: each kind of value, each way of writing, each database.

use std::time::Duration;

use syncer_tests::cluster::Cluster;
use syncer_tests::{on_all_kinds, reply, wait};

/// What `line` answers at every site, which must be the same.
fn everywhere(cluster: &Cluster, line: &str) -> String {
    let answers: Vec<String> = cluster.sites().iter().map(|site| site.client().text(line)).collect();
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{line}: {answers:?}");
    answers[0].clone()
}

on_all_kinds! {
    fn writes_arrive_in_both_directions(cluster: 2) {
        cluster.client(1).ok("SET from1 a");
        cluster.client(2).ok("SET from2 b");
        cluster.converged();
        assert_eq!(everywhere(cluster, "MGET from1 from2"), "[a, b]");
        cluster.client(2).ok("APPEND from1 2");
        cluster.client(1).ok("DEL from2");
        cluster.converged();
        assert_eq!(everywhere(cluster, "MGET from1 from2"), "[a2, (nil)]");
    }

    fn counters_add_up(cluster: 3) {
        let lines: Vec<String> = (0..500).flat_map(|_| ["INCR n", "HINCRBY h f 2", "ZINCRBY z 3 m"].map(str::to_owned)).collect();
        std::thread::scope(|scope| {
            for site in cluster.sites() {
                scope.spawn(|| site.client().pipeline(&lines));
            }
        });
        cluster.converged();
        assert_eq!(everywhere(cluster, "GET n"), "1500");
        assert_eq!(everywhere(cluster, "HGET h f"), "3000");
        assert_eq!(everywhere(cluster, "ZSCORE z m"), "4500");
    }

    fn every_database_is_replicated(cluster: 2) {
        let mut client = cluster.client(1);
        for db in 0..16 {
            client.ok(&format!("SELECT {db}"));
            client.ok(&format!("SET k {db}"));
        }
        client.multi(&["SELECT 3", "SET m 3", "SELECT 4", "SET m 4", "SELECT 0", "SET m 0"]);
        client.ok("COPY k copied DB 9");
        client.ok("SET k after-copy");
        cluster.converged();
        let mut other = cluster.client(2);
        for db in 1..16 {
            other.ok(&format!("SELECT {db}"));
            assert_eq!(other.text("GET k"), db.to_string());
        }
        other.ok("SELECT 9");
        assert_eq!(other.text("GET copied"), "0");
        assert_eq!(everywhere(cluster, "MGET k m"), "[after-copy, 0]");
    }

    fn flushes_and_swaps_arrive(cluster: 2) {
        let mut client = cluster.client(1);
        client.ok("MSET a 1 b 2");
        client.ok("SELECT 1");
        client.ok("SET c 3");
        client.ok("SWAPDB 0 1");
        cluster.converged();
        assert_eq!(everywhere(cluster, "KEYS *"), "[c]");
        cluster.client(2).ok("FLUSHDB");
        cluster.converged();
        assert_eq!(everywhere(cluster, "DBSIZE"), "0");
        cluster.client(2).ok("SELECT 1");
        cluster.client(2).ok("FLUSHALL ASYNC");
        cluster.converged();
        assert_eq!(everywhere(cluster, "INFO keyspace"), "# Keyspace\\x0d\\x0a");
    }

    /// DESIGN 2: what the flusher had not seen survives.
    fn a_write_survives_a_concurrent_flush(cluster: 2) {
        cluster.client(1).ok("MSET k old other old");
        cluster.client(1).ok("HSET h f old g old");
        cluster.converged();
        cluster.cut(1, 2);
        cluster.client(1).ok("FLUSHALL");
        cluster.client(2).ok("SET k new");
        cluster.client(2).ok("HSET h g new");
        cluster.heal();
        cluster.converged();
        assert_eq!(everywhere(cluster, "MGET k other"), "[new, (nil)]");
        assert_eq!(everywhere(cluster, "HGETALL h"), "[g, new]");
    }

    fn blocked_clients_take_once(cluster: 2) {
        let cases = [
            ("BLPOP l 0", "RPUSH l a b c"),
            ("BRPOP l 0", "RPUSH l a b"),
            ("BLMOVE l l2 LEFT RIGHT 0", "RPUSH l a"),
            ("BRPOPLPUSH l l2 0", "RPUSH l a b"),
            ("BLMPOP 0 1 l LEFT COUNT 2", "RPUSH l a b c"),
            ("BZPOPMIN z 0", "ZADD z 1 a 2 b"),
            ("BZPOPMAX z 0", "ZADD z 1 a"),
            ("BZMPOP 0 1 z MIN COUNT 2", "ZADD z 1 a 2 b 3 c"),
            ("BLPOP l 0", "EVAL redis.call('RPUSH','l','a','b')redis.call('SET','x','1') 0"),
        ];
        let mut client = cluster.client(1);
        for (blocking, write) in cases {
            client.ok("DEL l l2 z");
            let mut waiter = cluster.client(1);
            waiter.block(blocking, &mut client);
            client.ok(write);
            let answer = waiter.receive().expect("the blocked client is served");
            assert!(!reply::is_error(&answer), "{blocking}: {}", reply::text(&answer));
            cluster.converged();
        }
    }

    /// A client blocked at one site is served by a write at the other.
    fn a_remote_write_serves_a_blocked_client(cluster: 2) {
        let mut waiter = cluster.client(2);
        waiter.block("BZPOPMIN z 0", &mut cluster.client(2));
        cluster.client(1).ok("ZADD z 5 job 6 later");
        assert_eq!(reply::text(&waiter.receive().expect("the blocked client is served")), "[z, job, 5]");
        cluster.converged();
        assert_eq!(everywhere(cluster, "ZRANGE z 0 -1"), "[later]");
    }

    fn expiry_arrives_and_leaves_nothing(cluster: 2) {
        let mut client = cluster.client(1);
        client.pipeline(&["SET lazy v PX 30", "SET n 1", "PEXPIRE n 30", "HSET h f v", "PEXPIRE h 30", "SET stays v"]);
        cluster.converged();
        let gone = |instance| {
            let mut client = cluster.client(instance);
            move || client.text("EXISTS lazy n h") == "0"
        };
        wait::eventually("the keys expire at site 1", gone(1));
        wait::eventually("the keys expire at site 2", gone(2));
        cluster.converged();
        assert_eq!(everywhere(cluster, "KEYS *"), "[stays]");
    }

    /// T2: a counter whose key expires elsewhere never lives on without TTL.
    fn a_rate_limiter_keeps_its_expiry(cluster: 2) {
        cluster.client(1).multi(&["INCR limit", "PEXPIRE limit 300"]);
        cluster.converged();
        cluster.cut(1, 2);
        let mut other = cluster.client(2);
        other.ok("INCR limit");
        let mut client = cluster.client(1);
        wait::eventually("the counter expires at site 1", || client.text("EXISTS limit") == "0");
        cluster.heal();
        cluster.converged();
        wait::eventually("the counter expires everywhere", || other.text("EXISTS limit") == "0");
        cluster.converged();
    }

    /// T6, T7: who extended a key writes it again when it expires elsewhere.
    fn an_extended_key_outlives_its_expiry_elsewhere(cluster: 2) {
        cluster.client(1).multi(&["SET k v", "PEXPIRE k 300", "HSET h f 1 g 2", "PEXPIRE h 300"]);
        cluster.converged();
        cluster.cut(1, 2);
        cluster.client(2).pipeline(&["PEXPIREAT k 4000000000000", "PERSIST h", "HINCRBY h f 1"]);
        let mut client = cluster.client(1);
        wait::eventually("the keys expire at site 1", || client.text("EXISTS k h") == "0");
        cluster.heal();
        cluster.converged();
        assert_eq!(everywhere(cluster, "GET k"), "v");
        assert_eq!(everywhere(cluster, "PEXPIRETIME k"), "4000000000000");
        assert_eq!(everywhere(cluster, "HMGET h f g"), "[2, 2]");
        assert_eq!(everywhere(cluster, "PTTL h"), "-1");
    }

    /// A value that lost against a later one is parked: it shows when the winner goes by a hand that had not seen it.
    fn a_parked_value_shows_when_the_winner_is_removed(cluster: 3) {
        cluster.cut_all();
        cluster.client(1).pipeline(&["SET k earlier", "HSET h f earlier", "SADD typed earlier"]);
        cluster.heal_between(2, 3);
        cluster.client(2).pipeline(&["SET k later", "HSET h f later", "SET typed later"]);
        cluster.caught_up(2, 3);
        cluster.client(3).pipeline(&["DEL k", "HDEL h f", "DEL typed"]);
        cluster.heal();
        cluster.converged();
        assert_eq!(everywhere(cluster, "GET k"), "earlier");
        assert_eq!(everywhere(cluster, "HGET h f"), "earlier");
        assert_eq!(everywhere(cluster, "SMEMBERS typed"), "[earlier]");
        cluster.client(2).pipeline(&["DEL k", "DEL h", "DEL typed"]);
        cluster.converged();
        assert_eq!(everywhere(cluster, "DBSIZE"), "0");
    }

    /// A score that is looked at, and then added to, in one unit (torture, seed 1624).
    fn scores_are_looked_at_before_what_adds_to_them(cluster: 2) {
        let mut client = cluster.client(1);
        client.multi(&["ZADD z 1 a", "ZADD z GT 5 a", "ZINCRBY z 0.5 a"]);
        client.multi(&["GEOADD geo 13.36 38.11 a", "ZADD geo XX INCR 1 a", "GEOADD geo CH 15 37 b"]);
        client.ok("EVAL redis.call('ZADD','s','NX','2','a')redis.call('ZINCRBY','s','3','a') 0");
        cluster.converged();
        assert_eq!(everywhere(cluster, "ZSCORE z a"), "5.5");
        assert_eq!(everywhere(cluster, "ZSCORE s a"), "5");
    }

    fn functions_write_like_scripts(cluster: 2) {
        let library = "#!lua name=tests\nredis.register_function('put',function(keys,args)redis.call('SET',keys[1],args[1])return redis.call('INCR',keys[2])end)";
        let mut client = cluster.client(1);
        client.args(&["FUNCTION", "LOAD", library]);
        assert_eq!(client.text("FCALL put 2 k n v"), "1");
        cluster.converged();
        assert_eq!(everywhere(cluster, "MGET k n"), "[v, 1]");
    }

    fn evicted_keys_go_everywhere(cluster: 2) {
        let mut client = cluster.client(1);
        let value = "x".repeat(10_000);
        client.pipeline(&(0..500).map(|key| format!("SET k{key} {value}")).collect::<Vec<_>>());
        cluster.converged();
        client.ok("CONFIG SET maxmemory-policy allkeys-lru");
        let used = reply::text(&client.cmd("INFO memory"));
        let used: u64 = used.split("used_memory:").nth(1).and_then(|rest| rest.split('\\').next()?.parse().ok()).expect("used_memory");
        client.ok(&format!("CONFIG SET maxmemory {}", used - 1_000_000));
        wait::eventually("keys are evicted", || client.text("DBSIZE") != "500");
        client.ok("CONFIG SET maxmemory 0");
        cluster.converged();
    }

    /// Remote writes are writes: they notify, invalidate tracked clients and touch watched keys.
    fn remote_writes_are_seen_by_watch_and_tracking(cluster: 2) {
        cluster.client(2).ok("SET k old");
        cluster.converged();
        let mut watching = cluster.client(2);
        watching.ok("WATCH k");
        let mut tracking = cluster.client(2).resp3();
        tracking.ok("CLIENT TRACKING ON");
        tracking.ok("GET k");
        let mut subscribed = cluster.client(2);
        subscribed.ok("CONFIG SET notify-keyspace-events KEA");
        subscribed.ok("SUBSCRIBE __keyspace@0__:k");
        cluster.client(1).ok("SET k new");
        cluster.converged();
        assert_eq!(reply::text(&watching.multi(&["GET k"])), "(nil)");
        tracking.patience(Duration::from_secs(10));
        assert_eq!(reply::text(&tracking.receive().expect("an invalidation is pushed")), "[[k]]");
        assert_eq!(reply::text(&subscribed.receive().expect("a notification")), "[message, __keyspace@0__:k, set]");
    }

    /// The same for writes of every type: watched, tracked, notified with the event that the write has on one server. `RENAME` travels as what it
    /// leaves.
    fn remote_writes_of_every_type_are_seen(cluster: 2) {
        let cases = [
            ("SET s v", "s", "GET s", "set"),
            ("APPEND ap x", "ap", "GET ap", "setrange"),
            ("INCR n", "n", "GET n", "incrby"),
            ("HSET h f w", "h", "HGETALL h", "hset"),
            ("HDEL h2 f", "h2", "HGETALL h2", "hdel"),
            ("SADD set b", "set", "SMEMBERS set", "sadd"),
            ("SREM set2 a", "set2", "SMEMBERS set2", "srem"),
            ("ZADD z 2 b", "z", "ZRANGE z 0 -1", "zadd"),
            ("RPUSH l b", "l", "LRANGE l 0 -1", "rpush"),
            ("LPOP l2", "l2", "LRANGE l2 0 -1", "lpop"),
            ("XADD x 2-1 f v", "x", "XRANGE x - +", "xadd"),
            ("DEL d", "d", "GET d", "del"),
            ("PEXPIREAT e 4000000000000", "e", "GET e", "expire"),
            ("RENAME r r2", "r", "GET r", "del"),
        ];
        let before = ["MSET s 0 ap 0 n 1 d 1 e 1 r 1", "HSET h f v", "HSET h2 f v g v", "SADD set a", "SADD set2 a b", "ZADD z 1 a", "RPUSH l a", "RPUSH l2 a b", "XADD x 1-1 f v"];
        let mut writer = cluster.client(1);
        before.iter().for_each(|line| drop(writer.ok(line)));
        cluster.converged();
        cluster.client(2).ok("CONFIG SET notify-keyspace-events KEA");
        for (write, key, read, event) in cases {
            let mut watching = cluster.client(2);
            watching.ok(&format!("WATCH {key}"));
            let mut tracking = cluster.client(2).resp3();
            tracking.ok("CLIENT TRACKING ON");
            tracking.ok(read);
            let mut subscribed = cluster.client(2);
            subscribed.ok(&format!("SUBSCRIBE __keyspace@0__:{key}"));
            writer.ok(write);
            cluster.caught_up(1, 2);
            assert_eq!(reply::text(&watching.multi(&["PING"])), "(nil)", "{write} touches no watched key");
            tracking.patience(Duration::from_secs(10));
            assert_eq!(reply::text(&tracking.receive().expect("an invalidation is pushed")), format!("[[{key}]]"), "{write}");
            subscribed.patience(Duration::from_secs(10));
            let message = reply::text(&subscribed.receive().expect("a notification"));
            assert_eq!(message, format!("[message, __keyspace@0__:{key}, {event}]"), "{write}");
        }
    }
}
