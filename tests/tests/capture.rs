//! Every write command converges (DESIGN 3), however it is called, and is as on a stock server for who calls it.

use redis::Value;

use syncer_tests::client::{Client, words};
use syncer_tests::dataset::{self, Dataset};
use syncer_tests::prefix::on_own_keys;
use syncer_tests::server::{Server, ServerKind, ServerOptions};
use syncer_tests::{on_all_kinds, reply};

const TABLE: &str = include_str!("capture.txt");

/// The keys that rows use.
const KEYS: [&str; 7] = ["k", "k2", "k3", "nok", "nokey", "nokey1", "nokey2"];

/// One row of the table.
struct Row {
    number: usize,
    before: Vec<&'static str>,
    command: &'static str,
}

impl Row {
    /// Commands whose outcome chance or the clock decides: compared between sites, not with a stock server.
    fn is_random(&self) -> bool {
        self.command.contains("SPOP") || self.command.starts_with("XADD k *")
    }
}

/// The rows for commands that all of these servers have.
fn rows(kinds: &[ServerKind]) -> Vec<Row> {
    let row = |(number, line): (usize, &'static str)| {
        let (servers, example) = line.split_once(": ").expect("a row names its servers");
        let has = |kind: &ServerKind| servers == "all" || servers.split('+').any(|name| name == kind.folder());
        let (before, command) = example.split_once(" | ").unwrap_or(("", example));
        let before = before.split(" ; ").filter(|command| !command.is_empty()).collect();
        kinds.iter().all(has).then_some(Row { number, before, command })
    };
    let rows: Vec<Row> = (1..).zip(TABLE.lines()).filter(|(_, line)| !line.starts_with('#')).filter_map(row).collect();
    assert!(rows.len() > 200, "{} rows for {kinds:?}", rows.len());
    rows
}

/// How a command gets to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    Transaction,
    Script,
    /// At the second site, on what the first has written.
    Elsewhere,
}

impl Way {
    const ALL: [Self; 4] = [Self::Plain, Self::Transaction, Self::Script, Self::Elsewhere];

    fn prefix(self, row: &Row) -> String {
        format!("{}:{self:?}:", row.number)
    }
}

fn run(client: &mut Client, way: Way, line: &str) -> Value {
    let args = arguments(client, line);
    match way {
        Way::Plain | Way::Elsewhere => client.args(&args),
        Way::Transaction => {
            client.ok("MULTI");
            client.args(&args);
            client.cmd("EXEC")
        }
        Way::Script => {
            let script = [&b"EVAL"[..], b"return redis.call(unpack(ARGV))", b"0"];
            client.args(&script.into_iter().chain(args.iter().map(Vec::as_slice)).collect::<Vec<_>>())
        }
    }
}

/// The words of a line, `@DUMP:key` replaced by what DUMP answers now.
fn arguments(client: &mut Client, line: &str) -> Vec<Vec<u8>> {
    let dumped = |word: Vec<u8>| match word.strip_prefix(b"@DUMP:") {
        Some(key) => reply::bytes(&client.args(&[b"DUMP", key])).to_vec(),
        None => word,
    };
    words(line).into_iter().map(dumped).collect()
}

/// Runs what precedes the command of each row, in every way's keys.
fn prepare(client: &mut Client, rows: &[Row]) {
    for row in rows {
        for way in Way::ALL {
            for line in &row.before {
                let answer = run(client, Way::Plain, &on_own_keys(line, &way.prefix(row), &KEYS));
                assert!(!reply::is_error(&answer), "capture.txt:{}: {line}: {}", row.number, reply::text(&answer));
            }
        }
    }
}

/// Runs the command of each row in every way and returns the replies as text. `client` and `elsewhere` may be the same
/// server.
fn run_all(client: &mut Client, elsewhere: &mut Client, rows: &[Row]) -> Vec<String> {
    let mut replies = Vec::new();
    for row in rows {
        for way in Way::ALL {
            let client = if way == Way::Elsewhere { &mut *elsewhere } else { &mut *client };
            let line = on_own_keys(row.command, &way.prefix(row), &KEYS);
            let answer = reply::text(&run(client, way, &line));
            let shown = if row.is_random() { "(chance)" } else { answer.as_str() };
            replies.push(format!("capture.txt:{}: {:?} {} -> {shown}", row.number, way, row.command));
        }
    }
    replies
}

/// The dataset without what chance and the moment decide.
fn comparable(client: &mut Client, rows: &[Row]) -> Dataset {
    let random = |key: &str| {
        let number = key.split(['/', ':']).nth(1).and_then(|number| number.parse().ok());
        rows.iter().any(|row| Some(row.number) == number && row.is_random())
    };
    let mut dataset = dataset::read(client);
    dataset.retain(|key, _| !random(key));
    for entry in dataset.values_mut() {
        entry.expires_at_ms = entry.expires_at_ms.map(|_| 0);
        entry.value = entry.value.split(' ').map(without_field_expiry).collect::<Vec<_>>().join(" ");
    }
    dataset
}

/// `f=v@4000000000000` of a hash without the digits.
fn without_field_expiry(pair: &str) -> String {
    let at = pair
        .rsplit_once('@')
        .filter(|(_, digits)| digits.len() == 13 && digits.bytes().all(|digit| digit.is_ascii_digit()));
    at.map_or_else(|| pair.to_owned(), |(pair, _)| format!("{pair}@"))
}

fn encodings(client: &mut Client, dataset: &Dataset) -> Vec<String> {
    let written_here = dataset.keys().filter(|key| !key.contains("Elsewhere"));
    let keys = written_here.filter_map(|key| key.strip_prefix("0/"));
    keys.map(|key| format!("{key} {}", client.text(&format!("OBJECT ENCODING \"{key}\"")))).collect()
}

fn assert_same(ours: &[String], stock: &[String], what: &str) {
    let pairs = ours.iter().zip(stock).filter(|(ours, stock)| ours != stock);
    let complaints: Vec<String> = pairs.map(|(ours, stock)| format!("  {ours}\n  {stock} (stock)")).collect();
    assert!(
        complaints.is_empty(),
        "{} {what} differ from the stock server:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
    assert_eq!(ours.len(), stock.len());
}

on_all_kinds! {
    fn every_write_converges_and_looks_stock(cluster: 2) {
        let kinds: Vec<ServerKind> = cluster.sites().iter().map(|site| site.server.kind()).collect();
        let rows = rows(&kinds);
        let (mut first, mut second) = (cluster.client(1), cluster.client(2));
        prepare(&mut first, &rows);
        cluster.converged();
        let replies = run_all(&mut first, &mut second, &rows);
        cluster.converged();
        // Also what DEBUG DIGEST of some servers does not look at: when fields of hashes expire.
        assert_eq!(dataset::differences(&dataset::read(&mut first), &dataset::read(&mut second)), "", "the sites differ");

        let stock = Server::start(kinds[0], ServerOptions::stock());
        let (mut stock, mut elsewhere) = (stock.client(), stock.client());
        prepare(&mut stock, &rows);
        let stock_replies = run_all(&mut stock, &mut elsewhere, &rows);
        let (dataset, stock_dataset) = (comparable(&mut first, &rows), comparable(&mut stock, &rows));
        assert_eq!(dataset::differences(&dataset, &stock_dataset), "", "the site and the stock server differ");
        if kinds[0] == kinds[1] {
            assert_same(&replies, &stock_replies, "replies");
            assert_same(&encodings(&mut first, &dataset), &encodings(&mut stock, &dataset), "encodings");
        }
    }
}
