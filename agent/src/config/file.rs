//! The configuration file.

use std::collections::BTreeMap;
use std::path::Path;

use super::{ConfigError, EndpointFile, SettingFlags};

/// `site.toml`: the keys are the flags' names.
#[derive(Debug, Default)]
pub struct ConfigFile {
    /// `local = "redis://..."` or `[local]`.
    pub local: Option<EndpointFile>,
    /// `[peer.2]`, or `[peer]` with `2 = "redis://..."`.
    pub peer: BTreeMap<String, EndpointFile>,
    /// Times and sizes: all the other keys at the top level.
    pub settings: SettingFlags,
}

impl ConfigFile {
    /// Reads and parses `path`.
    ///
    /// # Errors
    /// When it cannot be read, is no TOML, or has unknown keys.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read(path.to_owned(), error))?;
        Self::parse(&text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let place = line.map(|line| format!(":{line}")).unwrap_or_default();
            ConfigError::File { path: path.to_owned(), place, message: error.message().to_owned() }
        })
    }

    fn parse(text: &str) -> Result<Self, toml::de::Error> {
        let mut table: toml::Table = toml::from_str(text)?;
        let local = table.remove("local").map(toml::Value::try_into).transpose()?;
        let peer = table.remove("peer").map(toml::Value::try_into).transpose()?.unwrap_or_default();
        Ok(Self { local, peer, settings: table.try_into()? })
    }
}
