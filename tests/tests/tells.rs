//! What `syncer-agent` tells operators: `status`, `check`, logs for programs, a configuration file.

use std::fs;

use syncer_tests::agent::{Agent, AgentOptions};
use syncer_tests::client::Client;
use syncer_tests::cluster::Cluster;
use syncer_tests::members::tell;
use syncer_tests::server::ServerKind;
use syncer_tests::{reply, wait};

fn two_sites() -> Cluster {
    let cluster = Cluster::new(&[ServerKind::Valkey9, ServerKind::Redis8]);
    cluster.client(1).ok("SET k v");
    cluster.converged();
    cluster
}

fn url(cluster: &Cluster, site: u8) -> String {
    format!("redis://127.0.0.1:{}", cluster.site(site).server.port())
}

fn contains_all(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

#[test]
fn status_is_a_table_for_people_and_json_for_programs() {
    let cluster = two_sites();
    let local = url(&cluster, 1);
    let (ok, table) = tell(&["status", "--local", &local]);
    assert!(ok, "{table}");
    contains_all(&table, &["instance 1", "primary", "streaming"]);
    let (ok, json) = tell(&["status", "--json", "--local", &local]);
    assert!(ok, "{json}");
    contains_all(&json, &["\"instance\"", "\"peers\"", "\"applied_offset\"", "\"streaming\""]);
    let (ok, text) = tell(&["status", "--local", "redis://127.0.0.1:1"]);
    assert!(!ok && text.contains("127.0.0.1:1"), "{text}");
}

#[test]
fn check_says_what_must_be_mended_before_going_live() {
    let cluster = two_sites();
    let (one, two) = (url(&cluster, 1), url(&cluster, 2));
    let check = |local: &str, peer: &str| tell(&["check", "--local", local, "--peer", peer]);
    let (ok, text) = check(&one, &format!("2={two}"));
    assert!(ok && !text.contains("FAIL"), "{text}");
    let (ok, text) = check(&one, &format!("3={two}"));
    assert!(!ok, "{text}");
    contains_all(&text, &["FAIL peer 3", "instance 2"]);
    let (ok, text) = check(&one, "2=redis://127.0.0.1:1");
    assert!(!ok, "{text}");
    contains_all(&text, &["FAIL peer 2", "127.0.0.1:1"]);
    cluster.client(2).ok("ACL SETUSER weak on >secret-word ~* +ping +info +hello");
    let weak = two.replace("redis://", "redis://weak:secret-word@");
    let (ok, text) = check(&one, &format!("2={weak}"));
    assert!(!ok, "{text}");
    contains_all(&text, &["FAIL peer 2", "NOPERM", "the agent's user needs"]);
    assert!(!text.contains("secret-word"), "a password is shown: {text}");
    let wrong = two.replace("redis://", "redis://weak:other-word@");
    let (ok, text) = check(&one, &format!("2={wrong}"));
    assert!(!ok && !text.contains("other-word"), "{text}");
}

#[test]
fn an_agent_runs_from_a_file_and_logs_for_programs() {
    let mut cluster = two_sites();
    let file = std::env::temp_dir().join(format!("syncer-site-{}.toml", std::process::id()));
    let text = format!("local = \"{}\"\n\n[peer]\n2 = \"{}\"\n", url(&cluster, 1), url(&cluster, 2));
    fs::write(&file, text).expect("the folder can be written to");
    cluster.site_mut(1).agent.kill();
    cluster.client(2).ok("SET k w");
    let words = ["--config", &file.to_string_lossy(), "--log-format", "json"];
    let agent = Agent::start(words.iter().fold(AgentOptions::from_file(), |options, word| options.arg(*word)));
    cluster.caught_up(2, 1);
    wait::eventually("it logs", || agent.log().lines().count() > 1);
    for line in agent.log().lines() {
        assert!(line.starts_with('{') && line.ends_with('}'), "not JSON: {line}");
    }
    fs::remove_file(&file).expect("it is there");
}

/// State and cause of each peer, as a person reads them.
fn peers(client: &mut Client) -> Vec<(String, String, String)> {
    let told = client.ok("SYNCER.PEERS");
    let shown = |peer, name| reply::text(reply::field(peer, name));
    let one = |peer| (shown(peer, "instance"), shown(peer, "state"), shown(peer, "last_error"));
    reply::items(&told).iter().map(one).collect()
}

/// It used to stay "streaming" with a lag of 0, while nothing came in.
#[test]
fn an_agent_that_is_gone_shows() {
    let mut cluster = two_sites();
    let mut one = cluster.client(1);
    let streams =
        |one: &mut Client| matches!(&peers(one)[..], [(_, state, cause)] if state == "streaming" && cause.is_empty());
    wait::eventually("it streams", || streams(&mut one));
    cluster.site_mut(1).agent.kill();
    cluster.client(2).ok("SET k unseen");
    wait::eventually("it shows", || {
        let told = peers(&mut one);
        told[0].1 == "unknown" && told[0].2.contains("it was 'streaming' then: see to `syncer-agent run`")
    });
    let silent = reply::integer(reply::field(&one.ok("SYNCER.STATUS"), "agent_silent_ms"));
    assert!(silent >= 15_000, "{silent}");
    assert!(!one.text("INFO syncer").contains("agent_silent_ms:-1"), "{}", one.text("INFO syncer"));
    cluster.site_mut(1).agent.restart();
    wait::eventually("it streams again", || streams(&mut one));
    cluster.converged();
}

/// A second agent ran beside the server for a while, with flags of long ago; and one that had the server itself for a peer.
#[test]
fn what_an_agent_with_wrong_flags_told_does_not_stay() {
    let cluster = two_sites();
    let mut one = cluster.client(1);
    let own = cluster.site(1).server.port();
    let wrong = AgentOptions::beside(own).peer(1, own).peer(2, 1).peer(3, cluster.site(2).server.port());
    let mut wrong = Agent::start(wrong);
    wait::eventually("it is told", || {
        let told = peers(&mut one);
        ["SYNCERID", "the server there is instance 2, not 3"]
            .iter()
            .all(|why| told.iter().any(|peer| peer.2.contains(why)))
    });
    wrong.kill();
    let log = cluster.site(1).server.log();
    assert_eq!(log.matches("syncer: instance 3 is refused, says the agent").count(), 1, "{log}");
    wait::eventually(
        "what it told is gone",
        || matches!(&peers(&mut one)[..], [(id, state, cause)] if id == "2" && state == "streaming" && cause.is_empty()),
    );
}
