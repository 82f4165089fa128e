//! Who leaves the group.

use syncer_shared::shard::{JoinData, MemberError};

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
        by.persist();
        by.check()
    }

    /// As an operator would: by a member that stays, and never so that one alone is left. Those who forget are never forgotten: members
    /// that forget each other may leave no group that agrees (M14).
    pub(super) fn random_forget(&mut self, instance: usize) -> Check {
        let target = self.random.usize(0..2);
        let members = self.instances[instance].shard.membership().members();
        let takes_part = self.instances[instance].shard.takes_writes() && members.contains(self.instances[target].id);
        if instance <= 1 || !takes_part || members.len() <= 2 {
            return Ok(());
        }
        match self.forget(instance, target) {
            Err(error) if error.contains("TRYAGAIN") => Ok(()),
            done => done,
        }
    }

    /// An instance joins, or joins again, by a sponsor. Returns what stands against it.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn join_by(
        &mut self,
        target: usize,
        sponsor: usize,
        data: JoinData,
        mine_wins: bool,
    ) -> Result<Option<String>, String> {
        let (id, now_ms) = (self.instances[target].id, self.wall(sponsor));
        let here = self.instances[target].shard.clock_token();
        let to = &mut self.instances[target];
        // Nothing of the group's clock is needed for this question.
        if let Err(MemberError::HasData(_) | MemberError::IsMember(_)) =
            to.shard.check_join(&here, data, &mut to.keyspace)
        {
            return Ok(Some("it has data, or is in".into()));
        }
        let by = &mut self.instances[sponsor];
        let via = match by.shard.sponsor(id, now_ms) {
            Ok(via) => via,
            Err(error) => return Ok(Some(error.to_string())),
        };
        by.take_records(&mut self.registry)?;
        if self.plan.rules.joins_are_durable {
            by.persist();
        }
        by.check()?;
        self.say(|| format!("{} joins by {}", target + 1, sponsor + 1));
        let now_ms = self.wall(target);
        let joined = self.instances[target].join(via, (data, mine_wins), now_ms, &mut self.registry);
        self.break_sync(target);
        for link in &mut self.links {
            if link.source == target {
                link.source_gone();
            }
            if link.target == target {
                link.target_gone();
            }
        }
        match joined {
            Err(why) if why.starts_with("SYNCERMEMBER ") || why.starts_with("TRYAGAIN ") => Ok(Some(why)),
            other => other.map(|()| None),
        }
    }

    /// A new instance, which has written or not, joins by whoever lets it; later if nobody does.
    pub(super) fn newcomer(&mut self) -> Check {
        let new = self.instances.len();
        let first = self.random.usize(0..new);
        let mut sponsors = (0..new).map(|i| (first + i) % new);
        let Some(sponsor) = sponsors.find(|sponsor| self.instances[*sponsor].shard.takes_writes()) else {
            return Ok(());
        };
        self.join()?;
        let data =
            *self.random.choice(&[JoinData::Refuse, JoinData::Replace, JoinData::Merge]).unwrap_or(&JoinData::Refuse);
        if data != JoinData::Refuse {
            for _ in 0..self.random.u8(1..8) {
                let command = self.random_command(new);
                self.write(new, &[command])?;
            }
        }
        let mine_wins = self.random.bool();
        self.say(|| format!("{} joins with its data: {data:?}, and wins: {mine_wins}", new + 1));
        self.join_by(new, sponsor, data, mine_wins)?.map_or(Ok(()), Err)
    }

    /// Somebody who is out joins again by whoever lets it.
    pub(super) fn random_rejoin(&mut self, target: usize) -> Check {
        let id = self.instances[target].id;
        let sponsor = self.random.usize(0..self.instances.len());
        if sponsor != target && self.instances[target].shard.check_forgotten(id).is_err() {
            self.join_by(target, sponsor, JoinData::Refuse, true)?;
        }
        Ok(())
    }

    /// What joining instances do by themselves.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn go_on_joining(&mut self, instance: usize) -> Check {
        let now_ms = self.wall(instance);
        let to = &mut self.instances[instance];
        to.shard.go_on_joining(&mut to.keyspace, now_ms, 2);
        to.shard.revive_orphans(&mut to.keyspace, now_ms);
        to.take_records(&mut self.registry)?;
        to.check()
    }

    /// Whether a snapshot flows from one to another. Who knows itself to be out may read on: a `Join` may come that the `Forget` had not seen (M13).
    #[must_use]
    pub fn may_read(&self, source: usize, reader: usize) -> bool {
        let (from, to) = (&self.instances[source], &self.instances[reader]);
        from.shard.check_reader(to.id).is_ok() && to.shard.check_forgotten(from.id).is_ok()
    }

    /// Whether reports flow from one to another.
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
        // Who has lost everything, and has not read yet who its peers are, is no group of its own.
        let may_leave_some = self.instances.iter().any(|i| i.shard.membership().all_forgotten().next().is_some());
        let is_whole = |group: &Vec<usize>| {
            (may_leave_some || group.len() == self.instances.len())
                && group.first().is_some_and(|first| members(first).len() == group.len())
        };
        (0..self.instances.len()).filter(is_in).map(those).filter(is_whole).max_by_key(Vec::len).unwrap_or_default()
    }
}
