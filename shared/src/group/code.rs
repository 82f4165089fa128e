//! The tag byte of an effect: what to do, and three flags (docs/PROTOCOL.md 4).

use crate::effect::Kind;

/// The key is that of the previous keyed effect of the body.
pub const SAME_KEY: u8 = 0x20;
/// `TtlNote::Created`.
pub const CREATED: u8 = 0x40;
/// `TtlNote::Kept`: the time follows the key.
pub const KEPT: u8 = 0x80;
/// The bits of the code itself.
pub const MASK: u8 = 0x1f;

/// Pseudo-effect: the database of what follows; 0 at the start.
pub const SELECT: u8 = 0;
/// `Op::Set` without TTL.
pub const SET: u8 = 1;
/// `Op::Set` with a TTL.
pub const SET_EXPIRE: u8 = 2;
/// `Op::Assign`: 3 to 7, plus `Kind` - 1.
pub const ASSIGN: u8 = 3;
/// `Op::Remove`: 8 to 12, plus `Kind` - 1.
pub const REMOVE: u8 = 8;
/// `Op::Increment` by an integer: string, field, scored.
pub const ADD_INTEGER: u8 = 13;
/// `Op::Increment` by a float: string, field, scored.
pub const ADD_FLOAT: u8 = 16;
/// `Op::Clear`.
pub const CLEAR: u8 = 19;
/// `Op::Expire`.
pub const EXPIRE: u8 = 20;
/// `Op::Persist`.
pub const PERSIST: u8 = 21;
/// `Op::Flush`.
pub const FLUSH: u8 = 22;
/// `Op::Reign`.
pub const REIGN: u8 = 23;
/// `Op::Join`.
pub const JOIN: u8 = 24;
/// `Op::Forget`.
pub const FORGET: u8 = 25;
/// A second code follows: effects that are rare.
pub const EXTENDED: u8 = 31;
/// Behind [`EXTENDED`]: `Op::Publish`.
pub const PUBLISH: u8 = 1;
/// Behind [`EXTENDED`]: `Op::Again`.
pub const AGAIN: u8 = 2;
/// `Op::Assign` that is flagged (T7): the kind follows.
pub const REASSERT: u8 = 26;
/// `Assign` of a hash field with a TTL, re-asserted or not.
pub const ASSIGN_EXPIRING: u8 = 27;

/// Lists: what is done follows, [`LIST_INSERT`] and so on.
pub const LIST: u8 = 29;
/// `Op::ListInsert`.
pub const LIST_INSERT: u8 = 1;
/// `Op::ListRemove`.
pub const LIST_REMOVE: u8 = 2;
/// `Op::Assign` of a list element.
pub const LIST_ASSIGN: u8 = 3;
/// The same, flagged (T7).
pub const LIST_REASSERT: u8 = 4;
/// Everything on streams: a code of its own follows (`streams.rs`).
pub const STREAM: u8 = 30;
/// `Op::Patch`: a [`Patch`](crate::patch::Patch) follows, and but for registers a [`Prior`](crate::patch::Prior).
pub const PATCH: u8 = 28;

/// Place of a kind among the codes of its operation.
#[must_use]
pub const fn place(kind: Kind) -> u8 {
    kind as u8 - Kind::String as u8
}

/// The kind at a place.
#[must_use]
pub const fn kind(place: u8) -> Option<Kind> {
    match place {
        0 => Some(Kind::String),
        1 => Some(Kind::Hash),
        2 => Some(Kind::Set),
        3 => Some(Kind::SortedSet),
        4 => Some(Kind::Opaque),
        _ => None,
    }
}
