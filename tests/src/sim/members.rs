//! Who leaves the group.

use super::{Check, World};

impl World {
    /// An instance forgets another.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn forget(&mut self, instance: usize, target: usize) -> Check {
        self.say(|| format!("{} forgets {}", instance + 1, target + 1));
        let (now_ms, id) = (self.wall(instance), self.instances[target].id);
        let by = &mut self.instances[instance];
        by.shard.forget(id, now_ms).map_err(|error| format!("{} forgets {id}: {error}", by.id))?;
        by.take_records(&mut self.registry)?;
        // A forgotten instance could be the only one that keeps what its forgetter loses.
        by.durable = by.logged();
        by.check()
    }

    /// As an operator would: by a member that stays, and never so that one alone is left. Those who forget are never forgotten: members
    /// that forget each other may leave no group that agrees (M14).
    pub(super) fn random_forget(&mut self, instance: usize) -> Check {
        let target = self.random.usize(0..2);
        let members = self.instances[instance].shard.membership().members();
        let takes_part = self.instances[instance].shard.takes_writes() && members.contains(self.instances[target].id);
        if instance > 1 && takes_part && members.len() > 2 { self.forget(instance, target) } else { Ok(()) }
    }

    /// Whether reports and snapshots flow from one to another.
    #[must_use]
    pub fn may_talk(&self, from: usize, to: usize) -> bool {
        let (from, to) = (&self.instances[from], &self.instances[to]);
        from.shard.check_reader(to.id).is_ok() && to.shard.check_reader(from.id).is_ok()
    }

    /// The largest set of instances that take themselves, and nobody else, for the members; none as long as they do not agree.
    #[must_use]
    pub fn group(&self) -> Vec<usize> {
        let members = |index: &usize| self.instances[*index].shard.membership().members();
        let is_in = |index: &usize| self.instances[*index].shard.check_forgotten(self.instances[*index].id).is_ok();
        let those = |of: usize| -> Vec<usize> {
            let set = members(&of);
            (0..self.instances.len()).filter(|index| is_in(index) && members(index) == set).collect()
        };
        let is_whole = |group: &Vec<usize>| group.first().is_some_and(|first| members(first).len() == group.len());
        (0..self.instances.len()).filter(is_in).map(those).filter(is_whole).max_by_key(Vec::len).unwrap_or_default()
    }
}
