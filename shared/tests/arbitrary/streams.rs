//! Random effects on streams.

use proptest::prelude::*;
use syncer_shared::effect::{Op, Path, StreamOp, Value};
use syncer_shared::stream::{Ids, Part, StreamId, push_field};

/// An effect on a stream with its own bytes.
#[derive(Clone, Debug)]
pub enum OwnedStream {
    Entry(StreamId, Vec<u8>, bool),
    Last(StreamId),
    Group(Vec<u8>, StreamId),
    Part(Vec<u8>, Delivery, bool),
    Remove(Vec<u8>),
    Trim(StreamId),
    Ungroup(Vec<u8>),
    Deliver(Vec<u8>, Option<Vec<u8>>, StreamId, Vec<u8>),
}

/// What a part of a group is assigned.
#[derive(Clone, Debug)]
pub enum Delivery {
    Present,
    Owner(Vec<u8>),
    Acked,
}

impl OwnedStream {
    pub fn op(&self) -> Op<'_> {
        let assign = |name, value, reasserted| Op::Assign { path: Path::Stream(name), value, reasserted };
        match self {
            Self::Entry(id, fields, flagged) => assign(leak(Part::Entry(*id)), Value::Bytes(fields), *flagged),
            Self::Last(id) => assign(leak(Part::Last), Value::Id(*id), false),
            Self::Group(group, id) => assign(leak(Part::Group(group)), Value::Id(*id), false),
            Self::Part(name, delivery, flagged) => {
                let value = match delivery {
                    Delivery::Present => Value::Present,
                    Delivery::Owner(consumer) => Value::Owner(consumer),
                    Delivery::Acked => Value::Acked,
                };
                assign(name, value, *flagged)
            }
            Self::Remove(name) => Op::Remove { path: Path::Stream(name) },
            Self::Trim(below) => Op::Stream(StreamOp::Trim { below: *below }),
            Self::Ungroup(group) => Op::Stream(StreamOp::Ungroup { group }),
            Self::Deliver(group, consumer, position, ids) => Op::Stream(StreamOp::Deliver {
                group,
                consumer: consumer.as_deref(),
                position: *position,
                ids: Ids::new(ids).expect("encoded here"),
            }),
        }
    }
}

/// Names must outlive the effect; a test makes few.
fn leak(part: Part<'_>) -> &'static [u8] {
    Box::leak(part.name().into_vec().into_boxed_slice())
}

pub fn id() -> impl Strategy<Value = StreamId> {
    prop_oneof![4 => (1..5_u64, Just(0_u64)), 1 => (1..3_u64, 0..3_u64)].prop_map(|(ms, seq)| StreamId { ms, seq })
}

fn group() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![3 => Just(b"g".to_vec()), 1 => Just(b"h".to_vec())]
}

fn consumer() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(b"c".to_vec()), Just(b"d".to_vec())]
}

fn entry_fields() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(b"v"), Just(b"w")].prop_map(|value| {
        let mut fields = Vec::new();
        push_field(&mut fields, b"f");
        push_field(&mut fields, value);
        fields
    })
}

fn delivery() -> impl Strategy<Value = OwnedStream> {
    let what = prop_oneof![
        3 => consumer().prop_map(Delivery::Owner),
        2 => Just(Delivery::Acked),
    ];
    (group(), id(), what, prop::bool::weighted(0.2)).prop_map(|(group, id, what, flagged)| {
        OwnedStream::Part(Part::Delivery { group: &group, id }.name().into_vec(), what, flagged)
    })
}

pub fn stream() -> impl Strategy<Value = OwnedStream> {
    let ids = prop::collection::btree_set(id(), 0..4).prop_map(|ids| {
        let mut bytes = Vec::new();
        Ids::encode(&mut bytes, ids.into_iter());
        bytes
    });
    prop_oneof![
        8 => (id(), entry_fields(), prop::bool::weighted(0.2)).prop_map(|(id, f, again)| OwnedStream::Entry(id, f, again)),
        1 => id().prop_map(OwnedStream::Last),
        3 => (group(), id()).prop_map(|(group, id)| OwnedStream::Group(group, id)),
        4 => delivery(),
        1 => (group(), consumer(), prop::bool::weighted(0.2)).prop_map(|(group, name, flagged)| {
            let part = Part::Consumer { group: &group, name: &name };
            OwnedStream::Part(part.name().into_vec(), Delivery::Present, flagged)
        }),
        3 => id().prop_map(|id| OwnedStream::Remove(Part::Entry(id).name().into_vec())),
        1 => (group(), id())
            .prop_map(|(group, id)| OwnedStream::Remove(Part::Delivery { group: &group, id }.name().into_vec())),
        2 => id().prop_map(OwnedStream::Trim),
        1 => group().prop_map(OwnedStream::Ungroup),
        4 => (group(), prop::option::of(consumer()), id(), ids)
            .prop_map(|(group, consumer, position, ids)| OwnedStream::Deliver(group, consumer, position, ids)),
    ]
}
