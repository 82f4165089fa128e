//! A snapshot as an RDB file, for an instance that is empty: the child writes it as any other, and what is written is handed out at once.

use std::fs::File;
use std::io::{self, PipeReader, Read, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use super::feeder::{Piece, Word};
use crate::native::Adder;
use crate::redis::{Context, log, rdb};

const PIECE_BYTES: usize = 256 << 10;
/// How long to wait for the child to write more.
const PAUSE: Duration = Duration::from_millis(1);

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

/// Reads the file behind the child.
pub struct FileReader {
    file: File,
    child: Arc<AtomicU8>,
    adder: Adder,
}

impl FileReader {
    /// Of a file that a child writes, and then says so through `pipe`.
    ///
    /// # Errors
    /// The system's.
    pub fn new(file: &File, mut pipe: PipeReader) -> io::Result<Self> {
        let child = Arc::new(AtomicU8::new(WRITES));
        let watched = child.clone();
        thread::Builder::new().name("syncer-child".into()).spawn(move || {
            let mut said = Vec::new();
            let complete = pipe.read_to_end(&mut said).is_ok() && said == [COMPLETE];
            watched.store(if complete { COMPLETE } else { FAILED }, Ordering::Release);
        })?;
        Ok(Self { file: rdb::reopen(file)?, child, adder: Adder::default() })
    }

    /// What comes next. Waits for it.
    ///
    /// # Errors
    /// The file cannot be read, or the child has failed.
    pub fn next(&mut self) -> io::Result<Piece> {
        let mut bytes = Vec::new();
        loop {
            // Before the look into the file: what comes then is all there is.
            let child = self.child.load(Ordering::Acquire);
            (&self.file).take(PIECE_BYTES as u64).read_to_end(&mut bytes)?;
            if !bytes.is_empty() {
                self.adder.add(&bytes);
                return Ok(Piece { word: Word::File, keys: 0, bytes });
            }
            match child {
                WRITES => thread::sleep(PAUSE),
                COMPLETE => {
                    let sum = self.adder.sum();
                    let bytes = format!("{} {:016x}", sum.bytes, sum.hash).into_bytes();
                    return Ok(Piece { word: Word::End, keys: 0, bytes });
                }
                _ => return Err(io::Error::other("it could not write the file: disk full?")),
            }
        }
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
