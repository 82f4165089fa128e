//! Full syncs: a snapshot of one instance, in a file at the agent of another, is merged there, key by key, while both go on.

use std::collections::HashSet;

use syncer_shared::effect::FlushScope;
use syncer_shared::keyspace::Keyspace;
use syncer_shared::merge::KeyRef;
use syncer_shared::shard::SyncError;
use syncer_shared::snapshot::SnapshotHead;
use syncer_shared::token::ClockToken;

use super::plan::Failover;
use super::{Check, World};

type Name = (u32, Vec<u8>);

/// A snapshot of one instance in a file at the agent of another (docs/AGENT.md): whole, before any of it is merged. It outlives both servers and the
/// agent, until what came with it is durable at the target.
pub struct Spool {
    /// Index of the instance that it was taken at.
    pub source: usize,
    /// How many reigns that had begun.
    reigns: u8,
    /// Its source has lost something that it has.
    is_lost: bool,
    head: SnapshotHead,
    /// Encoded; of some there is nothing to say.
    keys: Vec<(Name, Vec<u8>)>,
}

/// The spools of one agent, and the one that is being merged.
#[derive(Default)]
pub struct SyncRun {
    /// Oldest first, one a source, but for sources that have lost something.
    spools: Vec<Spool>,
    stage: Stage,
    /// It has merged one whose source had lost something that it had.
    brought_back: bool,
}

/// A full sync that has ended.
pub struct Synced {
    /// Index of the instance that the snapshot was of.
    source: usize,
    /// How many reigns that had begun.
    reigns: u8,
    /// How long the target's stream was afterwards.
    pub logged: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    /// Nothing goes on, as far as the agent knows.
    #[default]
    Idle,
    /// The last spool came just now.
    Copied,
    /// A spool, of which so many keys were sent to the target.
    Merging { spool: usize, sent: usize },
}

impl SyncRun {
    /// Whether an agent is at work.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.stage != Stage::Idle
    }

    /// The spool that a sync goes on with.
    fn of(&self, head: &SnapshotHead) -> Option<usize> {
        let same = self.spools.iter().position(|spool| spool.head == *head);
        // What has all of it does as well.
        same.or_else(|| self.spools.iter().rposition(|spool| spool.head.applied().covers(&head.applied())))
    }

    /// Whether a sync goes on with a spool whatever happens. One that has come just now is lost if the agent dies before it begins with it.
    fn is_safe(&self, head: &SnapshotHead) -> bool {
        let newest = self.spools.len().checked_sub(1).filter(|_| self.stage == Stage::Copied);
        self.of(head).is_some_and(|spool| Some(spool) != newest)
    }

    /// One has begun: earlier ones of its source go, if it has all that they had. Returns where it is then.
    fn supersede(&mut self, begun: usize) -> usize {
        let newer = self.spools.split_off(begun);
        if let Some(Spool { source, head, .. }) = newer.first() {
            self.spools.retain(|spool| spool.source != *source || !head.applied().covers(&spool.head.applied()));
        }
        let begun = self.spools.len();
        self.spools.extend(newer);
        begun
    }

    /// The time of the newest effect that the snapshots have.
    #[must_use]
    pub fn newest_ms(&self) -> u64 {
        let reigns = self.spools.iter().flat_map(|spool| &spool.head.reigns);
        reigns.map(|reign| reign.applied.ms()).max().unwrap_or(0)
    }

    /// What is durable at the target needs no file any more.
    pub fn forget_durable(&mut self, durable: &ClockToken) {
        if self.stage == Stage::Idle {
            self.spools.retain(|spool| !durable.covers(&spool.head.applied()));
        }
    }
}

impl World {
    /// An old backup may not be from the middle of a sync whose source has lost something since: the file is gone, and what only that part of
    /// a snapshot has, nobody could complete. Returns how many entries of its stream an instance keeps at least.
    #[must_use]
    pub fn whole_since(&self, instance: usize) -> usize {
        let lost = |synced: &&Synced| self.instances[synced.source].reigns() != synced.reigns;
        self.instances[instance].synced.iter().filter(lost).map(|synced| synced.logged).max().unwrap_or(0)
    }

    /// An instance has failed over: which snapshots of it have more than it has now.
    pub(super) fn lost_by(&mut self, source: usize) {
        let has = self.instances[source].shard.clock_token();
        for spool in self.syncs.iter_mut().flat_map(|run| &mut run.spools).filter(|spool| spool.source == source) {
            spool.is_lost |= !has.covers(&spool.head.applied());
        }
    }

    /// Whether somebody has merged what its source had lost. What the group has reported meanwhile, that one had not seen as it wrote that.
    #[must_use]
    pub fn has_brought_back(&self) -> bool {
        self.syncs.iter().any(|run| run.brought_back)
    }

    /// Nor may anybody lose anything while an old backup from the middle of a sync, whose file is gone, has not taken a snapshot again.
    #[must_use]
    pub fn needs_all(&self) -> bool {
        let is_alone = |(instance, run): (&super::instance::Instance, &SyncRun)| {
            instance.shard.syncing_head().is_some_and(|head| !run.is_safe(head))
        };
        self.instances.iter().zip(&self.syncs).any(is_alone)
    }

    /// Takes a snapshot at the source of a link, for its target. Returns whether there is one.
    pub fn copy_snapshot(&mut self, link: usize) -> bool {
        let (source, target) = (self.links[link].source, self.links[link].target);
        if !self.links[link].is_up
            || !self.may_read(source, target)
            || self.instances[source].shard.is_syncing()
            || self.syncs[target].is_under_way()
        {
            return false;
        }
        let from = &mut self.instances[source];
        let head = from.shard.snapshot_head();
        let names = all_names(from);
        let keys = names.into_iter().map(|(db, name)| {
            let mut state = Vec::new();
            from.shard.encode_snapshot_key(&mut state, KeyRef { db, name: &name }, &mut from.keyspace);
            ((db, name), state)
        });
        let keys: Vec<_> = keys.collect();
        let reigns = from.reigns();
        self.registry.take_snapshot(&head, &from.oracle, &from.applied);
        self.say(|| format!("{} has a snapshot of {}: {} keys", target + 1, source + 1, keys.len()));
        // As its agent has it done while the snapshot comes, in the order in which it will be merged.
        let to = &mut self.instances[target];
        to.shard.begin_compare(head.clone(), keys.len() as u64);
        for (_, state) in keys.iter().rev() {
            let compared = to.shard.compare_keys(state, &mut to.keyspace, &mut || true);
            assert!(compared.is_ok() || !to.shard.is_primary(), "a key cannot be compared: {compared:?}");
        }
        let run = &mut self.syncs[target];
        run.spools.push(Spool { source, reigns, is_lost: false, head, keys });
        run.stage = Stage::Copied;
        true
    }

    /// Takes a snapshot at the source of a link and begins to merge it at its target. Returns whether it has begun.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn begin_sync(&mut self, link: usize) -> Result<bool, String> {
        if !self.copy_snapshot(link) {
            return Ok(false);
        }
        let spool = self.syncs[self.links[link].target].spools.len() - 1;
        self.begin_merge(self.links[link].target, spool)
    }

    /// A sync that was broken off goes on if its snapshot is in a file, whatever has become of its source. Returns whether it does.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn resume_sync(&mut self, target: usize) -> Result<bool, String> {
        let Some(head) = self.instances[target].shard.syncing_head() else { return Ok(false) };
        let run = &self.syncs[target];
        match run.of(head) {
            Some(spool) if !run.is_under_way() => self.begin_merge(target, spool),
            _ => Ok(false),
        }
    }

    fn begin_merge(&mut self, target: usize, spool: usize) -> Result<bool, String> {
        let Spool { source, head, keys, .. } = &self.syncs[target].spools[spool];
        let (source, count) = (*source, keys.len());
        let would_take = self.instances[target].shard.check_sync(head);
        match self.instances[target].shard.begin_sync(head.clone()) {
            Ok(false) => self.say(|| format!("{} begins a full sync from {}: {count} keys", target + 1, source + 1)),
            Ok(true) => self.say(|| format!("{} goes on with its full sync from {}", target + 1, source + 1)),
            Err(error @ (SyncError::Behind(_) | SyncError::Forgotten(_))) => {
                assert_eq!(would_take.as_ref(), Err(&error), "it is copied in vain");
                self.say(|| format!("{} does not take the snapshot of {}: {error}", target + 1, source + 1));
                self.syncs[target].spools.remove(spool);
                self.syncs[target].stage = Stage::Idle;
                return Ok(false);
            }
            Err(error) => return Err(format!("{} refuses a snapshot: {error}", target + 1)),
        }
        if self.plan.failover == Failover::LosesAnything {
            // Until all re-assertions are everywhere.
            self.instances.iter_mut().for_each(|instance| instance.has_regressed = true);
        }
        let spool = self.syncs[target].supersede(spool);
        self.syncs[target].stage = Stage::Merging { spool, sent: 0 };
        self.links.iter_mut().filter(|link| link.target == target).for_each(super::link::Link::restart);
        self.instances[target].take_records(&mut self.registry)?;
        self.instances[target].check()?;
        Ok(true)
    }

    /// Merges some keys of a snapshot; after the last, ends the sync.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn step_sync(&mut self, target: usize, steps: usize) -> Check {
        for _ in 0..steps {
            match self.syncs[target].stage {
                Stage::Idle => return Ok(()),
                Stage::Copied => {
                    let newest = self.syncs[target].spools.len() - 1;
                    self.begin_merge(target, newest)?;
                }
                Stage::Merging { spool, sent } => {
                    let keys = &self.syncs[target].spools[spool].keys;
                    // From the last one: those that are broken off have merged other keys than the first by name.
                    let Some(at) = keys.len().checked_sub(sent + 1) else { return self.end_sync(target, spool) };
                    let (_, state) = keys[at].clone();
                    self.syncs[target].stage = Stage::Merging { spool, sent: sent + 1 };
                    self.sync_key(target, &state)?;
                }
            }
        }
        Ok(())
    }

    fn sync_key(&mut self, target: usize, encoded: &[u8]) -> Check {
        let now_ms = self.wall(target);
        let to = &mut self.instances[target];
        to.shard
            .sync_keys(encoded, &mut to.keyspace, now_ms, &mut || true)
            .map_err(|error| format!("{} refuses a key: {error}", to.id))?;
        to.take_records(&mut self.registry)?;
        to.check()
    }

    fn sync_absent(&mut self, target: usize, db: u32, name: &[u8]) -> Check {
        let now_ms = self.wall(target);
        let to = &mut self.instances[target];
        to.shard
            .sync_absent(KeyRef { db, name }, &mut to.keyspace, now_ms)
            .map_err(|error| format!("{} refuses a key: {error}", to.id))?;
        to.take_records(&mut self.registry)?;
        to.check()
    }

    /// What the count of the keys says of those that the snapshot lacks is what a look at all of them says.
    fn check_absent(&mut self, target: usize) {
        let to = &mut self.instances[target];
        let mut here: Vec<Name> = Vec::new();
        to.keyspace.keys(FlushScope::All, &mut |db, name| here.push((db, name.to_vec())));
        let Some(few) = to.shard.may_be_absent(here.len() as u64, &mut to.keyspace) else { return };
        for (db, name) in here {
            let is_told = to.shard.has_synced(KeyRef { db, name: &name }) || few.contains(&(db, name.clone()));
            assert!(is_told, "{db}:{} is not in the snapshot, and nobody says so", name.escape_ascii());
        }
    }

    fn end_sync(&mut self, target: usize, spool: usize) -> Check {
        let Spool { source, reigns, is_lost, .. } = self.syncs[target].spools[spool];
        self.check_absent(target);
        for (db, name) in all_names(&mut self.instances[target]) {
            if !self.instances[target].shard.has_synced(KeyRef { db, name: &name }) {
                self.sync_absent(target, db, &name)?;
            }
        }
        let to = &mut self.instances[target];
        let (_, brought) = self.registry.snapshot(to.shard.syncing_head())?;
        self.registry.mark_regressed(brought, &to.applied, &to.stable());
        to.shard.end_sync().map_err(|error| format!("{} cannot end a sync: {error}", to.id))?;
        to.take_records(&mut self.registry)?;
        to.check()?;
        let logged = self.instances[target].logged();
        self.instances[target].synced.push(Synced { source, reigns, logged });
        self.syncs[target].brought_back |= is_lost;
        self.syncs[target].stage = Stage::Idle;
        self.say(|| format!("{} ends its full sync from {}", target + 1, source + 1));
        let link = self.link(source, target);
        self.links[link].synced();
        self.links.iter_mut().filter(|link| link.source == target).for_each(super::link::Link::source_synced);
        Ok(())
    }

    /// The agent of the target, or its connection, ends: a file that is not whole is lost, the others stay.
    pub fn break_sync(&mut self, target: usize) {
        let is_spooled = self.plan.rules.snapshots_are_whole;
        let run = &mut self.syncs[target];
        match run.stage {
            Stage::Copied => drop(run.spools.pop()),
            // The control: it is merged as it comes, and nobody keeps it.
            Stage::Merging { spool, .. } if !is_spooled => drop(run.spools.remove(spool)),
            _ => {}
        }
        if std::mem::take(&mut run.stage) != Stage::Idle {
            self.say(|| format!("the full sync of {} breaks off", target + 1));
        }
    }

    /// Full syncs where they are needed, until the end.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn sync_all(&mut self) -> Check {
        for target in 0..self.instances.len() {
            if !self.syncs[target].is_under_way() && !self.resume_sync(target)? {
                let is_due = self.instances[target].shard.is_syncing();
                let needs =
                    |link: &usize| self.links[*link].target == target && (is_due || self.links[*link].needs_full);
                let links: Vec<usize> = (0..self.links.len()).filter(needs).collect();
                for link in links {
                    if self.begin_sync(link)? {
                        break;
                    }
                }
            }
            self.step_sync(target, usize::MAX)?;
        }
        Ok(())
    }
}

/// Every key that shows, and every one of which something is known.
fn all_names(instance: &mut super::instance::Instance) -> Vec<Name> {
    let mut names: HashSet<Name> = HashSet::new();
    instance.keyspace.keys(FlushScope::All, &mut |db, name| {
        names.insert((db, name.to_vec()));
    });
    let table = instance.shard.table(&mut instance.keyspace);
    names.extend(table.iter().map(|(db, name, _)| (db, name.to_vec())));
    let mut names: Vec<Name> = names.into_iter().collect();
    names.sort();
    names
}
