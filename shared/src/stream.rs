//! Streams: ids, and the parts of a stream that the merge knows by name (DESIGN 2.3).
//!
//! A stream is a key of many paths ([`Part`]): each entry, the last generated id, each consumer group with its position, each
//! consumer, and each delivery of an entry to a group. The name of a part sorts entries by id, so that a trim is a range.

use std::fmt;

use smallvec::SmallVec;

use crate::replid::ReplId;
use crate::wire::{Reader, WireError, limits, writer};

/// The id of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StreamId {
    /// Unix milliseconds, usually.
    pub ms: u64,
    /// Tells entries of one millisecond apart.
    pub seq: u64,
}

/// The sequence part of a generated id modulo this is the instance id: no two instances generate the same.
const INSTANCES: u64 = 64;
/// And modulo this its [`Lane`].
const LANES: u64 = INSTANCES << 16;

/// Which sequence parts one reign of one instance generates. What it had generated may be lost with its tail and be alive elsewhere, and the next reign may come to
/// the same millisecond: where the last id of a stream is of another clock's future, or after a clock was set back. So 16 bits of the
/// replication ID are in it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane(u64);

impl Lane {
    /// Of this reign of this instance.
    #[must_use]
    pub fn of(instance: u8, replid: &ReplId) -> Self {
        let [low, high, ..] = *replid.as_bytes();
        Self(u64::from(u16::from_le_bytes([low, high])) * INSTANCES + u64::from(instance) % INSTANCES)
    }
}

impl StreamId {
    /// Below every entry.
    pub const MIN: Self = Self { ms: 0, seq: 0 };
    /// The highest that there can be.
    pub const MAX: Self = Self { ms: u64::MAX, seq: u64::MAX };

    /// The bytes, which sort as the ids do.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        ((u128::from(self.ms) << 64) | u128::from(self.seq)).to_be_bytes()
    }

    /// From [`StreamId::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let both = u128::from_be_bytes(bytes);
        Self { ms: (both >> 64) as u64, seq: both as u64 }
    }

    /// As servers write it: `ms-seq`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (ms, seq) = std::str::from_utf8(text).ok()?.split_once('-')?;
        Some(Self { ms: ms.parse().ok()?, seq: seq.parse().ok()? })
    }

    /// The one before.
    #[must_use]
    pub fn previous(self) -> Option<Self> {
        let both = u128::from_be_bytes(self.to_bytes()).checked_sub(1)?;
        Some(Self::from_bytes(both.to_be_bytes()))
    }

    /// The one behind.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        let both = u128::from_be_bytes(self.to_bytes()).checked_add(1)?;
        Some(Self::from_bytes(both.to_be_bytes()))
    }

    /// The lowest id of this millisecond above `last` that is in this lane; `None` when there is none.
    #[must_use]
    pub fn generate(ms: u64, last: Self, lane: Lane) -> Option<Self> {
        let Lane(own) = lane;
        let seq = match ms.cmp(&last.ms) {
            std::cmp::Ordering::Less => return None,
            std::cmp::Ordering::Greater => own,
            std::cmp::Ordering::Equal => {
                let least = last.seq.checked_add(1)?;
                least.checked_add((own + LANES - least % LANES) % LANES)?
            }
        };
        let id = Self { ms, seq };
        // 0-0 is no id.
        if id == Self::MIN { Some(Self { ms, seq: LANES }) } else { Some(id) }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// A part of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// An entry. Its value: field and value by turns, each with its length in front ([`fields`]).
    Entry(StreamId),
    /// The last generated id; there is a stream, empty or not, while this lives. Whoever adds an entry assigns it, too.
    /// The highest of concurrent ones shows.
    Last,
    /// A consumer group, with the id that it was last delivered. The highest of concurrent ones shows.
    Group(&'a [u8]),
    /// A consumer of a group: present or not.
    Consumer {
        /// The group.
        group: &'a [u8],
        /// Its name.
        name: &'a [u8],
    },
    /// What became of an entry that a group was delivered: pending for a consumer, or acknowledged.
    /// An acknowledgement ranks above all concurrent deliveries.
    Delivery {
        /// The group.
        group: &'a [u8],
        /// The entry.
        id: StreamId,
    },
}

/// The name of a part.
pub type PartName = SmallVec<[u8; 40]>;

const ENTRY: u8 = 1;
const LAST: u8 = 2;
const GROUP: u8 = 3;
const CONSUMER: u8 = 4;
const DELIVERY: u8 = 5;

/// The name of [`Part::Last`].
pub const LAST_NAME: &[u8] = &[LAST];

/// The name of an entry, without allocation.
#[must_use]
pub fn entry_name(id: StreamId) -> [u8; 17] {
    let mut name = [ENTRY; 17];
    name[1..].copy_from_slice(&id.to_bytes());
    name
}

/// The id of an entry by its name.
#[must_use]
pub fn entry_id(name: &[u8]) -> Option<StreamId> {
    match name.split_first()? {
        (&ENTRY, id) => Some(StreamId::from_bytes(id.try_into().ok()?)),
        _ => None,
    }
}

/// What the names of all deliveries, or all consumers, of a group begin with.
#[must_use]
pub fn group_prefixes(group: &[u8]) -> [PartName; 2] {
    [scoped(CONSUMER, group), scoped(DELIVERY, group)]
}

/// With what the deliveries begin.
pub const DELIVERIES_PREFIX: &[u8] = &[DELIVERY];

/// A name behind those of all deliveries of a group, and before those of the next one.
#[must_use]
pub fn behind_deliveries(group: &[u8]) -> PartName {
    let mut name = scoped(DELIVERY, group);
    name.extend_from_slice(&[u8::MAX; size_of::<u128>() + 1]);
    name
}

fn scoped(tag: u8, group: &[u8]) -> PartName {
    let mut name = PartName::from_slice(&[tag]);
    name.extend_from_slice(&(group.len() as u32).to_be_bytes());
    name.extend_from_slice(group);
    name
}

impl<'a> Part<'a> {
    /// The part of this name; `None` when there is none.
    #[must_use]
    pub fn parse(name: &'a [u8]) -> Option<Self> {
        let (tag, rest) = name.split_first()?;
        let scope = || {
            let (len, rest) = rest.split_first_chunk::<4>()?;
            rest.split_at_checked(u32::from_be_bytes(*len) as usize)
        };
        match *tag {
            ENTRY => entry_id(name).map(Self::Entry),
            LAST => rest.is_empty().then_some(Self::Last),
            GROUP => Some(Self::Group(rest)),
            CONSUMER => scope().map(|(group, name)| Self::Consumer { group, name }),
            DELIVERY => {
                let (group, id) = scope()?;
                Some(Self::Delivery { group, id: StreamId::from_bytes(id.try_into().ok()?) })
            }
            _ => None,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> PartName {
        match *self {
            Self::Entry(id) => PartName::from_slice(&entry_name(id)),
            Self::Last => PartName::from_slice(LAST_NAME),
            Self::Group(group) => std::iter::once(GROUP).chain(group.iter().copied()).collect(),
            Self::Consumer { group, name } => {
                let mut scoped = scoped(CONSUMER, group);
                scoped.extend_from_slice(name);
                scoped
            }
            Self::Delivery { group, id } => {
                let mut scoped = scoped(DELIVERY, group);
                scoped.extend_from_slice(&id.to_bytes());
                scoped
            }
        }
    }

    /// The group that it belongs to.
    #[must_use]
    pub fn group(&self) -> Option<&'a [u8]> {
        match *self {
            Self::Group(group) | Self::Consumer { group, .. } | Self::Delivery { group, .. } => Some(group),
            Self::Entry(_) | Self::Last => None,
        }
    }
}

/// Appends a field or a value of an entry.
pub fn push_field(out: &mut Vec<u8>, bytes: &[u8]) {
    writer::prefixed(out, bytes);
}

/// Fields and values of an entry by turns. Ends early on bytes that [`check_fields`] refuses.
pub fn fields(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(move || reader.prefixed(limits::VALUE_BYTES_MAX, "field of an entry").ok())
}

/// Checks the fields of an entry.
///
/// # Errors
/// See [`WireError`].
pub fn check_fields(bytes: &[u8]) -> Result<(), WireError> {
    let mut reader = Reader::new(bytes);
    let mut count = 0_usize;
    while !reader.is_empty() {
        reader.prefixed(limits::VALUE_BYTES_MAX, "field of an entry")?;
        count += 1;
    }
    if count > 0 && count.is_multiple_of(2) { Ok(()) } else { Err(WireError::Invalid { what: "fields of an entry" }) }
}

/// Rising ids, each as its distance from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids<'a> {
    bytes: &'a [u8],
}

impl<'a> Ids<'a> {
    /// Appends rising ids to `out`, to be taken by [`Ids::new`].
    pub fn encode(out: &mut Vec<u8>, ids: impl Iterator<Item = StreamId>) {
        let mut last = StreamId::MIN;
        for id in ids {
            writer::varint(out, id.ms - last.ms);
            writer::varint(out, if id.ms == last.ms { id.seq - last.seq } else { id.seq });
            last = id;
        }
    }

    /// Ids that [`Ids::encode`] has written.
    ///
    /// # Errors
    /// Bytes that it has not.
    pub fn new(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut decoder = IdDecoder::of(bytes);
        while !decoder.reader.is_empty() {
            decoder.next_checked()?;
        }
        Ok(Self { bytes })
    }

    /// The encoding.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The ids.
    pub fn iter(&self) -> impl Iterator<Item = StreamId> + use<'a> {
        let mut decoder = IdDecoder::of(self.bytes);
        std::iter::from_fn(move || if decoder.reader.is_empty() { None } else { decoder.next_checked().ok() })
    }
}

struct IdDecoder<'a> {
    reader: Reader<'a>,
    last: StreamId,
}

impl<'a> IdDecoder<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self { reader: Reader::new(bytes), last: StreamId::MIN }
    }

    fn next_checked(&mut self) -> Result<StreamId, WireError> {
        let invalid = WireError::Invalid { what: "ids" };
        let (ms, seq) = (self.reader.varint("id")?, self.reader.varint("id")?);
        let id = StreamId {
            ms: self.last.ms.checked_add(ms).ok_or(invalid)?,
            seq: if ms == 0 { self.last.seq.checked_add(seq).ok_or(invalid)? } else { seq },
        };
        if id <= self.last {
            return Err(invalid);
        }
        self.last = id;
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::{INSTANCES, Ids, LANES, Lane, Part, ReplId, StreamId, check_fields, fields, push_field};

    fn id(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    #[test]
    fn instances_never_generate_the_same_id() {
        let lane = Lane::of(3, &ReplId::from_bytes([0; ReplId::LEN]));
        let generate = |ms, last| StreamId::generate(ms, last, lane);
        assert_eq!(generate(5, id(4, 9)), Some(id(5, 3)));
        assert_eq!(generate(5, id(5, 3)), Some(id(5, 3 + LANES)));
        assert_eq!(generate(5, id(5, 4)), Some(id(5, 3 + LANES)));
        assert_eq!(generate(5, id(5, 2)), Some(id(5, 3)));
        assert_eq!(generate(4, id(5, 2)), None);
        assert_eq!(generate(5, id(5, u64::MAX)), None);
        assert_eq!(generate(5, id(5, u64::MAX - 1)), None);
    }

    #[test]
    fn reigns_never_generate_the_same_id() {
        let lanes = [[1; ReplId::LEN], [2; ReplId::LEN]].map(|bytes| Lane::of(63, &ReplId::from_bytes(bytes)));
        for last in [id(4, 9), id(5, 9), id(5, 1 << 40)] {
            let [one, two] = lanes.map(|lane| StreamId::generate(5, last, lane));
            assert_ne!(one, two);
            assert!([one, two].iter().flatten().all(|id| *id > last && id.seq % INSTANCES == 63));
        }
    }

    #[test]
    fn names_are_read_back_and_sort_entries_by_id() {
        let parts = [
            Part::Entry(id(1, 2)),
            Part::Last,
            Part::Group(b"g"),
            Part::Consumer { group: b"", name: b"c" },
            Part::Delivery { group: b"g", id: id(7, 1) },
        ];
        for part in parts {
            assert_eq!(Part::parse(&part.name()), Some(part));
        }
        assert!(Part::Entry(id(1, u64::MAX)).name() < Part::Entry(id(2, 0)).name());
        for broken in [&b""[..], b"\x01short", b"\x02x", b"\x04\0\0\0\x09ab", b"\x05\0\0\0\x01gx", b"\x09"] {
            assert_eq!(Part::parse(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn ids_and_fields_are_read_back() {
        let ids = [id(0, 1), id(5, 9), id(5, 10), id(6, 0)];
        let mut bytes = Vec::new();
        Ids::encode(&mut bytes, ids.into_iter());
        assert_eq!(Ids::new(&bytes).map(|ids| ids.iter().collect::<Vec<_>>()), Ok(ids.to_vec()));
        assert!(Ids::new(&[0, 0]).is_err() && Ids::new(&[1]).is_err());
        let mut entry = Vec::new();
        [b"f", b"v"].iter().for_each(|field| push_field(&mut entry, *field));
        assert!(check_fields(&entry).is_ok() && check_fields(b"").is_err() && check_fields(b"\x01f").is_err());
        assert_eq!(fields(&entry).collect::<Vec<_>>(), [b"f", b"v"]);
    }
}
