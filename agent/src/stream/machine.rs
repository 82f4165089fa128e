//! One stream: from one source to the target.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::batch::BatchSize;
use super::queue::{Piece, Queue, remainder};
use crate::protocol::{Applied, ApplyHead, Chunk, Code, Dependency, Position, Progress, Refusal};

/// Reads sent ahead. At a round trip of 100 ms this still carries 40 MB/s.
const READS_MAX: usize = 32;
/// Reads are topped up in bulk, when this few are left.
const READS_LOW: usize = READS_MAX / 2;
/// Most bytes that one read may bring, save for a single larger group.
const READ_BYTES: usize = 128 << 10;
/// Batches in flight: one being applied, one on its way.
const APPLIES_MAX: usize = 2;
/// First and last pause before a batch that waits for another instance is tried again unasked.
const WAIT_RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// First and last pause of an agent that found another one at work for the same peer.
const STANDBY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long a stream may wait for other instances before it is called waiting.
const WAIT_NOTICE: Duration = Duration::from_secs(1);
/// How often at least the target hears of us, when there is nothing to apply.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long the target may take for one batch: a `FLUSHALL` of a large dataset holds it for a while.
const APPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// What a stream is told at its start.
#[derive(Clone, Copy, Debug)]
pub struct StreamLimits {
    /// Most bytes of frames held.
    pub queue_bytes: usize,
    /// How long one batch should hold the target's main thread.
    pub apply_slice: Duration,
    /// How long the source holds a read when there is nothing to send.
    pub read_timeout: Duration,
    /// How much longer than that we wait for the reply.
    pub read_grace: Duration,
}

/// What the shell shall do.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Send `SYNCER.READ` to the source, `count` times.
    Read {
        /// How many.
        count: usize,
        /// For each.
        bytes_max: usize,
        /// For each.
        timeout_ms: u64,
    },
    /// Send `SYNCER.APPLY` to the target.
    Apply {
        /// Everything but the frames.
        head: ApplyHead,
        /// Their concatenation is the payload.
        frames: Vec<Bytes>,
    },
    /// Report our clock to the source now.
    Report,
}

/// What to tell people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The target has not accepted anything yet: it may still refuse.
    Beginning,
    /// Effects flow, or there are none.
    Streaming,
    /// The next effect has been waiting for another instance's for a while.
    Waiting(Option<Dependency>),
}

/// The stream cannot go on as it is.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Restart {
    /// Somebody else moved the position: read it again. Nothing is wrong.
    #[error("the position was moved by another agent")]
    Moved,
    /// Effects before the position are missing: go by the clock. Nothing is wrong yet.
    #[error("{0}")]
    ByClock(Refusal),
    /// Something is wrong.
    #[error("{whose} refused: {refusal}")]
    Refused {
        /// `the peer` or `the local server`.
        whose: &'static str,
        /// What it said.
        refusal: Refusal,
    },
    /// A reply is overdue.
    #[error("no answer from {whose} for {} s", .limit.as_secs())]
    Silent {
        /// `the peer` or `the local server`.
        whose: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// The source's reads don't follow on each other.
    #[error("the peer sent effects from offset {got}, expected {expected}")]
    Disorder {
        /// Where it should have begun.
        expected: u64,
        /// Where it began.
        got: u64,
    },
}

/// A batch at the target.
#[derive(Debug)]
struct InFlight {
    batch: Vec<Piece>,
    bytes: usize,
    sent: Instant,
    /// An earlier batch was not applied to its end, so that this one will be refused; its frames are back in the queue.
    stale: bool,
}

#[derive(Clone, Copy, Debug)]
enum Flow {
    /// Apply whatever comes.
    Open,
    /// Apply nothing before `retry`, unless the clock moves.
    Waiting { dependency: Option<Dependency>, retry: Instant },
    /// Another agent is faster: let it.
    Standby { retry: Instant },
}

/// See the [module](super).
#[derive(Debug)]
pub struct Stream {
    limits: StreamLimits,
    /// Where the next batch begins: the target's position once everything in flight is applied.
    position: Position,
    /// Up to where the target has confirmed.
    applied_to: u64,
    /// Where the next chunk begins.
    read_to: u64,
    queue: Queue,
    reads: usize,
    /// When the source last answered, or began to owe an answer.
    source_heard: Instant,
    applies: VecDeque<InFlight>,
    size: BatchSize,
    flow: Flow,
    /// The pause to use for the next wait or standby, doubled each time and reset by progress.
    wait_pause: Duration,
    /// Since when nothing could be applied for want of another instance's effects, and of which.
    starved: Option<(Instant, Option<Dependency>)>,
    standby_pause: Duration,
    end: u64,
    source_now_ms: u64,
    /// When the target hears of us at the latest.
    heartbeat: Instant,
    /// The source was asked for what it has at once, so that it is known to answer.
    greeted: bool,
    /// The target has accepted something.
    accepted: bool,
    /// Report once the target is here.
    report_at: Option<u64>,
}

impl Stream {
    /// A stream that reads from `position`, which is also the target's.
    #[must_use]
    pub fn new(limits: StreamLimits, position: Position, end: u64, now: Instant) -> Self {
        Self {
            limits,
            position,
            applied_to: position.offset,
            read_to: position.offset,
            queue: Queue::default(),
            reads: 0,
            source_heard: now,
            applies: VecDeque::with_capacity(APPLIES_MAX),
            size: BatchSize::new(limits.apply_slice),
            flow: Flow::Open,
            wait_pause: WAIT_RETRY.0,
            starved: None,
            standby_pause: STANDBY.0,
            end,
            source_now_ms: 0,
            heartbeat: now,
            greeted: false,
            accepted: false,
            report_at: None,
        }
    }

    /// Bytes of frames held, queued or in flight.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.queue.bytes() + self.applies.iter().filter(|apply| !apply.stale).map(|apply| apply.bytes).sum::<usize>()
    }

    /// Whether more of the source's replies may be taken in. While not, the shell leaves them in the socket.
    #[must_use]
    pub fn takes_chunks(&self) -> bool {
        self.held_bytes() < self.limits.queue_bytes
    }

    /// For people.
    #[must_use]
    pub fn condition(&self, now: Instant) -> Condition {
        match self.starved {
            _ if !self.accepted => Condition::Beginning,
            Some((since, dependency)) if now >= since + WAIT_NOTICE => Condition::Waiting(dependency),
            _ => Condition::Streaming,
        }
    }

    /// The source answered a read.
    ///
    /// # Errors
    /// When the stream must begin anew.
    pub fn on_chunk(&mut self, chunk: Result<Chunk, Refusal>, now: Instant) -> Result<(), Restart> {
        self.reads = self.reads.saturating_sub(1);
        self.source_heard = now;
        let chunk = chunk.map_err(|refusal| match refusal.code {
            Code::NotHeld => Restart::ByClock(refusal),
            _ => Restart::Refused { whose: "the peer", refusal },
        })?;
        let Chunk { from, next, end, source_now_ms, report_now, frames } = chunk;
        if from != self.read_to {
            return Err(Restart::Disorder { expected: self.read_to, got: from });
        }
        self.read_to = next;
        self.end = end;
        self.source_now_ms = source_now_ms;
        if report_now {
            self.report_at = Some(next);
        }
        if next > from && next > self.position.offset {
            self.queue.push(Piece { from, next, frames });
        }
        Ok(())
    }

    /// The target answered the oldest batch in flight.
    ///
    /// # Errors
    /// When the stream must begin anew.
    pub fn on_applied(&mut self, reply: Result<Applied, Refusal>, now: Instant) -> Result<(), Restart> {
        let Some(InFlight { batch, bytes, stale, .. }) = self.applies.pop_front() else { return Ok(()) };
        match reply {
            Err(_) if stale => Ok(()),
            // Another agent has applied just what was missing before it.
            Ok(applied) if stale => {
                let at = Position { offset: applied.offset, ..self.position };
                self.moved(Some(at), batch, now)
            }
            Ok(applied) => {
                self.applied(&applied, batch, bytes, now);
                Ok(())
            }
            Err(Refusal { code: Code::Position(expected), .. }) => self.moved(expected, batch, now),
            Err(refusal) if refusal.code == Code::Gap => Err(Restart::ByClock(refusal)),
            Err(refusal) => Err(Restart::Refused { whose: "the local server", refusal }),
        }
    }

    fn applied(&mut self, applied: &Applied, batch: Vec<Piece>, bytes: usize, now: Instant) {
        let Applied { progress, offset, elapsed_us, .. } = *applied;
        let advanced = batch.first().is_some_and(|first| offset > first.from);
        self.applied_to = offset;
        self.accepted = true;
        if advanced {
            (self.wait_pause, self.standby_pause) = (WAIT_RETRY.0, STANDBY.0);
            self.starved = None;
        }
        if progress == Progress::Done {
            self.starved = None;
            self.size.measured(bytes, elapsed_us);
            return;
        }
        let rest = remainder(batch, offset);
        let rest_bytes: usize = rest.iter().map(|piece| piece.frames.len()).sum();
        self.size.measured(bytes - rest_bytes.min(bytes), elapsed_us);
        self.recall();
        self.queue.put_back(rest);
        self.position.offset = offset;
        if let Progress::Wait(dependency) = progress {
            let pause = self.wait_pause;
            self.wait_pause = (pause * 2).min(WAIT_RETRY.1);
            self.starved = Some((self.starved.map_or(now, |(since, _)| since), dependency));
            self.flow = Flow::Waiting { dependency, retry: now + pause };
        }
    }

    /// What is still in flight will be refused, since it does not begin where the target stands.
    fn recall(&mut self) {
        for apply in self.applies.iter_mut().rev().filter(|apply| !apply.stale) {
            apply.stale = true;
            self.queue.put_back(std::mem::take(&mut apply.batch));
        }
    }

    /// Another agent has applied for the same peer.
    fn moved(&mut self, expected: Option<Position>, batch: Vec<Piece>, now: Instant) -> Result<(), Restart> {
        let expected = expected.filter(|at| at.replid == self.position.replid).ok_or(Restart::Moved)?;
        self.recall();
        self.queue.put_back(batch);
        let follows = self.queue.skip_to(expected.offset);
        if !follows || self.queue.is_empty() && expected.offset < self.read_to {
            return Err(Restart::Moved);
        }
        self.position = expected;
        self.applied_to = expected.offset;
        let pause = self.standby_pause;
        self.standby_pause = (pause * 2).min(STANDBY.1);
        self.flow = Flow::Standby { retry: now + pause };
        Ok(())
    }

    /// Whether effects of another instance are waited for, so that [`Stream::on_clock`] may help.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self.flow, Flow::Waiting { .. })
    }

    /// The local clock has moved; `covers` says whether it now has an effect.
    pub fn on_clock(&mut self, covers: impl Fn(&Dependency) -> bool) {
        if let Flow::Waiting { dependency, .. } = &self.flow
            && dependency.as_ref().is_none_or(covers)
        {
            self.flow = Flow::Open;
        }
    }

    /// When [`Stream::poll`] and [`Stream::check`] want to be called again, whatever happens.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        let flow = match self.flow {
            Flow::Open => None,
            Flow::Waiting { retry, .. } | Flow::Standby { retry } => Some(retry),
        };
        let beats = matches!(self.flow, Flow::Open) && self.source_now_ms > 0 && self.applies.is_empty();
        let heartbeat = beats.then_some(self.heartbeat);
        let overdue = [self.source_deadline(), self.target_deadline()].into_iter().flatten().min();
        [flow, heartbeat, overdue].into_iter().flatten().min()
    }

    fn source_deadline(&self) -> Option<Instant> {
        (self.reads > 0 && self.takes_chunks())
            .then(|| self.source_heard + self.limits.read_timeout + self.limits.read_grace)
    }

    fn target_deadline(&self) -> Option<Instant> {
        self.applies.front().map(|apply| apply.sent + APPLY_TIMEOUT)
    }

    /// Whether an answer is overdue.
    ///
    /// # Errors
    /// When it is.
    pub fn check(&self, now: Instant) -> Result<(), Restart> {
        if self.source_deadline().is_some_and(|deadline| now >= deadline) {
            return Err(Restart::Silent {
                whose: "the peer",
                limit: self.limits.read_timeout + self.limits.read_grace,
            });
        }
        if self.target_deadline().is_some_and(|deadline| now >= deadline) {
            return Err(Restart::Silent { whose: "the local server", limit: APPLY_TIMEOUT });
        }
        Ok(())
    }

    /// The next thing to do, until `None`.
    pub fn poll(&mut self, now: Instant) -> Option<Action> {
        self.wake(now);
        self.poll_apply(now).or_else(|| self.poll_report()).or_else(|| self.poll_read(now))
    }

    fn wake(&mut self, now: Instant) {
        if let Flow::Waiting { retry, .. } | Flow::Standby { retry } = self.flow
            && now >= retry
        {
            self.flow = Flow::Open;
        }
    }

    fn poll_apply(&mut self, now: Instant) -> Option<Action> {
        if !matches!(self.flow, Flow::Open) || self.applies.len() >= APPLIES_MAX {
            return None;
        }
        let size = self.size.bytes();
        // A second batch goes only when it is a full one: what is left gathers until the first is done.
        if !self.applies.is_empty() && self.queue.bytes() < size {
            return None;
        }
        let idle = !self.queue.has_groups();
        if idle && (now < self.heartbeat || self.source_now_ms == 0) {
            return None;
        }
        self.heartbeat = now + HEARTBEAT;
        let batch = self.queue.take(size);
        let bytes = batch.iter().map(|piece| piece.frames.len()).sum();
        let next = batch.last().map_or(self.position.offset, |piece| piece.next);
        let head = ApplyHead { from: self.position, next, end: self.end, source_now_ms: self.source_now_ms };
        let frames = batch.iter().map(|piece| piece.frames.clone()).filter(|frames| !frames.is_empty()).collect();
        self.position.offset = next;
        self.applies.push_back(InFlight { batch, bytes, sent: now, stale: false });
        Some(Action::Apply { head, frames })
    }

    fn poll_report(&mut self) -> Option<Action> {
        let at = self.report_at?;
        let idle = self.applies.is_empty() && !self.queue.has_groups();
        (idle || self.applied_to >= at).then(|| {
            self.report_at = None;
            Action::Report
        })
    }

    fn poll_read(&mut self, now: Instant) -> Option<Action> {
        if self.reads > READS_LOW || !self.takes_chunks() {
            return None;
        }
        if self.reads == 0 {
            self.source_heard = now;
        }
        if !self.greeted {
            (self.greeted, self.reads) = (true, 1);
            return Some(Action::Read { count: 1, bytes_max: READ_BYTES, timeout_ms: 0 });
        }
        let count = READS_MAX - self.reads;
        self.reads = READS_MAX;
        Some(Action::Read { count, bytes_max: READ_BYTES, timeout_ms: self.limits.read_timeout.as_millis() as u64 })
    }
}
