//! Finds the primary of a site, and notices when it is another one.

use std::cmp::Reverse;
use std::time::Duration;

use syncer_shared::instance::InstanceId;
use syncer_shared::replid::ReplId;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::config::{Endpoint, Sentinel, Site};
use crate::connection::{Connection, ConnectionError, within};
use crate::protocol::Role;
use crate::resp::Reply;

/// Once a primary is found, how much longer the other servers are waited for: one of them may know that its reign has
/// ended.
const GRACE: Duration = Duration::from_millis(200);
/// How long one Sentinel may take before the next one is asked.
const SENTINEL_TIMEOUT: Duration = Duration::from_secs(1);
/// How often to look whether another server is the primary while the one in use still claims to be it: the network may
/// have cut it off from its site.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Longest pause between two searches: a promotion takes seconds, and a search costs a connection to each address.
pub const SEARCH_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Finds the primary of one site.
#[derive(Clone, Debug)]
pub struct Finder {
    site: Site,
    timeout: Duration,
    /// It is the agent's own site: of two primaries the one that is not taken is told so.
    is_own: bool,
}

/// Why no primary was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no primary of {site} was found: {causes}")]
pub struct NotFound {
    site: String,
    causes: String,
}

/// What one server said.
struct Candidate {
    endpoint: Endpoint,
    role: Role,
}

impl Finder {
    /// For a site; each connection attempt may take `timeout`.
    #[must_use]
    pub fn new(site: Site, timeout: Duration) -> Self {
        Self { site, timeout, is_own: false }
    }

    /// For the agent's own site.
    #[must_use]
    pub fn of_own_site(site: Site, timeout: Duration) -> Self {
        Self { is_own: true, ..Self::new(site, timeout) }
    }

    /// The site.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// The longest pause between attempts, given what is configured.
    #[must_use]
    pub fn pause_max(&self, configured: Duration) -> Duration {
        if self.site.must_be_searched() { configured.min(SEARCH_PAUSE_MAX) } else { configured }
    }

    /// The server that is the primary at this moment. A single address is not asked.
    ///
    /// # Errors
    /// When no server there says that it is the primary, with what each said instead.
    pub async fn find(&self) -> Result<Endpoint, NotFound> {
        let found = match &self.site {
            Site::Servers(servers) => match servers.as_slice() {
                [only] => Ok(only.clone()),
                several => self.search(several).await,
            },
            Site::Sentinel(sentinel) => self.ask_sentinels(sentinel).await,
        };
        found.map_err(|mut causes| {
            // In whatever order they answered: the same causes read the same, so that no log tells of a change.
            causes.sort();
            NotFound { site: self.site.to_string(), causes: causes.join("; ") }
        })
    }

    /// Returns when another server than `current` is found to be the primary.
    pub async fn moved_from(&self, current: &Endpoint) {
        if !self.site.must_be_searched() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.find().await.is_ok_and(|found| found.address() != current.address()) {
                return;
            }
        }
    }

    /// Asks all at once.
    async fn search(&self, servers: &[Endpoint]) -> Result<Endpoint, Vec<String>> {
        let mut asked = JoinSet::new();
        for endpoint in servers {
            asked.spawn(look(endpoint.clone(), self.timeout));
        }
        let (mut primaries, mut causes): (Vec<Candidate>, _) = (Vec::new(), Vec::new());
        let grace = tokio::time::sleep(self.timeout);
        tokio::pin!(grace);
        loop {
            let answer = tokio::select! {
                answer = asked.join_next() => answer,
                () = &mut grace, if !primaries.is_empty() => None,
            };
            match answer {
                Some(Ok(Ok(candidate))) => {
                    primaries.push(candidate);
                    grace.as_mut().reset(tokio::time::Instant::now() + GRACE);
                }
                Some(Ok(Err(cause))) => causes.push(cause),
                Some(Err(_)) => {}
                None => return self.choose(primaries).ok_or(causes),
            }
        }
    }

    /// Takes one; the others of this site take no more writes, as long as they are told so.
    fn choose(&self, primaries: Vec<Candidate>) -> Option<Endpoint> {
        let (chosen, others) = newest(primaries)?;
        for other in others.iter().filter(|other| self.is_own && other.role.instance == chosen.role.instance) {
            if other.role.replaced_by != Some(chosen.role.replid) {
                let (address, taken) = (other.endpoint.address(), chosen.endpoint.address());
                warn!(
                    address,
                    taken,
                    "two servers of this site are primaries: what clients write to the one that is not taken no other site sees; make it a replica, or stop it"
                );
            }
            // Beside the search: the other one may hang, and is asked anew in a few seconds.
            tokio::spawn(tell_replaced(other.endpoint.clone(), other.role.instance, chosen.role.replid, self.timeout));
        }
        Some(chosen.endpoint)
    }

    /// Asks one after the other, until one names a server that agrees.
    async fn ask_sentinels(&self, sentinel: &Sentinel) -> Result<Endpoint, Vec<String>> {
        let mut causes = Vec::new();
        for endpoint in &sentinel.sentinels {
            match ask_sentinel(endpoint, &sentinel.name).await {
                Ok((host, port)) => match look(sentinel.server(&host, port), self.timeout).await {
                    Ok(candidate) => return Ok(candidate.endpoint),
                    Err(cause) => causes.push(format!("Sentinel {} names {cause}", endpoint.address())),
                },
                Err(cause) => causes.push(format!("Sentinel {}: {cause}", endpoint.address())),
            }
        }
        Err(causes)
    }
}

/// A server that says it is a primary; else what it says.
async fn look(endpoint: Endpoint, timeout: Duration) -> Result<Candidate, String> {
    let asking = async {
        let mut connection = Connection::open(&endpoint, timeout).await?;
        within(timeout, &endpoint, connection.call(&[b"SYNCER.STATUS"])).await
    };
    let address = endpoint.address();
    let reply = asking.await.map_err(|error: ConnectionError| format!("{address}: {error}"))?;
    let role = Role::parse(&reply).map_err(|refusal| format!("{address}: {refusal}"))?;
    if role.is_primary { Ok(Candidate { endpoint, role }) } else { Err(format!("{address}: a replica")) }
}

/// Tells a primary of this site that the agent goes on with another one.
async fn tell_replaced(other: Endpoint, instance: Option<InstanceId>, by: ReplId, timeout: Duration) {
    let Some(instance) = instance else { return };
    let (instance, by) = (instance.to_string(), by.to_string());
    let telling = async {
        let mut connection = Connection::open(&other, timeout).await?;
        let words: [&[u8]; 4] = [b"SYNCER.PEER", instance.as_bytes(), b"REPLACED", by.as_bytes()];
        within(timeout, &other, connection.call(&words)).await
    };
    let trouble = match telling.await {
        Ok(Reply::Error(text)) => text,
        Ok(_) => return,
        Err(error) => ConnectionError::to_string(&error),
    };
    debug!(address = other.address(), trouble, "it cannot be told that another server is the primary");
}

/// Of several that claim to be the primary, the one that the other sites go on with, whatever the order of the answers: else agents go
/// to and fro, and differ from each other.
fn newest(mut primaries: Vec<Candidate>) -> Option<(Candidate, Vec<Candidate>)> {
    let ended: Vec<ReplId> = primaries.iter().flat_map(|candidate| candidate.role.past.iter().copied()).collect();
    primaries.sort_by_key(|candidate| standing(candidate, &ended));
    primaries.pop().map(|chosen| (chosen, primaries))
}

/// The higher goes on. A reign that another server calls a past one has ended, as has one that peers have told to be superseded. Of the
/// rest the one that began last, as the members have it (rule 3); but a server without any past may have come back without its state,
/// which they would refuse: of such the one that began first.
fn standing(candidate: &Candidate, ended: &[ReplId]) -> (bool, bool, i64, Reverse<String>) {
    let role = &candidate.role;
    let began = i64::try_from(role.began_ms).unwrap_or(i64::MAX);
    let rank = if role.past.is_empty() { -began } else { began };
    (!ended.contains(&role.replid), !role.is_superseded, rank, Reverse(candidate.endpoint.address()))
}

async fn ask_sentinel(endpoint: &Endpoint, name: &str) -> Result<(String, u16), String> {
    let asking = async {
        let mut connection = Connection::open(endpoint, SENTINEL_TIMEOUT).await?;
        let question: [&[u8]; 3] = [b"SENTINEL", b"get-master-addr-by-name", name.as_bytes()];
        within(SENTINEL_TIMEOUT, endpoint, connection.call(&question)).await
    };
    match asking.await.map_err(|error: ConnectionError| error.to_string())? {
        Reply::Error(text) => Err(text),
        Reply::Nil => Err(format!("does not know {name}")),
        reply => address(&reply).ok_or_else(|| "unexpected answer to SENTINEL get-master-addr-by-name".to_owned()),
    }
}

fn address(reply: &Reply) -> Option<(String, u16)> {
    let [host, port] = reply.elements() else { return None };
    Some((host.text()?.to_owned(), port.integer()?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EndpointFile;

    fn candidate(address: &str, replid: u8, past: &[u8], began_ms: u64) -> Candidate {
        let site = EndpointFile::from(format!("redis://{address}")).parse_site("X", &|_| None).unwrap();
        let id = |byte: u8| format!("{byte:02x}").repeat(20).parse().unwrap();
        let past = past.iter().copied().map(id).collect();
        let (instance, replaced_by) = (None, None);
        let replid = id(replid);
        let role = Role { is_primary: true, instance, replid, past, is_superseded: false, replaced_by, began_ms };
        Candidate { endpoint: site.endpoints()[0].clone(), role }
    }

    /// In either order.
    fn assert_chosen(one: impl Fn() -> Candidate, other: impl Fn() -> Candidate, expected: &str) {
        for candidates in [vec![one(), other()], vec![other(), one()]] {
            assert_eq!(newest(candidates).map(|(chosen, _)| chosen.endpoint.address()).as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_primary_whose_reign_has_ended_is_not_taken() {
        let (old, new) = (|| candidate("old:1", 1, &[], 9), || candidate("new:2", 2, &[1], 5));
        assert_chosen(old, new, "new:2");
        assert_eq!(newest(vec![old()]).map(|(chosen, _)| chosen.endpoint.address()).as_deref(), Some("old:1"));
        assert!(newest(vec![]).is_none());
    }

    #[test]
    fn of_two_that_know_nothing_of_each_other_the_one_that_began_last_is_taken() {
        let (promoted, restarted) = (|| candidate("promoted:1", 2, &[1], 5), || candidate("restarted:2", 3, &[1], 9));
        assert_chosen(promoted, restarted, "restarted:2");
        let superseded = || {
            let mut restarted = restarted();
            restarted.role.is_superseded = true;
            restarted
        };
        assert_chosen(promoted, superseded, "promoted:1");
        // They cannot tell: any, but always the same.
        assert_chosen(|| candidate("one:1", 2, &[1], 0), || candidate("two:2", 3, &[1], 0), "one:1");
    }

    #[test]
    fn a_primary_that_came_back_without_its_state_is_not_taken() {
        let blank = || candidate("blank:1", 7, &[], 9);
        assert_chosen(blank, || candidate("promoted:2", 2, &[1], 5), "promoted:2");
        assert_chosen(blank, || candidate("first:2", 1, &[], 5), "first:2");
    }
}
