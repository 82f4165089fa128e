//! Values that the metadata keeps because the dataset does not show them.

use crate::decimal::Decimal;
use crate::effect::{Path, UnixMs, Value};
use crate::stream::StreamId;

/// An owned [`Value`].
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// A string, hash-field or serialised value.
    Bytes(Box<[u8]>),
    /// A serialised value that the server could not read when it was to be shown. The dataset has no such key; it is kept here, also
    /// when it is stable, until the key is written or deleted, and passed on in snapshots.
    Unknown(Box<[u8]>),
    /// A hash field with a TTL of its own. Boxed: it is rare.
    Expiring(Box<Expiring>),
    /// A sorted-set score.
    Score(f64),
    /// A set member, a consumer of a stream.
    Present,
    /// An id of a stream.
    Id(StreamId),
    /// Who an entry of a stream is pending for.
    Owner(Box<[u8]>),
    /// See [`Value::Acked`].
    Acked,
    /// See [`Value::Late`].
    Late,
}

/// See [`Value::Expiring`].
#[derive(Clone, Debug, PartialEq)]
pub struct Expiring {
    /// The field.
    pub bytes: Box<[u8]>,
    /// Absolute expiry.
    pub at: UnixMs,
}

impl Payload {
    /// Keeps a copy of `value`.
    #[must_use]
    pub fn from_value(value: Value<'_>) -> Self {
        match value {
            Value::Bytes(bytes) | Value::Payload(bytes) => Payload::Bytes(bytes.into()),
            Value::Expiring { bytes, at } => Payload::text_until(bytes.into(), Some(at)),
            Value::Score(score) => Payload::Score(score),
            Value::Present => Payload::Present,
            Value::Id(id) => Payload::Id(id),
            Value::Owner(consumer) => Payload::Owner(consumer.into()),
            Value::Acked => Payload::Acked,
            Value::Late => Payload::Late,
        }
    }

    /// A text, with the TTL of its field if it has one.
    #[must_use]
    pub fn text_until(bytes: Box<[u8]>, at: Option<UnixMs>) -> Self {
        match at {
            Some(at) => Payload::Expiring(Box::new(Expiring { bytes, at })),
            None => Payload::Bytes(bytes),
        }
    }

    /// As the value of `path`.
    #[must_use]
    pub fn value(&self, path: Path<'_>) -> Value<'_> {
        match self {
            Payload::Bytes(bytes) if path == Path::Opaque => Value::Payload(bytes),
            Payload::Unknown(bytes) => Value::Payload(bytes),
            Payload::Bytes(bytes) => Value::Bytes(bytes),
            Payload::Expiring(expiring) => Value::Expiring { bytes: &expiring.bytes, at: expiring.at },
            Payload::Score(score) => Value::Score(*score),
            Payload::Present => Value::Present,
            Payload::Id(id) => Value::Id(*id),
            Payload::Owner(consumer) => Value::Owner(consumer),
            Payload::Acked => Value::Acked,
            Payload::Late => Value::Late,
        }
    }

    /// The text of a string or field.
    #[must_use]
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Payload::Bytes(bytes) => Some(bytes),
            Payload::Expiring(expiring) => Some(&expiring.bytes),
            _ => None,
        }
    }

    /// What the dataset shows, without what live increments have added to it. What is no number has nothing added.
    #[must_use]
    pub fn less(self, added: Decimal) -> Self {
        let total = self.text().filter(|_| added != Decimal::ZERO).and_then(Decimal::parse);
        match total {
            Some(total) => Self::text_until(total.minus(added).format().into_bytes().into(), self.expire_at()),
            None => self,
        }
    }

    /// The TTL that a field has by itself.
    #[must_use]
    pub fn expire_at(&self) -> Option<UnixMs> {
        if let Payload::Expiring(expiring) = self { Some(expiring.at) } else { None }
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match self {
            Payload::Bytes(bytes) | Payload::Unknown(bytes) | Payload::Owner(bytes) => bytes.len(),
            Payload::Expiring(expiring) => size_of::<Expiring>() + expiring.bytes.len(),
            Payload::Score(_) | Payload::Present | Payload::Id(_) | Payload::Acked | Payload::Late => 0,
        }
    }
}
