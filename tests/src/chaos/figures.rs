//! What the servers count and log of themselves, over all their restarts.

use std::collections::BTreeSet;
use std::ops::Add;
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

/// What a server's log says, over all its processes: their figures begin anew, and replicas count the full syncs of their primary, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Logged {
    /// Full syncs between sites that it took in.
    pub full_syncs: u64,
    /// Full syncs that began since the backlog of the other site did not reach back.
    pub forced: u64,
    /// Children that wrote a snapshot for another site, and were killed.
    pub snapshots_killed: u64,
}

impl Logged {
    /// Of the log as it is.
    pub fn of(server: &Server) -> Self {
        server.log().lines().fold(Self::default(), |sum, line| sum + Self::line(line))
    }

    fn line(line: &str) -> Self {
        let sync = line.split_once("full sync from instance ").map(|(_, rest)| rest).unwrap_or_default();
        Self {
            full_syncs: u64::from(sync.contains(" is complete")),
            forced: u64::from(sync.contains(" begins, about ") && sync.contains("backlog begins at ")),
            // In stock servers with this module nothing else forks so.
            snapshots_killed: u64::from(line.contains("Module fork exited") && line.contains("bysignal: 9")),
        }
    }
}

impl Add for Logged {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            full_syncs: self.full_syncs + other.full_syncs,
            forced: self.forced + other.forced,
            snapshots_killed: self.snapshots_killed + other.snapshots_killed,
        }
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
        let info = r"# Server\x0d\x0aprocess_id:17\x0d\x0asyncer_panics:12\x0d\x0a";
        assert_eq!((field(info, "process_id"), field(info, "syncer_panics"), field(info, "none")), ("17", "12", ""));
    }

    #[test]
    fn a_log_tells_what_full_syncs_were_for() {
        let count = |line: &str| {
            let Logged { full_syncs, forced, snapshots_killed } = Logged::line(line);
            (full_syncs, forced, snapshots_killed)
        };
        let begins = "1:M * <syncer> syncer: full sync from instance 2 begins, about 40 keys: ";
        let forced = format!("{begins}backlog begins at 9, asked for 0a 5; raise backlog-size");
        assert_eq!(count(&forced), (0, 1, 0));
        assert_eq!(count(&forced.replace("begins, about", "goes on, about")), (0, 0, 0), "it was counted before");
        assert_eq!(count(&format!("{begins}SYNCER.RESYNC")), (0, 0, 0));
        assert_eq!(count("syncer: full sync from instance 2 is complete: 40 keys, 9 bytes in 0.1 s"), (1, 0, 0));
        assert_eq!(count("1:M * Module fork exited pid: 7, retcode: 0, bysignal: 9"), (0, 0, 1));
        assert_eq!(count("1:M * Module fork exited pid: 7, retcode: 0, bysignal: 0"), (0, 0, 0));
    }
}
