//! `XREADGROUP` outside transactions: whether it would block, and what it was given when it did.
//!
//! One that blocks and is served later passes no filter and fires no event: while there are such clients, the positions of their
//! groups are looked at by the clock.

use std::cell::RefCell;

use syncer_shared::effect::{Effect, Op};
use syncer_shared::group;
use syncer_shared::stream::StreamId;

use super::read::{Reading, deliver, keyspace_ids};
use super::{Changes, last_id, position};
use crate::capture::{Mode, no_touch, role, with};
use crate::keyspace::{ServerKeyspace, stream, with_keyspace};
use crate::redis::filter::Call;
use crate::redis::timer::{self, Tick};
use crate::redis::{Args, Context, client, detached};

/// Whether the command runs to its end at once.
#[must_use]
pub fn will_not_block(context: &Context, command: &Call, db: u32) -> bool {
    let args = command.args();
    let args = Args::of(&args);
    let Some(reading) = Reading::parse(args).filter(Reading::may_block) else { return true };
    // Entries delivered before: there or not, it does not wait for more.
    if reading.new_entries(args).count() < reading.streams() {
        return true;
    }
    let has_entries = |keyspace: &mut ServerKeyspace<'_>, at| {
        args.bytes(at).is_some_and(|key| has_undelivered(keyspace, db, key, reading.group))
    };
    // Nothing may expire here: the filter has no place for its event.
    let look = || with_keyspace(context, |keyspace| reading.new_entries(args).any(|at| has_entries(keyspace, at)));
    no_touch::look(context, || in_database(context, db, look)).unwrap_or(false)
}

/// Runs `look` with a database selected.
pub fn in_database(context: &Context, db: u32, look: impl FnOnce() -> bool) -> bool {
    let home = context.db();
    let found = context.select(db) && look();
    context.select(home);
    found
}

/// Whether the stream has an entry that the group has not delivered, or no such group, which is an error at once.
fn has_undelivered(keyspace: &mut ServerKeyspace<'_>, db: u32, key: &[u8], group: &[u8]) -> bool {
    let Some(after) = position(keyspace, db, key, group).and_then(StreamId::next) else { return true };
    keyspace.has_entry_from(db, key, after) || !keyspace.late(db, key, group, 1).is_empty()
}

/// A stream that a blocked client waits for.
struct Watch {
    client: u64,
    db: u32,
    key: Vec<u8>,
    group: Vec<u8>,
    /// None with `NOACK`.
    consumer: Option<Vec<u8>>,
    position: StreamId,
}

crate::redis::server_local! {
    static WATCHES: RefCell<Vec<Watch>> = const { RefCell::new(Vec::new()) };
}

/// How often the positions are looked at.
const LOOK_MS: u32 = 10;

/// The client is about to block.
pub fn watch(command: &Call, client: u64) {
    let (Some(context), Some(info)) = (detached(), client::info(client)) else { return };
    let args = command.args();
    let args = Args::of(&args);
    let Some(reading) = Reading::parse(args) else { return };
    let of_stream = |keyspace: &mut ServerKeyspace<'_>, at| {
        let key = args.bytes(at)?.to_vec();
        let position = position(keyspace, info.db, &key, reading.group)?;
        let consumer = reading.acknowledges().then(|| reading.consumer.to_vec());
        Some(Watch { client, db: info.db, key, group: reading.group.to_vec(), consumer, position })
    };
    let look = || {
        with_keyspace(context, |keyspace| reading.new_entries(args).filter_map(|at| of_stream(keyspace, at)).collect())
    };
    let watches: Vec<Watch> = no_touch::look(context, look).unwrap_or_default();
    WATCHES.with_borrow_mut(|all| {
        if all.is_empty() {
            timer::start::<Look>(context, LOOK_MS);
        }
        all.extend(watches);
    });
}

/// Looks at what blocked clients were given, before remote effects or `XGROUP` move groups: it could not be told from what these do.
pub fn before_move(context: &Context) {
    if stream::saw_writes() && role::mode() == Mode::Primary && WATCHES.with_borrow(|watches| !watches.is_empty()) {
        let mut watches = WATCHES.take();
        log_given(context, &mut watches);
        WATCHES.with_borrow_mut(|all| all.append(&mut watches));
    }
    stream::forget_writes();
}

/// Groups have been moved: nobody was given anything by that.
pub fn after_move(context: &Context) {
    if stream::saw_writes() {
        WATCHES.with_borrow_mut(|watches| watches.iter_mut().for_each(|watch| watch.look_again(context)));
    }
}

/// A unit has been logged. Where it says all of a stream (`COPY`, `RESTORE`, `SWAPDB`), groups are where the new value says, also further back: nobody was given
/// anything by that, but may be now.
pub fn after_unit(context: &Context, body: &[u8]) {
    WATCHES.with_borrow_mut(|watches| {
        if watches.is_empty() {
            return;
        }
        let replaces = |effect: &Effect<'_>| matches!(effect.op, Op::Clear { .. } | Op::Flush { .. });
        let replacing: Vec<Effect<'_>> = group::effects(body).filter(replaces).collect();
        let is_replaced = |watch: &Watch| replacing.iter().any(|effect| watch.is_replaced(effect));
        for watch in watches.iter_mut().filter(|watch| is_replaced(watch)) {
            watch.look_again(context);
            stream::saw_write();
        }
    });
}

/// What was given and acknowledged since the last look is not pending any more: then only how far its group is is left to tell, by one
/// of those who wait.
fn log_given(context: &Context, watches: &mut [Watch]) {
    let mut told: Vec<usize> = Vec::new();
    for at in 0..watches.len() {
        let (before, [watch, ..]) = watches.split_at_mut(at) else { return };
        let is_told = told.iter().any(|other| before.get(*other).is_some_and(|other| other.is_of_group(watch)));
        if let Some(changes) = with_keyspace(context, |keyspace| watch.changes(keyspace, is_told)) {
            with(|capture| capture.log_changes(context, watch.db, &watch.key, &changes));
            told.push(at);
        }
    }
}

/// Looks at what blocked clients were given.
struct Look;

impl Tick for Look {
    fn tick(context: &Context) {
        let mut watches = WATCHES.take();
        match role::mode() {
            // Nobody waits any more.
            Mode::Replica => return,
            // Who waited when a file was loaded waits still.
            Mode::Waiting | Mode::Loading => {}
            Mode::Primary => {
                log_given(context, &mut watches);
                watches.retain(|watch| client::info(watch.client).is_some_and(|info| info.is_blocked));
            }
        }
        WATCHES.with_borrow_mut(|all| {
            all.append(&mut watches);
            if !all.is_empty() {
                timer::start::<Self>(context, LOOK_MS);
            }
        });
    }
}

impl Watch {
    fn look_again(&mut self, context: &Context) {
        let now = with_keyspace(context, |keyspace| position(keyspace, self.db, &self.key, &self.group));
        self.position = now.unwrap_or(self.position);
    }

    fn is_replaced(&self, effect: &Effect<'_>) -> bool {
        match effect.op {
            Op::Clear { .. } => effect.db == self.db && *effect.key == *self.key,
            Op::Flush { scope } => scope.includes(self.db),
            _ => false,
        }
    }

    fn is_of_group(&self, other: &Self) -> bool {
        self.db == other.db && self.key == other.key && self.group == other.group
    }

    /// What was delivered since the last look; nothing if it is but the position, and that is told. What other sites have delivered, or came late, is not among it.
    fn changes(&mut self, keyspace: &mut ServerKeyspace<'_>, is_told: bool) -> Option<Changes> {
        let after = position(keyspace, self.db, &self.key, &self.group).filter(|after| *after > self.position)?;
        let mut ids = keyspace_ids(keyspace, self.db, &self.key, self.position, after);
        self.position = after;
        let wanted = self.consumer.as_deref();
        ids.retain(|id| {
            let owner = keyspace.pending(self.db, &self.key, &self.group, Some(*id), None).pop();
            owner.map(|(_, owner)| owner).as_deref() == wanted
        });
        let last = last_id(keyspace, self.db, &self.key)?;
        (!ids.is_empty() || !is_told).then(|| deliver(0, &self.group, wanted, after, &ids, last))
    }
}
