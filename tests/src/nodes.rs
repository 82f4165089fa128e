//! Two instances whose servers are killed, restarted, moved and promoted: every change must cost a partial sync only.

use std::time::Duration;

use crate::agent::{Agent, AgentOptions};
use crate::client::Client;
use crate::server::{Server, ServerKind, ServerOptions};
use crate::stream::Position;
use crate::{dataset, reply, wait};

/// How long nodes may take to agree on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(90);

/// The servers of one instance: a primary and its replicas, in any order, and the agent beside them.
#[derive(Debug)]
pub struct Instance {
    id: u8,
    kind: ServerKind,
    options: ServerOptions,
    /// Its nodes; tests kill, restart and promote them.
    pub nodes: Vec<Server>,
    /// Its agent, which finds the primary among the nodes. None while it is stopped.
    pub agent: Option<Agent>,
}

/// A figure of `INFO` by name; `None` when the node does not answer, or has no such figure.
pub fn figure(node: &Server, name: &str) -> Option<String> {
    let info = ask(node, "INFO everything")?;
    info.split("\\x0d\\x0a").find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::to_owned))
}

/// What a node answers, if it does.
fn ask(node: &Server, line: &str) -> Option<String> {
    let answer = Client::connect(node.port()).ok()?.try_cmd(line).ok()?;
    Some(reply::text(&answer))
}

/// A number of `INFO syncer`; 0 when the node does not answer.
///
/// # Panics
/// When it has no such number.
pub fn number(node: &Server, name: &str) -> u64 {
    if ask(node, "PING").is_none() {
        return 0;
    }
    let value = figure(node, &format!("syncer_{name}")).unwrap_or_else(|| panic!("no {name} at {}", node.port()));
    value.parse().expect("a number")
}

/// A write that is sent again while a server that came back from an old file catches up (`SYNCERBEHIND`).
///
/// # Panics
/// When it is refused for another reason, or not taken in time.
pub fn insist(client: &mut Client, line: &str) {
    let mut answer = String::new();
    let is_taken = || {
        answer = client.text(line);
        (!answer.starts_with("-SYNCERBEHIND ")).then_some(())
    };
    let taken = wait::within(PATIENCE, is_taken);
    assert!(taken.is_some() && !answer.starts_with('-'), "{line}: {answer}");
}

/// Of a node's data, as the server and as Syncer see it.
#[must_use]
pub fn digests(node: &Server) -> [String; 2] {
    ["DEBUG DIGEST", "SYNCER.DIGEST"].map(|line| node.client().text(line))
}

/// Saves a node's data now; another child may run still.
///
/// # Panics
/// When it does not come to that.
pub fn save(node: &Server) {
    wait::eventually("a node saves", || ask(node, "SAVE").as_deref() == Some("OK"));
}

/// Waits until no append-only file is being rewritten, nor is to be.
///
/// # Panics
/// When it does not come to that.
pub fn until_rewritten(node: &Server) {
    wait::eventually("the append-only file is rewritten", || {
        let info = ask(node, "INFO persistence").unwrap_or_default();
        info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
    });
}

/// Two instances.
#[derive(Debug)]
pub struct Pair {
    /// Instance 1, which things are done to.
    pub one: Instance,
    /// Instance 2, with one node.
    pub two: Instance,
}

impl Instance {
    fn start(id: u8, kind: ServerKind, count: usize, options: &ServerOptions) -> Self {
        let primary = Server::start(kind, options.clone());
        let mut nodes = vec![primary];
        for _ in 1..count {
            nodes.push(nodes[0].replica(options.clone()));
        }
        Self { id, kind, options: options.clone(), nodes, agent: None }
    }

    /// One shard of the server's own cluster mode, which has all slots: a primary and a replica.
    fn start_clustered(id: u8, kind: ServerKind) -> Self {
        let options =
            ServerOptions::instance(id).config("cluster-enabled", "yes").config("cluster-node-timeout", "2000");
        let nodes = vec![Server::start(kind, options.clone()), Server::start(kind, options.clone())];
        let (mut primary, mut replica) = (nodes[0].client(), nodes[1].client());
        primary.ok("CLUSTER ADDSLOTSRANGE 0 16383");
        let name = primary.text("CLUSTER MYID");
        replica.ok(&format!("CLUSTER MEET 127.0.0.1 {}", nodes[0].port()));
        let replicates = || replica.text(&format!("CLUSTER REPLICATE {name}")) == "OK";
        wait::eventually("the replica has met its primary", replicates);
        nodes[1].follows();
        wait::eventually("the cluster is whole", || {
            nodes.iter().all(|node| node.client().text("CLUSTER INFO").contains("cluster_state:ok"))
                && primary.text_items(&format!("CLUSTER REPLICAS {name}")).len() == 1
        });
        Self { id, kind, options, nodes, agent: None }
    }

    /// The addresses of all nodes, for agents.
    fn url(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis://{}", addresses.join(","))
    }

    /// The node that is a primary now and takes writes.
    ///
    /// # Panics
    /// When there comes to be none.
    pub fn primary(&self) -> &Server {
        let says_so = |info: String| info.contains("syncer_role:primary");
        let is_primary = |node: &&Server| ask(node, "INFO syncer").is_some_and(says_so);
        let found = || self.nodes.iter().position(|node| is_primary(&node));
        let at = wait::until(PATIENCE, "an instance has a primary", found, || self.standing());
        &self.nodes[at]
    }

    /// A client of the primary.
    pub fn client(&self) -> Client {
        self.primary().client()
    }

    /// One more node, a replica of the primary.
    pub fn grow(&mut self) -> usize {
        let replica = self.primary().replica(self.options.clone());
        self.nodes.push(replica);
        self.nodes.len() - 1
    }

    /// Makes a node the primary, as an operator does without Sentinel, and the others its replicas.
    pub fn promote(&self, node: usize) {
        self.nodes[node].client().ok("REPLICAOF NO ONE");
        let port = self.nodes[node].port();
        for (at, other) in self.nodes.iter().enumerate() {
            if at != node
                && let Ok(mut client) = Client::connect(other.port())
            {
                client.ok(&format!("REPLICAOF 127.0.0.1 {port}"));
                other.follows();
            }
        }
    }

    /// Port and log of each node.
    pub fn logs(&self) -> Vec<(u16, String)> {
        self.nodes.iter().map(|node| (node.port(), node.log())).collect()
    }

    fn standing(&self) -> String {
        let node = |node: &Server| {
            let answers = ["DEBUG DIGEST", "SYNCER.DIGEST", "INFO replication", "SYNCER.STATUS", "SYNCER.PEERS"]
                .map(|line| ask(node, line).unwrap_or_default());
            let log: Vec<String> =
                node.log().lines().filter(|line| line.contains("syncer")).map(str::to_owned).collect();
            format!("node {}: {}\n{}", node.port(), answers.join("\n"), log.join("\n"))
        };
        let nodes: Vec<String> = self.nodes.iter().map(node).collect();
        format!("instance {} ({})\n{}", self.id, self.kind, nodes.join("\n"))
    }
}

impl Pair {
    /// Instance 1 with so many nodes, with these server options at all nodes, and instance 2 with one; waits until they agree.
    pub fn start(kind: ServerKind, nodes: usize, config: &[(&str, &str)]) -> Self {
        let options =
            |id| config.iter().fold(ServerOptions::instance(id), |all, (name, value)| all.config(name, value));
        let one = Instance::start(1, kind, nodes, &options(1));
        let two = Instance::start(2, kind, 1, &options(2));
        Self::of(one, two)
    }

    /// Instance 1 as a shard in the server's own cluster mode, with a replica, and instance 2 with one node.
    pub fn start_clustered(kind: ServerKind) -> Self {
        Self::of(Instance::start_clustered(1, kind), Instance::start(2, kind, 1, &ServerOptions::instance(2)))
    }

    fn of(one: Instance, two: Instance) -> Self {
        let mut pair = Self { one, two };
        pair.restart_agents();
        pair.agree();
        pair
    }

    /// Starts both agents, with the nodes as they are now.
    pub fn restart_agents(&mut self) {
        let (one, two) = (self.one.url(), self.two.url());
        (self.one.agent, self.two.agent) = (None, None);
        self.one.agent = Some(Agent::start(
            AgentOptions::at(one.clone()).peer_url(2, two.clone()).arg("--relay-after-ms").arg("300"),
        ));
        self.two.agent = Some(Agent::start(AgentOptions::at(two).peer_url(1, one).arg("--relay-after-ms").arg("300")));
    }

    /// Ends both agents: what is written now waits.
    pub fn stop_agents(&mut self) {
        (self.one.agent, self.two.agent) = (None, None);
    }

    /// Waits until both primaries have applied what either has, and all nodes are equal: data, digests, backlog of a primary and its
    /// replicas (I-12). No node has had a full sync.
    ///
    /// # Panics
    /// When it does not come to that.
    pub fn agree(&self) {
        let what = "all nodes of both instances agree";
        let standing = || {
            let differ = self.differences();
            format!("{differ}\n{}\n{}\n{}", self.one.standing(), self.two.standing(), self.agent_logs())
        };
        wait::until(PATIENCE, what, || self.agree_now().then_some(()), standing);
        assert_eq!(self.full_syncs(), 0, "full syncs\n{}", standing());
    }

    /// The keys in which the primaries differ, and what each has.
    fn differences(&self) -> String {
        let [one, two] = [&self.one, &self.two].map(|instance| dataset::read(&mut instance.client()));
        dataset::differences(&one, &two)
    }

    /// Whether they do, full syncs or not.
    pub fn agree_now(&self) -> bool {
        let clocks = [&self.one, &self.two].map(|instance| instance.client().text("SYNCER.CLOCK"));
        if clocks[0] != clocks[1] {
            return false;
        }
        let nodes = self.one.nodes.iter().chain(&self.two.nodes);
        let mut clients: Vec<Client> = nodes.filter_map(|node| Client::connect(node.port()).ok()).collect();
        let native: Vec<String> = clients.iter_mut().map(dataset::digest).collect();
        // Replicas in cluster mode cannot tell.
        let logical = clients.iter_mut().map(|client| client.text("SYNCER.DIGEST"));
        let logical: Vec<String> = logical.filter(|digest| !digest.starts_with("-SYNCERROLE")).collect();
        let backlogs = |instance: &Instance| -> Vec<(u64, u64)> {
            let reachable = instance.nodes.iter().filter(|node| ask(node, "PING").is_some());
            reachable
                .map(|node| ["backlog_first_offset", "backlog_end_offset"].map(|field| number(node, field)))
                .map(|[first, end]| (first, end))
                .collect()
        };
        let same = |list: &[(u64, u64)]| list.windows(2).all(|pair| pair[0] == pair[1]);
        let equal = |list: &[String]| list.windows(2).all(|pair| pair[0] == pair[1]);
        equal(&native) && equal(&logical) && same(&backlogs(&self.one)) && same(&backlogs(&self.two))
    }

    /// Snapshots that any node has merged or offered since it started.
    pub fn full_syncs(&self) -> u64 {
        let nodes = self.one.nodes.iter().chain(&self.two.nodes);
        nodes.map(|node| number(node, "sync_full_in") + number(node, "sync_full_out")).sum()
    }

    /// What the agents have said.
    pub fn agent_logs(&self) -> String {
        let logs = [&self.one, &self.two].map(|instance| instance.agent.as_ref().map(Agent::log).unwrap_or_default());
        logs.join("\n")
    }

    /// The bytes of the Active-Active backlog of instance 1 from `from` on, read as instance 2.
    pub fn backlog(&self, from: u64) -> Vec<u8> {
        let mut source = self.one.client();
        let reader = Position::of(&mut self.two.client(), 1);
        let replid = Position::of(&mut source, 2).own_replid;
        let line = format!("SYNCER.PSYNC 1 * 2 {} * {replid} {from}", reader.own_replid);
        let mut words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        words.push(&reader.clock);
        let welcome = source.args(&words);
        let mut bytes = Vec::new();
        assert_eq!(reply::text(&reply::items(&welcome)[0]), "CONTINUE", "{}", reply::text(&welcome));
        loop {
            let answer = source.ok("SYNCER.READ 1000000 10");
            let [.., frames] = reply::items(&answer) else { panic!("SYNCER.READ answers {}", reply::text(&answer)) };
            let frames = reply::bytes(frames);
            if frames.is_empty() {
                return bytes;
            }
            bytes.extend_from_slice(frames);
        }
    }
}
