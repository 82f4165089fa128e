//! What a client can see of a server: every key of every database as text, and how two servers differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write as _;

use redis::Value;

use crate::client::Client;
use crate::reply;

/// Databases a server has by default.
const DATABASES: usize = 16;

/// Differing keys that a message shows, and characters of each.
const SHOWN_KEYS: usize = 20;
const SHOWN_CHARACTERS: usize = 300;

/// Every key, named `db/key`, with what it holds.
pub type Dataset = BTreeMap<String, Entry>;

/// What a key holds, independent of order and encoding. Shows as `string 5`, `hash f=1 g=2 @4000000000000`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its type, as TYPE says.
    pub kind: String,
    /// Its elements as text; empty for types that only digests compare.
    pub value: String,
    /// When it expires, in Unix milliseconds.
    pub expires_at_ms: Option<i64>,
}

impl fmt::Display for Entry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.kind, self.value)?;
        self.expires_at_ms.map_or(Ok(()), |at_ms| write!(out, " @{at_ms}"))
    }
}

/// Reads the whole dataset. For small datasets: it is held in memory as text.
pub fn read(client: &mut Client) -> Dataset {
    let mut dataset = Dataset::new();
    for db in 0..DATABASES {
        if client.text(&format!("SELECT {db}")) != "OK" {
            break;
        }
        for key in reply::items(&client.args(&["KEYS", "*"])) {
            let key = reply::bytes(key);
            let entry = entry(client, key);
            dataset.extend(entry.map(|entry| (format!("{db}/{}", reply::escape(key)), entry)));
        }
    }
    client.ok("SELECT 0");
    dataset
}

/// What a key of the selected database holds; `None` when it does not exist.
pub fn entry(client: &mut Client, key: &[u8]) -> Option<Entry> {
    let ask = |client: &mut Client, command: &[&str]| {
        let (name, rest) = command.split_first().expect("a command has a name");
        let mut args = vec![name.as_bytes(), key];
        args.extend(rest.iter().map(|arg| arg.as_bytes()));
        client.args(&args)
    };
    let kind = reply::text(&ask(client, &["TYPE"]));
    let value = match kind.as_str() {
        "none" => return None,
        "string" => reply::text(&ask(client, &["GET"])),
        "hash" => hash(&mut |command| ask(client, command)),
        "set" => sorted(reply::text_items(&ask(client, &["SMEMBERS"]))).join(" "),
        "zset" => pairs(&reply::text_items(&ask(client, &["ZRANGE", "0", "-1", "WITHSCORES"]))),
        "list" => reply::text_items(&ask(client, &["LRANGE", "0", "-1"])).join(" "),
        "stream" => {
            let full = client.args(&[&b"XINFO"[..], b"STREAM", key, b"FULL", b"COUNT", b"0"]);
            let entries = ask(client, &["XRANGE", "-", "+"]);
            format!("{} {}", reply::text(&entries), stream_state(&full, &entries))
        }
        "vectorset" => {
            // All of them, in random order.
            let elements = sorted(reply::text_items(&ask(client, &["VRANDMEMBER", "1000000"])));
            let vector = |element: &String| {
                let [raw, attributes] = ["VEMB", "VGETATTR"].map(|command| {
                    let raw: &[&str] = if command == "VEMB" { &["RAW"] } else { &[] };
                    reply::text(&ask(client, &[&[command, element.as_str()], raw].concat()))
                });
                format!("{element}={raw}{attributes}")
            };
            elements.iter().map(vector).collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    };
    let expires_at_ms = Some(reply::integer(&ask(client, &["PEXPIRETIME"]))).filter(|at_ms| *at_ms >= 0);
    Some(Entry { kind, value, expires_at_ms })
}

/// The keys that differ between two datasets.
pub fn differing<'a>(left: &'a Dataset, right: &'a Dataset) -> impl Iterator<Item = &'a String> {
    let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    keys.into_iter().filter(|key| left.get(*key) != right.get(*key))
}

/// What differs between two datasets, a few lines per key; empty when nothing does.
pub fn differences(left: &Dataset, right: &Dataset) -> String {
    let mut text = String::new();
    let differing: Vec<_> = differing(left, right).collect();
    for key in differing.iter().take(SHOWN_KEYS) {
        let show = |side: &Dataset| shortened(&side.get(*key).map_or("(absent)".to_owned(), Entry::to_string));
        writeln!(text, "  {key}\n    {}\n    {}", show(left), show(right)).expect("writing to a String cannot fail");
    }
    if let Some(more) = differing.len().checked_sub(SHOWN_KEYS).filter(|more| *more > 0) {
        writeln!(text, "  … and {more} more keys").expect("writing to a String cannot fail");
    }
    text
}

/// The digest of the whole dataset that the server itself takes; equal on all servers with equal data.
pub fn digest(client: &mut Client) -> String {
    client.text("DEBUG DIGEST")
}

/// Fields and values, and when a field expires: `f=1 g=2@4000000000000`.
fn hash(ask: &mut impl FnMut(&[&str]) -> Value) -> String {
    let pairs = reply::text_items(&ask(&["HGETALL"]));
    let fields = ask(&["HKEYS"]);
    let expiry = |field: &Value| {
        // An error where the server has no expiry of fields.
        let times = ask(&["HPEXPIRETIME", "FIELDS", "1", &String::from_utf8_lossy(reply::bytes(field))]);
        match reply::items(&times) {
            [Value::Int(at_ms)] if *at_ms >= 0 => format!("@{at_ms}"),
            _ => String::new(),
        }
    };
    let expiries: Vec<String> = reply::items(&fields).iter().map(expiry).collect();
    let with_expiry = |(pair, expiry): (&[String], &String)| format!("{}{expiry}", pair.join("="));
    sorted(pairs.chunks(2).zip(&expiries).map(with_expiry).collect()).join(" ")
}

/// What a stream is besides its entries: the last id, and groups with their positions and what of the entries is pending for whom. Not
/// what is each site's own (docs/SEMANTICS.md): counts, times, consumers with nothing pending, and what is late.
fn stream_state(full: &Value, entries: &Value) -> String {
    let ids: Vec<String> =
        reply::items(entries).iter().filter_map(|entry| reply::items(entry).first().map(reply::text)).collect();
    let mut text = format!("last={}", named(full, "last-generated-id"));
    for group in reply::items(&field(full, "groups")) {
        write!(text, " {}@{}", named(group, "name"), named(group, "last-delivered-id")).expect("writing to a String");
        // Id, consumer, time, count.
        let pending = field(group, "pending");
        let pending = reply::items(&pending).iter().filter_map(|entry| match reply::text_items(entry).as_slice() {
            [id, consumer, ..] if ids.contains(id) && consumer != "syncer:late" => Some(format!("{id}={consumer}")),
            _ => None,
        });
        write!(text, "[{}]", pending.collect::<Vec<_>>().join(" ")).expect("writing to a String");
    }
    text
}

/// The value of a name in a list of names and values.
fn field(pairs: &Value, name: &str) -> Value {
    let items = reply::items(pairs);
    let at = items.chunks(2).find(|pair| reply::text(&pair[0]) == name);
    at.and_then(|pair| pair.get(1)).cloned().unwrap_or(Value::Nil)
}

fn named(pairs: &Value, name: &str) -> String {
    reply::text(&field(pairs, name))
}

fn shortened(text: &str) -> String {
    text.chars().take(SHOWN_CHARACTERS).collect()
}

fn pairs(items: &[String]) -> String {
    sorted(items.chunks(2).map(|pair| pair.join("=")).collect()).join(" ")
}

fn sorted(mut items: Vec<String>) -> Vec<String> {
    items.sort();
    items
}
