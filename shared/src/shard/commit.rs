//! Local writes: the hot path. Their effects become one group in the backlog and in the metadata.

use super::Shard;
use crate::clock::VectorClock;
use crate::dot::{Dot, Seen};
use crate::effect::{Effect, Op, StreamOp, TtlNote, UnixMs};
use crate::group::{self, GroupBuilder};
use crate::keyspace::Keyspace;
use crate::merge::{KeyRef, registers};
use crate::origin::Origin;
use crate::record::{Before, Record};
use crate::timestamp::Timestamp;

/// What the effects of a captured group have left to be done at its end.
pub(super) struct Absorbed {
    to_correct: bool,
    unseen: Option<Unseen>,
}

/// While a full sync goes on: what the snapshot brought counts as unseen until the end, for the clock does not say more.
struct Unseen {
    clock: VectorClock,
    touched: Vec<(u32, Box<[u8]>)>,
}

impl Absorbed {
    /// Before the first effect of a group.
    pub fn new(shard: &Shard, origin: Origin, ts: Timestamp) -> Self {
        let mut unseen = shard.is_syncing().then(|| Unseen { clock: shard.clock.clone(), touched: Vec::new() });
        if let Some(unseen) = &mut unseen {
            unseen.clock.raise(origin, ts);
        }
        Self { to_correct: false, unseen }
    }
}

impl Shard {
    /// Logs a captured group: the dataset has changed already. Returns the record for `SYNCER.LOG`; the group is left to be
    /// cleared by the caller.
    ///
    /// I-1: the caller replicates the record in the same unit as the write. What is to be captured is in the group ([`Shard::add_changed`]).
    pub fn commit<K: Keyspace>(
        &mut self,
        group: &GroupBuilder,
        before: &Before,
        keyspace: &mut K,
        now_ms: u64,
    ) -> &[u8] {
        let anew = self.with_expiries(group, before);
        let (group, before) = anew.as_ref().map_or((group, before), |(group, before)| (group, before));
        let with_ttls = self.with_unseen_ttls(group, keyspace);
        let group = with_ttls.as_ref().unwrap_or(group);
        let ts = self.hlc.tick(now_ms);
        let may_wait = before.is_empty() && group.may_wait() && self.has_room(group.len_bytes());
        let waits = may_wait && (!group.raises() || self.only_raises(group.body()));
        if !waits {
            self.take_in_tail(keyspace);
        }
        let start = self.encode_captured(group, ts, before);
        self.changed.clear();
        match self.me {
            Some(me) if waits => {
                self.has_written = true;
                self.counters.effects_captured += u64::from(group.count());
                self.defer(self.frame.len() - start, me, ts, keyspace);
                if group.raises() {
                    correct_registers(group.body(), keyspace);
                }
                self.prune_some();
            }
            _ => self.absorb_own(group.body(), before, ts, keyspace),
        }
        &self.frame
    }

    /// The group with a TTL of its own for each key whose TTL a snapshot has brought; `None` if there is none.
    fn with_unseen_ttls<K: Keyspace>(&mut self, group: &GroupBuilder, keyspace: &mut K) -> Option<GroupBuilder> {
        let found = self.unseen_ttls(group.body(), keyspace);
        (!found.is_empty()).then(|| {
            let mut group = group.clone();
            for (db, key, at) in &found {
                group.push(&Effect { db: *db, key, ttl: TtlNote::None, op: Op::Expire { at: *at } });
            }
            group
        })
    }

    /// While a full sync goes on: TTLs that effects have left alone (T2) although their author counts as not having seen them, for only the
    /// snapshot has brought them. A note of one counts less than that there is none, which the others may have pruned or not: so the group
    /// sets it, too (T1).
    pub(super) fn unseen_ttls<K: Keyspace>(&mut self, body: &[u8], keyspace: &mut K) -> Vec<(u32, Vec<u8>, UnixMs)> {
        let mut found = Vec::new();
        if !self.is_syncing() {
            return found;
        }
        self.take_in_tail(keyspace);
        let table = self.metadata.before_tail();
        for Effect { db, key, ttl, .. } in group::effects(body) {
            let TtlNote::Kept(at) = ttl else { continue };
            let Some(known) = table.find(db, key).map(|id| &table.meta(id).ttl) else { continue };
            let mut same = known.dots.iter().filter(|ttl| ttl.at == Some(at)).map(|ttl| ttl.dot);
            let is_seen = known.base == Some(at) || same.clone().any(|dot| dot.is_in(&self.clock));
            // Notes of this group may be in the metadata already.
            let has_come = same.any(|dot| Some(dot.origin) != self.me);
            let is_told = found.iter().any(|(of, name, _)| *of == db && *name == key);
            if has_come && !is_seen && !is_told && keyspace.expire_at(db, key) == Some(at) {
                found.push((db, key.to_vec(), at));
            }
        }
        found
    }

    /// Whether nothing but registers is raised, of strings that nothing else changes: then what the dataset has to show is told without
    /// the metadata.
    pub(super) fn only_raises(&self, body: &[u8]) -> bool {
        let table = self.metadata.before_tail();
        group::effects(body).all(|effect| registers::raises(&effect) && !registers::is_blended(table, &effect))
    }

    /// Encodes an own group into `self.frame` (record header, then frame), appends the frame to the backlog and moves the clock.
    pub(super) fn encode_own(
        &mut self,
        group: &GroupBuilder,
        ts: Timestamp,
        header: impl FnOnce(&mut Vec<u8>),
    ) -> usize {
        let Some(me) = self.me else { return 0 };
        self.change.clear();
        self.encode_context_change(me);
        self.frame.clear();
        header(&mut self.frame);
        let start = self.frame.len();
        let (instance, prev) = (self.config.instance, self.clock.get(me));
        group::encode_frame(&mut self.frame, instance, &self.replid, prev, ts, &self.change, group.body());
        if let Some(frame) = self.frame.get(start..) {
            self.backlog.append(frame, me, instance, ts);
        }
        self.clock.set(me, ts);
        start
    }

    /// The same of a group that clients have written.
    pub(super) fn encode_captured(&mut self, group: &GroupBuilder, ts: Timestamp, before: &Before) -> usize {
        self.encode_captured_as(group, ts, |record| Record::captured(record, before))
    }

    /// The same, in a record of this kind.
    pub(super) fn encode_captured_as(
        &mut self,
        group: &GroupBuilder,
        ts: Timestamp,
        header: impl FnOnce(&mut Vec<u8>),
    ) -> usize {
        if let Some(origin) = self.me {
            self.follow_captured(group.body(), Dot { ts, index: 0, origin });
        }
        self.encode_own(group, ts, header)
    }

    /// The context of an own group is the clock before it; the frame carries what changed since the last own group.
    fn encode_context_change(&mut self, me: Origin) {
        let Self { streams, dirty, origins, clock, change, .. } = self;
        let Some(stream) = streams.get_mut(me.index()) else { return };
        let changed = dirty.iter().filter(|origin| **origin != me);
        let entries = changed.map(|&origin| (origins.replid(origin), origins.instance(origin), clock.get(origin)));
        stream.context.encode_change(entries, change);
        for &origin in dirty.iter().filter(|origin| **origin != me) {
            stream.clock.set(origin, clock.get(origin));
        }
        dirty.clear();
    }

    /// Takes the effects of a local group into the metadata.
    pub(super) fn absorb_own<K: Keyspace>(&mut self, body: &[u8], before: &Before, ts: Timestamp, keyspace: &mut K) {
        let Some(me) = self.me else { return };
        self.has_written = true;
        self.counters.effects_captured += u64::from(self.absorb_captured(body, before, ts, me, keyspace));
        self.prune_some();
        if !before.is_empty() {
            keyspace.finish();
        }
    }

    /// The effects of a captured group, here and on replicas. Returns how many there were.
    pub(super) fn absorb_captured<K: Keyspace>(
        &mut self,
        body: &[u8],
        before: &Before,
        ts: Timestamp,
        origin: Origin,
        keyspace: &mut K,
    ) -> u32 {
        let mut absorbed = Absorbed::new(self, origin, ts);
        let mut count = 0;
        for effect in group::effects(body) {
            let dot = Dot { ts, index: count, origin };
            let look = before.iter().find(|(at, _)| *at == count).and_then(|(_, value)| value.as_deref());
            self.absorb_effect(&effect, dot, look, &mut absorbed, keyspace);
            count += 1;
        }
        self.absorb_end(body, absorbed, keyspace);
        count
    }

    /// One effect of a captured group.
    pub(super) fn absorb_effect<K: Keyspace>(
        &mut self,
        effect: &Effect<'_>,
        dot: Dot,
        look: Option<&[u8]>,
        absorbed: &mut Absorbed,
        keyspace: &mut K,
    ) {
        let Absorbed { to_correct, unseen } = absorbed;
        let Some(unseen) = unseen else {
            *to_correct |= self.merge(keyspace).local(effect, dot, look);
            return self.control_effect(effect, dot, &Seen::Everything);
        };
        let seen = Seen::Context { clock: &unseen.clock, group: (dot.origin, dot.ts), lacks: None };
        let mut merge = self.merge(keyspace);
        if merge.is_among_unseen(effect, &seen) {
            merge.local_among_unseen(effect, dot, &seen, look, &mut unseen.touched);
        } else {
            merge.local(effect, dot, look);
        }
        self.control_effect(effect, dot, &seen);
    }

    /// The end of a captured group.
    pub(super) fn absorb_end<K: Keyspace>(&mut self, body: &[u8], absorbed: Absorbed, keyspace: &mut K) {
        let Some(Unseen { touched, .. }) = absorbed.unseen else {
            if absorbed.to_correct {
                group::effects(body).for_each(|effect| self.merge(keyspace).correct(&effect));
            }
            return;
        };
        let is_plain =
            |effect: &Effect<'_>| !touched.iter().any(|(db, name)| *db == effect.db && **name == *effect.key);
        group::effects(body).filter(is_plain).for_each(|effect| self.merge(keyspace).correct(&effect));
        for (db, name) in touched {
            self.merge(keyspace).reconcile(KeyRef { db, name: &name });
        }
        self.keep_late_of_unseen(body, keyspace);
    }

    /// Groups that were removed here and that a snapshot has brought, too: they stay, and the server has forgotten what is late for them. That is what
    /// the source had not seen.
    fn keep_late_of_unseen<K: Keyspace>(&mut self, body: &[u8], keyspace: &mut K) {
        let stable = self.stability.stable().clone();
        for Effect { db, key, op, .. } in group::effects(body) {
            let Op::Stream(StreamOp::Ungroup { group }) = op else { continue };
            let key = KeyRef { db, name: key };
            let Some(clock) = self.syncing.as_ref().and_then(|syncing| syncing.brought(key)).cloned() else { continue };
            self.merge(keyspace).keep_late_of_group(key, group, &Seen::of(&clock, &stable));
        }
    }

    /// Effects on the membership and on reigns.
    pub(super) fn control_effect(&mut self, effect: &Effect<'_>, dot: Dot, seen: &Seen<'_>) {
        match effect.op {
            Op::Reign => {
                let had = match seen {
                    Seen::Everything => &self.clock,
                    Seen::Context { clock, .. } => clock,
                };
                self.stability.begin_reign(dot.origin, dot.ts, Some(had.clone()));
            }
            Op::Join { instance } => self.join_applied(instance, dot, seen),
            Op::Forget { instance } => self.membership.forget(instance, dot, seen),
            _ => {}
        }
    }

    /// Logs a group of control effects, which change no data.
    pub(super) fn log_control(&mut self, group: &mut GroupBuilder, now_ms: u64) {
        self.log_control_as(group, now_ms, Record::authored);
    }

    /// The same, in a record of this kind.
    pub(super) fn log_control_as(&mut self, group: &GroupBuilder, now_ms: u64, header: impl FnOnce(&mut Vec<u8>)) {
        let Some(me) = self.me else { return };
        let ts = self.hlc.tick(now_ms);
        let start = self.encode_own(group, ts, header);
        self.defer_control(self.frame.len() - start, me, ts);
        for (index, effect) in (0_u32..).zip(group::effects(group.body())) {
            self.control_effect(&effect, Dot { ts, index, origin: me }, &Seen::Everything);
        }
        self.records.push(self.frame.clone());
    }
}

/// After a captured group that only raises registers, and waits: see [`registers::correct`].
pub(super) fn correct_registers<K: Keyspace>(body: &[u8], keyspace: &mut K) {
    for effect in group::effects(body) {
        registers::correct(keyspace, KeyRef { db: effect.db, name: effect.key });
    }
}
