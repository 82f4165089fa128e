//! Replication IDs: the names of reigns.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// 160 random bits (40 hex digits) that name one *reign* of one primary: new at every start as a
/// primary and at every promotion, the same on all replicas of that primary.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplId([u8; ReplId::LEN]);

/// The text is not 40 hex digits.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a replication ID has 40 hex digits")]
pub struct BadReplId;

impl ReplId {
    /// Bytes of a replication ID.
    pub const LEN: usize = 20;

    /// A replication ID from random bytes. The caller supplies the randomness (I-11).
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl Hash for ReplId {
    /// As integers: its names are looked up several times for each remote group, and hashers are slow with bytes.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [head @ .., a, b, c, d] = self.0;
        state.write_u128(u128::from_le_bytes(head));
        state.write_u32(u32::from_le_bytes([a, b, c, d]));
    }
}

impl fmt::Display for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for ReplId {
    type Err = BadReplId;

    fn from_str(text: &str) -> Result<Self, BadReplId> {
        let digits: Vec<u8> =
            text.chars().map(|c| c.to_digit(16).map(|d| d as u8).ok_or(BadReplId)).collect::<Result<_, _>>()?;
        if digits.len() != 2 * Self::LEN {
            return Err(BadReplId);
        }
        let mut bytes = [0; Self::LEN];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Self(bytes))
    }
}
