//! Messages across sites (`syncer.publish`): each subscriber at every site gets each once.

use std::time::Duration;

use syncer_tests::client::Client;
use syncer_tests::cluster::{Cluster, ClusterOptions};
use syncer_tests::server::{Server, ServerKind, ServerOptions};
use syncer_tests::{on_all_kinds, reply, wait};

/// A client that hears of these.
fn subscriber(server: &Server, subscribe: &str) -> Client {
    let mut client = server.client();
    client.ok(subscribe);
    client
}

/// What comes next.
fn next(client: &mut Client) -> String {
    reply::text(&client.receive().expect("a message comes"))
}

fn allow(cluster: &Cluster, channels: &str) {
    for site in cluster.sites() {
        site.client().ok(&format!("CONFIG SET syncer.publish \"{channels}\""));
    }
}

on_all_kinds! {
    fn messages_reach_subscribers_at_every_site_once(cluster: 3) {
        allow(cluster, "all");
        let hear = |subscribe: &str| -> Vec<Client> {
            cluster.sites().iter().map(|site| subscriber(&site.server, subscribe)).collect()
        };
        let (mut plain, mut patterns, mut sharded) = (hear("SUBSCRIBE news"), hear("PSUBSCRIBE n*"), hear("SSUBSCRIBE shard"));
        let mut client = cluster.client(1);
        assert_eq!(client.text("PUBLISH news first"), "2", "the reply counts subscribers here, as stock");
        client.multi(&["SET k v", "PUBLISH news in-multi"]);
        client.ok("EVAL redis.call('PUBLISH','news',ARGV[1])return(redis.call('SET','k2','v')) 0 in-script");
        client.ok("SPUBLISH shard sharded");
        cluster.client(2).ok("PUBLISH news second-site");
        client.ok("PUBLISH news \"\"");
        cluster.converged();
        for (site, (client, pattern)) in plain.iter_mut().zip(&mut patterns).enumerate() {
            let mut heard: Vec<String> = (0..5).map(|_| next(client)).collect();
            // Concurrent to the others.
            let second = heard.iter().position(|text| text.contains("second-site")).map(|at| heard.remove(at));
            assert_eq!(second.as_deref(), Some("[message, news, second-site]"), "site {}", site + 1);
            let expected = ["first", "in-multi", "in-script", ""].map(|text| format!("[message, news, {text}]"));
            assert_eq!(heard, expected, "site {}", site + 1);
            (0..5).for_each(|_| assert!(next(pattern).starts_with("[pmessage, n*, news, ")));
        }
        sharded.iter_mut().for_each(|client| assert_eq!(next(client), "[smessage, shard, sharded]"));
        // Nothing twice: what comes last is heard next.
        cluster.client(3).ok("PUBLISH news end");
        plain.iter_mut().for_each(|client| assert_eq!(next(client), "[message, news, end]"));
        patterns.iter_mut().for_each(|client| assert_eq!(next(client), "[pmessage, n*, news, end]"));
        cluster.client(3).ok("SPUBLISH shard end");
        sharded.iter_mut().for_each(|client| assert_eq!(next(client), "[smessage, shard, end]"));
        assert_eq!(cluster.client(2).text("MGET k k2"), "[v, v]");
    }

    fn only_channels_that_the_setting_names_travel(cluster: 2) {
        let mut far = subscriber(&cluster.site(2).server, "PSUBSCRIBE *");
        let mut client = cluster.client(1);
        let before = client.text("SYNCER.CLOCK");
        client.ok("PUBLISH news off-by-default");
        assert_eq!(client.text("SYNCER.CLOCK"), before, "nothing is logged");
        allow(cluster, "news.* [ab]?");
        for channel in ["news", "news.today", "c1", "b1", "b11"] {
            client.ok(&format!("PUBLISH {channel} {channel}"));
        }
        allow(cluster, "off");
        client.ok("PUBLISH news.today off");
        allow(cluster, "end");
        client.ok("PUBLISH end end");
        let heard: Vec<String> = (0..3).map(|_| next(&mut far)).collect();
        assert_eq!(heard, ["news.today", "b1", "end"].map(|name| format!("[pmessage, *, {name}, {name}]")));
        assert_eq!(client.text("CONFIG GET syncer.publish"), "[syncer.publish, end]");
    }

    /// What was published during a cut comes when it is over, as long as the backlog has it.
    fn messages_wait_for_a_cut_to_heal(cluster: 2) {
        allow(cluster, "all");
        let mut far = subscriber(&cluster.site(2).server, "SUBSCRIBE news");
        cluster.cut(1, 2);
        cluster.client(1).ok("PUBLISH news late");
        cluster.heal();
        assert_eq!(next(&mut far), "[message, news, late]");
    }

    /// A user who may not run SYNCER.CALL publishes as before, and only where it may.
    fn rights_stay_those_of_the_user(cluster: 2) {
        allow(cluster, "all");
        let mut far = subscriber(&cluster.site(2).server, "SUBSCRIBE mine");
        let mut client = cluster.client(1);
        client.ok("ACL SETUSER publisher on >secret +publish +multi +exec resetchannels &mine");
        client.ok("AUTH publisher secret");
        assert_eq!(client.text("PUBLISH mine hello"), "0");
        assert!(client.text("PUBLISH other hello").starts_with("-NOPERM"));
        assert!(client.text("PUBLISH mine").starts_with("-ERR wrong number of arguments for 'publish'"));
        assert_eq!(next(&mut far), "[message, mine, hello]");
    }
}

#[test]
fn subscribers_of_replicas_hear_each_message_once() {
    for kind in ServerKind::ALL {
        let options = ClusterOptions { module: vec![("publish", "all")], ..ClusterOptions::default() };
        let cluster = Cluster::with(&[kind, kind], &options);
        let replicas: Vec<Server> = cluster
            .sites()
            .iter()
            .map(|site| {
                let replica = Server::start(kind, ServerOptions::instance(site.instance).module_arg("publish", "all"));
                replica.client().ok(&format!("REPLICAOF 127.0.0.1 {}", site.server.port()));
                let mut client = replica.client();
                wait::eventually("the replica is in sync", || {
                    client.text("INFO replication").contains("master_link_status:up")
                });
                replica
            })
            .collect();
        let mut heard: Vec<Client> = replicas.iter().map(|replica| subscriber(replica, "SUBSCRIBE news")).collect();
        cluster.client(1).ok("PUBLISH news first");
        cluster.caught_up(1, 2);
        cluster.client(1).ok("PUBLISH news second");
        for client in &mut heard {
            client.patience(Duration::from_secs(20));
            assert_eq!([next(client), next(client)], ["[message, news, first]", "[message, news, second]"], "{kind}");
        }
    }
}
