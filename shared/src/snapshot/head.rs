//! What a snapshot says before its keys.

use super::TakenUp;
use crate::clock::VectorClock;
use crate::dot::Dot;
use crate::instance::InstanceId;
use crate::membership::Forgotten;
use crate::origin::{Origin, Origins};
use crate::replid::ReplId;
use crate::timestamp::Timestamp;
use crate::token::ClockToken;
use crate::wire::{Reader, WireError, limits, writer};

const VERSION: u8 = 1;
/// With who was forgotten; written only if somebody was.
const VERSION_FORGOTTEN: u8 = 2;
/// With what reigns had when they began; written only if that is said of some.
const VERSION_HAD: u8 = 3;
/// With what re-assertions have taken up; written only if that is said of something.
const VERSION_TAKEN: u8 = 4;

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
    /// Who was forgotten and has not joined again.
    pub forgotten: Vec<SnapshotForgotten>,
    /// Reigns of which nothing new is taken (M6).
    pub frozen: Vec<Origin>,
    /// Writes, of whoever, that re-assertions have taken up, and of which it is not decided yet whether they are written again.
    pub taken: Vec<TakenUp>,
}

/// An instance that was forgotten.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotForgotten {
    /// Who.
    pub instance: InstanceId,
    /// Its `Forget`s.
    pub forgotten: Forgotten,
}

impl From<(InstanceId, Forgotten)> for SnapshotForgotten {
    fn from((instance, forgotten): (InstanceId, Forgotten)) -> Self {
        Self { instance, forgotten }
    }
}

impl SnapshotForgotten {
    /// With dots of the shard whose origins are `names`; nothing if one has no name.
    #[must_use]
    pub fn named(&self, names: &[Origin]) -> Option<(InstanceId, Forgotten)> {
        let mut forgotten = self.forgotten.clone();
        for dot in &mut forgotten.forgets {
            dot.origin = *names.get(dot.origin.index())?;
        }
        Some((self.instance, forgotten))
    }
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
    /// What it had applied just before it began, by places in `reigns`; only while not everyone is known to have its beginning.
    pub had: Option<VectorClock>,
}

impl SnapshotHead {
    /// What was applied at the source.
    #[must_use]
    pub fn applied(&self) -> ClockToken {
        let applied = self.reigns.iter().filter(|reign| reign.applied > Timestamp::ZERO);
        applied.map(|reign| (reign.replid, reign.instance, reign.applied)).collect()
    }

    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let has_forgotten = !(self.forgotten.is_empty() && self.frozen.is_empty());
        let tells_had = self.reigns.iter().any(|reign| reign.had.is_some());
        out.push(match (tells_had, has_forgotten) {
            _ if !self.taken.is_empty() => VERSION_TAKEN,
            (true, _) => VERSION_HAD,
            (false, true) => VERSION_FORGOTTEN,
            (false, false) => VERSION,
        });
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
        if !self.taken.is_empty() {
            writer::varint(out, self.taken.len() as u64);
            self.taken.iter().for_each(|taken| taken.encode(out));
            writer::flag(out, tells_had);
            if !tells_had {
                writer::flag(out, has_forgotten);
            }
        }
        if tells_had {
            self.encode_had(out);
            writer::flag(out, has_forgotten);
        }
        if has_forgotten {
            encode_forgotten(&self.forgotten, &self.frozen, out);
        }
    }

    fn encode_had(&self, out: &mut Vec<u8>) {
        let told: Vec<_> = (0_u64..).zip(&self.reigns).filter_map(|(at, r)| Some((at, r.had.as_ref()?))).collect();
        writer::varint(out, told.len() as u64);
        for (at, had) in told {
            writer::varint(out, at);
            writer::varint(out, had.iter().count() as u64);
            for (origin, ts) in had.iter() {
                writer::varint(out, origin.index() as u64);
                writer::timestamp(out, ts);
            }
        }
    }

    /// Reads all of `bytes`.
    ///
    /// # Errors
    /// See [`WireError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8("snapshot version")?;
        if ![VERSION, VERSION_FORGOTTEN, VERSION_HAD, VERSION_TAKEN].contains(&version) {
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
        let mut taken = Vec::new();
        if version == VERSION_TAKEN {
            for _ in 0..reader.varint("writes that were taken up")? {
                taken.push(TakenUp::read(&mut reader)?);
            }
            if taken.is_empty() {
                return Err(WireError::Invalid { what: "version of a snapshot" });
            }
        }
        let has_forgotten = match version {
            VERSION_TAKEN if !reader.flag("had")? => reader.flag("forgotten")?,
            VERSION_HAD | VERSION_TAKEN => {
                read_had(&mut reader, &mut reigns)?;
                reader.flag("forgotten")?
            }
            _ => version == VERSION_FORGOTTEN,
        };
        let (forgotten, frozen) = if has_forgotten { read_forgotten(&mut reader)? } else { Default::default() };
        reader.finish()?;
        Ok(Self { instance, replid, offset, reigns, joins, forgotten, frozen, taken })
    }
}

/// Who was forgotten, and the reigns of which nothing new is taken.
pub(crate) fn encode_forgotten(all: &[SnapshotForgotten], frozen: &[Origin], out: &mut Vec<u8>) {
    writer::varint(out, all.len() as u64);
    for SnapshotForgotten { instance, forgotten } in all {
        writer::instance(out, *instance);
        out.push(u8::from(forgotten.settled));
        writer::varint(out, forgotten.forgets.len() as u64);
        forgotten.forgets.iter().for_each(|dot| write_dot(out, dot));
    }
    writer::varint(out, frozen.len() as u64);
    frozen.iter().for_each(|origin| writer::varint(out, origin.index() as u64));
}

/// See [`encode_forgotten`]. Never without anything.
pub(crate) fn read_forgotten(reader: &mut Reader<'_>) -> Result<(Vec<SnapshotForgotten>, Vec<Origin>), WireError> {
    let (mut all, mut frozen) = (Vec::new(), Vec::new());
    for _ in 0..reader.varint("forgotten instances")? {
        let instance = reader.instance("forgotten instance")?;
        let settled = match reader.u8("settled")? {
            0 => false,
            1 => true,
            code => return Err(WireError::Code { what: "settled", code }),
        };
        let mut forgets = Vec::new();
        for _ in 0..reader.varint("forgets")? {
            forgets.push(read_dot(reader)?);
        }
        all.push(SnapshotForgotten { instance, forgotten: Forgotten { forgets, settled } });
    }
    for _ in 0..reader.varint("frozen reigns")? {
        frozen.push(Origin::from_index(reader.limited(Origins::COUNT_MAX as u64 - 1, "frozen reign")? as u16));
    }
    if all.is_empty() && frozen.is_empty() {
        return Err(WireError::Invalid { what: "version of a snapshot" });
    }
    Ok((all, frozen))
}

fn read_reign(reader: &mut Reader<'_>) -> Result<SnapshotReign, WireError> {
    Ok(SnapshotReign {
        replid: reader.replid("reign")?,
        instance: reader.instance("instance of a reign")?,
        applied: reader.timestamp("timestamp")?,
        stable: reader.timestamp("timestamp")?,
        start: reader.timestamp("timestamp")?,
        context: reader.prefixed(limits::FRAME_BYTES_MAX, "context of a reign")?.to_vec(),
        had: None,
    })
}

/// What reigns had when they began, each said once, of known ones. Never without anything.
fn read_had(reader: &mut Reader<'_>, reigns: &mut [SnapshotReign]) -> Result<(), WireError> {
    const WHAT: &str = "what a reign had when it began";
    let known = reigns.len() as u64;
    let count = reader.limited(known, WHAT)?;
    for _ in 0..count {
        let at = reader.varint(WHAT)? as usize;
        let (mut had, mut next) = (VectorClock::default(), 0);
        for _ in 0..reader.limited(known, WHAT)? {
            let (origin, ts) = (reader.varint(WHAT)?, reader.timestamp(WHAT)?);
            if origin < next || origin >= known || ts == Timestamp::ZERO {
                return Err(WireError::Invalid { what: WHAT });
            }
            next = origin + 1;
            had.raise(Origin::from_index(origin as u16), ts);
        }
        let reign = reigns.get_mut(at).filter(|reign| reign.had.is_none());
        reign.ok_or(WireError::Invalid { what: WHAT })?.had = Some(had);
    }
    if count == 0 {
        return Err(WireError::Invalid { what: "version of a snapshot" });
    }
    Ok(())
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
