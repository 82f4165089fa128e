//! The bytes of format version 1 (docs/PROTOCOL.md), as released: the files are added to, never edited. What is there must be read
//! by every later version, and this one must write exactly it.

use syncer_shared::context::StreamContext;
use syncer_shared::effect::{ClearReason, Effect, FlushScope, Op, Path, TtlNote, Value};
use syncer_shared::group::{self, Frame, GroupBuilder, GroupView};
use syncer_shared::instance::InstanceSet;
use syncer_shared::memory::MemoryKeyspace;
use syncer_shared::number::Number;
use syncer_shared::record::{Before, Record};
use syncer_shared::report::{self, MemberReport};
use syncer_shared::shard::{Hello, PROTOCOL, Restorer, Shard, ShardConfig, Standing, Start};
use syncer_shared::timestamp::Timestamp;
use syncer_shared::token::ClockToken;
use syncer_shared::wire::Reader;

mod golden_bytes;

use golden_bytes::{assert_golden, bytes, instance, replid, ts};

/// Every effect there is, in every form.
fn every_effect() -> Vec<Effect<'static>> {
    let at = 1_700_000_060_000;
    let string = Value::Bytes(b"value");
    let ops = [
        (TtlNote::None, Op::Set { value: b"value", expire_at: None }),
        (TtlNote::None, Op::Set { value: b"", expire_at: Some(at) }),
        (TtlNote::Created, Op::Assign { path: Path::String, value: string, reasserted: false }),
        (TtlNote::Kept(at), Op::Assign { path: Path::Field(b"f"), value: string, reasserted: false }),
        (TtlNote::None, Op::Assign { path: Path::Member(b"m"), value: Value::Present, reasserted: false }),
        (TtlNote::None, Op::Assign { path: Path::Scored(b"z"), value: Value::Score(4.1), reasserted: false }),
        (TtlNote::None, Op::Assign { path: Path::Opaque, value: Value::Payload(b"\x00\xff"), reasserted: false }),
        (TtlNote::None, Op::Assign { path: Path::String, value: string, reasserted: true }),
        (TtlNote::None, Op::Assign { path: Path::Member(b"m"), value: Value::Present, reasserted: true }),
        (TtlNote::None, Op::Remove { path: Path::String }),
        (TtlNote::None, Op::Remove { path: Path::Field(b"f") }),
        (TtlNote::None, Op::Remove { path: Path::Member(b"m") }),
        (TtlNote::None, Op::Remove { path: Path::Scored(b"z") }),
        (TtlNote::None, Op::Remove { path: Path::Opaque }),
        (TtlNote::Kept(-1), Op::Increment { path: Path::String, delta: Number::Integer(-1) }),
        (TtlNote::None, Op::Increment { path: Path::Field(b"f"), delta: Number::Integer(i64::MAX) }),
        (TtlNote::None, Op::Increment { path: Path::Scored(b"z"), delta: Number::Integer(0) }),
        (TtlNote::None, Op::Increment { path: Path::String, delta: Number::Float(0.5) }),
        (TtlNote::None, Op::Increment { path: Path::Field(b"f"), delta: Number::Float(-2.25) }),
        (TtlNote::None, Op::Increment { path: Path::Scored(b"z"), delta: Number::Float(f64::INFINITY) }),
        (TtlNote::None, Op::Clear { reason: ClearReason::Deleted }),
        (TtlNote::None, Op::Clear { reason: ClearReason::Expired }),
        (TtlNote::None, Op::Clear { reason: ClearReason::Evicted }),
        (TtlNote::None, Op::Expire { at }),
        (TtlNote::None, Op::Persist),
    ];
    let keys: [(u32, &[u8]); 4] = [(0, b"k"), (0, b"k"), (0, b"other"), (15, b"k")];
    let keyed =
        ops.into_iter().enumerate().map(|(i, (ttl, op))| Effect { db: keys[i % 4].0, key: keys[i % 4].1, ttl, op });
    let keyless = [
        Op::Flush { scope: FlushScope::All },
        Op::Flush { scope: FlushScope::Db(15) },
        Op::Reign,
        Op::Join { instance: instance(1) },
        Op::Forget { instance: instance(63) },
    ];
    keyed.chain(keyless.map(|op| Effect { db: 0, key: &[], ttl: TtlNote::None, op })).collect()
}

fn frame(prev: Timestamp, at: Timestamp, change: &[u8], effects: &[Effect<'_>]) -> Vec<u8> {
    let mut group = GroupBuilder::new();
    effects.iter().for_each(|effect| group.push(effect));
    let mut frame = Vec::new();
    group::encode_frame(&mut frame, instance(1), &replid(0x11), prev, at, change, group.body());
    frame
}

/// The first group of a reign: its context in full.
fn first(context: &mut StreamContext) -> Vec<u8> {
    let mut change = Vec::new();
    let seen = [(replid(0x22), instance(2), ts(1_700_000_000_000, 3)), (replid(0x33), instance(3), ts(1, 0))];
    context.encode_change(seen.into_iter(), &mut change);
    let effects = [Op::Reign, Op::Join { instance: instance(1) }];
    let effects = effects.map(|op| Effect { db: 0, key: &[], ttl: TtlNote::None, op });
    frame(Timestamp::ZERO, ts(1_700_000_001_000, 0), &change, &effects)
}

/// The next one: one entry of the context has risen, one is new; every effect.
fn second(context: &mut StreamContext) -> Vec<u8> {
    let mut change = Vec::new();
    let seen = [(replid(0x33), instance(3), ts(2, 0)), (replid(0x44), instance(2), ts(1_700_000_002_000, 0))];
    context.encode_change(seen.into_iter(), &mut change);
    frame(ts(1_700_000_001_000, 0), ts(1_700_000_003_000, 65535), &change, &every_effect())
}

fn clock() -> ClockToken {
    [(replid(0x33), instance(3), ts(2, 0)), (replid(0x22), instance(2), ts(1_700_000_000_000, 3))].into_iter().collect()
}

#[test]
fn group_frames() {
    let mut context = StreamContext::new();
    assert_golden(&first(&mut context), include_str!("../../tests/fixtures/wire-v1/group-first.hex"));
    assert_golden(&second(&mut context), include_str!("../../tests/fixtures/wire-v1/group-every-effect.hex"));
}

/// Added after the others.
#[test]
fn a_field_with_a_ttl() {
    let value = Value::Expiring { bytes: b"value", at: 1_700_000_060_000 };
    let effect = |reasserted| Effect {
        db: 0,
        key: b"k",
        ttl: TtlNote::None,
        op: Op::Assign { path: Path::Field(b"f"), value, reasserted },
    };
    let mut change = Vec::new();
    StreamContext::new().encode_change([].into_iter(), &mut change);
    let written = frame(ts(1, 0), ts(2, 0), &change, &[effect(false), effect(true)]);
    let file = include_str!("../../tests/fixtures/wire-v1/group-expiring-field.hex");
    assert_golden(&written, file);
    let bytes = bytes(file);
    let (view, _) = GroupView::parse(&bytes).expect("valid");
    assert_eq!(group::effects(view.body).collect::<Vec<_>>(), [effect(false), effect(true)]);
}

#[test]
fn messages_are_the_golden_bytes() {
    let effect = |sharded, channel| {
        let op = Op::Publish { sharded, channel, message: b"hello\xff" };
        Effect { db: 0, key: &[], ttl: TtlNote::None, op }
    };
    let effects = [effect(false, &b"news"[..]), effect(true, b"")];
    let mut change = Vec::new();
    StreamContext::new().encode_change([].into_iter(), &mut change);
    let written = frame(ts(1, 0), ts(2, 0), &change, &effects);
    let file = include_str!("../../tests/fixtures/wire-v1/group-publish.hex");
    assert_golden(&written, file);
    let bytes = bytes(file);
    let (view, _) = GroupView::parse(&bytes).expect("valid");
    assert_eq!(group::effects(view.body).collect::<Vec<_>>(), effects);
}

/// Added later: what is written again since no assertion that shows has taken it up.
#[test]
fn what_is_written_again() {
    let effect = |key: &'static [u8], op| Effect { db: 0, key, ttl: TtlNote::None, op };
    let again = Op::Again { replid: replid(0x33), ts: ts(1_700_000_000_000, 7), index: 300 };
    let add = Op::Increment { path: Path::String, delta: Number::Integer(5) };
    let effects = [effect(b"", again), effect(b"k", add)];
    let mut change = Vec::new();
    StreamContext::new().encode_change([].into_iter(), &mut change);
    let group = frame(ts(1, 0), ts(2, 0), &change, &effects);
    let file = include_str!("../../tests/fixtures/wire-v1/group-again.hex");
    assert_golden(&group, file);
    let (bytes, mut record, mut nothing) = (bytes(file), Vec::new(), Vec::new());
    let (view, _) = GroupView::parse(&bytes).expect("valid");
    assert_eq!(group::effects(view.body).collect::<Vec<_>>(), effects);
    Record::decided(&mut nothing);
    record.clone_from(&nothing);
    record.extend_from_slice(&group);
    assert_golden(&nothing, include_str!("../../tests/fixtures/wire-v1/record-decided-nothing.hex"));
    assert_golden(&record, include_str!("../../tests/fixtures/wire-v1/record-decided.hex"));
    assert!(matches!(Record::parse(&nothing), Ok(Record::Decided { frame: None })));
    assert!(matches!(Record::parse(&record), Ok(Record::Decided { frame: Some(frame) }) if frame == group));
}

#[test]
fn group_frames_read_back() {
    let mut context = StreamContext::new();
    let file = bytes(include_str!("../../tests/fixtures/wire-v1/group-first.hex"));
    let (view, _) = GroupView::parse(&file).expect("valid");
    context.apply_change(view.change).expect("fits an empty list");
    assert_eq!(
        (view.instance, view.replid, view.prev, view.ts),
        (instance(1), replid(0x11), Timestamp::ZERO, ts(1_700_000_001_000, 0))
    );
    let file = bytes(include_str!("../../tests/fixtures/wire-v1/group-every-effect.hex"));
    let (view, _) = GroupView::parse(&file).expect("valid");
    context.apply_change(view.change).expect("fits the list");
    assert_eq!(context.entries().len(), 3);
    assert_eq!(context.entries()[1], (replid(0x33), instance(3), ts(2, 0)));
    assert!(group::effects(view.body).eq(every_effect()));
}

#[test]
fn skip_frame() {
    let mut out = Vec::new();
    group::encode_skip(&mut out, 1_000_000);
    let file = include_str!("../../tests/fixtures/wire-v1/skip.hex");
    assert_golden(&out, file);
    assert!(matches!(Frame::parse(&bytes(file)), Ok((Frame::Skip(skip), [])) if skip.bytes == 1_000_000));
}

#[test]
fn clock_token() {
    let mut out = Vec::new();
    clock().encode(&mut out);
    let file = include_str!("../../tests/fixtures/wire-v1/clock.hex");
    assert_golden(&out, file);
    assert_eq!(ClockToken::decode(&mut Reader::new(&bytes(file))), Ok(clock()));
    let text = include_str!("../../tests/fixtures/wire-v1/clock.txt");
    assert_eq!(clock().to_string(), text.trim());
    assert_eq!(text.parse(), Ok(clock()));
}

#[test]
fn member_report() {
    let empty = ClockToken::default();
    let members = vec![
        MemberReport { instance: instance(1), durable: empty, applied: clock() },
        MemberReport { instance: instance(2), durable: clock(), applied: clock() },
    ];
    let mut out = Vec::new();
    report::encode(&members, &mut out);
    let file = include_str!("../../tests/fixtures/wire-v1/report.hex");
    assert_golden(&out, file);
    assert_eq!(report::decode(&bytes(file)), Ok(members));
}

/// Added after the others.
#[test]
fn founded_record() {
    let group = first(&mut StreamContext::new());
    for (start, file) in [
        (Start::Empty, include_str!("../../tests/fixtures/wire-v1/record-founded-empty.hex")),
        (Start::Seeded, include_str!("../../tests/fixtures/wire-v1/record-founded-seeded.hex")),
    ] {
        let mut founded = Vec::new();
        Record::founded(&mut founded, start);
        founded.extend_from_slice(&group);
        assert_golden(&founded, file);
        let bytes = bytes(file);
        let read = Record::parse(&bytes).expect("valid");
        assert!(matches!(read, Record::Founded { start: s, frame } if s == start && *frame == *group));
    }
}

/// A small state with one of most things: a member, a key with metadata, a past reign.
fn small_shard() -> Shard {
    let mut shard = Shard::new(ShardConfig::new(instance(1)), replid(0x11), Start::Empty, 1_700_000_000_000);
    let (instance2, clock) = (instance(2), ClockToken::default());
    let hello = Hello {
        protocol: PROTOCOL,
        instance: instance2,
        replid: replid(0x22),
        wanted: InstanceSet::ALL,
        position: None,
        clock,
        standing: Standing::Blank,
    };
    shard.handshake(&hello, 1_700_000_000_001).expect("a newcomer");
    shard.set_position(instance2, replid(0x22), 77).expect("no fence");
    let mut group = GroupBuilder::new();
    let op = Op::Increment { path: Path::String, delta: Number::Integer(7) };
    group.push(&Effect { db: 3, key: b"k", ttl: TtlNote::Created, op });
    shard.commit(&group, &Before::new(), &mut MemoryKeyspace::default(), 1_700_000_000_002);
    let report = MemberReport { instance: instance2, durable: shard.clock_token(), applied: shard.clock_token() };
    let mut bytes = Vec::new();
    report::encode(&[report], &mut bytes);
    shard.accept_report(instance2, &bytes, 1_700_000_000_003).expect("valid");
    shard.begin_reign(replid(0x12), 1_700_000_000_004);
    shard
}

#[test]
fn saved_state() {
    let mut shard = small_shard();
    assert_saved(&shard, include_str!("../../tests/fixtures/state-v1/tail-had.hex"));
    shard.take_in_tail(&mut MemoryKeyspace::default());
    assert_saved(&shard, include_str!("../../tests/fixtures/state-v1/small-had.hex"));
}

/// Written before states said what a reign had when it began.
#[test]
fn older_saved_states() {
    let mut shard = small_shard();
    assert_read(&shard, include_str!("../../tests/fixtures/state-v1/tail.hex"));
    shard.take_in_tail(&mut MemoryKeyspace::default());
    assert_read(&shard, include_str!("../../tests/fixtures/state-v1/small.hex"));
}

fn assert_saved(shard: &Shard, file: &str) {
    let mut saved = Vec::new();
    shard.save(&mut |piece| saved.extend_from_slice(piece));
    assert_golden(&saved, file);
    assert_read(shard, file);
}

fn assert_read(shard: &Shard, file: &str) {
    let mut restorer = Restorer::new(ShardConfig::new(instance(1)));
    restorer.push(&bytes(file)).expect("valid");
    let restored = restorer.finish().expect("whole");
    assert_eq!(restored.clock_token(), shard.clock_token());
    assert_eq!(restored.status().waiting_groups, shard.status().waiting_groups);
}

#[test]
fn records() {
    let group = first(&mut StreamContext::new());
    let mut captured = Vec::new();
    Record::captured(&mut captured, &vec![(0, None), (7, Some(b"0.1".to_vec()))]);
    captured.extend_from_slice(&group);
    let mut applied = Vec::new();
    Record::applied(&mut applied, instance(1), &replid(0x11));
    applied.extend_from_slice(&group);
    Record::finish_applied(&mut applied, 1 << 40);
    let mut authored = Vec::new();
    Record::authored(&mut authored);
    authored.extend_from_slice(&group);
    let (mut stable, mut position) = (Vec::new(), Vec::new());
    Record::stable(&mut stable, &clock());
    Record::position(&mut position, instance(2), &replid(0x22), 77);
    let files = [
        (captured, include_str!("../../tests/fixtures/wire-v1/record-captured.hex")),
        (applied, include_str!("../../tests/fixtures/wire-v1/record-applied.hex")),
        (authored, include_str!("../../tests/fixtures/wire-v1/record-authored.hex")),
        (stable, include_str!("../../tests/fixtures/wire-v1/record-stable.hex")),
        (position, include_str!("../../tests/fixtures/wire-v1/record-position.hex")),
    ];
    for (written, file) in files {
        assert_golden(&written, file);
        Record::parse(&bytes(file)).expect("valid");
    }
}

/// Added later: every effect on streams.
#[test]
fn effects_on_streams() {
    use syncer_shared::effect::StreamOp;
    use syncer_shared::stream::{Ids, Part, StreamId, push_field};
    let id = |ms, seq| StreamId { ms, seq };
    let names = [
        Part::Entry(id(1_700_000_000_000, 65)),
        Part::Last,
        Part::Group(b"g"),
        Part::Consumer { group: b"g", name: b"c" },
        Part::Delivery { group: b"g", id: id(5, 1) },
    ]
    .map(|part| part.name());
    let (mut fields, mut ids) = (Vec::new(), Vec::new());
    [&b"field"[..], b"value"].into_iter().for_each(|field| push_field(&mut fields, field));
    Ids::encode(&mut ids, [id(5, 1), id(5, 65), id(9, 0)].into_iter());
    let assign = |at: usize, value, reasserted| Op::Assign { path: Path::Stream(&names[at]), value, reasserted };
    let deliver = |consumer| {
        let ids = Ids::new(&ids).expect("encoded here");
        Op::Stream(StreamOp::Deliver { group: b"g", consumer, position: id(9, 0), ids })
    };
    let ops = [
        assign(0, Value::Bytes(&fields), false),
        assign(0, Value::Bytes(&fields), true),
        assign(1, Value::Id(id(7, 1)), false),
        assign(2, Value::Id(StreamId::MIN), false),
        assign(3, Value::Present, false),
        assign(4, Value::Acked, false),
        assign(4, Value::Late, true),
        assign(4, Value::Owner(b"c"), false),
        Op::Remove { path: Path::Stream(&names[0]) },
        Op::Stream(StreamOp::Trim { below: id(8, 0) }),
        Op::Stream(StreamOp::Ungroup { group: b"g" }),
        deliver(Some(b"c")),
        deliver(None),
    ];
    let effects = ops.map(|op| Effect { db: 0, key: b"k", ttl: TtlNote::None, op });
    let mut change = Vec::new();
    StreamContext::new().encode_change([].into_iter(), &mut change);
    let written = frame(ts(1, 0), ts(2, 0), &change, &effects);
    let file = include_str!("../../tests/fixtures/wire-v1/group-streams.hex");
    assert_golden(&written, file);
    let bytes = bytes(file);
    let (view, _) = GroupView::parse(&bytes).expect("valid");
    group::check(view.body).expect("what was written is accepted");
    assert_eq!(group::effects(view.body).collect::<Vec<_>>(), effects);
}

/// Writes one group of these effects, and reads it back from the file.
fn assert_golden_effects(ops: Vec<Op<'_>>, file: &str) {
    let effects: Vec<_> = ops.into_iter().map(|op| Effect { db: 0, key: b"k", ttl: TtlNote::None, op }).collect();
    let mut change = Vec::new();
    StreamContext::new().encode_change([].into_iter(), &mut change);
    assert_golden(&frame(ts(1, 0), ts(2, 0), &change, &effects), file);
    let bytes = bytes(file);
    let (view, _) = GroupView::parse(&bytes).expect("valid");
    group::check(view.body).expect("what was written is accepted");
    assert_eq!(group::effects(view.body).collect::<Vec<_>>(), effects);
}

/// Added later: strings in part.
#[test]
fn patches_of_strings() {
    use syncer_shared::hyperloglog::Registers;
    use syncer_shared::patch::{Patch, Prior};
    let registers = Registers::new(&[5, 0, 4, 6, 0, 8]).expect("valid");
    let op = |patch, prior| Op::Patch { patch, prior };
    let ops = vec![
        op(Patch::Bytes { offset: 7, bytes: b"ab" }, Prior::Text(b"text")),
        op(Patch::Bits { offset: 99_999_999, count: 1, value: 1 }, Prior::Length(12_500_000)),
        op(Patch::Bits { offset: 3, count: 64, value: u64::MAX }, Prior::NONE),
        op(Patch::Append(b"x"), Prior::Length(70)),
        op(Patch::Append(b""), Prior::NONE),
        op(Patch::Registers(registers), Prior::NONE),
    ];
    assert_golden_effects(ops, include_str!("../../tests/fixtures/wire-v1/group-patches.hex"));
}

/// Added later: elements of lists.
#[test]
fn elements_of_lists() {
    use syncer_shared::list::wire::{AtRange, Begun, push_range, push_value};
    use syncer_shared::list::{At, Ranges, Reign, RunName, RunRef, Side, Values};
    let reign = Reign { instance: instance(2), replid: replid(0x22) };
    let run = RunName::new(&[], Side::Before, ts(1, 5), reign);
    let at = At { ts: ts(1, 6), index: 300 };
    let (anchor, element) = (run.segments(at).to_vec(), run.element(at).to_vec());
    let (mut items, mut places) = (Vec::new(), Vec::new());
    [&b"first"[..], b""].into_iter().for_each(|item| push_value(&mut items, item));
    let own = RunRef { anchor: &[], side: Side::After, begun: Begun::Own(ts(1, 0)) };
    let nested = RunRef { anchor: &anchor, side: Side::Before, begun: Begun::Now };
    let other = RunRef { anchor: &[], side: Side::Before, begun: Begun::Other(reign, ts(1, 5)) };
    let (base, me) = (RunName::base(), Reign { instance: instance(1), replid: replid(0x11) });
    let base = RunRef::of(&base, me, ts(2, 0));
    let ranges = [
        AtRange { run: other, from: at, to: at },
        AtRange { run: own, from: At { ts: ts(1, 0), index: 0 }, to: At { ts: ts(1, 9), index: 70_000 } },
        AtRange { run: base, from: At { ts: Timestamp::ZERO, index: 3 }, to: At { ts: Timestamp::ZERO, index: 4 } },
    ];
    ranges.iter().for_each(|range| push_range(&mut places, range));
    let values = Values::new(2, &items);
    let assign = |reasserted| Op::Assign { path: Path::Element(&element), value: Value::Bytes(b"set"), reasserted };
    let ops = vec![
        Op::ListInsert { run: own, first: 0, values },
        Op::ListInsert { run: nested, first: 7, values },
        Op::ListRemove { ranges: Ranges::new(3, &places) },
        assign(false),
        assign(true),
    ];
    assert_golden_effects(ops, include_str!("../../tests/fixtures/wire-v1/group-lists.hex"));
}

/// Added later: joining, what is known of who was forgotten, and values that are captured later.
#[test]
fn records_of_membership() {
    let group = first(&mut StreamContext::new());
    let (view, _) = GroupView::parse(&group).expect("valid");
    let mut joins = Vec::new();
    Record::joins(&mut joins, true, &clock(), [view.body].into_iter());
    joins.extend_from_slice(&group);
    let (mut renewed, mut settled) = (Vec::new(), Vec::new());
    let mut changed = Vec::new();
    Record::changed(&mut changed, 300, b"key");
    Record::renewed(&mut renewed);
    Record::settled(&mut settled, instance(3));
    let files = [
        (joins, include_str!("../../tests/fixtures/wire-v1/record-joins.hex")),
        (renewed, include_str!("../../tests/fixtures/wire-v1/record-renewed.hex")),
        (changed, include_str!("../../tests/fixtures/wire-v1/record-changed.hex")),
        (settled, include_str!("../../tests/fixtures/wire-v1/record-settled.hex")),
    ];
    for (written, file) in files {
        assert_golden(&written, file);
        Record::parse(&bytes(file)).expect("valid");
    }
}
