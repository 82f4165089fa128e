//! What Syncer adds to the server's files and to its replication stream. These figures hold on a busy machine, too.

use super::contestant::{Contestant, Way};
use super::options::Options;
use super::table::{Table, figure};
use super::target::Target;
use super::{memory, paced};
use crate::client::Client;
use crate::server::{Server, ServerOptions};
use crate::wait;

/// Keys, and writes of each kind.
const KEYS: u64 = 100_000;

/// What a write is: its name and what appends the n-th one.
type Write = (&'static str, fn(&mut String, u64));

const WRITES: [Write; 6] = [
    ("SET, 16 bytes", |batch, n| paced::append(batch, &["SET", &key(n), super::workload::VALUE])),
    ("SET, 100 bytes", |batch, n| paced::append(batch, &["SET", &key(n), &format!("{n:x>100}")])),
    ("INCR", |batch, n| paced::append(batch, &["INCR", &key(n)])),
    ("HSET of 5 fields", |batch, n| {
        let elements = (0..5).flat_map(|n| [format!("field:{n}"), format!("value:{n}")]);
        let words: Vec<String> = ["HSET".to_owned(), key(n)].into_iter().chain(elements).collect();
        paced::append(batch, &words.iter().map(String::as_str).collect::<Vec<_>>());
    }),
    ("SADD", |batch, n| paced::append(batch, &["SADD", &key(n), "member"])),
    ("DEL of a key that is there", |batch, n| paced::append(batch, &["DEL", &key(n)])),
];

fn key(n: u64) -> String {
    format!("key:{n:012}")
}

/// Measures and prints; there is nothing to reach.
pub fn run(options: &Options) -> Vec<Target> {
    let keys = options.scaled(KEYS);
    per_write(options, keys);
    in_files(options, keys);
    Vec::new()
}

/// Bytes in the native replication stream and in the append-only file, for each write.
fn per_write(options: &Options, keys: u64) {
    let with_file = |server: ServerOptions| server.config("appendonly", "yes").config("appendfsync", "no");
    let servers = [ServerOptions::stock(), ServerOptions::instance(1)].map(|server| {
        let primary = Server::start(options.kind, with_file(server.clone()));
        let replica = primary.replica(server);
        (primary, replica)
    });
    let mut table =
        Table::new(&["bytes per write", "stock: replication", "Syncer", "more", "stock: AOF", "Syncer", "more"]);
    for (name, write) in WRITES {
        eprintln!("bench: bytes of a {name}");
        let [stock, syncer] = servers.each_ref().map(|(primary, _)| {
            let mut client = primary.client();
            // A DEL needs what it deletes.
            let prepare: fn(&mut String, u64) = if name.starts_with("DEL") { WRITES[0].1 } else { |_, _| {} };
            client.ok("FLUSHALL SYNC");
            if name.starts_with("DEL") {
                paced::each(primary.port(), 0..keys, prepare);
            }
            let before = written(&mut client);
            paced::each(primary.port(), 0..keys, write);
            let after = written(&mut client);
            [0, 1].map(|at| (after[at] - before[at]) as f64 / keys as f64)
        });
        let mut row = vec![name.to_owned()];
        row.extend([0, 1].into_iter().flat_map(|at| [stock[at], syncer[at], syncer[at] - stock[at]]).map(figure));
        table.row(row);
    }
    println!(
        "\n## Bytes on the way to replicas and in files\n\n{keys} writes of each kind, one a command, of a primary with a replica.\n\n{table}"
    );
}

/// The replication offset and the size of the append-only file.
fn written(client: &mut Client) -> [u64; 2] {
    ["master_repl_offset", "aof_current_size"].map(|name| memory::info(client, "INFO everything", name))
}

/// The state of the module in RDB files.
fn in_files(options: &Options, keys: u64) {
    let mut table = Table::new(&[
        "RDB file of so many keys, bytes",
        "stock",
        "Syncer",
        "state",
        "of that backlog",
        "rest of it per key",
    ]);
    for (name, write) in [WRITES[1], WRITES[3]] {
        eprintln!("bench: RDB files with {name}");
        let stock = Contestant::stock(options.kind);
        paced::each(stock.origin.port(), 0..keys, write);
        let stock = saved(&stock.origin);
        let sites = Contestant::sites(options.kind, Way::Proxy);
        paced::each(sites.origin.port(), 0..keys, write);
        sites.settle();
        let mut origin = sites.origin.client();
        wait::eventually("the metadata is pruned", || {
            let mut figure = |name| memory::info(&mut origin, "INFO syncer", name);
            figure("syncer_metadata_keys") == 0 && figure("syncer_waiting_groups") == 0
        });
        let mut row = |when: &str, stock: u64| {
            let (with, backlog) =
                (saved(&sites.origin), memory::info(&mut origin, "INFO syncer", "syncer_backlog_bytes"));
            origin.ok("CONFIG SET syncer.save-state 0");
            let state = with - saved(&sites.origin);
            origin.ok("CONFIG SET syncer.save-state 1");
            let rest = state.saturating_sub(backlog) as f64 / keys as f64;
            let figures = [stock, with, state, backlog].map(|bytes| figure(bytes as f64));
            table.row([format!("{name}, {when}")].into_iter().chain(figures).chain([figure(rest)]).collect());
        };
        row("at rest", stock);
        sites.cut();
        paced::each(sites.origin.port(), 0..keys, write);
        row("all written again in a cut", stock);
    }
    println!(
        "\n## The state in RDB files\n\n{keys} keys. The server compresses neither backlog nor metadata (rdbcompression no).\n\n{table}"
    );
}

/// The size of the file that a server saves, uncompressed.
fn saved(server: &Server) -> u64 {
    let mut client = server.client();
    client.ok("CONFIG SET rdbcompression no");
    client.ok("SAVE");
    std::fs::metadata(server.folder().join("dump.rdb")).expect("it has saved").len()
}
