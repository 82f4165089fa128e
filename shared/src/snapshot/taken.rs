//! What re-assertions have taken up, as states and snapshots tell it (`shard/taken.rs`).

use super::{read_dot, write_dot};
use crate::dot::Dot;
use crate::effect::{Effect, Op, Path};
use crate::group;
use crate::wire::{Reader, WireError, limits, writer};

const WHAT: &str = "a write that was taken up";

/// A write that a re-assertion has taken up.
#[derive(Clone, Debug, PartialEq)]
pub struct TakenUp {
    /// Its identity.
    pub dot: Dot,
    /// Its effect, encoded: one that adds to what is there.
    pub effect: Vec<u8>,
    /// Live assignments of its path, as far as they matter.
    pub holders: Vec<Holder>,
}

/// An assignment of a path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Holder {
    /// Its identity.
    pub dot: Dot,
    /// It ranks below what clients have written.
    pub reasserted: bool,
    /// Whether the write is in its payload.
    pub has: bool,
}

/// The path of an effect that adds.
pub(crate) const fn added_to(op: Op<'_>) -> Option<Path<'_>> {
    match op {
        Op::Increment { path, .. } => Some(path),
        Op::Patch { .. } => Some(Path::String),
        _ => None,
    }
}

impl TakenUp {
    pub(crate) fn effect(&self) -> Option<Effect<'_>> {
        group::effects(&self.effect).next()
    }

    /// About so much room it takes.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.effect.len() + self.holders.len() * size_of::<Holder>()
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        write_dot(out, &self.dot);
        writer::prefixed(out, &self.effect);
        writer::varint(out, self.holders.len() as u64);
        for Holder { dot, reasserted, has } in &self.holders {
            write_dot(out, dot);
            writer::flag(out, *reasserted);
            writer::flag(out, *has);
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let dot = read_dot(reader)?;
        let effect = reader.prefixed(limits::FRAME_BYTES_MAX, WHAT)?.to_vec();
        let adds = group::check(&effect)? == 1 && group::effects(&effect).all(|effect| added_to(effect.op).is_some());
        if !adds {
            return Err(WireError::Invalid { what: WHAT });
        }
        let mut holders = Vec::new();
        for _ in 0..reader.varint("assignments")? {
            let dot = read_dot(reader)?;
            holders.push(Holder { dot, reasserted: reader.flag("re-asserted")?, has: reader.flag("taken up")? });
        }
        Ok(Self { dot, effect, holders })
    }

    /// Its dots with other names of their reigns. `None` if one has none.
    pub(crate) fn renamed(&self, name: &dyn Fn(Dot) -> Option<Dot>) -> Option<Self> {
        let holders = self.holders.iter().map(|holder| Some(Holder { dot: name(holder.dot)?, ..*holder }));
        Some(Self { dot: name(self.dot)?, effect: self.effect.clone(), holders: holders.collect::<Option<_>>()? })
    }
}
