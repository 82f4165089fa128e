//! Effects: what a local write changed, in a form that commutes with concurrent effects (DESIGN 2).

use crate::instance::InstanceId;
use crate::list::{Ranges, RunRef, Values};
use crate::number::Number;
use crate::patch::{Patch, Prior};
use crate::replid::ReplId;
use crate::stream::{Ids, StreamId};
use crate::timestamp::Timestamp;

/// A point in wall-clock time: Unix milliseconds. Used for TTLs only, never for order.
pub type UnixMs = i64;

/// Libraries of functions are whole values of this database, which no server has: the library's name is the key, its code the payload.
/// So they merge like keys. `FLUSHALL` leaves them alone.
pub const FUNCTIONS_DB: u32 = crate::wire::limits::DB_MAX;

/// One replicated operation. Borrowed: it is decoded from, or about to be encoded into, group bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effect<'a> {
    /// Logical database (`SELECT` number).
    pub db: u32,
    /// Key name; empty and ignored for [`Op::Flush`], [`Op::Reign`], [`Op::Join`], [`Op::Forget`], [`Op::Again`] and
    /// [`Op::Publish`].
    pub key: &'a [u8],
    /// What the write that caused this effect saw of the key's TTL (rules T2, T3).
    pub ttl: TtlNote,
    /// What was done.
    pub op: Op<'a>,
}

/// What a write that changes a key's value, and is no TTL command, says about the TTL (rules T2 and T3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TtlNote {
    /// The key had no TTL and existed before, or the effect is not a value change.
    #[default]
    None,
    /// T3: the write created the key: observed TTL dots go, a weak `none` comes.
    Created,
    /// T2: the key has this TTL and the write left it alone: a weak TTL dot comes.
    Kept(UnixMs),
}

/// The kind of an effect. `Assign`, `Increment`, `Patch` and `Remove` also remove every observed dot of the key that
/// belongs to another value type (DESIGN 2, MERGE_CASES A4).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op<'a> {
    /// `SET`: `Clear` + `Assign` of the string + a strong TTL dot, in one. `expire_at` none = PERSIST.
    Set {
        /// The whole string.
        value: &'a [u8],
        /// Absolute expiry, or none for a key without TTL.
        expire_at: Option<UnixMs>,
    },
    /// Removes every observed dot at the path; adds its own.
    Assign {
        /// Where. The value type of `value` agrees with the path's.
        path: Path<'a>,
        /// The payload.
        value: Value<'a>,
        /// T7 and 2.2 rule 5: the dot ranks below every unflagged live dot of its path.
        reasserted: bool,
    },
    /// Adds its own dot; removes none at its path.
    Increment {
        /// A string, field or scored path.
        path: Path<'a>,
        /// How much.
        delta: Number,
    },
    /// Changes a string in part: adds its own dot; removes none at its path.
    Patch {
        /// Which part, and how.
        patch: Patch<'a>,
        /// The string just before, at its author. Only the author's own shard needs it.
        prior: Prior<'a>,
    },
    /// Removes every observed dot at the path.
    Remove {
        /// Where.
        path: Path<'a>,
    },
    /// A change of many parts of a stream at once.
    Stream(StreamOp<'a>),
    /// New list elements, each with its own dot: `first` and up are their places among all that their group makes.
    ListInsert {
        /// Where: a run of the author's reign.
        run: RunRef<'a>,
        /// The place of the first.
        first: u32,
        /// The elements, in the order in which the run grows.
        values: Values<'a>,
    },
    /// Removes every observed dot of list elements.
    ListRemove {
        /// Which.
        ranges: Ranges<'a>,
    },
    /// Removes every observed dot of the key, TTL dots included.
    Clear {
        /// Why: an expiry is re-asserted against a longer TTL (T6), the others are not.
        reason: ClearReason,
    },
    /// Strong TTL dot with a time (T1).
    Expire {
        /// Absolute expiry.
        at: UnixMs,
    },
    /// Strong TTL dot `none` (T1).
    Persist,
    /// Removes every observed dot of every key in the scope (G3).
    Flush {
        /// One database or all.
        scope: FlushScope,
    },
    /// Begins a reign. First effect of the first group of each reign.
    Reign,
    /// Assign at key `membership`, path `instance` (M1).
    Join {
        /// Who joins.
        instance: InstanceId,
    },
    /// Remove of the observed Joins of `instance` (M1).
    Forget {
        /// Who leaves.
        instance: InstanceId,
    },
    /// 2.2 rule 5: of this write of the same instance, which an assertion has taken up, is decided: if no assertion that shows has it, the next effect is that write again. No data:
    /// whoever still has the write in mind, a later reign of that instance too, knows by it that it is done.
    Again {
        /// The reign that had written it.
        replid: ReplId,
        /// Of its dot.
        ts: Timestamp,
        /// Of its dot.
        index: u32,
    },
    /// A message for subscribers. No data: who applies it delivers it, once.
    Publish {
        /// `SPUBLISH`.
        sharded: bool,
        /// The channel.
        channel: &'a [u8],
        /// The message.
        message: &'a [u8],
    },
}

/// See [`Op::Stream`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StreamOp<'a> {
    /// `XTRIM`, `XADD MAXLEN`: removes every observed dot of the entries below.
    Trim {
        /// The first id that stays.
        below: StreamId,
    },
    /// `XGROUP DESTROY`: removes every observed dot of the group, its consumers and deliveries.
    Ungroup {
        /// The group.
        group: &'a [u8],
    },
    /// `XREADGROUP ... >`: assigns the position of the group and a delivery of each entry.
    Deliver {
        /// The group.
        group: &'a [u8],
        /// Whose they are now; none with `NOACK`: they count as acknowledged.
        consumer: Option<&'a [u8]>,
        /// The position of the group.
        position: StreamId,
        /// The entries.
        ids: Ids<'a>,
    },
}

/// The part of a key that an effect touches. The variant is the value type: paths of two variants are in a
/// type conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path<'a> {
    /// The whole string.
    String,
    /// A hash field.
    Field(&'a [u8]),
    /// A set member.
    Member(&'a [u8]),
    /// A sorted-set member.
    Scored(&'a [u8]),
    /// A whole value of a type that is not merged by element: module types.
    Opaque,
    /// A part of a stream by its name ([`crate::stream::Part`]).
    Stream(&'a [u8]),
    /// A list element: its position, as [`crate::list::position`] writes it.
    Element(&'a [u8]),
}

/// The value type that a key or a path has. Module types are `Opaque`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Strings and counters.
    String = 1,
    /// Hashes.
    Hash = 2,
    /// Sets.
    Set = 3,
    /// Sorted sets.
    SortedSet = 4,
    /// Everything captured whole.
    Opaque = 5,
    /// Lists.
    List = 6,
    /// Streams.
    Stream = 7,
}

impl Kind {
    /// The type of this code.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::String),
            2 => Some(Self::Hash),
            3 => Some(Self::Set),
            4 => Some(Self::SortedSet),
            5 => Some(Self::Opaque),
            6 => Some(Self::List),
            7 => Some(Self::Stream),
            _ => None,
        }
    }
}

/// The payload of an `Assign`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Of `Path::String`, `Path::Field` and `Path::Element`; of an entry of a stream ([`crate::stream::fields`]).
    Bytes(&'a [u8]),
    /// Of `Path::Field`: a field with a TTL of its own. Field and TTL are one value: what sets the TTL writes the field again.
    Expiring {
        /// The field.
        bytes: &'a [u8],
        /// Absolute expiry.
        at: UnixMs,
    },
    /// Of `Path::Member` and of a consumer of a stream: being there is all there is.
    Present,
    /// Of `Path::Scored`. Never NaN.
    Score(f64),
    /// Of the last id of a stream, and of a consumer group: its position.
    Id(StreamId),
    /// Of a delivery: pending for this consumer.
    Owner(&'a [u8]),
    /// Of a delivery: acknowledged.
    Acked,
    /// Of a delivery: none. The entry arrived below the position of the group, which is still to be given it.
    Late,
    /// Of `Path::Opaque`: a serialised value. The keyspace alone knows what is in it.
    Payload(&'a [u8]),
}

/// Why a key was cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ClearReason {
    /// A command deleted or replaced it.
    Deleted = 0,
    /// Its TTL passed at the author (T5).
    Expired = 1,
    /// The author ran out of memory.
    Evicted = 2,
}

/// What a `Flush` empties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushScope {
    /// `FLUSHDB` of this database.
    Db(u32),
    /// `FLUSHALL`.
    All,
}

impl Path<'_> {
    /// The value type the path belongs to.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Path::String => Kind::String,
            Path::Field(_) => Kind::Hash,
            Path::Member(_) => Kind::Set,
            Path::Scored(_) => Kind::SortedSet,
            Path::Opaque => Kind::Opaque,
            Path::Stream(_) => Kind::Stream,
            Path::Element(_) => Kind::List,
        }
    }
}
