//! DESIGN 4: any connected topology converges, also while links go up and down. Agents know their neighbours only.

use syncer_tests::cluster::{Cluster, ClusterOptions};
use syncer_tests::load::under_load;
use syncer_tests::server::ServerKind;
use syncer_tests::wait;

/// Sites of alternating kinds, of which only those beside each other talk.
fn sites(count: usize, edges: &[(u8, u8)]) -> Cluster {
    let options =
        ClusterOptions { agent: vec!["--relay-after-ms", "300"], edges: edges.to_vec(), ..ClusterOptions::default() };
    Cluster::with(&ServerKind::mixed(count), &options)
}

/// Writers at every site while one link after the other is cut and healed, the next before the last is whole: counters are exact and all sites
/// equal in the end.
fn converges(count: usize, edges: &[(u8, u8)]) {
    let mut cluster = sites(count, edges);
    under_load(&mut cluster, |cluster, load| {
        let mut last = None;
        for &(left, right) in edges {
            cluster.cut(left, right);
            load.advance(30);
            if let Some((left, right)) = last.replace((left, right)) {
                cluster.heal_between(left, right);
            }
            load.advance(30);
        }
        cluster.heal();
        load.advance(30);
    });
    let ends = [1, u8::try_from(count).expect("few sites")];
    for (site, other) in [(ends[0], ends[1]), (ends[1], ends[0])] {
        cluster.client(site).ok(&format!("SET from:{site} here"));
        cluster.caught_up(site, other);
        assert_eq!(cluster.client(other).text(&format!("GET from:{site}")), "here");
    }
}

#[test]
fn a_chain_converges() {
    converges(3, &[(1, 2), (2, 3)]);
    converges(5, &[(3, 1), (1, 4), (4, 2), (2, 5)]);
}

#[test]
fn a_star_converges() {
    converges(4, &[(2, 1), (2, 3), (2, 4)]);
    converges(5, &[(1, 2), (1, 3), (1, 4), (1, 5)]);
}

#[test]
fn a_ring_converges() {
    converges(3, &[(1, 2), (2, 3), (3, 1)]);
    converges(5, &[(1, 2), (2, 3), (3, 4), (4, 5), (5, 1)]);
}

#[test]
fn a_mesh_converges() {
    converges(3, &[(1, 2), (2, 3), (1, 3)]);
    converges(4, &[(1, 2), (3, 4), (1, 3), (2, 4), (1, 4), (2, 3)]);
    let all = (1..=5).flat_map(|left| (left + 1..=5).map(move |right| (left, right))).collect::<Vec<_>>();
    converges(5, &all);
}

/// It reached its one neighbour, which is at the far end of a chain; then it is gone for good.
#[test]
fn a_site_that_dies_after_it_reached_one_peer_still_spreads_its_writes() {
    for (count, edges) in [(4, &[(1, 2), (2, 3), (3, 4)][..]), (3, &[])] {
        let mut cluster = sites(count, edges);
        let dying = u8::try_from(count).expect("few sites");
        // The neighbour gets them, and nobody else yet.
        for site in 1..dying - 1 {
            cluster.cut(site, dying);
            cluster.cut(site, dying - 1);
        }
        let mut client = cluster.client(dying);
        for line in ["SET last words", "INCRBY n 7", "LPUSH l a b", "SADD s m", "XADD x 1-1 f v"] {
            client.ok(line);
        }
        cluster.caught_up(dying, dying - 1);
        cluster.site_mut(dying).server.kill();
        cluster.site_mut(dying).agent.kill();
        assert_eq!(cluster.client(1).text("EXISTS last"), "0");
        for site in 1..dying - 1 {
            cluster.heal_between(site, dying - 1);
        }
        for site in 1..dying {
            let mut client = cluster.client(site);
            let has_all = || {
                client.text("MGET last n") == "[words, 7]"
                    && client.text("LRANGE l 0 -1") == "[b, a]"
                    && client.text("SMEMBERS s") == "[m]"
                    && client.text("XLEN x") == "1"
            };
            wait::eventually(&format!("site {site} has all that site {dying} wrote"), has_all);
        }
        // Its writes count like any other: an increment on top of them is exact everywhere.
        cluster.client(1).ok("INCR n");
        cluster.caught_up(1, dying - 1);
        assert_eq!(cluster.client(dying - 1).text("GET n"), "8");
    }
}
