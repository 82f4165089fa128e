//! The digest of a logical dataset: the same for equal data, whatever the order, encoding or server.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::effect::{Path, UnixMs, Value};
use crate::stream::Part;

/// 128 bits; a sum over elements and keys, so that the order does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(u128);

/// Adds up the elements of one key.
#[derive(Clone, Debug)]
pub struct KeyDigest {
    elements: u128,
}

impl Digest {
    /// Adds one key.
    pub fn add(&mut self, key: u128) {
        self.0 = self.0.wrapping_add(key);
    }

    /// Adds the digest of another part of the dataset.
    pub fn merge(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl KeyDigest {
    /// No elements yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { elements: 0 }
    }

    /// Adds an element.
    pub fn element(&mut self, path: Path<'_>, value: Value<'_>) {
        if matches!(path, Path::Stream(name) if matches!(Part::parse(name), Some(Part::Consumer { .. }))) {
            // Servers make and drop them in passing.
            return;
        }
        let mut hasher = SipHasher13::new();
        hasher.write_u8(path.kind() as u8);
        write_bytes(&mut hasher, crate::metadata::element(path));
        match value {
            // The TTLs of fields are no part of it: not every server has them.
            Value::Bytes(bytes) | Value::Expiring { bytes, .. } | Value::Payload(bytes) => {
                write_bytes(&mut hasher, bytes)
            }
            // -0.0 and 0.0 are one score.
            Value::Score(score) => hasher.write_u64((score + 0.0).to_bits()),
            Value::Present => {}
            Value::Id(id) => hasher.write(&id.to_bytes()),
            Value::Owner(consumer) => write_bytes(&mut hasher, consumer),
            // Known here, but no part of the dataset.
            Value::Acked | Value::Late => return,
        }
        self.elements = self.elements.wrapping_add(hasher.finish128().as_u128());
    }

    /// The digest of the key.
    #[must_use]
    pub fn finish(self, db: u32, name: &[u8], expire_at: Option<UnixMs>) -> u128 {
        let mut hasher = SipHasher13::new();
        hasher.write_u32(db);
        write_bytes(&mut hasher, name);
        hasher.write_u8(u8::from(expire_at.is_some()));
        hasher.write_i64(expire_at.unwrap_or_default());
        hasher.write(&self.elements.to_le_bytes());
        hasher.finish128().as_u128()
    }
}

impl Default for KeyDigest {
    fn default() -> Self {
        Self::new()
    }
}

fn write_bytes(hasher: &mut SipHasher13, bytes: &[u8]) {
    hasher.write_u64(bytes.len() as u64);
    hasher.write(bytes);
}
