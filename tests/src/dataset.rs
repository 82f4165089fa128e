//! What a client can see of a server: every key of every database as text, and how two servers differ.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::client::Client;
use crate::reply;

/// Databases a server has by default.
const DATABASES: usize = 16;

/// Differing keys that a message shows.
const SHOWN: usize = 20;

/// Every key, named `db/key`, with its type, value and expiry as text, independent of order and encoding.
pub type Dataset = BTreeMap<String, String>;

/// Reads the whole dataset. For small datasets: it is held in memory as text.
pub fn read(client: &mut Client) -> Dataset {
    let mut dataset = Dataset::new();
    for db in 0..DATABASES {
        if client.text(&format!("SELECT {db}")) != "OK" {
            break;
        }
        for key in reply::items(&client.args(&["KEYS", "*"])) {
            let key = reply::bytes(key);
            dataset.insert(format!("{db}/{}", reply::escape(key)), value(client, key));
        }
    }
    client.ok("SELECT 0");
    dataset
}

/// What differs between two datasets, a line per key; empty when nothing does.
pub fn differences(left: &Dataset, right: &Dataset) -> String {
    let mut text = String::new();
    let keys: std::collections::BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let differing: Vec<_> = keys.into_iter().filter(|key| left.get(*key) != right.get(*key)).collect();
    for key in differing.iter().take(SHOWN) {
        let show =
            |side: &Dataset| side.get(*key).map_or("(absent)", String::as_str).chars().take(300).collect::<String>();
        writeln!(text, "  {key}\n    {}\n    {}", show(left), show(right)).expect("writing to a String cannot fail");
    }
    if differing.len() > SHOWN {
        writeln!(text, "  … and {} more keys", differing.len() - SHOWN).expect("writing to a String cannot fail");
    }
    text
}

/// The digest of the whole dataset that the server itself takes; equal on all servers with equal data.
pub fn digest(client: &mut Client) -> String {
    client.text("DEBUG DIGEST")
}

fn value(client: &mut Client, key: &[u8]) -> String {
    let mut ask = |command: &[&str]| {
        let (name, rest) = command.split_first().expect("a command has a name");
        let mut args = vec![name.as_bytes(), key];
        args.extend(rest.iter().map(|arg| arg.as_bytes()));
        client.args(&args)
    };
    let kind = reply::text(&ask(&["TYPE"]));
    let expiry = reply::text(&ask(&["PEXPIRETIME"]));
    let value = match kind.as_str() {
        "string" => reply::text(&ask(&["GET"])),
        "hash" => pairs(&reply::text_items(&ask(&["HGETALL"]))),
        "set" => sorted(reply::text_items(&ask(&["SMEMBERS"]))).join(" "),
        "zset" => pairs(&reply::text_items(&ask(&["ZRANGE", "0", "-1", "WITHSCORES"]))),
        "list" => reply::text_items(&ask(&["LRANGE", "0", "-1"])).join(" "),
        "stream" => reply::text(&ask(&["XRANGE", "-", "+"])),
        _ => "(compared by digest only)".to_owned(),
    };
    format!("{kind} {value} (expires at {expiry})")
}

fn pairs(items: &[String]) -> String {
    sorted(items.chunks(2).map(|pair| pair.join("=")).collect()).join(" ")
}

fn sorted(mut items: Vec<String>) -> Vec<String> {
    items.sort();
    items
}
