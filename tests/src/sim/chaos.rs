//! Random events, and the healing after them.

use syncer_shared::effect::FlushScope;
use syncer_shared::instance::{InstanceId, InstanceSet};
use syncer_shared::list::End;

use super::client::Command;
use super::plan::Failover;
use super::streams::{self, StreamCommand};
use super::{Check, World};

/// Rounds of everybody pulling from everybody: far more than any chain of waits needs.
const HEAL_ROUNDS_MAX: u32 = 60;

/// Longer than any TTL that is set.
const TTL_MS_MAX: u64 = 20_000;

impl World {
    /// Random events, with safety checked at each.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn chaos(&mut self) -> Check {
        if self.plan.forgets {
            // A Join that the Forget has not seen would keep its instance in (M13): the group has formed.
            self.gossip()?;
        }
        for step in 0..self.plan.steps {
            let is_due = self.plan.joins_after.is_some_and(|after| after <= step);
            if is_due && self.instances.len() == usize::from(self.plan.instances) {
                if self.plan.joins_by_sponsor { self.newcomer()? } else { self.join()? }
            }
            let pause = if self.random.u8(0..20) == 0 { self.random.u64(0..8000) } else { self.random.u64(0..40) };
            self.tick(pause);
            self.event()?;
        }
        self.check_all()
    }

    fn event(&mut self) -> Check {
        let (instance, link) = (self.random.usize(0..self.instances.len()), self.random.usize(0..self.links.len()));
        if self.plan.hot && self.random.u8(0..5) == 0 {
            return self.hot_event(instance, link);
        }
        match self.random.u8(0..100) {
            0..36 => self.random_write(instance)?,
            36..50 => {
                let max_bytes = *self.random.choice(&[1, 300, 2000, usize::MAX]).unwrap_or(&1);
                self.read(link, max_bytes);
            }
            50..70 => {
                let (slice, again) = (self.random.u32(1..6), self.random.u8(0..8) == 0);
                self.deliver(link, slice, again)?;
            }
            70..76 => {
                let (from, to) = (self.links[link].source, self.links[link].target);
                if self.random.bool() {
                    self.persist(from);
                }
                if self.links[link].is_up {
                    self.report(from, to)?;
                }
            }
            76..81 if self.plan.prune => {
                let steps = *self.random.choice(&[1, 3, 1000]).unwrap_or(&1);
                self.prune(instance, steps)?;
            }
            81..84 => self.toggle(link),
            84..86 => self.links[link].restart(),
            86..88 => self.choose_wanted(link),
            88 if self.plan.rejoins => {
                self.random_rejoin(instance)?;
                self.go_on_joining(instance)?;
            }
            88 if self.plan.joins_by_sponsor => self.go_on_joining(instance)?,
            88..90 if self.plan.clock_jumps => self.jump(instance),
            90..93 if self.plan.drops && self.random.bool() => self.reload(instance)?,
            90..93 if self.plan.ttl => self.expire(instance)?,
            93 => self.random_failover(instance)?,
            94 if self.plan.forgets && self.random.bool() => self.random_forget(instance)?,
            94 => {
                let saved = self.random.usize(0..=self.instances[instance].logged());
                self.instances[instance].check_replica(saved, self.now_ms)?;
            }
            95 => self.restart(instance)?,
            96 => self.gossip()?,
            97..99 => {
                let target = self.links[link].target;
                if !self.resume_sync(target)? && self.links[link].needs_full && self.copy_snapshot(link) {
                    return Ok(());
                }
                let steps = self.random.usize(1..5);
                self.step_sync(target, steps)?;
            }
            99 if self.syncs[instance].is_under_way() => self.break_sync(instance),
            _ => {}
        }
        Ok(())
    }

    /// Increments so many that pruning folds them one by one, and what decides how far it gets at each instance.
    fn hot_event(&mut self, instance: usize, link: usize) -> Check {
        match self.random.u8(0..10) {
            0..4 => {
                for _ in 0..self.random.u8(1..16) {
                    let count = self.random.usize(1..5);
                    let commands: Vec<_> = (0..count).map(|_| self.hot_command()).collect();
                    self.write(instance, &commands)?;
                    self.tick(1);
                }
            }
            4 | 5 => {
                self.persist(instance);
                self.instances[instance].shard.advance_stability();
                self.instances[instance].take_records(&mut self.registry)?;
                if self.plan.prune {
                    self.prune(instance, usize::MAX)?;
                }
            }
            6 => {
                self.persist(self.links[link].source);
                self.report(self.links[link].source, self.links[link].target)?;
                self.pull(self.links[link].source, self.links[link].target)?;
            }
            7 => self.gossip()?,
            _ if self.resume_sync(self.links[link].target)? => {}
            _ => drop(self.begin_sync(link)?),
        }
        Ok(())
    }

    fn hot_command(&mut self) -> (u32, Vec<u8>, Command) {
        let random = &mut self.random;
        let element = random.choice(&["a", "b", "c", "d"]).unwrap_or(&"a").to_string();
        let by = random.i64(1..5);
        let (key, command) = match random.u8(0..40) {
            0 => ("h", Command::HDel(element)),
            1 => ("h", Command::HSet(element, by.to_string())),
            2 => ("z", Command::ZRem(element)),
            3 => ("z", Command::ZAdd(element, by as f64)),
            4 => (*random.choice(&["h", "z", "n"]).unwrap_or(&"n"), Command::Del),
            5..20 => ("h", Command::HIncrBy(element, by)),
            20..35 => ("z", Command::ZIncrBy(element, by as f64)),
            _ => ("n", Command::IncrBy(by)),
        };
        (0, key.as_bytes().to_vec(), command)
    }

    /// Agents are quick mostly: everything flows that can, in random order, and all report. So S rises in between faults.
    fn gossip(&mut self) -> Check {
        let mut links: Vec<usize> = (0..self.links.len()).filter(|link| self.links[*link].is_up).collect();
        for _ in 0..2 {
            self.random.shuffle(&mut links);
            for link in &links {
                self.pull(self.links[*link].source, self.links[*link].target)?;
            }
        }
        (0..self.instances.len()).for_each(|instance| self.persist(instance));
        for link in links {
            self.report(self.links[link].source, self.links[link].target)?;
        }
        Ok(())
    }

    fn toggle(&mut self, link: usize) {
        let is_up = !self.links[link].is_up || self.random.bool();
        let (from, to) = (self.links[link].source + 1, self.links[link].target + 1);
        self.say(|| format!("link {from} -> {to} is {}", if is_up { "up" } else { "cut" }));
        self.links[link].is_up = is_up;
        if !is_up {
            self.links[link].restart();
        }
    }

    /// The direct stream, or everything: a relay.
    fn choose_wanted(&mut self, link: usize) {
        let direct: InstanceSet = [self.instances[self.links[link].source].id].into_iter().collect();
        let wanted = match self.random.u8(0..3) {
            0 => direct,
            1 => InstanceSet::ALL,
            _ => InstanceSet::from_bits(self.random.u64(..) | direct.bits()),
        };
        self.links[link].want(wanted);
    }

    fn jump(&mut self, instance: usize) {
        let far = self.random.u8(0..4) == 0;
        let skew_ms = if far { self.random.i64(-200_000..200_000) } else { self.random.i64(-3000..3000) };
        self.say(|| format!("the clock of {} is {skew_ms} ms off", instance + 1));
        self.instances[instance].skew_ms = skew_ms;
    }

    fn random_failover(&mut self, instance: usize) -> Check {
        /// The first record of its life.
        const FOUNDED: usize = 1;
        let all = self.instances[instance].logged();
        let safe = self.instances[instance].durable;
        let first = match self.plan.failover {
            Failover::Never => return Ok(()),
            Failover::LosesUnreported => safe.max(FOUNDED),
            Failover::LosesAnything if self.needs_all() => all,
            Failover::LosesAnything => self.whole_since(instance).max(FOUNDED),
        };
        let len = self.random.usize(first.min(all)..=all);
        self.fail_over(instance, len)
    }

    fn random_write(&mut self, instance: usize) -> Check {
        // Whoever comes later writes when it knows that it is in.
        if instance >= usize::from(self.plan.instances) && !self.instances[instance].shard.membership().is_group() {
            return Ok(());
        }
        if self.plan.short_lived && self.random.u8(0..6) == 0 {
            return self.short_lived_write(instance);
        }
        let count = if self.random.u8(0..5) == 0 { self.random.usize(2..5) } else { 1 };
        let commands: Vec<_> = (0..count).map(|_| self.random_command(instance)).collect();
        self.write(instance, &commands)
    }

    pub(super) fn random_command(&mut self, instance: usize) -> (u32, Vec<u8>, Command) {
        if self.plan.streams && self.random.u8(0..3) == 0 {
            let key = if self.random.u8(0..6) == 0 { b"k" } else { b"x" };
            return (0, key.to_vec(), Command::Stream(StreamCommand::random(&mut self.random)));
        }
        let db = u32::from(self.random.u8(0..8) == 0);
        let key = *self.random.choice(&["k", "k", "l", "m"]).unwrap_or(&"k");
        let command = if self.plan.patches && self.random.u8(0..3) == 0 {
            self.random_patch()
        } else if self.plan.lists && self.random.u8(0..5) < 2 {
            self.random_list_command()
        } else {
            self.random_kind(instance)
        };
        (db, key.as_bytes().to_vec(), command)
    }

    fn random_list_command(&mut self) -> Command {
        let random = &mut self.random;
        let end = if random.bool() { End::Head } else { End::Tail };
        let values: Vec<String> = (0..random.usize(1..4)).map(|_| format!("e{}", random.u16(..))).collect();
        let (from, to) = (random.i64(-4..4), random.i64(-4..6));
        match random.u8(0..20) {
            0..8 => Command::Push(end, values),
            8..12 => Command::Pop(end, random.u64(1..3), random.u8(0..4) != 0),
            12 => Command::Trim(from, to),
            13..16 => Command::LSet(from, values.concat()),
            16 | 17 => Command::LInsert(random.usize(0..5), values.concat()),
            18 => Command::LRem(random.usize(0..4), random.usize(0..3)),
            _ => Command::Rotate(end),
        }
    }

    /// Near each other, so that many overlap.
    fn random_patch(&mut self) -> Command {
        let random = &mut self.random;
        match random.u8(0..10) {
            0..4 => Command::SetBit(random.u64(0..200), random.bool()),
            4 | 5 => {
                let len = if random.u8(0..4) == 0 { random.usize(33..40) } else { random.usize(1..4) };
                Command::SetRange(
                    random.u64(0..30),
                    std::iter::repeat_with(|| random.alphanumeric() as u8).take(len).collect(),
                )
            }
            6..8 => Command::AppendPart(random.u16(0..2000).to_string()),
            _ => Command::PfAdd((0..random.usize(0..3)).map(|_| random.u8(0..9).to_string()).collect()),
        }
    }

    fn random_kind(&mut self, instance: usize) -> Command {
        let wall = self.wall(instance) as i64;
        let expiry = wall + self.random.i64(1..TTL_MS_MAX as i64);
        // Who lost what was stable, and writes on with a clock set back, is folded in another order than the stable part was:
        // scores that are rounded may then differ in their last digits (SEMANTICS.md).
        let rounds = !(self.plan.failover == Failover::LosesAnything && self.plan.clock_jumps);
        let random = &mut self.random;
        let name = random.choice(&["a", "b", "c"]).unwrap_or(&"a").to_string();
        let text = match random.u8(0..4) {
            0 => random.i64(-5..100).to_string(),
            1 => random.choice(&["0.1", "10.50", "007", "9223372036854775800", "1e3"]).unwrap_or(&"0").to_string(),
            _ => format!("v{}", random.u16(..)),
        };
        let float = *random.choice(&[0.1, 0.2, -2.5, 1e16, -1e16, 3.0]).unwrap_or(&0.1);
        let score = if rounds { float } else { *random.choice(&[0.5, -2.5, 3.0]).unwrap_or(&0.5) };
        let integer = if random.u8(0..15) == 0 { i64::MAX } else { random.i64(-10..10) };
        match random.u8(0..40) {
            0..4 => Command::Set(text, (self.plan.ttl && random.bool()).then_some(expiry)),
            4 => Command::Append(text),
            5..9 => Command::IncrBy(integer),
            9..11 => Command::IncrByFloat(float),
            11..14 => Command::HSet(name, text),
            14..16 => Command::HIncrBy(name, integer),
            16 => Command::HIncrByFloat(name, float),
            17 | 18 => Command::HDel(name),
            19..22 => Command::SAdd(name),
            22 | 23 => Command::SRem(name),
            24 | 25 => Command::ZAdd(name, score),
            26 | 27 => Command::ZIncrBy(name, score),
            28 => Command::ZRem(name),
            29 => Command::Whole(text),
            30..33 => Command::Del,
            33 => Command::Store(vec![name, "d".into()]),
            34 | 35 if self.plan.ttl => Command::ExpireAt(expiry),
            36 if self.plan.ttl => Command::Persist,
            37 if self.plan.flush => Command::Flush(if random.bool() { FlushScope::All } else { FlushScope::Db(1) }),
            38 if self.plan.ttl => Command::HExpireAt(name, (integer % 3 != 0).then_some(expiry)),
            39 if self.plan.ttl => Command::HSetEx(name, text, expiry),
            _ => Command::IncrBy(1),
        }
    }

    /// Heals everything and demands convergence, now and when all TTLs have passed; then that metadata is gone.
    ///
    /// # Errors
    /// Why it does not converge, or a broken invariant.
    pub fn heal(&mut self) -> Check {
        self.say(|| "healed".into());
        let ahead =
            self.instances.iter().map(|i| i.shard.status().clock.entries().iter().map(|e| e.2.ms()).max().unwrap_or(0));
        // What is on its way in a snapshot, too.
        let ahead = ahead.chain(self.syncs.iter().map(super::sync::SyncRun::newest_ms));
        self.now_ms = self.now_ms.max(ahead.max().unwrap_or(0)) + 1;
        for instance in &mut self.instances {
            instance.skew_ms = 0;
        }
        for link in &mut self.links {
            link.is_up = true;
            link.want(InstanceSet::ALL);
        }
        self.converge()?;
        self.tick(TTL_MS_MAX * 20);
        self.expire_all()?;
        self.converge()?;
        self.check_settled()
    }

    fn expire_all(&mut self) -> Check {
        (0..self.instances.len()).try_for_each(|instance| self.expire(instance))
    }

    /// Everybody pulls from everybody until all have the same.
    fn converge(&mut self) -> Check {
        for _ in 0..HEAL_ROUNDS_MAX {
            for instance in 0..self.instances.len() {
                if self.instances[instance].shard.superseded_by().is_some() {
                    self.restart(instance)?;
                }
            }
            if self.plan.drops {
                // Who has dropped a key does not say so, and the others find it due at last.
                self.expire_all()?;
            }
            for link in 0..self.links.len() {
                let (source, target) = (self.links[link].source, self.links[link].target);
                self.pull(source, target)?;
            }
            (0..self.instances.len()).for_each(|instance| self.persist(instance));
            for instance in 0..self.instances.len() {
                self.go_on_joining(instance)?;
            }
            for link in 0..self.links.len() {
                self.report(self.links[link].source, self.links[link].target)?;
            }
            if self.is_converged() {
                self.check_equal()?;
                self.check_losses()?;
                self.check_short_lived()?;
                let group = self.group();
                streams::check_none_skipped(group.iter().map(|index| &self.instances[*index].keyspace))?;
                return self.check_all();
            }
            self.sync_all()?;
        }
        Err(self.why_not())
    }

    fn is_converged(&self) -> bool {
        let group = self.group();
        let first = group.first().map(|index| &self.instances[*index].applied);
        let is_done = |i: &super::instance::Instance| {
            Some(&i.applied) == first
                && !i.shard.is_syncing()
                && !(self.plan.drops && i.has_due(self.now_ms))
                && i.shard.renewals_left().is_none()
                && i.shard.taken_up() == 0
        };
        let is_idle =
            |link: &super::link::Link| link.is_idle() || !group.contains(&link.source) || !group.contains(&link.target);
        !group.is_empty()
            && group.iter().all(|index| is_done(&self.instances[*index]))
            && self.links.iter().all(is_idle)
    }

    fn why_not(&self) -> String {
        let mut why = String::from("it does not converge:");
        for instance in &self.instances {
            let members: Vec<InstanceId> = instance.shard.membership().members().iter().collect();
            why += &format!("\n  {} has {:?}; its members are {members:?}", instance.id, instance.applied);
        }
        for link in self.links.iter().filter(|link| !link.error.is_empty() || !link.is_idle()) {
            why += &format!("\n  {} -> {}: {}", link.source + 1, link.target + 1, link.error);
        }
        why
    }

    /// At rest everything is stable everywhere, and its metadata goes, without anybody noticing (I-6).
    fn check_settled(&mut self) -> Check {
        for _ in 0..4 {
            (0..self.instances.len()).for_each(|instance| self.persist(instance));
            for link in 0..self.links.len() {
                let (from, to) = (self.links[link].source, self.links[link].target);
                self.report(from, to)?;
            }
            for instance in 0..self.instances.len() {
                self.prune(instance, usize::MAX)?;
                // T8: what is written again only now that all know of a Forget.
                self.go_on_joining(instance)?;
            }
            for link in 0..self.links.len() {
                self.pull(self.links[link].source, self.links[link].target)?;
            }
        }
        self.check_all()?;
        // Old backups can part the sites for good. Who is alone prunes only what its backlog has lost.
        let group = Some(self.group()).filter(|group| group.len() > 1).unwrap_or_default();
        for index in group {
            let instance = &mut self.instances[index];
            let status = instance.shard.status();
            if instance.has_due(self.now_ms) {
                return Err(format!("{} shows a key whose TTL has passed", instance.id));
            }
            let (stable, clock) = (instance.shard.stability().stable().clone(), instance.shard.clock().clone());
            let table = instance.shard.table(&mut instance.keyspace);
            let restless = || table.iter().filter(|(_, _, meta)| !meta.is_at_rest());
            let kept = restless().count();
            if kept > 0 || status.aside > 0 {
                let held: Vec<InstanceId> = status.held_back_by.iter().collect();
                let first = restless().next();
                let dots = first.iter().flat_map(|(_, _, meta)| meta.dots());
                let dots: Vec<_> = dots.map(|d| (d.origin, d.ts, stable.get(d.origin), clock.get(d.origin))).collect();
                return Err(format!(
                    "{} keeps metadata of {kept} keys at rest and {} aside; held back by {held:?}: dots, S and clock {dots:?} of {first:?}",
                    instance.id, status.aside,
                ));
            }
        }
        Ok(())
    }
}
