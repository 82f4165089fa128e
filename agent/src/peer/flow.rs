//! The shell around [`crate::stream`]: its actions become commands on two connections, their replies its events.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use syncer_shared::instance::{InstanceId, InstanceSet};
use tokio::sync::{Notify, watch};
use tokio::time::Sleep;

use super::handshake::{BY_HAND, Joined};
use super::{End, Herald, PeerState};
use crate::board::Board;
use crate::config::Settings;
use crate::connection::{Connection, ConnectionError};
use crate::protocol::{Applied, Chunk, Dependency, send_apply, send_read};
use crate::stream::{Action, Condition, Stream, StreamLimits};

/// How long the source holds a read that finds nothing.
const READ_TIMEOUT: Duration = Duration::from_secs(1);
/// How much longer we wait for its answer: it may be busy.
const READ_GRACE: Duration = Duration::from_secs(9);

/// One stream at work.
#[derive(Debug)]
pub struct Flow<'a> {
    source: Connection,
    target: Connection,
    stream: Stream,
    /// Whose effects are wanted; the handshake asked for the value last seen.
    wanted: watch::Receiver<InstanceSet>,
    board: &'a Rc<Board>,
    report_now: &'a Notify,
    has_applied: bool,
}

impl<'a> Flow<'a> {
    /// Begins where the handshake ended.
    pub fn new(
        joined: Joined,
        settings: &Settings,
        wanted: watch::Receiver<InstanceSet>,
        board: &'a Rc<Board>,
        report_now: &'a Notify,
    ) -> Self {
        let limits = StreamLimits {
            queue_bytes: settings.queue_bytes,
            apply_slice: settings.apply_slice,
            read_timeout: READ_TIMEOUT,
            read_grace: READ_GRACE,
        };
        let Joined { source, target, position, end, .. } = joined;
        let stream = Stream::new(limits, position, end, Instant::now());
        Self { source, target, stream, wanted, board, report_now, has_applied: false }
    }

    /// Whether the local server has accepted anything, so that the way is known to work.
    pub fn has_applied(&self) -> bool {
        self.has_applied
    }

    /// Streams until something ends it.
    pub async fn run(&mut self, peer: InstanceId, herald: &mut Herald) -> End {
        match self.drive(peer, herald).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn drive(&mut self, peer: InstanceId, herald: &mut Herald) -> Result<std::convert::Infallible, End> {
        let mut resync = self.board.resync.subscribe();
        let mut alarm = Alarm::new();
        loop {
            let now = Instant::now();
            while let Some(action) = self.stream.poll(now) {
                self.act(action, peer);
            }
            self.stream.check(now).map_err(End::Restart)?;
            self.tell(herald, now);
            alarm.set(self.stream.next_wake());
            let takes_chunks = self.stream.takes_chunks();
            let waits = self.stream.is_waiting();
            let clock_moved = self.board.clock_moved.notified();
            if self.board.resync.borrow().contains(peer) {
                return Err(End::NeedsFull(BY_HAND.into()));
            }
            tokio::select! {
                ready = ready(&mut self.source, &mut self.target, takes_chunks) => ready?,
                () = alarm.wait() => {}
                () = clock_moved, if waits => self.on_clock(),
                changed = resync.changed() => changed.map_err(|_| End::Rewired)?,
                _ = self.wanted.changed() => return Err(End::Rewired),
            }
            self.drain()?;
        }
    }

    fn act(&mut self, action: Action, peer: InstanceId) {
        match action {
            Action::Read { count, bytes_max, timeout_ms } => {
                (0..count).for_each(|_| send_read(&mut self.source, bytes_max, timeout_ms));
            }
            Action::Apply { head, frames } => send_apply(&mut self.target, peer, &head, &frames),
            Action::Report => self.report_now.notify_one(),
        }
    }

    fn tell(&self, herald: &mut Herald, now: Instant) {
        match self.stream.condition(now) {
            Condition::Beginning => {}
            Condition::Streaming => herald.tell(PeerState::Streaming, String::new(), now),
            Condition::Waiting(dependency) => herald.tell(PeerState::Waiting, self.name(dependency), now),
        }
    }

    /// Whose effects are waited for, if the instance is known.
    fn name(&self, dependency: Option<Dependency>) -> String {
        let Some(Dependency { replid, .. }) = dependency else { return "waits for effects of another instance".into() };
        let relay = self.board.relay.borrow();
        match relay.instance_of(&replid) {
            Some(instance) => format!("waits for effects of instance {instance}"),
            None => format!("waits for effects of replication ID {replid}"),
        }
    }

    fn on_clock(&mut self) {
        let clock = self.board.local_clock();
        self.stream.on_clock(|dependency| clock.get(&dependency.replid).bits() >= dependency.ts);
    }

    fn drain(&mut self) -> Result<(), End> {
        let broken = |error| End::Target(ConnectionError::Resp(error));
        while let Some(reply) = self.target.next_reply().map_err(broken)? {
            let mut applied = Applied::parse(&reply);
            if let Ok(applied) = &mut applied {
                self.has_applied = true;
                if let Some(clock) = applied.clock.take() {
                    self.board.set_local_clock(clock, Instant::now());
                }
            }
            self.stream.on_applied(applied, Instant::now()).map_err(End::Restart)?;
        }
        let broken = |error| End::Source(ConnectionError::Resp(error));
        while self.stream.takes_chunks()
            && let Some(reply) = self.source.next_reply().map_err(broken)?
        {
            self.stream.on_chunk(Chunk::parse(&reply), Instant::now()).map_err(End::Restart)?;
        }
        Ok(())
    }
}

/// Sends on both connections; returns when either has received something.
async fn ready(source: &mut Connection, target: &mut Connection, takes_chunks: bool) -> Result<(), End> {
    poll_fn(|context| {
        let source = source.poll_ready(context, takes_chunks).map_err(End::Source)?;
        let target = target.poll_ready(context, true).map_err(End::Target)?;
        if source.is_ready() || target.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// A timer that is set anew only when it must ring earlier; ringing too early costs one look.
#[derive(Debug)]
struct Alarm {
    sleep: Pin<Box<Sleep>>,
    rang: bool,
}

impl Alarm {
    fn new() -> Self {
        Self { sleep: Box::pin(tokio::time::sleep(Duration::ZERO)), rang: true }
    }

    fn set(&mut self, at: Option<Instant>) {
        let Some(at) = at else { return };
        let at = tokio::time::Instant::from_std(at);
        if self.rang || at < self.sleep.deadline() {
            self.sleep.as_mut().reset(at);
            self.rang = false;
        }
    }

    async fn wait(&mut self) {
        self.sleep.as_mut().await;
        self.rang = true;
    }
}
