//! A peer's agent asks where to read on (`SYNCER.PSYNC`).

use super::{ForgottenError, Shard, Start};
use crate::clock::VectorClock;
use crate::effect::{Effect, Op, TtlNote};
use crate::group::GroupBuilder;
use crate::instance::{InstanceId, InstanceSet};
use crate::replid::ReplId;
use crate::timestamp::Timestamp;
use crate::token::ClockToken;

/// The version of the data plane.
pub const PROTOCOL: u32 = 1;

/// Who asks, and what it has.
#[derive(Clone, Debug)]
pub struct Hello {
    /// Version of the data plane that it speaks.
    pub protocol: u32,
    /// Its instance.
    pub instance: InstanceId,
    /// Its replication ID.
    pub replid: ReplId,
    /// Whose effects it will read.
    pub wanted: InstanceSet,
    /// Where it stopped reading, if it did.
    pub position: Option<(ReplId, u64)>,
    /// What it has applied.
    pub clock: ClockToken,
    /// What it is.
    pub standing: Standing,
}

/// What an instance is that asks for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has no data, and no client has written to it.
    Blank,
    /// It has data, but what it has need not be everywhere.
    Alone,
    /// It belongs to a group that relies on what is stable.
    Group,
}

impl Standing {
    const NAMES: [(&'static str, Self); 3] = [("blank", Self::Blank), ("alone", Self::Alone), ("group", Self::Group)];

    /// What this word stands for.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(n, _)| *n == name).map(|(_, standing)| *standing)
    }

    /// Its word in the data plane.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, standing)| *standing == self).map_or("alone", |(name, _)| name)
    }
}

/// Where it may read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// From this offset.
    Continue(u64),
    /// Nowhere: the backlog does not reach back to what it lacks.
    FullResync(String),
}

/// The answer to a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Where to read on.
    pub answer: Answer,
    /// This instance.
    pub instance: InstanceId,
    /// The replication ID of this backlog.
    pub replid: ReplId,
    /// Where the backlog ends.
    pub end: u64,
    /// What is applied here.
    pub clock: ClockToken,
}

/// Why a peer is turned away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// This server is a replica.
    #[error("SYNCERROLE this server is a replica; connect to its primary")]
    Role,
    /// Other programs.
    #[error("SYNCERVERSION this server speaks protocol {PROTOCOL}, the agent {0}; upgrade the older one")]
    Version(u32),
    /// An agent was pointed at its own server, or two instances have one id.
    #[error("SYNCERID instance id {0} is this server's own")]
    SameId(InstanceId),
    /// The peer is out, or this instance is (M2).
    #[error(transparent)]
    Forgotten(#[from] ForgottenError),
    /// It belongs to a group that this instance must join first: it admits nobody into that.
    #[error("TRYAGAIN instance {0} is new here and must read the group that {1} belongs to first; its agent does that")]
    NotYet(InstanceId, InstanceId),
    /// It has data that this group knows nothing of.
    #[error(
        "SYNCERMEMBER instance {0} is no member and has data of its own; join it with syncer-agent join beside it, and say what becomes of its data"
    )]
    NotMember(InstanceId),
    /// Two servers claim one id, or one lost its state.
    #[error(
        "SYNCERID instance id {instance} is known here as replication ID {known}, which {claimed} does not continue: another server uses this id, or it came back without its state"
    )]
    OtherServer {
        /// The id in question.
        instance: InstanceId,
        /// Whose it is.
        known: ReplId,
        /// Who claims it.
        claimed: ReplId,
    },
}

impl Shard {
    /// Answers a peer's agent. A newcomer becomes a member here before it gets its first effect, so that nothing it lacks is
    /// counted as stable (2.2 rule 2); `records` then has the Join. What it wrote before is regressed where something is stable already (rule 5).
    ///
    /// # Errors
    /// See [`HandshakeError`].
    pub fn handshake(&mut self, hello: &Hello, now_ms: u64) -> Result<Welcome, HandshakeError> {
        if !self.is_primary() {
            return Err(HandshakeError::Role);
        }
        if hello.protocol != PROTOCOL {
            return Err(HandshakeError::Version(hello.protocol));
        }
        if hello.instance == self.config.instance {
            return Err(HandshakeError::SameId(hello.instance));
        }
        self.check_reader(hello.instance)?;
        self.check_claim(hello)?;
        self.admit(hello, now_ms)?;
        let answer = self.answer(hello);
        match answer {
            Answer::Continue(_) => self.counters.sync_partial_ok += 1,
            Answer::FullResync(_) => {
                self.counters.sync_partial_err += 1;
                self.counters.sync_full_out += 1;
            }
        }
        Ok(Welcome {
            answer,
            instance: self.config.instance,
            replid: self.replid,
            end: self.backlog.end_offset(),
            clock: self.clock_token(),
        })
    }

    /// Whoever claims an instance id must have seen a reign that is known of it. Not every one: see [`Shard::check_first`].
    ///
    /// Who joins again begins anew as often as it asks a sponsor, so until anything of that is here it may have been somebody else when it introduced itself.
    fn check_claim(&mut self, hello: &Hello) -> Result<(), HandshakeError> {
        let has = |replid: ReplId| replid == hello.replid || hello.clock.get(&replid) > Timestamp::ZERO;
        let reigns = self.stability.reigns(hello.instance, &self.origins).map(|(origin, _)| origin);
        let (frozen, reigns): (Vec<_>, Vec<_>) = reigns.partition(|origin| self.membership.is_frozen(*origin));
        let begins_again = reigns.is_empty() && !frozen.is_empty();
        let introduced = self.introduced.get(&hello.instance).into_iter().flatten().copied();
        let introduced = introduced.filter(|_| !begins_again);
        let known: Vec<ReplId> = reigns.into_iter().map(|o| self.origins.replid(o)).chain(introduced).collect();
        if let Some(&known) = known.first().filter(|_| !known.iter().any(|replid| has(*replid))) {
            return Err(HandshakeError::OtherServer { instance: hello.instance, known, claimed: hello.replid });
        }
        // All of them: the reign in which it asks may be lost before anything of it is read here.
        let own = hello.clock.entries().iter().filter(|(_, instance, _)| *instance == hello.instance);
        let mut reigns: Vec<ReplId> = own.map(|(replid, ..)| *replid).collect();
        if !reigns.contains(&hello.replid) {
            reigns.push(hello.replid);
        }
        self.introduced.insert(hello.instance, reigns);
        Ok(())
    }

    /// A newcomer becomes a member.
    fn admit(&mut self, hello: &Hello, now_ms: u64) -> Result<(), HandshakeError> {
        if self.membership.contains(hello.instance) {
            return Ok(());
        }
        if self.joining.is_some() {
            // It has been somebody here, perhaps, and was forgotten since: only who has read the group can tell.
            return Err(HandshakeError::NotYet(self.config.instance, hello.instance));
        }
        if !self.has_evidence(hello) {
            if hello.standing == Standing::Group && !self.membership.is_group() {
                return Err(HandshakeError::NotYet(self.config.instance, hello.instance));
            }
            if hello.standing != Standing::Blank && self.is_established() {
                return Err(HandshakeError::NotMember(hello.instance));
            }
        }
        let mut group = GroupBuilder::new();
        let op = Op::Join { instance: hello.instance };
        group.push(&Effect { db: 0, key: &[], ttl: TtlNote::None, op });
        self.log_control(&mut group, now_ms);
        Ok(())
    }

    /// Of whom anything is applied, or who has seen more of this instance than itself, was admitted by what a failover lost.
    fn has_evidence(&self, hello: &Hello) -> bool {
        let has_applied = self.clock.iter().any(|(origin, _)| self.origins.instance(origin) == hello.instance);
        let lost = |(replid, instance, ts): &(ReplId, InstanceId, Timestamp)| {
            *instance == self.config.instance
                && self.origins.find(replid).is_some_and(|origin| !self.clock.has(origin, *ts))
        };
        has_applied || hello.clock.entries().iter().any(lost)
    }

    /// What this instance says of itself in a handshake.
    #[must_use]
    pub fn standing(&self) -> Standing {
        if self.membership.is_group() && self.is_established() {
            Standing::Group
        } else if self.start == Start::Empty && !self.has_written {
            Standing::Blank
        } else {
            Standing::Alone
        }
    }

    fn answer(&mut self, hello: &Hello) -> Answer {
        if let Some((replid, offset)) = hello.position
            && self.is_of_this_backlog(replid, offset)
            && self.backlog.holds(offset).is_ok()
            && self.gap.is_none_or(|gap| offset > gap)
        {
            return Answer::Continue(offset);
        }
        let have = self.known_clock(&hello.clock);
        let is_wanted = |origin| hello.wanted.contains(self.origins.instance(origin));
        match self.backlog.seek(&have, is_wanted) {
            Some(offset) => Answer::Continue(offset),
            None => Answer::FullResync(self.why_full(hello)),
        }
    }

    /// The current reign, or a past one up to where it ended here: what came after that elsewhere is another log.
    fn is_of_this_backlog(&self, replid: ReplId, offset: u64) -> bool {
        replid == self.replid || self.past.iter().any(|past| past.replid == replid && offset <= past.end)
    }

    fn why_full(&self, hello: &Hello) -> String {
        if self.start == Start::Seeded {
            return "this instance began with data that no backlog has".into();
        }
        let asked = hello.position.map_or_else(|| "?".into(), |(replid, offset)| format!("{replid} {offset}"));
        let first = self.backlog.first_offset();
        format!("backlog begins at {first}, asked for {asked}; raise backlog-size")
    }

    /// What of a portable clock is known here, as a clock of this shard.
    pub(super) fn known_clock(&self, token: &ClockToken) -> VectorClock {
        let mut clock = VectorClock::default();
        for &(replid, _, ts) in token.entries() {
            if let Some(origin) = self.origins.find(&replid) {
                clock.raise(origin, ts);
            }
        }
        clock
    }

    /// Everything applied here, in portable form (`SYNCER.CLOCK`).
    #[must_use]
    pub fn clock_token(&self) -> ClockToken {
        self.token(&self.clock)
    }

    pub(super) fn token(&self, clock: &VectorClock) -> ClockToken {
        clock.iter().map(|(origin, ts)| (self.origins.replid(origin), self.origins.instance(origin), ts)).collect()
    }

    /// Whether everything in a token is applied here (`SYNCER.AWAIT`).
    #[must_use]
    pub fn covers(&self, token: &ClockToken) -> bool {
        token
            .entries()
            .iter()
            .all(|&(replid, _, ts)| self.origins.find(&replid).is_some_and(|origin| self.clock.has(origin, ts)))
    }
}
