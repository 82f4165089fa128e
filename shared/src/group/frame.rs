//! Frames: a group, or a stretch of backlog that the reader does not want, with length and checksum.

use super::effects;
use crate::context;
use crate::instance::InstanceId;
use crate::replid::ReplId;
use crate::timestamp::Timestamp;
use crate::wire::{Reader, WireError, limits, writer};

/// Format version of a group frame.
pub const VERSION: u8 = 1;
/// In the place of the version: a [`Skip`].
const SKIP_VERSION: u8 = 0xff;

/// Length and checksum.
const PREFIX_BYTES: usize = 4 + 4;
/// A whole skip frame.
const SKIP_BYTES: usize = PREFIX_BYTES + 1 + 8;
/// A group frame with the shortest timestamp, an empty context change and no effects.
const GROUP_BYTES_MIN: usize = PREFIX_BYTES + 1 + 1 + ReplId::LEN + 8 + 1 + 1;

/// One frame of a stream.
#[derive(Clone, Copy, Debug)]
pub enum Frame<'a> {
    /// A group.
    Group(GroupView<'a>),
    /// Backlog that the reader did not ask for.
    Skip(Skip),
}

/// Stands for this many bytes of backlog, so that offsets stay derivable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skip {
    /// Bytes of backlog; above 0.
    pub bytes: u64,
}

/// A checked group.
#[derive(Clone, Copy, Debug)]
pub struct GroupView<'a> {
    /// The author's instance.
    pub instance: InstanceId,
    /// The author's reign.
    pub replid: ReplId,
    /// Timestamp of the previous group of this reign; [`Timestamp::ZERO`] for its first.
    pub prev: Timestamp,
    /// Timestamp of the group; above `prev`.
    pub ts: Timestamp,
    /// How the author's clock changed since its previous group: for [`context::StreamContext`].
    pub change: &'a [u8],
    /// The effects: for [`super::effects()`].
    pub body: &'a [u8],
    /// All bytes of the frame.
    pub frame: &'a [u8],
    /// The highest database that the effects touch, of a group from elsewhere.
    pub db_max: u32,
    /// Whether an effect lets an instance join, of a group from elsewhere.
    pub joins: bool,
    /// Whether an effect is known to need the metadata, of a group from elsewhere.
    pub urgent: bool,
}

/// What the backlog needs to know of a frame, read without checking the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the whole frame.
    pub len: usize,
    /// The author's instance.
    pub instance: InstanceId,
    /// The author's reign.
    pub replid: ReplId,
    /// Timestamp of the group.
    pub ts: Timestamp,
}

impl<'a> Frame<'a> {
    /// The first frame of `input`, fully checked, and what follows it.
    ///
    /// # Errors
    /// See [`WireError`].
    pub fn parse(input: &'a [u8]) -> Result<(Self, &'a [u8]), WireError> {
        let (frame, rest) = cut(input)?;
        if frame.get(PREFIX_BYTES) == Some(&SKIP_VERSION) {
            return Ok((Frame::Skip(parse_skip(frame)?), rest));
        }
        Ok((Frame::Group(parse_group(frame)?), rest))
    }

    /// How many bytes of backlog the frame stands for.
    #[must_use]
    pub fn advance(&self) -> u64 {
        match self {
            Frame::Group(group) => group.frame.len() as u64,
            Frame::Skip(skip) => skip.bytes,
        }
    }
}

impl<'a> GroupView<'a> {
    /// The first frame of `input`, which must be a group, and what follows it. Everything is checked, so that
    /// [`super::effects()`] of its body cannot fail.
    ///
    /// # Errors
    /// See [`WireError`].
    pub fn parse(input: &'a [u8]) -> Result<(Self, &'a [u8]), WireError> {
        let (frame, rest) = cut(input)?;
        Ok((parse_group(frame)?, rest))
    }

    /// The same for a frame that was checked before: its `db_max`, `joins` and `urgent` are not told again.
    ///
    /// # Errors
    /// The bytes are no group.
    pub fn read(input: &'a [u8]) -> Result<(Self, &'a [u8]), WireError> {
        let len = frame_len(&mut Reader::new(input))?;
        let (frame, rest) = input.split_at_checked(len).ok_or(WireError::Truncated { what: "frame" })?;
        Ok((read_group(frame)?, rest))
    }
}

impl Header {
    /// Reads the header of a frame that was checked before.
    ///
    /// # Errors
    /// The bytes are no frame.
    pub fn peek(input: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(input);
        let len = frame_len(&mut reader)?;
        reader.take(4 + 1, "frame")?;
        let instance = reader.instance("instance")?;
        let replid = reader.replid("replication ID")?;
        let prev = Timestamp::from_bits(reader.u64("previous timestamp")?);
        let ts = reader.timestamp_above(prev, "timestamp")?;
        Ok(Self { len, instance, replid, ts })
    }
}

/// Splits the first frame off, by its length, and checks its checksum.
fn cut(input: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    let mut reader = Reader::new(input);
    let len = frame_len(&mut reader)?;
    let stored = reader.u32("frame checksum")?;
    let (frame, rest) = input.split_at_checked(len).ok_or(WireError::Truncated { what: "frame" })?;
    let (_, summed) = frame.split_at_checked(PREFIX_BYTES).ok_or(WireError::Truncated { what: "frame" })?;
    let computed = crc32fast::hash(summed);
    if computed == stored { Ok((frame, rest)) } else { Err(WireError::Checksum { computed, stored }) }
}

fn frame_len(reader: &mut Reader<'_>) -> Result<usize, WireError> {
    let len = reader.u32("frame length")? as usize;
    if len > limits::FRAME_BYTES_MAX {
        let (found, limit) = (len as u64, limits::FRAME_BYTES_MAX as u64);
        return Err(WireError::TooLarge { what: "frame length", found, limit });
    }
    if len < SKIP_BYTES { Err(WireError::Invalid { what: "frame length" }) } else { Ok(len) }
}

fn parse_group(frame: &[u8]) -> Result<GroupView<'_>, WireError> {
    let group = read_group(frame)?;
    let effects::Survey { db_max, joins, urgent, .. } = effects::survey(group.body)?;
    Ok(GroupView { db_max, joins, urgent, ..group })
}

fn read_group(frame: &[u8]) -> Result<GroupView<'_>, WireError> {
    let mut reader = Reader::new(frame);
    reader.take(PREFIX_BYTES, "frame")?;
    let version = reader.u8("version")?;
    if version != VERSION {
        return Err(WireError::Version(version));
    }
    let instance = reader.instance("instance")?;
    let replid = reader.replid("replication ID")?;
    let prev = Timestamp::from_bits(reader.u64("previous timestamp")?);
    let ts = reader.timestamp_above(prev, "timestamp")?;
    let change = context::take_change(&mut reader)?;
    let body = reader.rest();
    Ok(GroupView { instance, replid, prev, ts, change, body, frame, db_max: 0, joins: false, urgent: false })
}

fn parse_skip(frame: &[u8]) -> Result<Skip, WireError> {
    let mut reader = Reader::new(frame);
    reader.take(PREFIX_BYTES + 1, "frame")?;
    let bytes = reader.u64("skipped bytes")?;
    reader.finish()?;
    // Offsets are shown as signed 64-bit integers; a wrong one must not overflow.
    let allowed = bytes > 0 && i64::try_from(bytes).is_ok();
    if allowed { Ok(Skip { bytes }) } else { Err(WireError::Invalid { what: "skipped bytes" }) }
}

/// Appends the frame of a group to `out`. `change` comes from [`context::StreamContext::encode_change`], `body` from a
/// [`super::GroupBuilder`]; `ts` is above `prev`.
pub fn encode_frame(
    out: &mut Vec<u8>,
    instance: InstanceId,
    replid: &ReplId,
    prev: Timestamp,
    ts: Timestamp,
    change: &[u8],
    body: &[u8],
) {
    out.reserve(GROUP_BYTES_MIN + limits::VARINT_BYTES_MAX + change.len() + body.len());
    frame(out, |out| {
        out.push(VERSION);
        writer::instance(out, instance);
        writer::replid(out, replid);
        writer::u64(out, prev.bits());
        writer::timestamp_above(out, prev, ts);
        out.extend_from_slice(change);
        out.extend_from_slice(body);
    });
}

/// Appends a frame that stands for `bytes` of backlog.
pub fn encode_skip(out: &mut Vec<u8>, bytes: u64) {
    frame(out, |out| {
        out.push(SKIP_VERSION);
        writer::u64(out, bytes);
    });
}

/// Length and checksum around what `content` appends.
fn frame(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    content(out);
    if let Some(frame) = out.get_mut(start..) {
        let len = frame.len() as u32;
        let (prefix, summed) = frame.split_at_mut(PREFIX_BYTES);
        let (length, checksum) = prefix.split_at_mut(4);
        length.copy_from_slice(&len.to_le_bytes());
        checksum.copy_from_slice(&crc32fast::hash(summed).to_le_bytes());
    }
}
