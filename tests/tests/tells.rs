//! What `syncer-agent` tells operators: `status`, `check`, logs for programs, a configuration file.

use std::fs;

use syncer_tests::agent::{Agent, AgentOptions};
use syncer_tests::cluster::Cluster;
use syncer_tests::members::tell;
use syncer_tests::server::ServerKind;
use syncer_tests::wait;

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
