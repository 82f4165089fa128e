//! Every write command converges (DESIGN 3), however it is called, between every pair of kinds that know it, and is as
//! on a stock server for who calls it. That no command is missing is shown by `coverage.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::Value;

use syncer_tests::client::Client;
use syncer_tests::cluster::{Cluster, ClusterOptions};
use syncer_tests::dataset::{self, Dataset};
use syncer_tests::examples::{Example, Way, migration_target};
use syncer_tests::reply;
use syncer_tests::server::{Server, ServerKind, ServerOptions};

/// How long what is written may take to serve a client that is blocked for it, at another site also.
const SERVED_WITHIN: Duration = Duration::from_secs(10);

/// Databases in which examples that share a dataset have keys.
const DATABASES: [u32; 2] = [0, 1];

/// Where examples run: at a site and another one, or twice at one stock server.
struct Stage {
    /// `here` and `elsewhere`.
    clients: [Client; 2],
    /// The same in RESP3.
    typed: [Client; 2],
    /// Where MIGRATE goes to, from here and from elsewhere.
    ports: [u16; 2],
}

impl Stage {
    fn new(here: &Server, elsewhere: &Server, ports: [u16; 2]) -> Self {
        let clients = [here, elsewhere].map(Server::client);
        let typed = [here, elsewhere].map(|server| server.client().resp3());
        Self { clients, typed, ports }
    }

    fn here(&mut self) -> &mut Client {
        &mut self.clients[0]
    }

    fn client(&mut self, way: Way, typed: bool) -> &mut Client {
        let clients = if typed { &mut self.typed } else { &mut self.clients };
        &mut clients[usize::from(way == Way::Elsewhere)]
    }

    fn port(&self, way: Way) -> u16 {
        self.ports[usize::from(way == Way::Elsewhere)]
    }

    /// Runs what precedes the command of an example.
    fn prepare(&mut self, example: &Example, way: Way) {
        let [port, _] = self.ports;
        for line in &example.before {
            let answer = Way::Plain.run(self.here(), &example.on_own_keys(line, way), port);
            assert!(!reply::is_error(&answer), "capture.txt:{}: {line}: {}", example.line, reply::text(&answer));
        }
    }

    /// Runs the command of an example and returns its reply, and that of what serves it, as text.
    fn run(&mut self, example: &Example, way: Way, waiter: impl FnOnce() -> Client) -> String {
        let line = example.on_own_keys(example.command, way);
        let port = self.port(way);
        // By itself, here or elsewhere, each example runs in both protocols, and half of them each in a transaction and a script.
        let typed = example.line.is_multiple_of(2) == matches!(way, Way::Elsewhere | Way::Transaction);
        let show = |answer: &Value| match (typed, example.is_random()) {
            (false, false) => reply::text(answer),
            (true, false) => format!("{answer:?}"),
            (_, true) => format!("{answer:?}").split(['(', '"']).next().unwrap_or_default().to_owned() + " by chance",
        };
        let answer = match example.server {
            None => show(&way.run(self.client(way, typed), &line, port)),
            Some(server) => {
                let mut waiter = waiter();
                waiter.block(&line, self.here());
                let served = way.run(self.client(way, typed), &example.on_own_keys(server, way), port);
                waiter.patience(SERVED_WITHIN);
                let answer =
                    waiter.receive().map_or_else(|error| format!("not served: {error}"), |answer| reply::text(&answer));
                format!("{answer} << {}", show(&served))
            }
        };
        format!("capture.txt:{}: {way:?} {} -> {answer}", example.line, example.command)
    }
}

/// Runs all examples that need not be alone in every way; `meet` is called when what precedes them is there, `then` after each.
fn run_together(
    stage: &mut Stage,
    all: &[Example],
    meet: impl Fn(),
    waiter: impl Fn() -> Client,
    mut then: impl FnMut(&mut Stage, &Example, Way),
) -> Vec<String> {
    let together = || all.iter().filter(|example| !example.alone);
    let each = || together().flat_map(|example| Way::ALL.map(|way| (example, way)));
    each().for_each(|(example, way)| stage.prepare(example, way));
    meet();
    let run = |(example, way)| {
        let reply = stage.run(example, way, &waiter);
        then(stage, example, way);
        reply
    };
    each().map(run).collect()
}

/// Runs an example by itself, from nothing.
fn run_alone(stage: &mut Stage, example: &Example, way: Way, meet: impl Fn(), waiter: impl Fn() -> Client) -> String {
    for line in ["FLUSHALL", "FUNCTION FLUSH"] {
        stage.clients.iter_mut().for_each(|client| drop(client.ok(line)));
    }
    stage.prepare(example, way);
    meet();
    stage.run(example, way, waiter)
}

/// The dataset without what chance and the moment decide.
fn comparable(client: &mut Client, examples: &[Example]) -> Dataset {
    let random = |key: &str| {
        let line = Example::line_of(key);
        examples.iter().any(|example| Some(example.line) == line && example.is_random())
    };
    let mut dataset = dataset::read(client);
    dataset.retain(|key, _| !random(key));
    for entry in dataset.values_mut() {
        entry.expires_at_ms = entry.expires_at_ms.map(|_| 0);
        entry.value = without_cached_count(&entry.value);
        entry.value = entry.value.split(' ').map(without_field_expiry).collect::<Vec<_>>().join(" ");
    }
    dataset
}

/// A HyperLogLog without the count that `PFCOUNT` leaves in it on a stock server: sites keep none.
fn without_cached_count(text: &str) -> String {
    const NONE: &str = "\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x80";
    // Magic, encoding and three bytes that are not used; then eight escaped bytes.
    let Some(rest) = text.strip_prefix("HYLL\\x01\\x00\\x00\\x00") else { return text.to_owned() };
    match rest.get(4..NONE.len()) {
        Some("\\x00\\x00\\x00\\x00\\x00\\x00\\x00") => text.replacen(&rest[..NONE.len()], NONE, 1),
        _ => text.to_owned(),
    }
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

/// The keyspace notifications of a server from now on.
struct Told(Client);

impl Told {
    fn begin(server: &Server) -> Self {
        server.client().ok("CONFIG SET notify-keyspace-events KEA");
        let mut client = server.client();
        client.ok("PSUBSCRIBE __keyevent@*__:* end");
        // One reply for each pattern.
        client.receive().expect("it subscribes to both");
        Self(client)
    }

    /// By key, in order of time, of what was written here.
    fn end(mut self, writer: &mut Client) -> Vec<String> {
        writer.ok("PUBLISH end now");
        let mut events: BTreeMap<String, Vec<String>> = BTreeMap::new();
        loop {
            let message = reply::text_items(&self.0.receive().expect("the messages come"));
            let [_, _, channel, key] = message.as_slice() else { panic!("no message: {message:?}") };
            if channel == "end" {
                break;
            }
            if !key.contains("Elsewhere") {
                let event = channel.trim_start_matches("__keyevent").to_owned();
                events.entry(key.clone()).or_default().push(event);
            }
        }
        // When a TTL is over, and whether it is noticed before the end, the clock says.
        let by_the_clock = |events: &[String]| matches!(events, [.., set, last] if set.ends_with(":expire") && last.ends_with(":expired"));
        for events in events.values_mut().filter(|events| by_the_clock(events)) {
            events.pop();
        }
        events.into_iter().map(|(key, events)| format!("{key}: {}", events.join(" "))).collect()
    }
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

/// The keys of an example, as a site has them: type, digest, TTL, and what a digest does not tell on every server, TTLs of fields and groups.
fn own_state(client: &mut Client, keys: &[String], is_mixed: bool) -> Vec<String> {
    let of_key = |key: &String| ["TYPE", "PEXPIRETIME", "DEBUG DIGEST-VALUE"].map(|command| format!("{command} {key}"));
    let lines: Vec<String> = keys.iter().flat_map(of_key).collect();
    let mut state = Vec::new();
    for db in DATABASES {
        client.ok(&format!("SELECT {db}"));
        let replies: Vec<String> = client.pipeline(&lines).iter().map(reply::text).collect();
        for (key, answers) in keys.iter().zip(replies.chunks(3)) {
            let is_hash = answers[0] == "hash";
            let parts = if is_hash || answers[0] == "stream" { dataset::entry(client, key.as_bytes()) } else { None };
            // Redis counts in a digest that a field has a TTL, Valkey does not.
            let told = if is_hash && is_mixed { &answers[..2] } else { answers };
            let parts = parts.map(|entry| entry.to_string()).unwrap_or_default();
            state.push(format!("{db}/{key}: {} {parts}", told.join(" ")));
        }
    }
    client.ok("SELECT 0");
    state
}

/// What an example has written is the same at both sites at once, before the next one runs.
fn assert_met(cluster: &Cluster, stage: &mut Stage, example: &Example, way: Way, is_mixed: bool) {
    cluster.settle(&mut stage.clients);
    let keys = example.own_keys(way);
    let [here, there] = stage.clients.each_mut().map(|client| own_state(client, &keys, is_mixed));
    let differing = here.iter().zip(&there).filter(|(here, there)| here != there);
    let shown: Vec<String> = differing.map(|(here, there)| format!("  {here}\n  {there} (instance 2)")).collect();
    assert!(
        shown.is_empty(),
        "the sites differ after capture.txt:{}: {way:?} {}\n{}",
        example.line,
        example.command,
        shown.join("\n")
    );
}

/// The sites have met and are equal, also in what DEBUG DIGEST of some servers does not look at: TTLs of fields, groups.
fn assert_equal(cluster: &Cluster, stage: &mut Stage, what: &str) {
    cluster.converged();
    let [here, there] = stage.clients.each_mut().map(dataset::read);
    assert_eq!(dataset::differences(&here, &there), "", "the sites differ after {what}");
    let libraries = stage.clients.each_mut().map(|client| {
        let mut libraries = client.text_items("FUNCTION LIST WITHCODE");
        libraries.sort();
        libraries
    });
    assert_eq!(libraries[0], libraries[1], "the libraries differ after {what}");
}

fn every_write_converges_and_looks_stock(kinds: [ServerKind; 2]) {
    let examples = Example::on(&kinds);
    let options = ClusterOptions { module: vec![("functions", "on")], ..ClusterOptions::default() };
    let cluster = Cluster::with(&kinds, &options);
    let targets = kinds.map(migration_target);
    let ports = [targets[0].port(), targets[1].port()];
    let mut sites = Stage::new(&cluster.site(1).server, &cluster.site(2).server, ports);
    let is_mixed = kinds.iter().filter(|kind| **kind == ServerKind::Redis8).count() == 1;
    let met = |stage: &mut Stage, example: &Example, way| assert_met(&cluster, stage, example, way, is_mixed);
    let told = Told::begin(&cluster.site(1).server);
    let mut replies = run_together(&mut sites, &examples, || cluster.converged(), || cluster.client(1), met);
    assert_equal(&cluster, &mut sites, "the examples that share a dataset");
    let dataset = comparable(sites.here(), &examples);

    let stock = Server::start(kinds[0], ServerOptions::stock());
    let stock_target = migration_target(kinds[0]);
    let mut alike = Stage::new(&stock, &stock, [stock_target.port(); 2]);
    let told_by_stock = Told::begin(&stock);
    let mut stock_replies = run_together(&mut alike, &examples, || (), || stock.client(), |_, _, _| ());
    assert_eq!(
        dataset::differences(&dataset, &comparable(alike.here(), &examples)),
        "",
        "the site and the stock server differ"
    );
    if kinds[0] == kinds[1] {
        let stock = encodings(alike.here(), &dataset);
        assert_same(&encodings(sites.here(), &dataset), &stock, "encodings");
        // Of strings, what was changed in part or by a script there is one value here. A hash that once had TTLs there never had them here.
        let comparable = |all: Vec<String>| -> Vec<String> {
            let collections =
                all.into_iter().filter(|line| ![" int", " embstr", " raw"].iter().any(|of| line.ends_with(of)));
            collections.map(|line| line.replace(" listpackex", " listpack")).collect()
        };
        let there = comparable(encodings(&mut sites.clients[1], &dataset));
        assert_same(&there, &comparable(stock), "encodings at the other site");
        assert_same(&told.end(sites.here()), &told_by_stock.end(alike.here()), "keyspace notifications");
    }

    for example in examples.iter().filter(|example| example.alone) {
        for way in Way::ALL {
            replies.push(run_alone(&mut sites, example, way, || cluster.converged(), || cluster.client(1)));
            assert_equal(&cluster, &mut sites, &format!("{way:?} {}", example.command));
            stock_replies.push(run_alone(&mut alike, example, way, || (), || stock.client()));
            let (ours, stock) = (comparable(sites.here(), &[]), comparable(alike.here(), &[]));
            assert_eq!(dataset::differences(&ours, &stock), "", "{way:?} {}: not as stock", example.command);
        }
    }
    if kinds[0] == kinds[1] {
        assert_same(&replies, &stock_replies, "replies");
    }
}

macro_rules! on_each_pair {
    ($($name:ident: $first:ident, $second:ident;)+) => {$(
        #[test]
        fn $name() {
            every_write_converges_and_looks_stock([ServerKind::$first, ServerKind::$second]);
        }
    )+};
}

on_each_pair! {
    redis8: Redis8, Redis8;
    valkey9: Valkey9, Valkey9;
    valkey8: Valkey8, Valkey8;
    redis8_and_valkey9: Redis8, Valkey9;
    valkey9_and_redis8: Valkey9, Redis8;
    redis8_and_valkey8: Redis8, Valkey8;
    valkey8_and_redis8: Valkey8, Redis8;
    valkey9_and_valkey8: Valkey9, Valkey8;
    valkey8_and_valkey9: Valkey8, Valkey9;
}
