//! Full syncs take a bounded amount of memory, at both ends and in the agent: what is not read is not made (DESIGN 5).

use std::time::Duration;

use syncer_tests::agent::{Agent, AgentOptions};
use syncer_tests::bench::peak::Peaks;
use syncer_tests::chaos::link::{Link, Mode};
use syncer_tests::members::{metadata, status, takes_writes};
use syncer_tests::nodes::{figure, number};
use syncer_tests::server::{Server, ServerKind, ServerOptions};
use syncer_tests::{on_each_kind, wait};

const MB: u64 = 1 << 20;
/// What is copied: far more than anybody may hold, and than sockets do.
const KEYS: u64 = 1_600;
const VALUE_BYTES: usize = 64 << 10;
const DATA_BYTES: u64 = KEYS * VALUE_BYTES as u64;

/// What a server takes beyond its data while it gives or takes a snapshot, its child included: a few pieces, and pages that both write to.
const SERVER_BYTES: u64 = 16 * MB;
/// What an agent takes in all.
const AGENT_BYTES: u64 = 32 * MB;
/// So much comes over a link of 2 MB/s while it is watched. A child that nobody holds back is through with all of it by then.
const SLOW_BYTES: u64 = 6 * MB;
/// What a target takes of that: buffers.
const COPYING_BYTES: u64 = 4 * MB;

/// A source with data, and a target that is away from it.
struct Ends {
    source: Server,
    target: Server,
    link: Link,
}

impl Ends {
    fn new(kind: ServerKind, has_data: bool) -> Self {
        let server =
            |instance| Server::start(kind, ServerOptions::instance(instance).module_arg("backlog-size", "1mb"));
        let [source, target] = [1, 2].map(server);
        if has_data {
            let agents = [(&source, 2, &target), (&target, 1, &source)]
                .map(|(local, id, peer)| Agent::start(AgentOptions::beside(local.port()).peer(id, peer.port())));
            target.client().ok("SET own v");
            wait::eventually("they know each other", || source.client().text("GET own") == "v");
            takes_writes(&mut source.client());
            drop(agents);
        }
        let mut client = source.client();
        // As long as the values are.
        client.ok("CONFIG SET rdbcompression no");
        let value = "x".repeat(VALUE_BYTES);
        let lines: Vec<String> = (0..KEYS).map(|key| format!("SET key:{key} {value}")).collect();
        lines.chunks(100).for_each(|lines| drop(client.pipeline(lines)));
        let link = Link::start(source.port()).expect("there is a port");
        Self { source, target, link }
    }

    /// Copies it all, first over a slow link, then into a target that hangs. Watched are source, agent and, as long as it has nothing to load
    /// or to merge, target.
    fn copies(&self, phase: &str) -> Watched<'_> {
        self.link.set(Mode::Slow { bytes_per_second: 2 * MB, latency: Duration::ZERO });
        let [source, target] = [&self.source, &self.target].map(|server| Peaks::watch(vec![server.process().pid()]));
        let agent = Agent::start(AgentOptions::beside(self.target.port()).peer(1, self.link.port()));
        let agent_peaks = Peaks::watch(vec![agent.process().pid()]);
        let mut client = self.target.client();
        let copied = |progress: &str| {
            let (_, rest) = progress.split_once("bytes, ")?;
            rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u64>().ok()
        };
        let mut progress = String::new();
        let is_far = || {
            progress = status(&mut client, "full_sync");
            copied(&progress).filter(|bytes| *bytes >= SLOW_BYTES)
        };
        let bytes = wait::until(wait::PATIENCE, "a part is copied over the slow link", is_far, || agent.log());
        assert!(progress.contains(phase) && bytes < DATA_BYTES / 2, "{progress}");
        self.target.process().pause();
        self.link.set(Mode::Whole);
        // Whoever reads on nevertheless is through with it long before.
        let is_over = || (self.source.process().children().is_empty()).then_some(());
        let _ = wait::within(Duration::from_secs(1), is_over);
        bounded("target, while it is copied", target, COPYING_BYTES);
        self.target.process().resume();
        Watched { ends: self, source, agent: agent_peaks, process: agent }
    }
}

/// A full sync that goes on.
struct Watched<'a> {
    ends: &'a Ends,
    source: Peaks,
    agent: Peaks,
    process: Agent,
}

impl Watched<'_> {
    fn ends(self) {
        // It answers nothing while it loads.
        let is_done = || (figure(&self.ends.target, "syncer_sync_full_in").as_deref() == Some("1")).then_some(());
        wait::until(wait::PATIENCE, "the full sync is done", is_done, || self.process.log());
        bounded("source", self.source, SERVER_BYTES);
        let (_, most) = only(self.agent);
        assert!(most < AGENT_BYTES, "the agent takes {most} bytes");
        assert!(self.ends.target.client().text("DBSIZE").parse::<u64>().is_ok_and(|keys| keys >= KEYS));
    }
}

fn only(peaks: Peaks) -> (u64, u64) {
    peaks.end().into_values().next().expect("one process was watched")
}

fn bounded(whose: &str, peaks: Peaks, more: u64) {
    let (before, most) = only(peaks);
    println!("{whose}: {before} bytes, at most {} more", most - before);
    assert!(most < before + more, "{whose}: {} bytes more than {before}", most - before);
}

/// Two sites have so many keys, of which the source has written one in four anew. How much more the target takes while it merges, per key of the snapshot and
/// per key that differs: docs/OPERATIONS.md says what that is. Beside it: buffers, and what the allocator rounds up to.
fn merges(kind: ServerKind, keys: u64, write: impl Fn(u64, u8) -> String, per_differing: u64) {
    const PER_KEY: u64 = 26;
    const BESIDE: u64 = 4 * MB;
    let servers = [1, 2].map(|instance| Server::start(kind, ServerOptions::instance(instance)));
    let [source, target] = &servers;
    let ports = [source, target].map(Server::port);
    let start = || {
        [(ports[0], 2, ports[1]), (ports[1], 1, ports[0])]
            .map(|(local, id, peer)| Agent::start(AgentOptions::beside(local).peer(id, peer)))
    };
    let fill = |keys: u64, version: u8| {
        let lines: Vec<String> = (0..keys).map(|key| write(key, version)).collect();
        lines.chunks(1_000).for_each(|lines| drop(source.client().pipeline(lines)));
    };
    let mut agents = start();
    fill(keys, 1);
    wait::eventually("both have it", || target.client().text("DBSIZE") == keys.to_string());
    for server in &servers {
        wait::eventually("the metadata is pruned", || metadata(&mut server.client()) == 0);
    }
    agents.iter_mut().for_each(Agent::kill);
    source.client().ok("CONFIG SET syncer.backlog-size 1mb");
    fill(keys / 4, 2);
    let peaks = Peaks::watch(vec![target.process().pid()]);
    agents.iter_mut().for_each(Agent::restart);
    wait::eventually("the full sync is done", || number(target, "sync_full_in") == 1);
    bounded("target", peaks, PER_KEY * keys + per_differing * keys / 4 + BESIDE);
}

on_each_kind! {
    fn a_merge_takes_so_much_for_each_key(kind) {
        let value = "x".repeat(99);
        merges(kind, 100_000, |key, version| format!("SET key:{key:012} {version}{value}"), 500);
    }

    fn a_merge_takes_so_much_for_each_field(kind) {
        let fields = |version| (0..5).map(|n| format!(" field:{n} value:{version}:{n}")).collect::<String>();
        merges(kind, 60_000, |key, version| format!("HSET key:{key:012}{}", fields(version)), 1_200);
    }

    fn a_file_piles_up_nowhere(kind) {
        let ends = Ends::new(kind, false);
        let watched = ends.copies("phase, file");
        watched.ends();
        assert!(ends.target.log().contains("bytes, loaded in "), "{}", ends.target.log());
    }

    /// What was merged the target has twice until all sites have it (docs/OPERATIONS.md), but not once more; the allocator's sizes for values as long as these
    /// are a quarter apart.
    fn a_merge_piles_up_nowhere(kind) {
        let ends = Ends::new(kind, true);
        let watched = ends.copies("phase, copying");
        let target = Peaks::watch(vec![ends.target.process().pid()]);
        watched.ends();
        bounded("target", target, DATA_BYTES * 5 / 4 + DATA_BYTES + SERVER_BYTES);
        assert!(!ends.target.log().contains("loaded in "), "{}", ends.target.log());
    }
}
