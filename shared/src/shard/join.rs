//! Joining a group with another state than it has: anew, or again (MERGE_RULES M8 to M12).
//!
//! The sponsor logs the Join. The joining instance sets aside what it is to write again, empties itself and begins like a new
//! one; the rest is a newcomer's full or partial sync. Its clients write again when every member's report covers the Join,
//! and what was set aside has been written.

use std::collections::VecDeque;

use super::{ForgottenError, MemberError, Shard, Start};
use crate::context::StreamContext;
use crate::dot::Dot;
use crate::effect::{Effect, FlushScope, Kind, Op, Path, TtlNote};
use crate::group::{self, GroupBuilder, GroupView};
use crate::instance::InstanceId;
use crate::keyspace::Keyspace;
use crate::list::{At, End, Reign, RunName};
use crate::merge::KeyRef;
use crate::metadata::KeyMeta;
use crate::origin::Origin;
use crate::record::Record;
use crate::replid::ReplId;
use crate::timestamp::Timestamp;
use crate::token::ClockToken;

/// What becomes of the data of the joining instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinData {
    /// It must have none; but who was forgotten writes again what the group has not seen of its own writes (M10).
    Refuse,
    /// It goes.
    Replace,
    /// All of it is written again.
    Merge,
}

/// A join that goes on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Joining {
    /// What the sponsor had: in sync when it is applied.
    pub(super) via: ClockToken,
    /// Policy of M12: what was set aside wins over what the group has.
    pub(super) mine_wins: bool,
    /// What was set aside, oldest first: bodies of groups, one a key.
    pub(super) renewals: VecDeque<Vec<u8>>,
}

/// Why clients may not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WritesRefused {
    /// M7.
    #[error(transparent)]
    Forgotten(#[from] ForgottenError),
    /// M11.
    #[error("SYNCERJOINING this instance is joining and takes no writes yet; SYNCER.STATUS says how far it is")]
    Joining,
    /// Its peers take nothing from it any more (2.2 rule 3).
    #[error(
        "SYNCERFENCED another server is the primary of this instance now (replication ID {0}); send writes to it and make this server its replica; if there is none, restart this one; if this one came back without its state, SYNCER.FORGET its id at a member, then run syncer-agent join beside it"
    )]
    Superseded(ReplId),
    /// 2.2 rule 5: it is new or came back from an old state, and what is stable elsewhere comes in.
    #[error(
        "SYNCERSYNC this instance lacks what the others rely on everybody to have, and takes no writes until its full sync is done; SYNCER.STATUS says how far it is"
    )]
    Behind,
    /// 2.2 rule 5: it came back from an old file, or lost its tail.
    #[error(
        "SYNCERBEHIND this instance lacks what it had reported to the others before, and takes no writes until instance {0} has brought it back: in a moment, or look at SYNCER.PEERS"
    )]
    CatchingUp(InstanceId),
}

impl Shard {
    /// Lets an instance join, and gives the clock that it will have to reach. Asking again changes nothing, until its new reign is known here.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub fn sponsor(&mut self, instance: InstanceId, now_ms: u64) -> Result<ClockToken, MemberError> {
        if !self.is_primary() {
            return Err(MemberError::Role);
        }
        if instance == self.config.instance {
            return Err(MemberError::Itself(instance));
        }
        self.check_forgotten(self.config.instance)?;
        if self.joining.is_some() {
            return Err(MemberError::Joining);
        }
        if self.membership.contains(instance) {
            // What it was before a Join is frozen. Who is not known here to be out would empty itself, and be refused.
            let has_begun = self.reigns_of(instance).iter().any(|reign| !self.membership.is_frozen(*reign));
            let is_in = has_begun || self.stability.counted(instance).is_some();
            return if is_in { Err(MemberError::IsMember(instance)) } else { Ok(self.clock_token()) };
        }
        let is_settled = self.membership.forgotten(instance).is_none_or(|forgotten| forgotten.settled);
        if !is_settled && self.config.rules.rejoin_when_settled {
            return Err(MemberError::Unsettled(instance));
        }
        let mut group = GroupBuilder::new();
        group.push(&Effect { db: 0, key: &[], ttl: TtlNote::None, op: Op::Join { instance } });
        self.log_control(&mut group, now_ms);
        self.drop_reports(instance);
        Ok(self.clock_token())
    }

    /// Joins the group of the sponsor whose clock is `via`: sets aside what is to be written again, empties the dataset and begins anew
    /// as `replid`. What was logged before must have been taken.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub fn join<K: Keyspace>(
        &mut self,
        via: ClockToken,
        (data, mine_wins): (JoinData, bool),
        keyspace: &mut K,
        (replid, now_ms): (ReplId, u64),
    ) -> Result<(), MemberError> {
        self.check_join(&via, data, keyspace)?;
        let begun = self.joining.as_mut().map(|joining| std::mem::take(&mut joining.renewals));
        let renewals = match (data, begun) {
            (JoinData::Replace, _) => VecDeque::new(),
            // By another sponsor: what is here now is the group's.
            (_, Some(renewals)) => renewals,
            (JoinData::Refuse, None) if self.config.rules.joins_set_aside => self.unseen_writes(&via, keyspace),
            (JoinData::Refuse, None) => VecDeque::new(),
            (JoinData::Merge, None) => self.whole_dataset(keyspace, now_ms),
        };
        let joining = Joining { via, mine_wins, renewals };
        self.follow_join(joining.clone(), keyspace);
        self.reign(replid, now_ms, |out| {
            Record::joins(out, joining.mine_wins, &joining.via, joining.renewals.iter().map(Vec::as_slice));
        });
        keyspace.finish();
        Ok(())
    }

    /// Whether [`Shard::join`] would do it, with a sponsor that has nothing more than is here.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub fn check_join<K: Keyspace>(
        &mut self,
        via: &ClockToken,
        data: JoinData,
        keyspace: &mut K,
    ) -> Result<(), MemberError> {
        if !self.is_primary() {
            return Err(MemberError::Role);
        }
        let me = self.config.instance;
        let is_out = self.check_forgotten(me).is_err();
        if self.membership.is_group() && !is_out && self.joining.is_none() {
            return Err(MemberError::IsMember(me));
        }
        // M8: who knows less of the membership than this instance could belong to another half.
        let by_other = |dot: &&Dot| self.origins.instance(dot.origin) != me;
        let lacks = |dot: &Dot| via.get(&self.origins.replid(dot.origin)) < dot.ts;
        if self.membership.dots().filter(by_other).any(lacks) && self.config.rules.sponsor_knows_all {
            return Err(MemberError::OtherHalf);
        }
        if self.joining.is_some() && !self.unseen_writes(via, keyspace).is_empty() {
            return Err(MemberError::WritesAgain);
        }
        let mut has_data = || {
            let mut keys = 0_u64;
            keyspace.keys(FlushScope::All, &mut |_, _| keys += 1);
            keys > 0
        };
        if data == JoinData::Refuse && !is_out && self.joining.is_none() && has_data() {
            return Err(MemberError::HasData(me));
        }
        Ok(())
    }

    /// Nothing is known any more but what must never go back (I-7).
    fn empty<K: Keyspace>(&mut self, keyspace: &mut K) {
        keyspace.flush(FlushScope::All);
        let fresh = Self::new(self.config.clone(), self.replid, Start::Replica, 0);
        let old = std::mem::replace(self, fresh);
        (self.hlc, self.counters) = (old.hlc, old.counters);
    }

    /// Up to the new reign, which comes with it on a replica.
    pub(super) fn follow_join<K: Keyspace>(&mut self, joining: Joining, keyspace: &mut K) {
        let begun = self.has_begun_to_join(&joining.via);
        self.empty(keyspace);
        self.start = Start::Empty;
        self.joining = Some(Box::new(joining));
        if let Some((replid, ts)) = begun {
            self.go_on_from(replid, ts);
        }
    }

    /// The reign in which this instance began to join, by another sponsor, if the next one, which has `via`, knows nothing of it. Others may have it, who do
    /// not hear of the next `Join` that it is over: it had not seen that. So the next reign goes on with it, or they refuse that for good.
    ///
    /// Of its own reigns here, those of before are known to its sponsor, or older; those that came after had seen it.
    fn has_begun_to_join(&self, via: &ClockToken) -> Option<(ReplId, Timestamp)> {
        let joining = self.joining.as_ref()?;
        let is_first = |origin: Origin| {
            let had = self.stability.had(origin);
            had.is_none_or(|had| had.iter().all(|(seen, ts)| seen == origin || ts == Timestamp::ZERO))
        };
        let is_known = |replid: &ReplId| [&joining.via, via].iter().any(|via| via.get(replid) > Timestamp::ZERO);
        let reigns = self.stability.reigns(self.config.instance, &self.origins);
        let reigns = reigns.filter(|(origin, _)| is_first(*origin) && !is_known(&self.origins.replid(*origin)));
        let (origin, ts) = reigns.max_by_key(|(_, ts)| *ts)?;
        // What every member has needs no more.
        self.stability.had(origin).map(|_| (self.origins.replid(origin), ts))
    }

    /// The beginning of an earlier reign of this instance that had seen nothing, as it was logged then; what else it logged comes from who has it.
    fn go_on_from(&mut self, replid: ReplId, ts: Timestamp) {
        let mut body = GroupBuilder::new();
        body.push(&Effect { db: 0, key: &[], ttl: TtlNote::None, op: Op::Reign });
        let (mut frame, change) = (Vec::new(), StreamContext::EMPTY_CHANGE);
        group::encode_frame(&mut frame, self.config.instance, &replid, Timestamp::ZERO, ts, &change, body.body());
        let taken = GroupView::parse(&frame).map_err(Into::into).and_then(|(group, _)| self.take_beginning(&group));
        debug_assert!(taken.is_ok(), "an own group");
    }

    /// M10: live dots of this instance that the sponsor does not have, oldest first.
    fn unseen_writes<K: Keyspace>(&mut self, via: &ClockToken, keyspace: &mut K) -> VecDeque<Vec<u8>> {
        let first =
            |shard: &Self, meta: &KeyMeta| meta.dots().filter(|dot| shard.is_unseen(dot, via)).map(|dot| dot.ts).min();
        self.take_in_tail(keyspace);
        let table = self.metadata.before_tail();
        let found = table.iter().filter_map(|(db, name, meta)| Some((first(self, meta)?, db, name.to_vec())));
        let mut found: Vec<(Timestamp, u32, Vec<u8>)> = found.collect();
        found.sort();
        let mut bodies = VecDeque::new();
        for (_, db, name) in found {
            let meta = self.snapshot_key(KeyRef { db, name: &name }, keyspace);
            bodies.push_back(self.unseen_body(db, &name, &meta, via));
        }
        bodies
    }

    fn is_unseen(&self, dot: &Dot, via: &ClockToken) -> bool {
        let is_own = self.origins.instance(dot.origin) == self.config.instance;
        is_own && via.get(&self.origins.replid(dot.origin)) < dot.ts
    }

    fn unseen_body(&self, db: u32, key: &[u8], meta: &KeyMeta, via: &ClockToken) -> Vec<u8> {
        let is_unseen = |dot: &Dot| self.is_unseen(dot, via);
        let mut group = GroupBuilder::new();
        let mut push = |op| group.push(&Effect { db, key, ttl: TtlNote::None, op });
        for kind in &meta.kinds {
            for (element, path_meta) in kind.paths.iter() {
                let path = crate::metadata::path_of(kind.kind, element);
                let latest =
                    path_meta.assigns.iter().filter(|a| is_unseen(&a.dot)).max_by(|a, b| a.rank(b, &self.origins));
                if let Some(payload) = latest.and_then(|assigned| assigned.payload.as_ref()) {
                    push(Op::Assign { path, value: payload.value(path), reasserted: false });
                }
                for increment in path_meta.increments().iter().filter(|i| is_unseen(&i.dot)) {
                    push(Op::Increment { path, delta: increment.delta });
                }
            }
        }
        for ttl in meta.ttl.dots.iter().filter(|ttl| ttl.strong && is_unseen(&ttl.dot)) {
            push(ttl.at.map_or(Op::Persist, |at| Op::Expire { at }));
        }
        group.body().to_vec()
    }

    /// Everything that shows, in no particular order. The elements of lists get positions at the tail, of a run of their own: those that they have may be
    /// the group's, too (L10).
    fn whole_dataset<K: Keyspace>(&mut self, keyspace: &mut K, now_ms: u64) -> VecDeque<Vec<u8>> {
        let (ts, me) = (self.hlc.tick(now_ms), Reign { instance: self.config.instance, replid: self.replid });
        let run = RunName::new(&[], End::Tail.side(), ts, me);
        let mut names: Vec<(u32, Vec<u8>)> = Vec::new();
        keyspace.keys(FlushScope::All, &mut |db, name| names.push((db, name.to_vec())));
        let mut bodies = VecDeque::new();
        for (db, key) in names {
            let (mut group, mut index) = (GroupBuilder::new(), 0);
            keyspace.elements(db, &key, &mut |path, value| {
                let name = run.element(At { ts, index });
                let path = if path.kind() == Kind::List { Path::Element(&name) } else { path };
                index += 1;
                group.push(&Effect {
                    db,
                    key: &key,
                    ttl: TtlNote::None,
                    op: Op::Assign { path, value, reasserted: false },
                });
            });
            if let Some(at) = keyspace.expire_at(db, &key) {
                group.push(&Effect { db, key: &key, ttl: TtlNote::None, op: Op::Expire { at } });
            }
            bodies.push_back(group.body().to_vec());
        }
        bodies
    }

    /// Whether this instance has what its sponsor had, and every member is known to have its Join (M11).
    fn has_joined(&self) -> bool {
        let me = self.config.instance;
        let Some(joining) = &self.joining else { return false };
        let joins = self.membership.joins(me);
        if self.is_syncing() || joins.is_empty() || !self.covers(&joining.via) {
            return false;
        }
        let knows = |member: InstanceId| {
            let report = self.heard.get(member);
            report.is_some_and(|r| joins.iter().all(|join| r.durable.get(&self.origins.replid(join.origin)) >= join.ts))
        };
        self.membership.members().iter().filter(|member| *member != me).all(knows)
    }

    /// Writes again some of what was set aside, once this instance is in; after the last, clients may write. Whether there is more to do at
    /// once.
    pub fn go_on_joining<K: Keyspace>(&mut self, keyspace: &mut K, now_ms: u64, steps: usize) -> bool {
        if !self.is_primary() || !self.has_joined() {
            return false;
        }
        for _ in 0..steps {
            let Some(joining) = &mut self.joining else { return false };
            let (mine_wins, next) = (joining.mine_wins, joining.renewals.pop_front());
            let mut record = Vec::new();
            Record::renewed(&mut record);
            let Some(body) = next else {
                self.joining = None;
                self.records.push(record);
                return false;
            };
            self.renew(&body, mine_wins, keyspace, now_ms);
            self.records.push(record);
        }
        true
    }

    /// The same on a replica, but for the group itself, which comes as a record of its own.
    pub(super) fn follow_renewal(&mut self) {
        let is_last = self.joining.as_mut().is_none_or(|joining| joining.renewals.pop_front().is_none());
        if is_last {
            self.joining = None;
        }
    }

    /// What is still to be written again, while this instance joins.
    #[must_use]
    pub fn renewals_left(&self) -> Option<usize> {
        self.joining.as_ref().map(|joining| joining.renewals.len())
    }
}

/// Whether the dataset shows an element; of none of a list.
pub(super) fn has<K: Keyspace>(keyspace: &mut K, db: u32, key: &[u8], path: Path<'_>) -> bool {
    let mut found = false;
    keyspace.elements(db, key, &mut |there, _| found |= there == path);
    found
}
