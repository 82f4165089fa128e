//! A full sync as a file, from the moment on that the target loads it: killed then, whoever it is, nothing is lost and it ends well.

use syncer_tests::agent::{Agent, AgentOptions};
use syncer_tests::client::Client;
use syncer_tests::nodes::number;
use syncer_tests::server::{Server, ServerKind, ServerOptions};
use syncer_tests::{on_each_kind, wait};

/// Instance 1 with data that its backlog does not reach back to, and instance 2, which loads a file of it for seconds.
struct Loading {
    one: Server,
    two: Server,
    agents: Vec<Agent>,
}

impl Loading {
    fn new(kind: ServerKind, appendonly: &str) -> Self {
        let options = |instance| ServerOptions::instance(instance).module_arg("backlog-size", "1mb");
        let one = Server::start(kind, options(1));
        let two = Server::start(kind, options(2).config("appendonly", appendonly));
        let mut client = one.client();
        let value = "x".repeat(100_000);
        (0..20).for_each(|key| drop(client.ok(&format!("SET large:{key} {value}"))));
        for chunk in 0..20 {
            let names: Vec<String> = (0..100).map(|key| format!("k{chunk}:{key} v")).collect();
            client.ok(&format!("MSET {}", names.join(" ")));
        }
        client.ok("RPUSH l 1 2 3");
        // So that they come back as who they were.
        for server in [&one, &two] {
            wait::eventually("it is saved", || server.client().text("SAVE") == "OK");
        }
        // Microseconds for each key.
        two.client().ok("CONFIG SET key-load-delay 1500");
        // And clients are answered meanwhile.
        two.client().ok("CONFIG SET loading-process-events-interval-bytes 1024");
        let flags = [
            AgentOptions::beside(two.port()).peer(1, one.port()),
            AgentOptions::beside(one.port()).peer(2, two.port()),
        ];
        let this = Self { one, two, agents: flags.map(Agent::start).into() };
        wait::eventually("it loads", || this.loads());
        this
    }

    fn loads(&self) -> bool {
        Client::connect(self.two.port()).is_ok_and(|mut client| client.text("PING").contains("LOADING"))
    }

    /// Both have everything, by a file, and go on.
    fn ends_well(&self) {
        let ask = |server: &Server, line: &str| {
            Client::connect(server.port()).map(|mut client| client.text(line)).unwrap_or_default()
        };
        wait::eventually("instance 2 takes writes", || ask(&self.two, "SET of:two v") == "OK");
        self.one.client().ok("SET of:one v");
        let (mut one, mut two) = (self.one.client(), self.two.client());
        wait::eventually("both have both", || {
            [&mut one, &mut two].iter_mut().all(|client| client.text("MGET of:one of:two") == "[v, v]")
        });
        wait::eventually("they are equal", || one.text("SYNCER.DIGEST") == two.text("SYNCER.DIGEST"));
        assert_eq!((two.text("DBSIZE"), two.text("LRANGE l 0 -1")), ("2023".into(), "[1, 2, 3]".into()));
        assert!(self.two.log().contains("as a file, since"), "{}", self.two.log());
        assert!(number(&self.two, "sync_full_in") <= 1);
    }
}

on_each_kind! {
    fn the_target_is_killed(kind) {
        for appendonly in ["no", "yes"] {
            let mut loading = Loading::new(kind, appendonly);
            loading.two.kill();
            let logged = loading.two.log().len();
            loading.two.restart();
            loading.ends_well();
            // Half a file counts for nothing. (The next one may be merged, into what has been written here meanwhile.)
            let again = loading.two.log().split_off(logged);
            assert!(again.contains("full sync from instance 1 begins"), "appendonly {appendonly}: {again}");
        }
    }

    fn the_agent_is_killed(kind) {
        let mut loading = Loading::new(kind, "no");
        loading.agents[0].kill();
        assert!(loading.loads(), "it has loaded already");
        loading.agents[0].restart();
        loading.ends_well();
    }

    fn the_source_is_killed(kind) {
        let mut loading = Loading::new(kind, "yes");
        loading.one.kill();
        assert!(loading.loads(), "it has loaded already");
        loading.one.restart();
        loading.ends_well();
    }
}
