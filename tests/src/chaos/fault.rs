//! What is done to the sites, at random.

use std::collections::BTreeMap;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::figures::Logged;
use super::history::History;
use super::link::Mode;
use super::sample::Sample;
use super::site::ChaosSite;
use super::survival::{Keeps, Place, Role};
use crate::client::Client;
use crate::server::Server;

/// How a hand-over ends that was none.
const GIVEN_UP: &str = "given up by the server";
/// How long a snapshot that is asked for is waited for.
const SNAPSHOT_WITHIN: Duration = Duration::from_secs(2);
/// How long a server may take to tell that its child is dead.
const TOLD_WITHIN: Duration = Duration::from_millis(500);
/// Children of small data do not live long.
const LOOK_EVERY: Duration = Duration::from_micros(500);
/// A server that takes longer to say what it has is not asked.
const PATIENCE: Duration = Duration::from_secs(20);

/// Kinds of faults, by the names that `--faults` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// An agent is killed and started again.
    KillAgent,
    /// An agent hangs for a while (SIGSTOP).
    PauseAgent,
    /// A server hangs for a while.
    PauseServer,
    /// The links between two sites are cut for a while, in one direction or both.
    Cut,
    /// They hang, with connections open.
    Hang,
    /// They are slow.
    Slow,
    /// Children of a server are killed: snapshots, AOF rewrites, saves.
    KillChild,
    /// A full sync is asked for, and the child that writes its snapshot is killed.
    KillSnapshot,
    /// A save or an AOF rewrite begins.
    Save,
    /// A full sync is asked for by hand.
    Resync,
    /// A replica is killed and started again.
    KillReplica,
    /// A primary is killed and started again, in place.
    KillPrimary,
    /// A primary hands over to its replica (FAILOVER): nothing may be lost.
    HandOver,
    /// The replica is promoted while the primary lives (REPLICAOF NO ONE): the last writes may be lost.
    Promote,
    /// The primary is killed and the replica promoted: the last writes may be lost.
    Crash,
}

impl Fault {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 15] = [
        ("kill-agent", Self::KillAgent),
        ("pause-agent", Self::PauseAgent),
        ("pause-server", Self::PauseServer),
        ("cut", Self::Cut),
        ("hang", Self::Hang),
        ("slow", Self::Slow),
        ("kill-child", Self::KillChild),
        ("kill-snapshot", Self::KillSnapshot),
        ("save", Self::Save),
        ("resync", Self::Resync),
        ("kill-replica", Self::KillReplica),
        ("kill-primary", Self::KillPrimary),
        ("hand-over", Self::HandOver),
        ("promote", Self::Promote),
        ("crash", Self::Crash),
    ];

    /// By its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, fault)| *fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, fault)| fault == self).map_or("", |(name, _)| name);
        out.write_str(name)
    }
}

/// What ends a fault that lasts.
#[derive(Clone, Debug)]
enum Cure {
    Resume { site: usize, node: usize },
    ResumeAgent { site: usize },
    Heal { site: usize, other: u8 },
    Restart { site: usize, node: usize },
}

/// The sites and what is wrong with them at the moment.
pub struct Patients<'a> {
    /// All sites.
    pub sites: &'a mut Vec<ChaosSite>,
    /// Told of what may be lost.
    pub history: &'a History,
    /// All random choices.
    pub random: &'a mut Rng,
    /// Faults that were done.
    pub done: BTreeMap<Fault, u64>,
    cures: Vec<(Instant, Cure)>,
    /// What a primary that was killed had in its file, by site and server.
    had: BTreeMap<(usize, usize), Sample>,
}

impl<'a> Patients<'a> {
    /// Nothing is wrong yet.
    pub fn new(sites: &'a mut Vec<ChaosSite>, history: &'a History, random: &'a mut Rng) -> Self {
        Self { sites, history, random, done: BTreeMap::new(), cures: Vec::new(), had: BTreeMap::new() }
    }

    /// Ends what has lasted long enough. What was ended.
    pub fn cure_due(&mut self, now: Instant) -> Vec<String> {
        let (due, rest) = std::mem::take(&mut self.cures).into_iter().partition::<Vec<_>, _>(|(at, _)| *at <= now);
        self.cures = rest;
        due.into_iter().map(|(_, cure)| self.cure(cure)).collect()
    }

    /// Ends everything.
    pub fn cure_all(&mut self) -> Vec<String> {
        let all = std::mem::take(&mut self.cures);
        all.into_iter().map(|(_, cure)| self.cure(cure)).collect()
    }

    fn cure(&mut self, cure: Cure) -> String {
        match cure {
            Cure::Resume { site, node } => self.sites[site].nodes[node].process().resume(),
            Cure::ResumeAgent { site } => self.sites[site].agent().process().resume(),
            Cure::Heal { site, other } => self.sites[site].set_links(other, Mode::Whole),
            Cure::Restart { site, node } => {
                self.sites[site].restart(node);
                if let Some(had) = self.had.remove(&(site, node)) {
                    self.must_have(site, &had, "a primary with appendfsync always had when it was killed");
                }
                if self.sites[site].primary == node {
                    self.sites[site].announce();
                }
            }
        }
        format!("over: {cure:?}")
    }

    fn later(&mut self, cure: Cure, at_most: Duration) {
        let lasts = at_most.mul_f64(0.1 + 0.9 * self.random.f64());
        self.cures.push((Instant::now() + lasts, cure));
    }

    /// A server that is killed or hangs is left alone: two faults at once there would say nothing more.
    fn is_ill(&self, index: usize) -> bool {
        self.cures.iter().any(|(_, cure)| match cure {
            Cure::Resume { site, .. } | Cure::Restart { site, .. } => *site == index,
            Cure::ResumeAgent { .. } | Cure::Heal { .. } => false,
        })
    }

    fn agent_is_paused(&self, index: usize) -> bool {
        self.cures.iter().any(|(_, cure)| matches!(cure, Cure::ResumeAgent { site } if *site == index))
    }

    /// Does it to a random site. What was done; `None` when it does not fit now.
    pub fn inflict(&mut self, fault: Fault) -> Option<String> {
        let done = self.attempt(fault)?;
        if !done.ends_with(GIVEN_UP) {
            *self.done.entry(fault).or_default() += 1;
        }
        Some(done)
    }

    fn attempt(&mut self, fault: Fault) -> Option<String> {
        let site = self.random.usize(0..self.sites.len());
        let other = {
            let others = self.sites.iter().map(|site| site.instance).filter(|id| *id != self.sites[site].instance);
            let others: Vec<u8> = others.collect();
            others[self.random.usize(0..others.len())]
        };
        let instance = self.sites[site].instance;
        match fault {
            Fault::KillAgent | Fault::PauseAgent => self.agent(site, fault)?,
            Fault::Cut | Fault::Hang | Fault::Slow => return Some(self.link(site, other, fault)),
            Fault::Resync => {
                let mut client = self.sites[site].client().filter(|_| !self.is_ill(site))?;
                let answer = client.try_cmd(&format!("SYNCER.RESYNC {other}")).ok()?;
                return Some(format!("{fault} of {instance} from {other}: {}", crate::reply::text(&answer)));
            }
            Fault::KillSnapshot => return self.kill_snapshot(site, other),
            _ if self.is_ill(site) => return None,
            _ => return self.server(site, fault),
        }
        Some(format!("{fault} of {instance}"))
    }

    fn agent(&mut self, site: usize, fault: Fault) -> Option<()> {
        if self.agent_is_paused(site) {
            return None;
        }
        match fault {
            Fault::KillAgent => self.sites[site].agent_mut().restart(),
            _ => {
                self.sites[site].agent().process().pause();
                self.later(Cure::ResumeAgent { site }, Duration::from_secs(4));
            }
        }
        Some(())
    }

    fn link(&mut self, site: usize, other: u8, fault: Fault) -> String {
        let mode = match fault {
            Fault::Cut => Mode::Cut,
            Fault::Hang => Mode::Hanging,
            _ => Mode::Slow {
                bytes_per_second: 1 << self.random.u32(14..22),
                latency: Duration::from_millis(self.random.u64(0..200)),
            },
        };
        let back = self.sites.iter().position(|site| site.instance == other).filter(|_| self.random.bool());
        let instance = self.sites[site].instance;
        for (site, other) in std::iter::once((site, other)).chain(back.map(|back| (back, instance))) {
            self.sites[site].set_links(other, mode);
            self.later(Cure::Heal { site, other }, Duration::from_secs(6));
        }
        format!("{fault} {instance} <- {other}{} {mode:?}", if back.is_some() { " and back" } else { "" })
    }

    fn server(&mut self, site: usize, fault: Fault) -> Option<String> {
        let node = self.random.usize(0..2);
        let instance = self.sites[site].instance;
        let primary = self.sites[site].primary;
        let mut done = format!("{fault} of {instance}");
        match fault {
            Fault::PauseServer => {
                self.sites[site].nodes[node].process().pause();
                self.later(Cure::Resume { site, node }, Duration::from_secs(3));
                done = format!("{done}, {}", if node == primary { "primary" } else { "replica" });
            }
            Fault::KillChild => {
                let server = &self.sites[site].nodes[node];
                let mut killed = server.process().kill_children();
                if killed == 0 {
                    // Children of small data do not live long.
                    let command = if node == primary { "BGREWRITEAOF" } else { "BGSAVE" };
                    let _ = server.client().try_cmd(command).ok()?;
                    killed = server.process().kill_children();
                }
                return (killed > 0).then_some(format!("{done}: {killed}"));
            }
            Fault::Save => {
                let command = if self.random.bool() { "BGSAVE" } else { "BGREWRITEAOF" };
                // Refused while another child runs.
                let _ = self.sites[site].nodes[node].client().try_cmd(command).ok()?;
                done = format!("{done}: {command}");
            }
            Fault::KillReplica => self.kill(site, 1 - primary),
            Fault::KillPrimary => self.kill_primary(site),
            Fault::HandOver => {
                let had = self.sample(self.sites[site].primary());
                let outcome = self.sites[site].hand_over();
                if let Some(had) = had.filter(|_| outcome) {
                    self.must_have(site, &had, "its primary had when it handed over");
                }
                done = format!("{done}: {}", if outcome { "done" } else { GIVEN_UP });
            }
            Fault::Promote | Fault::Crash if !self.sites[site].replica_follows() => return None,
            Fault::Promote => self.promote(site, None),
            Fault::Crash => self.promote(site, Some(primary)),
            _ => return None,
        }
        Some(done)
    }

    /// Whatever the primary of a site forks next, for this reader, is killed before it is done. Unless it is too fast, or cannot be asked.
    fn kill_snapshot(&mut self, site: usize, reader: u8) -> Option<String> {
        let at = self.sites.iter().position(|site| site.instance == reader)?;
        if self.is_ill(site) || self.is_ill(at) || self.agent_is_paused(at) {
            return None;
        }
        let instance = self.sites[site].instance;
        let server = self.sites[site].primary();
        let killed = Logged::of(server).snapshots_killed;
        let _ = self.sites[at].client()?.try_cmd(&format!("SYNCER.RESYNC {instance}")).ok()?;
        let end = Instant::now() + SNAPSHOT_WITHIN;
        while server.process().kill_children() == 0 && Instant::now() < end {
            thread::sleep(LOOK_EVERY);
        }
        // The server says what it was that died, and of what.
        let is_dead = || Logged::of(server).snapshots_killed > killed;
        while !is_dead() && Instant::now() < end + TOLD_WITHIN {
            thread::sleep(LOOK_EVERY * 20);
        }
        is_dead().then(|| format!("{} of {instance} for {reader}", Fault::KillSnapshot))
    }

    fn kill(&mut self, site: usize, node: usize) {
        self.sites[site].nodes[node].kill();
        self.later(Cure::Restart { site, node }, Duration::from_secs(4));
    }

    fn kill_primary(&mut self, site: usize) {
        let node = self.sites[site].primary;
        let keeps = self.sites[site].keeps_in_place();
        if let Some(had) = self.sample(self.sites[site].primary()).filter(|_| keeps == Keeps::File) {
            self.had.insert((site, node), had);
        }
        self.history.lost(self.sites[site].loss(keeps));
        self.kill(site, node);
    }

    /// The replica becomes the primary, perhaps after the primary was killed.
    fn promote(&mut self, site: usize, killed: Option<usize>) {
        let had = self.sample(self.sites[site].replica());
        let place =
            Place { site: self.sites[site].instance, generation: self.sites[site].generation(), role: Role::Replica };
        self.history.lost(self.sites[site].loss(Keeps::Replica));
        killed.into_iter().for_each(|node| self.kill(site, node));
        self.sites[site].promote();
        if let Some(had) = had {
            self.history.saw(place, &had);
            self.must_have(site, &had, "its replica had when it was promoted");
        }
    }

    fn sample(&self, server: &Server) -> Option<Sample> {
        let mut client = Client::connect(server.port()).ok()?;
        client.patience(PATIENCE);
        Sample::take(&mut client, &self.history.connections())
    }

    /// The primary of a site has all that was found somewhere.
    fn must_have(&self, site: usize, had: &Sample, what: &str) {
        let site = &self.sites[site];
        if let Some(lost) = self.sample(site.primary()).and_then(|has| has.lacks(had)) {
            let generation = site.generation();
            self.history
                .is_wrong(format!("site {}, generation {generation}, lacks what {what}: {lost}", site.instance));
        }
    }
}
