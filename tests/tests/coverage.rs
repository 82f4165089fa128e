//! No write command is missed: each that a server tells of has an example for each of its options, and `capture.rs` runs
//! them all. A command or an option of a new server version fails here by its name.

use std::collections::BTreeSet;

use redis::Value;
use syncer_tests::client::{Client, words};
use syncer_tests::examples::{Example, Way, migration_target};
use syncer_tests::reply;
use syncer_tests::server::{Server, ServerKind, ServerOptions};

/// The options of commands that COMMAND DOCS says nothing about.
const UNDOCUMENTED: [(&str, &[&str]); 3] =
    [("vadd", &["REDUCE", "CAS", "NOQUANT", "Q8", "BIN", "EF", "SETATTR", "M"]), ("vrem", &[]), ("vsetattr", &[])];

/// Refused outside of cluster mode.
const REFUSED: [&str; 1] = ["cluster|flushslot"];

/// A command with the write flag, and its options.
struct Command {
    /// As the server writes it: `xgroup|create`.
    name: String,
    options: BTreeSet<String>,
}

fn commands(client: &mut Client) -> Vec<Command> {
    let mut names = Vec::new();
    reply::items(&client.cmd("COMMAND")).iter().for_each(|entry| writes(entry, &mut names));
    names.into_iter().map(|name| Command { options: options(client, &name), name }).collect()
}

/// Collects the names of `entry` and its subcommands, where they have the write flag.
fn writes(entry: &Value, names: &mut Vec<String>) {
    let items = reply::items(entry);
    let text = |at: usize| items.get(at).map(reply::text).unwrap_or_default();
    let flags = items.get(2).map(reply::text_items).unwrap_or_default();
    // Our own are no commands of users.
    if flags.iter().any(|flag| flag == "write") && !text(0).starts_with("syncer.") {
        names.push(text(0));
    }
    items.get(9).map(reply::items).unwrap_or_default().iter().for_each(|subcommand| writes(subcommand, names));
}

fn options(client: &mut Client, name: &str) -> BTreeSet<String> {
    let docs = client.text(&format!("COMMAND DOCS {name}"));
    let by_hand = UNDOCUMENTED.iter().find(|(command, _)| command.eq_ignore_ascii_case(name));
    match by_hand {
        Some((_, options)) => options.iter().map(|&option| option.to_owned()).collect(),
        None => {
            assert!(docs.contains("summary"), "{name} has no documentation: name its options in UNDOCUMENTED");
            // `token, NX` wherever it is nested: the text of lists has `, ` between elements, and a type may be a token.
            let tokens = docs.split(" token, ").skip(1).filter_map(|rest| rest.split([',', ']']).next());
            tokens.map(str::to_uppercase).collect()
        }
    }
}

/// Whether `line` calls the command; subcommands are `command|subcommand`.
fn calls(line: &str, name: &str) -> bool {
    let mut said = line.split(' ');
    name.split('|').all(|part| said.next().is_some_and(|word| word.eq_ignore_ascii_case(part)))
}

/// What has no example that succeeds, of those that `wanted` lets stand.
fn lacking(kind: ServerKind, wanted: impl Fn(&Example) -> bool) -> Vec<String> {
    let (server, target) = (Server::start(kind, ServerOptions::stock()), migration_target(kind));
    let mut client = server.client();
    let mut done = Vec::new();
    for example in Example::on(&[kind]).into_iter().filter(wanted) {
        client.ok("FLUSHALL");
        client.ok("FUNCTION FLUSH");
        for line in &example.before {
            Way::Plain.run(&mut client, line, target.port());
        }
        let blocks = example.server.is_some();
        if blocks || !reply::is_error(&Way::Plain.run(&mut client, example.command, target.port())) {
            done.push(example.command);
        }
    }
    let complain = |command: Command| {
        let name = &command.name;
        let mine = done.iter().filter(|line| calls(line, name));
        let said: BTreeSet<String> =
            mine.flat_map(|line| words(line)).map(|word| String::from_utf8_lossy(&word).to_uppercase()).collect();
        let missing: Vec<_> = command.options.difference(&said).cloned().collect();
        match (said.is_empty(), missing.is_empty()) {
            _ if REFUSED.contains(&name.as_str()) => None,
            (true, _) => Some(format!("{name} has no example that succeeds")),
            (false, false) => Some(format!("{name} has no example that succeeds with {}", missing.join(", "))),
            (false, true) => None,
        }
    };
    commands(&mut client).into_iter().filter_map(complain).collect()
}

#[test]
fn every_write_command_and_option_has_an_example() {
    for kind in ServerKind::ALL {
        let lacking = lacking(kind, |_| true);
        assert!(lacking.is_empty(), "{kind}: add to capture.txt:\n  {}", lacking.join("\n  "));
    }
}

/// The test above can fail: by the name of the command, and of the option.
#[test]
fn a_command_or_option_without_an_example_is_named() {
    let is_wanted = |example: &Example| {
        let is_lt = calls(example.command, "zadd") && example.command.contains(" LT ");
        !is_lt && !calls(example.command, "pfadd")
    };
    let mut lacking = lacking(ServerKind::Valkey9, is_wanted);
    lacking.sort();
    assert_eq!(lacking, ["pfadd has no example that succeeds", "zadd has no example that succeeds with LT"]);
}
