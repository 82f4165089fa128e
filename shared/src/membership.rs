//! Who is a member: the key `membership` of the merge (rule M1).

use std::collections::BTreeMap;

use crate::dot::{Dot, Seen};
use crate::instance::{InstanceId, InstanceSet};

/// Instance -> live `Join` dots. An instance is a member while one lives. Join dots are never pruned.
#[derive(Clone, Debug, Default)]
pub struct Membership {
    joins: BTreeMap<InstanceId, Vec<Dot>>,
}

impl Membership {
    /// M1: `Join` = Assign at path `instance`.
    pub fn join(&mut self, instance: InstanceId, dot: Dot, seen: &Seen<'_>) {
        let joins = self.joins.entry(instance).or_default();
        joins.retain(|known| !seen.has(known));
        joins.push(dot);
    }

    /// A Join of a saved state.
    pub(crate) fn restore(&mut self, instance: InstanceId, dot: Dot) {
        self.joins.entry(instance).or_default().push(dot);
    }

    /// M1: `Forget` = Remove of the observed Joins.
    pub fn forget(&mut self, instance: InstanceId, seen: &Seen<'_>) {
        if let Some(joins) = self.joins.get_mut(&instance) {
            joins.retain(|known| !seen.has(known));
        }
        self.joins.retain(|_, joins| !joins.is_empty());
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
}
