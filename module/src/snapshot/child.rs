//! In the forked child: the dataset and the metadata of one moment, key by key, into the pipe.

use std::io::{self, Error, PipeWriter, Write};

use syncer_shared::effect::FUNCTIONS_DB;
use syncer_shared::keyspace::Keyspace;
use syncer_shared::merge::KeyRef;
use syncer_shared::metadata::KeyId;
use syncer_shared::shard::Shard;

use super::feeder::Word;
use crate::capture::published;
use crate::keyspace::plain::Plain;
use crate::keyspace::{ServerKeyspace, functions, with_keyspace};
use crate::redis::{Context, KeyScan};
use crate::state;

/// A piece is passed on when it is as long as this; a key is never cut. Each is one round trip or two of the target's agent, and about what the target takes
/// in one slice when nobody else needs it.
const PIECE_BYTES: usize = 64 << 10;

/// Pieces of the snapshot.
struct Writer {
    pipe: PipeWriter,
    /// With room for its head.
    piece: Vec<u8>,
    keys: u64,
    /// Places of the metadata whose keys the dataset shows.
    shown: Vec<bool>,
}

impl Writer {
    fn send(&mut self, word: Word) -> io::Result<()> {
        let len = self.piece.len() - Word::HEAD_BYTES;
        if let Some(head) = self.piece.first_chunk_mut() {
            word.encode(self.keys, len, head);
        }
        // At once: the reader is woken by each write.
        self.pipe.write_all(&self.piece)?;
        self.piece.truncate(Word::HEAD_BYTES);
        Ok(())
    }

    fn key(&mut self, shard: &mut Shard, keyspace: &mut ServerKeyspace<'_>, db: u32, name: &[u8]) -> io::Result<()> {
        if !shard.encode_snapshot_key(&mut self.piece, KeyRef { db, name }, keyspace) {
            return Ok(());
        }
        self.count()
    }

    /// The scan has come to a key of which this is known.
    fn saw(&mut self, known: Option<KeyId>) {
        let Some(place) = known.map(KeyId::place) else { return };
        if place >= self.shown.len() {
            self.shown.resize(place + 1, false);
        }
        self.shown[place] = true;
    }

    /// Another key is in the piece.
    fn count(&mut self) -> io::Result<()> {
        self.keys += 1;
        if self.piece.len() >= PIECE_BYTES { self.send(Word::Keys) } else { Ok(()) }
    }
}

/// Writes everything. Blocks when nobody reads.
pub fn write(context: &Context, pipe: PipeWriter) -> io::Result<()> {
    let mut shard = state::shard().map_err(Error::other)?;
    let mut piece = Vec::with_capacity(2 * PIECE_BYTES);
    piece.resize(Word::HEAD_BYTES, 0);
    let mut writer = Writer { pipe, piece, keys: 0, shown: Vec::new() };
    shard.snapshot_head().encode(&mut writer.piece);
    writer.send(Word::Head)?;
    write_dataset(context, &mut shard, &mut writer)?;
    write_functions(context, &mut shard, &mut writer)?;
    write_hidden(context, &mut shard, &mut writer)?;
    writer.send(Word::Keys)?;
    writer.send(Word::End)
}

fn write_dataset(context: &Context, shard: &mut Shard, writer: &mut Writer) -> io::Result<()> {
    for db in 0.. {
        if !context.select(db) {
            break;
        }
        with_keyspace(context, |keyspace| write_database(context, shard, keyspace, writer, db))?;
    }
    Ok(())
}

/// Most keys are written as the scan comes to them, while what it has read of them is in the caches. To look one up would count as a use, too, and that
/// copies its page.
fn write_database(
    context: &Context,
    shard: &mut Shard,
    keyspace: &mut ServerKeyspace<'_>,
    writer: &mut Writer,
    db: u32,
) -> io::Result<()> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let (mut scan, mut more) = (KeyScan::new(), true);
    while more {
        let mut written = Ok(());
        more = scan.step_open(context, &mut |name, key| {
            let known = shard.table(keyspace).find(db, name);
            writer.saw(known);
            let plain = key.as_ref().and_then(|key| Plain::new(key));
            let wrote = plain.is_some_and(|mut plain| {
                let key = KeyRef { db, name };
                let is_encoded = shard.encode_shown_key(&mut writer.piece, key, known, &mut plain, keyspace);
                if is_encoded && written.is_ok() {
                    written = writer.count();
                }
                is_encoded
            });
            if !wrote {
                names.push(name.to_vec());
            }
        });
        written?;
        names.drain(..).try_for_each(|name| writer.key(shard, keyspace, db, &name))?;
    }
    Ok(())
}

fn write_functions(context: &Context, shard: &mut Shard, writer: &mut Writer) -> io::Result<()> {
    if !published::wants_functions() {
        return Ok(());
    }
    let libraries = functions::list(context);
    with_keyspace(context, |keyspace| {
        libraries.iter().try_for_each(|(name, _)| writer.key(shard, keyspace, FUNCTIONS_DB, name))
    })
}

/// Keys that nobody sees, but of which something is known.
fn write_hidden(context: &Context, shard: &mut Shard, writer: &mut Writer) -> io::Result<()> {
    with_keyspace(context, |keyspace| {
        for place in 0..shard.table(keyspace).places() {
            if writer.shown.get(place).is_some_and(|is_shown| *is_shown) {
                continue;
            }
            let key = shard.table(keyspace).key_in(place);
            let Some((db, name)) = key.map(|(db, name)| (db, name.to_vec())) else { continue };
            if keyspace.kind(db, &name).is_none() {
                writer.key(shard, keyspace, db, &name)?;
            }
        }
        Ok(())
    })
}
