//! Command-line flags of `run` and `check`.

use std::path::PathBuf;
use std::time::Duration;

use super::{ConfigError, Settings};

/// Which servers belong together.
#[derive(Debug, Default, Clone, clap::Args)]
pub struct SiteFlags {
    /// A TOML file with the same keys as the flags; flags win.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The primary beside this agent: `redis://[user:password@]host[:port]`, or `rediss://...?ca=FILE&cert=FILE&key=FILE`;
    /// several hosts joined by commas, one of which is the primary; or `redis+sentinel://host,host/name`.
    /// A password is better kept in ?password-file=FILE or `SYNCER_LOCAL_PASSWORD`.
    #[arg(long, value_name = "URL")]
    pub local: Option<String>,
    /// Another instance and the URL of its proxy, as in 2=redis://proxy.example:7000. Once per peer. A password also from
    /// `SYNCER_PEER_2_PASSWORD`.
    #[arg(long, value_name = "ID=URL")]
    pub peer: Vec<String>,
    /// Times and sizes.
    #[command(flatten)]
    pub settings: SettingFlags,
}

/// Which server is local: for commands that need no peers.
#[derive(Debug, Default, Clone, clap::Args)]
pub struct LocalFlags {
    /// The same file as for `run`; flags win.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The primary beside the agent, as for `run`.
    #[arg(long, value_name = "URL")]
    pub local: Option<String>,
}

/// Times and sizes as written: all optional.
#[derive(Debug, Default, Clone, clap::Args, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SettingFlags {
    /// Most bytes of effects held in memory per peer [default: 16777216].
    #[arg(long)]
    pub queue_bytes: Option<u64>,
    /// Most time a connection attempt may take [default: 5000].
    #[arg(long)]
    pub connect_timeout_ms: Option<u64>,
    /// Longest pause between attempts to reach a peer [default: 10000].
    #[arg(long)]
    pub retry_max_ms: Option<u64>,
    /// How often clocks are reported to peers [default: 25].
    #[arg(long)]
    pub report_every_ms: Option<u64>,
    /// For how long effects of an instance may be missing before another peer is asked for them [default: 3000].
    #[arg(long)]
    pub relay_after_ms: Option<u64>,
    /// How often all sites are compared in the background, in seconds; 0: never [default: 0].
    #[arg(long)]
    pub verify_every_s: Option<u64>,
    /// How long one SYNCER.APPLY should hold the local server's main thread, in microseconds [default: 200].
    #[arg(long)]
    pub apply_slice_us: Option<u64>,
    /// Where a full sync keeps its snapshot until it is merged: room for a peer's data [default: $STATE_DIRECTORY, else
    /// /var/tmp/syncer-agent-UID].
    #[arg(long, value_name = "FOLDER")]
    pub spool_dir: Option<PathBuf>,
}

impl SettingFlags {
    /// These, and `other` where these say nothing.
    #[must_use]
    pub fn or(&self, other: Self) -> Self {
        let Self {
            queue_bytes,
            connect_timeout_ms,
            retry_max_ms,
            report_every_ms,
            relay_after_ms,
            verify_every_s,
            apply_slice_us,
            spool_dir,
        } = other;
        Self {
            queue_bytes: self.queue_bytes.or(queue_bytes),
            connect_timeout_ms: self.connect_timeout_ms.or(connect_timeout_ms),
            retry_max_ms: self.retry_max_ms.or(retry_max_ms),
            report_every_ms: self.report_every_ms.or(report_every_ms),
            relay_after_ms: self.relay_after_ms.or(relay_after_ms),
            verify_every_s: self.verify_every_s.or(verify_every_s),
            apply_slice_us: self.apply_slice_us.or(apply_slice_us),
            spool_dir: self.spool_dir.clone().or(spool_dir),
        }
    }

    /// Defaults for what is open; ranges checked.
    pub(super) fn parse(self) -> Result<Settings, ConfigError> {
        let default = Settings::default();
        let Self {
            queue_bytes,
            connect_timeout_ms,
            retry_max_ms,
            report_every_ms,
            relay_after_ms,
            verify_every_s,
            apply_slice_us,
            spool_dir: _,
        } = self;
        let ms = |key, value: Option<u64>, default: Duration, min, max| match value {
            Some(value) => within(key, value, min, max).map(Duration::from_millis),
            None => Ok(default),
        };
        Ok(Settings {
            queue_bytes: match queue_bytes {
                Some(bytes) => within("queue-bytes", bytes, 1 << 20, 4 << 30)? as usize,
                None => default.queue_bytes,
            },
            connect_timeout: ms("connect-timeout-ms", connect_timeout_ms, default.connect_timeout, 100, 60_000)?,
            retry_max: ms("retry-max-ms", retry_max_ms, default.retry_max, 100, 3_600_000)?,
            report_every: ms("report-every-ms", report_every_ms, default.report_every, 10, 10_000)?,
            relay_after: ms("relay-after-ms", relay_after_ms, default.relay_after, 200, 3_600_000)?,
            verify_every: match verify_every_s {
                Some(0) | None => None,
                Some(seconds) => Some(Duration::from_secs(within("verify-every-s", seconds, 1, 31_536_000)?)),
            },
            apply_slice: match apply_slice_us {
                Some(us) => Duration::from_micros(within("apply-slice-us", us, 50, 100_000)?),
                None => default.apply_slice,
            },
        })
    }
}

fn within(key: &'static str, value: u64, min: u64, max: u64) -> Result<u64, ConfigError> {
    if (min..=max).contains(&value) { Ok(value) } else { Err(ConfigError::Range { key, value, min, max }) }
}
