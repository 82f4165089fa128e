//! What a server tells of itself in `INFO syncer`.

use crate::client::Client;

/// A figure of `INFO syncer`, without the prefix that all have.
///
/// # Panics
/// When there is no such figure, or it is no number.
pub fn figure(client: &mut Client, name: &str) -> u64 {
    let info = client.text("INFO syncer");
    let found = info.split(&format!("syncer_{name}:")).nth(1).unwrap_or_else(|| panic!("no {name}: {info}"));
    let digits = found.split("\\x0d").next().unwrap_or_default();
    digits.parse().unwrap_or_else(|_| panic!("{name} is {digits}"))
}

/// Where the log of a target says that the backlog of instance 1 begins, why it needs a full sync, and what was asked for: nothing by who has never read there.
///
/// # Panics
/// When it gives no reason with offsets.
pub fn announced(log: &str) -> (u64, Option<u64>) {
    let reason = || {
        let line = log.lines().find(|line| line.contains("full sync from instance 1 begins"))?;
        let (_, reason) = line.split_once("backlog begins at ")?;
        let (begins, asked) = reason.strip_suffix("; raise backlog-size")?.split_once(", asked for ")?;
        // The replication ID stands before it.
        let asked = if asked == "?" { None } else { Some(asked.split_once(' ')?.1.parse().ok()?) };
        Some((begins.parse().ok()?, asked))
    };
    reason().unwrap_or_else(|| panic!("no reason with offsets: {log}"))
}
