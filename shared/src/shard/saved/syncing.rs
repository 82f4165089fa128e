//! A full sync that goes on or was broken off.

use super::super::Shard;
use super::super::kept::Kept;
use super::super::round::Round;
use super::super::sync::Syncing;
use super::pieces::{Pieces, Tag};
use super::{SavedError, clocks};
use crate::snapshot::SnapshotHead;
use crate::wire::{Reader, writer};

/// Hashes in one item.
const HASHES: usize = 64 << 10;

pub(super) fn save(pieces: &mut Pieces<'_>, syncing: &Syncing) {
    // The names, and what it tells, are those of the head.
    let Syncing { head, names: _, told: _, round, earlier, here: _, present: _, seen: _ } = syncing;
    pieces.item(Tag::SyncHead, |out| head.encode(out));
    for Round { clock, stable, merged, key } in earlier.iter().chain([round]) {
        pieces.item(Tag::SyncRound, |out| {
            clocks::encode(clock, out);
            clocks::encode(stable, out);
            writer::u64(out, *key);
        });
        let mut hashes: Vec<u64> = merged.iter().copied().collect();
        hashes.sort_unstable();
        for hashes in hashes.chunks(HASHES) {
            pieces.item(Tag::SyncMerged, |out| hashes.iter().for_each(|hash| writer::u64(out, *hash)));
        }
    }
}

pub(super) fn decode_head(reader: &mut Reader<'_>, shard: &mut Shard) -> Result<(), SavedError> {
    let head = SnapshotHead::decode(reader.rest())?;
    *reader = Reader::new(&[]);
    let names: Option<Vec<_>> = head.reigns.iter().map(|reign| shard.origins.find(&reign.replid)).collect();
    let names = names.ok_or(SavedError::Unfitting("the head of a full sync"))?;
    if head.joins.iter().any(|(_, dot)| dot.origin.index() >= names.len()) {
        return Err(SavedError::Unfitting("a join of a full sync"));
    }
    let (round, earlier, here, present, seen) = Default::default();
    let told = Kept::told(&head, &names);
    shard.syncing = Some(Box::new(Syncing { head, names, told, round, earlier, here, present, seen }));
    Ok(())
}

/// Oldest first: the last one is the one that goes on.
pub(super) fn decode_round(reader: &mut Reader<'_>, shard: &mut Shard) -> Result<(), SavedError> {
    let Shard { syncing: Some(syncing), origins, .. } = shard else { return Err(SavedError::Unfitting("a round")) };
    let round = Round {
        clock: clocks::decode(reader, origins)?,
        stable: clocks::decode(reader, origins)?,
        merged: hashbrown::HashSet::default(),
        key: reader.u64("key of the hashes")?,
    };
    let before = std::mem::replace(&mut syncing.round, round);
    if before.key != Round::default().key {
        syncing.earlier.push(before);
    }
    Ok(())
}

pub(super) fn decode_merged(reader: &mut Reader<'_>, shard: &mut Shard) -> Result<(), SavedError> {
    let syncing = shard.syncing.as_mut().ok_or(SavedError::Unfitting("a merged key"))?;
    while !reader.is_empty() {
        syncing.round.merged.insert(reader.u64("hash of a key")?);
    }
    Ok(())
}
