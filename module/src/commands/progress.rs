//! The full sync that goes on at this target: who brings it, how far it is, what remains to be swept. Before it, whose agent is copying a snapshot.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use syncer_shared::effect::FUNCTIONS_DB;
use syncer_shared::instance::{InstanceId, InstanceSet};
use syncer_shared::merge::KeyRef;
use syncer_shared::shard::{Shard, SyncError};

use super::arguments::CommandError;
use crate::capture::published;
use crate::keyspace::{functions, with_keyspace};
use crate::redis::timer::now_ms;
use crate::redis::{Context, KeyScan, random_bytes, server};
use crate::state;

/// An agent that brings nothing for so long may be replaced by another one.
const SILENT: Duration = Duration::from_secs(10);

/// So long an agent is taken to be copying a snapshot, or to be about to begin, without a word: the source may be slow to fork.
const PREPARED: Duration = Duration::from_secs(120);

/// One full sync.
struct Progress {
    token: u64,
    client: u64,
    source: InstanceId,
    keys: u64,
    keys_total: u64,
    bytes: u64,
    phase: Phase,
    begun: Instant,
    touched: Instant,
    sweep: Sweep,
}

/// A snapshot that an agent is copying into a file on its disk: nothing of it is here.
struct Copying {
    client: u64,
    touched: Instant,
    figures: Copied,
    begun: Instant,
}

/// How far an agent has copied a snapshot.
#[derive(Clone, Copy)]
pub struct Copied {
    /// Where it was taken.
    pub source: InstanceId,
    /// Copied.
    pub keys: u64,
    /// In all, about.
    pub keys_total: u64,
    /// Copied.
    pub bytes: u64,
}

/// The walk over the keys here that the snapshot does not have.
enum Sweep {
    Begin,
    Dataset { db: u32, scan: KeyScan },
    Metadata { place: usize },
}

/// How far it is, for people.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// What the figures count.
    pub phase: Phase,
    /// Where the snapshot was taken.
    pub source: InstanceId,
    /// Copied or merged; of a file, about, and 0 as long as nobody knows how many keys its bytes are.
    pub keys: u64,
    /// In all, about.
    pub keys_total: u64,
    /// Of the snapshot, copied or merged.
    pub bytes: u64,
    /// Since the beginning.
    pub elapsed: Duration,
}

/// What a full sync is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The agent copies the snapshot.
    Copying,
    /// It is merged.
    Merging,
    /// It comes in as a file, which the server then loads.
    File,
}

impl Figures {
    /// Unless nobody knows.
    pub fn keys(&self) -> Option<u64> {
        (self.keys > 0 || self.phase != Phase::File).then_some(self.keys)
    }

    /// In hundredths of the keys, whose number is an estimate.
    pub fn percent(&self) -> Option<u64> {
        let percent = (self.keys()? * 100).checked_div(self.keys_total)?;
        Some(percent.min(100))
    }

    /// So far, on the average.
    pub fn keys_per_second(&self) -> Option<f64> {
        Some(self.keys()? as f64 / self.elapsed.as_secs_f64().max(0.001))
    }

    /// Until the phase ends, at the rate so far.
    pub fn seconds_left(&self) -> Option<u64> {
        let rate = self.keys_per_second().filter(|rate| *rate > 0.0)?;
        Some((self.keys_total.saturating_sub(self.keys) as f64 / rate) as u64)
    }
}

crate::redis::server_local! {
    static COPYING: RefCell<Option<Copying>> = const { RefCell::new(None) };
    static PROGRESS: RefCell<Option<Progress>> = const { RefCell::new(None) };
    static PREPARED_FOR: Cell<Option<(u64, Instant)>> = const { Cell::new(None) };
    static WANTED: Cell<InstanceSet> = const { Cell::new(InstanceSet::EMPTY) };
}

/// The source of a sync that another client is bringing.
pub fn rival(client: u64) -> Option<InstanceId> {
    PROGRESS.with_borrow(|progress| {
        let progress = progress.as_ref()?;
        (progress.client != client && progress.touched.elapsed() < SILENT).then_some(progress.source)
    })
}

/// The source of a snapshot that another client is copying.
pub fn other_copy(client: u64) -> Option<InstanceId> {
    COPYING.with_borrow(|copying| {
        let copying = copying.as_ref()?;
        (copying.client != client && copying.touched.elapsed() < PREPARED).then_some(copying.figures.source)
    })
}

/// An agent copies a snapshot and has come so far. A source serves one copy for this instance: a second agent is to wait.
pub fn copy(client: u64, figures: Copied) {
    if count_of_file(client, figures) {
        return;
    }
    let now = Instant::now();
    COPYING.with_borrow_mut(|slot| {
        let same = slot.as_ref().filter(|known| known.client == client && known.figures.source == figures.source);
        let begun = same.map_or(now, |known| known.begun);
        *slot = Some(Copying { client, touched: now, figures, begun });
    });
}

/// Of the pieces of a file only who brings them knows how many keys they are. Whether it is one.
fn count_of_file(client: u64, Copied { source, keys, .. }: Copied) -> bool {
    PROGRESS.with_borrow_mut(|progress| {
        let of_file = |progress: &&mut Progress| {
            progress.phase == Phase::File && progress.client == client && progress.source == source
        };
        let progress = progress.as_mut().filter(of_file);
        progress.map(|progress| progress.keys = keys).is_some()
    })
}

/// Whether this client copies a snapshot.
pub fn is_copying(client: u64) -> bool {
    COPYING.with_borrow(|copying| copying.as_ref().is_some_and(|copying| copying.client == client))
}

/// An agent of an earlier release is about to ask for a snapshot, and merges it as it comes. From now on none is given from here: who is in the midst of
/// a sync gives none, and two that had begun each other's would wait for each other for ever once they are broken off. This way the source of a
/// sync is always one that began no sync before.
pub fn prepare(client: u64) {
    PREPARED_FOR.set(Some((client, Instant::now())));
}

/// Whether a sync may begin here any moment.
pub fn is_prepared() -> bool {
    PREPARED_FOR.get().is_some_and(|(_, since)| since.elapsed() < PREPARED)
}

/// A sync begins; returns its token.
pub fn begin(client: u64, source: InstanceId, keys_total: u64, phase: Phase) -> u64 {
    let token = u64::from_be_bytes(random_bytes()) >> 1;
    let now = Instant::now();
    let sweep = Sweep::Begin;
    let (keys, bytes) = (0, 0);
    let progress = Progress { token, client, source, keys, keys_total, bytes, phase, begun: now, touched: now, sweep };
    PROGRESS.set(Some(progress));
    PREPARED_FOR.set(None);
    COPYING.set(None);
    let mut wanted = WANTED.get();
    wanted.remove(source);
    WANTED.set(wanted);
    token
}

/// Whether `token` names the sync that goes on.
pub fn check(token: u64, client: u64) -> Result<(), CommandError> {
    PROGRESS.with_borrow_mut(|progress| {
        let progress = progress.as_mut().filter(|progress| progress.token == token).ok_or(CommandError::OtherSync)?;
        (progress.client, progress.touched) = (client, Instant::now());
        Ok(())
    })
}

/// Another piece of a file came.
pub fn touch(client: u64) {
    PROGRESS.with_borrow_mut(|progress| {
        if let Some(progress) = progress {
            (progress.client, progress.touched) = (client, Instant::now());
        }
    });
}

/// Keys were merged, or bytes of a file have come.
pub fn advance(keys: u64, bytes: u64) {
    PROGRESS.with_borrow_mut(|progress| {
        if let Some(progress) = progress {
            progress.keys += keys;
            progress.bytes += bytes;
        }
    });
}

/// Merges what the snapshot does not have, for a while. Whether that is all.
pub fn sweep(context: &Context, shard: &mut Shard, budget: Duration) -> Result<bool, SyncError> {
    // Taken out, since merging calls into the server.
    let Some(mut progress) = PROGRESS.take() else { return Err(SyncError::NotBegun) };
    let (begun, home) = (Instant::now(), context.db());
    let mut done = Ok(false);
    while matches!(done, Ok(false)) && begun.elapsed() < budget {
        done = progress.sweep.step(context, shard);
    }
    context.select(home);
    PROGRESS.set(Some(progress));
    done
}

impl Sweep {
    /// A few keys more. Whether there are none left.
    fn step(&mut self, context: &Context, shard: &mut Shard) -> Result<bool, SyncError> {
        match self {
            Self::Begin => {
                let (keys, _) = server::key_counts(context, server::databases(context));
                // Mostly there are none, and the walk over all keys is not needed.
                let few = with_keyspace(context, |keyspace| shard.may_be_absent(keys, keyspace));
                let Some(few) = few else {
                    *self = Self::Dataset { db: 0, scan: KeyScan::new() };
                    return Ok(false);
                };
                *self = Self::Metadata { place: 0 };
                few.iter().try_for_each(|(db, name)| absent(context, shard, *db, name))?;
                absent_functions(context, shard).map(|()| false)
            }
            Self::Dataset { db, scan } => {
                if !context.select(*db) {
                    *self = Self::Metadata { place: 0 };
                    return absent_functions(context, shard).map(|()| false);
                }
                let mut names: Vec<Vec<u8>> = Vec::new();
                let more = scan.step(context, &mut |name| names.push(name.to_vec()));
                let db_now = *db;
                if !more {
                    (*db, *scan) = (db_now + 1, KeyScan::new());
                }
                names.iter().try_for_each(|name| absent(context, shard, db_now, name)).map(|()| false)
            }
            Self::Metadata { place } => {
                const PLACES: usize = 64;
                // A sync goes on, so nothing joins the tail.
                let table = with_keyspace(context, |keyspace| shard.table(keyspace));
                let places = table.places();
                let end = (*place + PLACES).min(places);
                let keys = (*place..end).filter_map(|at| table.key_in(at));
                let keys: Vec<(u32, Vec<u8>)> = keys.map(|(db, name)| (db, name.to_vec())).collect();
                for (db, name) in keys {
                    absent(context, shard, db, &name)?;
                }
                let done = end == *place || end == places;
                *place = end;
                Ok(done)
            }
        }
    }
}

fn absent_functions(context: &Context, shard: &mut Shard) -> Result<(), SyncError> {
    let libraries = if published::wants_functions() { functions::list(context) } else { Vec::new() };
    libraries.iter().try_for_each(|(name, _)| absent(context, shard, FUNCTIONS_DB, name))
}

fn absent(context: &Context, shard: &mut Shard, db: u32, name: &[u8]) -> Result<(), SyncError> {
    let key = KeyRef { db, name };
    if shard.has_synced(key) {
        return Ok(());
    }
    with_keyspace(context, |keyspace| shard.sync_absent(key, keyspace, now_ms()))
}

/// The sync is complete; tells about it.
pub fn end() -> String {
    let Some(progress) = PROGRESS.take() else { return String::new() };
    let seconds = progress.begun.elapsed().as_secs_f64();
    let Progress { source, keys, bytes, .. } = progress;
    format!("full sync from instance {source} is complete: {keys} keys, {bytes} bytes in {seconds:.1} s")
}

/// The state that it was for is gone.
pub fn abandon() {
    PROGRESS.set(None);
}

/// The client is gone: whoever comes next may begin anew at once.
pub fn forget(client: u64) {
    if PREPARED_FOR.get().is_some_and(|(by, _)| by == client) {
        PREPARED_FOR.set(None);
    }
    let copying = COPYING.with_borrow_mut(|slot| slot.take_if(|copying| copying.client == client));
    if copying.is_some()
        && let Ok(mut shard) = state::shard()
    {
        shard.end_compare();
    }
    PROGRESS.with_borrow_mut(|slot| {
        slot.take_if(|progress| progress.client == client);
    });
}

/// Whether an agent is bringing a snapshot.
pub fn is_running() -> bool {
    PROGRESS.with_borrow(Option::is_some)
}

/// How far it is.
pub fn figures() -> Option<Figures> {
    let merging = PROGRESS.with_borrow(|progress| {
        let &Progress { source, keys, keys_total, bytes, phase, begun, .. } = progress.as_ref()?;
        Some(Figures { phase, source, keys, keys_total, bytes, elapsed: begun.elapsed() })
    });
    let copying = || {
        COPYING.with_borrow(|copying| {
            let &Copying { figures: Copied { source, keys, keys_total, bytes }, begun, .. } = copying.as_ref()?;
            Some(Figures { phase: Phase::Copying, source, keys, keys_total, bytes, elapsed: begun.elapsed() })
        })
    };
    merging.or_else(copying)
}

/// `SYNCER.RESYNC`.
pub fn want(instance: InstanceId) {
    let mut wanted = WANTED.get();
    wanted.insert(instance);
    WANTED.set(wanted);
}

/// Whom `SYNCER.RESYNC` named and nobody has begun with.
pub fn wanted() -> InstanceSet {
    WANTED.get()
}
