//! In the forked child: the dataset and the metadata of one moment, key by key, into the pipe.

use std::io::{self, Error, PipeWriter, Write};

use syncer_shared::effect::FUNCTIONS_DB;
use syncer_shared::keyspace::Keyspace;
use syncer_shared::merge::KeyRef;
use syncer_shared::shard::Shard;

use super::feeder::Word;
use crate::capture::published;
use crate::keyspace::{ServerKeyspace, functions, with_keyspace};
use crate::redis::{Context, KeyScan};
use crate::state;

/// A piece is passed on when it is as long as this; a key is never cut.
const PIECE_BYTES: usize = 24 << 10;

/// Pieces of the snapshot.
struct Writer {
    pipe: PipeWriter,
    piece: Vec<u8>,
    keys: u64,
}

impl Writer {
    fn send(&mut self, word: Word) -> io::Result<()> {
        let mut head = [0; Word::HEAD_BYTES];
        word.encode(self.keys, self.piece.len(), &mut head);
        self.pipe.write_all(&head)?;
        self.pipe.write_all(&self.piece)?;
        self.piece.clear();
        Ok(())
    }

    fn key(&mut self, shard: &mut Shard, keyspace: &mut ServerKeyspace<'_>, db: u32, name: &[u8]) -> io::Result<()> {
        if !shard.encode_snapshot_key(&mut self.piece, KeyRef { db, name }, keyspace) {
            return Ok(());
        }
        self.keys += 1;
        if self.piece.len() >= PIECE_BYTES { self.send(Word::Keys) } else { Ok(()) }
    }
}

/// Writes everything. Blocks when nobody reads.
pub fn write(context: &Context, pipe: PipeWriter) -> io::Result<()> {
    let mut shard = state::shard().map_err(Error::other)?;
    let mut writer = Writer { pipe, piece: Vec::with_capacity(2 * PIECE_BYTES), keys: 0 };
    shard.snapshot_head().encode(&mut writer.piece);
    writer.send(Word::Head)?;
    write_dataset(context, &mut shard, &mut writer)?;
    write_functions(context, &mut shard, &mut writer)?;
    write_hidden(context, &mut shard, &mut writer)?;
    writer.send(Word::Keys)?;
    writer.send(Word::End)
}

fn write_dataset(context: &Context, shard: &mut Shard, writer: &mut Writer) -> io::Result<()> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    for db in 0.. {
        if !context.select(db) {
            break;
        }
        let mut scan = KeyScan::new();
        let mut more = true;
        while more {
            more = scan.step(context, &mut |name| names.push(name.to_vec()));
            with_keyspace(context, |keyspace| {
                names.drain(..).try_for_each(|name| writer.key(shard, keyspace, db, &name))
            })?;
        }
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
            let key = shard.table(keyspace).key_in(place);
            let Some((db, name)) = key.map(|(db, name)| (db, name.to_vec())) else { continue };
            if keyspace.kind(db, &name).is_none() {
                writer.key(shard, keyspace, db, &name)?;
            }
        }
        Ok(())
    })
}
