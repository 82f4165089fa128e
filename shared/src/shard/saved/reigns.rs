//! The reigns known to a shard: names, starts, contexts of their streams, and the past ones of its own backlog.

use super::super::{PastReign, Shard, stream::Stream};
use super::pieces::{Pieces, Tag};
use super::{SavedError, clocks};
use crate::context::StreamContext;
use crate::origin::Origins;
use crate::stability::Stability;
use crate::timestamp::Timestamp;
use crate::wire::{Reader, WireError, limits, writer};

/// One item each, in the order of their numbers; first the names, for their contexts name each other.
pub(super) fn save(pieces: &mut Pieces<'_>, origins: &Origins, streams: &[Stream], stability: &Stability) {
    for names in [true, false] {
        for (origin, replid, instance) in origins.iter() {
            pieces.item(Tag::Reign, |out| {
                writer::flag(out, names);
                if names {
                    writer::replid(out, &replid);
                    writer::instance(out, instance);
                    writer::timestamp(out, stability.start(origin).unwrap_or_default());
                    return;
                }
                writer::varint(out, origin.index() as u64);
                if let Some(stream) = streams.get(origin.index()) {
                    encode_stream(stream, out);
                }
            });
        }
    }
}

fn encode_stream(stream: &Stream, out: &mut Vec<u8>) {
    // The origins are those of the entries.
    let Stream { context, origins: _, clock } = stream;
    let mut change = Vec::new();
    StreamContext::new().encode_change(context.entries().iter().copied(), &mut change);
    writer::prefixed(out, &change);
    clocks::encode(clock, out);
}

pub(super) fn decode(reader: &mut Reader<'_>, shard: &mut Shard) -> Result<(), SavedError> {
    if reader.flag("part of a reign")? {
        let (replid, instance) = (reader.replid("reign")?, reader.instance("instance of a reign")?);
        if shard.origins.find(&replid).is_some() {
            return Err(SavedError::Unfitting("a reign"));
        }
        let origin = shard.intern(replid, instance)?;
        let start = reader.timestamp("start of a reign")?;
        if start > Timestamp::ZERO {
            shard.stability.begin_reign(origin, start, None);
        }
        return Ok(());
    }
    let origin = clocks::decode_origin(reader, &shard.origins)?;
    let mut stream = Stream::default();
    stream.context.apply_change(reader.prefixed(limits::FRAME_BYTES_MAX, "context of a reign")?)?;
    for (replid, ..) in stream.context.entries() {
        stream.origins.push(shard.origins.find(replid).ok_or(SavedError::Unfitting("the context of a reign"))?);
    }
    stream.clock = clocks::decode(reader, &shard.origins)?;
    if let Some(place) = shard.streams.get_mut(origin.index()) {
        *place = stream;
    }
    Ok(())
}

pub(super) fn encode_past(past: &[PastReign], out: &mut Vec<u8>) {
    writer::varint(out, past.len() as u64);
    for PastReign { replid, end } in past {
        writer::replid(out, replid);
        writer::u64(out, *end);
    }
}

pub(super) fn decode_past(reader: &mut Reader<'_>) -> Result<Vec<PastReign>, WireError> {
    let count = reader.limited(Origins::COUNT_MAX as u64, "past replication IDs")?;
    (0..count)
        .map(|_| Ok(PastReign { replid: reader.replid("past replication ID")?, end: reader.u64("its end")? }))
        .collect()
}
