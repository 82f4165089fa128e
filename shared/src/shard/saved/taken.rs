//! What re-assertions have taken up of this instance's own writes.

use super::super::Shard;
use super::super::taken::{Holder, TakenUp, added_to};
use super::{SavedError, clocks};
use crate::group;
use crate::merge::KeyRef;
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

pub(super) fn decode(reader: &mut Reader<'_>, shard: &mut Shard) -> Result<(), SavedError> {
    let dot = read_dot(reader)?;
    let body = reader.prefixed(limits::FRAME_BYTES_MAX, "a write that was taken up")?;
    group::check(body)?;
    let mut effects = group::effects(body);
    let own = effects.next().filter(|effect| added_to(effect.op).is_some());
    let own = own.filter(|_| effects.next().is_none()).ok_or(SavedError::Unfitting("a write that was taken up"))?;
    let mut holders = Vec::new();
    for _ in 0..reader.varint("assignments")? {
        let dot = read_dot(reader)?;
        holders.push(Holder { dot, reasserted: reader.flag("re-asserted")?, has: reader.flag("taken up")? });
    }
    clocks::check_dots(holders.iter().map(|holder| holder.dot).chain([dot]), &shard.origins)?;
    let taken = TakenUp { dot, effect: body.to_vec(), holders };
    shard.taken.extend(KeyRef { db: own.db, name: own.key }, vec![taken]);
    Ok(())
}
