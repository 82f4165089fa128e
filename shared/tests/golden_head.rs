//! The bytes of what was added later, like `golden.rs`: the heads of snapshots, records of what servers have dropped.

use syncer_shared::context::StreamContext;
use syncer_shared::dot::Dot;
use syncer_shared::effect::{ClearReason, Effect, Op, Path, TtlNote};
use syncer_shared::group::{self, GroupBuilder};
use syncer_shared::number::Number;
use syncer_shared::origin::Origin;
use syncer_shared::record::Record;
use syncer_shared::snapshot::{Holder, SnapshotHead, SnapshotReign, TakenUp};

mod golden_bytes;

use golden_bytes::{assert_golden, bytes, instance, replid, ts};

/// Added later: what the source of a snapshot keeps in mind of what re-assertions have taken up.
#[test]
fn snapshot_head_with_what_was_taken_up() {
    let reign = |byte, id| SnapshotReign {
        replid: replid(byte),
        instance: instance(id),
        applied: ts(1_700_000_003_000, 1),
        stable: ts(2, 0),
        start: ts(1, 0),
        context: StreamContext::EMPTY_CHANGE.to_vec(),
        had: None,
    };
    let dot = |reign, index| Dot { ts: ts(1_700_000_002_000, 7), index, origin: Origin::from_index(reign) };
    let mut group = GroupBuilder::new();
    let op = Op::Increment { path: Path::Field(b"f"), delta: Number::Integer(100) };
    group.push(&Effect { db: 3, key: b"k", ttl: TtlNote::None, op });
    let holders = vec![
        Holder { dot: dot(0, 1), reasserted: true, has: true },
        Holder { dot: dot(1, 300), reasserted: false, has: false },
    ];
    let head = SnapshotHead {
        instance: instance(1),
        replid: replid(0x11),
        offset: 99,
        reigns: vec![reign(0x11, 1), reign(0x22, 2)],
        joins: vec![(instance(2), dot(0, 0))],
        forgotten: Vec::new(),
        frozen: Vec::new(),
        taken: vec![TakenUp { dot: dot(1, 2), effect: group.body().to_vec(), holders }],
    };
    let mut out = Vec::new();
    head.encode(&mut out);
    let file = include_str!("../../tests/fixtures/wire-v1/head-taken.hex");
    assert_golden(&out, file);
    assert_eq!(SnapshotHead::decode(&bytes(file)), Ok(head));
}

/// Added later: a server has dropped keys as it loaded its file.
#[test]
fn record_of_what_was_dropped() {
    let mut builder = GroupBuilder::new();
    let op = Op::Clear { reason: ClearReason::Expired };
    builder.push(&Effect { db: 0, key: b"key", ttl: TtlNote::None, op });
    let (mut change, mut nothing) = (Vec::new(), Vec::new());
    StreamContext::new().encode_change([].into_iter(), &mut change);
    Record::dropped(&mut nothing, 1_700_000_000_000);
    let mut some = nothing.clone();
    let (prev, at) = (ts(1_600_000_000_000, 0), ts(1_700_000_000_000, 7));
    group::encode_frame(&mut some, instance(2), &replid(0x33), prev, at, &change, builder.body());
    let frame = &some[nothing.len()..];
    assert_golden(&nothing, include_str!("../../tests/fixtures/wire-v1/record-dropped-nothing.hex"));
    assert_golden(&some, include_str!("../../tests/fixtures/wire-v1/record-dropped.hex"));
    assert!(matches!(Record::parse(&nothing), Ok(Record::Dropped { at_ms: 1_700_000_000_000, frame: None })));
    assert!(matches!(Record::parse(&some), Ok(Record::Dropped { frame: Some(of), .. }) if of == frame));
}
