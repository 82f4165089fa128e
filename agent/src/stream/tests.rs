//! The machine against a source and a target that do what real ones may do.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use syncer_shared::group::{Frame, encode_skip};
use syncer_shared::replid::ReplId;

use super::*;
use crate::protocol::{Applied, ApplyHead, Chunk, Code, Dependency, Position, Progress, Refusal};

const QUEUE_BYTES: usize = 4000;

fn limits() -> StreamLimits {
    StreamLimits {
        queue_bytes: QUEUE_BYTES,
        apply_slice: Duration::from_micros(300),
        read_timeout: Duration::from_secs(1),
        read_grace: Duration::from_secs(5),
    }
}

fn replid() -> ReplId {
    ReplId::from_bytes([7; 20])
}

fn at(offset: u64) -> Position {
    Position { replid: replid(), offset }
}

/// A frame that says which one it is.
fn frame(number: u32, padding: usize) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u32_le(8 + padding as u32);
    frame.put_u32_le(number);
    frame.put_bytes(b'.', padding);
    frame.freeze()
}

/// The numbers of the frames in `bytes`; panics when a frame was cut.
fn numbers(mut bytes: &[u8]) -> Vec<u32> {
    let mut numbers = Vec::new();
    while !bytes.is_empty() {
        let len = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
        numbers.push(u32::from_le_bytes(bytes[4..8].try_into().unwrap()));
        bytes = &bytes[len..];
    }
    numbers
}

fn refusal(code: Code) -> Refusal {
    Refusal { code, text: "no".into() }
}

/// A backlog of frames, some of which are not wanted; it answers as many reads as it was sent.
struct Source {
    frames: VecDeque<(u32, usize, bool)>,
    offset: u64,
    reads: usize,
}

impl Source {
    fn answer(&mut self, frames_max: usize) -> Option<Chunk> {
        self.reads = self.reads.checked_sub(1)?;
        let from = self.offset;
        let mut bytes = BytesMut::new();
        for _ in 0..frames_max.min(self.frames.len()) {
            let (number, padding, wanted) = self.frames.pop_front()?;
            let frame = frame(number, padding);
            self.offset += frame.len() as u64;
            if wanted {
                bytes.extend_from_slice(&frame);
            } else {
                let mut skip = Vec::new();
                encode_skip(&mut skip, frame.len() as u64);
                bytes.extend_from_slice(&skip);
            }
        }
        let (next, frames) = (self.offset, bytes.freeze());
        Some(Chunk { from, next, end: next, source_now_ms: 1, report_now: false, frames })
    }
}

/// Checks that it gets each frame once and in order, and stops in the middle when it feels like it.
struct Target {
    position: u64,
    applied: Vec<u32>,
    waiting: VecDeque<(ApplyHead, Bytes)>,
}

impl Target {
    fn answer(&mut self, stop_after: Option<usize>, wait: bool, rival: bool) -> Option<Result<Applied, Refusal>> {
        let (head, frames) = self.waiting.pop_front()?;
        if rival {
            // Another agent applies the same batch just before us.
            self.apply(&head, &frames, None);
        }
        if head.from.offset != self.position {
            return Some(Err(refusal(Code::Position(Some(at(self.position))))));
        }
        let (groups, whole) = self.apply(&head, &frames, stop_after);
        let progress = match (whole, wait) {
            (true, _) => Progress::Done,
            (false, true) => Progress::Wait(Some(Dependency { replid: replid(), ts: 1 })),
            (false, false) => Progress::Slice,
        };
        Some(Ok(Applied { progress, offset: self.position, groups, elapsed_us: 100, clock: None }))
    }

    fn apply(&mut self, head: &ApplyHead, mut frames: &[u8], stop_after: Option<usize>) -> (u64, bool) {
        if head.from.offset != self.position {
            return (0, false);
        }
        let mut count = 0;
        while !frames.is_empty() {
            if stop_after == Some(count as usize) {
                return (count, false);
            }
            let len = u32::from_le_bytes(frames[..4].try_into().unwrap()) as usize;
            if let Ok((Frame::Skip(skip), _)) = Frame::parse(frames) {
                self.position += skip.bytes;
                frames = &frames[len..];
                continue;
            }
            let number = numbers(&frames[..len])[0];
            let next = self.applied.last().map_or(0, |last| last + 1);
            assert_eq!(number, next, "each frame comes once and in its turn");
            self.applied.push(number);
            frames = &frames[len..];
            self.position += len as u64;
            count += 1;
        }
        assert_eq!(self.position, head.next, "the extents of the frames add up");
        (count, true)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Chunk(usize),
    Apply { stop_after: Option<usize>, wait: bool, rival: bool },
    Clock,
    Pass(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_usize..6).prop_map(Step::Chunk),
        (proptest::option::of(0_usize..4), any::<bool>(), proptest::bool::weighted(0.2))
            .prop_map(|(stop_after, wait, rival)| Step::Apply { stop_after, wait, rival }),
        Just(Step::Clock),
        (1_u64..200).prop_map(Step::Pass),
    ]
}

struct World {
    stream: Stream,
    source: Source,
    target: Target,
    now: Instant,
}

impl World {
    fn new(frames: &[(usize, bool)]) -> Self {
        let mut numbers = 0..;
        let mut number = |wanted: bool| if wanted { numbers.next().unwrap_or(0) } else { u32::MAX };
        let frames = frames.iter().map(|&(padding, wanted)| (number(wanted), padding, wanted)).collect();
        let now = Instant::now();
        Self {
            stream: Stream::new(limits(), at(100), 100, now),
            source: Source { frames, offset: 100, reads: 0 },
            target: Target { position: 100, applied: Vec::new(), waiting: VecDeque::new() },
            now,
        }
    }

    fn settle(&mut self) {
        while let Some(action) = self.stream.poll(self.now) {
            match action {
                Action::Read { count, .. } => self.source.reads += count,
                Action::Apply { head, frames } => {
                    assert!(self.target.waiting.len() < 2, "at most two batches in flight");
                    self.target.waiting.push_back((head, frames.concat().into()));
                }
                Action::Report => {}
            }
        }
        self.assert_sleeps();
    }

    /// With nothing to do, it does not ask to be called at once.
    fn assert_sleeps(&self) {
        let overdue = self.stream.check(self.now).is_err();
        assert!(overdue || self.stream.next_wake().is_none_or(|wake| wake > self.now), "{:?}", self.stream);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Chunk(frames_max) if self.stream.takes_chunks() => {
                if let Some(chunk) = self.source.answer(*frames_max) {
                    self.stream.on_chunk(Ok(chunk), self.now).unwrap();
                }
            }
            Step::Chunk(_) => {}
            Step::Apply { stop_after, wait, rival } => {
                if let Some(reply) = self.target.answer(*stop_after, *wait, *rival) {
                    self.stream.on_applied(reply, self.now).unwrap();
                }
            }
            Step::Clock => self.stream.on_clock(|_| true),
            Step::Pass(ms) => self.now += Duration::from_millis(*ms),
        }
        self.settle();
    }
}

proptest! {
    #[test]
    fn every_frame_arrives_once_and_in_order(
        frames in proptest::collection::vec((0_usize..900, proptest::bool::weighted(0.7)), 0..120),
        steps in proptest::collection::vec(any_step(), 0..200),
    ) {
        let mut world = World::new(&frames);
        world.settle();
        for step in &steps {
            world.step(step);
            // Six frames of at most 908 bytes come with one reply.
            prop_assert!(world.stream.held_bytes() <= QUEUE_BYTES + 6 * 908);
        }
        // Then all goes well, and everything must arrive.
        for _ in 0..1000 {
            world.step(&Step::Chunk(5));
            world.step(&Step::Apply { stop_after: None, wait: false, rival: false });
            world.step(&Step::Clock);
            world.step(&Step::Pass(30));
        }
        let wanted = frames.iter().filter(|(_, wanted)| *wanted).count() as u32;
        prop_assert_eq!(&world.target.applied, &(0..wanted).collect::<Vec<_>>());
        prop_assert_eq!(world.target.position, world.source.offset);
    }

    #[test]
    fn survives_nonsense(replies in proptest::collection::vec(any_nonsense(), 0..100)) {
        let mut now = Instant::now();
        let mut stream = Stream::new(limits(), at(100), 100, now);
        for reply in replies {
            let result = match reply {
                Nonsense::Chunk(chunk) => stream.on_chunk(chunk, now),
                Nonsense::Applied(applied) => stream.on_applied(applied, now),
            };
            let _ = (stream.check(now), stream.next_wake(), stream.condition(now));
            if result.is_err() {
                stream = Stream::new(limits(), at(100), 100, now);
            }
            let mut actions = 0;
            while stream.poll(now).is_some() {
                actions += 1;
                prop_assert!(actions < 10, "polling must come to an end");
            }
            now += Duration::from_millis(7);
        }
    }
}

#[derive(Clone, Debug)]
enum Nonsense {
    Chunk(Result<Chunk, Refusal>),
    Applied(Result<Applied, Refusal>),
}

fn any_nonsense() -> impl Strategy<Value = Nonsense> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
    let offset = || prop_oneof![4 => 90_u64..500, 1 => any::<u64>()];
    let chunk = (Just(100_u64), offset(), any::<u64>(), any::<bool>(), bytes).prop_map(
        |(from, next, end, report_now, frames)| Chunk {
            from,
            next: next.max(from),
            end,
            source_now_ms: end,
            report_now,
            frames,
        },
    );
    let progress = prop_oneof![Just(Progress::Done), Just(Progress::Slice), Just(Progress::Wait(None))];
    let applied =
        (progress, offset(), any::<u64>(), any::<u64>()).prop_map(|(progress, offset, groups, elapsed_us)| Applied {
            progress,
            offset,
            groups,
            elapsed_us,
            clock: None,
        });
    let code = prop_oneof![
        offset().prop_map(|offset| Code::Position(Some(at(offset)))),
        Just(Code::Position(None)),
        Just(Code::Gap),
        Just(Code::Other)
    ];
    let code = code.prop_map(refusal).boxed();
    prop_oneof![
        4 => chunk.prop_map(|chunk| Nonsense::Chunk(Ok(chunk))),
        4 => applied.prop_map(|applied| Nonsense::Applied(Ok(applied))),
        1 => code.clone().prop_map(|code| Nonsense::Chunk(Err(code))),
        1 => code.prop_map(|code| Nonsense::Applied(Err(code))),
    ]
}

/// Feeds a chunk of `count` frames.
fn feed(stream: &mut Stream, from: u64, numbers: std::ops::Range<u32>, now: Instant) -> u64 {
    let frames: Bytes = numbers.map(|number| frame(number, 92)).collect::<Vec<_>>().concat().into();
    let next = from + frames.len() as u64;
    let chunk = Chunk { from, next, end: next, source_now_ms: 1, report_now: false, frames };
    stream.on_chunk(Ok(chunk), now).unwrap();
    next
}

/// A round trip of many milliseconds must not hold up a source that answers in none, nor one batch the next.
#[test]
fn several_reads_and_two_batches_are_in_flight() {
    let now = Instant::now();
    let limits = StreamLimits { queue_bytes: 16 << 20, ..limits() };
    let mut stream = Stream::new(limits, at(100), 100, now);
    let count = |action| if let Action::Read { count, .. } = action { count } else { 0 };
    let ahead: usize = actions(&mut stream, now).into_iter().map(count).sum();
    assert!(ahead > 8, "{ahead} reads are sent before the first reply");
    feed(&mut stream, 100, 0..10_000, now);
    assert_eq!(applies(&mut stream, now).len(), 2, "a batch is on its way while one is applied");
}

fn actions(stream: &mut Stream, now: Instant) -> Vec<Action> {
    std::iter::from_fn(|| stream.poll(now)).collect()
}

fn applies(stream: &mut Stream, now: Instant) -> Vec<(u64, u64)> {
    let apply = |action| match action {
        Action::Apply { head, .. } => Some((head.from.offset, head.next)),
        _ => None,
    };
    actions(stream, now).into_iter().filter_map(apply).collect()
}

#[test]
fn waits_until_the_clock_covers_the_dependency() {
    let now = Instant::now();
    let mut stream = Stream::new(limits(), at(0), 0, now);
    feed(&mut stream, 0, 0..2, now);
    assert_eq!(applies(&mut stream, now), [(0, 200)]);
    let progress = Progress::Wait(Some(Dependency { replid: replid(), ts: 5 }));
    let waits = Applied { progress, offset: 100, groups: 1, elapsed_us: 1, clock: None };
    stream.on_applied(Ok(waits), now).unwrap();
    stream.on_clock(|dependency| dependency.ts <= 4);
    assert_eq!(applies(&mut stream, now), []);
    stream.on_clock(|dependency| dependency.ts <= 5);
    assert_eq!(applies(&mut stream, now), [(100, 200)]);
}

#[test]
fn a_long_wait_is_told_and_retried_less_and_less() {
    let mut now = Instant::now();
    let mut stream = Stream::new(limits(), at(0), 0, now);
    feed(&mut stream, 0, 0..1, now);
    let mut tries = 0;
    for _ in 0..3000 {
        for _ in applies(&mut stream, now) {
            tries += 1;
            let waits = Applied { progress: Progress::Wait(None), offset: 0, groups: 0, elapsed_us: 1, clock: None };
            stream.on_applied(Ok(waits), now).unwrap();
        }
        now += Duration::from_millis(1);
    }
    assert!((5..=10).contains(&tries), "{tries} tries in 3 s");
    assert_eq!(stream.condition(now), Condition::Waiting(None));
}

#[test]
fn steps_back_when_another_agent_is_faster() {
    let mut now = Instant::now();
    let mut stream = Stream::new(limits(), at(0), 0, now);
    feed(&mut stream, 0, 0..3, now);
    assert_eq!(applies(&mut stream, now), [(0, 300)]);
    stream.on_applied(Err(refusal(Code::Position(Some(at(200))))), now).unwrap();
    assert_eq!(applies(&mut stream, now), [], "it lets the other one work for a moment");
    now += Duration::from_millis(60);
    assert_eq!(applies(&mut stream, now), [(200, 300)]);
    let elsewhere = Position { replid: ReplId::from_bytes([9; 20]), offset: 0 };
    let moved = stream.on_applied(Err(refusal(Code::Position(Some(elsewhere)))), now);
    assert_eq!(moved, Err(Restart::Moved));
}

#[test]
fn a_position_moved_back_begins_anew() {
    let now = Instant::now();
    let mut stream = Stream::new(limits(), at(500), 500, now);
    feed(&mut stream, 500, 0..1, now);
    assert_eq!(applies(&mut stream, now), [(500, 600)]);
    assert_eq!(stream.on_applied(Err(refusal(Code::Position(Some(at(400))))), now), Err(Restart::Moved));
}

#[test]
fn a_frame_larger_than_everything_travels_alone() {
    let now = Instant::now();
    let mut stream = Stream::new(limits(), at(0), 0, now);
    let frames: Bytes = [frame(0, 10), frame(1, 900_000), frame(2, 10)].concat().into();
    let chunk = Chunk { from: 0, next: frames.len() as u64, end: 0, source_now_ms: 1, report_now: false, frames };
    stream.on_chunk(Ok(chunk), now).unwrap();
    assert!(!stream.takes_chunks());
    let sent: Vec<Vec<u32>> = actions(&mut stream, now)
        .into_iter()
        .filter_map(|action| match action {
            Action::Apply { frames, .. } => Some(numbers(&frames.concat())),
            _ => None,
        })
        .collect();
    assert_eq!(sent, [vec![0], vec![1]]);
}

#[test]
fn reports_once_the_flagged_effects_are_applied() {
    let now = Instant::now();
    let mut stream = Stream::new(limits(), at(0), 0, now);
    let frames = frame(0, 92);
    let chunk = Chunk { from: 0, next: 100, end: 100, source_now_ms: 1, report_now: true, frames };
    stream.on_chunk(Ok(chunk), now).unwrap();
    assert!(!actions(&mut stream, now).contains(&Action::Report));
    let done = Applied { progress: Progress::Done, offset: 100, groups: 1, elapsed_us: 1, clock: None };
    stream.on_applied(Ok(done), now).unwrap();
    assert_eq!(actions(&mut stream, now), [Action::Report]);
}

#[test]
fn notices_silence_but_not_its_own_backpressure() {
    let now = Instant::now();
    let mut stream = Stream::new(limits(), at(0), 0, now);
    actions(&mut stream, now);
    assert!(stream.check(now + Duration::from_secs(5)).is_ok());
    assert!(matches!(stream.check(now + Duration::from_secs(6)), Err(Restart::Silent { whose: "the peer", .. })));
    feed(&mut stream, 0, 0..50, now);
    assert!(!stream.takes_chunks());
    assert!(stream.check(now + Duration::from_secs(6)).is_ok());
}
