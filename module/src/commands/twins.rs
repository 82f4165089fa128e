//! Two servers with one instance id, from copies of one file or one machine: each is let in, since it continues what is known of that
//! instance, and what is written at the one that nobody reads from is lost. Here at least both are seen.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use syncer_shared::instance::InstanceId;
use syncer_shared::replid::ReplId;

use crate::redis::{client, log};

/// After a failover the connection of the old primary's agent may read for a moment; not for so long.
const MOMENT: Duration = Duration::from_secs(15);
/// Who has not read for so long is gone. Agents read every few seconds.
const GONE_AFTER: Duration = Duration::from_secs(60);
/// How often this is told.
const TELL_EVERY: Duration = Duration::from_secs(600);

/// The servers that read here as one instance.
#[derive(Default)]
struct Seen {
    servers: BTreeMap<ReplId, Server>,
    told: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Server {
    /// The connection that it reads on.
    client: u64,
    since: Instant,
    last: Instant,
}

impl Seen {
    /// A server reads; another one, that began to later and reads as well, if that is news.
    fn reads(&mut self, replid: ReplId, client: u64, now: Instant) -> Option<(ReplId, u64)> {
        let server = self.servers.entry(replid).or_insert(Server { client, since: now, last: now });
        (server.client, server.last) = (client, now);
        let mine = server.since;
        if self.servers.len() < 2 {
            return None;
        }
        let older = |at: Instant, span| now.saturating_duration_since(at) > span;
        self.servers.retain(|_, server| !older(server.last, GONE_AFTER));
        let mut others = self.servers.iter().filter(|(other, _)| **other != replid);
        let (twin, server) = others.find(|(_, server)| server.since > mine && older(server.since, MOMENT))?;
        if self.told.is_some_and(|told| !older(told, TELL_EVERY)) {
            return None;
        }
        self.told = Some(now);
        Some((*twin, server.client))
    }
}

crate::redis::server_local! {
    static SEEN: RefCell<BTreeMap<InstanceId, Seen>> = const { RefCell::new(BTreeMap::new()) };
}

/// The server of a reign of an instance reads here, on a connection.
pub fn reads(reader: InstanceId, replid: ReplId, client: u64, now: Instant) {
    let twin = SEEN.with_borrow_mut(|seen| seen.entry(reader).or_default().reads(replid, client, now));
    let Some((twin, its_client)) = twin else { return };
    let [here, there] = [client, its_client].map(|id| client::address(id).unwrap_or_else(|| "somewhere".into()));
    log::warning(&format!(
        "syncer: two servers are instance {reader}: the agent of one, with replication ID {replid}, reads here from {here}, that of the other, with {twin}, from {there}. Stop the one that is a copy of the other's file or machine: what is written there may reach nobody, and who reports for it makes the sites drop what the other one still needs"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_servers_with_one_id_are_told_from_a_failover() {
        let [old, new] = [1, 2].map(|byte| ReplId::from_bytes([byte; 20]));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut failover = Seen::default();
        assert_eq!(failover.reads(old, 7, at(0)), None);
        assert_eq!(failover.reads(new, 8, at(10)), None);
        assert_eq!(failover.reads(old, 7, at(20)), None, "its agent has not heard yet");
        (30..200).for_each(|second| assert_eq!(failover.reads(new, 8, at(second)), None));

        let mut copied = Seen::default();
        let mut told = Vec::new();
        for second in 0..700 {
            told.extend(copied.reads(old, 7, at(second)).map(|twin| (second, twin)));
            if second >= 100 {
                told.extend(copied.reads(new, 8, at(second)).map(|twin| (second, twin)));
            }
        }
        assert_eq!(told, [(116, (new, 8))], "once in ten minutes");
    }
}
