//! `./run chaos`: three sites of real servers, each a primary with a replica and an agent, under load, while servers, agents and links fail
//! at random; then everything is healed, and every node must hold the same, and exactly what the acknowledged writes say.
//!
//! | file | |
//! |---|---|
//! | [`mod@write`], `free` | what the writers write: a function of who writes it |
//! | [`writer`] | the connections that do |
//! | [`history`], `sequence`, `value`, `order` | what was acknowledged, and what must therefore be there |
//! | [`survival`], [`sample`] | who had what at which moment, and what may be lost of it |
//! | [`figures`], [`tally`] | what the servers count; what a run did, and must have done |
//! | [`fault`] | what is done to the sites |
//! | [`site`], [`link`] | servers, agents and the links between them |
//! | [`evidence`] | what is kept of a failure |

pub mod evidence;
pub mod fault;
pub mod figures;
mod free;
pub mod history;
pub mod link;
mod order;
pub mod sample;
mod sequence;
pub mod site;
pub mod survival;
pub mod tally;
mod value;
pub mod write;
pub mod writer;

use std::any::Any;
use std::ops::Add;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::members::status;
use crate::server::ServerKind;
use crate::{reply, wait};
use evidence::Timeline;
use fault::{Fault, Patients};
use figures::{Figures, Logged};
use history::History;
use sample::Sampler;
use site::{ChaosSite, Durability, SiteOptions};
use tally::Tally;
use write::LIBRARIES;
use writer::Writer;

/// Writers at each site.
const WRITERS: u8 = 2;
/// So many seconds at most the clock of a server is off: also from that of its replica, which may be promoted.
const CLOCK_OFF_MAX: i32 = 6;
/// How long healed sites may take to agree.
const SETTLE_MAX: Duration = Duration::from_secs(120);
/// A site that takes longer waits for some time-out, or for a CPU: what it lacks is noted.
const SETTLE_SLOW: Duration = Duration::from_secs(20);
/// A run that is this long must have done what it is for.
const DEMANDED_AFTER: Duration = Duration::from_secs(120);

/// What to do.
#[derive(Clone, Debug)]
pub struct ChaosOptions {
    /// All random choices come from it (what the machine does in between does not).
    pub seed: u64,
    /// For how long, healing not counted.
    pub duration: Duration,
    /// After so long everything is healed and compared, then it goes on.
    pub round: Duration,
    /// Transactions a second, at all sites together; each has six to ten write commands.
    pub rate: u32,
    /// The faults to choose from.
    pub faults: Vec<Fault>,
    /// `backlog-size`: a small one forces full syncs.
    pub backlog: String,
    /// One kind a site.
    pub kinds: Vec<ServerKind>,
    /// Also on standard output.
    pub is_loud: bool,
    /// Done at a primary once every round is over: to prove that the history sees it.
    pub sabotage: Option<fn(&mut Client)>,
}

impl Default for ChaosOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            duration: Duration::from_secs(600),
            round: Duration::from_secs(30),
            rate: 600,
            faults: Fault::ALL.iter().map(|(_, fault)| *fault).collect(),
            backlog: "1mb".to_owned(),
            kinds: ServerKind::mixed(3),
            is_loud: true,
            sabotage: None,
        }
    }
}

/// A run.
pub struct Chaos {
    options: ChaosOptions,
    sites: Vec<ChaosSite>,
    history: Arc<History>,
    figures: Arc<Figures>,
    timeline: Timeline,
    /// The next connection of each writer, by site and number.
    epochs: Vec<[u32; WRITERS as usize]>,
    tally: Tally,
}

/// Runs it all.
///
/// # Errors
/// What is wrong, and where the evidence is.
pub fn run(options: ChaosOptions) -> Result<Tally, String> {
    let mut chaos = Chaos::start(options);
    // What the harness waits for in vain is a failure as any other.
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| chaos.rounds()));
    let outcome = outcome.unwrap_or_else(|panic| Err(panic_text(panic.as_ref())));
    match outcome {
        Ok(()) => Ok(chaos.tally),
        Err(wrong) => {
            chaos.timeline.note(&format!("FAILED: {wrong}"));
            let folder = evidence::keep(&chaos.sites, &chaos.timeline);
            Err(format!("{wrong}\nseed {}; logs, files and states are in {}", chaos.options.seed, folder.display()))
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic").to_owned()
}

impl Chaos {
    fn start(options: ChaosOptions) -> Self {
        // Of its own, so that the faults of a seed stay what they were.
        let mut random = fastrand::Rng::with_seed(options.seed ^ 0xc10c);
        let durability = [Durability::Always, Durability::Snapshots, Durability::EverySecond];
        let mut sites: Vec<ChaosSite> = (1..)
            .zip(options.kinds.iter().zip(durability.iter().cycle()))
            .map(|(instance, (&kind, &durability))| {
                let clocks = [(); 2].map(|()| random.i32(-CLOCK_OFF_MAX..=CLOCK_OFF_MAX));
                ChaosSite::start(instance, SiteOptions { kind, durability, backlog: options.backlog.clone(), clocks })
            })
            .collect();
        let ports: Vec<(u8, [u16; 2])> = sites.iter().map(|site| (site.instance, site.ports())).collect();
        for site in &mut sites {
            let others: Vec<_> = ports.iter().copied().filter(|(id, _)| *id != site.instance).collect();
            site.join(&others);
        }
        let timeline = Timeline::start(options.seed, options.is_loud);
        let clocks: Vec<[i32; 2]> = sites.iter().map(|site| site.options.clocks).collect();
        timeline.note(&format!("seconds that clocks are off, by site and server: {clocks:?}"));
        let epochs = vec![[0; WRITERS as usize]; sites.len()];
        let history = Arc::new(History::new(timeline.begun()));
        Self { options, sites, history, figures: Arc::default(), timeline, epochs, tally: Tally::default() }
    }

    fn rounds(&mut self) -> Result<(), String> {
        let mut random = fastrand::Rng::with_seed(self.options.seed);
        self.settle()?;
        self.sites.iter().for_each(ChaosSite::write_first_files);
        let mut left = self.options.duration;
        while !left.is_zero() {
            let round = left.min(self.options.round);
            left -= round;
            self.round(round, &mut random);
            self.tally.rounds += 1;
            self.settle()?;
            self.check()?;
        }
        let Self { tally, options, .. } = self;
        tally.lacks(options.duration, DEMANDED_AFTER, &options.faults).map_or(Ok(()), Err)
    }

    /// Writes and faults for a while, then all is healed and nobody writes.
    fn round(&mut self, duration: Duration, random: &mut fastrand::Rng) {
        let (stop, begun) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let end = begun + duration;
        self.history.next_round();
        let writers = self.start_writers(&stop);
        let sampler = self.start_sampler(&stop);
        let Self { sites, history, timeline, options, tally, .. } = self;
        let mut patients = Patients::new(sites, history, random);
        while Instant::now() < end {
            thread::sleep(Duration::from_millis(patients.random.u64(100..1_500)));
            patients.cure_due(Instant::now()).iter().for_each(|text| timeline.note(text));
            let Some(&fault) = patients.random.choice(&options.faults) else { continue };
            if let Some(done) = patients.inflict(fault) {
                timeline.note(&done);
            }
        }
        patients.cure_all().iter().for_each(|text| timeline.note(text));
        patients.done.iter().for_each(|(fault, count)| *tally.faults.entry(*fault).or_default() += count);
        timeline.note("all healed");
        stop.store(true, Ordering::Relaxed);
        for (site, number, writer) in writers {
            self.epochs[site][number] = writer.join().expect("a writer does not panic");
        }
        self.tally.writing += begun.elapsed();
        sampler.join().expect("a sampler does not panic");
        if let Some(sabotage) = self.options.sabotage {
            sabotage(&mut self.sites[0].primary().client());
        }
    }

    fn start_sampler(&self, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
        let sampler = Sampler {
            targets: self.sites.iter().map(|site| (site.instance, site.target.clone())).collect(),
            history: self.history.clone(),
            figures: self.figures.clone(),
            stop: stop.clone(),
            // Not of the faults, so that those of a seed stay what they were.
            random: fastrand::Rng::with_seed(self.options.seed ^ 0x5a3b ^ self.history.round()),
        };
        thread::spawn(move || sampler.run())
    }

    fn start_writers(&self, stop: &Arc<AtomicBool>) -> Vec<(usize, usize, JoinHandle<u32>)> {
        let others = self.sites.len() as u32 - 1;
        let count = self.sites.len() as u32 * u32::from(WRITERS);
        let pace = Duration::from_secs_f64(f64::from(count) / f64::from(self.options.rate.max(1)));
        let one = |index: usize, number: u8| {
            let site = &self.sites[index];
            let writer = Writer {
                site: site.instance,
                number,
                others,
                target: site.target.clone(),
                history: self.history.clone(),
                stop: stop.clone(),
                pace,
            };
            let first_epoch = self.epochs[index][usize::from(number)];
            (index, usize::from(number), thread::spawn(move || writer.run(first_epoch)))
        };
        (0..self.sites.len()).flat_map(|index| (0..WRITERS).map(move |number| one(index, number))).collect()
    }

    /// Waits until all sites have applied everything of each other, and the replicas too.
    fn settle(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        let (deadline, mut noted) = (begun + SETTLE_MAX, begun + SETTLE_SLOW);
        loop {
            let state = self.settled();
            if let Some(why) = state.as_ref().err().filter(|_| Instant::now() > noted) {
                self.timeline.note(&format!("has not settled after {:.1} s: {why}", begun.elapsed().as_secs_f64()));
                self.timeline.note(&format!("so far: {}", evidence::keep(&self.sites, &self.timeline).display()));
                noted += SETTLE_SLOW;
                self.restart_superseded();
            }
            match state {
                Ok(()) => {
                    self.timeline.note(&format!("settled after {:.1} s", begun.elapsed().as_secs_f64()));
                    return Ok(());
                }
                Err(why) if Instant::now() > deadline => {
                    return Err(format!("the sites do not settle within {SETTLE_MAX:?}: {why}"));
                }
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// As its message tells an operator to do: a primary that came back from before a reign whose clock was ahead of its own, and that no server has any more, is
    /// restarted, and begins a later one (seed 15001).
    fn restart_superseded(&mut self) {
        for site in &mut self.sites {
            let by = site.client().map(|mut client| status(&mut client, "superseded_by")).unwrap_or_default();
            if !by.is_empty() {
                self.timeline
                    .note(&format!("the primary of {} is superseded by {by}, which is gone: restarted", site.instance));
                site.restart_in_order();
            }
        }
    }

    fn settled(&mut self) -> Result<(), String> {
        let mut clients = Vec::new();
        for site in &self.sites {
            if !site.replica_follows() {
                return Err(format!("the replica of site {} does not follow", site.instance));
            }
            clients.push(site.client().ok_or_else(|| format!("the primary of site {} is away", site.instance))?);
        }
        if !crate::cluster::agreed(&mut clients) {
            return Err("a site lacks what another one has".to_owned());
        }
        for (site, client) in self.sites.iter().zip(&mut clients) {
            if client.text("WAIT 1 1000") != "1" {
                return Err(format!("the replica of site {} lags", site.instance));
            }
        }
        Ok(())
    }

    /// Every node holds the same, and what the history says.
    fn check(&mut self) -> Result<(), String> {
        self.figures_at_rest();
        let mut wrong = self.figures.wrong();
        self.wait_for_expiries();
        let digests: Vec<(String, String, String)> = self
            .sites
            .iter()
            .flat_map(|site| {
                site.nodes.iter().enumerate().map(|(node, server)| {
                    let mut client = server.client();
                    let role = if node == site.primary { "primary" } else { "replica" };
                    let name = format!("site {} {role} ({})", site.instance, server.kind());
                    // No digest of a server is of its libraries.
                    let libraries = (0..LIBRARIES).map(|name| client.text(&format!("FCALL_RO f{name} 0")));
                    let libraries = libraries.collect::<Vec<_>>().join(" ");
                    (name, client.text("DEBUG DIGEST"), format!("{} {libraries}", client.text("SYNCER.DIGEST")))
                })
            })
            .collect();
        let first = digests.first().map(|(_, a, b)| (a.clone(), b.clone()));
        if digests.iter().any(|(_, a, b)| Some((a.clone(), b.clone())) != first) {
            let lines: Vec<String> = digests.iter().map(|(name, a, b)| format!("  {name}: {a} {b}")).collect();
            wrong.push(format!("nodes differ (I-5):\n{}\n{}", lines.join("\n"), evidence::differences(&self.sites)));
        }
        let (more, lost) = self.history.check(&mut self.sites[0].nodes[self.sites[0].primary].client());
        wrong.extend(more);
        let Self { tally, history, .. } = self;
        (tally.acked, tally.lost) = (history.acked(), lost);
        (tally.sightings, tally.guarded) = (history.sightings(), history.guarded());
        tally.commands = history.commands();
        let logs = self.sites.iter().flat_map(|site| &site.nodes).map(Logged::of);
        tally.logged = logs.fold(Logged::default(), Logged::add);
        self.timeline.note(&format!("checked: {}", self.tally));
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }

    /// Short TTLs run out before anything is compared. Nodes delete expired keys at their own times, and show in the
    /// meantime none to `KEYS`, but all to `DBSIZE` and `DEBUG DIGEST`.
    fn wait_for_expiries(&self) {
        let nodes = self.sites.iter().flat_map(|site| &site.nodes);
        let mut clients: Vec<Client> = nodes.clone().map(|node| node.client()).collect();
        let mut ask = || {
            let left: Vec<String> = clients.iter_mut().filter_map(left_over).collect();
            left.is_empty().then_some(())
        };
        let why = || nodes.filter_map(|node| left_over(&mut node.client())).collect::<Vec<_>>().join("\n");
        wait::until(wait::PATIENCE, "keys with short TTLs are gone from every node", &mut ask, why);
    }

    fn figures_at_rest(&self) {
        for site in &self.sites {
            for node in &site.nodes {
                let known = self.figures.look(&mut node.client(), site.instance);
                known.expect("a server that has settled answers");
            }
        }
    }
}

/// What a node still has of keys with short TTLs, or keeps although their TTL has passed.
fn left_over(client: &mut Client) -> Option<String> {
    let keys = client.args(&["KEYS", "*"]);
    let keys: Vec<&[u8]> = reply::items(&keys).iter().map(reply::bytes).collect();
    let short: Vec<String> =
        keys.iter().filter(|key| key.starts_with(b"tmp:")).map(|key| key.escape_ascii().to_string()).collect();
    let size = client.text("DBSIZE");
    let role = client.text("ROLE");
    let ttls: Vec<String> = short.iter().map(|key| client.text(&format!("PTTL {key}"))).collect();
    (!short.is_empty() || size != keys.len().to_string())
        .then(|| format!("{role}: {short:?} with TTLs {ttls:?}, {size} keys of which {} show", keys.len()))
}
