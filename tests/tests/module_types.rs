//! Values of a module's own type (`tests/other_module`): whole, the last writer wins, and a site without the module keeps and passes them on.

use syncer_tests::cluster::{Cluster, ClusterOptions};
use syncer_tests::figures::figure;
use syncer_tests::on_each_kind;
use syncer_tests::server::{ServerKind, ServerOptions};
use syncer_tests::wait;

/// Three sites in a row, the one in the middle without the module.
fn around_a_site_without_the_module(kind: ServerKind) -> Cluster {
    let options = ClusterOptions {
        config: vec![("appendonly", "yes")],
        edges: vec![(1, 2), (2, 3)],
        other_module: vec![1, 3],
        ..ClusterOptions::default()
    };
    Cluster::with(&[kind; 3], &options)
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
                two.ok("BGREWRITEAOF");
                wait::eventually("the file is rewritten", || {
                    let info = two.text("INFO persistence");
                    info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
                });
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
}
