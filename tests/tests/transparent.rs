//! Clients notice nothing: restricted users, refusals, transactions and observation are as on a stock server.

use redis::Value;

use syncer_tests::client::{Client, words};
use syncer_tests::server::{Server, ServerKind, ServerOptions};
use syncer_tests::{on_all_kinds, reply};

/// Runs the same lines, in groups of one client each, against a stock server and one with the module, and compares the
/// replies.
fn as_on_stock(groups: &[&[&str]]) {
    for kind in ServerKind::ALL {
        let replies = [ServerOptions::stock(), ServerOptions::instance(1)].map(|options| {
            let server = Server::start(kind, options);
            groups.iter().flat_map(|lines| replies(&mut server.client(), lines)).collect::<Vec<String>>()
        });
        let [stock, ours] = &replies;
        let differing = stock.iter().zip(ours).filter(|(stock, ours)| stock != ours);
        let complaints: Vec<String> = differing.map(|(stock, ours)| format!("  {stock}\n  {ours}")).collect();
        assert!(complaints.is_empty(), "replies of stock {kind}, and with the module:\n{}", complaints.join("\n"));
    }
}

fn replies(client: &mut Client, lines: &[&str]) -> Vec<String> {
    // The reply to HELLO lists connection ids and modules: rightly others.
    let shown = |line: &str, answer: String| if line.starts_with("HELLO") { String::new() } else { answer };
    lines.iter().map(|line| format!("{line} -> {}", shown(line, client.text(line)))).collect()
}

const USER: &str = "ACL SETUSER app on >pw ~app:* +set +get +hset +spop +sadd +zadd +zpopmin +multi +exec +eval +copy";

#[test]
fn a_restricted_user_can_do_what_it_may_and_no_more() {
    as_on_stock(&[
        &[USER, "SADD app:s a", "ZADD app:z 1 a 2 b"],
        &[
            "AUTH app pw",
            "SET app:k v",
            "SET other v",
            "HSET app:h f v",
            "SPOP app:s",
            "ZPOPMIN app:z 1",
            "DEL app:k",
            "COPY app:k app:k2",
            "COPY app:k other",
            "EVAL return(redis.call('SET',KEYS[1],'w')) 1 app:k",
            "EVAL return(redis.pcall('DEL',KEYS[1])) 1 app:k",
            "MULTI",
            "SET app:k v",
            "SPOP app:s 2",
            "EXEC",
            "MULTI",
            "SPOP other",
            "SET app:k v",
            "EXEC",
            "MULTI",
            "DEL app:k",
            "EXEC",
        ],
    ]);
}

#[test]
fn who_is_not_authenticated_gets_nothing() {
    as_on_stock(&[
        &["SET k v", "SADD s a b c", "CONFIG SET requirepass pw"],
        &["SET k w", "SPOP s", "ZPOPMIN z", "MULTI", "SPOP s", "EXEC", "AUTH pw", "SCARD s", "GET k"],
    ]);
}

/// The wrapper that the module puts in front of some commands must not be a way around a password or an ACL.
#[test]
fn the_commands_of_the_module_are_no_way_around_access_control() {
    let wrappers =
        ["SYNCER.CALL SET k w", "SYNCER.LOG x", "SYNCER.APPLY 2 x 0 0 0 0 x", "SYNCER.STATUS", "SYNCER.CLOCK"];
    for kind in ServerKind::ALL {
        let server = Server::start(kind, ServerOptions::instance(1));
        let mut admin = server.client();
        admin.ok(USER);
        admin.ok("SET k v");
        let names = admin.text_items("COMMAND LIST FILTERBY MODULE syncer");
        assert!(!names.is_empty(), "the module's commands are listed");
        admin.ok("CONFIG SET requirepass pw");
        let mut stranger = server.client();
        let lines =
            wrappers.iter().map(|line| (*line).to_owned()).chain(names.iter().map(|name| format!("{name} SET k w")));
        for line in lines {
            // The number of arguments is checked before the password, by stock servers too.
            let answer = stranger.text(&line);
            assert!(answer.starts_with("-NOAUTH") || answer.contains("number of arguments"), "{line}: {answer}");
        }
        let mut app = server.client();
        app.ok("AUTH app pw");
        for name in &names {
            let answer = app.cmd(&format!("{name} SET k w"));
            assert!(reply::is_error(&answer), "{name} SET k w: {}", reply::text(&answer));
        }
        assert_eq!(admin.text("GET k"), "v", "somebody came around access control");
    }
}

#[test]
fn transactions_and_refusals_are_as_on_stock() {
    as_on_stock(&[
        &["SADD s a b c", "ZADD z 1 a 2 b", "SET k v", "RPUSH l a b"],
        &["MULTI", "SET k", "SET k v", "EXEC"],
        &["MULTI", "NOSUCH", "SPOP s", "EXEC"],
        &["MULTI", "SPOP s 0", "ZPOPMIN z", "LPOP l", "GETDEL k", "INCR n", "EXEC"],
        &["MULTI", "SPOP k", "ZREMRANGEBYSCORE z x y", "SET k w", "EXEC"],
        &["WATCH k", "SET k x", "MULTI", "SPOP s", "EXEC"],
        &["MULTI", "ZPOPMAX z", "DISCARD", "ZCARD z"],
        &["MULTI", "MULTI", "EXEC", "EXEC", "DISCARD"],
        &["ZREMRANGEBYRANK z", "SPOP s -1", "SPOP s 1 2", "ZPOPMIN z x", "SET k v EX 0", "LTRIM l a b", "COPY k k"],
        &["EVAL return(redis.call('SPOP','k')) 0", "EVAL return(redis.pcall('ZPOPMIN','z','-1')) 0"],
        &["HELLO 3", "ZPOPMIN z 1", "SPOP s 0", "HGETALL none", "INCRBYFLOAT f 1.5", "ZINCRBY z2 1.5 m"],
    ]);
}

#[test]
fn out_of_memory_refuses_as_on_stock() {
    as_on_stock(&[
        &["SADD s a b c", "SET k v", "CONFIG SET maxmemory 1"],
        &["SET k w", "SADD s d", "GET k", "SCARD s"],
        &["MULTI", "SET k w", "EXEC", "MULTI", "SREM s a", "EXEC", "DEL k"],
    ]);
}

#[test]
fn read_only_commands_and_info_stay() {
    as_on_stock(&[
        &["SET k v", "HSET h f v g w"],
        &["OBJECT ENCODING k", "OBJECT REFCOUNT k", "TYPE h", "DBSIZE", "HSTRLEN h f", "GETRANGE k 0 0", "TTL k"],
        &["COMMAND GETKEYS SET k v", "COMMAND GETKEYS SPOP k", "COMMAND GETKEYS ZADD z 1 a"],
        &["SUBSTR k 0 0", "EVAL_RO return(redis.call('GET','k')) 0", "EVAL_RO return(redis.call('SET','k','w')) 0"],
    ]);
}

#[test]
fn monitor_and_slowlog_show_what_clients_sent() {
    for kind in ServerKind::ALL {
        let server = Server::start(kind, ServerOptions::instance(1));
        let mut client = server.client();
        client.ok("CONFIG SET slowlog-log-slower-than 0");
        let mut monitor = server.client();
        monitor.ok("MONITOR");
        client.ok("SADD s a b c");
        client.ok("SPOP s 1");
        client.multi(&["ZADD z 1 a", "ZPOPMIN z 1"]);
        client.ok("SET last v");
        let mut seen = String::new();
        while !seen.contains("\"last\"") {
            seen += &reply::text(&monitor.receive().expect("MONITOR goes on"));
            seen.push('\n');
        }
        // Each as it was sent, alone or behind the name of a wrapper.
        let is_seen = |line: &str| seen.lines().any(|shown| shown.ends_with(line));
        for line in [
            r#"] "SADD" "s" "a" "b" "c""#,
            r#" "SPOP" "s" "1""#,
            r#"] "MULTI""#,
            r#"] "SYNCER.CALL.OOM" "ZADD" "z" "1" "a""#,
            r#"] "SYNCER.CALL" "ZPOPMIN" "z" "1""#,
            r#"] "EXEC""#,
        ] {
            let line = line.replace("SYNCER.CALL.OOM", "syncer.call.oom").replace("SYNCER.CALL\"", "syncer.call\"");
            assert!(is_seen(&line), "no {line} in\n{seen}");
        }
        let slow = client.text("SLOWLOG GET 40");
        for line in
            ["[SADD, s, a, b, c]", "SPOP, s, 1]", "syncer.call, ZPOPMIN, z, 1]", "syncer.call.oom, ZADD, z, 1, a]"]
        {
            assert!(slow.contains(line), "no {line} in {slow}");
        }
    }
}

/// What is there, and a write of `k`.
const WATCHED: [(&str, &str); 20] = [
    ("SADD k a b", "SPOP k"),
    ("SADD k a b", "SMOVE k other a"),
    ("SADD k a", "SADD k a"),
    ("SADD k a", "SADD k b"),
    ("HSET k f 1", "HINCRBYFLOAT k f 0.5"),
    ("HSET k f 1", "HDEL k none"),
    ("ZADD k 1 a 2 b", "ZPOPMIN k"),
    ("ZADD k 1 a", "ZADD k GT 0 a"),
    ("ZADD k 1 a", "ZADD k GT INCR 1 a"),
    ("RPUSH k a b", "LINSERT k BEFORE a x"),
    ("RPUSH k a b", "LPOP k"),
    ("XADD k 1-1 f v", "XADD k 2-1 f v"),
    ("PFADD k a", "PFADD k b"),
    ("SET k v", "SET k w"),
    ("SET k v", "GETDEL k"),
    ("SET k 5", "INCRBYFLOAT k 0.5"),
    ("SET k v", "APPEND k x"),
    ("SETBIT k 1 1", "SETBIT k 9 1"),
    ("SET k v", "EXPIRE k 100"),
    ("SET k v EX 100", "PERSIST k"),
];

/// How a write comes.
const WAYS: [&str; 4] = ["plain", "transaction", "script", "itself"];

/// Whether a transaction that watches `k` still runs, and what is invalidated at who has read it: itself wrote it, and does not want to hear of that,
/// in the last way.
fn seen(server: &Server, before: &str, write: &str, way: &str) -> String {
    let mut writer = server.client();
    writer.ok("FLUSHALL");
    writer.ok(before);
    let (mut watching, mut tracking) = (server.client(), server.client().resp3());
    watching.ok("WATCH k");
    tracking.ok(if way == "itself" { "CLIENT TRACKING ON NOLOOP" } else { "CLIENT TRACKING ON" });
    tracking.pipeline(&["EXISTS k", "EXISTS end"]);
    match way {
        "plain" => drop(writer.ok(write)),
        "transaction" => drop(writer.multi(&[write])),
        "script" => {
            let words: Vec<Vec<u8>> = words(write);
            let script = [&b"EVAL"[..], b"return redis.call(unpack(ARGV))", b"0"];
            writer.args(&script.into_iter().chain(words.iter().map(Vec::as_slice)).collect::<Vec<_>>());
        }
        _ => drop(tracking.ok(write)),
    }
    let runs = reply::text(&watching.multi(&["PING"]));
    writer.ok("SET end now");
    let mut invalidated = Vec::new();
    while !invalidated.iter().any(|keys: &String| keys.contains("end")) {
        invalidated.push(reply::text(&tracking.receive().expect("an invalidation is pushed")));
    }
    format!("{before} | {write} ({way}): watched: {runs}, invalidated: {invalidated:?}")
}

/// Most of these go through `SYNCER.CALL` in transactions and scripts, some always.
#[test]
fn writes_touch_what_others_watch_and_track_as_on_stock() {
    for kind in ServerKind::ALL {
        let [stock, ours] = [ServerOptions::stock(), ServerOptions::instance(1)].map(|options| {
            let server = Server::start(kind, options);
            let each = WATCHED.iter().flat_map(|(before, write)| WAYS.map(|way| (*before, *write, way)));
            each.map(|(before, write, way)| seen(&server, before, write, way)).collect::<Vec<_>>()
        });
        let touched = stock.iter().filter(|line| line.contains("watched: (nil)") && line.contains("[[k]]")).count();
        assert!(touched > WATCHED.len() * 2, "{stock:#?}");
        let differing: Vec<_> = stock.iter().zip(&ours).filter(|(stock, ours)| stock != ours).collect();
        assert!(differing.is_empty(), "{kind}, stock and with the module: {differing:#?}");
    }
}

/// Blocking commands still block, and are served by whoever writes.
#[test]
fn blocking_commands_block() {
    for kind in ServerKind::ALL {
        let server = Server::start(kind, ServerOptions::instance(1));
        let mut client = server.client();
        for (blocking, write, served) in [
            ("BLPOP l 0", "RPUSH l a", "[l, a]"),
            ("BZPOPMIN z 0", "ZADD z 1 a", "[z, a, 1]"),
            ("XREAD BLOCK 0 STREAMS x $", "XADD x 1-1 f v", "[[x, [[1-1, [f, v]]]]]"),
            ("BLMOVE l m LEFT LEFT 0", "LPUSH l a", "a"),
        ] {
            let mut waiter = server.client();
            waiter.block(blocking, &mut client);
            client.ok(write);
            assert_eq!(
                waiter.receive().map(|answer| reply::text(&answer)).ok().as_deref(),
                Some(served),
                "{kind}: {blocking}"
            );
        }
        let mut waiter = server.client();
        assert_eq!(waiter.cmd("BLPOP none 0.01"), Value::Nil);
    }
}

on_all_kinds! {
    /// They go through twins of `SYNCER.CALL`, which need no rights of their own; those of a default user that may not run it, as they are.
    fn what_restricted_users_write_reaches_the_other_site(cluster: 2) {
        const MAY: &str = "+sadd +spop +zadd +zpopmin +hset +hincrbyfloat +rpush +lpop +multi +exec +eval";
        let mut boss = cluster.client(1);
        boss.ok("ACL SETUSER boss on >pw ~* &* +@all");
        boss.ok(&format!("ACL SETUSER app on >pw ~* {MAY}"));
        boss.ok("AUTH boss pw");
        let write = |client: &mut Client, way: &str| {
            assert!(client.text("SYNCER.CALL SET k v").starts_with("-NOPERM"), "{way} has the right");
            let plain = ["SADD {}s a b c d", "SPOP {}s", "ZADD {}z 1 a 5 b", "ZADD {}z GT INCR 2 a", "HINCRBYFLOAT {}h f 0.5", "RPUSH {}l a b", "LPOP {}l"];
            let in_multi = ["MULTI", "SPOP {}s", "ZPOPMIN {}z", "HSET {}h g 1", "EXEC"];
            let in_script = ["EVAL return(redis.call('SPOP','{}s')) 0"];
            for line in plain.iter().chain(&in_multi).chain(&in_script) {
                drop(client.ok(&line.replace("{}", way)));
            }
        };
        let mut app = cluster.client(1);
        app.ok("AUTH app pw");
        write(&mut app, "app:");
        cluster.converged();
        boss.ok(&format!("ACL SETUSER default -@all {MAY}"));
        write(&mut cluster.site(1).client(), "default:");
        boss.ok("ACL SETUSER default +@all");
        cluster.converged();
        let mut other = cluster.client(2);
        for way in ["app:", "default:"] {
            let shown = ["SCARD {}s", "ZRANGE {}z 0 -1 WITHSCORES", "HGET {}h f", "HGET {}h g", "LRANGE {}l 0 -1"];
            let shown = shown.map(|line| other.text(&line.replace("{}", way)));
            assert_eq!(shown, ["1", "[b, 5]", "0.5", "1", "[b]"], "{way}");
        }
    }
}
