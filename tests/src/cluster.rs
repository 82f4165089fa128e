//! Several sites that replicate to each other: server with module, agent, and a link through haproxy for each
//! direction.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::Value;

use crate::agent::{Agent, AgentOptions};
use crate::client::Client;
use crate::dataset;
use crate::proxy::{LinkOptions, Proxy};
use crate::reply;
use crate::server::{Server, ServerKind, ServerOptions};
use crate::wait;

/// How long sites may take to agree once nothing hinders them.
const CONVERGENCE_MAX: Duration = Duration::from_secs(90);

/// How long a key past its TTL may stay in a server's DEBUG DIGEST.
const EXPIRY_MAX: Duration = Duration::from_secs(5);

/// How long one SYNCER.AWAIT blocks before [`Cluster::converged`] looks around again.
const AWAIT_MS: u64 = 2_000;

/// How a cluster is set up.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// Further module arguments of every site, by name and value.
    pub module: Vec<(&'static str, &'static str)>,
    /// Further server options of every site, by name and value.
    pub config: Vec<(&'static str, &'static str)>,
    /// Commands that no server has.
    pub without_commands: Vec<&'static str>,
    /// Further arguments of every agent.
    pub agent: Vec<&'static str>,
    /// Instances whose servers have the module of `tests/other_module`, too.
    pub other_module: Vec<u8>,
    /// Which sites know each other's addresses; everybody everybody's if there are none.
    pub edges: Vec<(u8, u8)>,
}

impl ClusterOptions {
    fn are_neighbours(&self, left: u8, right: u8) -> bool {
        self.edges.is_empty() || self.edges.iter().any(|edge| [(left, right), (right, left)].contains(edge))
    }
}

/// One instance: its server and the agent beside it.
#[derive(Debug)]
pub struct Site {
    /// Instance id, from 1.
    pub instance: u8,
    /// The server with the module.
    pub server: Server,
    /// The agent.
    pub agent: Agent,
}

impl Site {
    /// A new connection to the server.
    pub fn client(&self) -> Client {
        self.server.client()
    }
}

/// How sites differ.
#[derive(Clone, Debug, Default)]
pub struct Unequal {
    /// The keys, as `db/key`; none when only digests tell.
    pub keys: BTreeSet<String>,
    /// For messages.
    pub text: String,
}

impl Unequal {
    /// By all that clients can see, groups of streams included.
    pub fn by_value(clients: &mut [Client]) -> Option<Self> {
        let datasets: Vec<_> = clients.iter_mut().map(dataset::read).collect();
        let (first, others) = datasets.split_first()?;
        let keys: BTreeSet<String> =
            others.iter().flat_map(|other| dataset::differing(first, other)).cloned().collect();
        let shown = (2..).zip(others).map(|(instance, other)| {
            format!("instance 1 and instance {instance}:\n{}", dataset::differences(first, other))
        });
        let text = shown.collect::<Vec<_>>().join("\n");
        (!keys.is_empty()).then_some(Self { keys, text })
    }

    /// By the digests of keys: those tell what no value shows.
    fn by_digest(clients: &mut [Client]) -> Self {
        let of = |client: &mut Client| {
            let answer = reply::text_items(&client.cmd("SYNCER.DIGEST KEYS 0-16383 100000"));
            let keys = answer.get(1..).unwrap_or_default().chunks(3).map(|key| (key[..2].join("/"), key[2].clone()));
            keys.collect()
        };
        let sites: Vec<Vec<(String, String)>> = clients.iter_mut().map(of).collect();
        let all: BTreeSet<&(String, String)> = sites.iter().flatten().collect();
        let times =
            |key| sites.iter().map(|site| site.iter().filter(|one| *one == key).count()).collect::<Vec<usize>>();
        let counted = all.into_iter().map(|key| (&key.0, &key.1, times(key)));
        let odd: Vec<(&String, &String, Vec<usize>)> =
            counted.filter(|(.., times)| times.iter().any(|count| *count != 1)).collect();
        let text = format!("digests of keys, and how often each site has them: {odd:?}\n");
        Self { keys: odd.into_iter().map(|(key, ..)| key.clone()).collect(), text }
    }

    /// Adds what each site knows of the first few keys.
    fn tell_known(&mut self, clients: &mut [Client]) {
        const KEYS: usize = 3;
        for key in self.keys.iter().take(KEYS) {
            let Some((db, name)) = key.split_once('/') else { continue };
            for (instance, client) in (1..).zip(clients.iter_mut()) {
                client.ok(&format!("SELECT {db}"));
                let known = client.text(&format!("SYNCER.KEY \"{name}\""));
                client.ok("SELECT 0");
                self.text.push_str(&format!("  {key} at instance {instance}: {known}\n"));
            }
        }
    }
}

/// Sites that replicate to each other, numbered from 1 like their instances: a full mesh if not told otherwise.
#[derive(Debug)]
pub struct Cluster {
    sites: Vec<Site>,
    proxy: Proxy,
}

impl Cluster {
    /// Starts a site of each of these kinds, and waits until all of them know each other.
    pub fn new(kinds: &[ServerKind]) -> Self {
        Self::with(kinds, &ClusterOptions::default())
    }

    /// Starts a site of each of these kinds with these options, and waits until all of them know each other.
    pub fn with(kinds: &[ServerKind], options: &ClusterOptions) -> Self {
        let servers: Vec<Server> =
            (1..).zip(kinds).map(|(instance, &kind)| Server::start(kind, server_options(instance, options))).collect();
        let ports: Vec<u16> = servers.iter().map(Server::port).collect();
        let proxy = Proxy::start(&mesh(&ports));
        let sites = (1..)
            .zip(servers)
            .map(|(instance, server)| {
                let agent = Agent::start(agent_options(instance, &ports, &proxy, options));
                Site { instance, server, agent }
            })
            .collect();
        let cluster = Self { sites, proxy };
        cluster.converged();
        cluster
    }

    /// The site of this instance.
    pub fn site(&self, instance: u8) -> &Site {
        &self.sites[usize::from(instance) - 1]
    }

    /// The site of this instance, to kill or restart parts of it.
    pub fn site_mut(&mut self, instance: u8) -> &mut Site {
        &mut self.sites[usize::from(instance) - 1]
    }

    /// All sites, in order of instance.
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// The proxy between the sites.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// A new connection to the server of this instance.
    pub fn client(&self, instance: u8) -> Client {
        self.site(instance).client()
    }

    /// Cuts both directions between two sites.
    pub fn cut(&self, left: u8, right: u8) {
        self.proxy.cut(&link(left, right));
        self.proxy.cut(&link(right, left));
    }

    /// Cuts everything between all sites.
    pub fn cut_all(&self) {
        self.each_pair(|left, right| self.cut(left, right));
    }

    /// Makes every link whole.
    pub fn heal(&self) {
        self.each_pair(|left, right| self.heal_between(left, right));
    }

    /// Makes both directions between two sites whole.
    pub fn heal_between(&self, left: u8, right: u8) {
        self.proxy.heal(&link(left, right));
        self.proxy.heal(&link(right, left));
    }

    /// Waits until `target` has applied everything that `source` has applied at this moment.
    ///
    /// # Panics
    /// When it does not come to have.
    pub fn caught_up(&self, source: u8, target: u8) {
        let token = self.client(source).cmd("SYNCER.CLOCK");
        let mut target = self.client(target);
        let what = "the target has applied everything of the source";
        wait::until(CONVERGENCE_MAX, what, || covers(&mut target, &token).then_some(()), || self.standing());
    }

    /// Closes every connection between sites; new ones pass at once.
    pub fn kill_sessions(&self) {
        self.each_pair(|left, right| {
            self.proxy.kill_sessions(&link(left, right));
            self.proxy.kill_sessions(&link(right, left));
        });
    }

    /// Waits until every site has applied everything of every other, and checks that they are equal (I-5).
    ///
    /// # Panics
    /// When they don't come to agree in time, or agree and differ: then with the differing keys.
    pub fn converged(&self) {
        let mut clients = self.settled();
        if let Some(unequal) = self.unequal(&mut clients) {
            panic!("sites have applied the same effects and differ (I-5)\n{}", unequal.text);
        }
    }

    /// Waits until every site has applied what any site has written, and compares nothing. Returns a client of each.
    pub fn settled(&self) -> Vec<Client> {
        let mut clients: Vec<Client> = self.sites.iter().map(Site::client).collect();
        self.settle(&mut clients);
        clients
    }

    /// The same, with a client of each site at hand.
    pub fn settle(&self, clients: &mut [Client]) {
        let what = "all sites have applied everything of each other";
        wait::until(CONVERGENCE_MAX, what, || agreed(clients).then_some(()), || self.standing());
    }

    /// How the sites differ in what they hold, if they do. A key past its TTL that a server has yet to delete is no difference.
    pub fn unequal(&self, clients: &mut [Client]) -> Option<Unequal> {
        let mut unequal = None;
        wait::within(EXPIRY_MAX, || {
            unequal = self.unequal_now(clients);
            unequal.as_ref().is_none_or(|unequal| !unequal.keys.is_empty()).then_some(())
        });
        if let Some(unequal) = &mut unequal {
            if unequal.keys.is_empty() {
                let Unequal { keys, text } = Unequal::by_digest(clients);
                unequal.keys = keys;
                unequal.text.push_str(&text);
            }
            unequal.tell_known(clients);
        }
        unequal
    }

    fn unequal_now(&self, clients: &mut [Client]) -> Option<Unequal> {
        let digests: Vec<(String, String)> =
            clients.iter_mut().map(|client| (dataset::digest(client), client.text("SYNCER.DIGEST"))).collect();
        if digests.windows(2).all(|pair| pair[0] == pair[1]) {
            return None;
        }
        let Unequal { keys, text } = Unequal::by_value(clients).unwrap_or_default();
        // Redis counts in DEBUG DIGEST that a hash field has a TTL, Valkey does not: there every value was compared instead.
        let families = self.sites.iter().map(|site| site.server.kind() == ServerKind::Redis8);
        let is_mixed = families.clone().any(|redis| redis) && families.clone().any(|redis| !redis);
        if is_mixed && keys.is_empty() && digests.windows(2).all(|pair| pair[0].1 == pair[1].1) {
            return None;
        }
        Some(Unequal { keys, text: format!("(DEBUG DIGEST, SYNCER.DIGEST): {digests:#?}\n{text}") })
    }

    /// How things stand, for messages.
    fn standing(&self) -> String {
        let site = |site: &Site| {
            let mut client = site.client();
            let [clock, peers] = ["SYNCER.CLOCK", "SYNCER.PEERS"].map(|command| client.text(command));
            format!("instance {} ({})\n  clock {clock}\n  peers {peers}", site.instance, site.server.kind())
        };
        self.sites.iter().map(site).collect::<Vec<_>>().join("\n")
    }

    fn each_pair(&self, mut act: impl FnMut(u8, u8)) {
        for left in &self.sites {
            for right in self.sites.iter().filter(|right| right.instance > left.instance) {
                act(left.instance, right.instance);
            }
        }
    }
}

/// Whether every site covers the clock of every site, and no clock moved while asking (applying may author effects:
/// the re-assertions of I-8).
pub(crate) fn agreed(clients: &mut [Client]) -> bool {
    let before: Vec<Value> = clients.iter_mut().map(|client| client.cmd("SYNCER.CLOCK")).collect();
    if before.iter().any(reply::is_error) {
        return false;
    }
    let covered = clients.iter_mut().all(|client| before.iter().all(|token| covers(client, token)));
    covered && clients.iter_mut().zip(&before).all(|(client, token)| client.cmd("SYNCER.CLOCK") == *token)
}

fn covers(client: &mut Client, token: &Value) -> bool {
    let timeout = AWAIT_MS.to_string();
    reply::text(&client.args(&[b"SYNCER.AWAIT", reply::bytes(token), timeout.as_bytes()])) == "1"
}

/// The name of the link over which the agent of `target` reaches the server of `source`.
pub fn link(target: u8, source: u8) -> String {
    format!("link_{target}_{source}")
}

fn mesh(ports: &[u16]) -> Vec<LinkOptions> {
    let mut links = Vec::new();
    for (target, _) in (1..).zip(ports) {
        for (source, &port) in (1..).zip(ports).filter(|(source, _)| *source != target) {
            links.push(LinkOptions { name: link(target, source), target: port, tls: None });
        }
    }
    links
}

fn server_options(instance: u8, options: &ClusterOptions) -> ServerOptions {
    let with_module =
        options.module.iter().fold(ServerOptions::instance(instance), |all, (name, value)| all.module_arg(name, value));
    let with_others = if options.other_module.contains(&instance) { with_module.other_module() } else { with_module };
    let configured = options.config.iter().fold(with_others, |all, (name, value)| all.config(name, value));
    options.without_commands.iter().fold(configured, |all, name| all.without_command(name))
}

fn agent_options(instance: u8, ports: &[u16], proxy: &Proxy, options: &ClusterOptions) -> AgentOptions {
    let is_peer = |peer: &u8| *peer != instance && options.are_neighbours(instance, *peer);
    let peers = (1..).zip(ports).map(|(peer, _)| peer).filter(is_peer);
    let local = AgentOptions::beside(ports[usize::from(instance) - 1]);
    let meshed = peers.fold(local, |all, peer| all.peer(peer, proxy.port(&link(instance, peer))));
    options.agent.iter().fold(meshed, |all, &arg| all.arg(arg))
}
