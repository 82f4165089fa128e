//! What re-assertions have taken up of this instance's own writes.

use super::super::taken::{Holder, TakenUp, added_to};
use super::{SavedError, clocks};
use crate::group;
use crate::origin::Origins;
use crate::snapshot::{read_dot, write_dot};
use crate::wire::{Reader, limits, writer};

pub(super) fn encode(own: &TakenUp, out: &mut Vec<u8>) {
    let TakenUp { dot, effect, holders } = own;
    write_dot(out, dot);
    writer::prefixed(out, effect);
    writer::varint(out, holders.len() as u64);
    for Holder { dot, reasserted, has } in holders {
        write_dot(out, dot);
        writer::flag(out, *reasserted);
        writer::flag(out, *has);
    }
}

pub(super) fn decode(reader: &mut Reader<'_>, origins: &Origins) -> Result<TakenUp, SavedError> {
    let dot = read_dot(reader)?;
    let effect = reader.prefixed(limits::FRAME_BYTES_MAX, "a write that was taken up")?.to_vec();
    group::check(&effect)?;
    let mut effects = group::effects(&effect);
    let adds = effects.next().is_some_and(|effect| added_to(effect.op).is_some());
    if !adds || effects.next().is_some() {
        return Err(SavedError::Unfitting("a write that was taken up"));
    }
    let mut holders = Vec::new();
    for _ in 0..reader.varint("assignments")? {
        let dot = read_dot(reader)?;
        holders.push(Holder { dot, reasserted: reader.flag("re-asserted")?, has: reader.flag("taken up")? });
    }
    clocks::check_dots(holders.iter().map(|holder| holder.dot).chain([dot]), origins)?;
    Ok(TakenUp { dot, effect, holders })
}
