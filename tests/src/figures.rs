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
