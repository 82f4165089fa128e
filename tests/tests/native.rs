//! Full sync into an empty instance: an RDB file that the server itself loads (DESIGN 5), and when it has to be a merge all the same.

use std::time::Duration;

use syncer_tests::agent::{Agent, AgentOptions};
use syncer_tests::chaos::link::{Link, Mode};
use syncer_tests::client::Client;
use syncer_tests::figures::announced;
use syncer_tests::members::{join, newcomer, status, takes_writes, tell};
use syncer_tests::nodes::{figure, number, until_rewritten};
use syncer_tests::server::{Server, ServerKind, ServerOptions};
use syncer_tests::{dataset, on_each_kind, wait};

/// Instance 1 with data that its backlog does not reach back to, and instance 2 without anything.
struct Two {
    one: Server,
    two: Server,
    agents: Vec<Agent>,
}

const KEYS: u64 = 20;

impl Two {
    fn new(kinds: [ServerKind; 2], at_two: &[(&str, &str)]) -> Self {
        let options = |instance| ServerOptions::instance(instance).module_arg("backlog-size", "1mb");
        let one = Server::start(kinds[0], options(1));
        let two = at_two.iter().fold(options(2), |options, (name, value)| options.config(name, value));
        fill(&mut one.client());
        Self { one, two: Server::start(kinds[1], two), agents: Vec::new() }
    }

    fn start_agents(&mut self) {
        self.start_agents_by(self.one.port());
    }

    /// Instance 1 is at this port for the agent of instance 2.
    fn start_agents_by(&mut self, port: u16) {
        let (one, two) = (self.one.port(), self.two.port());
        let flags = [AgentOptions::beside(two).peer(1, port), AgentOptions::beside(one).peer(2, two)];
        self.agents = flags.map(Agent::start).into();
    }

    /// The file is on its way for seconds: the source waits after each key that it writes. Its clients go on meanwhile: what they take away is in
    /// the file.
    fn midway(&mut self) {
        self.midway_by(self.one.port());
    }

    fn midway_by(&mut self, port: u16) {
        self.one.client().ok("CONFIG SET rdb-key-save-delay 100000");
        self.start_agents_by(port);
        wait::eventually("the file comes in", || number(&self.two, "sync_full_bytes") > 0);
        let progress = status(&mut self.two.client(), "full_sync");
        for part in ["source, 1", "phase, file", "percent, (nil)", "keys_per_second, (nil)", "seconds_left, (nil)"] {
            assert!(progress.contains(part), "how many keys that is nobody knows yet: {part}: {progress}");
        }
        let mut one = self.one.client();
        one.ok("CONFIG SET rdb-key-save-delay 0");
        for line in CHANGES {
            one.ok(line);
        }
        assert_eq!(self.two.client().text("DBSIZE"), "0", "nothing is there before all is");
        assert_eq!(number(&self.two, "sync_full_in"), 0, "it is done already");
    }

    /// It breaks off, and nothing of it is left: the next attempt is a file, too.
    fn is_broken_off(&self) {
        let mut two = self.two.client();
        wait::eventually("it is over with its client", || status(&mut two, "full_sync") == "(nil)");
        assert_eq!((two.text("DBSIZE"), number(&self.two, "sync_full_in")), ("0".into(), 0));
        assert_eq!(self.log().matches("as a file, since").count(), 1);
    }

    /// That attempt.
    fn is_taken_up_again(&self) {
        self.synced();
        self.agree();
        self.has_the_changes();
        assert!(self.was_a_file(), "{}", self.log());
        assert_eq!(self.log().matches("as a file, since").count(), 2);
    }

    /// What was changed midway is so at the target.
    fn has_the_changes(&self) {
        let mut two = self.two.client();
        for (line, answer) in CHANGED {
            assert_eq!(two.text(line), answer, "{line}");
        }
    }

    /// The full sync is done.
    fn synced(&self) {
        let log = || self.agents.iter().map(Agent::log).collect::<String>() + &self.log();
        let is_done = || (number(&self.two, "sync_full_in") > 0).then_some(());
        wait::until(wait::PATIENCE, "the full sync is done", is_done, log);
    }

    /// Both have what both write now, by the stream; and the same in all.
    fn agree(&self) {
        let (mut one, mut two) = (self.one.client(), self.two.client());
        takes_writes(&mut two);
        one.ok("INCRBY total 1");
        two.ok("INCRBY total 10");
        for client in [&mut one, &mut two] {
            wait::eventually("both have both", || client.text("GET total") == "11");
        }
        wait::eventually("they are equal", || one.text("SYNCER.DIGEST") == two.text("SYNCER.DIGEST"));
        let differing = |one: &mut Client, two: &mut Client| {
            let (one, two) = (dataset::read(one), dataset::read(two));
            dataset::differing(&one, &two).cloned().collect::<Vec<_>>()
        };
        // A key past its TTL goes at each in its own time.
        wait::eventually("they show the same", || differing(&mut one, &mut two).is_empty());
        two.ok("INCRBY total -11");
        wait::eventually("both have that", || one.text("GET total") == "0");
    }

    fn log(&self) -> String {
        self.two.log()
    }

    fn was_a_file(&self) -> bool {
        self.log().contains("as a file, since this instance is empty") && self.log().contains("bytes, loaded in ")
    }

    fn was_a_merge(&self) -> bool {
        self.log().contains(" keys, ") && number(&self.two, "sync_full_in") == 1 && !self.log().contains("loaded in ")
    }
}

/// How far it is, as STATUS, PEERS, INFO and `syncer-agent status` say it, once anything says how many keys the bytes are.
fn says_how_far_it_is(target: &Server, keys_total: u64) {
    let mut client = target.client();
    wait::eventually("the cause of the full sync tells how far it is", || {
        client.text("SYNCER.PEERS").contains(" s left")
    });
    let peers = client.text("SYNCER.PEERS");
    for part in ["state, syncing", &format!(" of {keys_total} keys copied as a file ("), " %), ", " bytes so far, "] {
        assert!(peers.contains(part), "{part}: {peers}");
    }
    let progress = status(&mut client, "full_sync");
    let field = |name: &str| {
        let field = progress.split_once(&format!("{name}, ")).and_then(|(_, rest)| rest.split([',', ']']).next());
        field.and_then(|field| field.parse().ok()).unwrap_or_else(|| panic!("no {name}: {progress}"))
    };
    let [keys, total, percent, bytes, rate, left]: [u64; 6] =
        ["keys", "keys_total", "percent", "bytes", "keys_per_second", "seconds_left"].map(field);
    assert!(field("source") == 1 && progress.contains("phase, file"), "{progress}");
    assert!(0 < keys && keys < total && total == keys_total && percent == keys * 100 / total, "{progress}");
    // The keys are told once a second.
    assert!(bytes > keys * 500, "{progress}");
    let expected = (total - keys) / rate.max(1);
    assert!(rate > 0 && left <= expected + 1 && left + 1 >= (total - keys) / (rate + 1), "{progress}");
    assert_eq!((number(target, "sync_full_in"), number(target, "sync_full_running")), (0, 1), "{progress}");
    assert!(number(target, "sync_full_keys") >= keys && number(target, "sync_full_keys_total") == total);
    let (done, table) = tell(&["status", "--local", &format!("redis://127.0.0.1:{}", target.port())]);
    let table_says = |part: &str| table.contains(part);
    assert!(
        done && table_says("full sync  from instance 1: file, ") && table_says(&format!(" of {total} keys (")),
        "{table}"
    );
    assert!(table_says(" keys/s, ") && table_says(" s left"), "{table}");
}

/// So many keys of 500 bytes, which the servers would compress.
fn many(one: &Server) -> u64 {
    const KEYS: u64 = 10_000;
    one.client().ok("CONFIG SET rdbcompression no");
    let value = "x".repeat(500);
    let lines: Vec<String> = (0..KEYS).map(|key| format!("SET many:{key} {value}")).collect();
    lines.chunks(1_000).for_each(|lines| drop(one.client().pipeline(lines)));
    wait::eventually("it is past its TTL", || one.client().text("EXISTS gone") == "0");
    one.client().text("DBSIZE").parse().expect("a number")
}

/// Of what [`fill`] has written, and something new.
const CHANGES: [&str; 12] = [
    "INCRBY during 5",
    "INCRBY n 8",
    "DEL s",
    "DEL big:1",
    "SREM set a",
    "HDEL h f",
    "HSET h g 9",
    "ZREM z a",
    "LPOP l",
    "LSET l 0 two",
    "XDEL x 1-1",
    "PERSIST t",
];

const CHANGED: [(&str, &str); 8] = [
    ("MGET during n s big:1", "[5, 50, (nil), (nil)]"),
    ("SMISMEMBER set a b c", "[0, 1, 1]"),
    ("HGETALL h", "[g, 9]"),
    ("ZRANGE z 0 -1 WITHSCORES", "[b, 2.5]"),
    ("LRANGE l 0 -1", "[two, 3]"),
    ("XLEN x", "0"),
    ("TTL t", "-1"),
    ("PFCOUNT p", "2"),
];

/// One of every type, and more than a backlog of 1 MB holds.
fn fill(client: &mut Client) {
    let value = "x".repeat(100_000);
    (0..KEYS).for_each(|key| drop(client.ok(&format!("SET big:{key} {value}"))));
    for line in [
        "MSET s v n 41",
        "INCR n",
        "HSET h f 1 g 2",
        "SADD set a b c",
        "ZADD z 1 a 2.5 b",
        "RPUSH l 1 2 3",
        "XADD x 1-1 k v",
        "SET t v PX 10000000",
        "PFADD p a b",
        "SETBIT bits 9 1",
        "SET gone v PX 100",
        "DEL big:0",
    ] {
        client.ok(line);
    }
}

on_each_kind! {
    fn an_empty_instance_loads_a_file_of_its_peer(kind) {
        let mut two = Two::new([kind; 2], &[]);
        let replica = two.two.replica(ServerOptions::instance(2).module_arg("backlog-size", "1mb"));
        let first = number(&two.one, "backlog_first_offset");
        two.midway();
        two.synced();
        two.agree();
        two.has_the_changes();
        assert!(two.was_a_file(), "{}", two.log());
        assert_eq!(number(&two.two, "sync_full_in"), 1);
        let (begins, asked) = announced(&two.log());
        assert!(0 < first && first <= begins && asked.is_none(), "{first}: {begins}, {asked:?}");
        assert_eq!(figure(&two.two, "syncer_instance_id").as_deref(), Some("2"));
        assert!(number(&two.two, "backlog_bytes") > 500_000, "the backlog of the source came with it");
        let mut follower = replica.client();
        let same = || follower.text("SYNCER.DIGEST") == two.two.client().text("SYNCER.DIGEST");
        wait::eventually("its replica has begun anew and has it all", same);
        assert_eq!(replica.client().text("LRANGE l 0 -1"), "[two, 3]");
    }

    /// The child has written all of the file: what part of it is here is known.
    fn how_far_a_file_is_can_be_seen(kind) {
        let two = Two::new([kind; 2], &[]);
        let keys = many(&two.one);
        let link = Link::start(two.one.port()).expect("there is a port");
        link.set(Mode::Slow { bytes_per_second: 1_000_000, latency: Duration::ZERO });
        let _agent = Agent::start(AgentOptions::beside(two.two.port()).peer(1, link.port()));
        says_how_far_it_is(&two.two, keys);
        link.set(Mode::Whole);
        wait::eventually("it is loaded", || figure(&two.two, "syncer_sync_full_in").as_deref() == Some("1"));
        assert_eq!(status(&mut two.two.client(), "full_sync"), "(nil)", "and then nothing goes on");
        assert_eq!(two.two.client().text("DBSIZE"), keys.to_string());
        assert!(two.was_a_file(), "{}", two.log());
    }

    /// The child is at it, and the server knows how far it is.
    fn how_far_a_file_is_can_be_seen_while_it_is_written(kind) {
        let two = Two::new([kind; 2], &[]);
        let keys = many(&two.one);
        two.one.client().ok("CONFIG SET rdb-key-save-delay 1000");
        let _agent = Agent::start(AgentOptions::beside(two.two.port()).peer(1, two.one.port()));
        says_how_far_it_is(&two.two, keys);
        assert_eq!(two.one.process().children().len(), 1, "it has written all of it already");
        wait::eventually("it is loaded", || figure(&two.two, "syncer_sync_full_in").as_deref() == Some("1"));
        assert!(two.was_a_file(), "{}", two.log());
    }

    fn an_append_only_file_has_it(kind) {
        let mut two = Two::new([kind; 2], &[("appendonly", "yes"), ("appendfsync", "always")]);
        two.start_agents();
        two.synced();
        two.agree();
        assert!(two.was_a_file(), "{}", two.log());
        until_rewritten(&two.two);
        two.two.client().ok("SET last v");
        two.two.kill();
        two.one.client().ok("SET meanwhile v");
        two.two.restart();
        two.agree();
        assert_eq!(two.two.client().text("MGET last meanwhile s"), "[v, v, v]");
        assert_eq!(number(&two.two, "sync_full_in"), 0, "since the restart");
    }

    fn the_child_of_the_source_is_killed(kind) {
        let mut two = Two::new([kind; 2], &[]);
        two.midway();
        assert!(two.one.process().kill_children() > 0);
        two.synced();
        two.agree();
        two.has_the_changes();
        assert!(two.agents[0].log().contains("it will be a merge"), "{}", two.agents[0].log());
        assert!(two.was_a_merge(), "{}", two.log());
    }

    fn the_source_is_killed(kind) {
        let mut two = Two::new([kind; 2], &[]);
        two.one.client().ok("SAVE");
        two.midway();
        two.one.kill();
        assert_eq!(two.two.client().text("DBSIZE"), "0");
        two.one.restart();
        two.synced();
        two.agree();
        assert!(two.was_a_file(), "{}", two.log());
    }

    fn the_target_is_killed(kind) {
        let mut two = Two::new([kind; 2], &[]);
        // So that it comes back as who it was: a server without files that lost its state has to join anew.
        two.two.client().ok("SAVE");
        two.midway();
        two.two.kill();
        two.two.restart();
        two.synced();
        two.agree();
        two.has_the_changes();
        assert!(two.was_a_file(), "{}", two.log());
    }

    fn the_agent_is_killed(kind) {
        let mut two = Two::new([kind; 2], &[]);
        two.midway();
        two.agents[0].kill();
        two.is_broken_off();
        two.agents[0].restart();
        two.is_taken_up_again();
    }

    fn the_link_is_cut(kind) {
        let mut two = Two::new([kind; 2], &[]);
        let link = Link::start(two.one.port()).expect("there is a port");
        two.midway_by(link.port());
        link.set(Mode::Cut);
        two.is_broken_off();
        link.set(Mode::Whole);
        two.is_taken_up_again();
    }

    /// No fork is possible while another child runs.
    fn a_source_that_saves_is_waited_for(kind) {
        let mut two = Two::new([kind; 2], &[]);
        let mut one = two.one.client();
        one.ok("CONFIG SET rdb-key-save-delay 1000000");
        one.ok("BGSAVE");
        two.start_agents();
        let mut client = two.two.client();
        wait::eventually("the cause is told", || client.text("SYNCER.PEERS").contains("another child process"));
        assert_eq!((client.text("DBSIZE"), number(&two.two, "sync_full_in")), ("0".into(), 0));
        one.ok("CONFIG SET rdb-key-save-delay 0");
        assert_eq!(figure(&two.one, "rdb_bgsave_in_progress").as_deref(), Some("1"));
        two.one.process().kill_children();
        two.synced();
        two.agree();
        assert!(two.was_a_file(), "{}", two.log());
        assert!(!two.agents[0].log().contains("it will be a merge"), "{}", two.agents[0].log());
    }

    /// A file would take the place of that.
    fn the_target_is_written_to_meanwhile(kind) {
        let mut two = Two::new([kind; 2], &[]);
        two.midway();
        two.one.client().ok("INCRBY both 1");
        for line in ["SET mine v", "SADD set two", "INCRBY both 10"] {
            two.two.client().ok(line);
        }
        two.synced();
        two.agree();
        two.has_the_changes();
        for server in [&two.one, &two.two] {
            let mut client = server.client();
            assert_eq!(client.text("MGET mine both"), "[v, 11]");
            assert_eq!(client.text("SMISMEMBER set two b"), "[1, 1]");
        }
        let log = two.agents[0].log();
        assert!(log.contains("is not empty") && log.contains("it will be a merge"), "{log}");
        assert!(two.was_a_merge(), "{}", two.log());
    }

    /// A third site, which has read at instance 1 so far, reads on at who has loaded the file.
    fn the_backlog_that_was_loaded_serves_a_third(kind) {
        let mut two = Two::new([kind; 2], &[]);
        let three = Server::start(kind, ServerOptions::instance(3));
        let beside = |server: &Server, peer, at: &Server| Agent::start(AgentOptions::beside(server.port()).peer(peer, at.port()));
        let agents = [beside(&three, 1, &two.one), beside(&two.one, 3, &three)];
        wait::eventually("it has all", || three.client().text("GET n") == "42");
        takes_writes(&mut three.client());
        drop(agents);
        for line in ["SET missed v", "INCR n", "DEL s"] {
            two.one.client().ok(line);
        }
        let end = number(&two.one, "backlog_end_offset");
        two.start_agents();
        two.synced();
        two.agree();
        assert!(two.was_a_file(), "{}", two.log());
        two.agents.clear();
        two.one.kill();
        let (begun, partial) = (number(&three, "sync_full_in"), number(&two.two, "sync_partial_ok"));
        let _agents = [beside(&three, 2, &two.two), beside(&two.two, 3, &three)];
        wait::eventually("it has what it missed", || three.client().text("MGET missed n s total") == "[v, 43, (nil), 0]");
        let (mut two_client, mut client) = (two.two.client(), three.client());
        wait::eventually("they are equal", || two_client.text("SYNCER.DIGEST") == client.text("SYNCER.DIGEST"));
        assert_eq!((number(&three, "sync_full_in"), number(&two.two, "sync_full_out")), (begun, 0));
        assert!(number(&two.two, "backlog_first_offset") < end, "what it missed was written at instance 1");
        assert!(number(&two.two, "sync_partial_ok") > partial);
    }

    /// An agent of ours plays the protocol: what is damaged is not loaded, and nothing has changed.
    fn a_damaged_file_is_not_loaded(kind) {
        let server = Server::start(kind, ServerOptions::instance(2));
        let mut client = server.client();
        let begin = |client: &mut Client| client.text("SYNCER.SYNC LOAD 1 10 test");
        let token = begin(&mut client);
        assert_eq!(client.text(&format!("SYNCER.SYNC PIECE {token} REDIS0012")), "OK");
        assert!(client.text(&format!("SYNCER.SYNC SWAP {token}")).contains("not complete"));
        assert!(client.text(&format!("SYNCER.SYNC WRITTEN {token} 9 0123456789abcdef")).contains("not complete"));
        assert!(client.text(&format!("SYNCER.SYNC SWAP {token}")).contains("not complete"));
        assert!(client.text(&format!("SYNCER.SYNC WRITTEN {token} 8 x")).contains("hex digits"));
        // Another one replaces it.
        let other = begin(&mut client);
        assert!(client.text(&format!("SYNCER.SYNC PIECE {token} x")).contains("no such file"));
        assert!(client.text(&format!("SYNCER.SYNC SWAP {other}")).contains("not complete"));
        // And somebody writes here.
        client.ok("SET k v");
        assert!(client.text(&format!("SYNCER.SYNC SWAP {other}")).contains("is not empty"));
        assert!(begin(&mut client).contains("is not empty"));
        assert_eq!(client.text("SYNCER.SYNC OFFER"), "");
        assert_eq!(client.text("GET k"), "v");
    }

    fn an_instance_with_data_merges(kind) {
        let mut two = Two::new([kind; 2], &[]);
        two.two.client().ok("SET own v");
        two.start_agents();
        two.synced();
        two.agree();
        assert!(two.was_a_merge(), "{}", two.log());
        assert_eq!(two.one.client().text("GET own"), "v");
    }

    /// A file cannot be written: not at the target, then not at the source.
    fn without_a_folder_to_write_to_it_merges(kind) {
        for at_source in [false, true] {
            let mut two = Two::new([kind; 2], &[]);
            let server = if at_source { &two.one } else { &two.two };
            std::fs::remove_dir_all(server.folder()).expect("removed");
            two.start_agents();
            two.synced();
            two.agree();
            assert!(!two.agents[0].log().contains("loads the file"), "{}", two.agents[0].log());
            assert_eq!(number(&two.two, "sync_full_in"), 1);
        }
    }

    /// `syncer-agent join`: the state of the join goes on in what was loaded.
    fn who_joins_loads_a_file(kind) {
        let mut two = Two::new([kind; 2], &[]);
        two.start_agents();
        two.synced();
        two.agree();
        let (three, flags) = newcomer(kind, 3, &[(1, two.one.port()), (2, two.two.port())]);
        let (done, said) = join(&flags, &[]);
        assert!(done, "{said}");
        let _agents = [flags, two.agents[0].options().clone().peer(3, three.port()), two.agents[1].options().clone().peer(3, three.port())].map(Agent::start);
        takes_writes(&mut three.client());
        three.client().ok("SET three v");
        for server in [&two.one, &two.two] {
            wait::eventually("it is everywhere", || server.client().text("GET three") == "v");
        }
        assert!(three.log().contains("bytes, loaded in "), "{}", three.log());
        assert_eq!(three.client().text("GET n"), "42");
    }
}

#[test]
fn servers_of_other_kinds_merge() {
    for kinds in [[ServerKind::Redis8, ServerKind::Valkey9], [ServerKind::Valkey9, ServerKind::Valkey8]] {
        let mut two = Two::new(kinds, &[]);
        two.start_agents();
        two.synced();
        two.agree();
        assert!(two.was_a_merge(), "{}", two.log());
    }
}
