//! Pruning: metadata of what everyone has is dropped, a little at a time. Never changes a view (I-6).

use super::fold::is_sum;
use super::key::{KeyMeta, Paths};
use super::patches::Patches;
use super::path::{Base, PathMeta, Top};
use super::payload::Payload;
use super::table::{KeyId, Queued, Table};
use super::ttl::TtlMeta;
use crate::clock::VectorClock;
use crate::decimal::Decimal;
use crate::effect::Kind;
use crate::merge::Rules;
use crate::origin::{Origin, Origins};

impl Table {
    /// Prunes what `stable` (S of DESIGN 2.2) allows, at most `steps` queue entries. Returns how many it took:
    /// fewer than `steps` means that nothing is left to do for now. `applied` is the clock of this instance.
    ///
    /// Rule 4: a path goes only when all its live dots are in S; while several types are live, the key.
    pub fn prune(
        &mut self,
        stable: &VectorClock,
        applied: &VectorClock,
        steps: usize,
        rules: &Rules,
        origins: &Origins,
    ) -> usize {
        let mut taken = 0;
        for (origin, reached) in stable.iter() {
            while taken < steps && self.prune_next(origin, |queued| queued.ts <= reached, stable, rules, origins) {
                taken += 1;
            }
        }
        while taken < steps {
            let Some((queued, generation)) = self.grace.pop(stable, applied) else { break };
            self.end_grace(queued, generation, stable, rules, origins);
            taken += 1;
        }
        taken
    }

    /// The grace period of a key is over, if it has not begun anew.
    fn end_grace(&mut self, queued: Queued, generation: u32, stable: &VectorClock, rules: &Rules, origins: &Origins) {
        let Some(slot) = self.slot(queued).filter(|slot| slot.grace == generation) else { return };
        slot.meta.prune_values(stable, rules, origins);
        if slot.meta.ttl.is_in(stable) {
            slot.meta.ttl = TtlMeta::default();
        }
        self.remove_if_empty(KeyId::of(queued));
    }

    /// Takes one queue entry of `origin` if it is due.
    fn prune_next(
        &mut self,
        origin: Origin,
        is_due: impl Fn(&Queued) -> bool,
        stable: &VectorClock,
        rules: &Rules,
        origins: &Origins,
    ) -> bool {
        let Some(queue) = self.queues.get_mut(origin.index()) else { return false };
        let Some(queued) = queue.pop_front_if(|queued| is_due(queued)) else { return false };
        let generation = self.grace.generation();
        let Some(slot) = self.slot(queued) else { return true };
        slot.queued -= 1;
        slot.popped += 1;
        let is_plain = !slot.meta.has_sums() && slot.meta.list().is_none();
        if slot.queued == 0 && is_plain && !slot.meta.ttl_needs_grace(rules) && !slot.meta.kinds_need_grace(rules) {
            // Every live dot had its place in a queue, and all have come up: the common end.
            self.remove(KeyId::of(queued));
        } else if slot.queued == 0 || slot.popped as usize >= slot.meta.scan_cost() {
            slot.popped = 0;
            let waits = slot.meta.prune(stable, rules, origins) && slot.grace != generation;
            if waits {
                slot.grace = generation;
                self.grace.push(queued);
            } else {
                self.remove_if_empty(KeyId::of(queued));
            }
        }
        true
    }

    /// Gives memory back after a long cut: at rest there is none (I-9). The caller calls it when nothing was to be pruned.
    pub fn shrink(&mut self) {
        for queue in self.queues.iter_mut().filter(|q| q.capacity() > 4096 && q.len() < q.capacity() / 4) {
            queue.shrink_to(queue.len() * 2);
        }
        self.grace.shrink();
        if self.grace.is_empty() && self.queues.iter().all(std::collections::VecDeque::is_empty) {
            self.release();
        }
    }
}

impl KeyId {
    fn of(queued: Queued) -> Self {
        Self::from_slot(queued.slot)
    }
}

impl KeyMeta {
    /// Whether a path may have a sum that must be kept (see [`Sum`](super::path::Sum)), or a value that the dataset cannot hold.
    fn has_sums(&self) -> bool {
        self.kinds.iter().any(|k| k.paths.any(|path| path.sum.is_some())) || self.keeps_unknown()
    }

    /// How many queue entries must have come up before looking through the paths pays: so the work per entry stays bounded.
    fn scan_cost(&self) -> usize {
        let deltas = |p: &PathMeta| p.increments().len() + p.patches().map_or(0, Patches::count);
        let increments = self.kinds.iter().flat_map(|k| k.paths.iter().take(1)).map(|(_, p)| deltas(p));
        let size = |paths: &Paths| if let Paths::List(list) = paths { list.odd_len() } else { paths.len() };
        let paths: usize = self.kinds.iter().map(|k| size(&k.paths)).sum();
        8 + (paths + increments.max().unwrap_or(0)) / 2
    }

    /// Whether its TTL dots may not go before a [grace period](super::grace): no strong one is among them whose time the dataset
    /// keeps, since there is a key.
    fn ttl_needs_grace(&self, rules: &Rules) -> bool {
        rules.ttl_grace && !self.ttl.is_empty() && (self.kinds.is_empty() || !self.ttl.has_strong())
    }

    /// Whether its values may not go before a [grace period](super::grace): what lost against another type goes with them.
    fn kinds_need_grace(&self, rules: &Rules) -> bool {
        rules.losers_grace && self.kinds.len() > 1
    }

    /// Drops what is stable. Returns whether the TTL is, or values of several types are, but need a grace period.
    fn prune(&mut self, stable: &VectorClock, rules: &Rules, origins: &Origins) -> bool {
        let ttl_needs_grace = self.ttl_needs_grace(rules);
        let ttl_stable = self.ttl.is_in(stable);
        let kinds_wait = self.kinds_need_grace(rules) && self.are_settled(stable);
        if !kinds_wait {
            self.prune_values(stable, rules, origins);
        }
        if ttl_stable && !ttl_needs_grace {
            // The dataset has the time of a key, unless it has no such key.
            let base = if self.keeps_unknown() { self.ttl.view() } else { None };
            self.ttl = TtlMeta { base, ..TtlMeta::default() };
        }
        kinds_wait || (ttl_stable && ttl_needs_grace)
    }

    /// Whether all live dots of its values are stable.
    pub(crate) fn are_settled(&self, stable: &VectorClock) -> bool {
        let all_in = |path: &PathMeta| path.dots().all(|dot| dot.is_in(stable));
        self.kinds.iter().all(|kind| match &kind.paths {
            Paths::List(list) => list.is_in(stable),
            paths => !paths.any(|path| !all_in(path)),
        })
    }

    fn prune_values(&mut self, stable: &VectorClock, rules: &Rules, origins: &Origins) {
        // Rule 4: while several types are live, only all of them together. The losers go then too.
        if rules.prune_whole_keys && self.kinds.len() > 1 && !self.are_settled(stable) {
            return;
        }
        for kind in &mut self.kinds {
            let is_of = kind.kind;
            if let Paths::List(list) = &mut kind.paths {
                list.prune(stable, rules, origins);
            }
            kind.paths.retain(|_, path| !path.prune(is_of, stable, rules, origins));
        }
        self.kinds.retain(|k| !k.paths.is_empty());
    }
}

impl PathMeta {
    /// Prunes one path; whether nothing of it needs to be kept.
    fn prune(&mut self, kind: Kind, stable: &VectorClock, rules: &Rules, origins: &Origins) -> bool {
        if !rules.prune_whole_paths {
            self.prune_dot_by_dot(stable);
        }
        if !self.assigns.iter().all(|a| a.dot.is_in(stable)) {
            return false;
        }
        if self.increments().iter().map(|i| &i.dot).chain(self.patch_dots()).all(|dot| dot.is_in(stable)) {
            return !self.keep_unknown(origins);
        }
        if self.patches().is_some() {
            self.fold_patches(stable, origins);
            return false;
        }
        self.fold(kind, stable, origins);
        false
    }

    /// What the dataset cannot hold loses its dot, but stays. Whether there is something.
    fn keep_unknown(&mut self, origins: &Origins) -> bool {
        let top = self.top(origins);
        let Some(Payload::Unknown(_)) = self.payload(top) else { return false };
        *self = Self::stable(self.payload(top).cloned());
        true
    }

    /// The control of rule 4: stable dots lose their timestamps although others live beside them.
    fn prune_dot_by_dot(&mut self, stable: &VectorClock) {
        let found = self.assigns.iter().position(|a| a.dot.is_in(stable));
        if let (Some(at), true) = (found, self.assigns.len() > 1) {
            let payload = self.assigns.remove(at).payload;
            self.sum.get_or_insert_default().base = Base::Stable(payload);
        }
    }

    /// A hot counter always has an unstable increment, so the stable ones below are folded into the base. No `Assign` can still come
    /// that had not seen them, but a regressed one, and that counts nothing stable as seen (rule 5).
    fn fold(&mut self, kind: Kind, stable: &VectorClock, origins: &Origins) {
        let top = self.top(origins);
        if top == Top::Nothing && !self.increments().iter().any(|i| i.dot.is_in(stable)) {
            return;
        }
        let payload = self.payload(top).cloned();
        let are_all_unstable = !self.increments().iter().any(|i| i.dot.is_in(stable));
        let Some(sum) = &mut self.sum else { return };
        let is_number = |payload: &Payload| payload.text().is_some_and(|text| Decimal::parse(text).is_some());
        let is_sum = |payload: &Payload| payload.text().is_some_and(is_sum);
        sum.base = Base::Stable(match (kind, payload) {
            (Kind::SortedSet, Some(Payload::Score(score))) => {
                Some(Payload::Score(sum.increments.fold_scores(score, stable, origins)))
            }
            (Kind::SortedSet, None) if top == Top::Nothing => {
                Some(Payload::Score(sum.increments.fold_scores(0.0, stable, origins)))
            }
            // A patch may still come that belongs before all increments: it changes this text, not that of a sum.
            (Kind::String, Some(payload)) if are_all_unstable && is_number(&payload) && !is_sum(&payload) => {
                Some(payload)
            }
            // Implied: the dataset less the live increments, since it shows a sum, which is written as sums are. So dropping them is all.
            (Kind::String | Kind::Hash, payload) if payload.as_ref().is_none_or(is_number) => {
                sum.increments.retain(|i| !i.dot.is_in(stable));
                None
            }
            _ => return,
        });
        self.assigns.clear();
    }
}
