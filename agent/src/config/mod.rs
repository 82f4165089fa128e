//! Configuration: parsed, not validated. A [`Config`] that exists is usable.
//!
//! Flags and the file have the same keys; what a flag says wins over the file, the file over the environment.

mod endpoint;
mod file;
mod flags;
mod secret;
mod site;
mod tls;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use syncer_shared::instance::InstanceId;

pub use endpoint::{Credentials, Endpoint, EndpointError, EndpointFile};
pub use file::ConfigFile;
pub use flags::{LocalFlags, SettingFlags, SiteFlags};
pub use secret::Secret;
pub use site::{Sentinel, Site};
pub use tls::{Tls, TlsError, TlsFiles};

/// What an agent needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Our own site, into whose primary effects are applied.
    pub local: Site,
    /// The other instances.
    pub peers: BTreeMap<InstanceId, Site>,
    /// Times and sizes.
    pub settings: Settings,
    /// Where snapshots are kept until they are merged, if it was said.
    pub spool_dir: Option<PathBuf>,
}

/// Times and sizes, with defaults that suit most sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Most bytes of effects held in memory per peer; one larger group is still let through.
    pub queue_bytes: usize,
    /// Most time a connection attempt, TLS and login included, may take.
    pub connect_timeout: Duration,
    /// Longest pause between two attempts to reach a peer.
    pub retry_max: Duration,
    /// How often clocks are reported to peers.
    pub report_every: Duration,
    /// For how long effects of an instance may be missing before another peer is asked for them.
    pub relay_after: Duration,
    /// How often all sites are compared; `None`: never.
    pub verify_every: Option<Duration>,
    /// How long one `SYNCER.APPLY` should hold the local server's main thread.
    pub apply_slice: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            queue_bytes: 16 << 20,
            connect_timeout: Duration::from_secs(5),
            retry_max: Duration::from_secs(10),
            // Metadata lives until the next report: the fewer keys have some, the more of it fits the server's cache.
            report_every: Duration::from_millis(25),
            relay_after: Duration::from_secs(3),
            verify_every: None,
            apply_slice: Duration::from_micros(200),
        }
    }
}

/// Why there is no [`Config`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Neither flag nor file names the local server.
    #[error("no local server: give --local redis://host:port or `local` in the file")]
    NoLocal,
    /// An agent without peers has nothing to do.
    #[error("no peers: give --peer <instance-id>=redis://host:port or a [peer.<instance-id>] in the file")]
    NoPeers,
    /// `--peer` without `=`, or not a number.
    #[error("`{0}` is not <instance-id>=<url>, with an instance id from 1 to 63")]
    Peer(String),
    /// One instance id, two addresses.
    #[error("peer {0} is given twice")]
    PeerTwice(InstanceId),
    /// An address is unusable.
    #[error("{whose}: {source}")]
    Endpoint {
        /// `local` or `peer 2`.
        whose: String,
        /// What is wrong with it.
        source: EndpointError,
    },
    /// A size or time is out of its range.
    #[error("`{key}` is {value}, it must be from {min} to {max}")]
    Range {
        /// The key in the file, the flag without its dashes.
        key: &'static str,
        /// What was given.
        value: u64,
        /// Lowest allowed.
        min: u64,
        /// Highest allowed.
        max: u64,
    },
    /// The file cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// The file isn't what it should be. The parser's excerpt is left out: it could hold a password.
    #[error("{path}{place}: {message}")]
    File {
        /// The file.
        path: PathBuf,
        /// `:line`, if known.
        place: String,
        /// What the parser says.
        message: String,
    },
}

/// Where passwords and users may come from besides URL and files: the process environment, or a map in tests.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Config {
    /// The configuration that flags, the file they name and the environment make together.
    ///
    /// # Errors
    /// When something is missing, contradictory or out of range; the error names the key.
    pub fn load(flags: &SiteFlags, environment: Environment<'_>) -> Result<Self, ConfigError> {
        let file = flags.config.as_deref().map(ConfigFile::read).transpose()?.unwrap_or_default();
        Self::parse(flags, file, environment)
    }

    /// Only the local server, for commands that need no peers.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_local(flags: &LocalFlags, environment: Environment<'_>) -> Result<Site, ConfigError> {
        let file = flags.config.as_deref().map(ConfigFile::read).transpose()?.unwrap_or_default();
        let local = flags.local.clone().map(EndpointFile::from).or(file.local).ok_or(ConfigError::NoLocal)?;
        parse_site("local".into(), "SYNCER_LOCAL", local, environment)
    }

    fn parse(flags: &SiteFlags, file: ConfigFile, environment: Environment<'_>) -> Result<Self, ConfigError> {
        let ConfigFile { local, peer, settings } = file;
        let settings = flags.settings.or(settings);
        let spool_dir = settings.spool_dir.clone();
        let settings = settings.parse()?;
        let mut peers: BTreeMap<InstanceId, EndpointFile> = BTreeMap::new();
        for (id, endpoint) in peer {
            peers.insert(instance_id(&id).ok_or(ConfigError::Peer(id))?, endpoint);
        }
        let mut seen = Vec::new();
        for text in &flags.peer {
            // Not all of the text: it may hold a password.
            let refused = || ConfigError::Peer(text.chars().take_while(|c| c.is_ascii_alphanumeric()).collect());
            let (id, url) = text.split_once('=').ok_or_else(refused)?;
            let id = instance_id(id).ok_or_else(refused)?;
            if seen.contains(&id) {
                return Err(ConfigError::PeerTwice(id));
            }
            seen.push(id);
            peers.insert(id, EndpointFile::from(url.to_owned()));
        }
        let local = flags.local.clone().map(EndpointFile::from).or(local).ok_or(ConfigError::NoLocal)?;
        if peers.is_empty() {
            return Err(ConfigError::NoPeers);
        }
        let peer = |(id, file): (InstanceId, EndpointFile)| {
            let variable = format!("SYNCER_PEER_{id}");
            Ok((id, parse_site(format!("peer {id}"), &variable, file, environment)?))
        };
        Ok(Self {
            local: parse_site("local".into(), "SYNCER_LOCAL", local, environment)?,
            peers: peers.into_iter().map(peer).collect::<Result<_, ConfigError>>()?,
            settings,
            spool_dir,
        })
    }
}

fn parse_site(
    whose: String,
    variable: &str,
    file: EndpointFile,
    environment: Environment<'_>,
) -> Result<Site, ConfigError> {
    file.parse_site(variable, environment).map_err(|source| ConfigError::Endpoint { whose, source })
}

fn instance_id(text: &str) -> Option<InstanceId> {
    text.trim().parse().ok().and_then(InstanceId::new)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        site: SiteFlags,
    }

    fn nothing(_: &str) -> Option<String> {
        None
    }

    fn load(args: &[&str], file: &str) -> Result<Config, ConfigError> {
        let mut config = tempfile::NamedTempFile::new().unwrap();
        config.write_all(file.as_bytes()).unwrap();
        let path = config.path().to_str().unwrap();
        let args = ["agent", "--config", path].into_iter().chain(args.iter().copied());
        Config::load(&Cli::parse_from(args).site, &nothing)
    }

    fn id(id: u8) -> InstanceId {
        InstanceId::new(id).unwrap()
    }

    #[test]
    fn flags_win_over_the_file_key_by_key() {
        let file = "local = \"redis://a:1\"\nqueue-bytes = 2000000\nretry-max-ms = 500\n\
                    [peer.2]\nurl = \"redis://b:2\"\n[peer.3]\nurl = \"redis://c:3\"\n";
        let config = load(&["--peer", "3=redis://d:4", "--queue-bytes", "3000000"], file).unwrap();
        assert_eq!(config.local.to_string(), "redis://a:1");
        assert_eq!(config.peers[&id(2)].to_string(), "redis://b:2");
        assert_eq!(config.peers[&id(3)].to_string(), "redis://d:4");
        assert_eq!(config.settings.queue_bytes, 3_000_000);
        assert_eq!(config.settings.retry_max, Duration::from_millis(500));
        assert_eq!(config.settings.relay_after, Settings::default().relay_after);
    }

    #[test]
    fn a_peer_may_be_a_plain_url_in_the_file() {
        let config = load(&[], "local = \"redis://a\"\n[peer]\n2 = \"redis://b:2\"\n").unwrap();
        assert_eq!(config.local.to_string(), "redis://a:6379");
        assert_eq!(config.peers[&id(2)].to_string(), "redis://b:2");
    }

    #[test]
    fn says_what_is_wrong() {
        let refusal = |args: &[&str], file: &str| load(args, file).unwrap_err().to_string();
        assert!(refusal(&[], "").starts_with("no local server"));
        assert!(refusal(&["--local", "redis://a"], "").starts_with("no peers"));
        assert!(refusal(&["--local", "redis://a", "--peer", "64=redis://b"], "").starts_with("`64` is not"));
        let twice = ["--local", "redis://a", "--peer", "2=redis://b", "--peer", "2=redis://c"];
        assert_eq!(refusal(&twice, ""), "peer 2 is given twice");
        let peer = |url| ["--local", "redis://a", "--peer", url];
        assert!(refusal(&peer("2=http://b"), "").starts_with("peer 2: "));
        assert!(refusal(&["--queue-bytes", "1"], "local='redis://a'").starts_with("`queue-bytes` is 1"));
        assert!(refusal(&[], "locale = 3").contains("locale"));
    }

    #[test]
    fn errors_never_quote_passwords() {
        for file in ["local = \"redis://u:hunter2@a:1", "local = { url = \"redis://a\", password = hunter2 }"] {
            assert!(!load(&[], file).unwrap_err().to_string().contains("hunter2"));
        }
        let url = ["--local", "redis://:hunter2@a:port", "--peer", "2=x:hunter2@b"];
        assert!(!load(&url, "").unwrap_err().to_string().contains("hunter2"));
        let url = ["--local", "redis://a", "--peer", "redis://:hunter2@b?x=3"];
        assert!(!load(&url, "").unwrap_err().to_string().contains("hunter2"));
    }
}
