//! Memory per key: at rest, and while a site is away.

use super::contestant::{Contestant, Way};
use super::options::Options;
use super::table::{Table, figure};
use super::target::{Bound, Target};
use super::{paced, workload};
use crate::client::Client;
use crate::wait;

/// Keys of each type.
const KEYS: u64 = 200_000;

/// Elements of each hash, set and sorted set.
const ELEMENTS: u64 = 5;

/// Queues keep room for what is usually in them.
const METADATA_BYTES_AT_REST: u64 = 256 << 10;

/// What is stored under each key: its name and what appends the write of its n-th key.
type Shape = (&'static str, fn(&mut String, u64));

const SHAPES: [Shape; 4] = [
    ("string, 16 bytes", |batch, key| paced::append(batch, &["SET", &format!("key:{key:012}"), workload::VALUE])),
    ("hash, 5 fields", |batch, key| {
        with_elements(batch, "HSET", key, |n| vec![format!("field:{n}"), format!("value:{n}")])
    }),
    ("set, 5 members", |batch, key| with_elements(batch, "SADD", key, |n| vec![format!("member:{n}")])),
    ("sorted set, 5 members", |batch, key| {
        with_elements(batch, "ZADD", key, |n| vec![n.to_string(), format!("member:{n}")]);
    }),
];

/// Measures and prints; returns what was to be reached.
pub fn run(options: &Options) -> Vec<Target> {
    let stock = Contestant::stock(options.kind);
    let keys = options.scaled(KEYS);
    let per_key = |bytes: u64| bytes as f64 / keys as f64;
    let mut at_rest =
        Table::new(&["bytes per key at rest", "stock", "origin", "target", "origin / stock", "target / stock"]);
    let mut in_cut = Table::new(&[
        "bytes per key written in a cut",
        "stock",
        "Syncer",
        "more",
        "of that metadata",
        "backlog beside",
    ]);
    let mut targets = Vec::new();
    for (name, command) in SHAPES {
        eprintln!("bench: memory of a {name}");
        let native = per_key(grown(&stock, keys, command).memory);

        let rest = rested(options, keys, command).map(|sizes| per_key(sizes.memory));
        let mut row = vec![name.to_owned(), figure(native)];
        row.extend(rest.map(figure));
        row.extend(rest.map(|bytes| figure(bytes / native)));
        at_rest.row(row);
        let most = rest[0].max(rest[1]) / native;
        let what = format!("memory at rest, {name}: Syncer without backlog / stock");
        targets.push(Target::new(what, Bound::AtMost(1.05), most));

        let sites = Contestant::sites(options.kind, Way::Proxy);
        sites.cut();
        let cut = grown(&sites, keys, command);
        let memory = per_key(cut.memory);
        let mut row = vec![name.to_owned()];
        row.extend([native, memory, memory - native, per_key(cut.metadata), per_key(cut.backlog)].map(figure));
        in_cut.row(row);
    }
    println!("\n## Memory\n\n{keys} keys, used_memory without the Active-Active backlog.\n\n{at_rest}\n{in_cut}");
    targets
}

/// What the keys take at two fresh sites when both know that both have them.
fn rested(options: &Options, keys: u64, command: fn(&mut String, u64)) -> [Sizes; 2] {
    let sites = Contestant::sites(options.kind, Way::Direct);
    let mut ends = [sites.origin.client(), sites.target().client()];
    let before = ends.each_mut().map(Sizes::of);
    paced::each(sites.origin.port(), 0..keys, command);
    sites.settle();
    for client in &mut ends {
        // Its memory is given back a moment after the last of it was pruned.
        wait::eventually("the metadata is pruned and its memory given back", || {
            let mut figure = |name: &str| info(&mut *client, "INFO syncer", name);
            figure("syncer_metadata_keys") == 0
                && figure("syncer_waiting_groups") == 0
                && figure("syncer_metadata_bytes") <= METADATA_BYTES_AT_REST
        });
    }
    let [origin, target] = ends.each_mut().map(Sizes::of);
    [origin.since(before[0]), target.since(before[1])]
}

fn with_elements(batch: &mut String, command: &str, key: u64, element: impl Fn(u64) -> Vec<String>) {
    let elements: Vec<String> = (0..ELEMENTS).flat_map(element).collect();
    let key = format!("key:{key:012}");
    let words: Vec<&str> = [command, &key].into_iter().chain(elements.iter().map(String::as_str)).collect();
    paced::append(batch, &words);
}

/// What the keys take at the origin just after they are written.
fn grown(contestant: &Contestant, keys: u64, command: fn(&mut String, u64)) -> Sizes {
    let mut client = contestant.origin.client();
    client.ok("FLUSHALL SYNC");
    let before = Sizes::of(&mut client);
    paced::each(contestant.origin.port(), 0..keys, command);
    Sizes::of(&mut client).since(before)
}

/// Bytes at one moment.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// `used_memory` without the Active-Active backlog.
    memory: u64,
    metadata: u64,
    backlog: u64,
}

impl Sizes {
    fn of(client: &mut Client) -> Self {
        let backlog = info(client, "INFO syncer", "syncer_backlog_bytes");
        Self {
            memory: info(client, "INFO memory", "used_memory") - backlog,
            metadata: info(client, "INFO syncer", "syncer_metadata_bytes"),
            backlog,
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            memory: self.memory.saturating_sub(before.memory),
            metadata: self.metadata.saturating_sub(before.metadata),
            backlog: self.backlog.saturating_sub(before.backlog),
        }
    }
}

/// A number of INFO; 0 when the server does not have it.
pub fn info(client: &mut Client, section: &str, name: &str) -> u64 {
    let text = client.text(section);
    let value = text.split("\\x0d\\x0a").find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}
