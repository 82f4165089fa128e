//! Values that the metadata keeps because the dataset does not show them.

use crate::effect::{Path, Value};

/// An owned [`Value`].
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// A string, hash-field or serialised value.
    Bytes(Box<[u8]>),
    /// A sorted-set score.
    Score(f64),
    /// A set member.
    Present,
}

impl Payload {
    /// Keeps a copy of `value`.
    #[must_use]
    pub fn from_value(value: Value<'_>) -> Self {
        match value {
            Value::Bytes(bytes) | Value::Payload(bytes) => Payload::Bytes(bytes.into()),
            Value::Score(score) => Payload::Score(score),
            Value::Present => Payload::Present,
        }
    }

    /// As the value of `path`.
    #[must_use]
    pub fn value(&self, path: Path<'_>) -> Value<'_> {
        match self {
            Payload::Bytes(bytes) if path == Path::Opaque => Value::Payload(bytes),
            Payload::Bytes(bytes) => Value::Bytes(bytes),
            Payload::Score(score) => Value::Score(*score),
            Payload::Present => Value::Present,
        }
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match self {
            Payload::Bytes(bytes) => bytes.len(),
            Payload::Score(_) | Payload::Present => 0,
        }
    }
}
