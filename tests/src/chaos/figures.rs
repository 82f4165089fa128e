//! What the servers count of themselves, over all their restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use crate::client::Client;
use crate::reply;

/// Those that must be zero.
const WRONG: [&str; 3] = ["writes_lost", "panics", "payloads_refused"];

/// Of all processes that there were.
#[derive(Debug, Default)]
pub struct Figures {
    /// By the name of a process, how many full syncs came in; and what must not be.
    state: Mutex<(BTreeMap<String, u64>, BTreeSet<String>)>,
}

impl Figures {
    /// Looks at a server of this site, unless it does not answer. What a process counts after the last look before it is killed is not known.
    pub fn look(&self, client: &mut Client, site: u8) -> Option<()> {
        let process = reply::text(&client.try_cmd("INFO server").ok()?);
        let process = field(&process, "run_id").to_owned();
        let info = reply::text(&client.try_cmd("INFO syncer").ok()?);
        let figure = |name: &str| field(&info, &format!("syncer_{name}")).parse::<u64>().ok();
        let full_syncs = figure("sync_full_in")?;
        let wrong = WRONG.iter().filter_map(|name| Some((name, figure(name)?))).filter(|(_, count)| *count > 0);
        let wrong = wrong.map(|(name, count)| format!("site {site}, run_id {process}: {name} is {count}"));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1.extend(wrong);
        state.0.insert(process, full_syncs);
        Some(())
    }

    /// Full syncs between sites, as far as they were seen.
    pub fn full_syncs(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0.values().sum()
    }

    /// What must not be.
    pub fn wrong(&self) -> Vec<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1.iter().cloned().collect()
    }
}

/// The value of a line of `INFO`, as [`reply::text`] shows it.
fn field<'a>(info: &'a str, name: &str) -> &'a str {
    let rest = info.split_once(&format!("{name}:")).map(|(_, rest)| rest).unwrap_or_default();
    rest.split_once(|c: char| !c.is_ascii_alphanumeric()).map_or(rest, |(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found() {
        let info = r"# Server\x0d\x0arun_id:0a1b\x0d\x0asyncer_panics:12\x0d\x0a";
        assert_eq!((field(info, "run_id"), field(info, "syncer_panics"), field(info, "none")), ("0a1b", "12", ""));
    }
}
