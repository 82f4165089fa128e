//! Runs the commands of a plan on real servers, and compares them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use fastrand::Rng;

use super::command::{Command, Generator, Way};
use super::fault::{self, Fault};
use super::history::History;
use super::plan::{Delivery, Durability, Plan};
use super::{rest, setup, waiter};
use crate::client::{Client, words};
use crate::cluster::{Cluster, Unequal};
use crate::server::Server;
use crate::{nodes, reply, wait};

/// How long keys that expire by the clock may make sites differ that have applied everything.
const EXPIRY_MAX: Duration = Duration::from_secs(5);
/// A command comes to be delivered after about so many others.
const STEPS_PER_DELIVERY: usize = 12;
/// With faults: one comes after about so many commands.
const STEPS_PER_FAULT: usize = 30;
/// Cuts and heals of a round when everything runs at once.
const CUTS: usize = 6;

/// Runs all rounds. See [`super::run`].
pub fn run(plan: &Plan, seed: u64) -> Result<usize, String> {
    let mut rng = Rng::with_seed(seed ^ 0x7073_7465_7070_6564);
    let mut cluster = Cluster::with(&plan.kinds, &setup::options(plan));
    let replicas = setup::replicas(&cluster, plan);
    if plan.faults == Some(Durability::Saved) {
        // Who comes back with nothing has to be forgotten first, by hand.
        cluster.sites().iter().for_each(|site| nodes::save(&site.server));
    }
    let generator = Generator::new(&plan.groups);
    let mut history = History::default();
    for round in 1..=plan.rounds {
        history.note(format!("round {round}"));
        expires(&cluster, plan, false);
        match plan.delivery {
            Delivery::Stepped => stepped(&mut cluster, plan, &generator, &mut rng, &mut history),
            Delivery::Free => free(&mut cluster, plan, &generator, &mut rng, &mut history),
        }
        history.note("healed");
        expires(&cluster, plan, true);
        compare(&cluster, &replicas, &history).map_err(|why| format!("{plan}\n{why}"))?;
    }
    rest::check(&cluster, plan).map_err(|why| format!("{plan}\n{why}"))?;
    Ok(history.len())
}

/// Lets servers delete what has expired, or keep it for now.
fn expires(cluster: &Cluster, plan: &Plan, deletes: bool) {
    if plan.hides {
        let line = format!("DEBUG SET-ACTIVE-EXPIRE {}", u8::from(deletes));
        cluster.sites().iter().for_each(|site| drop(site.client().ok(&line)));
    }
}

/// Connections of a site: one in each of two databases.
struct Site {
    clients: [Client; 2],
}

impl Site {
    fn of(cluster: &Cluster, instance: u8) -> Self {
        let mut clients = [cluster.client(instance), cluster.client(instance)];
        clients[1].ok("SELECT 1");
        Self { clients }
    }

    fn run(&mut self, command: &Command) -> String {
        let client = &mut self.clients[usize::from(command.db == 1)];
        match command.way {
            Way::Plain => command.lines.iter().map(|line| client.text(line)).collect(),
            Way::Transaction => reply::text(&client.multi(&command.lines)),
            Way::Script { aborts } => reply::text(&client.args(&script(&command.lines, aborts))),
        }
    }
}

/// Each line is an argument that says of how many it consists, and these.
const SCRIPT: &str = "local replies, at = {}, 2
while ARGV[at] do
  local last = at + tonumber(ARGV[at])
  replies[#replies + 1] = redis[ARGV[1]](unpack(ARGV, at + 1, last))
  at = last + 1
end
return replies";

/// The call of a script that runs these lines.
fn script(lines: &[String], aborts: bool) -> Vec<Vec<u8>> {
    let call: &[u8] = if aborts { b"call" } else { b"pcall" };
    let counted = lines.iter().map(|line| words(line)).flat_map(|line| {
        let count = line.len().to_string().into_bytes();
        std::iter::once(count).chain(line)
    });
    [b"EVAL", SCRIPT.as_bytes(), b"0", call].map(<[u8]>::to_vec).into_iter().chain(counted).collect()
}

/// One command after the other; agents are stopped but while their site's turn to hear of the others lasts.
fn stepped(cluster: &mut Cluster, plan: &Plan, generator: &Generator, rng: &mut Rng, history: &mut History) {
    let sites = plan.kinds.len() as u8;
    let mut connections: Vec<Site> = (1..=sites).map(|instance| Site::of(cluster, instance)).collect();
    cluster.sites().iter().for_each(|site| site.agent.process().pause());
    for _ in 0..plan.commands {
        let instance = rng.u8(1..=sites);
        if plan.faults.is_some() && rng.usize(..STEPS_PER_FAULT) == 0 {
            let fault = Fault::draw(rng);
            history.note(fault::happens(cluster, instance, fault, rng));
            match fault {
                Fault::Crash => {
                    connections[usize::from(instance) - 1] = Site::of(cluster, instance);
                    if plan.faults == Some(Durability::Saved) {
                        // It may have to get back what it has lost before it takes writes, or to join anew.
                        cluster.sites().iter().for_each(|site| site.agent.process().resume());
                        drop(cluster.settled());
                        cluster.sites().iter().for_each(|site| site.agent.process().pause());
                        history.note("all have everything");
                    }
                }
                Fault::Agent => cluster.site(instance).agent.process().pause(),
                _ => {}
            }
        } else if rng.usize(..STEPS_PER_DELIVERY) == 0 {
            turn(cluster, instance, history);
        } else {
            let command = generator.draw(rng);
            let reply = connections[usize::from(instance) - 1].run(&command);
            history.command(instance, command, reply);
        }
    }
    cluster.sites().iter().for_each(|site| site.agent.process().resume());
}

/// The site hears of all others.
fn turn(cluster: &Cluster, instance: u8, history: &mut History) {
    let agent = cluster.site(instance).agent.process();
    agent.resume();
    let others = cluster.sites().iter().map(|site| site.instance).filter(|other| *other != instance);
    others.for_each(|other| cluster.caught_up(other, instance));
    agent.pause();
    history.note(format!("{instance} has everything"));
}

/// All sites at once, while links are cut and healed.
fn free(cluster: &mut Cluster, plan: &Plan, generator: &Generator, rng: &mut Rng, history: &mut History) {
    let sites = plan.kinds.len() as u8;
    if plan.faults.is_some() {
        let (instance, fault) = (rng.u8(1..=sites), Fault::draw(rng));
        history.note(fault::happens(cluster, instance, fault, rng));
        cluster.settled();
    }
    let cluster = &*cluster;
    let seeds: Vec<(u8, Rng)> = (1..=sites).map(|instance| (instance, rng.fork())).collect();
    let waiters = if plan.waits { (1..=sites).map(|instance| (instance, rng.fork())).collect() } else { vec![] };
    let ended = AtomicBool::new(false);
    let done: Vec<History> = std::thread::scope(|scope| {
        let run = |(instance, mut rng): (u8, Rng)| {
            let mut site = Site::of(cluster, instance);
            let mut history = History::default();
            for _ in 0..plan.commands / usize::from(sites) {
                let command = generator.draw(&mut rng);
                let reply = site.run(&command);
                history.command(instance, command, reply);
            }
            history
        };
        let waits = |(instance, mut rng): (u8, Rng)| {
            let (client, ended) = (cluster.client(instance), &ended);
            scope.spawn(move || waiter::run(client, instance, plan, &mut rng, ended))
        };
        let waiters: Vec<_> = waiters.into_iter().map(waits).collect();
        let threads: Vec<_> = seeds.into_iter().map(|seed| scope.spawn(move || run(seed))).collect();
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
        let joined = |threads: Vec<ScopedJoinHandle<'_, History>>| {
            threads.into_iter().map(|thread| thread.join().expect("the commands of a site run")).collect::<Vec<_>>()
        };
        let mut done = joined(threads);
        ended.store(true, Ordering::Relaxed);
        done.append(&mut joined(waiters));
        done
    });
    done.into_iter().for_each(|one| history.append(one));
    cluster.heal();
}

/// Also what no digest tells: what groups of streams have delivered.
fn compare(cluster: &Cluster, replicas: &[Server], history: &History) -> Result<(), String> {
    let mut unequal = None;
    wait::within(EXPIRY_MAX, || {
        let mut clients = cluster.settled();
        unequal = cluster.unequal(&mut clients).or_else(|| Unequal::by_value(&mut clients));
        unequal.is_none().then_some(())
    });
    let Some(unequal) = unequal else {
        return setup::compare(cluster, replicas).map_or(Ok(()), |text| Err(format!("{text}\n{}", history.all())));
    };
    let names = unequal.keys.iter().filter_map(|key| Some(key.split_once('/')?.1.to_owned())).collect();
    Err(format!("{}\nwhat was done to these keys:\n{}", unequal.text, history.of(&names)))
}
