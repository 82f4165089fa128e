//! A thread that puts long answers together, so that the main thread does not copy megabytes.

use std::cell::OnceCell;
use std::thread;

use crossbeam_channel::{Sender, unbounded};

use super::readers::Piece;
use crate::redis::{Blocked, log};

/// An answer to write. At most one for each connection that reads, so the queue needs no limit.
type Job = (Blocked, Piece);

crate::redis::server_local! {
    /// The thread begins with the first long answer.
    static JOBS: OnceCell<Sender<Job>> = const { OnceCell::new() };
}

/// Answers, soon, from the other thread; here and now when there is none.
pub fn answer(blocked: Blocked, piece: Piece) {
    let unsent = JOBS.with(|jobs| jobs.get_or_init(start).send((blocked, piece)));
    if let Err(unsent) = unsent {
        write(unsent.into_inner());
    }
}

fn write((blocked, piece): Job) {
    blocked.answer(|reply| piece.write(reply));
}

fn start() -> Sender<Job> {
    let (sender, jobs) = unbounded();
    let run = move || jobs.into_iter().for_each(write);
    if let Err(error) = thread::Builder::new().name("syncer-reader".into()).spawn(run) {
        log::warning(&format!("syncer: no thread for long answers ({error}); the main thread writes them"));
    }
    sender
}
