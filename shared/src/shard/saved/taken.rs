//! What re-assertions have taken up.

use super::super::Shard;
use super::{SavedError, clocks};
use crate::snapshot::TakenUp;
use crate::wire::Reader;

pub(super) fn decode(reader: &mut Reader<'_>, shard: &mut Shard) -> Result<(), SavedError> {
    let taken = TakenUp::read(reader)?;
    let TakenUp { dot, holders, .. } = &taken;
    clocks::check_dots(holders.iter().map(|holder| holder.dot).chain([*dot]), &shard.origins)?;
    shard.taken.keep(taken);
    Ok(())
}
