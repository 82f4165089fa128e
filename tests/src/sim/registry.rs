//! Every group that was ever authored, as its author made it: who had seen what.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

use syncer_shared::context::StreamContext;
use syncer_shared::group::GroupView;
use syncer_shared::replid::ReplId;
use syncer_shared::snapshot::SnapshotHead;
use syncer_shared::timestamp::Timestamp;

use super::oracle::{DotName, Oracle};

/// A vector clock by names.
pub type Context = BTreeMap<ReplId, Timestamp>;

/// One group.
#[derive(Clone, Debug)]
pub struct Authored {
    /// Its frame.
    pub frame: Vec<u8>,
    /// What its author had seen of others.
    pub context: Context,
    /// Whether a client wrote it, not the shard by itself.
    pub is_captured: bool,
    is_regressed: Cell<bool>,
}

impl Authored {
    /// Whether its author may not have seen what is stable somewhere (2.2 rule 5).
    #[must_use]
    pub fn is_regressed(&self) -> bool {
        self.is_regressed.get()
    }

    /// Somebody takes it for such a one.
    pub fn regresses(&self) {
        self.is_regressed.set(true);
    }
}

/// All groups by (replication ID, timestamp).
#[derive(Default)]
pub struct Registry {
    groups: HashMap<(ReplId, Timestamp), Authored>,
    streams: HashMap<ReplId, StreamContext>,
    /// By their encoded heads.
    snapshots: HashMap<Vec<u8>, (Oracle, Context)>,
}

impl Registry {
    /// A group that its author has just made, in order.
    ///
    /// # Errors
    /// I-7: the dot was used before.
    pub fn author(&mut self, group: &GroupView<'_>, is_captured: bool, is_regressed: bool) -> Result<(), String> {
        let stream = self.streams.entry(group.replid).or_default();
        stream.apply_change(group.change).map_err(|error| format!("an author's own context change: {error}"))?;
        let context = stream.entries().iter().map(|(replid, _, ts)| (*replid, *ts)).collect();
        let is_regressed = Cell::new(is_regressed);
        let made = Authored { frame: group.frame.to_vec(), context, is_captured, is_regressed };
        match self.groups.insert((group.replid, group.ts), made) {
            None => Ok(()),
            Some(_) => Err(format!("I-7: {:?} has used timestamp {} twice", group.replid, group.ts)),
        }
    }

    /// Those that `clock` covers, in effect order.
    #[must_use]
    pub fn survivors(&self, clock: &Context) -> Vec<(DotName, &Authored)> {
        let has = |(replid, ts): &(ReplId, Timestamp)| clock.get(replid).is_some_and(|have| have >= ts);
        let dot = |((replid, ts), authored): (&(ReplId, Timestamp), &Authored)| {
            let (group, _) = GroupView::parse(&authored.frame).ok()?;
            Some(DotName { ts: *ts, instance: group.instance, replid: *replid, index: 0 })
        };
        let survived = self.groups.iter().filter(|(name, _)| has(name));
        let mut all: Vec<_> =
            survived.filter_map(|(name, authored)| Some((dot((name, authored))?, authored))).collect();
        all.sort_by_key(|(dot, _)| *dot);
        all
    }

    /// Whether a shard wrote `by` by itself, having seen `dot`.
    #[must_use]
    pub fn has_taken_up(&self, by: &DotName, dot: &DotName) -> bool {
        self.groups.get(&(by.replid, by.ts)).filter(|group| !group.is_captured).is_some_and(|group| {
            let seen = group.context.get(&dot.replid).is_some_and(|seen| *seen >= dot.ts);
            seen || (by.replid == dot.replid && by.ts > dot.ts)
        })
    }

    /// What an instance had applied, and what it had to show, when a snapshot was taken.
    pub fn take_snapshot(&mut self, head: &SnapshotHead, oracle: &Oracle, applied: &Context) {
        self.snapshots.insert(encoded(head), (oracle.clone(), applied.clone()));
    }

    /// What a snapshot has brought to an instance that had `applied`: in the clock of its author something may be missing that is `stable` there. So it is regressed
    /// there, as if it had come by itself.
    pub fn mark_regressed(&self, brought: &Context, applied: &Context, stable: &Context) {
        let has =
            |clock: &Context, (replid, ts): &(ReplId, Timestamp)| clock.get(replid).is_some_and(|have| have >= ts);
        for (name, authored) in self.groups.iter().filter(|(name, _)| has(brought, name) && !has(applied, name)) {
            let Ok((group, _)) = GroupView::parse(&authored.frame) else { continue };
            let had =
                |replid: &ReplId| if *replid == name.0 { Some(&group.prev) } else { authored.context.get(replid) };
            if stable.iter().any(|(replid, ts)| had(replid) < Some(ts)) {
                authored.regresses();
            }
        }
    }

    /// The snapshot that begins so.
    ///
    /// # Errors
    /// There is none.
    pub fn snapshot(&self, head: Option<&SnapshotHead>) -> Result<&(Oracle, Context), String> {
        let head = head.ok_or("a part of a snapshot without its head")?;
        self.snapshots.get(&encoded(head)).ok_or_else(|| "nobody has taken this snapshot".into())
    }

    /// A group that came to another instance.
    ///
    /// # Errors
    /// I-7: it is not what its author made.
    pub fn find(&self, group: &GroupView<'_>) -> Result<&Authored, String> {
        match self.groups.get(&(group.replid, group.ts)) {
            Some(authored) if authored.frame == group.frame => Ok(authored),
            Some(_) => Err(format!("I-7: {:?} at {} names two groups", group.replid, group.ts)),
            None => Err(format!("nobody has authored {:?} at {}", group.replid, group.ts)),
        }
    }
}

fn encoded(head: &SnapshotHead) -> Vec<u8> {
    let mut bytes = Vec::new();
    head.encode(&mut bytes);
    bytes
}
