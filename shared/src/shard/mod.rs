//! The whole state of one shard, without IO: events in, effects and records out, time as an argument.
//!
//! The module wraps it around the server's dataset, the simulation around a map: the same code in both.

mod apply;
mod author;
mod batch;
mod behind;
mod changed;
mod commit;
mod compare;
mod dropped;
mod edit;
mod handshake;
mod join;
mod kept;
mod members;
mod met;
mod past;
mod peers;
mod present;
mod queue;
mod renew;
mod replay;
mod report;
mod round;
pub(crate) mod saved;
mod snapshot;
mod status;
mod stream;
mod succeed;
mod sync;
mod tail;
mod taken;
mod unheard;
mod unknown;

pub use crate::record::Before;
pub use batch::{Applied, ApplyError, Batch, Outcome};
pub use handshake::{Answer, HandshakeError, Hello, PROTOCOL, Standing, Welcome};
pub use join::{JoinData, WritesRefused};
pub use members::{ForgottenError, MemberError};
pub use peers::{Peer, PeerState};
pub use replay::ReplayError;
pub use report::{Heard, ReportError};
pub use saved::{Restorer, SavedError};
pub use status::{DotInfo, KeyInfo, ListInfo, Status};
pub use sync::SyncError;
pub(crate) use tail::may_wait;
pub use unheard::Unheard;

use std::collections::BTreeMap;

use crate::backlog::Backlog;
use crate::clock::VectorClock;
use crate::effect::{Effect, Op, TtlNote};
use crate::group::GroupBuilder;
use crate::instance::InstanceId;
use crate::membership::Membership;
use crate::merge::{Aside, Rules};
use crate::origin::{Origin, Origins};
use crate::record::Record;
use crate::replid::ReplId;
use crate::stability::Stability;
use crate::timestamp::{Hlc, Timestamp};
use crate::token::ClockToken;
use compare::Compared;
use stream::Stream;
use sync::Syncing;
use tail::Metadata;

/// What a shard must be told.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Which instance this is.
    pub instance: InstanceId,
    /// Size of the backlog in bytes.
    pub backlog_bytes: u64,
    /// How far ahead of the local wall clock an effect's timestamp may be, in milliseconds.
    pub drift_ms_max: u64,
    /// How many logical databases the server has: effects in others are refused.
    pub databases: u32,
    /// How many past replication IDs are remembered: who stopped reading in a reign before them goes on by its clock.
    pub past_replids_max: usize,
    /// Controls of the simulation.
    pub rules: Rules,
}

impl ShardConfig {
    /// 256 MiB: at 100 bytes an effect about 40 seconds of 50,000 writes a second.
    pub const BACKLOG_BYTES_DEFAULT: u64 = 256 << 20;
    /// A minute: far more than NTP needs, far less than harms a TTL.
    pub const DRIFT_MS_DEFAULT: u64 = 60_000;
    /// Reigns begin at starts and promotions; none that anybody still asks for is older than this many.
    pub const PAST_REPLIDS_DEFAULT: usize = 64;

    /// The defaults.
    #[must_use]
    pub fn new(instance: InstanceId) -> Self {
        Self {
            instance,
            backlog_bytes: Self::BACKLOG_BYTES_DEFAULT,
            drift_ms_max: Self::DRIFT_MS_DEFAULT,
            databases: u32::MAX,
            past_replids_max: Self::PAST_REPLIDS_DEFAULT,
            rules: Rules::default(),
        }
    }
}

/// How a shard begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A primary without data: logs its reign and that it joins.
    Empty,
    /// A primary whose server has data that the Active-Active database knows nothing of: others can get it by a full
    /// sync only.
    Seeded,
    /// A replica: everything comes from its primary.
    Replica,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Effects of local writes.
    pub effects_captured: u64,
    /// Effects of other instances.
    pub effects_applied: u64,
    /// Groups of other instances.
    pub groups_applied: u64,
    /// Groups that came again.
    pub duplicates: u64,
    /// Effects that met a concurrent one.
    pub conflicts: u64,
    /// Groups authored to keep what an expiry or an old backup would have lost.
    pub reasserted: u64,
    /// Lists written anew after a local write whose edits could not be told.
    pub lists_rewritten: u64,
    /// Batches refused.
    pub refused: u64,
    /// Effects refused for a clock too far ahead.
    pub drift_refused: u64,
    /// Handshakes answered with a full sync.
    pub sync_full_out: u64,
    /// Snapshots of others merged here.
    pub sync_full_in: u64,
    /// Handshakes answered with CONTINUE.
    pub sync_partial_ok: u64,
    /// Handshakes whose position was not available.
    pub sync_partial_err: u64,
    /// Queue entries pruned.
    pub pruned: u64,
}

/// A reign whose backlog this one goes on with: reading may go on from a position in it, up to where it ended here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastReign {
    /// Its replication ID.
    pub replid: ReplId,
    /// Where it ended here.
    pub end: u64,
}

/// The state of one shard.
#[derive(Debug)]
pub struct Shard {
    config: ShardConfig,
    start: Start,
    replid: ReplId,
    /// The current reign of this primary; on a replica, of its primary.
    me: Option<Origin>,
    /// Oldest first.
    past: Vec<PastReign>,
    hlc: Hlc,
    origins: Origins,
    clock: VectorClock,
    streams: Vec<Stream>,
    /// Origins whose clock entry rose since the last own group.
    dirty: Vec<Origin>,
    backlog: Backlog,
    metadata: Metadata,
    membership: Membership,
    stability: Stability,
    peers: BTreeMap<InstanceId, Peer>,
    heard: Heard,
    /// Reigns that who last introduced itself for an instance had seen of it.
    introduced: BTreeMap<InstanceId, Vec<ReplId>>,
    /// A client has written here.
    has_written: bool,
    /// This instance is joining.
    joining: Option<Box<join::Joining>>,
    /// M7: a peer said that this instance is out. Not saved: after a restart it says so again.
    told_out: Option<(InstanceId, ForgottenError)>,
    /// Its site's agent goes on with another server's reign, and said so at this time. Not saved: it says so again and again.
    told_replaced: Option<(ReplId, u64)>,
    /// 2.2 rule 5: what a peer can bring back. Not saved: it says so again.
    lacking: Option<behind::Lacking>,
    /// Where the backlog ended at the last full sync: a position before says nothing of what came with the snapshot.
    gap: Option<u64>,
    aside: Vec<Aside>,
    /// Keys that the server has dropped as it loaded its file.
    dropped: Option<Box<dropped::Dropped>>,
    /// Writes that a re-assertion has taken up.
    taken: kept::Kept,
    /// A full sync that goes on or was broken off.
    syncing: Option<Box<Syncing>>,
    /// Of a snapshot that is still being copied. Not saved.
    compared: Option<Box<Compared>>,
    counters: Counters,
    /// Whether anything was ever pruned here.
    has_pruned: bool,
    groups_unpruned: u32,
    /// What would survive (2.2 rule 1); all that is applied if not told.
    durable: Option<ClockToken>,
    /// Values that were written and are still to be captured, by database and key.
    changed: Vec<(u32, Box<[u8]>)>,
    /// Records for the replication stream, in order; the caller takes them.
    records: Vec<Vec<u8>>,
    /// Reused buffers: the hot path allocates nothing once warm.
    frame: Vec<u8>,
    change: Vec<u8>,
    own_group: GroupBuilder,
    edited: GroupBuilder,
    ranges: Vec<u8>,
    /// Edits at an end of a list so far.
    ends: u32,
}

impl Shard {
    /// A shard at its start.
    #[must_use]
    pub fn new(config: ShardConfig, replid: ReplId, start: Start, now_ms: u64) -> Self {
        let backlog = Backlog::new(config.backlog_bytes);
        let mut shard = Self {
            config,
            start,
            replid,
            me: None,
            past: Vec::new(),
            hlc: Hlc::default(),
            origins: Origins::default(),
            clock: VectorClock::default(),
            streams: Vec::new(),
            dirty: Vec::new(),
            backlog,
            metadata: Metadata::default(),
            membership: Membership::default(),
            stability: Stability::default(),
            peers: BTreeMap::new(),
            heard: Heard::default(),
            introduced: BTreeMap::new(),
            has_written: false,
            joining: None,
            told_out: None,
            told_replaced: None,
            lacking: None,
            gap: None,
            aside: Vec::new(),
            dropped: None,
            taken: kept::Kept::default(),
            syncing: None,
            compared: None,
            counters: Counters::default(),
            has_pruned: false,
            groups_unpruned: 0,
            durable: None,
            changed: Vec::new(),
            records: Vec::new(),
            frame: Vec::new(),
            change: Vec::new(),
            own_group: GroupBuilder::new(),
            edited: GroupBuilder::new(),
            ranges: Vec::new(),
            ends: 0,
        };
        if start != Start::Replica {
            shard.reign(replid, now_ms, |out| Record::founded(out, start));
            shard.forget_if_seeded();
        }
        shard
    }

    /// Data that no backlog has: who lacks it needs a full sync.
    fn forget_if_seeded(&mut self) {
        if self.start == Start::Seeded {
            self.backlog.forget_before_end();
            // So who has seen nothing of it does not take what has no dot for removed.
            let floor = self.backlog.floor().clone();
            self.stability.set_stable(&floor);
        }
    }

    /// Begins a reign: at a start as a primary, or at a promotion. Its first group carries the full context.
    pub fn begin_reign(&mut self, replid: ReplId, now_ms: u64) {
        self.reign(replid, now_ms, Record::authored);
    }

    /// The server follows another one now. What is known stays: after a native partial resync it goes on from here.
    pub fn follow_primary(&mut self) {
        self.me = None;
    }

    /// Whether nothing is known at all.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.origins.is_empty()
    }

    fn reign(&mut self, replid: ReplId, now_ms: u64, header: impl FnOnce(&mut Vec<u8>)) {
        self.end_reign();
        self.told_replaced = None;
        self.replid = replid;
        let instance = self.config.instance;
        let Ok(origin) = self.intern(replid, instance) else { return };
        self.me = Some(origin);
        self.dirty = self.clock.iter().map(|(origin, _)| origin).collect();
        let mut group = std::mem::take(&mut self.own_group);
        group.clear();
        group.push(&Effect { db: 0, key: &[], ttl: TtlNote::None, op: Op::Reign });
        let is_out = self.membership.forgotten(instance).is_some() || self.joining.is_some();
        if !self.membership.contains(instance) && !is_out {
            group.push(&Effect { db: 0, key: &[], ttl: TtlNote::None, op: Op::Join { instance } });
        }
        self.log_control_as(&group, now_ms, header);
        self.own_group = group;
    }

    /// A reign that has begun here, or that this replica followed, is a past one.
    fn end_reign(&mut self) {
        let known = self.origins.find(&self.replid);
        if known.is_some_and(|origin| self.origins.instance(origin) == self.config.instance) {
            self.past.push(PastReign { replid: self.replid, end: self.backlog.end_offset() });
            let over = self.past.len().saturating_sub(self.config.past_replids_max);
            self.past.drain(..over);
        }
    }

    /// Whether this shard captures and merges; a replica only follows.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.me.is_some()
    }

    /// This instance.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        self.config.instance
    }

    /// The current replication ID.
    #[must_use]
    pub fn replid(&self) -> ReplId {
        self.replid
    }

    /// Limits and controls; what may change at run time.
    pub fn config_mut(&mut self) -> &mut ShardConfig {
        &mut self.config
    }

    /// Changes the size of the backlog.
    pub fn resize_backlog(&mut self, bytes: u64) {
        self.config.backlog_bytes = bytes;
        self.fit_backlog();
    }

    /// Gives the backlog the size that it should have, as soon as nothing of the tail would be lost.
    fn fit_backlog(&mut self) {
        let bytes = self.config.backlog_bytes;
        if bytes != self.backlog.capacity() && self.metadata.tail_bytes() <= bytes {
            self.backlog.resize(bytes);
        }
    }

    /// The backlog.
    pub fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// The backlog; reading freezes its newest piece.
    pub fn backlog_mut(&mut self) -> &mut Backlog {
        &mut self.backlog
    }

    /// What is applied here.
    #[must_use]
    pub fn clock(&self) -> &VectorClock {
        &self.clock
    }

    /// Names of the reigns known here.
    #[must_use]
    pub fn origins(&self) -> &Origins {
        &self.origins
    }

    /// S and the reports.
    #[must_use]
    pub fn stability(&self) -> &Stability {
        &self.stability
    }

    /// Who is a member.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Counters since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether the caller has records to take.
    #[must_use]
    pub fn has_records(&self) -> bool {
        !self.records.is_empty()
    }

    /// Records for `SYNCER.LOG`, in order, since the last call.
    pub fn take_records(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.records)
    }

    /// Prunes at most `steps` queue entries (I-6); returns how many it took.
    pub fn prune(&mut self, steps: usize) -> usize {
        self.fit_backlog();
        if self.may_prune() {
            let Self { metadata, stability, clock, config, origins, backlog, .. } = self;
            let taken = metadata.prune(stability.stable(), clock, steps, &config.rules, origins, backlog);
            self.counters.pruned += taken as u64;
            self.has_pruned |= taken > 0;
            self.drop_settled_asides();
            taken
        } else {
            0
        }
    }

    /// After a group: now and then more than the groups since have added, so that metadata shrinks however fast writes
    /// come. In small batches, since a step is cheaper than getting there.
    fn prune_some(&mut self) {
        /// Groups between two batches.
        const GROUPS: u32 = 16;
        /// Queue entries of a batch, some 3 us; a group usually adds one.
        const STEPS: usize = 48;
        self.groups_unpruned += 1;
        if self.groups_unpruned >= GROUPS {
            self.groups_unpruned = 0;
            self.prune(STEPS);
        }
    }

    /// A group of one keeps the metadata of what its backlog still has: a newcomer that already wrote can still be
    /// met, and memory is bounded by the backlog.
    fn may_prune(&self) -> bool {
        self.membership.is_group() || self.backlog.evicted_any()
    }

    /// Whether others rely on what was pruned here, so that a stranger's data is not simply merged.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.has_pruned || self.backlog.evicted_any()
    }

    fn intern(&mut self, replid: ReplId, instance: InstanceId) -> Result<Origin, crate::origin::OriginError> {
        let origin = self.origins.intern(replid, instance)?;
        if origin.index() >= self.streams.len() {
            self.streams.resize_with(origin.index() + 1, Stream::default);
        }
        Ok(origin)
    }

    /// An entry of the clock rises: the next own group says so.
    fn advance_clock(&mut self, origin: Origin, ts: Timestamp) {
        self.clock.set(origin, ts);
        self.hlc.observe(ts);
        if Some(origin) != self.me && !self.dirty.contains(&origin) {
            self.dirty.push(origin);
        }
    }
}
