//! The module's own commands and settings, and what it refuses to start with.

use syncer_tests::server::{Server, ServerKind, ServerOptions};
use syncer_tests::{on_all_kinds, reply};

const USER_COMMANDS: [&str; 8] = [
    "SYNCER.STATUS",
    "SYNCER.PEERS",
    "SYNCER.CLOCK",
    "SYNCER.AWAIT",
    "SYNCER.WAIT",
    "SYNCER.KEY",
    "SYNCER.DIGEST",
    "SYNCER.HELP",
];

const DATA_PLANE: [&str; 7] =
    ["SYNCER.PSYNC", "SYNCER.READ", "SYNCER.APPLY", "SYNCER.PEER", "SYNCER.REPORT", "SYNCER.LOG", "SYNCER.CALL"];

fn each_kind(scenario: impl Fn(Server)) {
    for kind in ServerKind::ALL {
        scenario(Server::start(kind, ServerOptions::instance(1)));
    }
}

#[test]
fn every_command_is_documented_and_checks_its_arguments() {
    each_kind(|server| {
        let mut client = server.client();
        let help = client.text("SYNCER.HELP");
        for name in USER_COMMANDS.into_iter().chain(DATA_PLANE) {
            let docs = client.text(&format!("COMMAND DOCS {name}"));
            assert!(docs.contains("summary"), "{name} has no summary: {docs}");
            let info = client.text(&format!("COMMAND INFO {name}"));
            assert!(info.contains('@'), "{name} has no ACL category: {info}");
            let wrong = client.text(&format!("{name} 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15"));
            assert!(wrong.starts_with('-'), "{name} takes fifteen arguments: {wrong}");
            if USER_COMMANDS.contains(&name) {
                assert!(help.contains(name.trim_start_matches("SYNCER.")), "HELP does not tell of {name}: {help}");
            }
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
        for wrong in [
            "CONFIG SET syncer.backlog-size -1",
            "CONFIG SET syncer.backlog-size many",
            "CONFIG SET syncer.instance-id 2",
        ] {
            assert!(client.text(wrong).starts_with("-ERR"), "{wrong}");
        }
        assert_eq!(client.text("CONFIG GET syncer.backlog-size"), "[syncer.backlog-size, 2097152]");
    });
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
        assert_eq!(other.text(&format!("SYNCER.AWAIT {token} 60000")), "1");
        assert_eq!(other.text("GET k"), "v");
        for wrong in ["SYNCER.AWAIT nonsense 10", &format!("SYNCER.AWAIT {token} -1"), &format!("SYNCER.AWAIT {token} x")] {
            assert!(other.text(wrong).starts_with('-'), "{wrong}");
        }
    }

    fn wait_tells_how_many_instances_have_everything(cluster: 3) {
        let mut client = cluster.client(1);
        client.ok("SET k v");
        assert_eq!(client.text("SYNCER.WAIT 2 60000"), "2");
        cluster.cut(1, 2);
        cluster.cut(2, 3);
        client.ok("SET k w");
        assert_eq!(client.text("SYNCER.WAIT 1 60000"), "1");
        assert_eq!(client.text("SYNCER.WAIT 2 200"), "1");
        cluster.heal();
        assert_eq!(client.text("SYNCER.WAIT 2 60000"), "2");
        assert_eq!(cluster.client(2).text("GET k"), "w");
    }

    /// RESP3, pipelines and a blocked wait on one connection don't disturb each other.
    fn status_speaks_both_protocols(cluster: 2) {
        cluster.client(1).ok("SET k v");
        cluster.converged();
        for command in ["SYNCER.STATUS", "SYNCER.PEERS", "SYNCER.KEY k", "SYNCER.HELP", "SYNCER.DIGEST", "SYNCER.CLOCK"] {
            let resp2 = cluster.client(1).ok(command);
            let resp3 = cluster.client(1).resp3().ok(command);
            assert_ne!(reply::text(&resp2), "(nil)", "{command}");
            assert_ne!(reply::text(&resp3), "(nil)", "{command}");
        }
        let status = cluster.client(2).resp3().text("SYNCER.STATUS");
        assert!(status.starts_with('{'), "STATUS is a map in RESP3: {status}");
        let peers = cluster.client(2).text("SYNCER.PEERS");
        assert!(peers.contains("streaming"), "{peers}");
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
