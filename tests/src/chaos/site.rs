//! One site under test: two servers, one of them the primary, and the agent beside them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::link::{Link, Mode};
use super::survival::{Keeps, Loss, written_before};
use super::writer::Target;
use crate::agent::{Agent, AgentOptions};
use crate::client::Client;
use crate::server::{Server, ServerKind, ServerOptions};
use crate::{reply, wait};

/// What a site's servers keep over a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: a server that is killed comes back empty.
    None,
    /// An AOF; of a killed process it has everything acknowledged.
    Always,
    /// An AOF; of a killed process it may lack the last two seconds, see [`super::survival`].
    EverySecond,
    /// An RDB file now and then.
    Snapshots,
}

/// How sites are started.
#[derive(Clone, Debug)]
pub struct SiteOptions {
    /// The kind of its servers.
    pub kind: ServerKind,
    /// What they keep.
    pub durability: Durability,
    /// `backlog-size`.
    pub backlog: String,
    /// How many seconds the wall clocks of its servers are off.
    pub clocks: [i32; 2],
}

/// One site.
#[derive(Debug)]
pub struct ChaosSite {
    /// Its instance id.
    pub instance: u8,
    /// How its servers are started.
    pub options: SiteOptions,
    /// Its servers.
    pub nodes: [Server; 2],
    /// Which of them is the primary.
    pub primary: usize,
    /// What its writers know of it.
    pub target: Arc<Target>,
    /// When this generation began.
    since: Instant,
    /// Set once the mesh is there.
    agent: Option<Agent>,
    /// By the other site, then by its server: the ways of this site's agent to them.
    pub links: Vec<(u8, [Link; 2])>,
}

impl SiteOptions {
    fn server(&self, instance: u8, node: usize) -> ServerOptions {
        // Saves are killed on purpose: a replica of Valkey 9.1 would end itself at its next write.
        let options = ServerOptions::instance(instance)
            .clock_off(self.clocks[node])
            .module_arg("backlog-size", &self.backlog)
            .module_arg("functions", "on")
            .module_arg("publish", "all")
            .config("stop-writes-on-bgsave-error", "no");
        match self.durability {
            Durability::None => options,
            Durability::Always => options.config("appendonly", "yes").config("appendfsync", "always"),
            Durability::EverySecond => options.config("appendonly", "yes").config("appendfsync", "everysec"),
            Durability::Snapshots => options.config("save", "2 1"),
        }
    }
}

impl ChaosSite {
    /// Starts both servers.
    pub fn start(instance: u8, options: SiteOptions) -> Self {
        let primary = Server::start(options.kind, options.server(instance, 0));
        let replica = primary.replica(options.server(instance, 1));
        let target = Arc::new(Target::default());
        target.port.store(primary.port(), Ordering::SeqCst);
        target.replica.store(replica.port(), Ordering::SeqCst);
        let (nodes, since) = ([primary, replica], Instant::now());
        Self { instance, options, nodes, primary: 0, target, since, agent: None, links: Vec::new() }
    }

    /// Starts the agent, with a link to each server of the other sites.
    pub fn join(&mut self, others: &[(u8, [u16; 2])]) {
        let [left, right] = self.ports();
        let mut options = AgentOptions::at(format!("redis://127.0.0.1:{left},127.0.0.1:{right}"))
            .arg("--retry-max-ms")
            .arg("1000")
            .arg("--relay-after-ms")
            .arg("1000");
        for (other, ports) in others {
            let links = ports.map(|port| Link::start(port).expect("a loopback port is free"));
            let [left, right] = [links[0].port(), links[1].port()];
            options = options.peer_url(*other, format!("redis://127.0.0.1:{left},127.0.0.1:{right}"));
            self.links.push((*other, links));
        }
        self.agent = Some(Agent::start(options));
    }

    /// Who is killed before its first RDB file is written comes back without its state, and the others refuse it until somebody mends that.
    pub fn write_first_files(&self) {
        if self.options.durability == Durability::Snapshots {
            for node in &self.nodes {
                // Perhaps the server has begun one itself.
                wait::eventually("a first file is written", || !reply::is_error(&node.client().cmd("SAVE")));
            }
        }
    }

    /// The ports of its servers.
    pub fn ports(&self) -> [u16; 2] {
        [self.nodes[0].port(), self.nodes[1].port()]
    }

    /// The primary.
    pub fn primary(&self) -> &Server {
        &self.nodes[self.primary]
    }

    /// The replica.
    pub fn replica(&self) -> &Server {
        &self.nodes[1 - self.primary]
    }

    /// A connection to the primary, unless it is away.
    pub fn client(&self) -> Option<Client> {
        Client::connect(self.primary().port()).ok()
    }

    /// Whether the replica has its primary's data, so that it may be promoted.
    pub fn replica_follows(&self) -> bool {
        let info =
            Client::connect(self.replica().port()).ok().and_then(|mut client| client.try_cmd("INFO replication").ok());
        info.is_some_and(|info| reply::text(&info).contains("master_link_status:up"))
    }

    /// Its agent.
    pub fn agent(&self) -> &Agent {
        self.agent.as_ref().expect("the site has joined")
    }

    /// Its agent, to kill or restart.
    pub fn agent_mut(&mut self) -> &mut Agent {
        self.agent.as_mut().expect("the site has joined")
    }

    /// What the links to one other site do.
    pub fn set_links(&self, other: u8, mode: Mode) {
        for (_, links) in self.links.iter().filter(|(to, _)| *to == other) {
            links.iter().for_each(|link| link.set(mode));
        }
    }

    /// How it is called at this moment, see [`super::survival`].
    pub fn generation(&self) -> u64 {
        self.target.generation.load(Ordering::SeqCst)
    }

    /// This generation ends, and so much is left.
    pub fn loss(&self, keeps: Keeps) -> Loss {
        Loss { site: self.instance, generation: self.generation(), since: self.since, keeps }
    }

    /// What is left when its primary is killed and comes back. To be asked just before.
    pub fn keeps_in_place(&self) -> Keeps {
        let asked = Instant::now();
        let info = self.client().and_then(|mut client| client.try_cmd("INFO persistence").ok());
        let info = info.map(|info| reply::text(&info)).unwrap_or_default();
        // Who was a replica and took a whole dataset begins its file anew, and has only an older one until the first rewrite is done.
        let has_file = ["aof_enabled:1", "aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0"]
            .iter()
            .all(|line| info.contains(&format!("{line}\\x0d")));
        match self.options.durability {
            Durability::Always if has_file => Keeps::File,
            Durability::EverySecond if has_file => Keeps::FileOf(written_before(asked)),
            _ => Keeps::Old,
        }
    }

    /// The writers go to the primary of this moment, over new connections.
    pub fn announce(&mut self) {
        self.target.port.store(self.primary().port(), Ordering::SeqCst);
        self.target.replica.store(self.replica().port(), Ordering::SeqCst);
        self.since = Instant::now();
        self.target.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Starts a killed server again: the replica as a replica, whatever it was before.
    pub fn restart(&mut self, node: usize) {
        let options = self.options.server(self.instance, node);
        let options = match node == self.primary {
            true => options,
            false => options.config("replicaof", &format!("127.0.0.1 {}", self.primary().port())),
        };
        self.nodes[node].restart_with(options);
    }

    /// Ends the primary as a service manager does, so that nothing is lost, and starts it again.
    pub fn restart_in_order(&mut self) {
        self.nodes[self.primary].terminate();
        self.restart(self.primary);
    }

    /// The other server becomes the primary; the one that was it becomes its replica if it is there, else it is for
    /// [`ChaosSite::restart`].
    pub fn promote(&mut self) {
        let old = self.primary;
        self.primary = 1 - old;
        // A busy server takes its time.
        wait::eventually("the replica takes the promotion", || {
            self.client()
                .is_some_and(|mut client| client.try_cmd("REPLICAOF NO ONE").is_ok_and(|ok| !reply::is_error(&ok)))
        });
        self.announce();
        if let Ok(mut client) = Client::connect(self.nodes[old].port()) {
            // When it dies in between it is restarted as a replica.
            let _ = client.try_cmd(&format!("REPLICAOF 127.0.0.1 {}", self.primary().port()));
        }
    }

    /// Has the primary hand over to the replica, losing nothing. Whether it did.
    pub fn hand_over(&mut self) -> bool {
        let Some(mut client) = self.client() else { return false };
        let to = self.replica().port();
        let started = client.try_cmd(&format!("FAILOVER TO 127.0.0.1 {to} TIMEOUT 3000"));
        if !started.is_ok_and(|answer| !reply::is_error(&answer)) {
            return false;
        }
        // It ends one way or the other.
        let role = || reply::text_items(&Client::connect(to).ok()?.try_cmd("ROLE").ok()?).first().cloned();
        let state = || client.try_cmd("INFO replication").map(|info| reply::text(&info)).unwrap_or_default();
        let mut state = state;
        wait::eventually("the failover has ended", || state().contains("master_failover_state:no-failover"));
        if role().as_deref() != Some("master") {
            return false;
        }
        self.primary = 1 - self.primary;
        self.announce();
        true
    }
}
