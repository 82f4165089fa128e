//! Who is measured: the stock server, the stock primary with a replica, Syncer alone, two sites of Syncer.

use std::time::Duration;

use super::cpu;
use crate::agent::{Agent, AgentOptions};
use crate::client::Client;
use crate::proxy::{LinkOptions, Proxy};
use crate::server::{Server, ServerKind, ServerOptions};
use crate::{reply, wait};

/// How long a target may take to have everything.
const SETTLE_MAX: Duration = Duration::from_secs(300);

const LINK: &str = "link";
const BACK_LINK: &str = "back_link";

/// How a target reaches its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Straight.
    Direct,
    /// Through haproxy, so that it can be cut.
    Proxy,
}

/// One setup: the origin, where clients write, on a core of its own; everything else on the other.
#[derive(Debug)]
pub struct Contestant {
    /// What tables call it.
    pub name: &'static str,
    /// Where clients write.
    pub origin: Server,
    /// The replica, or the other site.
    pub target: Option<Server>,
    // Before the proxy: agents log every broken connection.
    agents: Vec<Agent>,
    proxy: Option<Proxy>,
}

/// CPU time used at each place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// At the origin.
    pub origin: Duration,
    /// By both agents.
    pub agents: Duration,
    /// At the target.
    pub target: Duration,
}

impl Contestant {
    /// The stock server.
    pub fn stock(kind: ServerKind) -> Self {
        Self::single("stock", Server::start(kind, ServerOptions::stock()))
    }

    /// Syncer that nobody reads from yet: the module alone.
    pub fn alone(kind: ServerKind) -> Self {
        Self::single("module alone", Server::start(kind, ServerOptions::instance(1)))
    }

    /// The stock primary with a stock replica.
    pub fn pair(kind: ServerKind, way: Way) -> Self {
        // A replica that falls behind is not thrown away, as a site is not: same room as Syncer's backlog has.
        let roomy = || ServerOptions::stock().config("repl-backlog-size", "256mb");
        let origin = Server::start(kind, roomy());
        let proxy = (way == Way::Proxy).then(|| Proxy::start(&[link(LINK, origin.port())]));
        origin.client().ok("CONFIG SET client-output-buffer-limit \"replica 0 0 0\"");
        let target = Server::start(kind, roomy());
        let port = proxy.as_ref().map_or(origin.port(), |proxy| proxy.port(LINK));
        target.client().ok(&format!("REPLICAOF 127.0.0.1 {port}"));
        target.follows();
        Self { name: "stock pair", origin, target: Some(target), agents: Vec::new(), proxy }.pinned()
    }

    /// A stock primary and who becomes its replica now. They run where the system puts them, see [`Contestant::unpin`].
    pub fn following([origin, target]: [Server; 2]) -> Self {
        target.client().ok(&format!("REPLICAOF 127.0.0.1 {}", origin.port()));
        Self { name: "stock pair", origin, target: Some(target), agents: Vec::new(), proxy: None }
    }

    /// Lets all run where the system puts them, as nobody pins what they operate: a snapshot's child inherits the core of its
    /// server, and there it would wait for who reads it.
    pub fn unpin(&self) {
        let servers = [Some(&self.origin), self.target.as_ref()].into_iter().flatten().map(Server::process);
        servers
            .chain(self.agents.iter().map(Agent::process))
            .for_each(|process| cpu::pin(process.pid(), cpu::ANY_CORE));
    }

    /// Kills the agents: the sites go apart, until [`Contestant::restart_agents`].
    pub fn kill_agents(&mut self) {
        self.agents.iter_mut().for_each(Agent::kill);
    }

    /// Starts them again.
    pub fn restart_agents(&mut self) {
        self.agents.iter_mut().for_each(Agent::restart);
    }

    /// Two sites of Syncer.
    pub fn sites(kind: ServerKind, way: Way) -> Self {
        let servers = [1, 2].map(|instance| Server::start(kind, ServerOptions::instance(instance)));
        let sites = Self::joined(servers, way);
        sites.settle();
        sites
    }

    /// Instances 1 and 2 of Syncer, each with an agent from now on.
    pub fn joined([origin, target]: [Server; 2], way: Way) -> Self {
        let links = [link(LINK, origin.port()), link(BACK_LINK, target.port())];
        let proxy = (way == Way::Proxy).then(|| Proxy::start(&links));
        let reached = |name: &str, server: &Server| proxy.as_ref().map_or(server.port(), |proxy| proxy.port(name));
        let agents = vec![
            Agent::start(AgentOptions::beside(target.port()).peer(1, reached(LINK, &origin))),
            Agent::start(AgentOptions::beside(origin.port()).peer(2, reached(BACK_LINK, &target))),
        ];
        Self { name: "Syncer", origin, target: Some(target), agents, proxy }.pinned()
    }

    fn single(name: &'static str, origin: Server) -> Self {
        Self { name, origin, target: None, agents: Vec::new(), proxy: None }.pinned()
    }

    fn pinned(self) -> Self {
        cpu::pin(self.origin.process().pid(), cpu::ORIGIN_CORE);
        let target = self.target.iter().map(Server::process);
        for process in target.chain(self.agents.iter().map(Agent::process)) {
            cpu::pin(process.pid(), cpu::OTHER_CORE);
        }
        self
    }

    /// Whether this is Syncer with agents.
    pub fn is_syncer(&self) -> bool {
        !self.agents.is_empty()
    }

    /// The replica, or the other site.
    ///
    /// # Panics
    /// When there is none: the section asks only setups that have one.
    pub fn target(&self) -> &Server {
        self.target.as_ref().expect("this setup has a target")
    }

    /// CPU time used so far.
    pub fn used(&self) -> Used {
        let of = |server: &Server| cpu::used(server.process().pid());
        Used {
            origin: of(&self.origin),
            agents: self.agents.iter().map(|agent| cpu::used(agent.process().pid())).sum(),
            target: self.target.as_ref().map(of).unwrap_or_default(),
        }
    }

    /// Waits until the target has everything that the origin has.
    ///
    /// # Panics
    /// When it does not come to have it.
    pub fn settle(&self) {
        let Some(target) = &self.target else { return };
        let (mut origin, mut target) = (self.origin.client(), target.client());
        let has_all = || match self.agents.is_empty() {
            true => replicated(&mut origin),
            false => applied(&mut origin, &mut target),
        };
        let mut has_all = has_all;
        wait::until(SETTLE_MAX, "the target has everything", || has_all().then_some(()), || self.standing());
    }

    /// Removes all keys, everywhere.
    pub fn flush(&self) {
        self.origin.client().ok("FLUSHALL SYNC");
        self.settle();
    }

    /// Cuts origin and target apart, in both directions.
    pub fn cut(&self) {
        self.on_links(Proxy::cut);
    }

    /// Ends the cut.
    pub fn heal(&self) {
        self.on_links(Proxy::heal);
    }

    fn on_links(&self, act: impl Fn(&Proxy, &str)) {
        let proxy = self.proxy.as_ref().expect("this setup was made with a proxy");
        act(proxy, LINK);
        if self.is_syncer() {
            act(proxy, BACK_LINK);
        }
    }

    /// How things stand, for messages.
    pub fn standing(&self) -> String {
        let section = |server: &Server| server.client().text("INFO everything");
        let servers = [Some(&self.origin), self.target.as_ref()];
        let wanted = |line: &&str| ["syncer_", "master_", "slave"].iter().any(|name| line.starts_with(name));
        servers
            .into_iter()
            .flatten()
            .flat_map(|server| {
                section(server).split("\\x0d\\x0a").filter(wanted).map(|line| format!("{line}\n")).collect::<Vec<_>>()
            })
            .collect()
    }
}

fn link(name: &str, target: u16) -> LinkOptions {
    LinkOptions { name: name.to_owned(), target, tls: None }
}

/// WAIT speaks of the writes of its own connection.
fn replicated(origin: &mut Client) -> bool {
    origin.ok("SET settled 1");
    origin.text("WAIT 1 2000") == "1"
}

fn applied(origin: &mut Client, target: &mut Client) -> bool {
    origin.ok("SET settled 1");
    let token = origin.ok("SYNCER.CLOCK");
    reply::text(&target.args(&[&b"SYNCER.AWAIT"[..], reply::bytes(&token), b"2000"])) == "1"
}
