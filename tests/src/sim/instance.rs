//! One simulated instance: the production shard, a dataset, the oracle beside it, and its replication stream.

use std::collections::{BTreeMap, BTreeSet};

use syncer_shared::effect::{ClearReason, FlushScope};
use syncer_shared::group::{self, Frame, GroupBuilder, GroupView};
use syncer_shared::instance::InstanceId;
use syncer_shared::keyspace::Keyspace;
use syncer_shared::list::Drafts;
use syncer_shared::memory::MemoryKeyspace;
use syncer_shared::merge::Rules;
use syncer_shared::record::{Before, Record};
use syncer_shared::replid::ReplId;
use syncer_shared::shard::{JoinData, Shard, ShardConfig, Start};
use syncer_shared::snapshot::{SnapshotHead, SnapshotKey};
use syncer_shared::token::ClockToken;
use syncer_shared::wire::Reader;

use super::Check;
use super::client::{Client, Command};
use super::follower::{Follower, Logged, log_bytes, restored};
use super::oracle::{DotName, Oracle};
use super::registry::{Context, Registry};
use super::streams::without_lone_deliveries;

/// One instance.
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// The code under test.
    pub shard: Shard,
    /// What clients see.
    pub keyspace: MemoryKeyspace,
    /// What they should see.
    pub oracle: Oracle,
    /// What was applied.
    pub applied: Context,
    /// How wrong its wall clock is.
    pub skew_ms: i64,
    /// Entries of the replication stream that peers rely on (2.2 rule 1).
    pub durable: usize,
    /// The clock at that entry.
    durable_clock: ClockToken,
    /// Old backups and full syncs in one run: what was written without having seen what is stable is put right only when the others'
    /// re-assertions have come (2.2 rule 5).
    pub has_regressed: bool,
    /// The snapshot that comes in.
    pub syncing: Option<SnapshotHead>,
    /// Those that came.
    pub synced: Vec<super::sync::Synced>,
    /// Keys that its server has dropped as it loaded its file, and nobody has told of.
    dropped: BTreeSet<(u32, Vec<u8>)>,
    history: Vec<Logged>,
    /// The highest that it has ever reported, or may have.
    reported: Context,
    follower: Option<Follower>,
    config: ShardConfig,
    reigns: u8,
}

impl Instance {
    /// An instance at its start, which nobody knows yet.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn new(
        id: InstanceId,
        backlog_bytes: u64,
        rules: Rules,
        now_ms: u64,
        registry: &mut Registry,
    ) -> Result<Self, String> {
        let config = ShardConfig { backlog_bytes, rules, ..ShardConfig::new(id) };
        let shard = Shard::new(config.clone(), replid(id, 0), Start::Empty, now_ms);
        let (keyspace, oracle, applied) = Default::default();
        let history = Vec::new();
        let mut new = Self {
            id,
            shard,
            keyspace,
            oracle,
            applied,
            skew_ms: 0,
            durable: 0,
            durable_clock: ClockToken::default(),
            has_regressed: false,
            syncing: None,
            synced: Vec::new(),
            dropped: BTreeSet::new(),
            history,
            reported: Context::new(),
            follower: None,
            config,
            reigns: 0,
        };
        new.take_records(registry)?;
        new.persist();
        Ok(new)
    }

    /// A client's commands, as one unit.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn write(&mut self, commands: &[(u32, Vec<u8>, Command)], now_ms: u64, registry: &mut Registry) -> Check {
        self.unit(now_ms, registry, |client| {
            commands.iter().for_each(|(db, key, command)| client.run(*db, key, command));
        })
    }

    /// The server's own expiry of everything that is due.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn expire(&mut self, now_ms: u64, registry: &mut Registry) -> Check {
        let mut names = Vec::new();
        self.keyspace.keys(FlushScope::All, &mut |db, key| names.push((db, key.to_vec())));
        for (db, key) in names {
            self.unit(now_ms, registry, |client| client.expire_if_due(db, &key))?;
        }
        Ok(())
    }

    fn unit(&mut self, now_ms: u64, registry: &mut Registry, run: impl FnOnce(&mut Client<'_>)) -> Check {
        if !self.shard.takes_writes() {
            return Ok(());
        }
        let (mut group, mut before, mut drafts) = (GroupBuilder::new(), Before::new(), Drafts::default());
        let keyspace = &mut self.keyspace;
        let now = now_ms as i64;
        run(&mut Client { keyspace, group: &mut group, before: &mut before, drafts: &mut drafts, now_ms: now });
        if group.is_empty() && drafts.is_empty() {
            return Ok(());
        }
        let written = Some(self.keyspace.clone());
        let record = if drafts.is_empty() {
            self.shard.commit(&group, &before, &mut self.keyspace, now_ms).to_vec()
        } else {
            self.shard.commit_edits(&group, &before, &drafts, &mut self.keyspace, now_ms).to_vec()
        };
        self.note(Logged { written, record }, Some(registry), None)?;
        self.take_records(registry)?;
        self.check()
    }

    /// Takes what the shard has put into its replication stream.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn take_records(&mut self, registry: &mut Registry) -> Check {
        for record in self.shard.take_records() {
            self.note(Logged { written: None, record }, Some(registry), None)?;
        }
        Ok(())
    }

    /// Follows one entry of the stream with the oracle. `author` takes own groups; without it they are known.
    fn note(&mut self, logged: Logged, author: Option<&mut Registry>, known: Option<&Registry>) -> Check {
        let record = logged.record.clone();
        let parsed = Record::parse(&record).map_err(|error| format!("an own record: {error}"))?;
        if matches!(parsed, Record::Dropped { .. }) {
            self.note_dropped(logged.written.as_ref());
        }
        match (parsed, author) {
            (
                parsed @ (Record::Captured { frame, .. }
                | Record::Authored { frame }
                | Record::Dropped { frame: Some(frame), .. }
                | Record::Decided { frame: Some(frame) }
                | Record::Founded { frame, .. }),
                author,
            ) => {
                let (group, _) = GroupView::parse(frame).map_err(|error| error.to_string())?;
                let registry = match author {
                    Some(registry) => {
                        let is_captured = matches!(parsed, Record::Captured { .. } | Record::Dropped { .. });
                        registry.author(&group, is_captured, !self.has_all(&self.reported))?;
                        Some(&*registry)
                    }
                    None => known,
                };
                self.follow(&group, registry)?;
            }
            (Record::Applied { frames, .. }, author) => {
                let (registry, is_new) = (author.as_deref().or(known), author.is_some());
                let mut rest = frames;
                while !rest.is_empty() {
                    let (frame, tail) = Frame::parse(rest).map_err(|error| error.to_string())?;
                    let Frame::Group(group) = frame else { return Err("a skip in a record".into()) };
                    if is_new {
                        self.mark_regressed(&group, registry);
                    }
                    self.follow(&group, registry)?;
                    rest = tail;
                }
            }
            (Record::SyncBegins { head }, _) => self.syncing = Some(head),
            (Record::SyncKeys { keys }, author) => {
                let registry = author.as_deref().or(known).ok_or("no registry")?;
                let (theirs, applied) = registry.snapshot(self.syncing.as_ref())?;
                let mut reader = Reader::new(keys);
                while !reader.is_empty() {
                    let key = SnapshotKey::decode(&mut reader).map_err(|error| error.to_string())?;
                    self.oracle.meet((key.db, key.name.to_vec()), theirs, &self.applied, applied);
                }
            }
            (Record::SyncEnds, author) => {
                let registry = author.as_deref().or(known).ok_or("no registry")?;
                let (theirs, applied) = registry.snapshot(self.syncing.take().as_ref())?;
                self.oracle.meet_dead(theirs, &self.applied, applied);
                for (replid, ts) in applied {
                    let have = self.applied.entry(*replid).or_default();
                    *have = (*have).max(*ts);
                }
            }
            (Record::Joins { frame, .. }, author) => {
                let (group, _) = GroupView::parse(frame).map_err(|error| error.to_string())?;
                let author = author.map(|registry| registry.author(&group, false, true).map(|()| &*registry));
                let registry = author.transpose()?.or(known);
                // Who had begun to join goes on with that reign.
                let begun = registry.ok_or("no registry")?.find(&group)?.context.clone();
                (self.oracle, self.applied, self.syncing) = (Oracle::default(), begun, None);
                self.follow(&group, registry)?;
            }
            (
                Record::Stable { .. }
                | Record::Renewed
                | Record::Decided { frame: None }
                | Record::Position { .. }
                | Record::Settled { .. }
                | Record::Changed { .. }
                | Record::Dropped { frame: None, .. },
                _,
            ) => {}
        }
        self.history.push(logged);
        Ok(())
    }

    fn follow(&mut self, group: &GroupView<'_>, registry: Option<&Registry>) -> Check {
        let Some(registry) = registry else { return Err("no registry".into()) };
        let authored = registry.find(group)?;
        let have = self.applied.get(&group.replid).copied().unwrap_or_default();
        if group.prev != have || group.ts <= have {
            return Err(format!(
                "I-2: {} applies {:?} {} after {have}, its author did so after {}",
                self.id, group.replid, group.ts, group.prev
            ));
        }
        if !self.has_all(&authored.context) {
            return Err(format!("I-3: {} applies {:?} {} before its context", self.id, group.replid, group.ts));
        }
        let (ts, instance, replid) = (group.ts, group.instance, group.replid);
        for (index, effect) in (0_u32..).zip(group::effects(group.body)) {
            if instance == self.id {
                self.dropped.remove(&(effect.db, effect.key.to_vec()));
            }
            self.oracle.apply(&effect, DotName { ts, instance, replid, index }, &authored.context);
        }
        self.applied.insert(replid, ts);
        Ok(())
    }

    /// S, by names.
    pub fn stable(&self) -> Context {
        let origins = self.shard.origins();
        self.shard.stability().stable().iter().map(|(origin, ts)| (origins.replid(origin), ts)).collect()
    }

    /// What has just come may be regressed here.
    fn mark_regressed(&self, group: &GroupView<'_>, registry: Option<&Registry>) {
        let Some(authored) = registry.and_then(|registry| registry.find(group).ok()) else { return };
        let had =
            |replid: &ReplId| if *replid == group.replid { Some(&group.prev) } else { authored.context.get(replid) };
        let origins = self.shard.origins();
        if self.shard.stability().stable().iter().any(|(origin, ts)| had(&origins.replid(origin)) < Some(&ts)) {
            authored.regresses();
        }
    }

    fn has_all(&self, clock: &Context) -> bool {
        clock.iter().all(|(replid, ts)| self.applied.get(replid).is_some_and(|have| have >= ts))
    }

    /// I-4: clients see the view of the live dots.
    ///
    /// # Errors
    /// Where not.
    pub fn check(&self) -> Check {
        let clock = || self.shard.clock().iter().map(|(origin, ts)| (self.shard.origins().replid(origin), ts));
        let has_all = || clock().all(|(replid, ts)| self.applied.get(&replid) == Some(&ts));
        if clock().count() != self.applied.len() || !has_all() {
            let clock: Context = clock().collect();
            return Err(format!("the clock of {} is {clock:?}, but it has applied {:?}", self.id, self.applied));
        }
        match self.oracle.difference(&self.keyspace, &self.dropped) {
            None => Ok(()),
            Some(_) if self.has_regressed => Ok(()),
            Some(difference) => {
                Err(format!("I-4: instance {} shows not the view of its live dots: {difference}", self.id))
            }
        }
    }

    /// What is logged so far will survive: reports may say so.
    pub fn persist(&mut self) {
        self.durable = self.history.len();
        self.durable_clock = self.shard.clock_token();
        for (replid, ts) in &self.applied {
            let reported = self.reported.entry(*replid).or_default();
            *reported = (*reported).max(*ts);
        }
        self.shard.set_durable(Some(self.durable_clock.clone()));
    }

    /// What would survive.
    #[must_use]
    pub fn durable_clock(&self) -> &ClockToken {
        &self.durable_clock
    }

    /// How long its replication stream is.
    #[must_use]
    pub fn logged(&self) -> usize {
        self.history.len()
    }

    /// Joins the group whose sponsor has `via`.
    ///
    /// # Errors
    /// Why not, or a broken invariant.
    pub fn join(&mut self, via: ClockToken, data: (JoinData, bool), now_ms: u64, registry: &mut Registry) -> Check {
        let anew = (replid(self.id, self.reigns + 1), now_ms);
        self.shard.join(via, data, &mut self.keyspace, anew).map_err(|error| error.to_string())?;
        self.reigns += 1;
        self.synced.clear();
        self.take_records(registry)?;
        self.persist();
        self.check()
    }

    /// How many reigns it has begun.
    #[must_use]
    pub fn reigns(&self) -> u8 {
        self.reigns
    }

    /// I-12, I-1: a replica that follows the stream is like its primary, also when it was restarted after the first `saved` entries, or
    /// later.
    ///
    /// # Errors
    /// Where not.
    pub fn check_replica(&mut self, saved: usize, now_ms: u64) -> Check {
        let new = || Follower::new(&self.config, replid(self.id, NOBODY), now_ms);
        let mut follower = self.follower.take().unwrap_or_else(new);
        follower.follow(&self.history, &self.config, saved)?;
        let is_like = self.check_follower(&mut follower);
        self.follower = Some(follower);
        is_like
    }

    fn check_follower(&self, follower: &mut Follower) -> Check {
        let Follower { shard, keyspace, .. } = follower;
        let primary = |what: &str| format!("I-12: a replica of {} has another {what} than its primary", self.id);
        if *keyspace != self.keyspace {
            let (here, there) = (without_lone_deliveries(&self.keyspace), without_lone_deliveries(keyspace));
            if let Some(name) = here.keys().chain(there.keys()).find(|name| here.get(*name) != there.get(*name)) {
                let what = primary("dataset");
                return Err(format!("{what}: {name:?}: {:?}, but the replica {:?}", here.get(name), there.get(name)));
            }
        }
        if shard.clock_token() != self.shard.clock_token() {
            return Err(primary("clock"));
        }
        // 2.2 rule 6.
        if shard.status().stable != self.shard.status().stable {
            return Err(primary("S"));
        }
        if shard.taken_up() != self.shard.taken_up() {
            return Err(format!("{}: {}, {}", primary("own writes taken up"), shard.taken_up(), self.shard.taken_up()));
        }
        let offsets = |shard: &Shard| (shard.backlog().first_offset(), shard.backlog().end_offset());
        if offsets(shard) != offsets(&self.shard) {
            return Err(format!("{}: {:?}, {:?}", primary("backlog"), offsets(shard), offsets(&self.shard)));
        }
        if log_bytes(shard.backlog_mut()) != log_bytes(&mut self.shard.backlog().clone()) {
            return Err(primary("backlog"));
        }
        Ok(())
    }

    /// The primary is restarted, and goes on from what it had saved just before.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn restart(&mut self, now_ms: u64, registry: &mut Registry) -> Check {
        let mut restored = restored(&self.shard, &self.config)?;
        if log_bytes(restored.backlog_mut()) != log_bytes(&mut self.shard.backlog().clone()) {
            return Err(format!("{} has another backlog after a restart", self.id));
        }
        self.shard = restored;
        self.begin_reign(now_ms, registry)
    }

    /// The server has loaded a file, and drops what is due.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn drop_expired(&mut self, now_ms: u64, registry: &mut Registry) -> Check {
        let due =
            self.keyspace.entries().iter().filter(|(_, entry)| entry.expire_at.is_some_and(|at| at <= now_ms as i64));
        let due: Vec<_> = due.map(|(name, _)| name.clone()).collect();
        if due.is_empty() {
            return Ok(());
        }
        for (db, key) in &due {
            self.keyspace.delete(*db, key, ClearReason::Expired);
        }
        // What the merge then shows a replica shows by itself.
        let loaded = self.keyspace.clone();
        self.shard.expire_dropped(&mut self.keyspace, now_ms);
        for record in self.shard.take_records() {
            let is_it = matches!(Record::parse(&record), Ok(Record::Dropped { .. }));
            let written = is_it.then(|| loaded.clone());
            self.note(Logged { written, record }, Some(registry), None)?;
        }
        self.check()
    }

    /// The dataset of a replica that comes to the last entry of the stream late: when it is `written` already.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn follow_late(&self, written: MemoryKeyspace, now_ms: u64) -> Result<MemoryKeyspace, String> {
        let (last, before) = self.history.split_last().ok_or("the stream is empty")?;
        let mut replica = Follower::new(&self.config, replid(self.id, NOBODY), now_ms);
        replica.follow(before, &self.config, usize::MAX)?;
        replica.keyspace = written;
        replica.shard.replay(&last.record, &mut replica.keyspace).map_err(|error| error.to_string())?;
        Ok(replica.keyspace)
    }

    /// Whether a key is there whose TTL has passed.
    pub fn has_due(&self, now_ms: u64) -> bool {
        self.keyspace.entries().values().any(|entry| entry.expire_at.is_some_and(|at| at <= now_ms as i64))
    }

    /// Whether a key is not there, and nobody has said so.
    pub fn has_dropped(&self) -> bool {
        !self.dropped.is_empty()
    }

    /// What is shown without a key that is not there.
    fn note_dropped(&mut self, written: Option<&MemoryKeyspace>) {
        let Some(written) = written else { return };
        let names = self.oracle.shown().map(|(name, _)| name);
        self.dropped.extend(names.filter(|name| !written.entries().contains_key(name)).cloned());
    }

    fn begin_reign(&mut self, now_ms: u64, registry: &mut Registry) -> Check {
        self.reigns += 1;
        self.shard.begin_reign(replid(self.id, self.reigns), now_ms);
        self.take_records(registry)?;
        self.durable_clock = self.durable_clock.lower(&self.shard.clock_token());
        self.shard.set_durable(Some(self.durable_clock.clone()));
        self.check()
    }

    /// The primary is lost; a replica takes over that has the first `len` entries of its stream, and was restarted after `saved` of them.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn fail_over(&mut self, saved: usize, len: usize, now_ms: u64, registry: &mut Registry) -> Check {
        let mut follower = Follower::new(&self.config, replid(self.id, NOBODY), now_ms);
        follower.follow(&self.history[..len], &self.config, saved)?;
        let history: Vec<Logged> = self.history.drain(..).take(len).collect();
        (self.shard, self.keyspace, self.follower) = (follower.shard, follower.keyspace, None);
        (self.oracle, self.applied, self.syncing) = (Oracle::default(), BTreeMap::new(), None);
        self.dropped.clear();
        for logged in history {
            self.note(logged, None, Some(registry))?;
        }
        self.durable = self.durable.min(self.history.len());
        self.synced.retain(|synced| synced.logged <= len);
        self.begin_reign(now_ms, registry)
    }
}

/// A number that no reign has.
const NOBODY: u8 = 255;

/// The name of a reign.
fn replid(id: InstanceId, reign: u8) -> ReplId {
    let mut bytes = [id.get(); 20];
    bytes[1] = reign;
    // Names must not sort as instances or reigns do.
    bytes[0] = id.get().wrapping_mul(37) ^ reign.wrapping_mul(101);
    ReplId::from_bytes(bytes)
}
