//! Clocks and dots, by the numbers of reigns: a saved state names them once.

use super::SavedError;
use crate::clock::VectorClock;
use crate::dot::Dot;
use crate::origin::{Origin, Origins};
use crate::wire::{Reader, WireError, writer};

/// Appends a clock.
pub(crate) fn encode(clock: &VectorClock, out: &mut Vec<u8>) {
    writer::varint(out, clock.iter().count() as u64);
    for (origin, ts) in clock.iter() {
        writer::varint(out, origin.index() as u64);
        writer::timestamp(out, ts);
    }
}

/// Reads a clock.
pub(crate) fn decode(reader: &mut Reader<'_>, origins: &Origins) -> Result<VectorClock, WireError> {
    let mut clock = VectorClock::default();
    for _ in 0..reader.limited(origins.len() as u64, "clock entries")? {
        let origin = decode_origin(reader, origins)?;
        clock.set(origin, reader.timestamp("clock entry")?);
    }
    Ok(clock)
}

/// Appends a list of reigns.
pub(super) fn encode_origins(list: &[Origin], out: &mut Vec<u8>) {
    writer::varint(out, list.len() as u64);
    list.iter().for_each(|origin| writer::varint(out, origin.index() as u64));
}

/// Reads a list of reigns.
pub(super) fn decode_origins(reader: &mut Reader<'_>, origins: &Origins) -> Result<Vec<Origin>, WireError> {
    let count = reader.limited(origins.len() as u64, "reigns")?;
    (0..count).map(|_| decode_origin(reader, origins)).collect()
}

pub(crate) fn decode_origin(reader: &mut Reader<'_>, origins: &Origins) -> Result<Origin, WireError> {
    let index = reader.varint("number of a reign")?;
    match u16::try_from(index) {
        Ok(index) if usize::from(index) < origins.len() => Ok(Origin::from_index(index)),
        _ => Err(WireError::Invalid { what: "number of a reign" }),
    }
}

/// Every dot must be of a reign that the state has.
pub(super) fn check_dots(mut dots: impl Iterator<Item = Dot>, origins: &Origins) -> Result<(), SavedError> {
    let is_known = dots.all(|dot| dot.origin.index() < origins.len());
    if is_known { Ok(()) } else { Err(SavedError::Unfitting("a dot")) }
}
