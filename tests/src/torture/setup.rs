//! The servers of a plan.

use super::plan::{Durability, Plan};
use crate::cluster::{Cluster, ClusterOptions};
use crate::dataset;
use crate::server::{Server, ServerOptions};
use crate::wait;

/// The backlog where faults come: a few large values are more.
const BACKLOG: &str = "1mb";

/// Elements from which on values are stored as large ones. Not those of HyperLogLogs: on a stock server a `PFADD` that fails at that, for there are
/// bytes behind the registers, has changed some all the same, and tells nobody (`hll-sparse-max-bytes`).
const SMALL: [(&str, &str); 7] = [
    ("hash-max-listpack-entries", "2"),
    ("zset-max-listpack-entries", "2"),
    ("set-max-listpack-entries", "2"),
    ("set-max-intset-entries", "2"),
    ("list-max-listpack-size", "2"),
    ("list-compress-depth", "1"),
    ("stream-node-max-entries", "2"),
];

/// How its sites are set up.
pub fn options(plan: &Plan) -> ClusterOptions {
    let module = if plan.faults.is_some() { vec![("backlog-size", BACKLOG)] } else { vec![] };
    let mut config = if plan.small { SMALL.to_vec() } else { vec![] };
    if plan.faults == Some(Durability::Appended) {
        config.extend([("appendonly", "yes"), ("appendfsync", "always")]);
    }
    ClusterOptions { module, config, ..ClusterOptions::default() }
}

/// A replica of each server, if the plan has them.
pub fn replicas(cluster: &Cluster, plan: &Plan) -> Vec<Server> {
    let options = options(plan);
    let of = |instance| {
        let with = options
            .module
            .iter()
            .fold(ServerOptions::instance(instance), |all, (name, value)| all.module_arg(name, value));
        options.config.iter().fold(with, |all, (name, value)| all.config(name, value))
    };
    let sites = cluster.sites().iter().filter(|_| plan.replicas);
    sites.map(|site| site.server.replica(of(site.instance))).collect()
}

/// Waits until each replica is as its primary is; else says what differs.
pub fn compare(cluster: &Cluster, replicas: &[Server]) -> Option<String> {
    let mut text = None;
    wait::within(wait::PATIENCE, || {
        text = cluster.sites().iter().zip(replicas).find_map(|(site, replica)| {
            let mut clients = [site.client(), replica.client()];
            let [primary, there] =
                clients.each_mut().map(|client| (dataset::digest(client), client.text("SYNCER.DIGEST")));
            let mut differ = || {
                let [primary, there] = clients.each_mut().map(dataset::read);
                dataset::differences(&primary, &there)
            };
            (primary != there).then(|| format!("instance {} and its replica:\n{}", site.instance, differ()))
        });
        text.is_none().then_some(())
    });
    text
}
