//! Snapshots of instances that came back from an old state (2.2 rule 5): what they endanger is asserted again before they are merged, as it is
//! before a regressed effect is applied.

use super::Shard;
use super::sync::Syncing;
use crate::clock::VectorClock;
use crate::dot::Dot;
use crate::keyspace::Keyspace;
use crate::merge::{AtRisk, KeyRef};
use crate::metadata::{KeyMeta, KindMeta, PathMeta, TtlDot};
use crate::origin::Origin;
use crate::timestamp::Timestamp;

impl Shard {
    /// What is stable here of a key, and would not be at all instances once `theirs`, what a snapshot has of it, is merged.
    pub(super) fn endangered_by<K: Keyspace>(
        &mut self,
        theirs: &KeyMeta,
        key: KeyRef<'_>,
        keyspace: &mut K,
    ) -> Option<AtRisk> {
        let syncing = self.syncing.as_ref().filter(|_| self.config.rules.regressed_reassert)?;
        if self.clock.covers(&syncing.round.clock) {
            // What the source has removed was removed here, too.
            return None;
        }
        let stable = self.stability.stable();
        let lacks_stable = !syncing.round.clock.covers(stable);
        let here = |dot: Dot| syncing.names.get(dot.origin.index()).map(|origin| Dot { origin: *origin, ..dot });
        if !lacks_stable && !theirs.dots().filter_map(here).any(|dot| dot.is_in(stable)) {
            // The usual case: whatever the source has was written where all that is stable here had been seen.
            return None;
        }
        let stable = stable.clone();
        let is_news = self.is_news_of_the_past(theirs);
        let may_have_come_back = self.may_have_come_back();
        // Who has not got all of the group yet has lost nothing, and torn nothing.
        let is_behind = lacks_stable && (may_have_come_back || !self.has_emptied_itself(syncing));
        let may_have_torn = !lacks_stable && may_have_come_back;
        if !is_news && !is_behind && !may_have_torn {
            return None;
        }
        let mut theirs = theirs.clone();
        theirs.rename_origins(&syncing.names).ok()?;
        // Of something that was stable there this instance knows nothing, and the source has seen all that is stable here: not the source came back from before
        // that, but everybody else, who have reported without it (rule 3).
        let (clock, _) = syncing.known(key, &self.clock, &stable);
        let stable_there = Some(&syncing.round.stable).filter(|there| !lacks_stable && !clock.covers(there)).cloned();
        // Else what the source has asserted has what is asserted here.
        let knew_less = lacks_stable && clock.covers(&syncing.round.stable);
        let seen = (is_news && knew_less).then(|| syncing.round.clock.clone());
        let own_clock = is_news.then(|| self.clock.clone());
        let mut merge = self.merge(keyspace);
        if let Some(own_clock) = own_clock {
            return merge.key_at_risk(key, &theirs, seen.as_ref(), (&own_clock, &stable), stable_there.as_ref());
        }
        // What a source that is behind has removed stays here, for it may as well have lost it.
        if is_behind { merge.missing_at_risk(key, &theirs, &stable) } else { merge.torn_at_risk(key, &theirs, &stable) }
    }

    /// M10: who joins begins anew without any reign of its own that was before, and gets all from its sponsor, its Join, too. What it lacks it has not lost then.
    /// So it may be where this instance itself came back, and lets in again who has its Join no more: whose writes may be news of the past. And who has heard of no
    /// Join of it has never had anything of it.
    fn has_emptied_itself(&self, syncing: &Syncing) -> bool {
        let (source, clock) = (syncing.head.instance, &syncing.round.clock);
        let is_own = |origin: Origin| self.origins.instance(origin) == source;
        let has_own = || self.stability.stable().iter().any(|(o, _)| is_own(o) && clock.get(o) > Timestamp::ZERO);
        let is_new =
            !self.membership.contains(source) || self.membership.joins(source).iter().any(|dot| !dot.is_in(clock));
        is_new && !has_own()
    }

    /// Whether something that the source has, and this instance lacks, may have been written by who came back from an old state, or had not read the group yet.
    fn may_have_come_back(&self) -> bool {
        let Some(syncing) = &self.syncing else { return false };
        let mut reigns = syncing.head.reigns.iter().zip(&syncing.names);
        reigns.any(|(reign, &origin)| {
            let has_begun_with_stable = || {
                let had = reign.had.as_ref().map(|had| had.renamed(&syncing.names));
                had.as_ref().or(self.stability.had(origin)).is_some_and(|had| had.covers(self.stability.stable()))
            };
            // More than that it began.
            let has_news = reign.applied > self.clock.get(origin).max(reign.start);
            has_news && !self.has_reported_stable(origin) && !has_begun_with_stable()
        })
    }

    /// Whether the reports of a reign count here, and have all that is stable: what it writes after such a report has seen that, and what it wrote before is
    /// here, else the report would not count (rule 3). A replica that was promoted has heard no reports; but where S has the beginning of a reign,
    /// a report that has it counted at who was primary then.
    fn has_reported_stable(&self, origin: Origin) -> bool {
        let (instance, stable) = (self.origins.instance(origin), self.stability.stable());
        let Some(start) = self.stability.start(origin) else { return false };
        let counts = |report: &VectorClock| report.has(origin, start) && report.covers(stable);
        let is_in = self.membership.contains(instance) && !self.membership.is_frozen(origin);
        self.stability.counted(instance).is_some_and(counts) || (is_in && stable.has(origin, start))
    }

    /// Whether the source came back from an old state and has written to this key without having seen what is stable here.
    fn is_news_of_the_past(&self, theirs: &KeyMeta) -> bool {
        let Some(syncing) = &self.syncing else { return false };
        let stable = self.stability.stable();
        let here = |dot: Dot| syncing.names.get(dot.origin.index()).map(|origin| Dot { origin: *origin, ..dot });
        let news = theirs.dots().filter_map(here).filter(|dot| !dot.is_in(&self.clock)).map(|dot| dot.ts).min();
        let Some(news) = news else { return false };
        // News that is older than what is stable has not seen it: nobody's clock goes back but by losing its state.
        let is_older = || theirs.dots().filter_map(here).any(|dot| dot.is_in(stable) && dot.ts > news);
        // Nor has news beside something stable of another type: it would have removed that.
        let has = |kind: &KindMeta, wanted: &dyn Fn(Dot) -> bool| {
            let mut dots = kind.paths.iter().flat_map(|(_, path)| path.dots().copied());
            dots.any(|dot| here(dot).is_some_and(wanted))
        };
        let kinds = || theirs.kinds.iter();
        let is_beside = |a: &KindMeta, b: &KindMeta| {
            a.kind != b.kind && has(a, &|dot| !dot.is_in(&self.clock)) && has(b, &|dot| dot.is_in(stable))
        };
        // Or beside something stable of its own path.
        let is_above = |path: &PathMeta| {
            let mut assigned = path.assigns.iter().filter_map(|a| here(a.dot));
            assigned.any(|dot| !dot.is_in(&self.clock))
                && path.dots().filter_map(|dot| here(*dot)).any(|dot| dot.is_in(stable))
        };
        // Or beside a stable TTL: one that is set, and that a new key has none, removes what was there (T1, T3).
        let is_new = |ttl: &&TtlDot| here(ttl.dot).is_some_and(|dot| !dot.is_in(&self.clock));
        let sets_ttl = || theirs.ttl.dots.iter().filter(is_new).any(|ttl| ttl.strong || ttl.at.is_none());
        let has_stable_ttl = || theirs.ttl.dots.iter().any(|ttl| here(ttl.dot).is_some_and(|dot| dot.is_in(stable)));
        let is_unseeing = || {
            kinds().any(|a| kinds().any(|b| is_beside(a, b)) || a.paths.any(is_above))
                || (sets_ttl() && has_stable_ttl())
        };
        // Whoever had seen all that is stable, and from whom the source has this, would have brought it that, too (I-3).
        !syncing.round.clock.covers(stable) || is_older() || is_unseeing()
    }
}
