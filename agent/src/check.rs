//! `syncer-agent check`: would `run` work? One line for each thing looked at, with what to do where it would not.

use std::fmt;
use std::time::{Duration, Instant};

use syncer_shared::instance::InstanceId;
use syncer_shared::replid::ReplId;

use crate::config::{Config, Endpoint, Site};
use crate::connection::{Connection, ConnectionError, within};
use crate::finder::Finder;
use crate::protocol::{Code, PeerInfo, Refusal};
use crate::resp::Reply;

/// Clocks further apart than this are worth a look: expiry uses them.
const DRIFT_NOTICE: Duration = Duration::from_secs(1);
/// Clocks further apart than this make last-writer-wins unfair, and soon are refused.
const DRIFT_MAX: Duration = Duration::from_secs(10);

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, but should be looked at.
    Warn,
    /// Must be mended first.
    Fail,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How serious.
    pub level: Level,
    /// `local` or `peer 2`.
    pub whose: String,
    /// What was found, and what to do.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "OK  ",
            Level::Warn => "WARN",
            Level::Fail => "FAIL",
        };
        write!(f, "{level} {:8} {}", self.whose, self.text)
    }
}

/// Who a server is.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    instance: InstanceId,
    replid: ReplId,
}

/// What one server said of itself, as far as it came.
#[derive(Debug, Default)]
struct Seen {
    identity: Option<Identity>,
    /// Its wall clock minus ours, in milliseconds.
    drift_ms: Option<i64>,
}

/// Findings, in order.
#[derive(Debug, Default)]
struct Report(Vec<Finding>);

impl Report {
    fn add(&mut self, level: Level, whose: &str, text: impl Into<String>) {
        self.0.push(Finding { level, whose: whose.to_owned(), text: text.into() });
    }
}

/// Looks at everything. The configuration itself was found good by parsing.
pub async fn check(config: &Config) -> Vec<Finding> {
    let mut report = Report::default();
    // Any peer will do: the answer also says who answers.
    let any = config.peers.keys().next().copied();
    let local = look("local", &config.local, any, true, config, &mut report).await;
    let mut peers = Vec::new();
    for (id, site) in &config.peers {
        let whose = format!("peer {id}");
        let seen = look(&whose, site, Some(*id), false, config, &mut report).await;
        peers.push((*id, whose, seen));
    }
    for (id, whose, seen) in &peers {
        compare(*id, whose, seen, &local, &mut report);
    }
    for (index, (_, whose, seen)) in peers.iter().enumerate() {
        let same =
            |(_, _, other): &&(InstanceId, String, Seen)| replid(other).is_some() && replid(other) == replid(seen);
        if let Some((other, ..)) = peers.iter().take(index).find(same) {
            report.add(
                Level::Fail,
                whose,
                format!("leads to the same server as peer {other}: correct one of the addresses"),
            );
        }
    }
    report.0
}

fn replid(seen: &Seen) -> Option<ReplId> {
    seen.identity.as_ref().map(|info| info.replid)
}

async fn look(
    whose: &str,
    site: &Site,
    ask_for: Option<InstanceId>,
    is_local: bool,
    config: &Config,
    report: &mut Report,
) -> Seen {
    let timeout = config.settings.connect_timeout;
    let mut seen = Seen::default();
    let endpoint = match Finder::new(site.clone(), timeout).find().await {
        Ok(endpoint) => endpoint,
        Err(error) => {
            report.add(Level::Fail, whose, error.to_string());
            return seen;
        }
    };
    if site.must_be_searched() {
        report.add(Level::Ok, whose, format!("the primary of {site} is {endpoint}"));
    }
    let mut connection = match Connection::open(&endpoint, timeout).await {
        Ok(connection) => connection,
        Err(error) => {
            report.add(Level::Fail, whose, format!("{endpoint}: {error}"));
            return seen;
        }
    };
    report.add(Level::Ok, whose, format!("{endpoint} is reachable"));
    let mut server = Server { connection: &mut connection, endpoint: &endpoint, timeout };
    match server.look(whose, ask_for, is_local, &mut seen, report).await {
        Ok(()) => {}
        Err(error) => report.add(Level::Fail, whose, error.to_string()),
    }
    seen
}

struct Server<'a> {
    connection: &'a mut Connection,
    endpoint: &'a Endpoint,
    timeout: Duration,
}

impl Server<'_> {
    async fn call(&mut self, args: &[&[u8]]) -> Result<Reply, ConnectionError> {
        within(self.timeout, self.endpoint, self.connection.call(args)).await
    }

    async fn look(
        &mut self,
        whose: &str,
        ask_for: Option<InstanceId>,
        is_local: bool,
        seen: &mut Seen,
        report: &mut Report,
    ) -> Result<(), ConnectionError> {
        let (level, text) = version(&self.call(&[b"INFO", b"server"]).await?);
        report.add(level, whose, text);
        seen.drift_ms = self.drift().await?;
        if let Some(id) = ask_for {
            match self.identity(id, is_local).await? {
                Ok(identity) => {
                    report.add(Level::Ok, whose, format!("the module is loaded, instance {}", identity.instance));
                    seen.identity = Some(identity);
                }
                Err(refusal) if refusal.code == Code::Denied && !is_local => {
                    report.add(
                        Level::Warn,
                        whose,
                        "which instance it is cannot be told: allow INFO (+info) for `check`",
                    );
                }
                Err(refusal) => {
                    report.add(Level::Fail, whose, refusal.to_string());
                    return Ok(());
                }
            }
        }
        self.rights(whose, is_local, report).await
    }

    /// Whoever may not run `SYNCER.PEER`, which only the agent of that site needs there, is told by `INFO`.
    async fn identity(
        &mut self,
        ask_for: InstanceId,
        is_local: bool,
    ) -> Result<Result<Identity, Refusal>, ConnectionError> {
        let reply = self.call(&[b"SYNCER.PEER", ask_for.to_string().as_bytes(), b"INFO"]).await?;
        let told = PeerInfo::parse(&reply).map(|PeerInfo { instance, replid, .. }| Identity { instance, replid });
        let is_denied = told.as_ref().is_err_and(|refusal| refusal.code == Code::Denied);
        let by_info = if is_denied && !is_local { identity(&self.call(&[b"INFO", b"syncer"]).await?) } else { None };
        Ok(by_info.map_or(told, Ok))
    }

    /// Its wall clock minus ours, corrected by half the round trip.
    async fn drift(&mut self) -> Result<Option<i64>, ConnectionError> {
        let sent = Instant::now();
        let reply = self.call(&[b"TIME"]).await?;
        let half = sent.elapsed() / 2;
        let Ok(ours) = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) else { return Ok(None) };
        let [seconds, micros] = reply.elements() else { return Ok(None) };
        let theirs =
            seconds.integer().zip(micros.integer()).map(|(s, us)| s.saturating_mul(1000).saturating_add(us / 1000));
        Ok(theirs.map(|theirs| theirs.saturating_sub((ours - half).as_millis() as i64)))
    }

    /// Calls that do nothing, be it for want of sense: only whether they are permitted matters.
    async fn rights(&mut self, whose: &str, is_local: bool, report: &mut Report) -> Result<(), ConnectionError> {
        let target: &[&[&[u8]]] = &[
            &[b"SYNCER.APPLY", b"0", b"?", b"0", b"0", b"0", b"0", b""],
            &[b"SYNCER.PEER", b"0", b"INFO"],
            &[b"SYNCER.SYNC", b"STATUS"],
            &[b"SYNCER.REPORT"],
            &[b"SYNCER.CLOCK"],
        ];
        let source: &[&[&[u8]]] = &[
            &[b"SYNCER.PSYNC", b"0", b"*", b"0", b"?", b"*", b"?", b"-1", b"-"],
            &[b"SYNCER.READ", b"1", b"0"],
            &[b"SYNCER.SNAPSHOT", b"READ", b"0"],
            &[b"SYNCER.REPORT"],
            &[b"SYNCER.CLOCK"],
        ];
        let mut denied = Vec::new();
        for args in if is_local { target } else { source } {
            if let Reply::Error(text) = self.call(args).await? {
                let refusal = Refusal::from_error(&text);
                let name = args.first().map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default();
                match refusal.code {
                    Code::Denied => denied.push(name),
                    Code::Role => report.add(Level::Fail, whose, format!("{text}: point the agent at the primary")),
                    _ => {}
                }
            }
        }
        match denied.is_empty() {
            true => report.add(Level::Ok, whose, "the user may run what the agent needs"),
            false => report.add(
                Level::Fail,
                whose,
                format!(
                    "NOPERM: the user may not run {}: allow it (ACL SETUSER); docs/AGENT.md lists what the agent's user needs",
                    denied.join(", ")
                ),
            ),
        }
        Ok(())
    }
}

/// A field of `INFO`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'))
}

/// Who a server is by its `INFO syncer`.
fn identity(info: &Reply) -> Option<Identity> {
    let text = info.text()?;
    let instance = InstanceId::new(field(text, "syncer_instance_id")?.parse().ok()?)?;
    Some(Identity { instance, replid: field(text, "syncer_replid")?.parse().ok()? })
}

/// Whether the server is one that the module supports.
fn version(info: &Reply) -> (Level, String) {
    let Some(text) = info.text() else { return (Level::Warn, "the version is unknown: INFO is not permitted".into()) };
    let field = |name: &str| field(text, name);
    let (name, version, least) = match (field("valkey_version"), field("redis_version")) {
        (Some(version), _) => ("Valkey", version, (8, 0)),
        (None, Some(version)) => ("Redis", version, (7, 2)),
        (None, None) => return (Level::Warn, "the version is unknown: INFO does not tell".into()),
    };
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    match found >= least {
        true => (Level::Ok, format!("{name} {version}")),
        false => (Level::Fail, format!("{name} {version} is too old: upgrade to {}.{} or later", least.0, least.1)),
    }
}

fn compare(id: InstanceId, whose: &str, seen: &Seen, local: &Seen, report: &mut Report) {
    if let Some(info) = &seen.identity {
        match info.instance == id {
            true => report.add(Level::Ok, whose, format!("it is instance {id}, as configured")),
            false => {
                let text = format!("it is instance {}, not {id}: correct the address or the id", info.instance);
                report.add(Level::Fail, whose, text);
            }
        }
        if local.identity.as_ref().is_some_and(|local| local.instance == info.instance) {
            let text =
                "it has the local server's instance id: every instance needs its own, and no peer is the local server";
            report.add(Level::Fail, whose, text);
        }
    }
    if let (Some(theirs), Some(ours)) = (seen.drift_ms, local.drift_ms) {
        let (level, text) = drift(theirs.abs_diff(ours));
        report.add(level, whose, text);
    }
}

fn drift(apart_ms: u64) -> (Level, String) {
    let apart = Duration::from_millis(apart_ms);
    let text = format!("its clock is {:.1} s from the local server's", apart.as_secs_f32());
    let advise = |text| format!("{text}: synchronize the clocks (NTP)");
    match apart {
        apart if apart > DRIFT_MAX => (Level::Fail, advise(text)),
        apart if apart > DRIFT_NOTICE => (Level::Warn, advise(text)),
        _ => (Level::Ok, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(text: &'static str) -> Reply {
        Reply::Bulk(bytes::Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn judges_versions() {
        assert_eq!(version(&info("redis_version:8.2.3\r\n")), (Level::Ok, "Redis 8.2.3".into()));
        assert_eq!(version(&info("redis_version:7.2.4\r\nvalkey_version:9.1.2\r\n")).1, "Valkey 9.1.2");
        assert_eq!(version(&info("redis_version:7.0.15\r\n")).0, Level::Fail);
        assert_eq!(version(&info("redis_version:7.2.4\r\nvalkey_version:7.2.5\r\n")).0, Level::Fail);
        assert_eq!(version(&Reply::Error("NOPERM".into())).0, Level::Warn);
    }

    #[test]
    fn info_tells_who_a_server_is() {
        let replid = "0123456789abcdef0123456789abcdef01234567";
        let told = |text: &str| identity(&Reply::Bulk(bytes::Bytes::copy_from_slice(text.as_bytes())));
        let expected =
            Identity { instance: InstanceId::new(7).expect("in range"), replid: replid.parse().expect("hexadecimal") };
        let text =
            format!("# syncer_syncer\r\nsyncer_instance_id:7\r\nsyncer_role:primary\r\nsyncer_replid:{replid}\r\n");
        assert_eq!(told(&text), Some(expected));
        assert_eq!(told(&text.replace(":7", ":77")), None);
        assert_eq!(told("# Server\r\n"), None);
    }

    #[test]
    fn judges_clocks() {
        assert_eq!(drift(40).0, Level::Ok);
        assert_eq!(drift(3_000).0, Level::Warn);
        assert_eq!(drift(60_000).0, Level::Fail);
    }
}
