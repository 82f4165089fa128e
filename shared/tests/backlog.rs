//! The backlog against a model: a list of entries and a sum.

use proptest::collection::vec;
use proptest::prelude::*;
use syncer_shared::backlog::Backlog;
use syncer_shared::clock::VectorClock;
use syncer_shared::effect::{Effect, Op, TtlNote};
use syncer_shared::group::{self, Frame, GroupBuilder};
use syncer_shared::instance::{InstanceId, InstanceSet};
use syncer_shared::origin::Origin;
use syncer_shared::replid::ReplId;
use syncer_shared::timestamp::Timestamp;

fn origin(author: u8) -> Origin {
    Origin::from_index(u16::from(author))
}

fn instance(author: u8) -> InstanceId {
    InstanceId::new(author + 1).expect("in range")
}

/// One group of `author` at `ts` with a value of `len` bytes.
fn frame(author: u8, ts: u64, len: usize) -> Vec<u8> {
    let mut group = GroupBuilder::new();
    let value = vec![author; len];
    group.push(&Effect { db: 0, key: b"k", ttl: TtlNote::None, op: Op::Set { value: &value, expire_at: None } });
    let mut frame = Vec::new();
    let replid = ReplId::from_bytes([author; 20]);
    group::encode_frame(
        &mut frame,
        instance(author),
        &replid,
        Timestamp::ZERO,
        Timestamp::from_bits(ts),
        &[0],
        group.body(),
    );
    frame
}

/// What the backlog should hold.
#[derive(Default)]
struct Model {
    first: u64,
    end: u64,
    entries: Vec<(u8, u64, Vec<u8>)>,
    floor: VectorClock,
}

impl Model {
    fn append(&mut self, capacity: u64, author: u8, ts: u64, frame: Vec<u8>) {
        self.end += frame.len() as u64;
        self.entries.push((author, ts, frame));
        self.evict(capacity);
    }

    fn evict(&mut self, capacity: u64) {
        while self.end - self.first > capacity && self.entries.len() > 1 {
            let (author, ts, frame) = self.entries.remove(0);
            self.first += frame.len() as u64;
            self.floor.raise(origin(author), Timestamp::from_bits(ts));
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.entries.iter().flat_map(|(_, _, frame)| frame.clone()).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append { author: u8, len: usize },
    Read { from: prop::sample::Index, max_bytes: usize, wanted: u64 },
    Resize(u64),
    Seek([u64; 3]),
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![8 => 0..200_usize, 2 => 1000..40_000_usize, 1 => 200_000..400_000_usize];
    prop_oneof![
        6 => (0..3_u8, len).prop_map(|(author, len)| Step::Append { author, len }),
        3 => (any::<prop::sample::Index>(), prop_oneof![0..500_usize, Just(usize::MAX)], 0..16_u64)
            .prop_map(|(from, max_bytes, wanted)| Step::Read { from, max_bytes, wanted }),
        1 => prop_oneof![0..2000_u64, 100_000..1_000_000_u64].prop_map(Step::Resize),
        1 => any::<[u8; 3]>().prop_map(|highs| Step::Seek(highs.map(u64::from))),
    ]
}

/// The frames of a chunk, and the offsets they stand for.
fn read_back(frames: &[u8], from: u64) -> (Vec<u8>, u64) {
    let (mut groups, mut rest, mut offset) = (Vec::new(), frames, from);
    while !rest.is_empty() {
        let (frame, tail) = Frame::parse(rest).expect("whole frames");
        offset += frame.advance();
        if let Frame::Group(group) = frame {
            groups.extend_from_slice(group.frame);
        }
        rest = tail;
    }
    (groups, offset)
}

fn check_read(backlog: &mut Backlog, model: &Model, from: u64, at: usize, max_bytes: usize, wanted: InstanceSet) {
    let chunk = backlog.read(from, max_bytes, wanted).expect("held");
    let (groups, next) = read_back(&chunk.assemble(), from);
    assert_eq!((chunk.from, chunk.next, chunk.end), (from, next, model.end));
    assert!(
        chunk.len() <= max_bytes || model.entries[at].2.len() == chunk.len(),
        "more than one entry above the limit"
    );
    assert!(!chunk.is_empty() || at == model.entries.len(), "nothing read though there is something");
    let (mut expected, mut offset) = (Vec::new(), from);
    for (author, _, frame) in &model.entries[at..] {
        if offset < next && wanted.contains(instance(*author)) {
            expected.extend_from_slice(frame);
        }
        offset += frame.len() as u64;
    }
    assert_eq!(groups, expected);
}

proptest! {
    #[test]
    fn behaves_like_a_list(capacity in prop_oneof![0..3000_u64, 100_000..1_000_000_u64], steps in vec(step(), 1..120)) {
        let (mut backlog, mut model, mut capacity) = (Backlog::new(capacity), Model::default(), capacity);
        let mut ts = 0;
        for step in steps {
            match step {
                Step::Append { author, len } => {
                    ts += 1;
                    let frame = frame(author, ts, len);
                    model.append(capacity, author, ts, frame.clone());
                    let end = backlog.append(&frame, origin(author), instance(author), Timestamp::from_bits(ts));
                    prop_assert_eq!(end, model.end);
                }
                Step::Resize(bytes) => {
                    capacity = bytes;
                    backlog.resize(bytes);
                    model.evict(capacity);
                }
                Step::Read { from, max_bytes, wanted } => {
                    let at = from.index(model.entries.len() + 1);
                    let from = model.first + model.entries[..at].iter().map(|(_, _, f)| f.len() as u64).sum::<u64>();
                    let wanted = if wanted == 15 { InstanceSet::ALL } else { InstanceSet::from_bits(wanted) };
                    prop_assert!(backlog.holds(from).is_ok());
                    check_read(&mut backlog, &model, from, at, max_bytes, wanted);
                }
                Step::Seek(highs) => {
                    let mut clock = VectorClock::default();
                    (0_u8..).zip(highs).for_each(|(author, high)| clock.set(origin(author), Timestamp::from_bits(high)));
                    let found = backlog.seek(&clock, |_| true);
                    prop_assert_eq!(found.is_some(), clock.covers(&model.floor));
                    if let Some(offset) = found {
                        prop_assert!(backlog.holds(offset).is_ok());
                        let mut at = model.first;
                        for (author, ts, frame) in &model.entries {
                            prop_assert!(at >= offset || clock.has(origin(*author), Timestamp::from_bits(*ts)), "skips what is lacking");
                            at += frame.len() as u64;
                        }
                    }
                }
            }
            prop_assert_eq!((backlog.first_offset(), backlog.end_offset()), (model.first, model.end));
            prop_assert_eq!(backlog.floor(), &model.floor);
            prop_assert_eq!(backlog.evicted_any(), model.first > 0);
        }
        let all = backlog.read(model.first, usize::MAX, InstanceSet::ALL).expect("held").assemble();
        prop_assert_eq!(&all[..], &model.bytes()[..]);
    }
}

#[test]
fn an_entry_larger_than_the_backlog_stays_until_the_next() {
    let mut backlog = Backlog::new(1000);
    let (small, huge) = (frame(0, 1, 10), frame(0, 2, 500_000));
    backlog.append(&small, origin(0), instance(0), Timestamp::from_bits(1));
    let end = backlog.append(&huge, origin(0), instance(0), Timestamp::from_bits(2));
    assert_eq!((backlog.first_offset(), backlog.bytes()), (small.len() as u64, huge.len() as u64));
    let chunk = backlog.read(backlog.first_offset(), 100, InstanceSet::ALL).expect("held");
    assert_eq!(chunk.len(), huge.len(), "one entry is given whole, whatever the limit");
    backlog.append(&frame(0, 3, 10), origin(0), instance(0), Timestamp::from_bits(3));
    assert_eq!(backlog.first_offset(), end);
    assert_eq!(backlog.floor().get(origin(0)), Timestamp::from_bits(2));
}

#[test]
fn a_position_that_is_gone_is_its_own_answer() {
    let mut backlog = Backlog::new(300);
    for ts in 1..=10 {
        backlog.append(&frame(0, ts, 50), origin(0), instance(0), Timestamp::from_bits(ts));
    }
    let error = backlog.read(0, 1000, InstanceSet::ALL).expect_err("evicted");
    assert_eq!((error.asked, error.first, error.end), (0, backlog.first_offset(), backlog.end_offset()));
    assert!(backlog.holds(backlog.end_offset() + 1).is_err());
    assert!(backlog.holds(backlog.first_offset() + 1).is_err(), "no entry begins there");
}

#[test]
fn what_a_reader_holds_survives_eviction() {
    let mut backlog = Backlog::new(1 << 20);
    for ts in 1..=1000 {
        backlog.append(&frame(0, ts, 100), origin(0), instance(0), Timestamp::from_bits(ts));
    }
    let chunk = backlog.read(0, usize::MAX, InstanceSet::ALL).expect("held");
    backlog.forget_before_end();
    assert_eq!(backlog.bytes(), 0);
    let (groups, next) = read_back(&chunk.assemble(), 0);
    assert_eq!((groups.len() as u64, next), (next, backlog.end_offset()));
}

#[test]
fn long_logs_are_found_by_clock_without_much_twice() {
    let mut backlog = Backlog::new(64 << 20);
    for ts in 1..=20_000 {
        backlog.append(
            &frame((ts % 3) as u8, ts, 100),
            origin((ts % 3) as u8),
            instance((ts % 3) as u8),
            Timestamp::from_bits(ts),
        );
    }
    let mut clock = VectorClock::default();
    (0..3).for_each(|author| clock.set(origin(author), Timestamp::from_bits(15_000)));
    let offset = backlog.seek(&clock, |_| true).expect("held");
    let entry = frame(0, 1, 100).len() as u64;
    assert!(offset <= 15_000 * (entry + 8) && offset + (80 << 10) > 15_000 * entry, "{offset}");
}
