//! Who is a member: the key `membership` of the merge (rule M1), and who was forgotten.

use std::collections::BTreeMap;

use crate::dot::{Dot, Seen};
use crate::instance::{InstanceId, InstanceSet};
use crate::origin::Origin;

/// Instance -> live `Join` dots. An instance is a member while one lives. Join dots are never pruned.
#[derive(Clone, Debug, Default)]
pub struct Membership {
    joins: BTreeMap<InstanceId, Vec<Dot>>,
    forgotten: BTreeMap<InstanceId, Forgotten>,
    /// Reigns of which nothing new is taken: those that a settled instance had (M4, M6), once it has joined again.
    frozen: Vec<Origin>,
}

/// An instance that a `Forget` has left without a live `Join`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// The `Forget`s, in the order in which they were applied here.
    pub forgets: Vec<Dot>,
    /// M4: every member's report covers them. Until then the instance's last counted report holds S.
    pub settled: bool,
}

impl Membership {
    /// M1: `Join` = Assign at path `instance`. Whether it was no member before.
    ///
    /// Then no `Forget` is settled any more: the new member may have read who is out, and had not been told, before it reads the group.
    pub fn join(&mut self, instance: InstanceId, dot: Dot, seen: &Seen<'_>) -> bool {
        let joins = self.joins.entry(instance).or_default();
        let is_new = joins.is_empty();
        joins.retain(|known| !seen.has(known));
        joins.push(dot);
        self.forgotten.remove(&instance);
        if is_new {
            self.forgotten.values_mut().for_each(|forgotten| forgotten.settled = false);
        }
        is_new
    }

    /// A Join of a saved state.
    pub(crate) fn restore(&mut self, instance: InstanceId, dot: Dot) {
        self.joins.entry(instance).or_default().push(dot);
    }

    /// M1: `Forget` = Remove of the observed Joins. A Join that it had not seen keeps the instance in (M13).
    pub fn forget(&mut self, instance: InstanceId, dot: Dot, seen: &Seen<'_>) {
        if let Some(joins) = self.joins.get_mut(&instance) {
            joins.retain(|known| !seen.has(known));
            if !joins.is_empty() {
                return;
            }
        }
        self.joins.remove(&instance);
        self.forgotten.entry(instance).or_default().forgets.push(dot);
    }

    /// The members.
    #[must_use]
    pub fn members(&self) -> InstanceSet {
        self.joins.keys().copied().collect()
    }

    /// Whether there is any member but one.
    #[must_use]
    pub fn is_group(&self) -> bool {
        self.joins.len() > 1
    }

    /// Whether `instance` is a member.
    #[must_use]
    pub fn contains(&self, instance: InstanceId) -> bool {
        self.joins.contains_key(&instance)
    }

    /// The live Join dots of an instance.
    #[must_use]
    pub fn joins(&self, instance: InstanceId) -> &[Dot] {
        self.joins.get(&instance).map_or(&[], Vec::as_slice)
    }

    /// Every Join that is live and every Forget that is remembered.
    pub fn dots(&self) -> impl Iterator<Item = &Dot> {
        self.joins.values().flatten().chain(self.forgotten.values().flat_map(|forgotten| &forgotten.forgets))
    }

    /// Every instance that was forgotten and has not joined again.
    pub fn all_forgotten(&self) -> impl Iterator<Item = (InstanceId, &Forgotten)> {
        self.forgotten.iter().map(|(instance, forgotten)| (*instance, forgotten))
    }

    /// What is known of an instance that was forgotten.
    #[must_use]
    pub fn forgotten(&self, instance: InstanceId) -> Option<&Forgotten> {
        self.forgotten.get(&instance)
    }

    /// Those whose last counted report still holds S (M3).
    #[must_use]
    pub fn unsettled(&self) -> InstanceSet {
        self.forgotten.iter().filter(|(_, forgotten)| !forgotten.settled).map(|(instance, _)| *instance).collect()
    }

    /// M4.
    pub fn settle(&mut self, instance: InstanceId) {
        if let Some(forgotten) = self.forgotten.get_mut(&instance) {
            forgotten.settled = true;
        }
    }

    /// M6: whether nothing new of this reign is taken.
    #[must_use]
    pub fn is_frozen(&self, origin: Origin) -> bool {
        self.frozen.contains(&origin)
    }

    /// The reigns of which nothing new is taken.
    #[must_use]
    pub fn frozen(&self) -> &[Origin] {
        &self.frozen
    }

    /// Takes in what another instance knows to be forgotten; who is a member here is none of it. `knows_all`: it knows every member here.
    pub fn meet_forgotten(&mut self, instance: InstanceId, other: &Forgotten, knows_all: bool) {
        if self.contains(instance) {
            return;
        }
        let own = self.forgotten.entry(instance).or_default();
        let other_settled = other.settled && knows_all;
        let has_all = |a: &[Dot], b: &[Dot]| b.iter().all(|dot| a.contains(dot));
        // Of two that differ one may be of a time before the instance joined again.
        own.settled = match (own.settled, other_settled) {
            (true, true) => true,
            (true, false) => has_all(&own.forgets, &other.forgets),
            (false, true) => has_all(&other.forgets, &own.forgets),
            (false, false) => false,
        };
        let news: Vec<Dot> = other.forgets.iter().filter(|dot| !own.forgets.contains(dot)).copied().collect();
        own.forgets.extend(news);
    }

    /// Nothing new is taken of these reigns.
    pub fn freeze(&mut self, reigns: impl Iterator<Item = Origin>) {
        for origin in reigns {
            if !self.frozen.contains(&origin) {
                self.frozen.push(origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timestamp::Timestamp;

    /// Found by the simulation (seed 6386550614004369): a snapshot from before an instance joined again, and was forgotten once more, knew the first Forget
    /// as settled. That is no word on the second.
    #[test]
    fn what_is_settled_is_each_forget() {
        let dot = |ms: u64| Dot { ts: Timestamp::from_bits(ms << 16), index: 0, origin: Origin::from_index(0) };
        let of = |forgets: &[u64], settled| Forgotten { forgets: forgets.iter().map(|ms| dot(*ms)).collect(), settled };
        let one = InstanceId::new(1).expect("an id");
        for (ours, theirs, settled) in [
            (of(&[2], false), of(&[1], true), false),
            (of(&[1], true), of(&[2], false), false),
            (of(&[1], true), of(&[2], true), true),
            (of(&[1, 2], true), of(&[1], false), true),
            (of(&[1], false), of(&[1, 2], true), true),
            (of(&[1], false), of(&[1], false), false),
            (of(&[], false), of(&[1], true), true),
        ] {
            let mut membership = Membership::default();
            membership.forgotten.insert(one, ours.clone());
            membership.meet_forgotten(one, &theirs, true);
            let met = membership.forgotten(one).map(|forgotten| forgotten.settled);
            assert_eq!(met, Some(settled), "{ours:?} and {theirs:?}");
        }
    }
}
