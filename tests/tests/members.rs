//! Who belongs to the group: an instance id names one member, and a shard that lost its state is not let in as if it
//! had it.

use syncer_tests::agent::{Agent, AgentOptions};
use syncer_tests::members::join;
use syncer_tests::server::{Server, ServerOptions};
use syncer_tests::stream::{Position, psync};
use syncer_tests::{on_all_kinds, reply, wait};

on_all_kinds! {
    /// A second server with the id of site 2 is refused by site 1, and told why.
    fn an_instance_id_of_somebody_else_is_refused(cluster: 2) {
        cluster.client(1).ok("SET k v");
        cluster.converged();
        let impostor = Server::start(cluster.site(1).server.kind(), ServerOptions::instance(2));
        impostor.client().ok("SET of impostor");
        let position = Position::of(&mut impostor.client(), 1);
        let answer = psync(&mut cluster.client(1), &position);
        assert!(reply::text(&answer).starts_with("-SYNCERID "), "{}", reply::text(&answer));
        let agent = Agent::start(AgentOptions::beside(impostor.port()).peer(1, cluster.site(1).server.port()));
        wait::eventually("the agent tells that its instance id is taken", || agent.log().contains("SYNCERID"));
        cluster.converged();
        assert_eq!(cluster.client(1).text("EXISTS of"), "0");
    }

    /// A server that points to itself, or to another of the same id.
    fn a_peer_with_the_own_instance_id_is_refused(cluster: 2) {
        let mut client = cluster.client(1);
        let position = Position::of(&mut client, 2);
        let answer = psync(&mut cluster.client(1), &position);
        assert!(reply::text(&answer).starts_with("-SYNCERID "), "{}", reply::text(&answer));
    }

    fn a_site_that_lost_its_data_is_not_let_in_as_if_it_had_it(cluster: 2) {
        cluster.client(1).ok("SET from 1");
        cluster.client(2).ok("SET from2 2");
        cluster.converged();
        // No persistence: it comes back empty, as another reign of instance 2.
        cluster.site_mut(2).server.restart();
        let mut client = cluster.client(1);
        wait::eventually("the peer's trouble is told somewhere", || {
            let peers = [client.text("SYNCER.PEERS"), cluster.client(2).text("SYNCER.PEERS")].concat();
            ["SYNCERID", "SYNCERMEMBER", "full sync", "FULLRESYNC", "refused"].iter().any(|word| peers.contains(word))
        });
        assert_eq!(client.text("MGET from from2"), "[1, 2]", "what site 2 lost is still here");
        // What clients write there would reach nobody.
        let mut lost = cluster.client(2);
        wait::eventually("its agent tells it", || lost.text("SET k v").starts_with("-SYNCERFENCED "));
        let refused = lost.text("SET k v");
        assert!(refused.contains("SYNCER.FORGET its id at a member, then run syncer-agent join"), "{refused}");
        // The way that it says.
        client.ok("SYNCER.FORGET 2");
        wait::eventually("it is told that it is out", || lost.text("SYNCER.PEERS").contains("SYNCERFORGOTTEN"));
        let refused = lost.text("SET k v");
        assert!(refused.starts_with("-SYNCERFORGOTTEN ") || refused.starts_with("-SYNCERFENCED "), "{refused}");
        let flags = AgentOptions::beside(cluster.site(2).server.port()).peer(1, cluster.site(1).server.port());
        // What was taken before the agent had told it counts.
        let (is_joined, said) = join(&flags, &["--data", "merge"]);
        assert!(is_joined, "{said}");
        wait::eventually("it takes writes again", || lost.text("SET k v") == "OK");
        cluster.converged();
        assert_eq!(client.text("MGET from from2 k"), "[1, 2, v]");
    }

    fn a_new_instance_joins_a_young_group(cluster: 2) {
        cluster.client(1).ok("SET before join");
        cluster.converged();
        let third = Server::start(cluster.site(1).server.kind(), ServerOptions::instance(3));
        let ports = [cluster.site(1).server.port(), cluster.site(2).server.port()];
        let _agent = Agent::start(AgentOptions::beside(third.port()).peer(1, ports[0]).peer(2, ports[1]));
        let mut client = third.client();
        wait::eventually("the new instance has the data", || client.text("GET before") == "join");
        cluster.client(2).ok("SET after join");
        wait::eventually("the new instance gets what comes", || client.text("GET after") == "join");
    }
}
