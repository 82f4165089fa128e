//! What of this instance would survive a crash or a failover (DESIGN 2.2 rule 1): its reports carry that, and so nobody relies on what
//! may be lost.
//!
//! With replicas: what every one that is online, or was a minute ago, has acknowledged. With an append-only file: what is fsynced; both, if
//! there are both. Without either, but with save points: what is saved. Without anything: what is applied. Looked at by the heartbeat, so all
//! of it is a little late, which only means that metadata stays a little longer.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use syncer_shared::token::ClockToken;

use crate::redis::Context;
use crate::redis::config::REPORT_APPLIED;
use crate::redis::server::{Info, setting};
use crate::state;

/// Marks of native offsets: at ten a second and a thinned-out past, minutes of a replica that lags.
const MARKS_MAX: usize = 128;
/// After an idle moment of the thread that fsyncs, the server begins the next fsync within a second.
const FSYNC: Duration = Duration::from_millis(1500);
/// With `appendfsync no` the kernel writes what is 30 seconds old, looking every five (`vm.dirty_expire_centisecs`, `vm.dirty_writeback_centisecs`): twice that, nearly.
const WRITEBACK: Duration = Duration::from_mins(1);
/// A replica that was here and is gone may be the one that is promoted: so long nothing more is promised than it has.
const REPLICA_HOLD: Duration = Duration::from_secs(60);
/// Beats between two looks at the configuration: a second, so that a change is seen before [`FSYNC`] is over.
const LOOK_BEATS: u32 = 10;

/// What the durable clock comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Nothing survives, or the operator wants it so.
    Applied,
    /// The append-only file.
    File,
    /// Acknowledged by all replicas.
    Replicas,
    /// Both.
    ReplicasAndFile,
    /// The last save.
    Save,
}

impl By {
    /// Its name in `INFO`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::File => "aof",
            Self::Replicas => "replicas",
            Self::ReplicasAndFile => "replicas-and-aof",
            Self::Save => "rdb",
        }
    }
}

/// When the append-only file is fsynced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fsync {
    /// `appendfsync no`.
    by_kernel: bool,
    /// `no-appendfsync-on-rewrite yes`.
    waits_for_child: bool,
}

/// A replica, when it was online last.
#[derive(Debug)]
struct Replica {
    address: String,
    /// What it had acknowledged.
    offset: u64,
    seen: Instant,
}

struct Durable {
    by: By,
    /// Native replication offsets, rising, and what was applied before them.
    marks: VecDeque<(u64, ClockToken)>,
    acknowledged: ClockToken,
    /// Those that may be promoted.
    replicas: Vec<Replica>,
    fsync: Fsync,
    /// What was applied when the fsync thread was idle, and when.
    written: Option<(Instant, ClockToken)>,
    fsynced: ClockToken,
    /// What was applied when the last child was forked.
    forked: Option<ClockToken>,
    saved: ClockToken,
    /// When the last save ended, and how many were begun.
    last_save: Option<(u64, u64)>,
    /// At the last beat.
    applied: ClockToken,
    has_save_points: bool,
    beats: u32,
}

impl Durable {
    /// Before the first beat.
    const NOTHING: Self = Self {
        by: By::Applied,
        marks: VecDeque::new(),
        acknowledged: ClockToken::EMPTY,
        replicas: Vec::new(),
        fsync: Fsync { by_kernel: false, waits_for_child: false },
        written: None,
        fsynced: ClockToken::EMPTY,
        forked: None,
        saved: ClockToken::EMPTY,
        last_save: None,
        applied: ClockToken::EMPTY,
        has_save_points: false,
        beats: 0,
    };
}

crate::redis::server_local! {
    static DURABLE: RefCell<Durable> = const { RefCell::new(Durable::NOTHING) };
}

/// What the durable clock comes from now.
#[must_use]
pub fn by() -> By {
    DURABLE.with_borrow(|durable| durable.by)
}

/// A child was forked: it may be one that saves.
pub fn forked() {
    let clock = state::shard().map(|shard| shard.clock_token()).ok();
    DURABLE.with_borrow_mut(|durable| durable.forked = clock);
}

/// Another dataset comes in: nothing of it survives yet. A replica that was here comes back.
pub fn restart() {
    DURABLE.with_borrow_mut(|durable| {
        let mut replicas = std::mem::take(&mut durable.replicas);
        have_nothing(&mut replicas);
        let (fsync, has_save_points) = (durable.fsync, durable.has_save_points);
        *durable = Durable { replicas, fsync, has_save_points, by: durable.by, ..Durable::NOTHING };
    });
}

/// A beat of a primary. Before anything is replicated in it, so that the offset has what the clock has.
pub fn beat(context: &Context) {
    let Ok(applied) = state::shard().map(|shard| (!shard.has_records()).then(|| shard.clock_token())) else { return };
    let Some(applied) = applied else { return };
    let clock = DURABLE.with_borrow_mut(|durable| durable.look(context, applied));
    if let Ok(mut shard) = state::shard() {
        shard.set_durable(clock);
    }
}

impl Durable {
    fn look(&mut self, context: &Context, applied: ClockToken) -> Option<ClockToken> {
        let now = Instant::now();
        let replication = Info::section(context, c"replication");
        let persistence = Info::section(context, c"persistence");
        if let Some(offset) = replication.number(c"master_repl_offset") {
            self.mark(offset, &applied);
        }
        let has_replicas = self.hear_replicas(online(&replication), now);
        if self.beats.is_multiple_of(LOOK_BEATS) {
            self.look_at_configuration(context);
        }
        let flags = context.flags();
        let has_file = flags.has_aof();
        self.look_at_file(has_file, flags.has_child(), &persistence, &applied, now);
        self.look_at_saves(&persistence);
        self.beats = self.beats.wrapping_add(1);
        self.applied = applied;
        self.by = match (has_replicas, has_file) {
            _ if REPORT_APPLIED.get() != 0 => By::Applied,
            (true, true) => By::ReplicasAndFile,
            (true, false) => By::Replicas,
            (false, true) => By::File,
            (false, false) if self.has_save_points => By::Save,
            (false, false) => By::Applied,
        };
        match self.by {
            By::Applied => None,
            By::File => Some(self.fsynced.clone()),
            By::Replicas => Some(self.acknowledged.clone()),
            By::ReplicasAndFile => Some(self.acknowledged.lower(&self.fsynced)),
            By::Save => Some(self.saved.clone()),
        }
    }

    fn mark(&mut self, offset: u64, applied: &ClockToken) {
        match self.marks.back_mut() {
            Some((last, clock)) if *last == offset => clock.clone_from(applied),
            // Native offsets begin anew with another history.
            Some((last, _)) if *last > offset => {
                self.marks.clear();
                have_nothing(&mut self.replicas);
            }
            _ => {}
        }
        if self.marks.back().is_none_or(|(last, _)| *last < offset) {
            self.marks.push_back((offset, applied.clone()));
        }
        if self.marks.len() > MARKS_MAX {
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// Whether there are replicas, or were a moment ago. `online`: the address of each, and what it has acknowledged.
    fn hear_replicas(&mut self, online: impl IntoIterator<Item = (String, u64)>, now: Instant) -> bool {
        for (address, mut offset) in online {
            // Several may have the same, behind one gateway.
            if let Some(at) = self.replicas.iter().position(|replica| replica.address == address) {
                let known = self.replicas.swap_remove(at);
                offset = if known.seen == now { offset.min(known.offset) } else { offset };
            }
            self.replicas.push(Replica { address, offset, seen: now });
        }
        self.replicas.retain(|replica| now.duration_since(replica.seen) < REPLICA_HOLD);
        let Some(lowest) = self.replicas.iter().map(|replica| replica.offset).min() else { return false };
        while self.marks.get(1).is_some_and(|(offset, _)| *offset <= lowest) {
            self.marks.pop_front();
        }
        if let Some((_, clock)) = self.marks.front().filter(|(offset, _)| *offset <= lowest) {
            self.acknowledged.clone_from(clock);
        }
        true
    }

    fn look_at_configuration(&mut self, context: &Context) {
        let is = |name, value: &[u8]| setting(context, name).is_some_and(|found| found == value);
        let fsync =
            Fsync { by_kernel: is(b"appendfsync", b"no"), waits_for_child: is(b"no-appendfsync-on-rewrite", b"yes") };
        if std::mem::replace(&mut self.fsync, fsync) != fsync {
            // What was written by the old rule is fsynced by the new one: not yet.
            self.fsync_begins_anew(Instant::now());
        }
        self.has_save_points = setting(context, b"save").is_some_and(|points| !points.is_empty());
    }

    fn fsync_begins_anew(&mut self, now: Instant) {
        if let Some((since, _)) = &mut self.written {
            *since = now;
        }
    }

    fn look_at_file(
        &mut self,
        has_file: bool,
        has_child: bool,
        persistence: &Info,
        applied: &ClockToken,
        now: Instant,
    ) {
        let zero = |field| persistence.number(field) == Some(0);
        // While the first one is written, nothing of it counts.
        let is_ready = has_file && zero(c"aof_rewrite_in_progress") && zero(c"aof_rewrite_scheduled")
            || has_file && self.written.is_some();
        let is_idle =
            zero(c"aof_pending_bio_fsync") && persistence.text(c"aof_last_write_status").as_deref() == Some("ok");
        if has_child && self.fsync.waits_for_child && !self.fsync.by_kernel {
            self.fsync_begins_anew(now);
        }
        let takes = if self.fsync.by_kernel { WRITEBACK } else { FSYNC };
        match &self.written {
            _ if !has_file => self.written = None,
            None if is_ready => self.written = Some((now, applied.clone())),
            Some((since, clock)) if is_idle && now.duration_since(*since) >= takes => {
                self.fsynced.clone_from(clock);
                self.written = Some((now, applied.clone()));
            }
            _ => {}
        }
    }

    fn look_at_saves(&mut self, persistence: &Info) {
        let ended = persistence.number(c"rdb_last_save_time").unwrap_or_default();
        let begun = persistence.number(c"rdb_saves").unwrap_or_default();
        if persistence.number(c"rdb_bgsave_in_progress") != Some(0) {
            return;
        }
        let (ended_before, begun_before) = self.last_save.replace((ended, begun)).unwrap_or((ended, begun));
        let is_ok = persistence.text(c"rdb_last_bgsave_status").as_deref() == Some("ok");
        match self.forked.take() {
            Some(forked) if begun != begun_before && is_ok => self.saved = forked,
            // `SAVE` forks nothing: then what was applied a beat ago is in it. Its end is told in whole seconds only.
            None if ended != ended_before => self.saved = self.applied.clone(),
            // Another child.
            _ => {}
        }
    }
}

/// Of another dataset, or of another history, until they say so.
fn have_nothing(replicas: &mut [Replica]) {
    replicas.iter_mut().for_each(|replica| replica.offset = 0);
}

/// Address of each replica that is online, and the native offset that it has acknowledged.
fn online(replication: &Info) -> impl Iterator<Item = (String, u64)> + '_ {
    let count = replication.number(c"connected_slaves").unwrap_or_default();
    (0..count).filter_map(|index| {
        let text = replication.indexed(c"slave", index)?;
        let field = |name: &str| text.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        let offset = field("state").filter(|state| *state == "online").and(field("offset"))?.parse().ok()?;
        Some((format!("{}:{}", field("ip")?, field("port")?), offset))
    })
}

#[cfg(test)]
mod tests {
    use syncer_shared::clock::VectorClock;
    use syncer_shared::instance::InstanceId;
    use syncer_shared::origin::Origins;
    use syncer_shared::replid::ReplId;
    use syncer_shared::timestamp::Timestamp;

    use super::*;

    fn clock(ts: u64) -> ClockToken {
        let (mut origins, mut clock) = (Origins::default(), VectorClock::default());
        let one = InstanceId::new(1).expect("a valid id");
        let origin = origins.intern(ReplId::from_bytes([1; 20]), one).expect("there is room");
        clock.set(origin, Timestamp::from_bits(ts));
        ClockToken::from_clock(&clock, &origins)
    }

    fn at(offset: u64) -> [(String, u64); 1] {
        [("127.0.0.1:1".to_owned(), offset)]
    }

    fn with_marks(offsets: impl IntoIterator<Item = u64>) -> Durable {
        Durable { marks: offsets.into_iter().map(|at| (at * 10, clock(at))).collect(), ..Durable::NOTHING }
    }

    /// Rule 1: a replica that is gone may be the one that is promoted.
    #[test]
    fn when_the_last_replica_goes_nothing_more_is_promised_for_a_minute() {
        let mut durable = with_marks(1..=4);
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        assert!(!durable.hear_replicas([], begin), "there has never been one");
        assert!(durable.hear_replicas(at(25), after(1)));
        assert_eq!(durable.acknowledged, clock(2));
        durable.marks.push_back((50, clock(5)));
        for seconds in [2, 30, 60] {
            assert!(durable.hear_replicas([], after(seconds)), "after {seconds} s");
            assert_eq!(durable.acknowledged, clock(2));
        }
        assert!(!durable.hear_replicas([], after(61)), "it does not come back");
        // Back after all, it counts from what it has; another minute begins.
        assert!(durable.hear_replicas(at(50), after(100)));
        assert_eq!(durable.acknowledged, clock(5));
        assert!(durable.hear_replicas([], after(159)));
        assert!(!durable.hear_replicas([], after(160)));
    }

    /// Rule 1: so it is with one of several.
    #[test]
    fn when_one_of_the_replicas_goes_nothing_more_is_promised_for_a_minute() {
        let mut durable = with_marks(1..=5);
        let (begin, two) = (Instant::now(), |offset| ("127.0.0.1:2".to_owned(), offset));
        let after = |seconds| begin + Duration::from_secs(seconds);
        let [one] = at(20);
        assert!(durable.hear_replicas([one, two(40)], begin));
        assert_eq!(durable.acknowledged, clock(2));
        assert!(durable.hear_replicas([two(50)], after(59)));
        assert_eq!(durable.acknowledged, clock(2), "the other one may be promoted");
        assert!(durable.hear_replicas([two(50)], after(60)));
        assert_eq!(durable.acknowledged, clock(5), "it does not come back");
    }

    /// Behind one gateway, or where nobody tells: the server says the same of both.
    #[test]
    fn replicas_with_the_same_address_count_each() {
        let mut durable = with_marks(1..=5);
        let (begin, [fast], [slow]) = (Instant::now(), at(50), at(20));
        assert!(durable.hear_replicas([slow, fast], begin));
        assert_eq!(durable.acknowledged, clock(2));
        let [caught_up] = at(40);
        assert!(durable.hear_replicas([caught_up], begin + Duration::from_secs(1)));
        assert_eq!(durable.acknowledged, clock(4));
    }

    /// What a replica that is gone had acknowledged of another history says nothing of this one.
    #[test]
    fn when_native_offsets_begin_anew_replicas_have_nothing() {
        let mut durable = with_marks(4..=5);
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        assert!(durable.hear_replicas(at(50), begin));
        assert_eq!(durable.acknowledged, clock(5));
        durable.mark(10, &clock(9));
        assert!(durable.hear_replicas([], after(1)));
        assert_eq!(durable.acknowledged, clock(5));
        assert!(durable.hear_replicas(at(10), after(2)));
        assert_eq!(durable.acknowledged, clock(9));
    }
}
