//! What there is to see: `SYNCER.STATUS`, `SYNCER.KEY`.

use super::{Counters, PastReign, Shard};
use crate::effect::{Kind, UnixMs};
use crate::instance::{InstanceId, InstanceSet};
use crate::keyspace::Keyspace;
use crate::metadata::{KeyMeta, path_of};
use crate::replid::ReplId;
use crate::timestamp::Timestamp;
use crate::token::ClockToken;

/// The state of a shard in figures.
#[derive(Clone, Debug)]
pub struct Status {
    /// This instance.
    pub instance: InstanceId,
    /// Primary or replica.
    pub is_primary: bool,
    /// Current replication ID.
    pub replid: ReplId,
    /// When it began, if that is known here.
    pub began: Option<Timestamp>,
    /// Past replication IDs of this instance, oldest first.
    pub past: Vec<PastReign>,
    /// Oldest offset that the backlog has.
    pub backlog_first: u64,
    /// Offset behind the newest entry.
    pub backlog_end: u64,
    /// Size that it may have.
    pub backlog_capacity: u64,
    /// What is applied here.
    pub clock: ClockToken,
    /// S.
    pub stable: ClockToken,
    /// Whose reports hold S back.
    pub held_back_by: InstanceSet,
    /// Members.
    pub members: InstanceSet,
    /// Who was forgotten and has not joined again; whether that is settled.
    pub forgotten: Vec<(InstanceId, bool)>,
    /// Keys with metadata, as of before the tail.
    pub metadata_keys: usize,
    /// Groups of the tail: applied, and not yet in the metadata.
    pub waiting_groups: usize,
    /// Estimated bytes of metadata.
    pub metadata_bytes: usize,
    /// Keys with a value that the dataset cannot hold.
    pub unknown: usize,
    /// Keys set aside for another instance's re-assertion.
    pub aside: usize,
    /// A later reign of this instance, if it was replaced while it lived on.
    pub superseded_by: Option<ReplId>,
    /// What this site's agent goes on with instead of this server.
    pub replaced_by: Option<ReplId>,
    /// How much later the last own group is than the last durable one.
    pub durable_behind_ms: u64,
    /// Counters since the start.
    pub counters: Counters,
}

/// What is known of a key.
#[derive(Clone, Debug, Default)]
pub struct KeyInfo {
    /// Live dots of values.
    pub dots: Vec<DotInfo>,
    /// Live TTL dots: author, timestamp, expiry (`None` = no TTL), strong.
    pub ttl: Vec<(InstanceId, Timestamp, Option<UnixMs>, bool)>,
    /// Nothing is known that others may not know.
    pub stable: bool,
    /// Its value is one that this server cannot hold.
    pub unknown: bool,
    /// Of a list that the dataset shows: its ids.
    pub list: Option<ListInfo>,
}

/// The ids of a list.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListInfo {
    /// How many.
    pub elements: usize,
    /// Runs that have elements.
    pub runs: usize,
    /// Segments of the longest position.
    pub depth: usize,
    /// What changes in its middle have cost beyond their chunk, in chunks.
    pub steps: u64,
    /// Memory.
    pub bytes: usize,
}

/// One live dot.
#[derive(Clone, Debug)]
pub struct DotInfo {
    /// The value type it belongs to.
    pub kind: Kind,
    /// The element, empty for whole values.
    pub element: Vec<u8>,
    /// Who wrote it.
    pub instance: InstanceId,
    /// When.
    pub ts: Timestamp,
    /// An increment, not an assignment.
    pub is_increment: bool,
    /// Kept here because the dataset shows another value.
    pub is_parked: bool,
    /// Known to be everywhere.
    pub is_stable: bool,
}

impl Shard {
    /// The figures. Costs a walk over a sample of the metadata.
    #[must_use]
    pub fn status(&self) -> Status {
        let members = self.membership.members();
        Status {
            instance: self.config.instance,
            is_primary: self.is_primary(),
            replid: self.replid,
            began: self.me.and_then(|me| self.stability.start(me)),
            past: self.past.clone(),
            backlog_first: self.backlog.first_offset(),
            backlog_end: self.backlog.end_offset(),
            backlog_capacity: self.config.backlog_bytes,
            clock: self.clock_token(),
            stable: self.token(self.stability.stable()),
            held_back_by: self.stability.held_back_by(self.config.instance, members, &self.clock),
            members,
            forgotten: self.membership.all_forgotten().map(|(instance, f)| (instance, f.settled)).collect(),
            metadata_keys: self.metadata.before_tail().len(),
            waiting_groups: self.metadata.waiting(),
            metadata_bytes: self.metadata.before_tail().bytes(),
            unknown: self.metadata.before_tail().unknown(),
            aside: self.aside.len(),
            superseded_by: self.superseded_by(),
            replaced_by: self.told_replaced.map(|(by, _)| by),
            durable_behind_ms: self.durable_behind_ms(),
            counters: self.counters,
        }
    }

    /// What is known of a key (`SYNCER.KEY`).
    #[must_use]
    pub fn key_info<K: Keyspace>(&mut self, db: u32, key: &[u8], keyspace: &mut K) -> KeyInfo {
        self.take_in_tail(keyspace);
        let table = self.metadata.before_tail();
        let Some(id) = table.find(db, key) else { return KeyInfo { stable: true, ..KeyInfo::default() } };
        let meta = table.meta(id);
        let ttl = meta.ttl.dots.iter();
        let ttl: Vec<_> = ttl.map(|t| (self.origins.instance(t.dot.origin), t.dot.ts, t.at, t.strong)).collect();
        let dots = self.dots(meta);
        let list = meta.list().map(|list| ListInfo {
            elements: list.len(),
            runs: list.runs(),
            depth: list.depth(),
            steps: list.steps(),
            bytes: list.heap_bytes(),
        });
        let stable =
            dots.iter().all(|dot| dot.is_stable) && meta.ttl.dots.iter().all(|t| t.dot.is_in(self.stability.stable()));
        KeyInfo { dots, ttl, stable, unknown: meta.keeps_unknown(), list }
    }

    /// The timestamp of the newest live dot of a key: a later write raises it. Zero when none is live.
    #[must_use]
    pub fn newest_dot<K: Keyspace>(&mut self, db: u32, key: &[u8], keyspace: &mut K) -> Timestamp {
        let table = self.table(keyspace);
        let known = table.find(db, key).map(|id| table.meta(id));
        known.into_iter().flat_map(KeyMeta::dots).map(|dot| dot.ts).max().unwrap_or_default()
    }

    fn dots(&self, meta: &KeyMeta) -> Vec<DotInfo> {
        let mut dots = Vec::new();
        for kind in &meta.kinds {
            for (element, path) in kind.paths.iter() {
                debug_assert_eq!(path_of(kind.kind, element).kind(), kind.kind);
                let top = path.top(&self.origins);
                let assigns = path
                    .assigns
                    .iter()
                    .enumerate()
                    .map(|(i, a)| (a.dot, false, top != crate::metadata::Top::Assign(i)));
                let increments = path.increments().iter().map(|i| (i.dot, true, false));
                dots.extend(assigns.chain(increments).map(|(dot, is_increment, is_parked)| DotInfo {
                    kind: kind.kind,
                    element: element.to_vec(),
                    instance: self.origins.instance(dot.origin),
                    ts: dot.ts,
                    is_increment,
                    is_parked,
                    is_stable: dot.is_in(self.stability.stable()),
                }));
            }
        }
        dots
    }
}
