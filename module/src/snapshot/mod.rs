//! Full sync, at the source: a forked child writes the complete state of the shard into a pipe, a thread hands it out on demand.
//!
//! The child waits when nobody reads, so neither side holds more of the snapshot than a few pieces. For an empty instance that reads the
//! same RDB files, it is such a file instead, on the disks of both sides.

mod child;
mod feeder;
mod file;

use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use syncer_shared::instance::InstanceId;

use file::{FileReader, Written};

use crate::native;
use crate::redis::config::SAVE_STATE;
use crate::redis::fork::{CannotFork, Child, fork};
use crate::redis::server::{self, Info};
use crate::redis::timer::{self, Tick};
use crate::redis::{Blocked, Context, log, random_bytes};

/// Who does not read for so long gets no more: meanwhile the server can neither save nor rewrite.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often that is looked at.
const LOOK_MS: u32 = 1000;

/// A snapshot being handed out.
struct Source {
    id: u64,
    reader: InstanceId,
    child: Child,
    requests: Sender<Blocked>,
    touched: Instant,
    is_over: feeder::Over,
    written: Written,
}

impl Drop for Source {
    fn drop(&mut self) {
        if !self.is_over.get() {
            self.child.kill();
        }
    }
}

crate::redis::server_local! {
    static SOURCE: RefCell<Option<Source>> = const { RefCell::new(None) };
}

/// Why no snapshot is to be had.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// One at a time.
    #[error("TRYAGAIN a snapshot for instance {0} is being taken here; try again after it")]
    Busy(InstanceId),
    /// See there.
    #[error(transparent)]
    Fork(#[from] CannotFork),
    /// No pipe.
    #[error("TRYAGAIN no pipe for a snapshot: {0}")]
    Pipe(#[from] std::io::Error),
    /// It has ended, or another one has taken its place.
    #[error("SYNCERSNAPSHOT no such snapshot is under way here; begin a new one")]
    Gone,
}

/// What a reader is told at the beginning.
pub struct Begun {
    /// To be named when reading.
    pub id: u64,
    /// How many keys it will be, about.
    pub keys: u64,
    /// It is an RDB file.
    pub is_file: bool,
}

/// Begins a snapshot for `reader`; one that it had before ends. It is a file if the reader takes files of the kind that `offer` names.
pub fn begin(context: &Context, reader: InstanceId, offer: Option<&str>) -> Result<Begun, SnapshotError> {
    let other = SOURCE.with_borrow(|source| source.as_ref().filter(|s| !s.is_over.get()).map(|s| s.reader));
    if let Some(other) = other.filter(|other| *other != reader) {
        return Err(SnapshotError::Busy(other));
    }
    SOURCE.take();
    let (keys, _) = server::key_counts(context, server::databases(context));
    let file = offer.filter(|offer| can_send_file(context, offer)).and_then(|_| file::create());
    let (output, input) = std::io::pipe()?;
    // The child must not hold the end that is read: it would never learn that this server has ended.
    let output = RefCell::new(Some(output));
    let child = fork(context, |context| {
        drop(output.take());
        match &file {
            Some(file) => file::write(context, file, input),
            None => child::write(context, input),
        }
    })?;
    let mut output = output.take().ok_or(SnapshotError::Gone)?;
    let id = u64::from_be_bytes(random_bytes()) >> 1;
    let written = Written::default();
    let (requests, is_over) = match &file {
        Some(file) => {
            let mut reader = FileReader::new(file, output, keys, written.clone())?;
            feeder::start(move || reader.next(), keys)?
        }
        None => feeder::start(move || feeder::from_pipe(&mut output), keys)?,
    };
    let is_file = file.is_some();
    let form = if is_file { "an RDB file" } else { "a snapshot" };
    log::notice(&format!("syncer: a child writes {form} of about {keys} keys for instance {reader}"));
    let source = Source { id, reader, child, requests, touched: Instant::now(), is_over, written };
    if SOURCE.replace(Some(source)).is_none() {
        timer::start::<Watch>(context, LOOK_MS);
    }
    Ok(Begun { id, keys, is_file })
}

/// The state must be in it.
fn can_send_file(context: &Context, offer: &str) -> bool {
    SAVE_STATE.get() != 0 && native::fingerprint(context).is_some_and(|own| own == offer)
}

/// The next piece of the snapshot is for this client, as soon as it is there.
pub fn read(context: &Context, id: u64) -> Result<(), SnapshotError> {
    SOURCE.with_borrow_mut(|source| {
        let source = source.as_mut().filter(|source| source.id == id).ok_or(SnapshotError::Gone)?;
        source.touched = Instant::now();
        // Requests after the end are answered by the thread, too, as long as the snapshot is known.
        if let Err(unsent) = source.requests.send(Blocked::new(context)) {
            unsent.into_inner().answer(|reply| reply.error(&SnapshotError::Gone.to_string()));
        }
        Ok(())
    })
}

/// Looks after snapshots that nobody reads, and how far the child is with those that are files: only the server knows.
struct Watch;

impl Tick for Watch {
    fn tick(context: &Context) {
        let goes_on = SOURCE.with_borrow_mut(|slot| {
            let Some(source) = slot.as_ref() else { return false };
            if !source.is_over.get() {
                let written = Info::section(context, c"persistence").number(c"current_save_keys_processed");
                // It says so after its first key, from which nothing follows, and then each second, after every 1024th.
                source.written.store(written.filter(|keys| *keys > 1).unwrap_or_default(), Ordering::Relaxed);
            }
            if source.touched.elapsed() > PATIENCE {
                if !source.is_over.get() {
                    let seconds = PATIENCE.as_secs();
                    log::warning(&format!(
                        "syncer: the snapshot for instance {} ends: nobody has read it for {seconds} s",
                        source.reader
                    ));
                }
                *slot = None;
            }
            slot.is_some()
        });
        if goes_on {
            timer::start::<Self>(context, LOOK_MS);
        }
    }
}
