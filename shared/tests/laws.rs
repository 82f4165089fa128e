//! The laws of the merge: any causal order of delivery, any duplication, any pruning schedule give the same dataset (I-4, I-5, I-6).
//!
//! Groups are made by hand, with contexts that say what their authors had seen, and effects that need not fit any dataset: more than
//! clients can do. Two shards apply them, each in its own order.

mod arbitrary;

use std::collections::BTreeMap;

use arbitrary::streams::OwnedStream;
use arbitrary::{Owned, OwnedOp, OwnedRun, build, patch, ranges, side, streams, values};
use proptest::collection::vec;
use proptest::prelude::*;
use syncer_shared::context::{Entry as ClockEntry, StreamContext};
use syncer_shared::effect::{ClearReason, FlushScope, Kind, TtlNote};
use syncer_shared::group;
use syncer_shared::instance::InstanceId;
use syncer_shared::list::wire::Begun;
use syncer_shared::list::{At, Reign, RunName, Side};
use syncer_shared::memory::{Entry, MemoryKeyspace};
use syncer_shared::metadata::Payload;
use syncer_shared::number::Number;
use syncer_shared::replid::ReplId;
use syncer_shared::report::{self, MemberReport};
use syncer_shared::shard::{Batch, Outcome, Shard, ShardConfig, Start};
use syncer_shared::stream::StreamId;
use syncer_shared::timestamp::Timestamp;
use syncer_shared::token::ClockToken;

const AUTHORS: usize = 3;
const NOW_MS: u64 = 1_700_000_000_000;

fn instance(id: usize) -> InstanceId {
    InstanceId::new(id as u8 + 1).expect("in range")
}

fn replid(id: usize) -> ReplId {
    ReplId::from_bytes([(7 * (id as u8 + 1)) % 5; 20])
}

/// What an author does.
#[derive(Clone, Debug)]
enum Step {
    Write(usize, Vec<Owned>),
    /// It applies everything that another has.
    See(usize, usize),
    Report(usize),
}

fn effect() -> impl Strategy<Value = Owned> {
    let name = || prop_oneof![Just(b"a".to_vec()), Just(b"b".to_vec())];
    let text = || prop_oneof![Just(b"5".to_vec()), Just(b"0.25".to_vec()), Just(b"x".to_vec()), Just(b"y".to_vec())];
    let kind =
        prop_oneof![Just(Kind::String), Just(Kind::Hash), Just(Kind::Set), Just(Kind::SortedSet), Just(Kind::Opaque)];
    let number_kind = prop_oneof![Just(Kind::String), Just(Kind::Hash), Just(Kind::SortedSet)];
    let at = || prop_oneof![Just(10_i64), Just(20), Just(30)];
    let delta = prop_oneof![
        4 => (-3..9_i64).prop_map(Number::Integer),
        2 => prop_oneof![Just(0.5), Just(0.1), Just(1e16), Just(-1e16)].prop_map(Number::Float),
        1 => Just(Number::Integer(i64::MAX)),
    ];
    let places = || vec((0..AUTHORS, side(), prop::option::of(0..3_u32)), 1..3);
    let reason = prop_oneof![Just(ClearReason::Deleted), Just(ClearReason::Expired), Just(ClearReason::Evicted)];
    let op = prop_oneof![
        3 => (text(), prop::option::of(at())).prop_map(|(value, at)| OwnedOp::Set(value, at)),
        6 => (kind.clone(), name(), text(), -2..3_i8, prop::bool::weighted(0.2))
            .prop_map(|(kind, name, text, score, again)| OwnedOp::Assign(kind, name, text, f64::from(score), again)),
        5 => (number_kind, name(), delta).prop_map(|(kind, name, delta)| OwnedOp::Increment(kind, name, delta)),
        6 => patch(90).prop_map(|patch| OwnedOp::Patch(patch, Vec::new())),
        3 => (kind, name()).prop_map(|(kind, name)| OwnedOp::Remove(kind, name)),
        12 => streams::stream().prop_map(OwnedOp::Stream),
        5 => (side(), prop::option::of(0..3_u32), vec(text(), 1..4)).prop_map(|(side, anchor, items)| list_insert(side, anchor, &items)),
        2 => (0..3_u32, text(), prop::bool::weighted(0.2))
            .prop_map(|(at, text, again)| OwnedOp::Assign(Kind::List, pool(at), text, 0.0, again)),
        3 => places().prop_map(|places| list_remove(&places)),
        2 => reason.prop_map(OwnedOp::Clear),
        1 => at().prop_map(OwnedOp::Expire),
        1 => Just(OwnedOp::Persist),
        1 => prop_oneof![Just(FlushScope::All), Just(FlushScope::Db(0))].prop_map(OwnedOp::Flush),
    ];
    let ttl = prop_oneof![4 => Just(TtlNote::None), 1 => Just(TtlNote::Created), 2 => at().prop_map(TtlNote::Kept)];
    (prop::bool::weighted(0.8), op, ttl).prop_map(|(hot, op, ttl)| {
        let is_value =
            matches!(op, OwnedOp::Stream(_) | OwnedOp::Assign(..) | OwnedOp::Increment(..) | OwnedOp::Remove(..))
                || matches!(op, OwnedOp::Patch(..) | OwnedOp::ListInsert(..) | OwnedOp::ListRemove(..));
        let key = if hot { b"k".to_vec() } else { b"l".to_vec() };
        Owned { db: 0, key, ttl: if is_value { ttl } else { TtlNote::None }, op }
    })
}

/// Where all runs of these authors begin: they go on for ever.
const BEGUN: Timestamp = Timestamp::from_bits(5);

fn pool_run() -> RunName {
    RunName::new(&[], Side::Before, BEGUN, Reign { instance: instance(0), replid: replid(0) })
}

fn pool_at(index: u32) -> At {
    At { ts: Timestamp::from_bits(6), index }
}

/// A position that everybody assigns at.
fn pool(index: u32) -> Vec<u8> {
    pool_run().element(pool_at(index)).to_vec()
}

fn anchor(index: Option<u32>) -> Vec<u8> {
    index.map(|index| pool_run().segments(pool_at(index)).to_vec()).unwrap_or_default()
}

fn list_insert(side: Side, at: Option<u32>, items: &[Vec<u8>]) -> OwnedOp {
    OwnedOp::ListInsert(OwnedRun { anchor: anchor(at), side, begun: Begun::Own(BEGUN) }, 0, values(items))
}

/// All of some runs, the pool with them.
fn list_remove(places: &[(usize, Side, Option<u32>)]) -> OwnedOp {
    let whole = |(author, side, at): &(usize, Side, Option<u32>)| {
        let reign = Reign { instance: instance(*author), replid: replid(*author) };
        let run = OwnedRun { anchor: anchor(*at), side: *side, begun: Begun::Other(reign, BEGUN) };
        (run, At { ts: Timestamp::ZERO, index: 0 }, At { ts: Timestamp::MAX, index: u32::MAX })
    };
    OwnedOp::ListRemove(ranges(&places.iter().map(whole).collect::<Vec<_>>()))
}

/// Elements that one group makes in one run have their own places.
fn placed(mut effects: Vec<Owned>) -> Vec<Owned> {
    for (place, effect) in (0..).zip(&mut effects) {
        if let OwnedOp::ListInsert(_, first, _) = &mut effect.op {
            *first = place * 10;
        }
    }
    effects
}

/// Of one string, in part and whole.
fn string_effect() -> impl Strategy<Value = Owned> {
    let text = || prop_oneof![Just(b"5".to_vec()), Just(b"text".to_vec()), Just(vec![b'x'; 50])];
    let op = prop_oneof![
        1 => text().prop_map(|value| OwnedOp::Set(value, None)),
        1 => (text(), prop::bool::weighted(0.2))
            .prop_map(|(text, again)| OwnedOp::Assign(Kind::String, Vec::new(), text, 0.0, again)),
        1 => (1..9_i64).prop_map(|by| OwnedOp::Increment(Kind::String, Vec::new(), Number::Integer(by))),
        9 => patch(90).prop_map(|patch| OwnedOp::Patch(patch, Vec::new())),
        1 => Just(OwnedOp::Clear(ClearReason::Deleted)),
    ];
    op.prop_map(|op| Owned { db: 0, key: b"k".to_vec(), ttl: TtlNote::None, op })
}

fn step(effect: BoxedStrategy<Owned>) -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..AUTHORS, vec(effect, 1..4)).prop_map(|(author, effects)| Step::Write(author, placed(effects))),
        3 => (0..AUTHORS, 0..AUTHORS).prop_map(|(author, other)| Step::See(author, other)),
        2 => (0..AUTHORS).prop_map(Step::Report),
    ]
}

/// What the authors have made: their frames in order, and their reports.
struct History {
    frames: [Vec<Vec<u8>>; AUTHORS],
    reports: Vec<(InstanceId, Vec<u8>)>,
}

#[derive(Default)]
struct Author {
    clock: BTreeMap<ReplId, (InstanceId, Timestamp)>,
    context: StreamContext,
    last: Timestamp,
    /// The highest id that it has known in the stream of each key, since it last emptied that.
    stream_ids: BTreeMap<Vec<u8>, StreamId>,
}

impl Author {
    /// No author has an entry above the last id of its stream, but what it emptied begins anew: servers see to that, and where entries are asserted
    /// again Syncer does. So where this group leaves a lower one (an older entry, or by hand), it ends with the highest.
    fn with_last_ids(&mut self, effects: &[Owned]) -> Vec<Owned> {
        let mut left: BTreeMap<&[u8], StreamId> = BTreeMap::new();
        for effect in effects {
            match effect.op {
                OwnedOp::Clear(_) => drop((self.stream_ids.remove(&effect.key), left.remove(&effect.key[..]))),
                OwnedOp::Flush(_) => (self.stream_ids, left) = Default::default(),
                OwnedOp::Stream(OwnedStream::Entry(id, ..) | OwnedStream::Last(id)) => {
                    let highest = self.stream_ids.entry(effect.key.clone()).or_insert(id);
                    *highest = id.max(*highest);
                    left.insert(&effect.key, id);
                }
                _ => {}
            }
        }
        let lower = |(key, left): (&[u8], StreamId)| {
            let highest = self.stream_ids.get(key).copied().filter(|highest| *highest > left)?;
            let op = OwnedOp::Stream(OwnedStream::Last(highest));
            Some(Owned { db: 0, key: key.to_vec(), ttl: TtlNote::None, op })
        };
        let last_ids: Vec<Owned> = left.into_iter().filter_map(lower).collect();
        effects.iter().cloned().chain(last_ids).collect()
    }

    fn entries(&self) -> impl Iterator<Item = ClockEntry> + '_ {
        self.clock.iter().map(|(replid, (instance, ts))| (*replid, *instance, *ts))
    }

    fn write(&mut self, me: usize, effects: &[Owned], frames: &mut Vec<Vec<u8>>) {
        let highest = self.clock.values().map(|(_, ts)| *ts).max().unwrap_or_default();
        let ts = Timestamp::from_bits(highest.max(self.last).bits().max(Timestamp::from_ms(1000).bits()) + 1);
        let (mut change, mut frame) = (Vec::new(), Vec::new());
        let seen: Vec<ClockEntry> = self.entries().filter(|(name, ..)| *name != replid(me)).collect();
        self.context.encode_change(seen.into_iter(), &mut change);
        group::encode_frame(&mut frame, instance(me), &replid(me), self.last, ts, &change, build(effects).body());
        self.clock.insert(replid(me), (instance(me), ts));
        self.last = ts;
        frames.push(frame);
    }
}

fn author_all(steps: &[Step]) -> History {
    let mut authors: [Author; AUTHORS] = Default::default();
    let mut history = History { frames: Default::default(), reports: Vec::new() };
    let control = |op| Owned { db: 0, key: Vec::new(), ttl: TtlNote::None, op };
    for (me, author) in authors.iter_mut().enumerate() {
        author.write(me, &[control(OwnedOp::Reign), control(OwnedOp::Join(instance(me)))], &mut history.frames[me]);
    }
    for step in steps {
        match step {
            Step::Write(me, effects) => {
                let effects = authors[*me].with_last_ids(effects);
                authors[*me].write(*me, &effects, &mut history.frames[*me]);
            }
            Step::See(me, other) => {
                for (replid, (instance, ts)) in authors[*other].clock.clone() {
                    let known = authors[*me].clock.entry(replid).or_insert((instance, ts));
                    known.1 = known.1.max(ts);
                }
                for (key, id) in authors[*other].stream_ids.clone() {
                    let known = authors[*me].stream_ids.entry(key).or_insert(id);
                    *known = id.max(*known);
                }
            }
            Step::Report(me) => {
                let clock: ClockToken = authors[*me].entries().collect();
                let mut bytes = Vec::new();
                report::encode(
                    &[MemberReport { instance: instance(*me), durable: clock.clone(), applied: clock }],
                    &mut bytes,
                );
                history.reports.push((instance(*me), bytes));
            }
        }
    }
    history
}

/// A shard that only applies.
struct Observer {
    shard: Shard,
    keyspace: MemoryKeyspace,
    done: [usize; AUTHORS],
    reports: usize,
}

impl Observer {
    fn new() -> Self {
        let mut config = ShardConfig::new(instance(AUTHORS));
        config.drift_ms_max = u64::MAX;
        let shard = Shard::new(config, ReplId::from_bytes([0xee; 20]), Start::Empty, NOW_MS);
        // Effects need not fit here: a delivery may come, and be pruned, before an entry that its author had not seen.
        let mut keyspace = MemoryKeyspace::default();
        keyspace.holds_lone_deliveries = true;
        Self { shard, keyspace, done: [0; AUTHORS], reports: 0 }
    }

    /// Tries the next group of an author; whether it was its turn.
    fn apply(&mut self, history: &History, author: usize) -> bool {
        let Some(frame) = history.frames[author].get(self.done[author]) else { return false };
        let is_in = self.apply_frame(author, frame);
        self.done[author] += usize::from(is_in);
        is_in
    }

    fn apply_frame(&mut self, author: usize, frame: &[u8]) -> bool {
        let (peer, replid, next) = (instance(author), replid(author), frame.len() as u64);
        self.shard.set_position(peer, replid, 0).expect("no reign has ended");
        let batch = Batch { peer, replid, from: 0, next, end: next, source_ms: NOW_MS, frames: frame };
        let applied = self.shard.apply(&batch, &mut self.keyspace, NOW_MS, &mut || true).expect("a valid group");
        applied.outcome == Outcome::Done
    }

    /// One choice of a schedule.
    fn act(&mut self, history: &History, choice: u8) {
        let author = usize::from(choice) % AUTHORS;
        match choice / 32 {
            0..5 => drop(self.apply(history, author)),
            5 => {
                if let Some(again) = self.done[author].checked_sub(1) {
                    let before = self.keyspace.clone();
                    assert!(self.apply_frame(author, &history.frames[author][again]));
                    assert_eq!(self.keyspace, before, "I-2: a group that comes twice changes nothing");
                }
            }
            6 => {
                if let Some((from, report)) = history.reports.get(self.reports) {
                    self.reports += 1;
                    self.shard.accept_report(*from, report, NOW_MS).expect("a valid report");
                }
            }
            _ => self.prune(),
        }
    }

    /// The dataset, but for what is still to be handed out to groups: whoever has seen less hands out more.
    fn shown(&self) -> BTreeMap<(u32, Vec<u8>), Entry> {
        let mut entries = self.keyspace.entries().clone();
        for entry in entries.values_mut() {
            entry.elements.retain(|_, payload| *payload != Payload::Late);
        }
        entries.retain(|_, entry| !entry.elements.is_empty());
        entries
    }

    fn prune(&mut self) {
        let before = self.keyspace.clone();
        self.shard.prune(usize::MAX);
        assert_eq!(self.keyspace, before, "I-6: pruning changes no view");
    }

    fn run(&mut self, history: &History, schedule: &[u8]) {
        schedule.iter().for_each(|choice| self.act(history, *choice));
        // Whatever is left, in turn.
        while (0..AUTHORS).any(|author| self.apply(history, author)) {}
        let all = (0..AUTHORS).all(|author| self.done[author] == history.frames[author].len());
        assert!(all, "causal delivery never gets stuck");
    }
}

fn converge(steps: &[Step], first: &[u8], second: &[u8]) -> Result<(), TestCaseError> {
    let history = author_all(steps);
    let (mut one, mut other) = (Observer::new(), Observer::new());
    one.run(&history, first);
    other.run(&history, second);
    prop_assert_eq!(one.shown(), other.shown());
    prop_assert_eq!(one.keyspace.digest(), other.keyspace.digest());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_order_and_every_pruning_give_the_same_dataset(
        steps in vec(step(effect().boxed()), 1..40),
        first in vec(any::<u8>(), 0..150),
        second in vec(any::<u8>(), 0..150),
    ) {
        converge(&steps, &first, &second)?;
    }

    #[test]
    fn every_order_of_patches_gives_the_same_string(
        steps in vec(step(string_effect().boxed()), 1..40),
        first in vec(any::<u8>(), 0..150),
        second in vec(any::<u8>(), 0..150),
    ) {
        converge(&steps, &first, &second)?;
    }
}
