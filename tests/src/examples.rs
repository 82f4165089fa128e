//! The table of examples: every write command with its options, run by `capture.rs` and demanded by `coverage.rs`.

use redis::Value;

use crate::client::{Client, words};
use crate::prefix::on_own_keys;
use crate::reply;
use crate::server::{Server, ServerKind, ServerOptions};

/// The table; its head says how to read it.
const TABLE: &str = include_str!("../tests/capture.txt");

/// A function that runs its arguments.
const FUNCTION: &str = r##"FUNCTION LOAD "#!lua name=example\nredis.register_function('example', function(_, args) return redis.call(unpack(args)) end)""##;

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Example {
    /// Line in the table, from 1.
    pub line: usize,
    /// What is there before.
    pub before: Vec<&'static str>,
    /// The command that it is about.
    pub command: &'static str,
    /// For a command that blocks: what serves it.
    pub server: Option<&'static str>,
    /// Whether it changes more than its keys.
    pub alone: bool,
    kinds: Vec<ServerKind>,
}

impl Example {
    /// The keys that examples use.
    pub const KEYS: [&'static str; 7] = ["k", "k2", "k3", "nok", "nokey", "nokey1", "nokey2"];

    fn parse(line: usize, text: &'static str) -> Self {
        let (servers, example) = text.split_once(": ").expect("a row names its servers");
        let (servers, alone) = servers.strip_suffix(" alone").map_or((servers, false), |servers| (servers, true));
        let has = |kind: &ServerKind| servers == "all" || servers.split('+').any(|name| name == kind.folder());
        let (before, command) = example.split_once(" | ").unwrap_or(("", example));
        let (command, server) = command.split_once(" << ").map_or((command, None), |(c, s)| (c, Some(s)));
        let before = before.split(" ; ").filter(|command| !command.is_empty()).collect();
        let kinds = ServerKind::ALL.into_iter().filter(has).collect();
        Self { line, before, command, server, alone, kinds }
    }

    /// The examples for commands that all of these servers have.
    pub fn on(kinds: &[ServerKind]) -> Vec<Self> {
        let all = (1..).zip(TABLE.lines()).filter(|(_, text)| !text.starts_with('#'));
        let all = all.map(|(line, text)| Self::parse(line, text));
        let examples: Vec<_> = all.filter(|row| kinds.iter().all(|kind| row.kinds.contains(kind))).collect();
        assert!(examples.len() > 300, "{} examples for {kinds:?}", examples.len());
        examples
    }

    /// Commands whose outcome chance or the clock decides: compared between sites, not with a stock server.
    pub fn is_random(&self) -> bool {
        self.command.contains("SPOP") || self.command.starts_with("XADD k *") || self.command.starts_with("XADD k 5-*")
    }

    /// `line` on keys that no other example and no other way uses.
    pub fn on_own_keys(&self, line: &str, way: Way) -> String {
        on_own_keys(line, &format!("{}:{way:?}:", self.line), &Self::KEYS)
    }

    /// The keys that it has this way, whether they exist or not.
    pub fn own_keys(&self, way: Way) -> Vec<String> {
        Self::KEYS.iter().map(|key| self.on_own_keys(key, way)).collect()
    }

    /// The line in the table of the example that a key belongs to.
    pub fn line_of(key: &str) -> Option<usize> {
        key.split(['/', ':']).nth(1)?.parse().ok()
    }
}

/// How a command gets to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By itself.
    Plain,
    /// In MULTI.
    Transaction,
    /// In EVAL.
    Script,
    /// In FCALL.
    Function,
    /// At the second site, on what the first has written.
    Elsewhere,
}

impl Way {
    /// Every way.
    pub const ALL: [Self; 5] = [Self::Plain, Self::Transaction, Self::Script, Self::Function, Self::Elsewhere];

    /// Runs `line` this way. `port`: that of the stock server for MIGRATE.
    pub fn run(self, client: &mut Client, line: &str, port: u16) -> Value {
        let args = arguments(client, line, port);
        match self {
            Self::Plain | Self::Elsewhere => client.args(&args),
            Self::Transaction => {
                client.ok("MULTI");
                client.args(&args);
                client.cmd("EXEC")
            }
            Self::Script => {
                let script = [&b"EVAL"[..], b"return redis.call(unpack(ARGV))", b"0"];
                client.args(&script.into_iter().chain(args.iter().map(Vec::as_slice)).collect::<Vec<_>>())
            }
            Self::Function => {
                let call = [&b"FCALL"[..], b"example", b"0"];
                let call: Vec<&[u8]> = call.into_iter().chain(args.iter().map(Vec::as_slice)).collect();
                let answer = client.args(&call);
                if !reply::text(&answer).contains("Function not found") {
                    return answer;
                }
                // Some examples delete all libraries.
                client.ok(FUNCTION);
                client.args(&call)
            }
        }
    }
}

/// The words of a line, with what stands for something else replaced by it.
fn arguments(client: &mut Client, line: &str, port: u16) -> Vec<Vec<u8>> {
    let replaced = |word: Vec<u8>| match (word.strip_prefix(b"@DUMP:"), word.as_slice()) {
        (Some(key), _) => reply::bytes(&client.args(&[b"DUMP", key])).to_vec(),
        (None, b"@FUNCTIONS") => reply::bytes(&client.cmd("FUNCTION DUMP")).to_vec(),
        (None, b"@PORT") => port.to_string().into_bytes(),
        _ => word,
    };
    words(line).into_iter().map(replaced).collect()
}

/// Where MIGRATE goes to: a stock server with the password `secret`.
pub fn migration_target(kind: ServerKind) -> Server {
    let server = Server::start(kind, ServerOptions::stock());
    server.client().ok("CONFIG SET requirepass secret");
    server
}
