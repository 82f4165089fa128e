//! The thread that writes what comes in into a file: the main thread does no IO.

use std::fs::File;
use std::hash::Hasher as _;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use siphasher::sip::SipHasher13;

use super::NativeError;
use crate::redis::{Blocked, rdb};

/// Length and hash of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Bytes.
    pub bytes: u64,
    /// `SipHash` 1-3 of all bytes, without a key: against damage, not against forgery.
    pub hash: u64,
}

/// Adds up a file while it passes.
#[derive(Default)]
pub struct Adder {
    bytes: u64,
    hasher: SipHasher13,
}

impl Adder {
    /// The next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hasher.write(bytes);
    }

    /// Up to here.
    #[must_use]
    pub fn sum(&self) -> Sum {
        Sum { bytes: self.bytes, hash: self.hasher.finish() }
    }
}

enum Job {
    Write(Vec<u8>, Blocked),
    End(Sum, Blocked),
}

/// A file that comes in. Its thread ends with it.
pub struct Spool {
    file: Arc<File>,
    jobs: mpsc::Sender<Job>,
    is_complete: Arc<AtomicBool>,
}

impl Spool {
    /// An empty file, and the thread that writes it.
    ///
    /// # Errors
    /// The system's.
    pub fn start() -> io::Result<Self> {
        let file = Arc::new(rdb::nameless("incoming")?);
        let (jobs, queue) = mpsc::channel();
        let is_complete = Arc::new(AtomicBool::new(false));
        let (target, complete) = (file.clone(), is_complete.clone());
        thread::Builder::new().name("syncer-spool".into()).spawn(move || run(&target, &queue, &complete))?;
        Ok(Self { file, jobs, is_complete })
    }

    /// Writes, then answers.
    pub fn write(&self, bytes: Vec<u8>, blocked: Blocked) {
        self.push(Job::Write(bytes, blocked));
    }

    /// Answers whether what was written is this.
    pub fn end(&self, sum: Sum, blocked: Blocked) {
        self.push(Job::End(sum, blocked));
    }

    fn push(&self, job: Job) {
        if let Err(mpsc::SendError(Job::Write(_, blocked) | Job::End(_, blocked))) = self.jobs.send(job) {
            blocked.answer(|reply| reply.error(&NativeError::Gone.to_string()));
        }
    }

    /// The file, once it is known to be complete.
    #[must_use]
    pub fn file(&self) -> Option<Arc<File>> {
        self.is_complete.load(Ordering::Acquire).then(|| self.file.clone())
    }
}

/// After an error all that follows is refused.
fn run(mut file: &File, jobs: &mpsc::Receiver<Job>, is_complete: &AtomicBool) {
    let mut sum = Adder::default();
    let mut failed: Option<NativeError> = None;
    for job in jobs {
        match job {
            Job::Write(bytes, blocked) => {
                is_complete.store(false, Ordering::Release);
                if failed.is_none() {
                    failed = file.write_all(&bytes).err().map(NativeError::File);
                    sum.add(&bytes);
                }
                answer(blocked, failed.as_ref());
            }
            Job::End(said, blocked) => {
                if failed.is_none() && sum.sum() != said {
                    failed = Some(NativeError::Incomplete);
                }
                is_complete.store(failed.is_none(), Ordering::Release);
                answer(blocked, failed.as_ref());
            }
        }
    }
}

fn answer(blocked: Blocked, error: Option<&NativeError>) {
    blocked.answer(|reply| match error {
        Some(error) => reply.error(&error.to_string()),
        None => reply.ok(),
    });
}
