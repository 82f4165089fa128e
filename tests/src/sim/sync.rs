//! Full syncs: a snapshot of one instance flows into another, key by key, while both go on.

use std::collections::HashSet;

use syncer_shared::effect::FlushScope;
use syncer_shared::keyspace::Keyspace;
use syncer_shared::merge::KeyRef;
use syncer_shared::metadata::KeyMeta;
use syncer_shared::shard::SyncError;
use syncer_shared::snapshot::key;

use super::plan::Failover;
use super::{Check, World};

type Name = (u32, Vec<u8>);

/// A snapshot on its way.
pub struct SyncRun {
    /// Index of the instance that it was taken at.
    pub source: usize,
    keys: Vec<(Name, KeyMeta)>,
    sent: HashSet<Name>,
}

/// A full sync that has ended.
pub struct Synced {
    /// Index of the instance that the snapshot was of.
    pub source: usize,
    /// How many failovers that had gone through.
    pub reigns: u8,
    /// How long the target's stream was afterwards.
    pub logged: usize,
}

impl World {
    /// Whether another instance has taken in a part of a snapshot of `instance`.
    #[must_use]
    pub fn is_sync_source(&self, instance: usize) -> bool {
        let id = self.instances[instance].id;
        self.instances.iter().any(|target| target.syncing.as_ref().is_some_and(|head| head.instance == id))
    }

    /// A failover of `instance` may not end in the middle of a sync whose source has lost something since: what only that part of a snapshot
    /// has, nobody could complete. Returns how many entries of its stream it keeps at least.
    #[must_use]
    pub fn whole_since(&self, instance: usize) -> usize {
        let lost = |synced: &&Synced| self.instances[synced.source].reigns() != synced.reigns;
        self.instances[instance].synced.iter().filter(lost).map(|synced| synced.logged).max().unwrap_or(0)
    }

    /// Takes a snapshot at the source of a link and begins to merge it at its target. Returns whether it has begun.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn begin_sync(&mut self, link: usize) -> Result<bool, String> {
        let (source, target) = (self.links[link].source, self.links[link].target);
        if !self.links[link].is_up
            || !self.may_talk(source, target)
            || self.instances[source].shard.is_syncing()
            || self.syncs[target].is_some()
        {
            return Ok(false);
        }
        let from = &mut self.instances[source];
        let head = from.shard.snapshot_head();
        let names = all_names(from);
        let keys = names.into_iter().map(|(db, name)| {
            let state = from.shard.snapshot_key(KeyRef { db, name: &name }, &mut from.keyspace);
            ((db, name), state)
        });
        let keys: Vec<_> = keys.collect();
        self.registry.take_snapshot(&head, &from.oracle, &from.applied);
        match self.instances[target].shard.begin_sync(head) {
            Ok(()) => {}
            Err(SyncError::Behind(_)) => {
                self.say(|| format!("{} is behind the broken-off sync of {}", source + 1, target + 1));
                return Ok(false);
            }
            Err(error) => return Err(format!("{} refuses a snapshot: {error}", target + 1)),
        }
        if self.plan.failover == Failover::LosesAnything {
            // Until all re-assertions are everywhere.
            self.instances.iter_mut().for_each(|instance| instance.has_regressed = true);
        }
        self.say(|| format!("{} begins a full sync from {}: {} keys", target + 1, source + 1, keys.len()));
        self.syncs[target] = Some(SyncRun { source, keys, sent: HashSet::new() });
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
            let Some(run) = &mut self.syncs[target] else { return Ok(()) };
            let Some(((db, name), state)) = run.keys.pop() else { return self.end_sync(target) };
            run.sent.insert((db, name.clone()));
            self.sync_key(target, db, &name, &state)?;
        }
        Ok(())
    }

    fn sync_key(&mut self, target: usize, db: u32, name: &[u8], state: &KeyMeta) -> Check {
        let now_ms = self.wall(target);
        let mut encoded = Vec::new();
        key::encode(&mut encoded, db, name, state);
        let to = &mut self.instances[target];
        to.shard
            .sync_keys(&encoded, &mut to.keyspace, now_ms, &mut || true)
            .map_err(|error| format!("{} refuses a key: {error}", to.id))?;
        to.take_records(&mut self.registry)?;
        to.check()
    }

    fn sync_absent(&mut self, target: usize, db: u32, name: &[u8]) -> Check {
        let to = &mut self.instances[target];
        to.shard
            .sync_absent(KeyRef { db, name }, &mut to.keyspace)
            .map_err(|error| format!("{} refuses a key: {error}", to.id))?;
        to.take_records(&mut self.registry)?;
        to.check()
    }

    fn end_sync(&mut self, target: usize) -> Check {
        let Some(run) = self.syncs[target].take() else { return Ok(()) };
        let names = all_names(&mut self.instances[target]);
        for (db, name) in names.into_iter().filter(|name| !run.sent.contains(name)) {
            self.sync_absent(target, db, &name)?;
        }
        let to = &mut self.instances[target];
        to.shard.end_sync().map_err(|error| format!("{} cannot end a sync: {error}", to.id))?;
        to.take_records(&mut self.registry)?;
        to.check()?;
        let (reigns, logged) = (self.instances[run.source].reigns(), self.instances[target].logged());
        self.instances[target].synced.push(Synced { source: run.source, reigns, logged });
        self.say(|| format!("{} ends its full sync from {}", target + 1, run.source + 1));
        let link = self.link(run.source, target);
        self.links[link].synced();
        self.links.iter_mut().filter(|link| link.source == target).for_each(super::link::Link::source_synced);
        Ok(())
    }

    /// The snapshot is lost on its way.
    pub fn break_sync(&mut self, target: usize) {
        if self.syncs[target].take().is_some() {
            self.say(|| format!("the full sync of {} breaks off", target + 1));
        }
    }

    /// Full syncs where they are needed, until the end.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn sync_all(&mut self) -> Check {
        for target in 0..self.instances.len() {
            if self.syncs[target].is_none() {
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
