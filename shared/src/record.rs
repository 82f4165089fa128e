//! Records: what a primary puts into its replication stream and AOF as `SYNCER.LOG <record>` (DESIGN 3, docs/PROTOCOL.md 6).

use crate::group::{self, Frame};
use crate::instance::InstanceId;
use crate::replid::ReplId;
use crate::shard::Start;
use crate::snapshot::SnapshotHead;
use crate::token::ClockToken;
use crate::wire::{Reader, WireError, limits, writer};

/// Elements as they were before a local increment by a float, by the place of the effect in its group; `None` = absent.
pub type Before = Vec<(u32, Option<Vec<u8>>)>;

/// One step of a shard's state, which its replicas repeat.
#[derive(Clone, Debug)]
pub enum Record<'a> {
    /// A captured local write. The write itself is beside it in the same `MULTI`.
    Captured {
        /// What increments by floats found.
        before: Before,
        /// One group.
        frame: &'a [u8],
    },
    /// Groups of other instances, merged. The replica merges them by itself.
    Applied {
        /// Whose backlog they came from.
        peer: InstanceId,
        /// That peer's replication ID.
        replid: ReplId,
        /// The position afterwards.
        offset: u64,
        /// The groups.
        frames: &'a [u8],
    },
    /// A group that the shard authored by itself: its reign, a membership change, a re-assertion. The replica changes
    /// the data by itself.
    Authored {
        /// One group.
        frame: &'a [u8],
    },
    /// The stable clock S rose (2.2 rule 6).
    Stable {
        /// S.
        clock: ClockToken,
    },
    /// The position for a peer moved without groups.
    Position {
        /// Whose backlog.
        peer: InstanceId,
        /// Its replication ID.
        replid: ReplId,
        /// The position.
        offset: u64,
    },
    /// A full sync begins.
    SyncBegins {
        /// What its snapshot begins with.
        head: SnapshotHead,
    },
    /// Keys of the snapshot, merged. The replica merges them by itself.
    SyncKeys {
        /// One or more, encoded one after the other.
        keys: &'a [u8],
    },
    /// The full sync is complete.
    SyncEnds,
    /// A shard begins, with nothing before: the first record of its life. Whatever a replica knew is void.
    Founded {
        /// Whether the dataset has data that nobody logged. Never [`Start::Replica`].
        start: Start,
        /// One group: its reign.
        frame: &'a [u8],
    },
    /// M10: this instance joins: it empties itself and begins anew. Whatever was known before is void.
    Joins {
        /// Policy of M12.
        mine_wins: bool,
        /// What the sponsor had.
        via: ClockToken,
        /// Bodies of the groups to be written again, oldest first.
        renewals: Vec<&'a [u8]>,
        /// One group: the new reign.
        frame: &'a [u8],
    },
    /// M12: one of the groups was written again, just before; or there is none left, and the join is complete.
    Renewed,
    /// A value was written that is to be captured later.
    Changed {
        /// Database.
        db: u32,
        /// Key.
        key: &'a [u8],
    },
    /// 2.2 rule 5: of the own writes that re-assertions have taken up it is decided which are written again: all whose assertions every member has.
    Decided {
        /// One group, those that are; none if none has to be.
        frame: Option<&'a [u8]>,
    },
    /// The server has dropped keys whose TTL had passed, as it loaded its file.
    Dropped {
        /// When, Unix ms.
        at_ms: u64,
        /// One group: the expiry of those that it knew of, which replicas may still have. None if there is none.
        frame: Option<&'a [u8]>,
    },
    /// M4: every member has the `Forget` of this instance.
    Settled {
        /// Who was forgotten.
        instance: InstanceId,
    },
}

const VERSION: u8 = 1;
const CAPTURED: u8 = 1;
const APPLIED: u8 = 2;
const AUTHORED: u8 = 3;
const STABLE: u8 = 4;
const POSITION: u8 = 5;
const SYNC_BEGINS: u8 = 6;
const SYNC_KEYS: u8 = 7;
const SYNC_ENDS: u8 = 8;
const FOUNDED: u8 = 9;
const SETTLED: u8 = 16;
const JOINS: u8 = 17;
const RENEWED: u8 = 18;
const CHANGED: u8 = 19;
const DECIDED: u8 = 20;
const DROPPED: u8 = 21;

/// Where `Applied` has its offset: behind version, code, peer and replication ID.
const APPLIED_OFFSET_AT: usize = 1 + 1 + 1 + ReplId::LEN;

impl<'a> Record<'a> {
    /// Begins [`Record::Captured`] in an empty buffer; the frame is to be appended.
    pub fn captured(out: &mut Vec<u8>, before: &Before) {
        out.extend_from_slice(&[VERSION, CAPTURED]);
        writer::varint(out, before.len() as u64);
        for (index, value) in before {
            writer::varint(out, u64::from(*index));
            out.push(u8::from(value.is_some()));
            if let Some(value) = value {
                writer::prefixed(out, value);
            }
        }
    }

    /// Begins [`Record::Authored`] in an empty buffer; the frame is to be appended.
    pub fn authored(out: &mut Vec<u8>) {
        out.extend_from_slice(&[VERSION, AUTHORED]);
    }

    /// Begins [`Record::Founded`] in an empty buffer; the frame is to be appended.
    pub fn founded(out: &mut Vec<u8>, start: Start) {
        out.extend_from_slice(&[VERSION, FOUNDED, u8::from(start == Start::Seeded)]);
    }

    /// Begins [`Record::Applied`] in an empty buffer; frames are to be appended, then [`Record::finish_applied`].
    pub fn applied(out: &mut Vec<u8>, peer: InstanceId, replid: &ReplId) {
        out.extend_from_slice(&[VERSION, APPLIED]);
        writer::instance(out, peer);
        writer::replid(out, replid);
        writer::u64(out, 0);
    }

    /// Writes the offset into a record that [`Record::applied`] began.
    pub fn finish_applied(out: &mut [u8], offset: u64) {
        if let Some(place) = out.get_mut(APPLIED_OFFSET_AT..APPLIED_OFFSET_AT + 8) {
            place.copy_from_slice(&offset.to_le_bytes());
        }
    }

    /// [`Record::Stable`].
    pub fn stable(out: &mut Vec<u8>, clock: &ClockToken) {
        out.extend_from_slice(&[VERSION, STABLE]);
        clock.encode(out);
    }

    /// [`Record::Position`].
    pub fn position(out: &mut Vec<u8>, peer: InstanceId, replid: &ReplId, offset: u64) {
        out.extend_from_slice(&[VERSION, POSITION]);
        writer::instance(out, peer);
        writer::replid(out, replid);
        writer::u64(out, offset);
    }

    /// [`Record::SyncBegins`].
    pub fn sync_begins(out: &mut Vec<u8>, head: &SnapshotHead) {
        out.extend_from_slice(&[VERSION, SYNC_BEGINS]);
        head.encode(out);
    }

    /// Begins [`Record::SyncKeys`] in an empty buffer; keys are to be appended.
    pub fn sync_keys(out: &mut Vec<u8>) {
        out.extend_from_slice(&[VERSION, SYNC_KEYS]);
    }

    /// [`Record::SyncEnds`].
    pub fn sync_ends(out: &mut Vec<u8>) {
        out.extend_from_slice(&[VERSION, SYNC_ENDS]);
    }

    /// Whether these bytes claim to be a [`Record::Founded`].
    #[must_use]
    pub fn is_founder(bytes: &[u8]) -> bool {
        bytes.starts_with(&[VERSION, FOUNDED])
    }

    /// Begins [`Record::Joins`] in an empty buffer; the frame is to be appended.
    pub fn joins<'b>(
        out: &mut Vec<u8>,
        mine_wins: bool,
        via: &ClockToken,
        renewals: impl ExactSizeIterator<Item = &'b [u8]>,
    ) {
        out.extend_from_slice(&[VERSION, JOINS, u8::from(mine_wins)]);
        via.encode(out);
        writer::varint(out, renewals.len() as u64);
        renewals.for_each(|body| writer::prefixed(out, body));
    }

    /// [`Record::Renewed`].
    pub fn renewed(out: &mut Vec<u8>) {
        out.extend_from_slice(&[VERSION, RENEWED]);
    }

    /// [`Record::Changed`].
    pub fn changed(out: &mut Vec<u8>, db: u32, key: &[u8]) {
        out.extend_from_slice(&[VERSION, CHANGED]);
        writer::varint(out, u64::from(db));
        out.extend_from_slice(key);
    }

    /// [`Record::Decided`] of nothing, in an empty buffer; a frame may be appended.
    pub fn decided(out: &mut Vec<u8>) {
        out.extend_from_slice(&[VERSION, DECIDED]);
    }

    /// [`Record::Dropped`] without a frame, in an empty buffer; one may be appended.
    pub fn dropped(out: &mut Vec<u8>, at_ms: u64) {
        out.extend_from_slice(&[VERSION, DROPPED]);
        writer::u64(out, at_ms);
    }

    /// [`Record::Settled`].
    pub fn settled(out: &mut Vec<u8>, instance: InstanceId) {
        out.extend_from_slice(&[VERSION, SETTLED]);
        writer::instance(out, instance);
    }

    /// Reads a record; its frames are checked too.
    ///
    /// # Errors
    /// See [`WireError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8("record version")?;
        if version != VERSION {
            return Err(WireError::Version(version));
        }
        match reader.u8("record code")? {
            CAPTURED => {
                let before = read_before(&mut reader)?;
                Ok(Record::Captured { before, frame: one_group(reader.rest())? })
            }
            AUTHORED => Ok(Record::Authored { frame: one_group(reader.rest())? }),
            APPLIED => {
                let (peer, replid, offset) = read_position(&mut reader)?;
                Ok(Record::Applied { peer, replid, offset, frames: groups(reader.rest())? })
            }
            POSITION => {
                let (peer, replid, offset) = read_position(&mut reader)?;
                reader.finish()?;
                Ok(Record::Position { peer, replid, offset })
            }
            STABLE => {
                let clock = ClockToken::decode(&mut reader)?;
                reader.finish()?;
                Ok(Record::Stable { clock })
            }
            SYNC_BEGINS => Ok(Record::SyncBegins { head: SnapshotHead::decode(reader.rest())? }),
            SYNC_KEYS => Ok(Record::SyncKeys { keys: reader.rest() }),
            SYNC_ENDS => {
                reader.finish()?;
                Ok(Record::SyncEnds)
            }
            FOUNDED => {
                let start = if reader.flag("data before")? { Start::Seeded } else { Start::Empty };
                Ok(Record::Founded { start, frame: one_group(reader.rest())? })
            }
            JOINS => {
                let mine_wins = reader.flag("policy")?;
                let via = ClockToken::decode(&mut reader)?;
                let mut renewals = Vec::new();
                for _ in 0..reader.varint("renewals")? {
                    let body = reader.prefixed(limits::FRAME_BYTES_MAX, "renewal")?;
                    group::check(body)?;
                    renewals.push(body);
                }
                Ok(Record::Joins { mine_wins, via, renewals, frame: one_group(reader.rest())? })
            }
            RENEWED => {
                reader.finish()?;
                Ok(Record::Renewed)
            }
            CHANGED => {
                let db = reader.limited(u64::from(limits::DB_MAX), "database")? as u32;
                Ok(Record::Changed { db, key: reader.rest() })
            }
            DECIDED if reader.is_empty() => Ok(Record::Decided { frame: None }),
            DECIDED => Ok(Record::Decided { frame: Some(one_group(reader.rest())?) }),
            DROPPED => {
                let at_ms = reader.u64("when keys were dropped")?;
                let frame = (!reader.is_empty()).then(|| one_group(reader.rest())).transpose()?;
                Ok(Record::Dropped { at_ms, frame })
            }
            SETTLED => {
                let instance = reader.instance("settled instance")?;
                reader.finish()?;
                Ok(Record::Settled { instance })
            }
            code => Err(WireError::Code { what: "record", code }),
        }
    }
}

fn read_before(reader: &mut Reader<'_>) -> Result<Before, WireError> {
    let count = reader.varint("values before")?;
    let mut before = Vec::new();
    for _ in 0..count {
        let index = reader.limited(u64::from(u32::MAX), "effect index")? as u32;
        let value = match reader.u8("value before")? {
            0 => None,
            1 => Some(reader.prefixed(limits::VALUE_BYTES_MAX, "value before")?.to_vec()),
            code => return Err(WireError::Code { what: "value before", code }),
        };
        before.push((index, value));
    }
    Ok(before)
}

fn read_position(reader: &mut Reader<'_>) -> Result<(InstanceId, ReplId, u64), WireError> {
    let peer = reader.instance("peer")?;
    let replid = reader.replid("peer's replication ID")?;
    Ok((peer, replid, reader.u64("peer's offset")?))
}

/// Exactly one group.
fn one_group(bytes: &[u8]) -> Result<&[u8], WireError> {
    match Frame::parse(bytes)? {
        (Frame::Group(_), []) => Ok(bytes),
        (Frame::Group(_), rest) => Err(WireError::Trailing(rest.len())),
        (Frame::Skip(_), _) => Err(WireError::Invalid { what: "frame of a record" }),
    }
}

/// At least one group, and nothing else.
fn groups(bytes: &[u8]) -> Result<&[u8], WireError> {
    let mut rest = bytes;
    loop {
        match Frame::parse(rest)? {
            (Frame::Group(_), []) => return Ok(bytes),
            (Frame::Group(_), tail) => rest = tail,
            (Frame::Skip(_), _) => return Err(WireError::Invalid { what: "frame of a record" }),
        }
    }
}
