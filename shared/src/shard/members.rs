//! Who leaves the group: `Forget`, and when it is settled (MERGE_RULES M1 to M7).

use super::sync::Syncing;
use super::{Shard, WritesRefused};
use crate::clock::VectorClock;
use crate::dot::{Dot, Seen};
use crate::effect::{Effect, Op, TtlNote};
use crate::group::GroupBuilder;
use crate::instance::{InstanceId, InstanceSet};
use crate::membership::Membership;
use crate::origin::Origin;
use crate::record::Record;
use crate::replid::ReplId;
use crate::timestamp::Timestamp;

/// Why a change of the membership was refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// This server is a replica.
    #[error("SYNCERROLE this server is a replica; send this to its primary")]
    Role,
    /// An instance cannot forget itself.
    #[error("ERR instance {0} is this server's own; send SYNCER.FORGET to a member that stays")]
    Itself(InstanceId),
    /// There is nobody to forget.
    #[error("ERR instance {0} is no member; see SYNCER.STATUS")]
    NoMember(InstanceId),
    /// It joins itself.
    #[error("SYNCERJOINING this instance is joining itself; ask a member")]
    Joining,
    /// M4: what only its snapshot brings here would come after it was forgotten.
    #[error(
        "TRYAGAIN the full sync that goes on here brings writes of instance {0} that nobody else may have yet; forget it when SYNCER.STATUS says that the sync is done, or at another member"
    )]
    Brought(InstanceId),
    /// It would write twice what the sponsor has not got yet.
    #[error(
        "TRYAGAIN this instance is in by another sponsor and writes again what it had set aside, of which this one lacks a part; SYNCER.STATUS says when it takes writes"
    )]
    WritesAgain,
    /// There is nothing to join.
    #[error("ERR instance {0} is a member already; if its server has lost its state, SYNCER.FORGET it first")]
    IsMember(InstanceId),
    /// M4: not every member is known to know that it is out.
    #[error(
        "TRYAGAIN not every member knows yet that instance {0} was forgotten; SYNCER.STATUS there says 'settled' when they do"
    )]
    Unsettled(InstanceId),
    /// M8: the sponsor could belong to another half of the group.
    #[error(
        "SYNCERMEMBER the sponsor does not know every change of membership that is known here; join by another member"
    )]
    OtherHalf,
    /// Its data would be lost, or would have to be merged.
    #[error(
        "SYNCERDATA instance {0} has data; say what becomes of it: DATA REPLACE (it goes) or DATA MERGE (it is written again into the group)"
    )]
    HasData(InstanceId),
    /// This instance has no say any more.
    #[error(transparent)]
    Out(#[from] ForgottenError),
}

/// M2, M7: somebody was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "SYNCERFORGOTTEN instance {instance} was forgotten by replication ID {by} at {at}; that was at {}, and it is out until it joins again: syncer-agent join, beside it",
    at.utc()
)]
pub struct ForgottenError {
    /// Who is out.
    pub instance: InstanceId,
    /// The reign that forgot it.
    pub by: ReplId,
    /// When.
    pub at: Timestamp,
}

impl std::str::FromStr for ForgottenError {
    type Err = ();

    /// From its own text, whatever is before it: agents pass on what a peer has answered.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (_, rest) = text.split_once("SYNCERFORGOTTEN instance ").ok_or(())?;
        let (instance, rest) = rest.split_once(" was forgotten by replication ID ").ok_or(())?;
        let (by, rest) = rest.split_once(" at ").ok_or(())?;
        let (at, _) = rest.split_once(';').ok_or(())?;
        let (ms, counter) = at.split_once('.').ok_or(())?;
        let instance = instance.parse().ok().and_then(InstanceId::new).ok_or(())?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| ());
        let at = Timestamp::from_bits(number(ms)?.checked_mul(1 << 16).ok_or(())? | (number(counter)? & 0xffff));
        Ok(Self { instance, by: by.parse().map_err(|_| ())?, at })
    }
}

impl Shard {
    /// Takes an instance out of the group, for ever or until it joins again. Its effects that others have still come in by them.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub fn forget(&mut self, instance: InstanceId, now_ms: u64) -> Result<(), MemberError> {
        if !self.is_primary() {
            return Err(MemberError::Role);
        }
        self.check_forgotten(self.config.instance)?;
        if instance == self.config.instance {
            return Err(MemberError::Itself(instance));
        }
        if !self.membership.contains(instance) {
            return Err(MemberError::NoMember(instance));
        }
        if self.brings(instance) {
            return Err(MemberError::Brought(instance));
        }
        let mut group = GroupBuilder::new();
        group.push(&Effect { db: 0, key: &[], ttl: TtlNote::None, op: Op::Forget { instance } });
        self.log_control(&mut group, now_ms);
        self.advance_stability();
        Ok(())
    }

    /// Whether a full sync that goes on will bring effects of an instance. Who reports a Forget says that nothing more comes of whom it names (M4).
    fn brings(&self, instance: InstanceId) -> bool {
        self.syncing.as_ref().is_some_and(|syncing| {
            let mut reigns = syncing.head.reigns.iter().zip(&syncing.names);
            reigns.any(|(reign, origin)| reign.instance == instance && reign.applied > self.clock.get(*origin))
        })
    }

    /// Whether an instance is out, as an error that says so (M2).
    ///
    /// # Errors
    /// It is.
    pub fn check_forgotten(&self, instance: InstanceId) -> Result<(), ForgottenError> {
        let Some(dot) = self.membership.forgotten(instance).and_then(|forgotten| forgotten.forgets.last()) else {
            return if instance == self.config.instance {
                self.told_out.filter(|(_, forget)| !self.is_outdated(forget)).map_or(Ok(()), |(_, forget)| Err(forget))
            } else {
                Ok(())
            };
        };
        Err(ForgottenError { instance, by: self.origins.replid(dot.origin), at: dot.ts })
    }

    /// Whether a peer may read here (M2).
    ///
    /// # Errors
    /// It is out, or this instance is.
    pub fn check_reader(&self, reader: InstanceId) -> Result<(), ForgottenError> {
        if !self.config.rules.forgotten_is_not_read {
            return Ok(());
        }
        self.check_forgotten(self.config.instance)?;
        self.check_forgotten(reader)
    }

    /// Why clients may not write here, if so: what they wrote would never leave this server, or take what it has not seen (M7, M11, 2.2
    /// rules 3 and 5).
    ///
    /// # Errors
    /// With what to do.
    pub fn check_writes(&self) -> Result<(), WritesRefused> {
        if self.config.rules.forgotten_takes_no_writes {
            self.check_forgotten(self.config.instance)?;
        }
        if self.joining.is_some() && self.config.rules.joining_takes_no_writes {
            return Err(WritesRefused::Joining);
        }
        if let Some(replid) = self.replaced_by() {
            return Err(WritesRefused::Superseded(replid));
        }
        if self.syncing.as_ref().is_some_and(|syncing| !self.clock.covers(&syncing.round.stable)) {
            return Err(WritesRefused::Behind);
        }
        let behind = self.behind().filter(|_| self.config.rules.catches_up_first);
        behind.map_or(Ok(()), |from| Err(WritesRefused::CatchingUp(from)))
    }

    /// M7: a member's answer to a handshake says that this instance is out. Of no meaning from whom this instance has forgotten itself:
    /// two halves that forgot each other both go on (M14).
    pub fn told_forgotten(&mut self, by: InstanceId, forget: ForgottenError) {
        let is_own = forget.instance == self.config.instance;
        if is_own && self.membership.contains(by) && !self.is_outdated(&forget) {
            self.told_out = Some((by, forget));
        }
    }

    /// Whether a Forget of this instance is known here and a Join lives that it had not seen, or its sponsor knew it when it let this
    /// instance join again: who told it has not heard of that yet, or never will.
    fn is_outdated(&self, forget: &ForgottenError) -> bool {
        let is_known = self.origins.find(&forget.by).is_some_and(|origin| self.clock.has(origin, forget.at));
        let joins = self.joining.as_ref().is_some_and(|joining| joining.via.get(&forget.by) >= forget.at);
        joins || (is_known && self.membership.contains(self.config.instance))
    }

    /// Who said so lets this instance in.
    pub(super) fn told_member(&mut self, by: InstanceId) {
        self.told_out.take_if(|(teller, _)| *teller == by);
    }

    /// A `Join` was applied. Who was no member begins anew: its old reports say nothing (M9).
    pub(super) fn join_applied(&mut self, instance: InstanceId, dot: Dot, seen: &Seen<'_>) {
        let has_left = self.membership.forgotten(instance).is_some();
        if self.membership.join(instance, dot, seen) && has_left {
            // All that anybody had of it before is here: its sponsor had it settled. What it has begun since may be here, too: it begins without
            // having seen anything, so who reads it first, and joins itself, takes that first.
            let from_before = |origin: &Origin| {
                let start = self.stability.start(*origin).unwrap_or_default();
                seen.has(&Dot { ts: start, index: 0, origin: *origin })
            };
            let reigns: Vec<Origin> = self.reigns_of(instance).into_iter().filter(from_before).collect();
            self.membership.freeze(reigns.into_iter());
            self.drop_reports(instance);
        }
    }

    pub(super) fn drop_reports(&mut self, instance: InstanceId) {
        self.stability.forget_reports(instance);
        self.heard.forget(instance);
        self.introduced.remove(&instance);
    }

    /// M4: settles whom every member is known to have forgotten. `own` is this instance's durable clock. Several together: through
    /// one that is forgotten later, a member can still have taken effects of one that was forgotten before.
    ///
    /// Not while this instance joins: it reads the history of its group, in which more of who was forgotten may come behind the `Forget`.
    pub(super) fn settle_forgotten(&mut self, own: &VectorClock) {
        if self.joining.is_some() {
            return;
        }
        let unsettled = self.membership.unsettled();
        let of = |instance| self.membership.forgotten(instance).map_or(&[][..], |f| &f.forgets);
        let forgets: Vec<(InstanceId, Dot)> =
            unsettled.iter().flat_map(|instance| of(instance).iter().map(move |dot| (instance, *dot))).collect();
        let together = self.config.rules.forgets_settle_together;
        for instance in unsettled.iter() {
            let counts = |of: InstanceId| together || of == instance;
            let covered =
                |report: &VectorClock| forgets.iter().filter(|(of, _)| counts(*of)).all(|(_, dot)| dot.is_in(report));
            let by_all = covered(own)
                && self
                    .membership
                    .members()
                    .iter()
                    .filter(|member| *member != self.config.instance)
                    .all(|member| self.stability.counted(member).is_some_and(covered));
            if by_all || !self.config.rules.forget_settles {
                self.settle(instance);
                let mut record = Vec::new();
                Record::settled(&mut record, instance);
                self.records.push(record);
            }
        }
    }

    /// The same on a replica.
    pub(super) fn settle(&mut self, instance: InstanceId) {
        self.membership.settle(instance);
        self.drop_reports(instance);
    }

    /// Those of which something was applied here: of one that a handshake has named, or a report, nothing may have been, since it began after
    /// what is about to end the others.
    pub(super) fn reigns_of(&self, instance: InstanceId) -> Vec<Origin> {
        let mine = |origin: &Origin| self.origins.instance(*origin) == instance && Some(*origin) != self.me;
        let begun = |origin: &Origin| self.clock.get(*origin) > Timestamp::ZERO;
        self.origins.iter().map(|(origin, ..)| origin).filter(|origin| mine(origin) && begun(origin)).collect()
    }

    /// M6: whether a group can come only from who was restored from before a settled `Forget`.
    pub(super) fn is_from_before(&self, instance: InstanceId, replid: &ReplId) -> bool {
        let is_out = self.origins.find(replid).is_some_and(|origin| self.membership.is_frozen(origin))
            || self.membership.forgotten(instance).is_some_and(|f| f.settled);
        is_out && self.config.rules.from_before_is_refused
    }

    /// At the end of a full sync, membership is merged like a key.
    pub(super) fn meet_membership(&mut self, syncing: &Syncing) {
        let theirs: Vec<(InstanceId, Dot)> = syncing
            .head
            .joins
            .iter()
            .filter_map(|(i, dot)| Some((*i, Dot { origin: *syncing.names.get(dot.origin.index())?, ..*dot })))
            .collect();
        let ours: Vec<(InstanceId, Dot)> = self
            .membership
            .members()
            .iter()
            .flat_map(|i| self.membership.joins(i).iter().map(move |dot| (i, *dot)).collect::<Vec<_>>())
            .collect();
        let mut met = Membership::default();
        let nothing = VectorClock::default();
        let unseen =
            Seen::Context { clock: &nothing, group: (Origin::from_index(u16::MAX), Timestamp::ZERO), lacks: None };
        for (instance, dot) in &theirs {
            if ours.contains(&(*instance, *dot)) || !dot.is_in(&self.clock) {
                met.join(*instance, *dot, &unseen);
            }
        }
        for (instance, dot) in &ours {
            if !theirs.contains(&(*instance, *dot)) && !dot.is_in(&syncing.round.clock) {
                met.join(*instance, *dot, &unseen);
            }
        }
        // M4: settled where all who are members now were known.
        let knows_all = |known: InstanceSet| met.members().iter().all(|member| known.contains(member));
        let settled_here = knows_all(self.membership.members());
        let settled_there = knows_all(theirs.iter().map(|(instance, _)| *instance).collect());
        for (instance, forgotten) in self.membership.all_forgotten() {
            met.meet_forgotten(instance, forgotten, settled_here);
        }
        for (instance, forgotten) in syncing.head.forgotten.iter().filter_map(|f| f.named(&syncing.names)) {
            met.meet_forgotten(instance, &forgotten, settled_there);
        }
        let frozen = syncing.head.frozen.iter().filter_map(|origin| syncing.names.get(origin.index()).copied());
        met.freeze(self.membership.frozen().iter().copied().chain(frozen));
        let is_settled = |i: &InstanceId| met.forgotten(*i).is_some_and(|forgotten| forgotten.settled);
        let joined_anew = |i: &InstanceId| {
            let known = self.membership.joins(*i);
            !known.is_empty() && met.contains(*i) && !met.joins(*i).iter().any(|dot| known.contains(dot))
        };
        let all = InstanceSet::ALL.iter();
        let outdated: Vec<InstanceId> = all.filter(|i| is_settled(i) || joined_anew(i)).collect();
        self.membership = met;
        outdated.into_iter().for_each(|instance| self.drop_reports(instance));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forgotten_error_is_read_from_its_text() {
        let by = "ab".repeat(20).parse().expect("a replication ID");
        let at = Timestamp::from_bits((1_700_000_000_123 << 16) | 7);
        let error = ForgottenError { instance: InstanceId::new(3).expect("an id"), by, at };
        assert_eq!(format!("the peer refused: {error}").parse(), Ok(error));
        assert!(error.to_string().contains("that was at 2023-11-14T22:13:20Z, and"), "for people: {error}");
        assert_eq!("SYNCERFORGOTTEN instance 3 was forgotten by".parse::<ForgottenError>(), Err(()));
    }
}
