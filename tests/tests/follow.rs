//! The agent finds and follows the primary of its own site and of its peers.

use std::time::Duration;

use syncer_tests::agent::{Agent, AgentOptions};
use syncer_tests::chaos::link::{Link, Mode};
use syncer_tests::client::Client;
use syncer_tests::nodes::number;
use syncer_tests::sentinel::{NAME, Sentinel};
use syncer_tests::server::{Server, ServerKind, ServerOptions};
use syncer_tests::{on_each_kind, port, wait};

/// A primary with a replica.
struct Pair {
    primary: Server,
    replica: Server,
}

impl Pair {
    fn start(kind: ServerKind, instance: u8) -> Self {
        let primary = Server::start(kind, ServerOptions::instance(instance));
        let replica = primary.replica(ServerOptions::instance(instance));
        Self { primary, replica }
    }

    /// Both, the replica first.
    fn url(&self) -> String {
        format!("redis://127.0.0.1:{},127.0.0.1:{}", self.replica.port(), self.primary.port())
    }
}

/// A write at each arrives at the other.
fn exchange(one: &mut Client, two: &mut Client, tag: &str) {
    one.ok(&format!("SET one:{tag} 1"));
    two.ok(&format!("SET two:{tag} 2"));
    let what = format!("the writes {tag} have arrived at both sites");
    let all = format!("MGET one:{tag} two:{tag}");
    wait::eventually(&what, || one.text(&all) == "[1, 2]" && two.text(&all) == "[1, 2]");
}

/// The other primary of its site, which the agent has told.
fn takes_no_writes(other: &mut Client) {
    let mut said = String::new();
    let is_refused = || {
        said = other.text("SET lost 1");
        said.contains("SYNCERFENCED").then_some(())
    };
    assert!(wait::within(wait::PATIENCE, is_refused).is_some(), "{said}");
}

#[test]
fn the_primary_is_found_among_several_addresses() {
    for kind in ServerKind::ALL {
        let (one, two) = (Pair::start(kind, 1), Pair::start(kind, 2));
        let nobody = port::free();
        let urls = [one.url(), format!("{},127.0.0.1:{nobody}", two.url())];
        let [url_one, url_two] = &urls;
        let _agents = [
            Agent::start(AgentOptions::at(url_one.clone()).peer_url(2, url_two.clone())),
            Agent::start(AgentOptions::at(url_two.clone()).peer_url(1, url_one.clone())),
        ];
        exchange(&mut one.primary.client(), &mut two.primary.client(), "first");
    }
}

on_each_kind! {
    /// No server of a site is the primary for a while; then one is promoted.
    fn a_site_without_a_primary_is_watched_until_it_has_one(kind) {
        let nobody = format!("127.0.0.1 {}", port::free());
        let replica = || Server::start(kind, ServerOptions::instance(1).config("replicaof", &nobody));
        let (left, right) = (replica(), replica());
        let two = Server::start(kind, ServerOptions::instance(2));
        let url_one = format!("redis://127.0.0.1:{},127.0.0.1:{}", left.port(), right.port());
        let agent_one = Agent::start(AgentOptions::at(url_one.clone()).peer(2, two.port()));
        let agent_two = Agent::start(AgentOptions::beside(two.port()).peer_url(1, url_one));
        wait::eventually("the agent of site 1 tells that it has no primary", || agent_one.log().contains("no primary of"));
        wait::eventually("site 2 shows why", || two.client().text("SYNCER.PEERS").contains("no primary of redis://"));
        right.client().ok("REPLICAOF NO ONE");
        exchange(&mut right.client(), &mut two.client(), "promoted");
        let lines = agent_one.log().lines().count() + agent_two.log().lines().count();
        assert!(lines < 20, "the agents flood their logs:\n{}\n{}", agent_one.log(), agent_two.log());
    }
}

/// A replica has followed.
fn has(replica: &Server, tag: &str) {
    let all = format!("MGET one:{tag} two:{tag}");
    wait::eventually("the replica has it", || replica.client().text(&all) == "[1, 2]");
}

/// One address for a site: the proxy there leads to another server after a failover. The old primary lives on, and nobody hears of it.
#[test]
fn a_proxy_that_moves_is_followed_from_both_sides() {
    for kind in ServerKind::ALL {
        let (one, two) = (Pair::start(kind, 1), Server::start(kind, ServerOptions::instance(2)));
        let proxy = Link::start(one.primary.port()).expect("there is a port");
        let url = format!("redis://127.0.0.1:{}", proxy.port());
        let _agents = [
            Agent::start(AgentOptions::at(url.clone()).peer(2, two.port())),
            Agent::start(AgentOptions::beside(two.port()).peer_url(1, url)),
        ];
        exchange(&mut one.primary.client(), &mut two.client(), "first");
        has(&one.replica, "first");
        // It hangs, and keeps its connections.
        one.primary.process().pause();
        one.replica.client().ok("REPLICAOF NO ONE");
        proxy.retarget(one.replica.port());
        exchange(&mut one.replica.client(), &mut two.client(), "second");
        one.primary.process().resume();
        // And back, to a server that follows now.
        one.primary.client().ok(&format!("REPLICAOF 127.0.0.1 {}", one.replica.port()));
        one.primary.follows();
        has(&one.primary, "second");
        one.primary.client().ok("REPLICAOF NO ONE");
        one.replica.client().ok(&format!("REPLICAOF 127.0.0.1 {}", one.primary.port()));
        proxy.retarget(one.primary.port());
        exchange(&mut one.primary.client(), &mut two.client(), "third");
        let full: u64 = [&one.primary, &one.replica, &two].map(|server| number(server, "sync_full_in")).iter().sum();
        assert_eq!(full, 0, "a partial sync is all it takes");
    }
}

#[test]
fn sentinels_are_asked_for_the_primary() {
    for kind in ServerKind::ALL {
        let one = Pair::start(kind, 1);
        let two = Server::start(kind, ServerOptions::instance(2));
        let sentinel = Sentinel::start(kind, &one.primary);
        sentinel.knows_replicas(1);
        // The first of the Sentinels is not there.
        let url = format!("redis+sentinel://127.0.0.1:{},127.0.0.1:{}/{NAME}", port::free(), sentinel.port());
        let _agents = [
            Agent::start(AgentOptions::at(url.clone()).peer(2, two.port())),
            Agent::start(AgentOptions::beside(two.port()).peer_url(1, url)),
        ];
        exchange(&mut one.primary.client(), &mut two.client(), "first");
    }
}

on_each_kind! {
    /// A replica is promoted while its primary lives on, then the old one comes back from its file as a primary, then without any file. Agents
    /// that begin then all take the same one, the one whose answer comes late.
    fn of_two_primaries_all_agents_take_the_one_that_goes_on(kind) {
        let (Pair { primary: mut old, replica: promoted }, two) =
            (Pair::start(kind, 1), Server::start(kind, ServerOptions::instance(2)));
        let (to_old, to_promoted) =
            (Link::start(old.port()).expect("a port"), Link::start(promoted.port()).expect("a port"));
        let late = Mode::Slow { bytes_per_second: 100 << 20, latency: Duration::from_millis(20) };
        let url = format!("redis://127.0.0.1:{},127.0.0.1:{}", to_old.port(), to_promoted.port());
        let agents = || {
            [
                Agent::start(AgentOptions::at(url.clone()).peer(2, two.port())),
                Agent::start(AgentOptions::beside(two.port()).peer_url(1, url.clone())),
            ]
        };
        {
            let _agents = agents();
            exchange(&mut old.client(), &mut two.client(), "first");
        }
        has(&promoted, "first");
        // The child that serves the replica may still run.
        wait::eventually("it is saved", || old.client().text("SAVE") == "OK");
        promoted.client().ok("REPLICAOF NO ONE");
        to_promoted.set(late);
        {
            let _agents = agents();
            exchange(&mut promoted.client(), &mut two.client(), "promoted");
            takes_no_writes(&mut old.client());
        }
        // Neither knows the other's reign: the later one goes on, as the members have it.
        old.kill();
        old.restart();
        to_promoted.set(Mode::Whole);
        to_old.set(late);
        {
            let _agents = agents();
            exchange(&mut old.client(), &mut two.client(), "restarted");
            wait::eventually("it has caught up", || old.client().text("MGET one:promoted two:promoted") == "[1, 2]");
            takes_no_writes(&mut promoted.client());
        }
        promoted.client().ok(&format!("REPLICAOF 127.0.0.1 {}", old.port()));
        has(&promoted, "restarted");
        promoted.client().ok("REPLICAOF NO ONE");
        old.kill();
        std::fs::remove_file(old.folder().join("dump.rdb")).expect("there is a file");
        old.restart();
        to_promoted.set(late);
        to_old.set(Mode::Whole);
        let _agents = agents();
        exchange(&mut promoted.client(), &mut two.client(), "blank");
    }
}
