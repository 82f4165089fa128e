//! What a snapshot says before its keys.

use crate::dot::Dot;
use crate::instance::InstanceId;
use crate::origin::{Origin, Origins};
use crate::replid::ReplId;
use crate::timestamp::Timestamp;
use crate::wire::{Reader, WireError, limits, writer};

const VERSION: u8 = 1;

/// Clock, S, contexts and members. Its dots, and those of its keys, name reigns by their place in `reigns`.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotHead {
    /// Where it was taken.
    pub instance: InstanceId,
    /// The replication ID of that backlog.
    pub replid: ReplId,
    /// Where the backlog ended: reading goes on here.
    pub offset: u64,
    /// Every reign known there.
    pub reigns: Vec<SnapshotReign>,
    /// Live `Join`s.
    pub joins: Vec<(InstanceId, Dot)>,
}

/// A reign in a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotReign {
    /// Its name.
    pub replid: ReplId,
    /// Whose.
    pub instance: InstanceId,
    /// What of it is applied.
    pub applied: Timestamp,
    /// What of it is stable.
    pub stable: Timestamp,
    /// When it began; zero if that is not known.
    pub start: Timestamp,
    /// The context of its last group: a change from an empty list.
    pub context: Vec<u8>,
}

impl SnapshotHead {
    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        writer::instance(out, self.instance);
        writer::replid(out, &self.replid);
        writer::u64(out, self.offset);
        writer::varint(out, self.reigns.len() as u64);
        for reign in &self.reigns {
            writer::replid(out, &reign.replid);
            writer::instance(out, reign.instance);
            for ts in [reign.applied, reign.stable, reign.start] {
                writer::u64(out, ts.bits());
            }
            writer::prefixed(out, &reign.context);
        }
        writer::varint(out, self.joins.len() as u64);
        for (instance, dot) in &self.joins {
            writer::instance(out, *instance);
            write_dot(out, dot);
        }
    }

    /// Reads all of `bytes`.
    ///
    /// # Errors
    /// See [`WireError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8("snapshot version")?;
        if version != VERSION {
            return Err(WireError::Version(version));
        }
        let instance = reader.instance("instance of the snapshot")?;
        let replid = reader.replid("replication ID of the snapshot")?;
        let offset = reader.u64("offset of the snapshot")?;
        let count = reader.limited(Origins::COUNT_MAX as u64, "reigns of a snapshot")?;
        let mut reigns = Vec::new();
        for _ in 0..count {
            reigns.push(read_reign(&mut reader)?);
        }
        let count = reader.varint("joins of a snapshot")?;
        let mut joins = Vec::new();
        for _ in 0..count {
            joins.push((reader.instance("member")?, read_dot(&mut reader)?));
        }
        reader.finish()?;
        Ok(Self { instance, replid, offset, reigns, joins })
    }
}

fn read_reign(reader: &mut Reader<'_>) -> Result<SnapshotReign, WireError> {
    Ok(SnapshotReign {
        replid: reader.replid("reign")?,
        instance: reader.instance("instance of a reign")?,
        applied: reader.timestamp("timestamp")?,
        stable: reader.timestamp("timestamp")?,
        start: reader.timestamp("timestamp")?,
        context: reader.prefixed(limits::FRAME_BYTES_MAX, "context of a reign")?.to_vec(),
    })
}

/// A dot whose origin is a place in a list that both sides have.
pub(crate) fn write_dot(out: &mut Vec<u8>, dot: &Dot) {
    writer::varint(out, dot.origin.index() as u64);
    writer::u64(out, dot.ts.bits());
    writer::varint(out, u64::from(dot.index));
}

pub(crate) fn read_dot(reader: &mut Reader<'_>) -> Result<Dot, WireError> {
    let origin = Origin::from_index(reader.limited(Origins::COUNT_MAX as u64 - 1, "reign of a dot")? as u16);
    let ts = reader.timestamp("timestamp")?;
    let index = reader.limited(u64::from(u32::MAX), "index of a dot")? as u32;
    Ok(Dot { ts, index, origin })
}
