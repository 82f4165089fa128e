//! Values of a module's own type (`tests/other_module`): whole, the last writer wins, and a site without the module keeps and passes them on.

use syncer_tests::agent::{Agent, AgentOptions};
use syncer_tests::cluster::{Cluster, ClusterOptions};
use syncer_tests::figures::figure;
use syncer_tests::members::{forget, join, takes_writes};
use syncer_tests::nodes::until_rewritten;
use syncer_tests::on_each_kind;
use syncer_tests::server::{Server, ServerKind, ServerOptions};
use syncer_tests::wait;

/// Three sites in a row, the one in the middle without the module.
fn around_a_site_without_the_module(kind: ServerKind) -> Cluster {
    let options = ClusterOptions {
        config: vec![("appendonly", "yes"), ("appendfsync", "always")],
        edges: vec![(1, 2), (2, 3)],
        other_module: vec![1, 3],
        ..ClusterOptions::default()
    };
    Cluster::with(&[kind; 3], &options)
}

/// A site to be that has the module, and the flags for its agent.
fn newcomer_with(kind: ServerKind, options: ServerOptions, ports: [u16; 2]) -> (Server, AgentOptions) {
    let server = Server::start(kind, options);
    let flags = AgentOptions::beside(server.port()).peer(1, ports[0]).peer(2, ports[1]);
    (server, flags)
}

/// Restarts a server that has no values of the module any more, without it.
fn without_the_module(server: &mut Server, options: ServerOptions) {
    rewrite(server);
    server.restart_with(options);
}

fn rewrite(server: &Server) {
    server.client().ok("BGREWRITEAOF");
    until_rewritten(server);
}

on_each_kind! {
    fn the_last_writer_of_a_value_wins_whole_and_only_changes_are_logged(kind) {
        let options = ClusterOptions { other_module: vec![1, 2], ..ClusterOptions::default() };
        let cluster = Cluster::with(&[kind; 2], &options);
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.multi(&["OTHER.PUT bag a", "OTHER.PUT bag b"]);
        one.ok("PEXPIREAT bag 4000000000000");
        cluster.converged();
        assert_eq!((two.text("OTHER.SHOW bag"), two.text("PEXPIRETIME bag")), ("[a, b]".into(), "4000000000000".into()));
        let logged = figure(&mut one, "effects_captured");
        assert_eq!([one.text("OTHER.PUT bag a"), one.text("OTHER.TAKE bag nothing")], ["0", "0"]);
        cluster.converged();
        assert_eq!(figure(&mut one, "effects_captured") - logged, 0, "nothing has changed");
        cluster.cut(1, 2);
        one.ok("OTHER.PUT bag earlier");
        two.ok("OTHER.PUT bag later");
        cluster.heal();
        cluster.converged();
        assert_eq!((one.text("OTHER.SHOW bag"), two.text("OTHER.SHOW bag")), ("[a, b, later]".into(), "[a, b, later]".into()));
        assert!(one.text("INFO syncer").contains("captured_whole_by_type:other-bag="), "{}", one.text("INFO syncer"));
        two.multi(&["OTHER.TAKE bag a", "OTHER.TAKE bag b", "OTHER.TAKE bag later"]);
        cluster.converged();
        assert_eq!(one.text("EXISTS bag"), "0");
    }

    /// From the append-only file, or from the state in its preamble.
    fn a_site_without_the_module_passes_values_on_and_shows_them_once_it_has_it(kind) {
        for rewritten in [false, true] {
            let mut cluster = around_a_site_without_the_module(kind);
            let (mut one, mut two, mut three) = (cluster.client(1), cluster.client(2), cluster.client(3));
            one.multi(&["OTHER.PUT bag a", "OTHER.PUT bag b"]);
            one.ok("PEXPIREAT bag 4000000000000");
            cluster.settled();
            assert_eq!(three.text("OTHER.SHOW bag"), "[a, b]", "it went through site 2");
            assert_eq!(two.text("EXISTS bag"), "0");
            assert_eq!(figure(&mut two, "payloads_unknown"), 1);
            let [status, key] = ["SYNCER.STATUS", "SYNCER.KEY bag"].map(|command| two.text(command));
            assert!(status.contains("payloads_unknown, 1") && key.contains("unknown_payload, 1"), "{status}\n{key}");
            three.ok("OTHER.PUT bag c");
            cluster.settled();
            assert_eq!(one.text("OTHER.SHOW bag"), "[a, b, c]", "and back");
            if rewritten {
                rewrite(&cluster.site(2).server);
            }
            let with_it = ServerOptions::instance(2).config("appendonly", "yes").other_module();
            cluster.site_mut(2).server.restart_with(with_it);
            two = cluster.client(2);
            wait::eventually("it shows the value", || two.text("OTHER.SHOW bag") == "[a, b, c]");
            assert_eq!((figure(&mut two, "payloads_unknown"), two.text("PEXPIRETIME bag")), (0, "4000000000000".into()));
            cluster.converged();
            two.ok("OTHER.PUT bag d");
            cluster.converged();
            assert_eq!(one.text("OTHER.SHOW bag"), "[a, b, c, d]");
            one.ok("DEL bag");
            cluster.converged();
            assert_eq!(three.text("EXISTS bag"), "0");
        }
    }

    /// Servers exit over a value that they cannot read while they serve nobody: what a joining site had set aside must not be written by a timer.
    fn a_site_that_lost_the_module_while_it_joined_keeps_what_it_had_set_aside(kind) {
        let cluster = Cluster::with(&[kind; 2], &ClusterOptions { other_module: vec![1], ..ClusterOptions::default() });
        let ports = [1, 2].map(|site| cluster.site(site).server.port());
        let options = ServerOptions::instance(3).config("appendonly", "yes").config("appendfsync", "always");
        let (mut server, flags) = newcomer_with(kind, options.clone().other_module(), ports);
        let mut three = server.client();
        for line in ["OTHER.PUT bag a", "SET k 3"] {
            three.ok(line);
        }
        let (done, said) = join(&flags, &["--data", "merge"]);
        assert!(done, "{said}");
        without_the_module(&mut server, options);
        let beside = |site: usize| Agent::start(AgentOptions::beside(ports[site]).peer(3, server.port()));
        let _agents = [Agent::start(flags), beside(0), beside(1)];
        three = server.client();
        takes_writes(&mut three);
        let mut one = cluster.client(1);
        wait::eventually("what it had set aside is in", || one.text("OTHER.SHOW bag") == "[a]" && one.text("GET k") == "3");
        assert_eq!((three.text("EXISTS bag"), three.text("GET k"), figure(&mut three, "payloads_unknown")), ("0".into(), "3".into(), 1));
        assert_eq!(cluster.client(2).text("EXISTS bag"), "0");
    }

    /// T8: nobody is left to write an expired key again but a site that cannot read it any more.
    fn a_site_that_lost_the_module_writes_again_what_a_lost_site_had_extended(kind) {
        let options = ClusterOptions {
            config: vec![("appendonly", "yes"), ("appendfsync", "always")],
            other_module: vec![1, 2, 3],
            ..ClusterOptions::default()
        };
        let mut cluster = Cluster::with(&[kind; 3], &options);
        let mut one = cluster.client(1);
        one.ok("OTHER.PUT bag a");
        cluster.converged();
        // Site 1 never hears that site 3 extends what expires there.
        cluster.cut_all();
        cluster.client(3).ok("PEXPIREAT bag 4000000000000");
        cluster.heal_between(2, 3);
        cluster.caught_up(3, 2);
        cluster.cut(2, 3);
        cluster.site_mut(3).agent.kill();
        cluster.site_mut(3).server.kill();
        one.ok("PEXPIRE bag 1");
        wait::eventually("it expires", || one.text("EXISTS bag") == "0");
        cluster.heal_between(1, 2);
        cluster.caught_up(1, 2);
        assert_eq!(cluster.client(2).text("EXISTS bag"), "0");
        let options = ServerOptions::instance(2).config("appendonly", "yes");
        without_the_module(&mut cluster.site_mut(2).server, options);
        let (done, said) = forget(cluster.site(1).server.port(), 3);
        assert!(done, "{said}");
        wait::eventually("it is back", || one.text("OTHER.SHOW bag") == "[a]");
        assert_eq!(one.text("PEXPIRETIME bag"), "4000000000000");
        let mut two = cluster.client(2);
        assert_eq!((two.text("EXISTS bag"), figure(&mut two, "payloads_unknown")), ("0".into(), 1));
    }
}
