//! All instances and links of one run, and time.

use std::collections::BTreeMap;
use std::io::Write as _;

use syncer_shared::instance::{InstanceId, InstanceSet};

use super::client::Command;
use super::instance::Instance;
use super::link::{Delivered, Link};
use super::plan::Failover;
use super::registry::Registry;
use super::sync::SyncRun;
use super::{Check, Plan, losses, streams};

/// When every run begins, Unix milliseconds.
const START_MS: u64 = 1_700_000_000_000;

/// One simulated Active-Active database.
pub struct World {
    /// What the seed decided.
    pub plan: Plan,
    /// All further chance.
    pub random: fastrand::Rng,
    /// The instances; number `i` has instance id `i + 1`.
    pub instances: Vec<Instance>,
    /// One for each ordered pair.
    pub links: Vec<Link>,
    /// True time in Unix milliseconds.
    pub now_ms: u64,
    /// Snapshots at the agents, by the index of the target.
    pub syncs: Vec<SyncRun>,
    pub(super) registry: Registry,
    /// The number of the newest key that always has a TTL.
    pub(super) short_lived: u64,
    trace: bool,
    step: u32,
}

impl World {
    /// All instances, empty, members of one group.
    #[must_use]
    pub fn new(plan: &Plan, trace: bool) -> Self {
        let now_ms = START_MS;
        streams::begin();
        let mut registry = Registry::default();
        let ids = (1..=plan.instances).filter_map(InstanceId::new);
        let start = |id| Instance::new(id, plan.backlog_bytes, plan.rules, now_ms, &mut registry);
        let instances: Vec<Instance> = ids.map(start).collect::<Result<_, _>>().unwrap_or_default();
        let count = instances.len();
        let pairs = (0..count).flat_map(|source| (0..count).map(move |target| (source, target)));
        let only =
            |source: usize| instances.get(source).map(|instance| instance.id).into_iter().collect::<InstanceSet>();
        let links = pairs
            .filter(|(source, target)| source != target)
            .map(|(source, target)| Link::new(source, target, only(source)));
        let mut links: Vec<Link> = links.collect();
        links.iter_mut().for_each(|link| link.has_strangers = plan.rejoins);
        let random = fastrand::Rng::with_seed(plan.seed);
        let syncs = (0..count).map(|_| SyncRun::default()).collect();
        let mut world = Self {
            plan: plan.clone(),
            random,
            instances,
            links,
            now_ms,
            syncs,
            registry,
            short_lived: 0,
            trace,
            step: 0,
        };
        world.say(|| format!("{plan:?}"));
        (0..world.links.len()).for_each(|link| world.connect(link));
        world
    }

    /// A new instance joins. It is known to who answers its handshake, and soon to the others.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn join(&mut self) -> Check {
        let target = self.instances.len();
        self.say(|| format!("{} joins", target + 1));
        let id = InstanceId::new(target as u8 + 1).ok_or("no more instance ids")?;
        let (backlog_bytes, rules) = (self.plan.backlog_bytes, self.plan.rules);
        let new = Instance::new(id, backlog_bytes, rules, self.now_ms, &mut self.registry)?;
        for source in 0..target {
            let other = self.instances[source].id;
            self.links.push(Link::new(source, target, [other].into_iter().collect()));
            self.links.push(Link::new(target, source, [id].into_iter().collect()));
        }
        self.instances.push(new);
        self.syncs.push(SyncRun::default());
        Ok(())
    }

    /// Prints a line of the trace.
    pub fn say(&self, line: impl FnOnce() -> String) {
        if self.trace {
            // Whoever reads the trace may stop reading.
            let _ = writeln!(std::io::stdout(), "{:>5} {:>8} ms  {}", self.step, self.now_ms - START_MS, line());
        }
    }

    /// Counts a step; time passes.
    pub fn tick(&mut self, ms: u64) {
        self.step += 1;
        self.now_ms += ms;
    }

    /// The wall clock of an instance.
    #[must_use]
    pub fn wall(&self, instance: usize) -> u64 {
        self.now_ms.saturating_add_signed(self.instances[instance].skew_ms)
    }

    /// A client's commands at an instance, as one unit.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn write(&mut self, instance: usize, commands: &[(u32, Vec<u8>, Command)]) -> Check {
        self.say(|| {
            let show = |(db, key, command): &(u32, Vec<u8>, Command)| {
                format!("{db}:{} {command:?}", String::from_utf8_lossy(key))
            };
            format!("{} writes {}", instance + 1, commands.iter().map(show).collect::<Vec<_>>().join("; "))
        });
        let now_ms = self.wall(instance);
        self.instances[instance].write(commands, now_ms, &mut self.registry)
    }

    /// One command on a key of database 0.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn command(&mut self, instance: usize, key: &str, command: Command) -> Check {
        self.tick(1);
        self.write(instance, &[(0, key.as_bytes().to_vec(), command)])
    }

    /// Keys whose TTL has passed go, at one instance.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn expire(&mut self, instance: usize) -> Check {
        self.say(|| format!("{} expires what is due", instance + 1));
        let now_ms = self.wall(instance);
        self.instances[instance].expire(now_ms, &mut self.registry)
    }

    /// The link from one instance to another.
    #[must_use]
    pub fn link(&self, source: usize, target: usize) -> usize {
        self.links.iter().position(|link| (link.source, link.target) == (source, target)).unwrap_or_default()
    }

    fn pair(&mut self, link: usize) -> Option<(&mut Link, &mut Instance, &mut Instance)> {
        let link = &mut self.links[link];
        let [source, target] = self.instances.get_disjoint_mut([link.source, link.target]).ok()?;
        Some((link, source, target))
    }

    /// The handshake of a link that is up.
    pub fn connect(&mut self, link: usize) {
        let source_ms = self.wall(self.links[link].source);
        let Some((link, source, target)) = self.pair(link) else { return };
        let members = source.shard.membership().members();
        link.connect(source, target, source_ms);
        let (s, t) = (link.source, link.target);
        let has_admitted = source.shard.membership().members() != members;
        for instance in [s, t] {
            // Errors of own records show at the next check of the instance.
            let _ = self.instances[instance].take_records(&mut self.registry);
        }
        if has_admitted && self.plan.rules.joins_are_durable {
            // M9.
            self.instances[s].persist();
        }
    }

    /// One read, connecting if need be.
    pub fn read(&mut self, link: usize, max_bytes: usize) {
        self.connect(link);
        let source_ms = self.wall(self.links[link].source);
        if let Some((link, source, target)) = self.pair(link)
            && link.is_up
        {
            let reader = target.id;
            link.read(source, reader, max_bytes, source_ms);
        }
    }

    /// Delivers the oldest batch in flight. Returns how many groups were applied.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn deliver(&mut self, link: usize, slice: u32, again: bool) -> Result<u32, String> {
        let target_ms = self.wall(self.links[link].target);
        let Some((link, source, target)) = self.pair(link) else { return Ok(0) };
        if !link.is_up {
            return Ok(0);
        }
        let delivered = link.deliver(source.id, target, target_ms, slice, again)?;
        let (from, to, at, error) = (source.id, target.id, link.target, link.error.clone());
        self.instances[at].take_records(&mut self.registry)?;
        self.instances[at].check()?;
        match delivered {
            Delivered::Nothing => Ok(0),
            Delivered::Refused => {
                self.say(|| format!("{to} refuses a batch of {from}: {error}"));
                Ok(0)
            }
            Delivered::Applied(outcome, groups) => {
                self.say(|| format!("{to} applies {groups} groups from {from}: {outcome:?}"));
                Ok(groups)
            }
        }
    }

    /// Everything a link has, until it waits for another.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn pull(&mut self, source: usize, target: usize) -> Result<u32, String> {
        let link = self.link(source, target);
        let mut groups = 0;
        loop {
            self.read(link, usize::MAX);
            let applied = self.deliver(link, u32::MAX, false)?;
            groups += applied;
            if applied == 0 && (self.links[link].is_idle() || !self.links[link].is_up) {
                return Ok(groups);
            }
        }
    }

    /// What an instance has logged so far will survive from now on (2.2 rule 1).
    pub fn persist(&mut self, instance: usize) {
        self.say(|| format!("{} makes durable what it has", instance + 1));
        self.instances[instance].persist();
        let persisted = &self.instances[instance];
        // A part of a snapshot is to be completed even if it brings nothing new: nobody else may be able to.
        if !persisted.shard.is_syncing() {
            self.syncs[instance].forget_durable(persisted.durable_clock());
        }
    }

    /// A report travels from one instance to another.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn report(&mut self, from: usize, to: usize) -> Check {
        if !self.may_talk(from, to) {
            return Ok(());
        }
        self.say(|| format!("{} reports to {}", from + 1, to + 1));
        let report = self.instances[from].shard.report();
        let (now_ms, source) = (self.wall(to), self.instances[from].id);
        let target = &mut self.instances[to];
        target
            .shard
            .accept_report(source, &report, now_ms)
            .map_err(|error| format!("{} refuses a report: {error}", target.id))?;
        target.take_records(&mut self.registry)?;
        target.check()
    }

    /// Prunes at an instance, and checks that nobody can tell (I-6).
    ///
    /// # Errors
    /// A broken invariant.
    pub fn prune(&mut self, instance: usize, steps: usize) -> Check {
        let target = &mut self.instances[instance];
        let taken = target.shard.prune(steps);
        target.take_records(&mut self.registry)?;
        let keys = target.shard.status().metadata_keys;
        self.say(|| format!("{} prunes {taken}; metadata of {keys} keys is left", instance + 1));
        self.instances[instance].check()
    }

    /// A replica takes over that has the first `len` entries of the replication stream.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn fail_over(&mut self, instance: usize, len: usize) -> Check {
        let all = self.instances[instance].logged();
        self.say(|| format!("{} fails over and loses {} of {all} entries", instance + 1, all - len));
        let now_ms = self.wall(instance);
        let saved = self.random.usize(0..=len);
        self.instances[instance].fail_over(saved, len, now_ms, &mut self.registry)?;
        self.lost_by(instance);
        self.gone(instance);
        Ok(())
    }

    /// The server of an instance is restarted, and has lost nothing.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn restart(&mut self, instance: usize) -> Check {
        self.say(|| format!("{} restarts", instance + 1));
        let now_ms = self.wall(instance);
        self.instances[instance].restart(now_ms, &mut self.registry)?;
        self.gone(instance);
        if self.plan.drops { self.reload(instance) } else { Ok(()) }
    }

    /// The server of an instance loads its own file, and drops what is due.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn reload(&mut self, instance: usize) -> Check {
        self.say(|| format!("{} drops what is due", instance + 1));
        let now_ms = self.wall(instance);
        self.instances[instance].drop_expired(now_ms, &mut self.registry)
    }

    /// Its connections are.
    fn gone(&mut self, instance: usize) {
        self.break_sync(instance);
        for link in &mut self.links {
            if link.source == instance {
                link.source_gone();
            }
            if link.target == instance {
                link.target_gone();
            }
        }
    }

    /// Everybody shows the same.
    ///
    /// # Errors
    /// Where not.
    pub fn check_equal(&self) -> Check {
        let group: Vec<_> = self.group().iter().map(|index| &self.instances[*index]).collect();
        let Some(first) = group.first() else { return Ok(()) };
        match group.iter().find(|other| streams::shown(&other.keyspace).ne(streams::shown(&first.keyspace))) {
            None => Ok(()),
            Some(other) => {
                let all = |of: &super::instance::Instance| {
                    let shown = streams::shown(&of.keyspace);
                    shown.map(|(name, entry)| (name.clone(), entry.into_owned())).collect::<BTreeMap<_, _>>()
                };
                let (here, there) = (all(first), all(other));
                let differs = here.keys().chain(there.keys()).find(|name| here.get(*name) != there.get(*name));
                let (ours, theirs) = (differs.and_then(|n| here.get(n)), differs.and_then(|n| there.get(n)));
                Err(format!(
                    "{} and {} show different data after all is healed: {differs:?}:\n  {ours:?}\n  {theirs:?}",
                    first.id, other.id
                ))
            }
        }
    }

    /// No write that survived is lost, when all is converged.
    ///
    /// # Errors
    /// Which one is.
    pub fn check_losses(&self) -> Check {
        let group = self.group();
        let Some(first) = group.first().map(|index| &self.instances[*index]) else { return Ok(()) };
        let may_lose_all = self.plan.failover == Failover::LosesAnything && self.plan.forces_full_syncs();
        let come_back = may_lose_all || self.has_brought_back();
        let dropped_at = self.plan.drops.then_some(self.now_ms as i64);
        losses::check(&self.registry, &first.applied, &first.oracle, &first.keyspace, come_back, dropped_at)
    }

    /// I-5: instances that have applied the same show the same. Checks every instance, and their replicas.
    ///
    /// # Errors
    /// Where not.
    pub fn check_all(&mut self) -> Check {
        for instance in &mut self.instances {
            instance.check()?;
            instance.check_replica(instance.logged() / 2, self.now_ms)?;
        }
        for a in &self.instances {
            for b in &self.instances {
                let tells =
                    |of: &super::instance::Instance| !of.shard.is_syncing() && !of.has_regressed && !of.has_dropped();
                let comparable = tells(a) && tells(b);
                if comparable && a.applied == b.applied && streams::shown(&a.keyspace).ne(streams::shown(&b.keyspace)) {
                    return Err(format!("I-5: {} and {} have applied the same and show different data", a.id, b.id));
                }
                if comparable && a.applied == b.applied && !a.oracle.same(&b.oracle) {
                    return Err(format!("the live dots of {} and {} depend on the order of arrival", a.id, b.id));
                }
            }
        }
        Ok(())
    }
}
