//! What must be so when all sites have everything and nothing happens any more.

use std::time::Duration;

use super::plan::{Durability, Plan};
use crate::client::Client;
use crate::cluster::Cluster;
use crate::figures::figure;
use crate::wait;

/// How long it may take until metadata has gone: reports come every second or so.
const REST_MAX: Duration = Duration::from_secs(30);

/// Counts the lists of a database: their ids stay.
const LISTS: &str = "EVAL \"local n = 0 for _, k in ipairs(redis.call('KEYS', '*')) do \
                     if redis.call('TYPE', k).ok == 'list' then n = n + 1 end end return n\" 0";

/// Nothing was lost, and no metadata stays but what lists have (I-9).
///
/// # Errors
/// What is otherwise, and where.
pub fn check(cluster: &Cluster, plan: &Plan) -> Result<(), String> {
    for site in cluster.sites() {
        for name in ["panics", "writes_lost", "payloads_refused"] {
            let count = figure(&mut site.client(), name);
            if count != 0 {
                return Err(format!("instance {}: {name} is {count}\n{}", site.instance, site.server.log()));
            }
        }
    }
    let mut left = Vec::new();
    let is_at_rest = || {
        if plan.faults == Some(Durability::Saved) {
            // Only what is saved is reported.
            cluster.sites().iter().for_each(|site| drop(site.client().text("SAVE")));
        }
        left = cluster.sites().iter().filter_map(|site| leftover(&mut site.client())).collect();
        left.is_empty().then_some(())
    };
    wait::within(REST_MAX, is_at_rest).ok_or_else(|| format!("metadata stays: {left:?}"))
}

fn leftover(client: &mut Client) -> Option<String> {
    let mut lists = 0;
    for db in 0..2 {
        client.ok(&format!("SELECT {db}"));
        lists += client.text(LISTS).parse::<u64>().unwrap_or(0);
    }
    let (keys, aside, waiting) =
        (figure(client, "metadata_keys"), figure(client, "set_aside_keys"), figure(client, "waiting_groups"));
    let is_more = keys > lists || aside > 0 || waiting > 0;
    is_more.then(|| format!("{keys} keys with {lists} lists, {aside} set aside, {waiting} groups waiting"))
}
