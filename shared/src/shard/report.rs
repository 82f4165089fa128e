//! Reports: members tell each other what they have (DESIGN 2.2 rules 1 to 3, 6).

use std::collections::BTreeMap;

use super::Shard;
use crate::dot::Dot;
use crate::instance::{InstanceId, InstanceSet};
use crate::origin::OriginError;
use crate::record::Record;
use crate::report::{self, MemberReport};
use crate::timestamp::Timestamp;
use crate::token::ClockToken;
use crate::wire::WireError;

/// Why a report was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// It is broken.
    #[error("SYNCERFRAME {0}")]
    Frame(#[from] WireError),
    /// A replication ID has two owners.
    #[error("SYNCERID {0}")]
    Identity(#[from] OriginError),
}

/// The newest reports of members, as they came: passed on to others, and read by `SYNCER.WAIT`.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    pub(super) members: BTreeMap<InstanceId, MemberReport>,
}

impl Heard {
    /// What an instance said is of no meaning any more.
    pub(super) fn forget(&mut self, instance: InstanceId) {
        self.members.remove(&instance);
    }

    /// What a member said last.
    #[must_use]
    pub fn get(&self, member: InstanceId) -> Option<&MemberReport> {
        self.members.get(&member)
    }
}

impl Shard {
    /// This shard's report: its own clocks, and what it has heard of other members.
    #[must_use]
    pub fn report(&self) -> Vec<u8> {
        let own = self.clock_token();
        let durable = self.durable.clone().filter(|_| self.config.rules.reports_are_durable);
        let durable = durable.unwrap_or_else(|| own.clone());
        let me = MemberReport { instance: self.config.instance, durable, applied: own };
        let members = self.membership.members();
        let others = self.heard.members.values().filter(|r| members.contains(r.instance) && r.instance != me.instance);
        let reports: Vec<_> = others.cloned().chain([me.clone()]).collect();
        let mut out = Vec::new();
        report::encode(&reports, &mut out);
        out
    }

    /// What of this shard would survive a crash or a failover (2.2 rule 1); `None`: all that is applied, for nothing would, or because
    /// the operator says so.
    pub fn set_durable(&mut self, clock: Option<ClockToken>) {
        self.durable = clock;
    }

    /// How much later the last own group is than the last durable one, in milliseconds.
    pub(super) fn durable_behind_ms(&self) -> u64 {
        let durable = self.durable.as_ref().map(|durable| durable.get(&self.replid));
        durable.map_or(0, |durable| match durable {
            Timestamp::ZERO => self.last_own().ms().saturating_sub(self.start_ms()),
            durable => self.last_own().ms().saturating_sub(durable.ms()),
        })
    }

    fn start_ms(&self) -> u64 {
        self.me.and_then(|me| self.stability.start(me)).unwrap_or_default().ms()
    }

    /// Takes in a report that the server of `from` gave. Returns whether a client in `SYNCER.WAIT` may be done.
    ///
    /// # Errors
    /// See [`ReportError`].
    pub fn accept_report(&mut self, from: InstanceId, bytes: &[u8], now_ms: u64) -> Result<bool, ReportError> {
        let mut news = false;
        let reports = report::decode(bytes)?;
        self.hear_of_itself(from, &reports, now_ms);
        for member in reports {
            // M3: what a forgotten instance reported last stays as it is.
            if member.instance == self.config.instance || self.membership.forgotten(member.instance).is_some() {
                continue;
            }
            news |= self.hear(from, member, now_ms);
        }
        self.advance_stability();
        Ok(news)
    }

    fn hear(&mut self, from: InstanceId, report: MemberReport, now_ms: u64) -> bool {
        let is_direct = report.instance == from;
        if self.heard.members.get(&report.instance).is_some_and(|known| !is_newer(&report, known, is_direct)) {
            // A report that took a longer way.
            return false;
        }
        let known = self.heard.members.get(&report.instance).is_some_and(|known| *known == report);
        self.peers.entry(report.instance).or_default().report_ms = now_ms;
        // Also the same one again: when it came first it may have named a reign that was not known here yet.
        if self.all_known(&report.durable) {
            let durable = self.known_clock(&report.durable);
            self.stability.receive(report.instance, durable);
        }
        self.heard.members.insert(report.instance, report);
        !known
    }

    /// A report that names a reign unknown here cannot be covered here; a later one will do.
    fn all_known(&self, token: &ClockToken) -> bool {
        token.entries().iter().all(|(replid, ..)| self.origins.find(replid).is_some())
    }

    /// Raises S if the reports allow; the replicas are told (2.2 rule 6).
    pub fn advance_stability(&mut self) {
        let members = self.membership.members();
        let own = self.durable.as_ref().map_or_else(|| self.clock.clone(), |durable| self.known_clock(durable));
        let joins: Vec<Dot> = members.iter().flat_map(|member| self.membership.joins(member)).copied().collect();
        self.stability.count(&self.clock, &joins, &self.config.rules);
        self.settle_forgotten(&own);
        let holders = InstanceSet::from_bits(members.bits() | self.membership.unsettled().bits());
        let by_replid = self.config.rules.stable_is_a_vector;
        let has_risen = if holders.len() > 1 {
            self.stability.raise(self.config.instance, holders, &own, by_replid)
        } else {
            // A group of one: what its backlog has lost, no newcomer can have concurrent effects to (see `may_prune`).
            members.len() == 1 && self.backlog.evicted_any() && self.stability.set_stable(self.backlog.floor())
        };
        if has_risen && self.config.rules.stable_is_logged {
            let mut record = Vec::new();
            Record::stable(&mut record, &self.token(self.stability.stable()));
            self.records.push(record);
        }
        self.forget_dropped();
    }

    /// How many other members have applied everything up to this own timestamp (`SYNCER.WAIT`).
    #[must_use]
    pub fn applied_by(&self, own: Timestamp) -> usize {
        let members = self.membership.members();
        let has = |report: &&MemberReport| members.contains(report.instance) && report.applied.get(&self.replid) >= own;
        self.heard.members.values().filter(has).count()
    }

    /// The timestamp of this shard's last own group.
    #[must_use]
    pub fn last_own(&self) -> Timestamp {
        self.me.map(|me| self.clock.get(me)).unwrap_or_default()
    }

    /// What members said last.
    #[must_use]
    pub fn heard(&self) -> &Heard {
        &self.heard
    }
}

/// Whether a report is from the same reign as one that is known, or from a later one, and not from before it. A member that
/// has lost its tail in a failover has less than it said, but a reign more. If it has lost the start of a reign with it, each of the
/// two has one that the other lacks: then the member's own word counts, or the later clock.
fn is_newer(report: &MemberReport, known: &MemberReport, is_direct: bool) -> bool {
    let reigns_unknown_to = |other: &MemberReport, of: &MemberReport| {
        let own = of.applied.entries().iter().filter(|(_, instance, _)| *instance == report.instance);
        own.filter(|(replid, ..)| other.applied.get(replid) == Timestamp::ZERO).count()
    };
    let last = |of: &MemberReport| {
        let own = of.applied.entries().iter().filter(|(_, instance, _)| *instance == report.instance);
        own.map(|(.., ts)| *ts).max()
    };
    match (reigns_unknown_to(report, known), reigns_unknown_to(known, report)) {
        (0, 0) => report.applied.covers(&known.applied),
        (0, _) => true,
        (_, 0) => false,
        _ => is_direct || last(report) > last(known),
    }
}
