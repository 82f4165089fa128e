//! A snapshot as an RDB file, for an instance that is empty: the child writes it as any other, and what is written is handed out at once.

use std::fs::File;
use std::io::{self, PipeReader, Read, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::feeder::{Piece, Word};
use crate::native::Adder;
use crate::redis::{Context, log, rdb};

const PIECE_BYTES: usize = 256 << 10;
/// How long to wait for the child to write more.
const PAUSE: Duration = Duration::from_millis(1);
/// So often, for a piece that is not full. Each wakes threads of both servers and the agent, and the child writes a few KB at a time: to pass these on as they
/// come takes the child's core from it.
const PAUSES: u32 = 20;

const WRITES: u8 = 0;
const COMPLETE: u8 = 1;
const FAILED: u8 = 2;

/// The file; without one, the snapshot is a merge's.
pub fn create() -> Option<File> {
    let complain = |error: &io::Error| {
        log::warning(&format!(
            "syncer: no file can be written in the server's folder ({error}): the full sync will be a merge"
        ));
    };
    rdb::nameless("outgoing").inspect_err(complain).ok()
}

/// How many keys the child has written, as the server knows it: 0 at first, and then it lags by a second or two.
pub type Written = Arc<AtomicU64>;

/// Reads the file behind the child.
pub struct FileReader {
    file: File,
    child: Arc<AtomicU8>,
    adder: Adder,
    count: Count,
}

/// How many keys the bytes are that were handed out: a file does not say.
struct Count {
    /// In the file, when it is complete.
    total: u64,
    written: Written,
    /// What was written last, and how long the file was then.
    seen: (u64, u64),
    /// It is an estimate, but never goes back.
    told: u64,
}

impl Count {
    /// Of so many bytes, about: 0 if there is nothing yet to tell it from.
    fn keys(&mut self, bytes: u64, file_bytes: u64, is_complete: bool) -> u64 {
        let written = if is_complete { self.total } else { self.written.load(Ordering::Relaxed) };
        if written != self.seen.0 || is_complete {
            self.seen = (written, file_bytes);
        }
        let (keys, of) = self.seen;
        let keys = u128::from(keys) * u128::from(bytes) / u128::from(of.max(bytes).max(1));
        self.told = self.told.max(u64::try_from(keys).unwrap_or(self.total)).min(self.total);
        self.told
    }
}

impl FileReader {
    /// Of a file that a child writes, about `total` keys, and then says so through `pipe`.
    ///
    /// # Errors
    /// The system's.
    pub fn new(file: &File, mut pipe: PipeReader, total: u64, written: Written) -> io::Result<Self> {
        let child = Arc::new(AtomicU8::new(WRITES));
        let watched = child.clone();
        thread::Builder::new().name("syncer-child".into()).spawn(move || {
            let mut said = Vec::new();
            let complete = pipe.read_to_end(&mut said).is_ok() && said == [COMPLETE];
            watched.store(if complete { COMPLETE } else { FAILED }, Ordering::Release);
        })?;
        let count = Count { total, written, seen: (0, 0), told: 0 };
        Ok(Self { file: rdb::reopen(file)?, child, adder: Adder::default(), count })
    }

    /// What comes next. Waits for it.
    ///
    /// # Errors
    /// The file cannot be read, or the child has failed.
    pub fn next(&mut self) -> io::Result<Piece> {
        let mut bytes = Vec::with_capacity(PIECE_BYTES);
        for pauses in 0_u32.. {
            // Before the look into the file: what comes then is all there is.
            let child = self.child.load(Ordering::Acquire);
            (&self.file).take((PIECE_BYTES - bytes.len()) as u64).read_to_end(&mut bytes)?;
            let waits = child == WRITES && bytes.len() < PIECE_BYTES && pauses < PAUSES;
            if !waits && !bytes.is_empty() {
                self.adder.add(&bytes);
                let (sent, file_bytes) = (self.adder.sum().bytes, self.file.metadata()?.len());
                let keys = self.count.keys(sent, file_bytes, child == COMPLETE);
                return Ok(Piece { word: Word::File, keys, bytes });
            }
            match child {
                WRITES => thread::sleep(PAUSE),
                COMPLETE => {
                    let sum = self.adder.sum();
                    let bytes = format!("{} {:016x}", sum.bytes, sum.hash).into_bytes();
                    return Ok(Piece { word: Word::End, keys: 0, bytes });
                }
                _ => break,
            }
        }
        Err(io::Error::other("it could not write the file: disk full?"))
    }
}

/// In the child.
///
/// # Errors
/// See [`rdb::save`].
pub fn write(context: &Context, file: &File, mut pipe: io::PipeWriter) -> io::Result<()> {
    rdb::save(context, file)?;
    pipe.write_all(&[COMPLETE])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_file_are_estimated_and_never_made_up() {
        let written = Written::default();
        let mut count = Count { total: 1_000, written: written.clone(), seen: (0, 0), told: 0 };
        assert_eq!(count.keys(100, 400, false), 0, "nobody knows");
        written.store(200, Ordering::Relaxed);
        assert_eq!(count.keys(200, 400, false), 100, "half of what was written");
        assert_eq!(count.keys(300, 800, false), 150, "and of the same file");
        assert_eq!(count.keys(600, 800, false), 200, "no more than it has written");
        written.store(900, Ordering::Relaxed);
        assert_eq!(count.keys(700, 1_400, false), 450);
        assert_eq!(count.keys(800, 4_000, true), 450, "it does not go back");
        assert_eq!(count.keys(3_000, 4_000, true), 750);
        assert_eq!(count.keys(4_000, 4_000, true), 1_000);
    }
}
