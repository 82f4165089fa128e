//! The agent's work for one peer: handshake, pipelined reads, batches in flight.

use std::collections::VecDeque;

use bytes::Bytes;
use syncer_shared::instance::{InstanceId, InstanceSet};
use syncer_shared::replid::ReplId;
use syncer_shared::shard::{Answer, ApplyError, Batch, HandshakeError, Hello, Outcome, PeerState};

use super::Check;
use super::instance::Instance;

/// What flows from one instance to another.
pub struct Link {
    /// Index of the instance that is read.
    pub source: usize,
    /// Index of the instance that applies.
    pub target: usize,
    /// The network lets it through.
    pub is_up: bool,
    /// Whose effects are asked for.
    pub wanted: InstanceSet,
    /// The handshake said that only a full sync helps.
    pub needs_full: bool,
    /// Who was forgotten and has not been told takes one that has joined again for another server with its id: plans in which that may happen.
    pub has_strangers: bool,
    /// The last error, for people.
    pub error: String,
    connection: Option<Connection>,
    /// What the agent wanted at its last handshake: more than that begins by clock, since a position says nothing of what
    /// was not wanted then. At least the source's own effects, always.
    positioned_for: InstanceSet,
    by_clock: bool,
    flights: VecDeque<Flight>,
}

struct Connection {
    replid: ReplId,
    read_at: u64,
}

/// A batch on its way.
#[derive(Clone)]
struct Flight {
    replid: ReplId,
    from: u64,
    next: u64,
    end: u64,
    source_ms: u64,
    frames: Bytes,
}

/// What a delivery came to.
pub enum Delivered {
    /// There was nothing to deliver.
    Nothing,
    /// Applied, in whole or in part.
    Applied(Outcome, u32),
    /// Refused; the agent connects anew.
    Refused,
}

impl Link {
    /// Not connected.
    #[must_use]
    pub fn new(source: usize, target: usize, wanted: InstanceSet) -> Self {
        let (is_up, needs_full, error, connection) = (true, false, String::new(), None);
        let (positioned_for, by_clock, flights) = (wanted, false, VecDeque::new());
        let has_strangers = false;
        Self {
            source,
            target,
            is_up,
            wanted,
            needs_full,
            has_strangers,
            error,
            connection,
            positioned_for,
            by_clock,
            flights,
        }
    }

    /// The source has taken in by a full sync what its backlog does not have: `SYNCERNOTHELD`, and the agent goes by the clock.
    pub fn source_synced(&mut self) {
        self.restart();
        self.by_clock = true;
    }

    /// The agent, or the connection, dies: what is in flight is lost.
    pub fn restart(&mut self) {
        self.connection = None;
        self.flights.clear();
    }

    /// The target is another server now, and with it the position.
    pub fn target_gone(&mut self) {
        self.restart();
        self.positioned_for = InstanceSet::EMPTY;
    }

    /// A full sync from its source has ended: the position that it left is good for whatever is wanted.
    pub fn synced(&mut self) {
        self.restart();
        (self.positioned_for, self.by_clock, self.needs_full) = (InstanceSet::ALL, false, false);
    }

    /// The source is another server now; what it sent still arrives.
    pub fn source_gone(&mut self) {
        self.connection = None;
    }

    /// Whether nothing is in flight.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }

    /// Asks for another choice of instances, from the next handshake on.
    pub fn want(&mut self, wanted: InstanceSet) {
        if self.wanted != wanted {
            self.wanted = wanted;
            self.restart();
        }
    }

    /// `SYNCER.PSYNC`, and what its answer moves at the target. `times` are the wall clocks of source and target.
    pub fn connect(&mut self, source: &mut Instance, target: &mut Instance, source_ms: u64) {
        if self.connection.is_some() || !self.is_up {
            return;
        }
        let position = target.shard.peer(source.id).and_then(|peer| peer.position);
        let grown = self.wanted.iter().any(|wanted| wanted != source.id && !self.positioned_for.contains(wanted));
        let position = position.filter(|_| !self.by_clock && !grown);
        let (instance, replid, clock) = (target.id, target.shard.replid(), target.shard.clock_token());
        let (protocol, standing) = (syncer_shared::shard::PROTOCOL, target.shard.standing());
        let hello = Hello { protocol, instance, replid, wanted: self.wanted, position, clock, standing };
        let welcome = match source.shard.handshake(&hello, source_ms) {
            Ok(welcome) => welcome,
            Err(error) => {
                if let HandshakeError::Forgotten(forget) = error {
                    target.shard.told_forgotten(source.id, forget);
                }
                return self.error = error.to_string();
            }
        };
        match welcome.answer {
            Answer::Continue(offset) => match target.shard.set_position(source.id, welcome.replid, offset) {
                Ok(()) => {
                    self.connection = Some(Connection { replid: welcome.replid, read_at: offset });
                    (self.positioned_for, self.by_clock) = (self.wanted, false);
                    self.needs_full = false;
                    self.flights.clear();
                }
                Err(error) => self.error = error.to_string(),
            },
            Answer::FullResync(why) => {
                target.shard.set_peer_state(source.id, PeerState::Syncing, &why);
                self.needs_full = true;
                self.error = why;
            }
        }
    }

    /// `SYNCER.READ`; several may be in flight.
    pub fn read(&mut self, source: &mut Instance, target: InstanceId, max_bytes: usize, source_ms: u64) {
        if let Err(forgotten) = source.shard.check_reader(target) {
            self.error = forgotten.to_string();
            self.connection = None;
        }
        let Some(connection) = &mut self.connection else { return };
        match source.shard.backlog_mut().read(connection.read_at, max_bytes, self.wanted) {
            Ok(chunk) if chunk.is_empty() => {}
            Ok(chunk) => {
                connection.read_at = chunk.next;
                let (replid, frames) = (connection.replid, chunk.assemble());
                self.flights.push_back(Flight {
                    replid,
                    from: chunk.from,
                    next: chunk.next,
                    end: chunk.end,
                    source_ms,
                    frames,
                });
            }
            Err(gone) => {
                self.error = gone.to_string();
                self.connection = None;
            }
        }
    }

    /// `SYNCER.APPLY` of the oldest batch; the caller follows the target's records. `again` sends it twice.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn deliver(
        &mut self,
        peer: InstanceId,
        target: &mut Instance,
        now_ms: u64,
        slice: u32,
        again: bool,
    ) -> Result<Delivered, String> {
        let Some(flight) = self.flights.pop_front() else { return Ok(Delivered::Nothing) };
        let batch = Batch {
            peer,
            replid: flight.replid,
            from: flight.from,
            next: flight.next,
            end: flight.end,
            source_ms: flight.source_ms,
            frames: &flight.frames,
        };
        let mut left = slice;
        let mut budget = || {
            left = left.saturating_sub(1);
            left > 0
        };
        let result = target.shard.apply(&batch, &mut target.keyspace, now_ms, &mut budget);
        match result {
            Ok(applied) => {
                if applied.offset != flight.next {
                    // The agent keeps the rest and sends it again; reading it again is the same.
                    self.flights.clear();
                    if let Some(connection) = &mut self.connection {
                        connection.read_at = applied.offset;
                    }
                }
                if again && applied.offset != flight.from {
                    self.check_replay(target, &batch, now_ms)?;
                }
                Ok(Delivered::Applied(applied.outcome, applied.groups))
            }
            Err(error) => {
                self.error = error.to_string();
                self.restart();
                target.check()?;
                match error {
                    ApplyError::Identity(_) if self.has_strangers => Ok(Delivered::Refused),
                    ApplyError::Position { .. }
                    | ApplyError::Drift { .. }
                    | ApplyError::Fenced(_)
                    | ApplyError::Forgotten(_)
                    // Until the `Join` has come of who brought that.
                    | ApplyError::FromBefore(..)
                    | ApplyError::Unsponsored(..)
                    | ApplyError::Syncing => Ok(Delivered::Refused),
                    ApplyError::Role
                    | ApplyError::Frame(_)
                    | ApplyError::Span { .. }
                    | ApplyError::Gap { .. }
                    | ApplyError::Database { .. }
                    | ApplyError::Identity(_) => Err(format!("{} refuses a batch of {peer}: {error}", target.id)),
                }
            }
        }
    }

    /// A batch that comes twice is refused and changes nothing.
    fn check_replay(&self, target: &mut Instance, batch: &Batch<'_>, now_ms: u64) -> Check {
        let before = (target.shard.clock_token(), target.keyspace.clone());
        match target.shard.apply(batch, &mut target.keyspace, now_ms, &mut || true) {
            Err(ApplyError::Position { .. }) if before == (target.shard.clock_token(), target.keyspace.clone()) => {
                Ok(())
            }
            other => Err(format!("{} took a batch twice: {other:?}", target.id)),
        }
    }
}
