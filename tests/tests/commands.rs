//! The module's own commands and settings, and what it refuses to start with.

use redis::Value;

use syncer_tests::client::Client;
use syncer_tests::server::{Server, ServerKind, ServerOptions};
use syncer_tests::{on_all_kinds, reply, wait};

/// Name, a wrong value, lowest and highest of each setting that is a number.
const RANGES: [(&str, &str, i64, i64); 9] = [
    ("backlog-size", "1kb", 1 << 20, 1 << 40),
    ("max-drift-ms", "99", 100, 86_400_000),
    ("apply-slice-us", "1000001", 50, 1_000_000),
    ("past-replication-ids", "0", 1, 1024),
    ("save-state", "2", 0, 1),
    ("report-applied", "-1", 0, 1),
    ("forgotten-writes", "yes", 0, 1),
    ("whole-coalesce-ms", "60001", 0, 60_000),
    ("whole-coalesce-size", "2gb", 0, 1 << 30),
];

/// A reply without what differs from one moment to the next, numbers and texts with digits, and with maps as the lists that they are in RESP2.
fn shape(value: &Value) -> String {
    match value {
        Value::Map(pairs) => {
            let all: String = pairs.iter().map(|(name, value)| shape(name) + &shape(value)).collect();
            format!("[{all}], ")
        }
        Value::Array(items) => format!("[{}], ", items.iter().map(shape).collect::<String>()),
        Value::Int(_) | Value::Nil => "number, ".to_owned(),
        other => {
            let text = reply::text(other);
            if text.bytes().any(|byte| byte.is_ascii_digit()) { "text, ".to_owned() } else { text + ", " }
        }
    }
}

fn each_kind(scenario: impl Fn(Server)) {
    for kind in ServerKind::ALL {
        scenario(Server::start(kind, ServerOptions::instance(1)));
    }
}

/// Forms of commands whose number of arguments depends on the first of them: one more is too many.
const FORMS: [&str; 26] = [
    "CLOCK LOGGED",
    "DIGEST SLOTS 1",
    "DIGEST KEYS 1 2 3",
    "DIGEST KEY 0 k",
    "JOIN CHECK",
    "PEER 2 INFO",
    "PEER 2 POSITION REPLID 1",
    "PEER 2 STATE down cause",
    "PSYNC 1 * 2 REPLID * ? -1 TOKEN alone",
    "REPORT 2 report",
    "REFUSED",
    "REFUSED.AS",
    "SNAPSHOT BEGIN 2 offer",
    "SNAPSHOT READ 1",
    "SYNC BEGIN 2 1 reason head",
    "SYNC COPY 2 1 1 1 head",
    "SYNC END 1",
    "SYNC COMPARE keys",
    "SYNC KEYS 1 keys",
    "SYNC LOAD 2 1 reason",
    "SYNC OFFER",
    "SYNC PIECE 1 bytes",
    "SYNC PREPARE 2",
    "SYNC STATUS",
    "SYNC SWAP 1",
    "SYNC WRITTEN 1 2 3",
];

/// As the server tells them: too few arguments and too many.
#[test]
fn every_command_is_documented_and_checks_its_arguments() {
    each_kind(|server| {
        let mut client = server.client();
        let help = client.text("SYNCER.HELP").to_ascii_lowercase();
        let names = client.text_items("COMMAND LIST FILTERBY MODULE syncer");
        assert!(names.len() > 20, "{names:?}");
        for name in &names {
            let docs = client.text(&format!("COMMAND DOCS {name}"));
            assert!(docs.contains("summary"), "{name} has no summary: {docs}");
            let info = client.ok(&format!("COMMAND INFO {name}"));
            assert!(reply::text(&info).contains('@'), "{name} has no ACL category: {}", reply::text(&info));
            let is_internal =
                ["syncer.call", "syncer.refused", "syncer.log", "syncer.look"].iter().any(|own| name.starts_with(own));
            let word = name.trim_start_matches("syncer.");
            assert!(is_internal || help.contains(word), "HELP does not tell of {name}: {help}");
            let arity = reply::integer(&reply::items(&reply::items(&info)[0])[1]);
            let words = |count: i64| format!("{name}{}", " 1".repeat(usize::try_from(count - 1).expect("few")));
            let wrong = |client: &mut Client, line: &str| {
                let answer = client.text(line);
                assert!(answer.contains("wrong number of arguments"), "{line}: {answer}");
            };
            if arity.abs() > 1 {
                wrong(&mut client, &words(arity.abs() - 1));
            }
            match arity > 0 {
                true => wrong(&mut client, &words(arity + 1)),
                false => {
                    let of_it = |form: &&&str| form.split(' ').next() == Some(&word.to_ascii_uppercase());
                    let forms: Vec<_> = FORMS.iter().filter(of_it).collect();
                    // What it runs says what is too many.
                    let runs = word.starts_with("call");
                    assert!(runs || !forms.is_empty(), "{name} takes any number of arguments, and has no form here");
                    for form in forms {
                        let form = form.replace("REPLID", &"a".repeat(40)).replace("TOKEN", "clock1");
                        let answer = client.text(&format!("SYNCER.{form} more"));
                        assert!(answer.starts_with('-') || form == "REFUSED", "SYNCER.{form} more: {answer}");
                        let by_number = answer.contains("wrong number of arguments");
                        let by_word = ["PSYNC", "REFUSED"].iter().any(|own| form.starts_with(own));
                        assert!(by_number || by_word, "SYNCER.{form} more: {answer}");
                    }
                }
            }
        }
        for (line, known) in [
            ("SYNCER.DIGEST x", "SLOTS, KEYS, KEY"),
            ("SYNCER.SYNC x", "COPY, COMPARE, PREPARE, BEGIN"),
            ("SYNCER.PEER 2 x", "INFO, POSITION, STATE"),
            ("SYNCER.SNAPSHOT x 1", "BEGIN, READ"),
            ("SYNCER.PEER 64 INFO", "1 to 63"),
            ("SYNCER.WAIT -1 10", "from 0 to"),
            ("SYNCER.READ 1 x", "from 0 to"),
        ] {
            let answer = client.text(line);
            assert!(answer.starts_with("-ERR") && answer.contains(known), "{line}: {answer}");
        }
    });
}

#[test]
fn the_module_refuses_to_load_without_a_valid_instance_id() {
    let wrong: [&[&str]; 7] = [
        &[],
        &["instance-id"],
        &["instance-id", "0"],
        &["instance-id", "64"],
        &["instance-id", "one"],
        &["instance-id", "1", "no-such-setting", "1"],
        &["instance-id", "1", "backlog-size", "-1"],
    ];
    for kind in ServerKind::ALL {
        for args in wrong {
            let log = Server::try_start(kind, ServerOptions::module(args)).err();
            let log = log.unwrap_or_else(|| panic!("{kind} loads the module with {args:?}"));
            let named = ["instance-id", "no-such-setting", "backlog-size"].iter().any(|name| log.contains(name));
            assert!(named, "{kind} with {args:?} does not say what is wrong:\n{log}");
        }
    }
}

#[test]
fn settings_are_read_and_set_like_the_servers_own() {
    each_kind(|server| {
        let mut client = server.client();
        assert_eq!(client.text("CONFIG GET syncer.instance-id"), "[syncer.instance-id, 1]");
        client.ok("CONFIG SET syncer.backlog-size 2mb");
        assert_eq!(client.text("CONFIG GET syncer.backlog-size"), "[syncer.backlog-size, 2097152]");
        for (name, _, min, max) in RANGES {
            let default = client.text(&format!("CONFIG GET syncer.{name}"));
            for wrong in [min - 1, max + 1] {
                let answer = client.text(&format!("CONFIG SET syncer.{name} {wrong}"));
                // Below zero are no bytes at all.
                let in_bytes = wrong < 0 && answer.contains("a memory value");
                let told = in_bytes || answer.contains(&min.to_string()) && answer.contains(&max.to_string());
                assert!(answer.starts_with("-ERR") && told, "{name} {wrong}: {answer}");
            }
            let answer = client.text(&format!("CONFIG SET syncer.{name} many"));
            assert!(answer.starts_with("-ERR") && answer.contains("must be") || answer.contains("parsed"), "{answer}");
            assert_eq!(client.text(&format!("CONFIG GET syncer.{name}")), default);
            for right in [min, max] {
                client.ok(&format!("CONFIG SET syncer.{name} {right}"));
                assert_eq!(client.text(&format!("CONFIG GET syncer.{name}")), format!("[syncer.{name}, {right}]"));
            }
        }
        assert!(client.text("CONFIG SET syncer.instance-id 2").starts_with("-ERR"), "it is who it is");
        assert!(client.text("CONFIG SET syncer.functions maybe").contains("on or off"));
        let all = client.text_items("CONFIG GET syncer.*");
        let numbers = all.chunks(2).filter(|pair| pair[1].parse::<i64>().is_ok()).count();
        assert_eq!(numbers, RANGES.len() + 1, "a setting has no range here: {all:?}");
    });
}

#[test]
fn the_table_of_settings_has_each_with_its_range() {
    let page = include_str!("../../docs/COMMANDS.md");
    for (name, _, min, max) in RANGES {
        let row = page.lines().find(|line| line.starts_with(&format!("| `syncer.{name}` |")));
        assert!(row.is_some_and(|row| row.contains(&format!("| {min} to {max} |"))), "{name}: {row:?}");
    }
}

/// As arguments of `loadmodule`: the log names the range.
#[test]
fn settings_at_load_name_their_ranges() {
    for (name, wrong, min, max) in RANGES {
        let log = Server::try_start(ServerKind::Valkey9, ServerOptions::instance(1).module_arg(name, wrong)).err();
        let log = log.unwrap_or_else(|| panic!("it loads with {name} {wrong}"));
        let told = format!("{name} is '{wrong}', but must be a number from {min} to {max}");
        assert!(log.contains(&told), "no {told:?} in:\n{log}");
    }
}

#[test]
fn figures_are_in_info() {
    each_kind(|server| {
        let mut client = server.client();
        client.pipeline(&["SET k v", "HSET h f v", "RPUSH l a"]);
        let info = client.text("INFO syncer");
        for figure in [
            "effects_captured",
            "effects_applied",
            "captured_whole",
            "conflicts",
            "metadata_bytes",
            "backlog_bytes",
            "sync_full_in",
            "sync_partial_ok",
            "sync_partial_err",
        ] {
            assert!(info.contains(&format!("{figure}:")), "INFO syncer has no {figure}: {info}");
        }
        assert!(!info.contains("effects_captured:0\\x0d"), "{info}");
    });
}

on_all_kinds! {
    /// Read your writes at another site.
    fn await_tells_whether_a_token_is_covered(cluster: 2) {
        cluster.cut(1, 2);
        cluster.client(1).ok("SET k v");
        let token = cluster.client(1).cmd("SYNCER.CLOCK");
        let token = reply::text(&token);
        let mut other = cluster.client(2);
        assert_eq!(other.text(&format!("SYNCER.AWAIT {token} 50")), "0");
        assert_eq!(cluster.client(1).text(&format!("SYNCER.AWAIT {token} 0")), "1");
        cluster.heal();
        assert_eq!(other.text(&format!("SYNCER.AWAIT {token} 0")), "1");
        assert_eq!(other.text("GET k"), "v");
        for wrong in ["SYNCER.AWAIT nonsense 10", &format!("SYNCER.AWAIT {token} -1"), &format!("SYNCER.AWAIT {token} x")] {
            assert!(other.text(wrong).starts_with('-'), "{wrong}");
        }
    }

    fn wait_tells_how_many_instances_have_everything(cluster: 3) {
        let mut client = cluster.client(1);
        client.ok("SET k v");
        // Without a limit, so that it ends by what it waits for only.
        assert_eq!(client.text("SYNCER.WAIT 2 0"), "2");
        cluster.cut(1, 2);
        cluster.cut(2, 3);
        client.ok("SET k w");
        assert_eq!(client.text("SYNCER.WAIT 1 0"), "1");
        assert_eq!(client.text("SYNCER.WAIT 2 200"), "1");
        cluster.heal();
        assert_eq!(client.text("SYNCER.WAIT 2 60000"), "2");
        assert_eq!(cluster.client(2).text("GET k"), "w");
    }

    /// In RESP3 as in RESP2, but that maps are maps.
    fn commands_answer_the_same_in_both_protocols(cluster: 2) {
        cluster.client(1).ok("SET k v");
        cluster.converged();
        let token = cluster.client(1).text("SYNCER.CLOCK");
        let waits = [format!("SYNCER.AWAIT {token} 100"), "SYNCER.WAIT 1 60000".to_owned()];
        let others = ["STATUS", "PEERS", "KEY k", "HELP", "DIGEST", "DIGEST KEYS 0-16383 10", "DIGEST KEY 0 k", "CLOCK", "PEER 2 INFO", "SYNC STATUS"];
        let mut maps = 0;
        for command in others.map(|command| format!("SYNCER.{command}")).into_iter().chain(waits) {
            let resp2 = cluster.client(1).ok(&command);
            let resp3 = cluster.client(1).resp3().ok(&command);
            assert_ne!(reply::text(&resp2), "(nil)", "{command}");
            maps += usize::from(reply::text(&resp3).contains('{'));
            assert_eq!(shape(&resp2), shape(&resp3), "{command}");
        }
        assert_eq!(maps, 3, "STATUS, PEERS and KEY answer maps");
        let peers = cluster.client(2).text("SYNCER.PEERS");
        assert!(peers.contains("streaming"), "{peers}");
    }

    /// An instance that counts something here, and its replica.
    fn info_has_the_figures_of_status(cluster: 2) {
        let replica = cluster.site(1).server.replica(ServerOptions::instance(1));
        cluster.client(1).pipeline(&["SET k v", "HSET h f v", "RPUSH l a", "SADD s a", "SADD s a"]);
        cluster.client(2).ok("SET k w");
        cluster.converged();
        for (mut client, role) in [(cluster.client(1), "primary"), (cluster.client(2), "primary"), (replica.client(), "replica")] {
            let status = client.ok("SYNCER.STATUS");
            let told = ["instance", "role", "replid"].map(|name| reply::text(reply::field(&status, name)));
            let info = client.text("INFO syncer");
            for (name, told) in ["instance_id", "role", "replid"].iter().zip(&told) {
                assert!(info.contains(&format!("syncer_{name}:{told}\\x0d")), "{name} is {told}: {info}");
            }
            assert_eq!(told[1], role);
            // Reports go on, so once they must be the same.
            let mut both = (Vec::new(), String::new());
            let is_same = || {
                let counters = reply::text_items(reply::field(&client.ok("SYNCER.STATUS"), "counters"));
                both = (counters, client.text("INFO syncer"));
                let is_in = |pair: &[String]| both.1.contains(&format!("syncer_{}:{}\\x0d", pair[0], pair[1]));
                (both.0.len() > 40 && both.0.chunks(2).all(is_in)).then_some(())
            };
            assert!(wait::within(wait::PATIENCE, is_same).is_some(), "{role}: {both:?}");
        }
    }

    /// Equal data has an equal digest, however it is encoded and whoever wrote it.
    fn the_digest_does_not_depend_on_the_encoding(cluster: 2) {
        cluster.client(1).ok("CONFIG SET hash-max-listpack-entries 1");
        cluster.client(1).ok("CONFIG SET set-max-intset-entries 1");
        cluster.client(1).ok("HSET h f 1 g 2 h 3");
        cluster.client(2).ok("SADD s 3 2 1");
        cluster.client(1).ok("SET n 12345");
        cluster.converged();
        let digest = cluster.client(1).text("SYNCER.DIGEST");
        cluster.client(2).ok("HSET h f 2");
        cluster.converged();
        assert_ne!(cluster.client(1).text("SYNCER.DIGEST"), digest);
        cluster.client(1).ok("HSET h f 1");
        cluster.converged();
        assert_eq!(cluster.client(1).text("SYNCER.DIGEST"), digest);
    }
}
