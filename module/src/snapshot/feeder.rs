//! The thread between the child's pipe and the clients that read the snapshot.

use std::io::{self, PipeReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::SnapshotError;
use crate::redis::{Blocked, Replier};

/// So much of a piece is made room for before it is there; most are shorter.
const ROOM: usize = 256 << 10;

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Of the whole snapshot.
    Head = 0,
    /// Keys, one after the other.
    Keys = 1,
    /// There is no more.
    End = 2,
    /// Of an RDB file.
    File = 3,
}

impl Word {
    /// Word, keys so far, length.
    pub const HEAD_BYTES: usize = 1 + 8 + 8;

    /// Before a piece in the pipe.
    pub fn encode(self, keys: u64, len: usize, out: &mut [u8; Self::HEAD_BYTES]) {
        out[0] = self as u8;
        out[1..9].copy_from_slice(&keys.to_be_bytes());
        out[9..].copy_from_slice(&(len as u64).to_be_bytes());
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Head => "HEAD",
            Self::Keys => "KEYS",
            Self::End => "END",
            Self::File => "FILE",
        }
    }
}

/// Whether the child has said all.
#[derive(Clone, Debug, Default)]
pub struct Over(Arc<AtomicBool>);

impl Over {
    /// See there.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What a reader gets at once.
pub struct Piece {
    /// What it is.
    pub word: Word,
    /// Up to here.
    pub keys: u64,
    /// Itself.
    pub bytes: Vec<u8>,
}

/// Starts the thread, which hands out what `next` gives; it ends when the sender is dropped.
pub fn start(
    next: impl FnMut() -> io::Result<Piece> + Send + 'static,
    total: u64,
) -> io::Result<(Sender<Blocked>, Over)> {
    let (sender, requests) = unbounded();
    let is_over = Over::default();
    let over = is_over.clone();
    thread::Builder::new().name("syncer-snapshot".into()).spawn(move || feed(next, total, &requests, &over))?;
    Ok((sender, is_over))
}

/// A piece for each request: the pipe is read on demand only, which is what slows the child down.
fn feed(mut next: impl FnMut() -> io::Result<Piece>, total: u64, requests: &Receiver<Blocked>, over: &Over) {
    for blocked in requests {
        if over.get() {
            blocked.answer(|reply| reply.error(&SnapshotError::Gone.to_string()));
            continue;
        }
        match next() {
            Ok(piece) => {
                if piece.word == Word::End {
                    over.0.store(true, Ordering::Release);
                }
                blocked.answer(|reply| write(reply, &piece, total));
            }
            Err(error) => {
                over.0.store(true, Ordering::Release);
                let text =
                    format!("SYNCERSNAPSHOT the snapshot broke off, its child has ended ({error}); begin a new one");
                blocked.answer(|reply| reply.error(&text));
            }
        }
    }
}

/// The next piece that the child has put into the pipe.
pub fn from_pipe(pipe: &mut PipeReader) -> io::Result<Piece> {
    let mut head = [0; Word::HEAD_BYTES];
    pipe.read_exact(&mut head)?;
    let [word, rest @ ..] = head;
    let word = match word {
        0 => Word::Head,
        1 => Word::Keys,
        2 => Word::End,
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let (keys, len) = (number(&rest[..8]), number(&rest[8..]));
    let mut bytes = Vec::with_capacity(ROOM.min(usize::try_from(len).unwrap_or(ROOM)));
    pipe.take(len).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Piece { word, keys, bytes })
}

fn write(reply: Replier, piece: &Piece, total: u64) {
    reply.array(4);
    reply.text(piece.word.name());
    reply.number(piece.keys);
    reply.number(total);
    reply.bytes(&piece.bytes);
}
