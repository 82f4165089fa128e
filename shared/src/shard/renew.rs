//! What a joining instance had set aside, written again (MERGE_RULES M12).

use std::collections::HashSet;

use super::Shard;
use super::join::has;
use crate::effect::{ClearReason, Effect, Kind, Op, Path, TtlNote, Value};
use crate::group::{self, GroupBuilder};
use crate::hyperloglog::{HyperLogLog, RegisterBytes, Registers};
use crate::keyspace::Keyspace;
use crate::merge::KeyRef;
use crate::metadata::Payload;
use crate::patch::{Patch, Prior};
use crate::stream::{Part, StreamId, entry_id};

impl Shard {
    /// M12: ordinary new writes of one key.
    ///
    /// A `Clear` goes before what brings another type: an element replaces what was seen of the old type only, and would uncover what lost
    /// against that, which others have pruned (rule 4).
    pub(super) fn renew<K: Keyspace>(&mut self, body: &[u8], mine_wins: bool, keyspace: &mut K, now_ms: u64) {
        let mut group = GroupBuilder::new();
        let (mut brought, mut creates) = (None, false);
        for mut effect in group::effects(body) {
            match effect.op {
                // Known by where the group is.
                Op::Assign { value: Value::Late, .. } => continue,
                Op::Assign { path, value: Value::Id(position), reasserted } => {
                    let Some(position) = safe_position(body, (&effect, path), position, keyspace) else { continue };
                    effect.op = Op::Assign { path, value: Value::Id(position), reasserted };
                }
                _ => {}
            }
            let path = match effect.op {
                Op::Assign { path, .. } | Op::Increment { path, .. } => Some(path),
                _ => None,
            };
            let kind = keyspace.kind(effect.db, effect.key);
            let is_other = path.is_some_and(|path| kind.is_some_and(|kind| kind != path.kind()));
            let is_there = path.map_or(kind.is_some(), |path| has(keyspace, effect.db, effect.key, path));
            let is_increment = matches!(effect.op, Op::Increment { .. });
            let registers = higher_registers(&effect, keyspace);
            if let Some(registers) = registers.as_deref().and_then(Registers::new) {
                // Both count, whoever wins: nothing tells which of the two has the more adds.
                if registers.iter().next().is_some() {
                    let ttl = keyspace.expire_at(effect.db, effect.key).map_or(TtlNote::None, TtlNote::Kept);
                    let op = Op::Patch { patch: Patch::Registers(registers), prior: Prior::NONE };
                    group.push(&Effect { ttl, op, ..effect });
                }
                brought = Some(Kind::String);
                continue;
            }
            if !mine_wins && (is_other || (is_there && !is_increment)) {
                continue;
            }
            let mut ttl = TtlNote::None;
            if let Some(path) = path {
                let shown = brought.or(kind);
                if shown != Some(path.kind()) {
                    if shown.is_some() {
                        let op = Op::Clear { reason: ClearReason::Deleted };
                        group.push(&Effect { ttl: TtlNote::None, op, ..effect });
                    }
                    (ttl, creates) = (TtlNote::Created, true);
                } else if !creates {
                    ttl = keyspace.expire_at(effect.db, effect.key).map_or(TtlNote::None, TtlNote::Kept);
                }
                brought = Some(path.kind());
            }
            if let Some(id) = path.and_then(renewed_entry) {
                // Who has deleted it may still hold what became of it, and this instance, which took the sponsor's state without it, does not.
                let stable = self.stability.stable().clone();
                let key = KeyRef { db: effect.db, name: effect.key };
                for name in self.merge(keyspace).stably_gone(key, vec![id], &stable) {
                    let op = Op::Remove { path: Path::Stream(&name) };
                    group.push(&Effect { ttl: TtlNote::None, op, ..effect });
                }
            }
            group.push(&Effect { ttl, ..effect });
        }
        self.author(group, keyspace, now_ms);
        self.has_written = true;
    }
}

/// What a HyperLogLog that was set aside has above the one that is there; `None` unless both are one.
fn higher_registers<K: Keyspace>(effect: &Effect<'_>, keyspace: &mut K) -> Option<RegisterBytes> {
    let Op::Assign { path: Path::String, value: Value::Bytes(mine), .. } = effect.op else { return None };
    let mine = HyperLogLog::parse(mine)?;
    // Long strings are read only where they may be one.
    let there = keyspace.string(effect.db, effect.key)?;
    Some(mine.above(&HyperLogLog::parse(&there)?))
}

fn renewed_entry(path: Path<'_>) -> Option<StreamId> {
    if let Path::Stream(name) = path { entry_id(name) } else { None }
}

/// How far a group can be moved on, for what it passes without a delivery counts as skipped on purpose: not past what this instance had not seen, or had
/// yet to hand out. What lies behind is handed out twice rather than never. `None`: the group is as far already.
fn safe_position<K: Keyspace>(
    body: &[u8],
    (effect, path): (&Effect<'_>, Path<'_>),
    position: StreamId,
    keyspace: &mut K,
) -> Option<StreamId> {
    let Path::Stream(name) = path else { return Some(position) };
    let Some(Part::Group(group)) = Part::parse(name) else { return Some(position) };
    let known = match keyspace.stream_part(effect.db, effect.key, Part::Group(group)) {
        Some(Payload::Id(known)) => Some(known),
        _ => None,
    };
    let from = known.unwrap_or(StreamId::MIN);
    let (seen, late) = set_aside(body, group);
    let mut there = Vec::from_iter(late.clone());
    keyspace.stream_entries(effect.db, effect.key, from, position, &mut |id| there.push(id));
    there.retain(|id| {
        let is_given = |found: Option<Payload>| found.is_some_and(|payload| payload != Payload::Late);
        let delivery = Part::Delivery { group, id: *id };
        known.is_none_or(|known| *id > known)
            && !seen.contains(id)
            && !is_given(keyspace.stream_part(effect.db, effect.key, delivery))
    });
    let safe = there.into_iter().min().map_or(position, |id| id.previous().unwrap_or_default().min(position));
    known.is_none_or(|known| safe > known).then_some(safe)
}

/// Of a group, as it was when this instance joined: entries that it had delivered or skipped, and those that were late.
fn set_aside(body: &[u8], group: &[u8]) -> (HashSet<StreamId>, HashSet<StreamId>) {
    let (mut seen, mut late) = (HashSet::new(), HashSet::new());
    for effect in group::effects(body) {
        let Op::Assign { path: Path::Stream(name), value, .. } = effect.op else { continue };
        match Part::parse(name) {
            Some(Part::Delivery { group: of, id }) if of == group && value == Value::Late => late.insert(id),
            Some(Part::Delivery { group: of, id }) if of == group => seen.insert(id),
            Some(Part::Entry(id)) => seen.insert(id),
            _ => false,
        };
    }
    seen.retain(|id| !late.contains(id));
    (seen, late)
}
