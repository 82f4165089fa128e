//! Groups that this shard authors by itself, to keep what would be lost (I-8 names them as its exceptions).

use std::collections::BTreeMap;

use super::Shard;
use super::join::has;
use crate::clock::VectorClock;
use crate::dot::{Dot, Seen};
use crate::effect::{ClearReason, Effect, Kind, Op, Path, TtlNote, UnixMs, Value};
use crate::group::{self, GroupBuilder};
use crate::instance::InstanceId;
use crate::keyspace::Keyspace;
use crate::list::{Ranges, wire};
use crate::membership::Membership;
use crate::merge::{Aside, AtRisk, Element, Revival, StableTtl};
use crate::metadata::Payload;
use crate::origin::Origin;
use crate::record::Record;
use crate::stream::{LAST_NAME, Part, StreamId};

impl Shard {
    /// What a regressed effect endangers.
    pub(super) fn at_risk<K: Keyspace>(&mut self, effect: &Effect<'_>, dot: Dot, keyspace: &mut K) -> Vec<AtRisk> {
        let stable = self.stability.stable().clone();
        let seen = self.streams.get(dot.origin.index()).map(|stream| stream.clock.clone()).unwrap_or_default();
        self.merge(keyspace).at_risk(effect, &dot, (&seen, &stable))
    }

    /// 2.2 rule 5: gives new, flagged dots to stable elements that a regressed effect is about to remove elsewhere.
    pub(super) fn reassert_at_risk<K: Keyspace>(&mut self, at_risk: &[AtRisk], keyspace: &mut K, now_ms: u64) {
        let mut group = GroupBuilder::new();
        for key in at_risk {
            let note = match key.ttl {
                Some(StableTtl::Created) => TtlNote::Created,
                Some(StableTtl::At(_) | StableTtl::Persistent) => TtlNote::None,
                // T2
                None => kept_ttl(keyspace, key.db, &key.name),
            };
            if key.is_list {
                let (count, bytes) = wire::nothing();
                let op = Op::ListRemove { ranges: Ranges::new(count, &bytes) };
                group.push(&Effect { db: key.db, key: &key.name, ttl: TtlNote::None, op });
            }
            for name in &key.gone {
                let op = Op::Remove { path: Path::Stream(name) };
                group.push(&Effect { db: key.db, key: &key.name, ttl: TtlNote::None, op });
            }
            push_elements(&mut group, key.db, &key.name, &key.elements, note);
            let op = match key.ttl {
                Some(StableTtl::At(at)) => Op::Expire { at },
                Some(StableTtl::Persistent) => Op::Persist,
                // Nothing is here, so this removes but TTLs that dangle elsewhere. A "none" would be stronger than what others note of a TTL (T4).
                Some(StableTtl::Created) if key.elements.is_empty() => Op::Clear { reason: ClearReason::Deleted },
                Some(StableTtl::Created) | None => continue,
            };
            group.push(&Effect { db: key.db, key: &key.name, ttl: TtlNote::None, op });
        }
        self.author(group, keyspace, now_ms);
    }

    /// T6, T7: writes a key again that another instance expired, or leaves it to who extended it (T8).
    pub(super) fn revive<K: Keyspace>(&mut self, revival: Revival, expired: Dot, keyspace: &mut K, now_ms: u64) {
        if has_passed(revival.expire_at, now_ms) {
            return;
        }
        if !revival.authors.contains(self.config.instance) {
            self.aside.push(Aside { revival, expired });
            return;
        }
        self.author_revival(&revival, keyspace, now_ms);
    }

    /// T8: what was written since stands, and its TTL: only what is still missing comes back.
    fn author_orphan<K: Keyspace>(&mut self, mut revival: Revival, keyspace: &mut K, now_ms: u64) {
        let Some(kind) = keyspace.kind(revival.db, &revival.name) else {
            return self.author_revival(&revival, keyspace, now_ms);
        };
        revival.elements.retain(|element| {
            let path = element.path.get();
            // The position of an element of a list is never given again.
            path.kind() == kind && (kind == Kind::List || !has(keyspace, revival.db, &revival.name, path))
        });
        let mut group = GroupBuilder::new();
        let note = kept_ttl(keyspace, revival.db, &revival.name);
        push_elements(&mut group, revival.db, &revival.name, &revival.elements, note);
        self.author(group, keyspace, now_ms);
    }

    fn author_revival<K: Keyspace>(&mut self, revival: &Revival, keyspace: &mut K, now_ms: u64) {
        let mut group = GroupBuilder::new();
        push_elements(&mut group, revival.db, &revival.name, &revival.elements, TtlNote::None);
        let op = revival.expire_at.map_or(Op::Persist, |at| Op::Expire { at });
        group.push(&Effect { db: revival.db, key: &revival.name, ttl: TtlNote::None, op });
        self.author(group, keyspace, now_ms);
    }

    /// Logs and applies a group of this shard's own: it has seen everything here.
    pub(super) fn author<K: Keyspace>(&mut self, group: GroupBuilder, keyspace: &mut K, now_ms: u64) {
        self.author_as(group, keyspace, now_ms, Record::authored);
    }

    /// The same, in a record of this kind.
    pub(super) fn author_as<K: Keyspace>(
        &mut self,
        mut group: GroupBuilder,
        keyspace: &mut K,
        now_ms: u64,
        header: impl FnOnce(&mut Vec<u8>),
    ) {
        if group.is_empty() || self.me.is_none() {
            return;
        }
        self.take_in_tail(keyspace);
        if self.config.rules.last_ids_stay {
            keep_last_ids(&mut group, keyspace);
        }
        let ts = self.hlc.tick(now_ms);
        self.encode_own(&group, ts, header);
        self.records.push(self.frame.clone());
        if let Some(me) = self.me {
            self.apply_authored(group.body(), ts, me, keyspace);
        }
        self.counters.reasserted += 1;
    }

    /// Applies an authored group natively, here and when it is replayed on a replica.
    pub(super) fn apply_authored<K: Keyspace>(
        &mut self,
        body: &[u8],
        ts: crate::timestamp::Timestamp,
        origin: Origin,
        keyspace: &mut K,
    ) {
        self.forget_taken(body);
        for (index, effect) in (0_u32..).zip(group::effects(body)) {
            let dot = Dot { ts, index, origin };
            self.drop_revived(&effect, &Seen::Everything);
            self.take_up(&effect, dot, &Seen::Everything, keyspace);
            self.merge(keyspace).remote(&effect, dot, &Seen::Everything);
            self.control_effect(&effect, dot, &Seen::Everything);
        }
    }

    /// T8: another instance has written the key again, having seen the expiry.
    pub(super) fn drop_revived(&mut self, effect: &Effect<'_>, seen: &Seen<'_>) {
        if let Op::Assign { reasserted: true, .. } = effect.op {
            let is_it = |a: &Aside| a.revival.db == effect.db && *a.revival.name == *effect.key && seen.has(&a.expired);
            self.aside.retain(|aside| !is_it(aside));
        }
    }

    /// T8: every member has the expiry, and one of those who had to write the key again is a member: it has decided.
    pub(super) fn drop_settled_asides(&mut self) {
        let (stable, membership) = (self.stability.stable(), &self.membership);
        self.aside.retain(|aside| may_be_orphan(aside, membership) || !is_settled(aside, stable, membership));
    }

    /// T8: what would be gone again is kept no longer, on replicas neither. Now and then.
    pub fn drop_passed(&mut self, now_ms: u64) {
        self.aside.retain(|aside| !has_passed(aside.revival.expire_at, now_ms));
    }

    /// T8: what nobody is left to write again. All that its authors had written has come, so whoever has kept it aside does: twice the same does
    /// no harm, and who hears of it first has nothing left to do. So is what of this instance's own a re-assertion has taken up that does not show.
    /// Now and then.
    pub fn revive_orphans<K: Keyspace>(&mut self, keyspace: &mut K, now_ms: u64) {
        self.write_taken_again(keyspace, now_ms);
        self.drop_passed(now_ms);
        if self.aside.is_empty() || !self.is_primary() || !self.config.rules.orphans_are_revived {
            return;
        }
        let Self { aside, stability, membership, .. } = self;
        let is_orphan = |a: &Aside| may_be_orphan(a, membership) && is_settled(a, stability.stable(), membership);
        let orphans: Vec<Aside> = aside.extract_if(.., |aside| is_orphan(aside)).collect();
        for Aside { revival, .. } in orphans {
            self.author_orphan(revival, keyspace, now_ms);
        }
    }
}

/// T2: what is written to a key that has a TTL has it, too, else an expiry that has not seen the write would leave it there for ever.
fn kept_ttl<K: Keyspace>(keyspace: &mut K, db: u32, key: &[u8]) -> TtlNote {
    keyspace.expire_at(db, key).map_or(TtlNote::None, TtlNote::Kept)
}

pub(super) fn has_passed(at: Option<UnixMs>, now_ms: u64) -> bool {
    at.is_some_and(|at| u64::try_from(at).is_ok_and(|at| at <= now_ms))
}

/// Whether nobody who had to write the key again is a member.
fn may_be_orphan(aside: &Aside, membership: &Membership) -> bool {
    aside.revival.authors.iter().all(|author| !membership.contains(author))
}

/// Whether every member has the expiry, and everybody who had to write the key again is a member, or is out and all of its effects have come.
fn is_settled(aside: &Aside, stable: &VectorClock, membership: &Membership) -> bool {
    let decided = |i: InstanceId| membership.contains(i) || membership.forgotten(i).is_some_and(|f| f.settled);
    aside.expired.is_in(stable) && aside.revival.authors.iter().all(decided)
}

/// `note` goes with each. That an entry of a stream is late is no element: each instance knows that by itself, as long as the group is there. Where it is
/// not, what its position passes counts as delivered or skipped: so it is not asserted past what is late here. Twice rather than never.
fn push_elements(group: &mut GroupBuilder, db: u32, key: &[u8], elements: &[Element], note: TtlNote) {
    let mut late: BTreeMap<&[u8], StreamId> = BTreeMap::new();
    for (of, id) in elements.iter().filter_map(Element::late) {
        late.entry(of).and_modify(|first| *first = id.min(*first)).or_insert(id);
    }
    for element in elements.iter().filter(|element| element.payload != Payload::Late) {
        let path = element.path.get();
        let before = element.group().and_then(|of| late.get(of)?.previous());
        let value = match (element.payload.value(path), before) {
            (Value::Id(position), Some(before)) => Value::Id(position.min(before)),
            (value, _) => value,
        };
        group.push(&Effect { db, key, ttl: note, op: Op::Assign { path, value, reasserted: true } });
    }
}

/// Who assigns an entry of a stream assigns its last id, too: an older entry must not take back a later one, or the stream would generate
/// ids again that it has given already.
fn keep_last_ids<K: Keyspace>(group: &mut GroupBuilder, keyspace: &mut K) {
    let body = group.body().to_vec();
    // Of each stream: what the group leaves, what it must leave, how it says so.
    let mut streams: Vec<(u32, &[u8], StreamId, StreamId, bool)> = Vec::new();
    for effect in group::effects(&body) {
        let Op::Assign { path: Path::Stream(name), value, reasserted } = effect.op else { continue };
        let id = match (Part::parse(name), value) {
            (Some(Part::Entry(id)), _) | (Some(Part::Last), Value::Id(id)) => id,
            _ => continue,
        };
        match streams.iter_mut().find(|(db, key, ..)| (*db, *key) == (effect.db, effect.key)) {
            Some((_, _, left, highest, _)) => (*left, *highest) = (id, id.max(*highest)),
            None => {
                let known = keyspace.stream_part(effect.db, effect.key, Part::Last);
                let known = if let Some(Payload::Id(known)) = known { known } else { StreamId::MIN };
                streams.push((effect.db, effect.key, id, id.max(known), reasserted));
            }
        }
    }
    for (db, key, _, highest, reasserted) in streams.iter().filter(|(_, _, left, highest, _)| left < highest) {
        let op = Op::Assign { path: Path::Stream(LAST_NAME), value: Value::Id(*highest), reasserted: *reasserted };
        group.push(&Effect { db: *db, key, ttl: TtlNote::None, op });
    }
}
