//! Agents are killed, doubled, stopped and started at any moment: no loss, no duplicate, no full stop.

use std::time::Duration;

use syncer_tests::agent::{Agent, AgentOptions};
use syncer_tests::cluster::Cluster;
use syncer_tests::load::under_load;
use syncer_tests::server::{Server, ServerKind, ServerOptions};
use syncer_tests::{on_all_kinds, wait};

/// Times an agent is killed in a test.
const KILLS: u64 = 15;

/// How an agent ends that did not end in time by itself (docs/AGENT.md).
const BROKEN_OFF: i32 = 3;

/// So long without a CPU, of the 0.7 seconds that an agent has to end, is too long to say anything of it.
const STARVED: Duration = Duration::from_millis(200);

/// Before that, an agent need not have begun to listen for signals.
fn streams(cluster: &Cluster) {
    wait::eventually("the agent streams", || {
        let log = cluster.site(1).agent.log();
        log.matches("streaming").count() > log.matches("stopped").count()
    });
}

/// Whatever is on its way, it ends by itself and within a second: its own clock gives it less, and then another exit status. That is as well where
/// it got no CPU for a good part of the time: the machine is to blame.
fn ends_on_sigterm(cluster: &mut Cluster) {
    let ended = cluster.site_mut(1).agent.terminate_timed(wait::PATIENCE);
    let is_excused = ended.status.code() == Some(BROKEN_OFF) && ended.starved > STARVED;
    assert!(ended.status.success() || is_excused, "{ended:?}: {}", cluster.site(1).agent.log());
    assert!(ended.took < Duration::from_secs(1), "{ended:?}: {}", cluster.site(1).agent.log());
}

on_all_kinds! {
    fn killed_agents_lose_and_double_nothing(cluster: 2) {
        under_load(cluster, |cluster, load| {
            for kill in 0..KILLS {
                load.advance(30);
                cluster.site_mut(1 + u8::from(kill % 2 == 1)).agent.restart();
            }
        });
    }

    fn doubled_agents_lose_and_double_nothing(cluster: 2) {
        let doubles: Vec<Agent> = cluster.sites().iter().map(|site| Agent::start(site.agent.options().clone())).collect();
        under_load(cluster, |cluster, load| {
            for _ in 0..3 {
                load.advance(100);
                cluster.site_mut(1).agent.restart();
            }
        });
        for mut double in doubles {
            assert!(double.ended().is_none(), "a second agent gave up:\n{}", double.log());
        }
    }

    fn a_dead_site_disturbs_nobody(cluster: 3) {
        cluster.site_mut(3).server.kill();
        cluster.client(1).ok("SET k v");
        cluster.caught_up(1, 2);
        cluster.client(2).ok("SET k w");
        cluster.caught_up(2, 1);
        assert_eq!(cluster.client(1).text("GET k"), "w");
    }

    fn a_hanging_site_disturbs_nobody(cluster: 3) {
        cluster.site(3).server.process().pause();
        cluster.client(1).ok("SET k v");
        cluster.caught_up(1, 2);
        cluster.site(3).server.process().resume();
        cluster.converged();
    }

    fn an_agent_ends_on_sigterm(cluster: 2) {
        ends_on_sigterm(cluster);
        cluster.client(2).ok("SET k v");
        cluster.site_mut(1).agent.restart();
        cluster.converged();
    }

    fn an_agent_ends_on_sigterm_under_load(cluster: 2) {
        under_load(cluster, |cluster, load| {
            for _ in 0..3 {
                streams(cluster);
                load.advance(50);
                ends_on_sigterm(cluster);
                cluster.site_mut(1).agent.restart();
            }
        });
    }

    /// Its own server, a peer, or both do not answer, with effects on their way.
    fn an_agent_ends_on_sigterm_while_servers_hang(cluster: 2) {
        for hanging in [&[1][..], &[2], &[1, 2]] {
            streams(cluster);
            cluster.client(2).pipeline(&(0..500).map(|n| format!("SET k{n} v")).collect::<Vec<_>>());
            hanging.iter().for_each(|site| cluster.site(*site).server.process().pause());
            ends_on_sigterm(cluster);
            hanging.iter().for_each(|site| cluster.site(*site).server.process().resume());
            cluster.site_mut(1).agent.restart();
            cluster.converged();
        }
    }

    /// Whoever comes up first: an agent waits for its own server, and begins with the peers that are there.
    fn an_agent_starts_before_its_server_and_its_peers(cluster: 3) {
        (1..=3).for_each(|site| cluster.site_mut(site).server.kill());
        (1..=3).for_each(|site| cluster.site_mut(site).agent.restart());
        wait::eventually("the agent says that its server is not there", || {
            cluster.site(1).agent.log().contains("local server")
        });
        cluster.site_mut(1).server.restart();
        cluster.client(1).ok("SET k v");
        cluster.site_mut(2).server.restart();
        cluster.caught_up(1, 2);
        assert_eq!(cluster.client(2).text("GET k"), "v", "site 3 is not needed");
        cluster.client(2).ok("SET k w");
        cluster.site_mut(3).server.restart();
        cluster.converged();
        assert_eq!(cluster.client(3).text("GET k"), "w");
    }

    /// Peers come and go for days: each change of state is one line, with the peer and the cause.
    fn a_peer_that_is_down_does_not_flood_the_log(cluster: 2) {
        let lines = |cluster: &Cluster, from: usize| -> Vec<String> {
            cluster.site(1).agent.log().lines().skip(from).map(str::to_owned).collect()
        };
        let before = lines(cluster, 0).len();
        cluster.cut(1, 2);
        wait::eventually("the agent logs that its peer is gone", || !lines(cluster, before).is_empty());
        // Enough time for hundreds of attempts without backoff: as long as many writes at the other site take.
        let mut other = cluster.client(2);
        (0..20_000).for_each(|round| drop(other.ok(&format!("SET k {round}"))));
        let [told] = &lines(cluster, before)[..] else { panic!("one change, {:?}", lines(cluster, before)) };
        assert!(["peer=2 ", "address=redis://", " state=down ", " cause=\"the connection"].iter().all(|part| told.contains(part)), "{told}");
        cluster.heal();
        cluster.converged();
        let [_, told] = &lines(cluster, before)[..] else { panic!("two changes, {:?}", lines(cluster, before)) };
        assert!(told.contains("peer=2 ") && told.ends_with(" state=streaming"), "{told}");
    }
}

/// What no task can be dropped out of: the thread that they all run on is held by a log that nobody reads.
#[test]
fn an_agent_whose_log_hangs_is_ended_by_its_own_deadline() {
    let server = Server::start(ServerKind::Valkey9, ServerOptions::instance(1));
    let mut agent = Agent::start_with_log_that_nobody_reads(AgentOptions::beside(server.port()).peer(2, server.port()));
    // write(2, ...
    wait::eventually("it waits for its log", || agent.process().system_call().starts_with("1 0x2 "));
    let status = agent.terminate(wait::PATIENCE);
    assert_eq!(status.code(), Some(BROKEN_OFF), "{status}");
}

/// It used to be up and down forty times a second, and to log each.
#[test]
fn an_agent_beside_a_replica_says_so_once() {
    for kind in ServerKind::ALL {
        let [primary, replica, peer] = [1, 1, 2].map(|instance| Server::start(kind, ServerOptions::instance(instance)));
        let mut client = replica.client();
        client.ok(&format!("REPLICAOF 127.0.0.1 {}", primary.port()));
        wait::eventually("it follows", || client.text("INFO replication").contains("master_link_status:up"));
        let agent = Agent::start(AgentOptions::beside(replica.port()).peer(2, peer.port()));
        wait::eventually("it says so", || agent.log().contains("SYNCERROLE"));
        let says_more = || {
            let log = agent.log();
            (log.contains("state=\"up\"") || log.matches("state=\"down\"").count() > 1).then_some(log)
        };
        assert_eq!(wait::within(Duration::from_secs(2), says_more), None);
        client.ok("REPLICAOF NO ONE");
        wait::eventually("it is the primary now", || agent.log().contains("streaming"));
    }
}
