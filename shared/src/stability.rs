//! The stable clock S: what every member is known to have (DESIGN 2.2 rules 1 to 3).

use std::collections::BTreeMap;

use crate::clock::VectorClock;
use crate::dot::Dot;
use crate::instance::{InstanceId, InstanceSet};
use crate::merge::Rules;
use crate::origin::{Origin, Origins};
use crate::shard::saved::{BodySink, clocks};
use crate::timestamp::Timestamp;
use crate::wire::{Reader, WireError, writer};

/// Reports of members, and S.
///
/// Invariant: S only rises, and is at or below every counted report of every member.
#[derive(Clone, Debug, Default)]
pub struct Stability {
    reports: BTreeMap<InstanceId, Reports>,
    starts: Vec<Start>,
    stable: VectorClock,
}

/// The beginning of a reign.
#[derive(Clone, Debug)]
struct Start {
    origin: Origin,
    ts: Timestamp,
    /// What its author had applied just before. Not kept once S has the beginning.
    had: Option<VectorClock>,
}

/// The reports of one member.
#[derive(Clone, Debug, Default)]
struct Reports {
    /// The last one that counts.
    counted: VectorClock,
    has_counted: bool,
    /// Not covered here yet. The first is kept until it is, so that under steady load one always gets there.
    waiting: Option<VectorClock>,
    /// Newer than `waiting`.
    latest: Option<VectorClock>,
}

impl Stability {
    /// S.
    #[must_use]
    pub fn stable(&self) -> &VectorClock {
        &self.stable
    }

    /// S is at least this, as who knows says: to a replica, its primary (2.2 rule 6). Returns whether S rose.
    pub fn set_stable(&mut self, stable: &VectorClock) -> bool {
        let has_risen = !self.stable.covers(stable);
        self.stable.join(stable);
        self.drop_had();
        has_risen
    }

    /// A reign begins with this effect, whose author `had` so much if that is known.
    pub fn begin_reign(&mut self, origin: Origin, ts: Timestamp, had: Option<VectorClock>) {
        if self.start(origin).is_none() {
            self.starts.push(Start { origin, ts, had });
        }
    }

    /// The first timestamp of a reign.
    #[must_use]
    pub fn start(&self, origin: Origin) -> Option<Timestamp> {
        self.starts.iter().find(|start| start.origin == origin).map(|start| start.ts)
    }

    /// What a reign had when it began; `None` if that is not known, or if every member has its beginning.
    #[must_use]
    pub fn had(&self, origin: Origin) -> Option<&VectorClock> {
        self.starts.iter().find(|start| start.origin == origin)?.had.as_ref()
    }

    /// For a saved state: what each reign had when it began, as far as it is kept.
    pub(crate) fn all_had(&self) -> impl Iterator<Item = (Origin, &VectorClock)> {
        self.starts.iter().filter_map(|start| Some((start.origin, start.had.as_ref()?)))
    }

    /// What a reign that has begun had, from a saved state. Whether it has begun.
    pub(crate) fn restore_had(&mut self, origin: Origin, had: VectorClock) -> bool {
        let start = self.starts.iter_mut().find(|start| start.origin == origin);
        start.map(|start| start.had = Some(had)).is_some()
    }

    /// Who has the beginning of a reign, and that is everyone, needs no other word of what it had.
    fn drop_had(&mut self) {
        let stable = &self.stable;
        let known = |start: &&mut Start| start.had.is_some() && stable.has(start.origin, start.ts);
        self.starts.iter_mut().filter(known).for_each(|start| start.had = None);
    }

    /// The reigns of an instance that have begun here, with their first timestamps.
    pub fn reigns<'a>(
        &'a self,
        instance: InstanceId,
        origins: &'a Origins,
    ) -> impl Iterator<Item = (Origin, Timestamp)> + 'a {
        let starts = self.starts.iter().map(|start| (start.origin, start.ts));
        starts.filter(move |(origin, _)| origins.instance(*origin) == instance)
    }

    /// For a saved state: what writes the reports of each member.
    pub(crate) fn each_report(&self, item: &mut BodySink<'_>) {
        for (member, reports) in &self.reports {
            let Reports { counted, has_counted, waiting, latest } = reports;
            item(&|out| {
                writer::instance(out, *member);
                writer::flag(out, *has_counted);
                clocks::encode(counted, out);
                for clock in [waiting, latest] {
                    writer::flag(out, clock.is_some());
                    clocks::encode(clock.as_ref().unwrap_or(&VectorClock::default()), out);
                }
            });
        }
    }

    /// The reports of a member from a saved state.
    pub(crate) fn restore_report(&mut self, reader: &mut Reader<'_>, origins: &Origins) -> Result<(), WireError> {
        let member = reader.instance("reporting member")?;
        let has_counted = reader.flag("counted")?;
        let counted = clocks::decode(reader, origins)?;
        let mut clock = || {
            let (is_some, clock) = (reader.flag("report")?, clocks::decode(reader, origins)?);
            Ok::<_, WireError>(is_some.then_some(clock))
        };
        let (waiting, latest) = (clock()?, clock()?);
        self.reports.insert(member, Reports { counted, has_counted, waiting, latest });
        Ok(())
    }

    /// What this member has said is of no use any more: it begins anew, or is out and that is settled (M4, M9).
    pub(crate) fn forget_reports(&mut self, member: InstanceId) {
        self.reports.remove(&member);
    }

    /// A member reports its durable clock.
    pub fn receive(&mut self, member: InstanceId, report: VectorClock) {
        let reports = self.reports.entry(member).or_default();
        if reports.waiting.as_ref().is_none_or(|waiting| !report.covers(waiting)) {
            // The first, or the member has lost what it had said: nobody may ever cover that.
            (reports.waiting, reports.latest) = (Some(report), None);
        } else {
            reports.latest = Some(report);
        }
    }

    /// The last counted report of a member.
    #[must_use]
    pub fn counted(&self, member: InstanceId) -> Option<&VectorClock> {
        self.reports.get(&member).filter(|r| r.has_counted).map(|r| &r.counted)
    }

    /// Counts what now counts.
    ///
    /// Rule 3: a report counts only when `applied` covers all of it and it covers the start of every reign known here; and every `Join`
    /// that is live here (`joins`), so that who has joined anew does not count by what it had before. The `rules` are controls of the
    /// simulation.
    pub fn count(&mut self, applied: &VectorClock, joins: &[Dot], rules: &Rules) {
        let starts = &self.starts;
        let counts = |report: &VectorClock| {
            let covers_starts = || {
                starts.iter().all(|s| !applied.has(s.origin, s.ts) || report.has(s.origin, s.ts))
                    && joins.iter().all(|join| join.is_in(report))
            };
            (applied.covers(report) || !rules.reports_are_covered) && (!rules.reports_cover_starts || covers_starts())
        };
        for reports in self.reports.values_mut() {
            while let Some(report) = reports.waiting.take_if(|report| counts(report)) {
                reports.counted = report;
                reports.has_counted = true;
                reports.waiting = reports.latest.take();
            }
            // What waits in vain for the start of a reign is replaced by what may have it.
            if reports.waiting.as_ref().is_some_and(|waiting| applied.covers(waiting)) && reports.latest.is_some() {
                reports.waiting = reports.latest.take();
            }
        }
    }

    /// Raises S to what all of `holders` have: the members, and who was forgotten and is not settled (M3). `own` is this instance's
    /// durable clock. Returns whether S rose. `by_replid` off is the control of rule 2: one time for all replication IDs.
    pub fn raise(&mut self, me: InstanceId, holders: InstanceSet, own: &VectorClock, by_replid: bool) -> bool {
        let mut counted = Vec::with_capacity(holders.len());
        for member in holders.iter().filter(|member| *member != me) {
            match self.counted(member) {
                Some(report) => counted.push(report),
                None => return false,
            }
        }
        let newest = |report: &VectorClock| report.iter().map(|(_, ts)| ts).max().unwrap_or_default();
        let has = |report: &VectorClock, origin| if by_replid { report.get(origin) } else { newest(report) };
        let lowest = |origin, ts| counted.iter().fold(ts, |low: Timestamp, report| low.min(has(report, origin)));
        let risen: Vec<_> = own
            .iter()
            .map(|(origin, ts)| (origin, lowest(origin, ts)))
            .filter(|(origin, ts)| self.stable.get(*origin) < *ts)
            .collect();
        risen.iter().for_each(|(origin, ts)| self.stable.raise(*origin, *ts));
        self.drop_had();
        !risen.is_empty()
    }

    /// The members that hold S back: what is `applied` here would be stable but for them.
    #[must_use]
    pub fn held_back_by(&self, me: InstanceId, members: InstanceSet, applied: &VectorClock) -> InstanceSet {
        let is_behind = |report: &VectorClock| {
            applied
                .iter()
                .any(|(origin, ts)| self.stable.get(origin) < ts && report.get(origin) <= self.stable.get(origin))
        };
        let holds = |member: &InstanceId| self.counted(*member).is_none_or(is_behind);
        members.iter().filter(|member| *member != me).filter(holds).collect()
    }
}
