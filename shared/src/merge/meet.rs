//! Two states of one key meet: a full sync merges a snapshot into an instance with data (MERGE_CASES A5, rule 7).
//!
//! Live is what is in both, and what the other side has not seen. An entry without a dot stands for every dot that its side
//! counts as stable and no longer has. Where both sides have one that the other's dots are part of (increments are folded one by
//! one), one of the entries is kept, and the dots of the other side that it lacks: then each is counted once. The target's, if it may be
//! made of what the source has seen since its snapshot only.

use hashbrown::HashSet;
use smallvec::SmallVec;

use super::Rules;
use crate::clock::VectorClock;
use crate::dot::Dot;
use crate::effect::{Kind, Path};
use crate::metadata::{Base, KeyMeta, KindMeta, PathMeta, Payload, TtlMeta, path_of};

/// What one side had applied and counted as stable when its state was taken.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Its clock.
    pub clock: &'a VectorClock,
    /// Its S.
    pub stable: &'a VectorClock,
}

/// Whose entry without a dot is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    Source,
    Target,
    Either,
    Neither,
}

/// The rules of one merge.
#[derive(Clone, Copy, Debug)]
pub struct Meeting<'a> {
    /// Where the snapshot was taken.
    pub source: Side<'a>,
    /// Where it is merged.
    pub target: Side<'a>,
    /// Controls of the simulation.
    pub rules: Rules,
}

/// Dots of one path at one side. Mostly there are few, and a table for them would be most of the work.
#[derive(Debug)]
pub(super) enum Dots {
    Few(SmallVec<[Dot; FEW]>),
    Many(HashSet<Dot, foldhash::fast::RandomState>),
}

const FEW: usize = 4;

impl Dots {
    pub(super) fn contains(&self, dot: &Dot) -> bool {
        match self {
            Self::Few(dots) => dots.contains(dot),
            Self::Many(dots) => dots.contains(dot),
        }
    }

    fn any(&self, mut fits: impl FnMut(&Dot) -> bool) -> bool {
        match self {
            Self::Few(dots) => dots.iter().any(&mut fits),
            Self::Many(dots) => dots.iter().any(&mut fits),
        }
    }
}

impl FromIterator<Dot> for Dots {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut dots = dots.into_iter();
        let few: SmallVec<[Dot; FEW]> = dots.by_ref().take(FEW).collect();
        match dots.next() {
            None => Self::Few(few),
            Some(next) => Self::Many(few.into_iter().chain([next]).chain(dots).collect()),
        }
    }
}

impl Meeting<'_> {
    /// The merged state of a key. Both are complete and explicit: elements without metadata have a base.
    #[must_use]
    pub fn key(&self, source: &KeyMeta, target: &KeyMeta) -> KeyMeta {
        let ttl = self.ttl((&source.ttl, !source.kinds.is_empty()), (&target.ttl, !target.kinds.is_empty()));
        let mut merged = KeyMeta { ttl, ..KeyMeta::default() };
        let nothing = PathMeta::default();
        let mut keep = |path: Path<'_>, met: PathMeta| {
            if !met.is_empty() {
                *merged.kind_or_insert(path.kind()).paths.get_or_insert(path) = met;
            }
        };
        for KindMeta { kind, paths } in &target.kinds {
            for (element, at_target) in paths.iter() {
                let path = path_of(*kind, element);
                keep(path, self.path(*kind, source.path(path).unwrap_or(&nothing), at_target));
            }
        }
        for KindMeta { kind, paths } in &source.kinds {
            let only_there = |(element, _): &(&[u8], _)| target.path(path_of(*kind, element)).is_none();
            for (element, at_source) in paths.iter().filter(only_there) {
                keep(path_of(*kind, element), self.path(*kind, at_source, &nothing));
            }
        }
        merged
    }

    fn path(&self, kind: Kind, source: &PathMeta, target: &PathMeta) -> PathMeta {
        let pruned = PathMeta::default();
        // It is here by chance: a replica may have pruned it (I-12).
        let target = if target.is_acknowledged_by_all(self.target.stable) { &pruned } else { target };
        let (at_source, at_target): (Dots, Dots) = (source.dots().copied().collect(), target.dots().copied().collect());
        let bases = (base(source), base(target));
        let is_supposed = self.is_supposed(target, bases.1);
        let keep = match self.base(bases.0.is_some(), bases.1.is_some() && !is_supposed, &at_source, &at_target) {
            Keep::Either if self.have_both_removed(bases) => Keep::Neither,
            // Then they are the same, unless an increment here has supposed an entry where one had been removed: that one is 0. Who came back
            // from an old state has not removed what it does not know.
            Keep::Either if bases.1.is_some_and(is_zero) && self.target.clock.covers(self.source.stable) => {
                Keep::Target
            }
            Keep::Either => Keep::Source,
            // What is late at one side may have been handed out at the other, or not: better twice than never.
            Keep::Neither if bases.1 == Some(&Payload::Late) => Keep::Target,
            Keep::Neither if bases.0 == Some(&Payload::Late) => Keep::Source,
            keep => keep,
        };
        let mut met = match keep {
            Keep::Source => PathMeta::stable(bases.0.cloned()),
            Keep::Target => PathMeta::stable(bases.1.cloned()),
            Keep::Neither | Keep::Either => PathMeta::default(),
        };
        // The other side has folded it, and this one, whose entry is kept, has not.
        let at_target_only = |dot: &Dot| keep == Keep::Source && bases.1.is_some() && dot.is_in(self.target.stable);
        let at_source_only = |dot: &Dot| keep == Keep::Target && bases.0.is_some() && dot.is_in(self.source.stable);
        let is_news = |dot: &Dot| at_target.contains(dot) || !dot.is_in(self.target.clock);
        let comes_whole = is_supposed || (self.comes_whole(source, keep, is_news) && may_be_number(kind, source));
        let from_source =
            |dot: &Dot| is_news(dot) || at_target_only(dot) || (comes_whole && dot.is_in(self.source.stable));
        let from_target =
            |dot: &Dot| !at_source.contains(dot) && (!dot.is_in(self.source.clock) || at_source_only(dot));
        met.take_dots(source, from_source);
        met.take_dots(target, from_target);
        met
    }

    /// Rule 7 for the entry without a dot: it stands for the other side's dots that are stable at its own side and absent there.
    fn base(&self, source: bool, target: bool, at_source: &Dots, at_target: &Dots) -> Keep {
        let stands_for = |own: &Dots, stable, other: &Dots| other.any(|dot| dot.is_in(stable) && !own.contains(dot));
        let source_stands = || stands_for(at_source, self.source.stable, at_target);
        let target_stands = || stands_for(at_target, self.target.stable, at_source);
        match (source, target) {
            (false, false) => Keep::Neither,
            _ if !(self.rules.entries_stand_for_stable || (source && target)) => Keep::Neither,
            (true, true) if !self.rules.either_entry_is_taken => Keep::Source,
            // The source has acknowledged more since its snapshot: only the target's entry may be made of it.
            (true, true) if self.target_knows_more() => Keep::Target,
            (true, true) if source_stands() => Keep::Source,
            (true, true) if target_stands() => Keep::Target,
            (true, true) => Keep::Either,
            // Who has seen all that the entry may be made of, and has none of it, knows that it was removed.
            (true, false) if source_stands() || !self.target.clock.covers(self.source.stable) => Keep::Source,
            (false, true) if target_stands() || !self.source.clock.covers(self.target.stable) => Keep::Target,
            (true, false) if !self.rules.lone_entries_go => Keep::Source,
            (false, true) if !self.rules.lone_entries_go => Keep::Target,
            _ => Keep::Neither,
        }
    }

    /// Whether entries of which neither stands for dots of the other side, though each side has seen all that the other one's may be made of, were each removed by the
    /// other side: they are sums of something else. Each side has removed all that was stable at the other, for when it reported that, it had not removed
    /// it yet (rule 3), and has folded what came after that.
    fn have_both_removed(&self, (source, target): (Option<&Payload>, Option<&Payload>)) -> bool {
        let sums = source.and_then(whole_number).zip(target.and_then(whole_number));
        sums.is_some_and(|(source, target)| source != target)
            && self.target.clock.covers(self.source.stable)
            && self.source.clock.covers(self.target.stable)
    }

    /// Whether an entry of 0 at the target may be but supposed, by an increment of who came back from an old state and has removed what it still had: it stands for
    /// nothing then, and what is stable at the source comes as a whole. If it is a sum after all, or was written, nothing is missed without it: what it is made of is
    /// stable at the source, too.
    fn is_supposed(&self, target: &PathMeta, base: Option<&Payload>) -> bool {
        base.is_some_and(is_zero)
            && !target.increments().is_empty()
            && !self.target.clock.covers(self.source.stable)
            && self.source.stable.covers(self.target.stable)
    }

    /// Whether what is stable at the source of what may be a number comes as a whole, also what the target has removed of it: the source, or its replica, has folded
    /// that by now, or will (I-12), and the sums of the two sides would differ as if each had removed the other's.
    ///
    /// So it is where the target has not seen all that is stable there. It came back from an old state: others do not count what is stable as seen by what it
    /// removes, either (2.2 rule 5). Who removes something in the middle of a sync has seen all of that (`Shard::takes_writes`), and so has who lost nothing.
    /// What it has written instead shows beside that until the source has answered, which tells by those dots that it had not seen them (`Shard::is_news_of_the_past`).
    fn comes_whole(&self, source: &PathMeta, keep: Keep, is_news: impl Fn(&Dot) -> bool) -> bool {
        let has_part =
            || keep == Keep::Source || source.dots().any(|dot| dot.is_in(self.source.stable) && is_news(dot));
        keep != Keep::Target && !self.target.clock.covers(self.source.stable) && has_part()
    }

    /// Is there something that the target counts as stable and the source had not seen, and not the other way round?
    fn target_knows_more(&self) -> bool {
        self.target.clock.covers(self.source.stable) && !self.source.clock.covers(self.target.stable)
    }

    /// Of each side what is known of the TTL, and whether there is a key.
    pub(super) fn ttl(&self, source: (&TtlMeta, bool), target: (&TtlMeta, bool)) -> TtlMeta {
        let (of_source, of_target) = (stable_ttl(source), stable_ttl(target));
        let (source, target) = (source.0, target.0);
        let dots = |ttl: &TtlMeta| ttl.dots.iter().map(|t| t.dot).collect::<Dots>();
        let (at_source, at_target) = (dots(source), dots(target));
        let keep = self.base(of_source.is_some(), of_target.is_some(), &at_source, &at_target);
        let base = match keep {
            Keep::Source | Keep::Either => of_source.flatten(),
            Keep::Target => of_target.flatten(),
            Keep::Neither => None,
        };
        let mut met = TtlMeta { base, ..TtlMeta::default() };
        let from_source = |dot: &Dot| at_target.contains(dot) || !dot.is_in(self.target.clock);
        let at_source_only = |dot: &Dot| keep == Keep::Target && of_source.is_some() && dot.is_in(self.source.stable);
        let from_target =
            |dot: &Dot| !at_source.contains(dot) && (!dot.is_in(self.source.clock) || at_source_only(dot));
        met.dots.extend(source.dots.iter().filter(|t| from_source(&t.dot)).copied());
        met.dots.extend(target.dots.iter().filter(|t| from_target(&t.dot)).copied());
        met
    }
}

/// What an entry of a group's deliveries is besides late overrules that: pruned or not, it was handed out (I-12).
fn base(meta: &PathMeta) -> Option<&Payload> {
    match &meta.sum.as_ref()?.base {
        Base::Stable(Some(Payload::Late)) if meta.dots().next().is_some() => None,
        Base::Stable(payload) => payload.as_ref(),
        Base::None => None,
    }
}

fn is_zero(payload: &Payload) -> bool {
    payload.text() == Some(b"0")
}

/// Sums of floats depend on the order in which they were made: those that are no integers, or too large to tell, say nothing.
fn whole_number(payload: &Payload) -> Option<i64> {
    const EXACT_MAX: f64 = (1_u64 << 53) as f64;
    const DIGITS_MAX: usize = "-9223372036854775808".len();
    match payload {
        Payload::Score(score) => (score.fract() == 0.0 && score.abs() < EXACT_MAX).then_some(*score as i64),
        other => std::str::from_utf8(other.text().filter(|text| text.len() <= DIGITS_MAX)?).ok()?.parse().ok(),
    }
}

/// Whether an entry that is made of this may be a number, and so be compared as one (`Meeting::have_both_removed`).
fn may_be_number(kind: Kind, meta: &PathMeta) -> bool {
    let is_number = |payload: &Payload| whole_number(payload).is_some();
    let has_number = || meta.assigns.iter().any(|assigned| assigned.payload.as_ref().is_some_and(is_number));
    let is_changed = !meta.increments().is_empty() || meta.patches().is_some();
    // What wins of a list element is never pruned (rule L8).
    kind != Kind::List && (is_changed || has_number())
}

/// The TTL without a dot, if there is one to speak of: also that there is none.
fn stable_ttl((ttl, is_key): (&TtlMeta, bool)) -> Option<Option<i64>> {
    if ttl.dots.is_empty() { is_key.then_some(ttl.base) } else { ttl.base.map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Assigned;
    use crate::origin::Origin;
    use crate::stream::{Part, StreamId};
    use crate::timestamp::Timestamp;

    /// Found by the simulation (seed 8650004419): an entry that somebody asserted again came back by a snapshot. It was late for its group at the primary, which
    /// had pruned that it was acknowledged, and not at the replica, which had not (I-12).
    #[test]
    fn an_acknowledgement_that_may_be_pruned_decides_nothing() {
        let delivery = Part::Delivery { group: b"g", id: StreamId { ms: 100, seq: 1 } }.name();
        let path = Path::Stream(&delivery);
        let origin = Origin::from_index(0);
        let (early, late) = (Timestamp::from_ms(1), Timestamp::from_ms(2));
        let acked = |ts| {
            let (dot, payload) = (Dot { ts, index: 0, origin }, Some(Payload::Acked));
            let mut meta = PathMeta::default();
            meta.assigns.push(Assigned { dot, reasserted: false, payload });
            meta
        };
        let key = |meta: Option<PathMeta>| {
            let mut key = KeyMeta::default();
            if let Some(meta) = meta {
                *key.kind_or_insert(path.kind()).paths.get_or_insert(path) = meta;
            }
            key
        };
        let (mut clock, mut stable) = (VectorClock::default(), VectorClock::default());
        clock.raise(origin, late);
        stable.raise(origin, early);
        let nothing = VectorClock::default();
        let meeting = Meeting {
            source: Side { clock: &clock, stable: &nothing },
            target: Side { clock: &clock, stable: &stable },
            rules: Rules::default(),
        };
        let late_there = PathMeta::stable(Some(Payload::Late));
        for source in [None, Some(acked(early)), Some(late_there)].map(key) {
            let (kept, pruned) = (key(Some(acked(early))), key(None));
            assert_eq!(meeting.key(&source, &kept).path(path), meeting.key(&source, &pruned).path(path));
        }
        let kept = meeting.key(&key(Some(acked(late))), &key(Some(acked(late))));
        assert_eq!(kept.path(path), Some(&acked(late)), "of those that not everybody knows it is not so");
    }
}
