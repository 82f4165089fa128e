//! The harness itself, with stock servers of all three kinds: what the other tests rely on.

use std::time::Duration;

use syncer_tests::client::Client;
use syncer_tests::proxy::{LinkOptions, Proxy, Tls};
use syncer_tests::server::{Server, ServerKind, ServerOptions};
use syncer_tests::{certificate, dataset, reply, wait};

fn each_kind(scenario: impl Fn(Server)) {
    for kind in ServerKind::ALL {
        scenario(Server::start(kind, ServerOptions::stock()));
    }
}

#[test]
fn a_server_answers_in_both_protocols_and_tells_its_version() {
    each_kind(|server| {
        let mut client = server.client();
        assert!(client.text("INFO server").contains(server.kind().version()), "{}", server.kind());
        assert_eq!(client.text(r#"SET "k\x00" "v\r\n""#), "OK");
        assert_eq!(client.text(r#"GET "k\x00""#), "v\\x0d\\x0a");
        assert_eq!(client.text("INCR \"k\\x00\""), "-ERR value is not an integer or out of range");
        assert_eq!(reply::text(&client.multi(&["INCR n", "INCR n"])), "[1, 2]");
        let mut resp3 = server.client().resp3();
        resp3.ok("HSET h f v");
        assert_eq!(resp3.text("HGETALL h"), "{f: v}");
    });
}

#[test]
fn a_killed_server_comes_back_on_its_port_and_folder() {
    each_kind(|mut server| {
        server.client().ok("SET k v");
        server.client().ok("SAVE");
        server.kill();
        assert!(Client::connect(server.port()).is_err());
        server.restart();
        assert_eq!(server.client().text("GET k"), "v");
    });
}

#[test]
fn a_paused_server_hangs_and_goes_on() {
    each_kind(|server| {
        let mut client = server.client();
        client.patience(Duration::from_millis(100));
        server.process().pause();
        assert!(client.try_cmd("PING").is_err());
        server.process().resume();
        assert_eq!(server.client().text("PING"), "PONG");
    });
}

#[test]
fn a_server_that_cannot_start_says_why() {
    for kind in ServerKind::ALL {
        let options = ServerOptions::stock().config("no-such-option", "1");
        let log = Server::try_start(kind, options).expect_err("the option does not exist");
        assert!(log.contains("no-such-option"), "{log}");
    }
}

/// Convergence between kinds is compared by DEBUG DIGEST, so equal data must have equal digests on all of them.
#[test]
fn equal_data_has_equal_digests_on_all_kinds() {
    let writes = [
        "SET s text",
        "SET n 42",
        r#"SET "\x00\xff" "\x00""#,
        "SET ttl v PXAT 32503680000000",
        "HSET h f 1 g 2",
        "SADD set 1 2 3 a",
        "ZADD z 1.5 a -inf b 3e300 c 0.1 d",
        "RPUSH l a b c",
        "XADD x 1-1 f v",
    ];
    let mut clients: Vec<_> = ServerKind::ALL.map(|kind| Server::start(kind, ServerOptions::stock())).into();
    let mut clients: Vec<_> = clients.iter_mut().map(|server| server.client()).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        // In another order each, also in another database.
        for step in 0..writes.len() {
            client.ok(writes[(step + index * 4) % writes.len()]);
        }
        client.ok("SELECT 15");
        client.ok("SET other db");
        client.ok("SELECT 0");
    }
    let digests: Vec<_> = clients.iter_mut().map(dataset::digest).collect();
    let datasets: Vec<_> = clients.iter_mut().map(dataset::read).collect();
    assert_eq!(dataset::differences(&datasets[0], &datasets[1]), "");
    assert_eq!(dataset::differences(&datasets[0], &datasets[2]), "");
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    clients[1].ok("HSET h f 2");
    assert_ne!(dataset::digest(&mut clients[1]), digests[0]);
    assert!(dataset::differences(&datasets[0], &dataset::read(&mut clients[1])).contains("0/h"));
}

#[test]
fn a_link_is_cut_and_healed() {
    each_kind(|server| {
        let proxy = Proxy::start(&[LinkOptions { name: "link".to_owned(), target: server.port(), tls: None }]);
        let mut through = Client::connect(proxy.port("link")).expect("the link is whole");
        assert_eq!(through.text("SET k v"), "OK");
        proxy.cut("link");
        assert!(through.try_cmd("GET k").is_err());
        let reaches = || Client::connect(proxy.port("link")).is_ok_and(|mut client| client.try_cmd("GET k").is_ok());
        assert!(!reaches());
        assert_eq!(server.client().text("GET k"), "v");
        proxy.heal("link");
        wait::eventually("the healed link passes again", reaches);
        let mut through = Client::connect(proxy.port("link")).expect("the link is whole");
        // The kernel says "connected" before haproxy has taken the connection in; an answer proves that it has.
        assert_eq!(through.text("GET k"), "v");
        proxy.kill_sessions("link");
        wait::eventually("the connection is closed", || through.try_cmd("PING").is_err());
        assert!(reaches());
    });
}

#[test]
fn a_tls_link_wants_the_clients_certificate() {
    let server = Server::start(ServerKind::Valkey9, ServerOptions::stock());
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = certificate::Authority::new(folder.path(), "Test CA");
    let site = authority.sign("site.example");
    let agent = authority.sign("agent.example");
    let tls = Tls { bundle: site.bundle, client_authority: Some(authority.certificate()) };
    let proxy = Proxy::start(&[LinkOptions { name: "tls".to_owned(), target: server.port(), tls: Some(tls) }]);
    let ping = |with: &[&std::path::Path]| {
        let mut redis_cli = std::process::Command::new("redis-cli");
        redis_cli.args(["-p", &proxy.port("tls").to_string(), "--tls", "--sni", "site.example", "--cacert"]);
        redis_cli.arg(authority.certificate());
        if let [certificate, key] = with {
            redis_cli.arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        let output = redis_cli.arg("PING").output().expect("redis-cli is installed (./run brings it)");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(ping(&[&agent.certificate, &agent.key]), "PONG");
    assert_ne!(ping(&[]), "PONG");
}
