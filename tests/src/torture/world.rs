//! Runs the commands of a plan on real servers, and compares them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use fastrand::Rng;

use super::command::Generator;
use super::fault::{self, Fault};
use super::history::History;
use super::plan::{Delivery, Durability, Plan};
use super::site::Site;
use super::{rest, setup, waiter};
use crate::cluster::{Cluster, Unequal};
use crate::server::Server;
use crate::{nodes, wait};

/// How long keys that expire by the clock may make sites differ that have applied everything.
const EXPIRY_MAX: Duration = Duration::from_secs(5);
/// A command comes to be delivered after about so many others.
const STEPS_PER_DELIVERY: usize = 12;
/// With faults: one comes after about so many commands.
const STEPS_PER_FAULT: usize = 30;
/// Cuts and heals of a round when everything runs at once.
const CUTS: usize = 6;
/// What a server is sent while it stands in for another.
const COMMANDS_MEANWHILE: usize = 4;

/// Runs all rounds. See [`super::run`].
pub fn run(plan: &Plan, seed: u64) -> Result<usize, String> {
    let cluster = Cluster::with(&plan.kinds, &setup::options(plan));
    let replicas = setup::replicas(&cluster, plan);
    let rng = Rng::with_seed(seed ^ 0x7073_7465_7070_6564);
    let generator = Generator::new(&plan.groups);
    let mut world = World { cluster, replicas, plan, generator, rng, history: History::default() };
    world.rounds().map_err(|why| format!("{plan}\n{why}"))?;
    Ok(world.history.len())
}

struct World<'a> {
    cluster: Cluster,
    replicas: Vec<Server>,
    plan: &'a Plan,
    generator: Generator,
    rng: Rng,
    history: History,
}

impl World<'_> {
    fn rounds(&mut self) -> Result<(), String> {
        if self.plan.faults == Some(Durability::Saved) {
            // Who comes back with nothing has to be forgotten first, by hand.
            self.cluster.sites().iter().for_each(|site| nodes::save(&site.server));
        }
        for round in 1..=self.plan.rounds {
            self.history.note(format!("round {round}"));
            self.expires(false);
            match self.plan.delivery {
                Delivery::Stepped => self.stepped(),
                Delivery::Free => self.free(),
            }
            self.history.note("healed");
            self.expires(true);
            self.compare()?;
        }
        rest::check(&self.cluster, self.plan)
    }

    /// Lets servers delete what has expired, or keep it for now.
    fn expires(&self, deletes: bool) {
        if self.plan.hides {
            let line = format!("DEBUG SET-ACTIVE-EXPIRE {}", u8::from(deletes));
            self.cluster.sites().iter().for_each(|site| drop(site.client().ok(&line)));
        }
    }

    fn any_site(&mut self) -> u8 {
        self.rng.u8(1..=self.plan.kinds.len() as u8)
    }

    fn connect(&self, instance: u8) -> Site {
        Site::of(&self.cluster.site(instance).server)
    }

    /// One command after the other; agents are stopped but while their site's turn to hear of the others lasts.
    fn stepped(&mut self) {
        let mut connections: Vec<Site> = self.cluster.sites().iter().map(|site| self.connect(site.instance)).collect();
        self.agents_pause();
        for _ in 0..self.plan.commands {
            let instance = self.any_site();
            let connection = &mut connections[usize::from(instance) - 1];
            if self.plan.faults.is_some() && self.rng.usize(..STEPS_PER_FAULT) == 0 {
                let fault = Fault::draw(&mut self.rng, self.plan.replicas);
                self.fault(instance, fault);
                if fault.loses() && self.plan.faults == Some(Durability::Saved) || fault == Fault::Failover {
                    // It may have to get back what it has lost before it takes writes.
                    self.agents_resume();
                    drop(self.cluster.settled());
                    self.history.note("all have everything");
                }
                self.agents_pause();
                *connection = self.connect(instance);
            } else if self.rng.usize(..STEPS_PER_DELIVERY) == 0 {
                self.turn(instance);
            } else {
                let command = self.generator.draw(&mut self.rng);
                let reply = connection.run(&command);
                self.history.command(instance, command, reply);
            }
        }
        self.agents_resume();
    }

    fn agents_pause(&self) {
        self.cluster.sites().iter().for_each(|site| site.agent.process().pause());
    }

    fn agents_resume(&self) {
        self.cluster.sites().iter().for_each(|site| site.agent.process().resume());
    }

    /// The site hears of all others.
    fn turn(&mut self, instance: u8) {
        let agent = self.cluster.site(instance).agent.process();
        agent.resume();
        let others = self.cluster.sites().iter().map(|site| site.instance).filter(|other| *other != instance);
        others.for_each(|other| self.cluster.caught_up(other, instance));
        agent.pause();
        self.history.note(format!("{instance} has everything"));
    }

    fn fault(&mut self, instance: u8, fault: Fault) {
        let Self { cluster, replicas, rng, history, generator, .. } = self;
        if fault != Fault::Failover {
            return history.note(fault::happens(cluster, instance, fault, rng));
        }
        let (server, replica) = (&cluster.site(instance).server, &replicas[usize::from(instance) - 1]);
        history.note(format!("{instance}: its replica takes over"));
        fault::promote(server, replica);
        let mut meanwhile = Site::of(replica);
        for _ in 0..COMMANDS_MEANWHILE {
            let command = generator.draw(rng);
            let reply = meanwhile.run(&command);
            history.command(instance, command, reply);
        }
        history.note(format!("{instance}: the server takes over again"));
        fault::promote(replica, server);
    }

    /// All sites at once, while links are cut and healed.
    fn free(&mut self) {
        if self.plan.faults.is_some() {
            let (instance, fault) = (self.any_site(), Fault::draw(&mut self.rng, self.plan.replicas));
            self.fault(instance, fault);
            self.cluster.settled();
        }
        let sites = 1..=self.plan.kinds.len() as u8;
        let Self { cluster, plan, generator, rng, history, .. } = self;
        let (cluster, generator, plan): (&Cluster, &Generator, &Plan) = (cluster, generator, plan);
        let writers: Vec<(u8, Rng)> = sites.clone().map(|instance| (instance, rng.fork())).collect();
        let waiters: Vec<(u8, Rng)> = sites.filter(|_| plan.waits).map(|instance| (instance, rng.fork())).collect();
        let ended = AtomicBool::new(false);
        let done: Vec<History> = std::thread::scope(|scope| {
            let waits = |(instance, mut rng): (u8, Rng)| {
                let (client, ended) = (cluster.client(instance), &ended);
                scope.spawn(move || waiter::run(client, instance, plan, &mut rng, ended))
            };
            let writes = |(instance, mut rng): (u8, Rng)| {
                scope.spawn(move || write(cluster, instance, generator, plan, &mut rng))
            };
            let waiting: Vec<_> = waiters.into_iter().map(waits).collect();
            let writing: Vec<_> = writers.into_iter().map(writes).collect();
            disturb(cluster, plan, rng, history);
            let mut done = joined(writing);
            ended.store(true, Ordering::Relaxed);
            done.append(&mut joined(waiting));
            done
        });
        done.into_iter().for_each(|one| history.append(one));
        cluster.heal();
    }

    /// Also what no digest tells: what groups of streams have delivered.
    fn compare(&self) -> Result<(), String> {
        let mut unequal = None;
        wait::within(EXPIRY_MAX, || {
            let mut clients = self.cluster.settled();
            unequal = self.cluster.unequal(&mut clients).or_else(|| Unequal::by_value(&mut clients));
            unequal.is_none().then_some(())
        });
        let Some(unequal) = unequal else {
            let differing = setup::compare(&self.cluster, &self.replicas);
            return differing.map_or(Ok(()), |text| Err(format!("{text}\n{}", self.history.all())));
        };
        let names = unequal.keys.iter().filter_map(|key| Some(key.split_once('/')?.1.to_owned())).collect();
        Err(format!("{}\nwhat was done to these keys:\n{}", unequal.text, self.history.of(&names)))
    }
}

/// A site's share of the commands.
fn write(cluster: &Cluster, instance: u8, generator: &Generator, plan: &Plan, rng: &mut Rng) -> History {
    let mut site = Site::of(&cluster.site(instance).server);
    let mut history = History::default();
    for _ in 0..plan.commands / plan.kinds.len() {
        let command = generator.draw(rng);
        let reply = site.run(&command);
        history.command(instance, command, reply);
    }
    history
}

/// What happens while all sites write.
fn disturb(cluster: &Cluster, plan: &Plan, rng: &mut Rng, history: &mut History) {
    let sites = plan.kinds.len() as u8;
    for _ in 0..CUTS {
        let (left, right) = (rng.u8(1..=sites), rng.u8(1..=sites));
        match rng.bool() {
            _ if plan.faults.is_some() && rng.bool() => {
                let fault = Fault::draw_mild(rng);
                history.note(fault::mild(cluster, left, fault, rng));
            }
            _ if left == right => {}
            true => cluster.cut(left, right),
            false => cluster.heal_between(left, right),
        }
    }
}

fn joined(threads: Vec<ScopedJoinHandle<'_, History>>) -> Vec<History> {
    threads.into_iter().map(|thread| thread.join().expect("what is run at a site ends")).collect()
}
