//! Random effects, groups and names, for the property tests.
#![allow(dead_code, reason = "each test binary uses a part")]

pub mod streams;

use proptest::collection::vec;
use proptest::prelude::*;
use syncer_shared::context::Entry;
use syncer_shared::effect::{ClearReason, Effect, FlushScope, Kind, Op, Path, TtlNote, Value};
use syncer_shared::group::GroupBuilder;
use syncer_shared::hyperloglog;
use syncer_shared::instance::InstanceId;
use syncer_shared::list::wire::{Begun, push_range, push_value};
use syncer_shared::list::{At, AtRange, Ranges, Reign, RunName, RunRef, Side, Values};
use syncer_shared::number::Number;
use syncer_shared::patch::{Patch, Prior};
use syncer_shared::replid::ReplId;
use syncer_shared::timestamp::Timestamp;

/// An effect with its own bytes.
#[derive(Clone, Debug)]
pub struct Owned {
    pub db: u32,
    pub key: Vec<u8>,
    pub ttl: TtlNote,
    pub op: OwnedOp,
}

#[derive(Clone, Debug)]
pub enum OwnedOp {
    Set(Vec<u8>, Option<i64>),
    Assign(Kind, Vec<u8>, Vec<u8>, f64, bool),
    Increment(Kind, Vec<u8>, Number),
    Patch(OwnedPatch, Vec<u8>),
    Remove(Kind, Vec<u8>),
    Stream(streams::OwnedStream),
    ListInsert(OwnedRun, u32, OwnedItems),
    ListRemove(OwnedItems),
    Clear(ClearReason),
    Expire(i64),
    Persist,
    Flush(FlushScope),
    Reign,
    Join(InstanceId),
    Forget(InstanceId),
    Publish(bool, Vec<u8>, Vec<u8>),
    Again(ReplId, Timestamp, u32),
}

#[derive(Clone, Debug)]
pub enum OwnedPatch {
    Bytes(u64, Vec<u8>),
    Bits(u64, u8, u64),
    Append(Vec<u8>),
    /// What elements raise.
    Elements(Vec<Vec<u8>>, hyperloglog::RegisterBytes),
}

impl OwnedPatch {
    pub fn elements(elements: Vec<Vec<u8>>) -> Self {
        let registers = hyperloglog::registers_of(elements.iter().map(Vec::as_slice));
        Self::Elements(elements, registers)
    }

    fn borrow(&self) -> Patch<'_> {
        match self {
            Self::Bytes(offset, bytes) => Patch::Bytes { offset: *offset, bytes },
            Self::Bits(offset, count, value) => Patch::Bits { offset: *offset, count: *count, value: *value },
            Self::Append(bytes) => Patch::Append(bytes),
            Self::Elements(_, registers) => {
                Patch::Registers(hyperloglog::Registers::new(registers).expect("made as such"))
            }
        }
    }
}

/// Patches within the first `reach` bytes, so that they overlap.
pub fn patch(reach: u64) -> impl Strategy<Value = OwnedPatch> {
    let bits = (0..reach * 8 - 64, 1..=64_u8, any::<u64>())
        .prop_map(|(offset, count, value)| OwnedPatch::Bits(offset, count, value >> (64 - count)));
    prop_oneof![
        3 => (0..reach - 40, prop_oneof![vec(any::<u8>(), 1..4), vec(any::<u8>(), 30..40)])
            .prop_map(|(offset, bytes)| OwnedPatch::Bytes(offset, bytes)),
        2 => bits,
        2 => (0..reach * 8, 0..2_u64).prop_map(|(offset, bit)| OwnedPatch::Bits(offset, 1, bit)),
        3 => vec(prop_oneof![Just(b'7'), any::<u8>()], 0..4).prop_map(OwnedPatch::Append),
        2 => vec((0..4_u8).prop_map(|name| vec![name]), 0..3).prop_map(OwnedPatch::elements),
    ]
}

fn path(kind: Kind, name: &[u8]) -> Path<'_> {
    match kind {
        Kind::String => Path::String,
        Kind::Hash => Path::Field(name),
        Kind::Set => Path::Member(name),
        Kind::SortedSet => Path::Scored(name),
        Kind::Opaque => Path::Opaque,
        Kind::Stream => Path::Stream(name),
        Kind::List => Path::Element(name),
    }
}

/// A run with its own bytes.
#[derive(Clone, Debug)]
pub struct OwnedRun {
    pub anchor: Vec<u8>,
    pub side: Side,
    pub begun: Begun,
}

/// Encoded values or ranges, and how many.
#[derive(Clone, Debug)]
pub struct OwnedItems(pub u32, pub Vec<u8>);

impl OwnedRun {
    pub fn borrow(&self) -> RunRef<'_> {
        RunRef { anchor: &self.anchor, side: self.side, begun: self.begun }
    }
}

pub fn values(values: &[Vec<u8>]) -> OwnedItems {
    let mut out = Vec::new();
    values.iter().for_each(|value| push_value(&mut out, value));
    OwnedItems(values.len() as u32, out)
}

pub fn ranges(ranges: &[(OwnedRun, At, At)]) -> OwnedItems {
    let mut out = Vec::new();
    for (run, from, to) in ranges {
        push_range(&mut out, &AtRange { run: run.borrow(), from: *from.min(to), to: *from.max(to) });
    }
    OwnedItems(ranges.len() as u32, out)
}

pub fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Before), Just(Side::After)]
}

pub fn at() -> impl Strategy<Value = At> {
    (timestamp(), prop_oneof![0..4_u32, any::<u32>()]).prop_map(|(ts, index)| At { ts, index })
}

pub fn reign() -> impl Strategy<Value = Reign> {
    (instance(), replid()).prop_map(|(instance, replid)| Reign { instance, replid })
}

/// Segments of a position.
pub fn segments() -> impl Strategy<Value = Vec<u8>> {
    vec((side(), timestamp(), reign(), at()), 1..4).prop_map(|levels| {
        let mut segments = Vec::new();
        for (side, begun, reign, at) in levels {
            segments = RunName::new(&segments, side, begun, reign).segments(at).to_vec();
        }
        segments
    })
}

pub fn element_name() -> impl Strategy<Value = Vec<u8>> {
    segments().prop_map(|segments| [segments, vec![1]].concat())
}

pub fn run(own: bool) -> impl Strategy<Value = OwnedRun> {
    let begun = prop_oneof![Just(Begun::Now), timestamp().prop_map(Begun::Own)];
    let other = prop_oneof![(reign(), timestamp()).prop_map(|(reign, ts)| Begun::Other(reign, ts)), Just(Begun::Base)];
    let begun = prop_oneof![begun, other].prop_map(move |begun| match begun {
        Begun::Base | Begun::Other(..) if own => Begun::Now,
        begun => begun,
    });
    (prop_oneof![Just(Vec::new()), segments()], side(), begun).prop_map(|(anchor, side, begun)| match begun {
        Begun::Base => OwnedRun { anchor: Vec::new(), side: Side::Before, begun },
        begun => OwnedRun { anchor, side, begun },
    })
}

impl Owned {
    pub fn effect(&self) -> Effect<'_> {
        let op = match &self.op {
            OwnedOp::Set(value, expire_at) => Op::Set { value, expire_at: *expire_at },
            OwnedOp::Assign(kind, name, bytes, score, reasserted) => {
                let value = match kind {
                    Kind::Hash if *score > 0.0 => Value::Expiring { bytes, at: *score as i64 },
                    Kind::String | Kind::Hash | Kind::List => Value::Bytes(bytes),
                    Kind::Set => Value::Present,
                    Kind::SortedSet => Value::Score(*score),
                    Kind::Opaque => Value::Payload(bytes),
                    Kind::Stream => unreachable!("see OwnedOp::Stream"),
                };
                Op::Assign { path: path(*kind, name), value, reasserted: *reasserted }
            }
            OwnedOp::Increment(kind, name, delta) => Op::Increment { path: path(*kind, name), delta: *delta },
            OwnedOp::Patch(patch @ OwnedPatch::Elements(..), _) => {
                Op::Patch { patch: patch.borrow(), prior: Prior::NONE }
            }
            OwnedOp::Patch(patch, text) => Op::Patch { patch: patch.borrow(), prior: Prior::of(text) },
            OwnedOp::Remove(kind, name) => Op::Remove { path: path(*kind, name) },
            OwnedOp::Stream(stream) => stream.op(),
            OwnedOp::ListInsert(run, first, items) => {
                Op::ListInsert { run: run.borrow(), first: *first, values: Values::new(items.0, &items.1) }
            }
            OwnedOp::ListRemove(items) => Op::ListRemove { ranges: Ranges::new(items.0, &items.1) },
            OwnedOp::Clear(reason) => Op::Clear { reason: *reason },
            OwnedOp::Expire(at) => Op::Expire { at: *at },
            OwnedOp::Persist => Op::Persist,
            OwnedOp::Flush(scope) => Op::Flush { scope: *scope },
            OwnedOp::Reign => Op::Reign,
            OwnedOp::Join(instance) => Op::Join { instance: *instance },
            OwnedOp::Forget(instance) => Op::Forget { instance: *instance },
            OwnedOp::Again(replid, ts, index) => Op::Again { replid: *replid, ts: *ts, index: *index },
            OwnedOp::Publish(sharded, channel, message) => Op::Publish { sharded: *sharded, channel, message },
        };
        let keyless = matches!(
            op,
            Op::Flush { .. } | Op::Reign | Op::Join { .. } | Op::Forget { .. } | Op::Again { .. } | Op::Publish { .. }
        );
        if keyless {
            return Effect { db: 0, key: &[], ttl: TtlNote::None, op };
        }
        Effect { db: self.db, key: &self.key, ttl: self.ttl, op }
    }
}

pub fn instance() -> impl Strategy<Value = InstanceId> {
    (InstanceId::MIN..=InstanceId::MAX).prop_map(|id| InstanceId::new(id).expect("in range"))
}

pub fn replid() -> impl Strategy<Value = ReplId> {
    any::<[u8; 20]>().prop_map(ReplId::from_bytes)
}

pub fn timestamp() -> impl Strategy<Value = Timestamp> {
    prop_oneof![1..1000_u64, 1..=Timestamp::MAX.bits()].prop_map(Timestamp::from_bits)
}

pub fn entry() -> impl Strategy<Value = Entry> {
    (replid(), instance(), timestamp())
}

/// Names from a small pool, so that keys repeat; and any bytes.
pub fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(b"a".to_vec()), Just(b"key".to_vec()), Just(Vec::new()), vec(any::<u8>(), 0..200)]
}

pub fn float() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(f64::INFINITY), any::<f64>().prop_filter("never NaN", |float| !float.is_nan())]
}

pub fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::String), Just(Kind::Hash), Just(Kind::Set), Just(Kind::SortedSet), Just(Kind::Opaque)]
}

pub fn number() -> impl Strategy<Value = Number> {
    prop_oneof![any::<i64>().prop_map(Number::Integer), float().prop_map(Number::Float)]
}

pub fn op() -> impl Strategy<Value = OwnedOp> {
    let number_kind = prop_oneof![Just(Kind::String), Just(Kind::Hash), Just(Kind::SortedSet)];
    let reason = prop_oneof![Just(ClearReason::Deleted), Just(ClearReason::Expired), Just(ClearReason::Evicted)];
    let scope = prop_oneof![Just(FlushScope::All), (0..1000_u32).prop_map(FlushScope::Db)];
    prop_oneof![
        (name(), any::<Option<i64>>()).prop_map(|(value, at)| OwnedOp::Set(value, at)),
        (kind(), name(), name(), float(), any::<bool>()).prop_map(|(k, n, v, s, r)| OwnedOp::Assign(k, n, v, s, r)),
        (element_name(), name(), any::<bool>()).prop_map(|(n, v, r)| OwnedOp::Assign(Kind::List, n, v, 0.0, r)),
        (run(true), 0..1000_u32, vec(name(), 1..4)).prop_map(|(run, first, items)| OwnedOp::ListInsert(
            run,
            first,
            values(&items)
        )),
        vec((run(false), at(), at()), 1..4).prop_map(|list| OwnedOp::ListRemove(ranges(&list))),
        (number_kind, name(), number()).prop_map(|(k, n, d)| OwnedOp::Increment(k, n, d)),
        (patch(1 << 20), vec(any::<u8>(), 0..90)).prop_map(|(patch, text)| OwnedOp::Patch(patch, text)),
        (kind(), name()).prop_map(|(k, n)| OwnedOp::Remove(k, n)),
        streams::stream().prop_map(OwnedOp::Stream),
        reason.prop_map(OwnedOp::Clear),
        any::<i64>().prop_map(OwnedOp::Expire),
        Just(OwnedOp::Persist),
        scope.prop_map(OwnedOp::Flush),
        Just(OwnedOp::Reign),
        instance().prop_map(OwnedOp::Join),
        instance().prop_map(OwnedOp::Forget),
        (any::<bool>(), name(), name()).prop_map(|(s, c, m)| OwnedOp::Publish(s, c, m)),
        (replid(), timestamp(), any::<u32>()).prop_map(|(replid, ts, index)| OwnedOp::Again(replid, ts, index)),
    ]
}

pub fn effect() -> impl Strategy<Value = Owned> {
    let ttl = prop_oneof![Just(TtlNote::None), Just(TtlNote::Created), any::<i64>().prop_map(TtlNote::Kept)];
    (prop_oneof![Just(0_u32), 0..16_u32, 0..=i32::MAX as u32], name(), ttl, op()).prop_map(|(db, key, ttl, op)| Owned {
        db,
        key,
        ttl,
        op,
    })
}

pub fn effects() -> impl Strategy<Value = Vec<Owned>> {
    vec(effect(), 0..12)
}

pub fn build(effects: &[Owned]) -> GroupBuilder {
    let mut group = GroupBuilder::new();
    effects.iter().for_each(|effect| group.push(&effect.effect()));
    group
}
