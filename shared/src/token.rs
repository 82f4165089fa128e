//! Clock tokens: a vector clock that means the same in every shard.

use std::fmt;
use std::str::FromStr;

use crate::clock::VectorClock;
use crate::context::Entry;
use crate::instance::InstanceId;
use crate::origin::Origins;
use crate::replid::ReplId;
use crate::timestamp::Timestamp;
use crate::wire::{Reader, WireError, limits, writer};

/// A vector clock by names: what `SYNCER.CLOCK` answers, `SYNCER.AWAIT` waits for, and peers tell each other.
///
/// Invariant: sorted by replication ID, each once, timestamps above zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClockToken {
    entries: Vec<Entry>,
}

/// Why a text is no clock token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Something else was pasted.
    #[error("a clock token begins with `{PREFIX}`; take it from SYNCER.CLOCK")]
    Prefix,
    /// A part of the token is missing.
    #[error("the clock token is damaged or not complete; copy it again from SYNCER.CLOCK")]
    Damaged,
    /// The checksum is right, the content is not.
    #[error("the clock token is from an unknown release of Syncer")]
    Content,
}

/// Names the format: only letters, digits, `.` and `-`, so that no shell or redis-cli quotes it and a double click takes it whole.
const PREFIX: &str = "clock1";

impl ClockToken {
    /// Of who has applied nothing.
    pub const EMPTY: Self = Self { entries: Vec::new() };

    /// The portable form of a shard's clock.
    #[must_use]
    pub fn from_clock(clock: &VectorClock, origins: &Origins) -> Self {
        let name = |(origin, ts)| (origins.replid(origin), origins.instance(origin), ts);
        let mut entries: Vec<Entry> = clock.iter().map(name).collect();
        entries.sort_unstable();
        Self { entries }
    }

    /// The entries, by replication ID.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The timestamp of a reign.
    #[must_use]
    pub fn get(&self, replid: &ReplId) -> Timestamp {
        let found = self.entries.binary_search_by(|(known, ..)| known.cmp(replid));
        found.ok().and_then(|i| self.entries.get(i)).map_or(Timestamp::ZERO, |(_, _, ts)| *ts)
    }

    /// Whether everything in `other` is in `self`.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.entries.iter().all(|(replid, _, ts)| self.get(replid) >= *ts)
    }

    /// The lower of two clocks, reign by reign.
    #[must_use]
    pub fn lower(&self, other: &Self) -> Self {
        let lower = |&(replid, instance, ts): &Entry| (replid, instance, ts.min(other.get(&replid)));
        self.entries.iter().map(lower).collect()
    }

    /// Whether a shard's clock has everything in this token. A reign that is not known there is not.
    #[must_use]
    pub fn is_covered_by(&self, clock: &VectorClock, origins: &Origins) -> bool {
        let has = |(replid, _, ts): &Entry| origins.find(replid).is_some_and(|origin| clock.has(origin, *ts));
        self.entries.iter().all(has)
    }

    /// Appends the binary form (docs/PROTOCOL.md 5).
    pub fn encode(&self, out: &mut Vec<u8>) {
        writer::varint(out, self.entries.len() as u64);
        for (replid, instance, ts) in &self.entries {
            writer::replid(out, replid);
            writer::instance(out, *instance);
            writer::timestamp_above(out, Timestamp::ZERO, *ts);
        }
    }

    /// Reads the binary form.
    ///
    /// # Errors
    /// See [`WireError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        /// Bytes of the shortest entry: what the count may claim is bounded by what is there.
        const ENTRY_BYTES_MIN: usize = ReplId::LEN + 1 + 1;
        let count = reader.limited(limits::CONTEXT_ENTRIES_MAX as u64, "clock entries")? as usize;
        if count > reader.rest().len() / ENTRY_BYTES_MIN {
            return Err(WireError::Truncated { what: "clock" });
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(count);
        for _ in 0..count {
            let replid = reader.replid("clock replication ID")?;
            let instance = reader.instance("clock instance")?;
            let ts = reader.timestamp_above(Timestamp::ZERO, "clock timestamp")?;
            if entries.last().is_some_and(|(last, ..)| *last >= replid) {
                return Err(WireError::Invalid { what: "order of clock entries" });
            }
            entries.push((replid, instance, ts));
        }
        Ok(Self { entries })
    }
}

impl FromIterator<Entry> for ClockToken {
    /// The highest entry of each reign.
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let mut entries: Vec<Entry> = entries.into_iter().filter(|(_, _, ts)| *ts > Timestamp::ZERO).collect();
        entries.sort_unstable_by_key(|(replid, instance, ts)| (*replid, std::cmp::Reverse(*ts), *instance));
        entries.dedup_by_key(|(replid, ..)| *replid);
        Self { entries }
    }
}

/// `clock1`, for each entry `.instance-replid-timestamp` (decimal, hex, hex), and `.` with a CRC-32 of all before it.
impl fmt::Display for ClockToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::fmt::Write as _;
        let mut text = String::from(PREFIX);
        for (replid, instance, ts) in &self.entries {
            write!(text, ".{instance}-{replid}-{:x}", ts.bits())?;
        }
        write!(f, "{text}.{:08x}", crc32fast::hash(text.as_bytes()))
    }
}

impl FromStr for ClockToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if !text.starts_with(PREFIX) {
            return Err(TokenError::Prefix);
        }
        let (content, checksum) = text.rsplit_once('.').ok_or(TokenError::Damaged)?;
        if format!("{:08x}", crc32fast::hash(content.as_bytes())) != checksum {
            return Err(TokenError::Damaged);
        }
        let mut parts = content.split('.');
        if parts.next() != Some(PREFIX) {
            return Err(TokenError::Prefix);
        }
        let entries: Vec<Entry> = parts.map(parse_entry).collect::<Option<_>>().ok_or(TokenError::Content)?;
        let token = Self { entries };
        // One text for one token: sorted, no zeros, no other spelling.
        if token.entries.len() <= limits::CONTEXT_ENTRIES_MAX && token.to_string() == text && token.is_sorted() {
            Ok(token)
        } else {
            Err(TokenError::Content)
        }
    }
}

impl ClockToken {
    fn is_sorted(&self) -> bool {
        self.entries.is_sorted_by(|(a, ..), (b, ..)| a < b)
    }
}

fn parse_entry(text: &str) -> Option<Entry> {
    let mut parts = text.split('-');
    let instance = InstanceId::new(parts.next()?.parse().ok()?)?;
    let replid = parts.next()?.parse().ok()?;
    let ts = Timestamp::from_bits(u64::from_str_radix(parts.next()?, 16).ok()?);
    let allowed = ts > Timestamp::ZERO && ts <= Timestamp::MAX && parts.next().is_none();
    allowed.then_some((replid, instance, ts))
}
