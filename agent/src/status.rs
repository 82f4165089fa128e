//! `syncer-agent status`: what the local server knows, as a table for people or JSON for programs.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::config::{Endpoint, Site};
use crate::connection::{Connection, ConnectionError, within};
use crate::finder::{Finder, NotFound};
use crate::protocol::Refusal;
use crate::resp::Reply;

/// The answers of `SYNCER.STATUS` and `SYNCER.PEERS`, whatever fields they have.
#[derive(Debug, Clone)]
pub struct Status {
    local: Value,
    peers: Vec<Value>,
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// None of its servers is the primary.
    #[error("local server: {0}")]
    NotFound(#[from] NotFound),
    /// The server cannot be reached.
    #[error("local server: {0}")]
    Connection(#[from] ConnectionError),
    /// It answered something else.
    #[error("local server: {0}")]
    Refused(#[from] Refusal),
}

impl Status {
    /// Asks the local server.
    ///
    /// # Errors
    /// When it is unreachable, or the module isn't there.
    pub async fn ask(local: &Site, timeout: Duration) -> Result<Self, StatusError> {
        Self::ask_at(&Finder::new(local.clone(), timeout).find().await?, timeout).await
    }

    /// Asks this server.
    ///
    /// # Errors
    /// As [`Status::ask`].
    pub async fn ask_at(local: &Endpoint, timeout: Duration) -> Result<Self, StatusError> {
        let mut connection = Connection::open(local, timeout).await?;
        let status = ask(&mut connection, local, timeout, b"SYNCER.STATUS").await?;
        let peers = ask(&mut connection, local, timeout, b"SYNCER.PEERS").await?;
        Ok(Self { local: value(&status), peers: peers.elements().iter().map(value).collect() })
    }

    /// What `SYNCER.STATUS` said.
    #[must_use]
    pub fn local(&self) -> &Value {
        &self.local
    }

    /// What `SYNCER.PEERS` said.
    #[must_use]
    pub fn peers(&self) -> &[Value] {
        &self.peers
    }

    /// `{"local": {...}, "peers": [{...}, ...]}` with the fields as the module names them.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::json!({ "local": self.local, "peers": self.peers })
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        let local = |key| cell(&self.local, key);
        let _ = writeln!(text, "instance {}  {}  replication ID {}", local("instance"), local("role"), local("replid"));
        let (first, end) = (local("backlog_first_offset"), local("backlog_end_offset"));
        let _ = writeln!(text, "backlog  {first} to {end}, of {} bytes at most", local("backlog_size"));
        let _ = writeln!(text, "members  {}, stability held back by {}\n", local("members"), local("held_back_by"));
        if self.local.get("writes").is_some_and(|writes| writes != "taken") {
            let _ = writeln!(text, "writes   refused: {}\n", local("writes"));
        }
        text.push_str(&full_sync(&self.local));
        if self.peers.is_empty() {
            text.push_str("no peers yet: is `syncer-agent run` running beside this server?\n");
            return text;
        }
        text.push_str(&peer_table(&self.peers));
        text
    }
}

async fn ask(
    connection: &mut Connection,
    local: &Endpoint,
    timeout: Duration,
    command: &[u8],
) -> Result<Reply, StatusError> {
    match within(timeout, local, connection.call(&[command])).await? {
        Reply::Error(text) => Err(Refusal::from_error(&text).into()),
        reply => Ok(reply),
    }
}

/// RESP2 has no maps: an array of names and values is taken for one.
pub fn value(reply: &Reply) -> Value {
    match reply {
        Reply::Integer(number) => (*number).into(),
        Reply::Status(text) | Reply::Bulk(text) => String::from_utf8_lossy(text).into_owned().into(),
        Reply::Error(text) => text.clone().into(),
        Reply::Nil => Value::Null,
        Reply::Array(elements) => match fields(elements) {
            Some(fields) => Value::Object(fields),
            None => elements.iter().map(value).collect(),
        },
    }
}

fn fields(elements: &[Reply]) -> Option<Map<String, Value>> {
    let (pairs, rest) = elements.as_chunks::<2>();
    let field = |[name, content]: &[Reply; 2]| Some((field_name(name)?.to_owned(), value(content)));
    (rest.is_empty() && !pairs.is_empty()).then(|| pairs.iter().map(field).collect())?
}

/// Names are short and of letters, so that a list of replication IDs is not taken for a map.
fn field_name(reply: &Reply) -> Option<&str> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    let starts_well = |name: &&str| name.starts_with(|c: char| c.is_ascii_lowercase());
    reply.text().filter(|name| name.len() < 40 && name.chars().all(letters)).filter(starts_well)
}

/// A field as text; `-` when there is none.
fn cell(of: &Value, key: &str) -> String {
    match of.get(key) {
        None | Some(Value::Null) => "-".into(),
        Some(Value::String(text)) if text.is_empty() => "-".into(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(list)) if list.is_empty() => "nobody".into(),
        Some(Value::Array(list)) => list.iter().map(Value::to_string).collect::<Vec<_>>().join(" "),
        Some(other) => other.to_string(),
    }
}

/// The full sync that comes in, if one does.
fn full_sync(local: &Value) -> String {
    let Some(sync) = local.get("full_sync").filter(|sync| sync.is_object()) else { return String::new() };
    let [source, phase, keys, total, percent, bytes, rate, left] =
        ["source", "phase", "keys", "keys_total", "percent", "bytes", "keys_per_second", "seconds_left"]
            .map(|key| cell(sync, key));
    format!(
        "full sync  from instance {source}: {phase}, {keys} of {total} keys ({percent} %), {bytes} bytes, {rate} keys/s, {left} s left\n\n"
    )
}

/// Heading and field of each column.
const COLUMNS: [(&str, &str); 7] = [
    ("PEER", "instance"),
    ("STATE", "state"),
    ("LAG ms", "lag_ms"),
    ("LAG bytes", "lag_bytes"),
    ("OFFSET", "applied_offset"),
    ("HEADROOM s", "headroom_seconds"),
    ("CAUSE", "last_error"),
];

fn peer_table(peers: &[Value]) -> String {
    let mut rows = vec![COLUMNS.map(|(heading, _)| heading.to_owned())];
    rows.extend(peers.iter().map(|peer| COLUMNS.map(|(_, field)| cell(peer, field))));
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..COLUMNS.len()).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Reply {
        Reply::Bulk(bytes::Bytes::copy_from_slice(text.as_bytes()))
    }

    fn status() -> Status {
        let replids = Reply::Array(vec![bulk(&"ab".repeat(20)), bulk(&"cd".repeat(20))]);
        let local = Reply::Array(vec![
            bulk("instance"),
            Reply::Integer(1),
            bulk("writes"),
            bulk("SYNCERJOINING this instance is joining"),
            bulk("past_replids"),
            replids,
            bulk("members"),
            Reply::Array(vec![Reply::Integer(1), Reply::Integer(2)]),
        ]);
        let peer = Reply::Array(vec![
            bulk("instance"),
            Reply::Integer(2),
            bulk("state"),
            bulk("down"),
            bulk("lag_ms"),
            Reply::Nil,
            bulk("last_error"),
            bulk("connection refused"),
        ]);
        Status { local: value(&local), peers: vec![value(&peer)] }
    }

    #[test]
    fn tells_maps_from_lists() {
        let json = status().json();
        assert_eq!(json["local"]["past_replids"].as_array().map(Vec::len), Some(2));
        assert_eq!(json["peers"][0]["state"], "down");
        assert_eq!(json["peers"][0]["lag_ms"], Value::Null);
    }

    #[test]
    fn aligns_the_table() {
        let table = status().table();
        assert!(table.contains("writes   refused: SYNCERJOINING this instance is joining\n"), "{table}");
        assert!(table.contains("members  1 2, stability held back by -"), "{table}");
        assert!(table.contains("PEER  STATE  LAG ms  LAG bytes  OFFSET  HEADROOM s  CAUSE\n2     down   -       -          -       -           connection refused\n"), "{table}");
    }
}
