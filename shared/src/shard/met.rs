//! What snapshots tell of assertions that have taken up writes ([`super::taken`]).
//!
//! A snapshot's head has what its source keeps in mind of them. Beyond that it has what is live, and not which effects made it so. But of what it brings beside each other neither has taken up the other; and who wrote
//! something that it brings had seen no more than its reign had when the snapshot was taken, nor anything that is later. What an assertion
//! may have taken up so counts as taken up: written again is only what none that shows can have.

use hashbrown::{HashMap, HashSet};

use super::Shard;
use super::sync::Syncing;
use super::taken::{may_be_folded, own_parts};
use crate::clock::VectorClock;
use crate::context::StreamContext;
use crate::dot::Dot;
use crate::effect::Path;
use crate::group;
use crate::keyspace::Keyspace;
use crate::merge::KeyRef;
use crate::metadata::{Assigned, KeyMeta, PathMeta, path_of};
use crate::origin::Origins;
use crate::snapshot::{Holder, TakenUp, added_to};

/// A path of a snapshot.
struct Brought<'a> {
    assigns: Vec<(&'a Assigned, Option<StreamContext>)>,
    dots: HashSet<Dot, foldhash::fast::RandomState>,
    origins: &'a Origins,
}

impl<'a> Brought<'a> {
    fn new(path: &'a PathMeta, syncing: &Syncing, origins: &'a Origins) -> Self {
        let context = |by: &Assigned| {
            let mut reigns = syncing.head.reigns.iter().zip(&syncing.names);
            let (reign, _) = reigns.find(|(_, origin)| **origin == by.dot.origin)?;
            let mut context = StreamContext::new();
            context.apply_change(&reign.context).ok().map(|()| context)
        };
        let assigns = path.assigns.iter().map(|by| (by, context(by))).collect();
        Self { assigns, dots: path.dots().copied().collect(), origins }
    }

    fn may_have_seen(&self, (by, context): &(&Assigned, Option<StreamContext>), own: Dot) -> bool {
        // A clock is above everything that its server has seen.
        if by.dot.ts <= own.ts || self.dots.contains(&own) {
            return false;
        }
        let Some(context) = context.as_ref().filter(|_| by.dot.origin != own.origin) else { return true };
        let replid = self.origins.replid(own.origin);
        context.entries().iter().any(|(of, _, seen)| *of == replid && *seen >= own.ts)
    }

    /// Whether an assertion among those that are not `known` may have taken up an own write.
    fn may_have_taken(&self, own: Dot, known: &dyn Fn(&Dot) -> bool) -> bool {
        self.assigns.iter().any(|by| by.0.reasserted && !known(&by.0.dot) && self.may_have_seen(by, own))
    }

    /// What those that are not `known` are to an own write; without what may have overwritten it on purpose.
    fn holders(&self, own: Dot, known: &dyn Fn(&Dot) -> bool) -> Vec<Holder> {
        let unknown = self.assigns.iter().filter(|(by, _)| !known(&by.dot));
        let holders = unknown.map(|by| (by.0, self.may_have_seen(by, own)));
        let told = holders.filter(|(by, may_have)| by.reasserted || !may_have);
        told.map(|(by, has)| Holder { dot: by.dot, reasserted: by.reasserted, has }).collect()
    }
}

impl Shard {
    /// Before `theirs`, what a snapshot has of a key, is merged.
    pub(super) fn foresee_taken<K: Keyspace>(
        &mut self,
        key: KeyRef<'_>,
        theirs: &KeyMeta,
        syncing: &Syncing,
        keyspace: &mut K,
    ) {
        let mut assigns = theirs.kinds.iter().flat_map(|kind| kind.paths.iter()).flat_map(|(_, path)| &path.assigns);
        let told = syncing.told.of(key);
        if self.taken.of_mut(key).is_empty() && told.is_empty() && !assigns.any(|assigned| assigned.reasserted) {
            return;
        }
        let mut taken = std::mem::take(&mut self.taken);
        let stable = self.stability.stable().clone();
        let clock = syncing.known(key, &self.clock, &stable).0.into_owned();
        let merge = self.merge(keyspace);
        let origins = merge.origins;
        meet_all(taken.of_mut(key), theirs, &|path| Brought::new(path, syncing, origins));
        let ours = merge.table.find(key.db, key.name).map(|at| merge.table.meta(at));
        for kind in ours.into_iter().flat_map(|ours| &ours.kinds) {
            for (element, ours) in kind.paths.iter() {
                let path = path_of(kind.kind, element);
                let known = |dot: &Dot| ours.assigns.iter().any(|known| known.dot == *dot);
                let is_told = |theirs: &&PathMeta| theirs.assigns.iter().any(|a| a.reasserted && !known(&a.dot));
                let Some(theirs) = theirs.path(path).filter(is_told) else { continue };
                let brought = Brought::new(theirs, syncing, origins);
                let may_be_folded = may_be_folded(ours, &stable);
                let goes = |of: &Dot| of.is_in(&syncing.round.clock) && !brought.dots.contains(of);
                let is_taken = |of: &Dot| {
                    goes(of)
                        // Else it may be in the entry without a dot.
                        && !of.is_in(&syncing.round.stable)
                        && !(may_be_folded && of.is_in(&stable))
                        && brought.may_have_taken(*of, &known)
                };
                let holders = |of: Dot| {
                    let beside = ours.assigns.iter().filter(|a| !goes(&a.dot));
                    let beside = beside.map(|a| Holder { dot: a.dot, reasserted: a.reasserted, has: false });
                    beside.chain(brought.holders(of, &known)).collect()
                };
                taken.extend(key, own_parts(key, path, ours, &is_taken, &|of| !goes(of), &holders, origins));
            }
        }
        // Of a counter there may be tens of thousands.
        let mut places: HashMap<Dot, usize, foldhash::fast::RandomState> =
            taken.of_mut(key).iter().enumerate().map(|(at, known)| (known.dot, at)).collect();
        for told in told {
            if let Some(known) = places.get(&told.dot).and_then(|at| taken.of_mut(key).get_mut(*at)) {
                known.holders.retain(|holder| told.holders.iter().all(|of| of.dot != holder.dot));
                known.holders.extend(&told.holders);
            } else if let Some(more) = learnt(told.clone(), theirs, ours, (&clock, &stable, &syncing.round.clock)) {
                places.insert(more.dot, taken.of_mut(key).len());
                taken.extend(key, vec![more]);
            }
        }
        self.taken = taken;
    }
}

/// What the source `told` of a write that is live here, or has never been: what it lacks for another reason is gone on purpose, or decided over.
fn learnt(
    mut told: TakenUp,
    theirs: &KeyMeta,
    ours: Option<&KeyMeta>,
    (here, stable, there): (&VectorClock, &VectorClock, &VectorClock),
) -> Option<TakenUp> {
    let beside: Vec<Holder> = {
        let path = added_to(told.effect()?.op)?;
        let (ours, theirs) = (ours.and_then(|ours| ours.path(path)), theirs.path(path));
        let has = |ours: &PathMeta| ours.dots().any(|dot| *dot == told.dot);
        let is_live = || ours.is_some_and(|ours| has(ours) && !(may_be_folded(ours, stable) && told.dot.is_in(stable)));
        if told.dot.is_in(here) && !is_live() {
            return None;
        }
        let is_theirs = |of: &Dot| theirs.is_some_and(|theirs| theirs.dots().any(|dot| dot == of));
        let ours = ours.into_iter().flat_map(|ours| &ours.assigns);
        let stays = ours.filter(|a| !a.dot.is_in(there) || is_theirs(&a.dot));
        let unknown = stays.filter(|a| told.holders.iter().all(|of| of.dot != a.dot));
        unknown.map(|a| Holder { dot: a.dot, reasserted: a.reasserted, has: false }).collect()
    };
    told.holders.extend(beside);
    Some(told)
}

/// What was taken up of a key before meets what a snapshot brings of it.
fn meet_all<'a>(taken: &mut [TakenUp], theirs: &'a KeyMeta, brought: &dyn Fn(&'a PathMeta) -> Brought<'a>) {
    // Those of one path follow each other.
    let mut last: Option<(Path<'_>, Brought<'a>)> = None;
    for TakenUp { dot, effect, holders } in taken {
        let Some(at) = group::effects(effect).next().and_then(|effect| added_to(effect.op)) else { continue };
        let Some(path) = theirs.path(at) else { continue };
        if last.as_ref().is_none_or(|(path, _)| *path != at) {
            last = Some((at, brought(path)));
        }
        if let Some((_, brought)) = &last {
            let more = brought.holders(*dot, &|dot| holders.iter().any(|known| known.dot == *dot));
            holders.extend(more);
        }
    }
}
