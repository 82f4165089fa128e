//! Failover by what operators run: Sentinel and the servers' own cluster mode.

use std::time::Duration;

use syncer_tests::agent::{Agent, AgentOptions};
use syncer_tests::client::Client;
use syncer_tests::nodes::{Pair, figure};
use syncer_tests::rounds::{Rounds, under_load};
use syncer_tests::sentinel::{NAME, Sentinel};
use syncer_tests::server::Server;
use syncer_tests::{on_each_kind, reply, wait};

/// Longer than the five seconds after which a server gives up a handover.
const ATTEMPT: Duration = Duration::from_secs(6);

/// Lets both agents ask Sentinels for the primary of instance 1.
fn follow_sentinels(pair: &mut Pair, sentinels: &[Sentinel]) {
    let addresses: Vec<String> = sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect();
    let one = format!("redis+sentinel://{}/{NAME}", addresses.join(","));
    let two = format!("redis://127.0.0.1:{}", pair.two.nodes[0].port());
    pair.stop_agents();
    let agent = |local: &str, peer, url: &str| {
        let options = AgentOptions::at(local.to_owned()).peer_url(peer, url.to_owned());
        Some(Agent::start(options.arg("--relay-after-ms").arg("300")))
    };
    pair.one.agent = agent(&one, 2, &two);
    pair.two.agent = agent(&two, 1, &one);
}

/// Unknown while it closes connections, as Sentinel lets it do.
fn role(node: &Server) -> Option<&'static str> {
    let info = Client::connect(node.port()).ok()?.try_cmd("INFO replication").ok()?;
    let info = reply::text(&info);
    ["role:slave", "role:master"].into_iter().find(|role| info.contains(role))
}

fn is_replica(node: &Server) -> bool {
    role(node) == Some("role:slave")
}

/// The primary has crashed: its replicas and instance 2 have what is left of its last writes.
fn is_left(pair: &Pair, rounds: &Rounds) {
    let replicas = &pair.one.nodes[1..];
    // By then it has all that was sent to it.
    let has_lost_it = |replica: &Server| {
        figure(replica, "master_link_status").as_deref() == Some("down") || role(replica) == Some("role:master")
    };
    wait::eventually("the replicas have lost their primary", || replicas.iter().all(has_lost_it));
    let left: Vec<&Server> = replicas.iter().chain(&pair.two.nodes).collect();
    rounds.still().is_left_at(&left);
}

on_each_kind! {
    /// Since the primary has died, and by order: then the old primary lives on until Sentinel makes it a replica, ten seconds later.
    fn the_sentinel_promotes_under_load(kind) {
        let mut pair = Pair::start(kind, 2, &[]);
        let sentinel = Sentinel::start(kind, &pair.one.nodes[0]);
        sentinel.knows_replicas(1);
        follow_sentinels(&mut pair, std::slice::from_ref(&sentinel));
        let written = under_load(&mut pair, |pair, rounds| {
            rounds.advance(100);
            pair.one.nodes[0].kill();
            is_left(pair, rounds);
            let new = pair.one.nodes[1].port();
            wait::eventually("the replica is promoted", || sentinel.primary() == new);
            rounds.advance(100);
            // As an operator would; Sentinel takes its time.
            pair.one.nodes[0].restart();
            pair.one.nodes[0].client().ok(&format!("REPLICAOF 127.0.0.1 {new}"));
            pair.one.nodes[0].follows();
            sentinel.knows_replicas(1);
            rounds.advance(100);
            sentinel.fail_over();
            wait::eventually("the old primary is a replica", || is_replica(&pair.one.nodes[1]));
            pair.one.nodes[1].follows();
            rounds.advance(100);
        });
        written.is_kept_or_told(&pair, &pair.one.logs());
        let mut client = Client::connect(sentinel.primary()).expect("it is there");
        client.ok("SET after 1");
        pair.agree();
        assert_eq!(pair.two.client().text("GET after"), "1");
    }
}

on_each_kind! {
    /// One of two replicas is promoted, and Sentinel lets the other one follow it, with the same backlog then. No site needs a full sync.
    fn the_sentinel_promotes_one_of_two_replicas_under_load(kind) {
        let mut pair = Pair::start(kind, 3, &[]);
        let sentinel = Sentinel::start(kind, &pair.one.nodes[0]);
        sentinel.knows_replicas(2);
        follow_sentinels(&mut pair, std::slice::from_ref(&sentinel));
        let old = pair.one.nodes[0].port();
        let written = under_load(&mut pair, |pair, rounds| {
            rounds.advance(100);
            pair.one.nodes[0].kill();
            is_left(pair, rounds);
            wait::eventually("one is promoted", || sentinel.primary() != old);
            let replicas = &pair.one.nodes[1..];
            let is_promoted = |node: &&Server| node.port() == sentinel.primary();
            let other = replicas.iter().find(|node| !is_promoted(node)).expect("there are two");
            wait::eventually("the other one follows it", || {
                figure(other, "master_port") == Some(sentinel.primary().to_string())
                    && figure(other, "master_link_status").as_deref() == Some("up")
            });
            rounds.advance(100);
            pair.one.nodes[0].restart();
            wait::eventually("the old primary is a replica", || is_replica(&pair.one.nodes[0]));
            pair.one.nodes[0].follows();
            rounds.advance(100);
        });
        written.is_kept_or_told(&pair, &pair.one.logs());
        pair.agree();
    }
}

on_each_kind! {
    /// Three Sentinels, of which two have to agree, as one runs them. The first one dies with the primary: the agents have all addresses.
    fn two_of_three_sentinels_promote_under_load(kind) {
        let mut pair = Pair::start(kind, 2, &[]);
        let mut sentinels = Sentinel::start_three(kind, &pair.one.nodes[0]);
        sentinels.iter().for_each(|sentinel| sentinel.knows_replicas(1));
        follow_sentinels(&mut pair, &sentinels);
        let written = under_load(&mut pair, |pair, rounds| {
            rounds.advance(100);
            sentinels[0].kill();
            pair.one.nodes[0].kill();
            is_left(pair, rounds);
            let new = pair.one.nodes[1].port();
            for sentinel in &sentinels[1..] {
                wait::eventually("the replica is promoted", || sentinel.primary() == new);
            }
            wait::eventually("it is", || role(&pair.one.nodes[1]) == Some("role:master"));
            rounds.advance(100);
            // They have not forgotten it: it comes back as a replica by their word.
            pair.one.nodes[0].restart();
            wait::eventually("the old primary is a replica", || is_replica(&pair.one.nodes[0]));
            pair.one.nodes[0].follows();
            rounds.advance(100);
        });
        written.is_kept_or_told(&pair, &pair.one.logs());
        assert_eq!(sentinels[1].client().text(&format!("SENTINEL MASTER {NAME}")).matches("quorum, 2").count(), 1);
        pair.one.client().ok("SET after 1");
        pair.agree();
        assert_eq!(pair.two.client().text("GET after"), "1");
    }
}

/// Asks a replica of the server's own cluster to take over until it has: on a busy machine an attempt may time out.
fn take_over(pair: &Pair, node: usize, how: &str) {
    let is_done = || role(&pair.one.nodes[node]) == Some("role:master");
    let done = wait::within(wait::PATIENCE, || {
        pair.one.nodes[node].client().cmd(&format!("CLUSTER FAILOVER {how}"));
        wait::within(ATTEMPT, || is_done().then_some(()))
    });
    assert!(done.is_some(), "it does not become the primary:\n{}", pair.one.nodes[node].log());
}

/// The logs of servers that gave a handover up after five seconds, too late for the other one: they say what they had taken since then.
fn logs_of_who_gave_up(pair: &Pair) -> Vec<(u16, String)> {
    pair.one.logs().into_iter().filter(|(_, log)| log.contains("Manual failover timed out")).collect()
}

on_each_kind! {
    /// Handed over, there and back, and taken over from a primary that hangs: it comes back as a replica.
    fn the_servers_own_cluster_promotes_under_load(kind) {
        let mut pair = Pair::start_clustered(kind);
        let handed_over = under_load(&mut pair, |pair, rounds| {
            for node in [1, 0] {
                rounds.advance(100);
                let is_connected = || pair.one.nodes[node].client().text("INFO replication").contains("master_link_status:up");
                wait::eventually("the replica follows", is_connected);
                take_over(pair, node, "");
                wait::eventually("the old one is a replica", || is_replica(&pair.one.nodes[1 - node]));
                rounds.advance(100);
            }
        });
        // A handover loses nothing.
        handed_over.is_kept_or_told(&pair, &logs_of_who_gave_up(&pair));
        let taken_over = under_load(&mut pair, |pair, rounds| {
            rounds.advance(100);
            pair.one.nodes[1].follows();
            pair.one.nodes[0].process().pause();
            take_over(pair, 1, "TAKEOVER");
            // The agents look for the primary also at the node that hangs.
            rounds.advance_at_two(50);
            pair.one.nodes[0].process().resume();
            wait::eventually("the old one is a replica", || is_replica(&pair.one.nodes[0]));
            pair.one.nodes[0].follows();
            rounds.advance(100);
        });
        taken_over.is_kept_or_told(&pair, &pair.one.logs());
    }
}
