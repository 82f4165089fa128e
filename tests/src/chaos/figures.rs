//! What the servers count and log of themselves, over all their restarts.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::client::Client;
use crate::reply;
use crate::server::Server;

/// Those that must be zero.
const WRONG: [&str; 3] = ["writes_lost", "panics", "payloads_refused"];

/// What was found in processes that may be gone.
#[derive(Debug, Default)]
pub struct Figures {
    wrong: Mutex<BTreeSet<String>>,
}

impl Figures {
    /// Looks at a server of this site, unless it does not answer. What a process counts after the last look before it is killed is not known.
    pub fn look(&self, client: &mut Client, site: u8) -> Option<()> {
        let process = reply::text(&client.try_cmd("INFO server").ok()?);
        let info = reply::text(&client.try_cmd("INFO syncer").ok()?);
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        for name in WRONG {
            let count: u64 = field(&info, &format!("syncer_{name}")).parse().ok()?;
            if count > 0 {
                wrong.insert(format!("site {site}, process {}: {name} is {count}", field(&process, "process_id")));
            }
        }
        Some(())
    }

    /// What must not be.
    pub fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// Full syncs between sites that a server took in, by its log: figures begin anew with each process, and replicas count those of their primary, too.
pub fn full_syncs(server: &Server) -> u64 {
    let log = server.log();
    log.lines().filter(|line| line.contains("full sync from instance") && line.contains("is complete")).count() as u64
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
        let info = r"# Server\x0d\x0aprocess_id:17\x0d\x0asyncer_panics:12\x0d\x0a";
        assert_eq!((field(info, "process_id"), field(info, "syncer_panics"), field(info, "none")), ("17", "12", ""));
    }
}
