//! Instructions of the commands that read much at once, beside the stock command that gives, or looks at, as much.

use super::callgrind::Counted;
use super::options::Options;
use super::table::{Table, figure};
use super::target::Target;
use crate::client::Client;
use crate::reply;
use crate::server::ServerOptions;
use crate::stream::Source;

/// Bytes of one read, and of the string beside it.
const BYTES: usize = 64 << 10;
const READS: usize = 200;
/// Bytes of each value of the backlog, as effects mostly are small.
const VALUE_BYTES: usize = 100;
/// A group is the value, its key and some dozen bytes: so many fill a read for sure.
const WRITES: usize = READS * BYTES / VALUE_BYTES;
/// Keys that are digested.
const KEYS: usize = 50_000;

/// Measures and prints.
pub fn run(options: &Options) -> Vec<Target> {
    let start = |server| Counted::start(options.kind, server);
    let (stock, alone) = (start(ServerOptions::stock()), start(ServerOptions::instance(1)));
    let mut table = Table::new(&["command", "of", "instructions", "stock command", "instructions", "ratio"]);
    let mut row = |command: &str, of: &str, own: f64, stock_command: &str, stock: f64| {
        let cells = [command, of, &figure(own), stock_command, &figure(stock), &figure(own / stock)];
        table.row(cells.map(str::to_owned).into());
    };
    eprintln!("bench: instructions of SYNCER.READ");
    row("SYNCER.READ", "64 KiB", read(&alone, options), "GET", get(&stock));
    eprintln!("bench: instructions of SYNCER.DIGEST");
    let own = digest(&alone, "SYNCER.DIGEST");
    row("SYNCER.DIGEST", "a key", own, "DEBUG DIGEST", digest(&stock, "DEBUG DIGEST"));
    println!("\n## Instructions of reading commands\n\n{table}");
    Vec::new()
}

/// Of one read of the backlog, all threads together.
fn read(server: &Counted, options: &Options) -> f64 {
    let peer = crate::server::Server::start(options.kind, ServerOptions::instance(2));
    let mut source = Source::handshake(server.server.client(), 1, &mut peer.client());
    fill(&mut server.server.client(), WRITES);
    server.begin();
    let lengths: Vec<usize> = (0..READS).map(|_| source.read_up_to(BYTES).frames.len()).collect();
    let counted = server.count();
    let least = lengths.iter().min().copied().unwrap_or_default();
    assert!(least > BYTES * 9 / 10, "a read gave only {least} bytes");
    counted / READS as f64
}

/// Of one `GET` of as much.
fn get(server: &Counted) -> f64 {
    let mut client = server.server.client();
    client.args(&[&b"SET"[..], b"large", &vec![b'x'; BYTES]]);
    server.begin();
    (0..READS).for_each(|_| assert_eq!(reply::bytes(&client.ok("GET large")).len(), BYTES));
    server.count() / READS as f64
}

/// For each key. What servers and module do by the clock is in it, for so a digest is taken.
fn digest(server: &Counted, command: &str) -> f64 {
    let mut client = server.server.client();
    client.ok("FLUSHALL");
    fill(&mut client, KEYS);
    server.begin();
    client.ok(command);
    server.count_with_the_clock() / KEYS as f64
}

fn fill(client: &mut Client, keys: usize) {
    let value = "x".repeat(VALUE_BYTES);
    for from in (0..keys).step_by(1000) {
        let lines: Vec<String> =
            (from..keys.min(from + 1000)).map(|key| format!("SET key:{key:012} {value}")).collect();
        client.pipeline(&lines).iter().for_each(|answer| assert!(!reply::is_error(answer)));
    }
}
