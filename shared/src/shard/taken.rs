//! What re-assertions take up: each instance answers for what it has written itself (2.2 rule 5).
//!
//! A re-assertion carries all that its author shows of a path, also what is not stable there, and removes that. Of several that have not seen each other
//! one shows; so what an instance has added, and only another one of them has taken up, would be lost. The instance keeps it in mind until every member
//! has all of these assertions. None can come then that has not seen them, so it is known which one shows, and what that has not taken up is written
//! again, as a new write. Every write has one author, so it counts once.
//!
//! Everybody keeps it in mind, of whoever, and tells it in snapshots ([`super::met`]): the author may have lost what it wrote, or hear of all this by a snapshot only,
//! and others had what the assertion took up beside what had not seen that. Only the author writes again, and says what it has decided of ([`Op::Again`]); until then the
//! others keep what nothing that shows has: it may lose that, and hear of it from them.
//!
//! It is saved, and replicas follow it. Who begins a reign does not know whether its predecessor has written again already, which it lost: so it waits until
//! every member has the new reign. All that any of them has of the earlier ones is here then (rule 3), and what they have written again says so ([`Op::Again`]).

use hashbrown::HashSet;

use super::Shard;
use crate::clock::VectorClock;
use crate::dot::{Dot, Seen};
use crate::effect::{Effect, Op, Path, TtlNote};
use crate::group::{self, GroupBuilder};
use crate::keyspace::Keyspace;
use crate::merge::KeyRef;
use crate::metadata::{KeyMeta, Patches, PathMeta};
use crate::origin::Origins;
use crate::patch::{Patch, Prior};
use crate::record::Record;
use crate::snapshot::{Holder, TakenUp, added_to};

type Dots = HashSet<Dot, foldhash::fast::RandomState>;

/// The last that shows.
fn top<'a>(holders: impl Iterator<Item = &'a Holder>, origins: &Origins) -> Option<&'a Holder> {
    let rank =
        |a: &&Holder, b: &&Holder| b.reasserted.cmp(&a.reasserted).then_with(|| a.dot.effect_order(&b.dot, origins));
    holders.max_by(rank)
}

/// Whether an effect writes to a place of a string, which a later write to it replaces.
const fn is_placed(op: Op<'_>) -> bool {
    matches!(op, Op::Patch { patch: Patch::Bits { .. } | Patch::Bytes { .. }, .. })
}

impl TakenUp {
    /// Follows an effect. Whether what was taken up may still have to be written again.
    fn follow(&mut self, effect: &Effect<'_>, dot: Dot, seen: &Seen<'_>, origins: &Origins) -> bool {
        let Some(own) = group::effects(&self.effect).next() else { return false };
        let Some(at) = added_to(own.op) else { return false };
        let had = seen.has(&self.dot);
        let is_of_key = (effect.db, effect.key) == (own.db, own.key);
        match effect.op {
            Op::Flush { scope } if scope.includes(own.db) => {}
            Op::Set { .. } | Op::Clear { .. } if is_of_key => {}
            Op::Assign { path, reasserted, .. } if is_of_key && path == at => {
                if had && !reasserted {
                    return false;
                }
                let before = || self.holders.iter().filter(|holder| seen.has(&holder.dot));
                let was_taken = before().any(|holder| holder.has);
                let has = had && (!was_taken || top(before(), origins).is_some_and(|top| top.has));
                self.holders.retain(|holder| !seen.has(&holder.dot));
                self.holders.push(Holder { dot, reasserted, has });
                return true;
            }
            Op::Remove { path } if is_of_key && path == at => {}
            op if is_of_key && is_placed(op) && is_placed(own.op) => return !had,
            op if is_of_key && kind_of(op).is_some_and(|kind| kind != at.kind()) => {}
            _ => return true,
        }
        self.holders.retain(|holder| !seen.has(&holder.dot));
        if let (Op::Set { .. }, Path::String) = (effect.op, at) {
            self.holders.push(Holder { dot, reasserted: false, has: false });
        }
        !had
    }

    /// Whether every member has what decides over it.
    fn is_settled(&self, stable: &VectorClock) -> bool {
        self.holders.iter().all(|holder| holder.dot.is_in(stable))
    }

    /// What writes it again comes later than it, and the assertion that has taken it up.
    fn may_be(&self, again: Dot) -> bool {
        let has = self.holders.iter().filter(|holder| holder.has || !self.holders.iter().any(|other| other.has));
        again.ts > self.dot.ts && has.map(|holder| holder.dot.ts).min().is_none_or(|taken| again.ts > taken)
    }

    /// Whether what shows has not taken it up.
    fn is_lost(&self, origins: &Origins) -> bool {
        top(self.holders.iter(), origins).is_some_and(|top| !top.has)
    }

    /// Whether others may keep it in mind until its author has decided.
    fn is_contested(&self) -> bool {
        self.holders.iter().any(|holder| !holder.has)
    }
}

/// The type that an effect is of.
const fn kind_of(op: Op<'_>) -> Option<crate::effect::Kind> {
    use crate::effect::Kind;
    match op {
        Op::Assign { path, .. } | Op::Increment { path, .. } | Op::Remove { path } => Some(path.kind()),
        Op::Patch { .. } => Some(Kind::String),
        Op::Stream(_) => Some(Kind::Stream),
        Op::ListInsert { .. } | Op::ListRemove { .. } => Some(Kind::List),
        _ => None,
    }
}

impl Shard {
    /// Own writes that may have to be written again.
    #[must_use]
    pub fn taken_up(&self) -> usize {
        self.taken.iter().filter(|taken| self.origins.instance(taken.dot.origin) == self.config.instance).count()
    }

    /// Follows a group of effects while something is kept in mind. Nothing in it asserts anything again: see [`Shard::take_up`].
    pub(super) fn follow_taken(&mut self, body: &[u8], dot: Dot, seen: &Seen<'_>) {
        if self.taken.is_empty() {
            return;
        }
        for (index, effect) in (0_u32..).zip(group::effects(body)) {
            self.follow_effect(&effect, Dot { index, ..dot }, seen);
        }
    }

    /// Follows a group that clients have written here, before it is logged. While a full sync goes on they count as not having seen what that has
    /// brought, to everybody.
    pub(super) fn follow_captured(&mut self, body: &[u8], dot: Dot) {
        if self.taken.is_empty() {
            return;
        }
        let clock = self.is_syncing().then(|| self.clock.clone());
        let seen = clock.as_ref().map_or(Seen::Everything, |clock| Seen::Context {
            clock,
            group: (dot.origin, dot.ts),
            lacks: None,
        });
        self.follow_taken(body, dot, &seen);
    }

    fn follow_effect(&mut self, effect: &Effect<'_>, dot: Dot, seen: &Seen<'_>) {
        let Self { taken, origins, .. } = self;
        let follows = |own: &mut TakenUp| own.follow(effect, dot, seen, origins);
        match effect.op {
            Op::Flush { .. } => taken.retain(follows),
            _ => taken.retain_of(KeyRef { db: effect.db, name: effect.key }, follows),
        }
    }

    /// Follows an effect, before it is merged, and keeps in mind what a re-assertion takes up. One after the other: a group may assert a path
    /// twice.
    pub(super) fn take_up<K: Keyspace>(&mut self, effect: &Effect<'_>, dot: Dot, seen: &Seen<'_>, keyspace: &mut K) {
        if !self.taken.is_empty() {
            self.follow_effect(effect, dot, seen);
        }
        let Op::Assign { path, reasserted: true, .. } = effect.op else { return };
        let stable = self.stability.stable().clone();
        let key = KeyRef { db: effect.db, name: effect.key };
        let merge = self.merge(keyspace);
        let (origins, meta) = (merge.origins, merge.table.find(key.db, key.name).map(|at| merge.table.meta(at)));
        let Some(meta) = meta.and_then(|meta| meta.path(path)) else { return };
        let may_be_folded = may_be_folded(meta, &stable);
        let is_taken = |of: &Dot| seen.has(of) && !(may_be_folded && of.is_in(&stable));
        let beside = meta.assigns.iter().filter(|a| !seen.has(&a.dot));
        let mut holders: Vec<Holder> =
            beside.map(|a| Holder { dot: a.dot, reasserted: a.reasserted, has: false }).collect();
        holders.push(Holder { dot, reasserted: true, has: true });
        let taken = own_parts(key, path, meta, &is_taken, &|of| !seen.has(of), &|_| holders.clone(), origins);
        self.taken.extend(key, taken);
    }

    /// A snapshot has changed a key, nobody knows by which effects: what it brought is known as far as it told ([`super::met`]). Beyond that, or where it took the
    /// last assertion away, nothing can be told any more. The same of a lost reign of this instance may be what that has written again, if it is later: once too
    /// rarely is better than twice. Not where the source still keeps in mind that it has to be.
    pub(super) fn meet_taken<K: Keyspace>(&mut self, key: KeyRef<'_>, keyspace: &mut K) {
        if self.taken.of_mut(key).is_empty() {
            return;
        }
        let mut taken = std::mem::take(&mut self.taken);
        let syncing = self.syncing.as_ref();
        let told = syncing.map_or(&[][..], |syncing| syncing.told.of(key));
        let told: Dots = told.iter().map(|told| told.dot).collect();
        let (source, stable_there) =
            syncing.map(|syncing| (syncing.round.clock.clone(), syncing.round.stable.clone())).unwrap_or_default();
        let (clock, stable) = (self.clock.clone(), self.stability.stable().clone());
        let here = self.config.instance;
        let mut merge = self.merge(keyspace);
        // What every member has may be pruned, and be in the entry without a dot: that says no less than where it is not (I-12).
        let is_shown = |own: &&mut TakenUp| {
            let at = own.effect().and_then(|effect| added_to(effect.op));
            let is_settled = own.is_settled(&stable) || (told.contains(&own.dot) && own.is_settled(&stable_there));
            is_settled && at.is_some_and(|at| merge.native(key, at).is_some())
        };
        let shown: Dots = taken.of_mut(key).iter_mut().filter(is_shown).map(|own| own.dot).collect();
        let native = merge.keyspace.kind(key.db, key.name);
        let (origins, meta) = (merge.origins, merge.table.find(key.db, key.name).map(|at| merge.table.meta(at)));
        let is_news =
            |dot: &Dot, own: &Dot| origins.instance(dot.origin) == origins.instance(own.origin) && !dot.is_in(&clock);
        // The source has heard what the author has decided.
        let is_over = |own: &TakenUp| {
            let has_all = || own.dot.is_in(&source) && own.is_settled(&source);
            origins.instance(own.dot.origin) != here && own.is_settled(&stable) && !told.contains(&own.dot) && has_all()
        };
        let mut again: Vec<Dot> = Vec::new();
        taken.retain_of(key, |own| {
            if is_over(own) {
                return false;
            }
            let Some((effect, at)) = own.effect().and_then(|effect| Some((effect, added_to(effect.op)?))) else {
                return false;
            };
            // So may what has lost against another type.
            let may_be_live = |meta: &&KeyMeta| native == Some(at.kind()) || !meta.are_settled(&stable);
            let path = meta.filter(may_be_live).and_then(|meta| meta.path(at));
            if path.is_some_and(|path| path.dots().any(|dot| *dot == own.dot)) {
                return false;
            }
            let is_again = |dot: &Dot| own.may_be(*dot) && is_news(dot, &own.dot) && !again.contains(dot);
            let same = path.filter(|_| !told.contains(&own.dot)).and_then(|p| find_same(p, effect.op, &is_again));
            if let Some(dot) = same {
                again.push(dot);
                return false;
            }
            let live: Vec<Dot> = path.into_iter().flat_map(|path| &path.assigns).map(|a| a.dot).collect();
            if live.is_empty() && shown.contains(&own.dot) {
                return true;
            }
            let is_known = |dot: &Dot| own.holders.iter().any(|holder| holder.dot == *dot);
            let are_known = live.iter().all(is_known);
            own.holders.retain(|holder| live.contains(&holder.dot));
            are_known && !own.holders.is_empty()
        });
        self.taken = taken;
    }

    /// Writes again what no assertion that shows has taken up. Now and then.
    pub(super) fn write_taken_again<K: Keyspace>(&mut self, keyspace: &mut K, now_ms: u64) {
        if self.taken.is_empty() || self.syncing.is_some() || !self.is_primary() {
            return;
        }
        // Each member has this reign: all that any of them has of earlier ones is here (rule 3), what these have written again, too.
        let start = self.me.and_then(|me| Some((me, self.stability.start(me)?)));
        if start.is_none_or(|(me, start)| !self.stability.stable().has(me, start)) {
            return;
        }
        let mut settled = self.extract_settled();
        if settled.is_empty() {
            return;
        }
        let origins = &self.origins;
        settled.sort_by(|a, b| a.dot.effect_order(&b.dot, origins));
        let mut group = GroupBuilder::new();
        let is_own = |own: &&TakenUp| origins.instance(own.dot.origin) == self.config.instance;
        for own in settled.iter().filter(is_own).filter(|own| own.is_contested()) {
            let Dot { ts, index, origin } = own.dot;
            let op = Op::Again { replid: origins.replid(origin), ts, index };
            group.push(&Effect { db: 0, key: &[], ttl: TtlNote::None, op });
            let Some(effect) = own.effect().filter(|_| own.is_lost(origins)) else { continue };
            // Against another type it would take that away.
            if keyspace.kind(effect.db, effect.key) == added_to(effect.op).map(|path| path.kind()) {
                let ttl = keyspace.expire_at(effect.db, effect.key).map_or(TtlNote::None, TtlNote::Kept);
                group.push(&Effect { ttl, ..effect });
            }
        }
        if group.is_empty() {
            let mut record = Vec::new();
            Record::decided(&mut record);
            self.records.push(record);
        } else {
            self.author_as(group, keyspace, now_ms, Record::decided);
        }
    }

    /// A group says what its author has decided over: a reign of which this one may have lost that, or another instance.
    pub(super) fn forget_taken(&mut self, body: &[u8]) {
        if self.taken.is_empty() {
            return;
        }
        let decided = |effect: Effect<'_>| match effect.op {
            Op::Again { replid, ts, index } => Some(Dot { ts, index, origin: self.origins.find(&replid)? }),
            _ => None,
        };
        let decided: Dots = group::effects(body).filter_map(decided).collect();
        if !decided.is_empty() {
            self.taken.retain(|own| !decided.contains(&own.dot));
        }
    }

    /// What can be decided over, on replicas too. Of what others have to write again so much is kept until they say so, the newest first.
    pub(super) fn extract_settled(&mut self) -> Vec<TakenUp> {
        const KEPT_BYTES_MAX: usize = 1 << 20;
        /// Of an entry, beside its effect: the same in every build.
        const ENTRY_BYTES: usize = 128;
        let Self { taken, stability, origins, membership, config, .. } = self;
        let is_awaited = |of: Dot| {
            let author = origins.instance(of.origin);
            author != config.instance && membership.contains(author)
        };
        let waits = |own: &TakenUp| is_awaited(own.dot) && own.is_lost(origins);
        let is_settled = |own: &TakenUp| own.is_settled(stability.stable());
        // In an order that does not depend on this server (I-12).
        let mut waiting: Vec<_> = taken.iter().filter(|own| is_settled(own) && waits(own)).collect();
        waiting.sort_by(|a, b| b.dot.effect_order(&a.dot, origins));
        let mut bytes = 0;
        let has_room = |own: &&TakenUp| {
            bytes += own.effect.len() + ENTRY_BYTES;
            bytes <= KEPT_BYTES_MAX
        };
        let kept: Dots = waiting.into_iter().take_while(has_room).map(|own| own.dot).collect();
        taken.extract(|own| is_settled(own) && !kept.contains(&own.dot))
    }
}

/// Whether what is stable of a path may have no dot any more, or has it by chance: a replica folds it at another time (I-12). Nothing is folded beside an `Assign` that is not
/// stable, nor has anything been that lives beside it: the `Assign` had seen all that was stable when it came, or else that was asserted again, and is in the assertion.
pub(super) fn may_be_folded(path: &PathMeta, stable: &VectorClock) -> bool {
    path.assigns.iter().all(|assigned| assigned.dot.is_in(stable))
}

/// What adds to a path and `is_taken`, unless a later write to its place `stays`.
pub(super) fn own_parts(
    key: KeyRef<'_>,
    path: Path<'_>,
    meta: &PathMeta,
    is_taken: &dyn Fn(&Dot) -> bool,
    stays: &dyn Fn(&Dot) -> bool,
    holders: &dyn Fn(Dot) -> Vec<Holder>,
    origins: &Origins,
) -> Vec<TakenUp> {
    let last_placed = last_placed(meta, stays, origins);
    let mut taken = Vec::new();
    let mut add = |of: Dot, op: Op<'_>| {
        let is_replaced = is_placed(op) && last_placed.is_some_and(|last| of.effect_order(&last, origins).is_lt());
        if is_taken(&of) && !is_replaced {
            let mut group = GroupBuilder::new();
            group.push(&Effect { db: key.db, key: key.name, ttl: TtlNote::None, op });
            taken.push(TakenUp { dot: of, effect: group.body().to_vec(), holders: holders(of) });
        }
    };
    meta.increments().iter().for_each(|i| add(i.dot, Op::Increment { path, delta: i.delta }));
    for (of, part) in meta.patches().into_iter().flat_map(Patches::parts) {
        add(of, Op::Patch { patch: part.patch(), prior: Prior::NONE });
    }
    taken
}

/// The first that adds the same to a path, and is `wanted`.
fn find_same(path: &PathMeta, op: Op<'_>, wanted: &dyn Fn(&Dot) -> bool) -> Option<Dot> {
    let at = |dot: &Dot| (dot.ts, dot.index);
    match op {
        Op::Increment { delta, .. } => {
            let same = path.increments().iter().filter(|i| i.delta == delta).map(|i| i.dot);
            same.filter(wanted).min_by_key(at)
        }
        Op::Patch { patch, .. } => {
            let parts = path.patches().into_iter().flat_map(Patches::parts);
            let same = parts.filter(|(_, part)| part.patch() == patch).map(|(dot, _)| dot);
            same.filter(wanted).min_by_key(at)
        }
        _ => None,
    }
}

/// The last write to a place of a string among those that are `wanted`.
fn last_placed(meta: &PathMeta, wanted: impl Fn(&Dot) -> bool, origins: &Origins) -> Option<Dot> {
    let parts = meta.patches().into_iter().flat_map(Patches::parts);
    let placed =
        parts.filter(|(dot, part)| wanted(dot) && matches!(part.patch(), Patch::Bits { .. } | Patch::Bytes { .. }));
    placed.map(|(dot, _)| dot).max_by(|a, b| a.effect_order(b, origins))
}
