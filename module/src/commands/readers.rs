//! Agents that read the backlog: a cursor for each connection, and the clients that wait for more.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use syncer_shared::backlog::Chunk;
use syncer_shared::instance::{InstanceId, InstanceSet};
use syncer_shared::replid::ReplId;
use syncer_shared::shard::Shard;

use super::arguments::CommandError;
use super::{assembler, turn, twins, waiters};
use crate::redis::timer::now_ms;
use crate::redis::{Blocked, Context, Replier};

/// Under load a reader gets an answer at most so often: one larger read costs both sides less than many small ones.
const PACE: Duration = Duration::from_micros(250);
/// From this many bytes on, another thread puts the answer together.
const INLINE_MAX: usize = 16 << 10;
/// Flag in the answer: a client here is in `SYNCER.WAIT`.
const REPORT_NOW: u64 = 1;

/// Where a connection reads on.
struct Cursor {
    reader: InstanceId,
    /// The reign of the server that it reads for.
    replid: ReplId,
    offset: u64,
    wanted: InstanceSet,
    answered: Option<Instant>,
    /// A client has begun `SYNCER.WAIT` and the reader has not been told.
    announce: bool,
}

/// A client in `SYNCER.READ`.
struct Reader {
    client: u64,
    blocked: Blocked,
    max_bytes: usize,
    deadline: Instant,
}

struct Readers {
    cursors: BTreeMap<u64, Cursor>,
    /// Where each instance reads on, also while it is away.
    places: BTreeMap<InstanceId, u64>,
    waiting: Vec<Reader>,
}

crate::redis::server_local! {
    static READERS: RefCell<Readers> = const {
        RefCell::new(Readers { cursors: BTreeMap::new(), places: BTreeMap::new(), waiting: Vec::new() })
    };
}

/// What `SYNCER.READ` answers.
pub struct Piece {
    from: u64,
    next: u64,
    end: u64,
    now_ms: u64,
    flags: u64,
    chunk: Chunk,
}

/// The next `READ` of the client begins at `offset`.
pub fn bind(client: u64, (reader, replid): (InstanceId, ReplId), offset: u64, wanted: InstanceSet) {
    let cursor = Cursor { reader, replid, offset, wanted, answered: None, announce: false };
    READERS.with_borrow_mut(|readers| {
        readers.cursors.insert(client, cursor);
        readers.places.insert(reader, offset);
    });
}

/// Where an instance reads on, and whether it is connected; `None` when it has never read here.
pub fn place_of(instance: InstanceId) -> Option<(u64, bool)> {
    READERS.with_borrow(|readers| {
        let connected = readers.cursors.values().filter(|cursor| cursor.reader == instance).map(|cursor| cursor.offset);
        match connected.max() {
            Some(offset) => Some((offset, true)),
            None => readers.places.get(&instance).map(|offset| (*offset, false)),
        }
    })
}

/// The client is gone, or has nothing to read.
pub fn forget(client: u64) {
    READERS.with_borrow_mut(|readers| {
        if let Some(cursor) = readers.cursors.remove(&client) {
            readers.places.insert(cursor.reader, cursor.offset);
        }
        readers.waiting.retain(|reader| reader.client != client);
    });
}

/// Nobody may read on without a new handshake.
pub fn forget_all() {
    let waiting = READERS.with_borrow_mut(|readers| {
        let cursors = std::mem::take(&mut readers.cursors);
        readers.places.extend(cursors.into_values().map(|cursor| (cursor.reader, cursor.offset)));
        std::mem::take(&mut readers.waiting)
    });
    for reader in waiting {
        reader.blocked.answer(|reply| reply.error(&CommandError::Moved.to_string()));
    }
}

/// Whether no client waits.
pub fn is_idle() -> bool {
    READERS.with_borrow(|readers| readers.waiting.is_empty())
}

/// How many connections have a cursor.
pub fn count() -> usize {
    READERS.with_borrow(|readers| readers.cursors.len())
}

/// `SYNCER.READ`: answers at once, or makes the client wait.
pub fn read(
    context: &Context,
    shard: &mut Shard,
    max_bytes: usize,
    timeout: Duration,
    may_block: bool,
) -> Result<(), CommandError> {
    let (now, client) = (Instant::now(), context.client());
    READERS.with_borrow_mut(|readers| {
        let cursor = readers.cursors.get_mut(&client).ok_or(CommandError::Moved)?;
        twins::reads(cursor.reader, cursor.replid, client, now);
        if !may_block {
            take(cursor, shard, max_bytes, now)?.write(context.reply());
            return Ok(());
        }
        let blocked = Blocked::new(context);
        if timeout.is_zero() || cursor.is_due(shard, now) {
            answer_blocked(cursor, shard, blocked, max_bytes, now);
        } else {
            let deadline = now + timeout;
            readers.waiting.push(Reader { client, blocked, max_bytes, deadline });
            turn::begin(context, Some(deadline));
        }
        Ok(())
    })
}

/// Tells all readers that a client has begun `SYNCER.WAIT`.
pub fn announce(context: &Context) {
    READERS.with_borrow_mut(|readers| readers.cursors.values_mut().for_each(|cursor| cursor.announce = true));
    turn::begin(context, None);
}

/// Answers the readers that have something to read, or have waited long enough; gives when to look again.
pub fn serve(shard: &mut Shard, now: Instant) -> Option<Instant> {
    READERS.with_borrow_mut(|Readers { cursors, waiting, .. }| {
        let mut next: Option<Instant> = None;
        let mut index = 0;
        while let Some(reader) = waiting.get(index) {
            let Some(cursor) = cursors.get_mut(&reader.client) else {
                waiting.swap_remove(index);
                continue;
            };
            if cursor.is_due(shard, now) || reader.deadline <= now {
                let reader = waiting.swap_remove(index);
                answer_blocked(cursor, shard, reader.blocked, reader.max_bytes, now);
                continue;
            }
            let again = if cursor.has_news(shard) { now + Duration::from_millis(1) } else { reader.deadline };
            next = Some(next.map_or(again, |next| next.min(again)));
            index += 1;
        }
        next
    })
}

impl Cursor {
    fn has_news(&self, shard: &Shard) -> bool {
        self.announce || shard.backlog().end_offset() > self.offset
    }

    fn is_due(&self, shard: &Shard, now: Instant) -> bool {
        self.has_news(shard) && self.answered.is_none_or(|answered| now.duration_since(answered) >= PACE)
    }
}

impl Piece {
    /// Writes the answer. Copies the frames: on another thread when they are many.
    pub fn write(&self, reply: Replier) {
        reply.array(6);
        for number in [self.from, self.next, self.end, self.now_ms, self.flags] {
            reply.number(number);
        }
        reply.bytes(&self.chunk.assemble());
    }
}

fn answer_blocked(cursor: &mut Cursor, shard: &mut Shard, blocked: Blocked, max_bytes: usize, now: Instant) {
    match take(cursor, shard, max_bytes, now) {
        Ok(piece) if piece.chunk.len() > INLINE_MAX => assembler::answer(blocked, piece),
        Ok(piece) => blocked.answer(|reply| piece.write(reply)),
        Err(error) => blocked.answer(|reply| reply.error(&error.to_string())),
    }
}

/// Reads on from the cursor and moves it.
fn take(cursor: &mut Cursor, shard: &mut Shard, max_bytes: usize, now: Instant) -> Result<Piece, CommandError> {
    // M2: a Forget may have come since the handshake.
    shard.check_reader(cursor.reader)?;
    let chunk = shard.backlog_mut().read(cursor.offset, max_bytes, cursor.wanted)?;
    let from = std::mem::replace(&mut cursor.offset, chunk.next);
    cursor.answered = Some(now);
    cursor.announce = false;
    let flags = if waiters::wants_reports() { REPORT_NOW } else { 0 };
    Ok(Piece { from, next: chunk.next, end: chunk.end, now_ms: now_ms(), flags, chunk })
}
