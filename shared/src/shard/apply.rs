//! Remote groups: checked as a whole, then applied in order, each exactly once (I-2, I-3, I-10).

use super::batch::{Applied, ApplyError, Batch, Outcome};
use super::{Shard, Start};
use crate::context::StreamContext;
use crate::dot::{Dot, Seen};
use crate::effect::{Effect, Op};
use crate::group::{self, Frame, GroupView};
use crate::instance::{InstanceId, InstanceSet};
use crate::keyspace::Keyspace;
use crate::origin::Origin;
use crate::record::Record;
use crate::replid::ReplId;
use crate::timestamp::Timestamp;

/// A checked frame and the offset behind it.
struct Item<'a> {
    group: Option<GroupView<'a>>,
    end: u64,
}

/// What the frames of a batch before this one bring to a stream.
struct Reached {
    replid: ReplId,
    ts: Timestamp,
    context: StreamContext,
}

impl Shard {
    /// Applies a batch: all of it is checked before anything changes (I-10). `budget` says before each further group whether there
    /// is time for it. Records for replicas are in [`Shard::take_records`].
    ///
    /// # Errors
    /// See [`ApplyError`]; nothing has changed then.
    pub fn apply<K: Keyspace>(
        &mut self,
        batch: &Batch<'_>,
        keyspace: &mut K,
        now_ms: u64,
        budget: &mut dyn FnMut() -> bool,
    ) -> Result<Applied, ApplyError> {
        let checked = self.check(batch, now_ms);
        let items = checked.inspect_err(|error| {
            self.counters.refused += 1;
            self.counters.drift_refused += u64::from(matches!(error, ApplyError::Drift { .. }));
        })?;
        let mut applied = Applied { outcome: Outcome::Done, offset: batch.from, groups: 0, duplicates: 0 };
        let effects_before = self.counters.effects_applied;
        let mut record = Vec::new();
        for item in &items {
            if let Some(group) = &item.group {
                if self.have(group.replid) >= group.ts {
                    applied.duplicates += 1;
                } else if let Some((replid, ts)) = self.missing(group) {
                    applied.outcome = Outcome::Waits(replid, ts);
                    break;
                } else if applied.groups > 0 && !budget() {
                    applied.outcome = Outcome::Slice;
                    break;
                } else {
                    // The check has seen that there is room and that the name is free.
                    let Ok(origin) = self.intern(group.replid, group.instance) else { break };
                    if !self.prepare(group, origin, keyspace, budget) {
                        applied.outcome = Outcome::Slice;
                        break;
                    }
                    self.apply_group(group, origin, &mut record, batch, keyspace, now_ms);
                    applied.groups += 1;
                }
            }
            applied.offset = item.end;
            if self.ends_stream(batch.peer) {
                break;
            }
        }
        self.close_record(&mut record, batch, applied.offset);
        self.counters.groups_applied += u64::from(applied.groups);
        self.counters.duplicates += u64::from(applied.duplicates);
        self.move_peer(batch, &applied, self.counters.effects_applied - effects_before);
        keyspace.finish();
        Ok(applied)
    }

    /// Everything that can be wrong with a batch. Of one that is refused nothing is remembered.
    fn check<'a>(&mut self, batch: &Batch<'a>, now_ms: u64) -> Result<Vec<Item<'a>>, ApplyError> {
        if !self.is_primary() {
            return Err(ApplyError::Role);
        }
        if self.is_syncing() {
            return Err(ApplyError::Syncing);
        }
        if self.config.rules.forgotten_is_not_read {
            self.check_forgotten(batch.peer)?;
        }
        self.check_position(batch)?;
        let frames = parse_all(batch)?;
        if let Some(via) = self.origins.find(&batch.replid)
            && self.config.rules.old_reigns_are_fenced
        {
            self.check_fence(via, batch.replid)?;
        }
        let mut reached: Vec<Reached> = Vec::new();
        let mut items = Vec::with_capacity(frames.len());
        // Who joins earlier in the batch: its Join will be applied when what follows is.
        let mut joined = InstanceSet::EMPTY;
        for (frame, end) in frames {
            let group = match frame {
                Frame::Skip(_) => None,
                Frame::Group(group) => {
                    self.check_group(&group, &mut reached, &joined, now_ms)?;
                    if self.have(group.replid) < group.ts {
                        if !joined.contains(group.instance) && self.is_from_before(group.instance, &group.replid) {
                            return Err(ApplyError::FromBefore(group.instance, batch.peer));
                        }
                        if group.joins {
                            joins_in(&group).for_each(|instance| joined.insert(instance));
                        }
                    }
                    Some(group)
                }
            };
            items.push(Item { group, end });
        }
        Ok(items)
    }

    /// M2: what was just applied says that the peer is out. Who is out itself reads on where it is let: a `Join` that the `Forget` had not
    /// seen may come (M13).
    fn ends_stream(&self, peer: InstanceId) -> bool {
        self.config.rules.forgotten_is_not_read && self.membership.forgotten(peer).is_some()
    }

    fn check_position(&self, batch: &Batch<'_>) -> Result<(), ApplyError> {
        let position = self.peers.get(&batch.peer).and_then(|peer| peer.position);
        match position {
            Some((replid, offset)) if replid == batch.replid && offset == batch.from => Ok(()),
            Some((replid, offset)) => Err(ApplyError::Position { replid: replid.to_string(), offset }),
            None => Err(ApplyError::Position { replid: "?".into(), offset: 0 }),
        }
    }

    /// Rule 3, the fence: who has applied a newer reign of an instance takes the older one only from members, not
    /// from that reign's own server.
    pub(super) fn check_fence(&self, via: Origin, replid: ReplId) -> Result<(), ApplyError> {
        if self.membership.is_frozen(via) {
            return Err(ApplyError::Fenced(replid));
        }
        let instance = self.origins.instance(via);
        let start = self.stability.start(via);
        let newer = |(origin, begun): (Origin, Timestamp)| origin != via && start.is_some_and(|start| begun > start);
        if self.stability.reigns(instance, &self.origins).any(newer) { Err(ApplyError::Fenced(replid)) } else { Ok(()) }
    }

    fn check_group(
        &self,
        group: &GroupView<'_>,
        reached: &mut Vec<Reached>,
        joined: &InstanceSet,
        now_ms: u64,
    ) -> Result<(), ApplyError> {
        let ahead_ms = group.ts.ms().saturating_sub(now_ms);
        if ahead_ms > self.config.drift_ms_max {
            let limit_ms = self.config.drift_ms_max;
            return Err(ApplyError::Drift { instance: group.instance, ahead_ms, limit_ms });
        }
        if group.db_max >= self.config.databases {
            let (instance, db, databases) = (group.instance, group.db_max, self.config.databases);
            return Err(ApplyError::Database { instance, db, databases });
        }
        self.origins.check(group.replid, group.instance, reached.len())?;
        if group.ts <= self.have(group.replid) {
            return Ok(());
        }
        let at = reached.iter().position(|r| r.replid == group.replid).unwrap_or_else(|| {
            let ts = self.have(group.replid);
            let origin = self.origins.find(&group.replid).and_then(|origin| self.streams.get(origin.index()));
            let context = origin.map(|stream| stream.context.clone()).unwrap_or_default();
            reached.push(Reached { replid: group.replid, ts, context });
            reached.len() - 1
        });
        let Reached { ts: have, context, .. } = &mut reached[at];
        if group.ts <= *have {
            return Ok(());
        }
        if group.prev != *have {
            return Err(ApplyError::Gap { replid: group.replid, prev: group.prev, have: *have });
        }
        context.apply_change(group.change)?;
        if group.prev == Timestamp::ZERO && !joined.contains(group.instance) {
            self.check_first(group, context)?;
        }
        *have = group.ts;
        Ok(())
    }

    /// What is applied here of a reign.
    fn have(&self, replid: ReplId) -> Timestamp {
        self.origins.find(&replid).map(|origin| self.clock.get(origin)).unwrap_or_default()
    }

    /// A reign of this instance that ended before its own current one began.
    fn is_from_before_joining(&self, group: &GroupView<'_>) -> bool {
        let own = self.me.and_then(|me| self.stability.start(me));
        own.is_some_and(|start| group.ts < start) && (self.joining.is_some() || !self.membership.frozen().is_empty())
    }

    /// Its sponsor had it.
    fn is_of_sponsor(&self, group: &GroupView<'_>) -> bool {
        self.joining.as_ref().is_some_and(|joining| joining.via.get(&group.replid) >= group.ts)
    }

    /// Whether this instance, which joins, cannot tell yet that a reign belongs to the group: its sponsor knew its author as somebody whom it does not
    /// continue. The author may have been forgotten, and the `Join` that let it in again be known to nobody who is in (seed 26100500345).
    fn is_unsponsored(&self, group: &GroupView<'_>, context: &StreamContext) -> bool {
        let Some(joining) = self.joining.as_ref().filter(|_| self.config.rules.joins_by_sponsor) else { return false };
        if group.instance == self.config.instance || self.is_of_sponsor(group) || self.covers(&joining.via) {
            return false;
        }
        let is_frozen =
            |replid: &ReplId| self.origins.find(replid).is_some_and(|origin| self.membership.is_frozen(origin));
        let known = joining
            .via
            .entries()
            .iter()
            .filter(|(replid, instance, _)| *instance == group.instance && !is_frozen(replid));
        let mut known = known.map(|(replid, ..)| replid).peekable();
        known.peek().is_some() && !known.any(|replid| context.entries().iter().any(|(seen, ..)| seen == replid))
    }

    /// The first group of a reign begins with `Reign`, and its author had seen the start of some earlier reign of its instance if one
    /// is known here: else it is another server with the same id, or one that lost its state. Not of every one: a server that began
    /// from an old state, or a replica that lagged, cannot know what was lost with the other.
    pub(super) fn check_first(&self, group: &GroupView<'_>, context: &StreamContext) -> Result<(), ApplyError> {
        if !matches!(group::effects(group.body).next(), Some(Effect { op: Op::Reign, .. })) {
            return Err(ApplyError::Identity(format!("replication ID {} does not begin with its reign", group.replid)));
        }
        let has =
            |replid: ReplId, ts: Timestamp| context.entries().iter().any(|(r, _, seen)| *r == replid && *seen >= ts);
        // Who has joined again begins anew: what it had before is frozen.
        let all = || self.stability.reigns(group.instance, &self.origins);
        let reigns = || all().filter(|(origin, _)| !self.membership.is_frozen(*origin));
        let known = reigns().next().map(|(origin, _)| self.origins.replid(origin));
        let descends = || reigns().any(|(origin, start)| has(self.origins.replid(origin), start));
        match known {
            // Who joins, or has joined, meets what it was before.
            Some(_) if group.instance == self.config.instance && self.is_from_before_joining(group) => Ok(()),
            Some(_) if group.instance == self.config.instance && !descends() => Err(ApplyError::Identity(format!(
                "effects of replication ID {} claim instance id {}, which is this server's own",
                group.replid, group.instance
            ))),
            // Who joins may meet what an instance is now before what it was, which it takes from its sponsor's history.
            Some(_) if self.is_of_sponsor(group) => Ok(()),
            _ if self.is_unsponsored(group, context) => Err(ApplyError::Unsponsored(group.instance, group.replid)),
            Some(known) if !descends() => Err(ApplyError::Identity(format!(
                "instance {} is known here as replication ID {known}, of which {} has seen nothing: two servers use one id, or it came back without its state",
                group.instance, group.replid
            ))),
            _ => Ok(()),
        }
    }

    /// The context list of a group's stream after its change.
    fn context_of(&self, group: &GroupView<'_>) -> Option<StreamContext> {
        let stream = self.origins.find(&group.replid).and_then(|origin| self.streams.get(origin.index()));
        let mut context = stream.map(|s| s.context.clone()).unwrap_or_default();
        context.apply_change(group.change).ok().map(|()| context)
    }

    /// The first entry of a context that is not applied here.
    fn lacking(&self, context: &StreamContext) -> Option<(ReplId, Timestamp)> {
        let lacks = |(replid, _, ts): &&(ReplId, InstanceId, Timestamp)| {
            self.origins.find(replid).is_none_or(|origin| !self.clock.has(origin, *ts))
        };
        context.entries().iter().find(lacks).map(|(replid, _, ts)| (*replid, *ts))
    }

    /// What a group's context has and this shard does not (I-3).
    fn missing(&self, group: &GroupView<'_>) -> Option<(ReplId, Timestamp)> {
        if group.change.len() <= StreamContext::EMPTY_CHANGE.len() || !self.config.rules.groups_wait {
            // Unchanged since its previous group, which is applied.
            return None;
        }
        self.lacking(&self.context_of(group)?)
    }

    /// Takes the tail into the metadata if the group may need that; false when the time is used up before.
    fn prepare<K: Keyspace>(
        &mut self,
        group: &GroupView<'_>,
        origin: Origin,
        keyspace: &mut K,
        budget: &mut dyn FnMut() -> bool,
    ) -> bool {
        let is_sequel =
            !group.urgent && group.change.len() <= StreamContext::EMPTY_CHANGE.len() && self.has_seen_all(origin);
        while !is_sequel && self.metadata.waiting() > 0 {
            self.take_in_some(keyspace);
            if self.metadata.waiting() > 0 && !budget() {
                return false;
            }
        }
        true
    }

    /// Whether the author of the next group of `origin` had seen everything that is applied here.
    pub(super) fn has_seen_all(&self, origin: Origin) -> bool {
        let Some(stream) = self.streams.get(origin.index()) else { return false };
        self.clock.iter().all(|(other, ts)| other == origin || stream.clock.has(other, ts))
    }

    fn apply_group<K: Keyspace>(
        &mut self,
        group: &GroupView<'_>,
        origin: Origin,
        record: &mut Vec<u8>,
        batch: &Batch<'_>,
        keyspace: &mut K,
        now_ms: u64,
    ) {
        if self.touches_changed(group) {
            self.close_record(record, batch, batch.from);
            self.capture_changed(keyspace, now_ms);
        }
        if self.dropped.is_some() {
            let gone = self.unheard_of(group.body, keyspace);
            if !gone.is_empty() {
                self.close_record(record, batch, batch.from);
                self.author_expiry(gone.into_iter(), keyspace, now_ms);
            }
        }
        self.update_stream(group, origin);
        if self.is_regressed(origin) && self.config.rules.regressed_reassert {
            let at_risk: Vec<_> = {
                let dot = Dot { ts: group.ts, index: 0, origin };
                group::effects(group.body).flat_map(|e| self.at_risk(&e, dot, keyspace)).collect()
            };
            if !at_risk.is_empty() {
                self.close_record(record, batch, batch.from);
                // If the group asserts something itself, its author knew less: that must not hide this, whatever the clocks say.
                self.hlc.observe(group.ts);
                self.reassert_at_risk(&at_risk, keyspace, now_ms);
            }
        }
        let revivals = self.merge_group(group, origin, keyspace);
        if record.is_empty() {
            Record::applied(record, batch.peer, &batch.replid);
        }
        record.extend_from_slice(group.frame);
        if !revivals.is_empty() {
            self.close_record(record, batch, batch.from);
        }
        for (revival, dot) in revivals {
            self.revive(revival, dot, keyspace, now_ms);
        }
    }

    /// The effects of one group, its clock entry, its place in the backlog: the part that replicas repeat.
    pub(super) fn merge_group<K: Keyspace>(
        &mut self,
        group: &GroupView<'_>,
        origin: Origin,
        keyspace: &mut K,
    ) -> Vec<(crate::merge::Revival, Dot)> {
        let Err(written) = self.append_sequel(group, origin, keyspace) else {
            if !self.taken.is_empty() {
                let clock = self.streams[origin.index()].clock.clone();
                let seen = Seen::Context { clock: &clock, group: (origin, group.ts), lacks: None };
                self.follow_taken(group.body, Dot { ts: group.ts, index: 0, origin }, &seen);
            }
            return Vec::new();
        };
        // Its place in the backlog is behind the tail.
        self.take_in_tail(keyspace);
        let is_regressed = self.is_regressed(origin) && self.config.rules.regressed_reassert;
        let lacks = is_regressed.then(|| self.stability.stable().clone());
        let context = std::mem::take(&mut self.streams[origin.index()].clock);
        let itself = if self.config.rules.group_sees_itself { group.ts } else { Timestamp::ZERO };
        let seen = Seen::Context { clock: &context, group: (origin, itself), lacks: lacks.as_ref() };
        let mut revivals = Vec::new();
        let mut count = 0;
        self.forget_taken(group.body);
        for (index, effect) in (0_u32..).zip(group::effects(group.body)) {
            let dot = Dot { ts: group.ts, index, origin };
            self.drop_revived(&effect, &seen);
            self.take_up(&effect, dot, &seen, keyspace);
            if index < written {
                self.merge(keyspace).local(&effect, dot, None);
            } else if let Some(revival) = self.merge(keyspace).remote(&effect, dot, &seen) {
                revivals.push((revival, dot));
            }
            self.control_effect(&effect, dot, &seen);
            count += 1;
        }
        self.streams[origin.index()].clock = context;
        self.counters.effects_applied += count;
        self.advance_clock(origin, group.ts);
        self.backlog.append(group.frame, origin, group.instance, group.ts);
        self.prune_some();
        revivals
    }

    /// Takes the change of context that a group carries into its stream. The batch was checked, so it fits.
    pub(super) fn update_stream(&mut self, group: &GroupView<'_>, origin: Origin) {
        let mut stream = std::mem::take(&mut self.streams[origin.index()]);
        if stream.context.apply_change(group.change).is_ok() && group.change.len() > StreamContext::EMPTY_CHANGE.len() {
            for i in stream.origins.len()..stream.context.entries().len() {
                let (replid, instance, _) = stream.context.entries()[i];
                if let Ok(known) = self.intern(replid, instance) {
                    stream.origins.push(known);
                }
            }
            for (&(_, _, ts), &origin) in stream.context.entries().iter().zip(&stream.origins) {
                stream.clock.raise(origin, ts);
            }
        }
        stream.clock.raise(origin, group.prev);
        self.streams[origin.index()] = stream;
    }

    /// 2.2 rule 5: whether the author of a group lacks what is stable here.
    fn is_regressed(&self, origin: Origin) -> bool {
        !self.streams[origin.index()].clock.covers(self.stability.stable())
    }

    /// Frames applied so far go to the replicas as one record, with the position reached.
    fn close_record(&mut self, record: &mut Vec<u8>, batch: &Batch<'_>, offset: u64) {
        if !record.is_empty() {
            Record::finish_applied(record, offset);
            self.records.push(std::mem::take(record));
        } else if offset != batch.from {
            let mut moved = Vec::new();
            Record::position(&mut moved, batch.peer, &batch.replid, offset);
            self.records.push(moved);
        }
    }

    /// How this shard began.
    #[must_use]
    pub fn start(&self) -> Start {
        self.start
    }
}

/// Whom a group lets join.
fn joins_in<'a>(group: &GroupView<'a>) -> impl Iterator<Item = InstanceId> + 'a {
    let joins = |effect: Effect<'_>| if let Op::Join { instance } = effect.op { Some(instance) } else { None };
    group::effects(group.body).filter_map(joins)
}

/// Splits a batch into frames and checks that they are exactly what its offsets name.
fn parse_all<'a>(batch: &Batch<'a>) -> Result<Vec<(Frame<'a>, u64)>, ApplyError> {
    let mut frames = Vec::new();
    let (mut rest, mut offset) = (batch.frames, batch.from);
    while !rest.is_empty() {
        let (frame, tail) = Frame::parse(rest)?;
        offset = offset.saturating_add(frame.advance());
        frames.push((frame, offset));
        rest = tail;
    }
    let named = batch.next.saturating_sub(batch.from);
    if offset - batch.from != named || batch.next < batch.from {
        return Err(ApplyError::Span { spanned: offset - batch.from, named });
    }
    Ok(frames)
}
