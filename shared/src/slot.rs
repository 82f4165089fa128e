//! Hash slots, as the servers' own cluster has them: slices of the keyspace that can be compared one by one.

use crate::wire::{Reader, WireError, writer};

/// How many there are.
pub const SLOTS: usize = 16_384;

/// The slot of a key: CRC-16 of what stands between the first `{` and the next `}`, if that is not empty; else of the whole key.
#[must_use]
pub fn slot_of(key: &[u8]) -> u16 {
    let tagged = key.iter().position(|&byte| byte == b'{').and_then(|open| {
        let tag = key.get(open + 1..)?;
        let close = tag.iter().position(|&byte| byte == b'}')?;
        tag.get(..close).filter(|tag| !tag.is_empty())
    });
    crc16(tagged.unwrap_or(key)) % SLOTS as u16
}

/// CRC-16 with the polynomial 0x1021, bit by bit: only walks over the keyspace call it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(
            crc ^ (u16::from(byte) << 8),
            |crc: u16, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            },
        )
    })
}

/// The digest and number of keys of each slot, over all databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotDigests {
    slots: Vec<SlotDigest>,
}

/// Of one slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotDigest {
    /// Sum of the lower halves of the digests of its keys.
    pub sum: u64,
    /// How many.
    pub keys: u64,
}

impl Default for SlotDigests {
    fn default() -> Self {
        Self { slots: vec![SlotDigest::default(); SLOTS] }
    }
}

impl SlotDigests {
    /// Adds a key with its digest.
    pub fn add(&mut self, key: &[u8], digest: u128) {
        if let Some(slot) = self.slots.get_mut(usize::from(slot_of(key))) {
            slot.sum = slot.sum.wrapping_add(digest as u64);
            slot.keys += 1;
        }
    }

    /// Each slot.
    pub fn iter(&self) -> impl Iterator<Item = (u16, SlotDigest)> + '_ {
        (0..).zip(self.slots.iter().copied())
    }

    /// The binary form (docs/PROTOCOL.md 8): of each slot, `varint` keys and, if there are any, `u64` sum.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for slot in &self.slots {
            writer::varint(&mut out, slot.keys);
            if slot.keys > 0 {
                out.extend_from_slice(&slot.sum.to_le_bytes());
            }
        }
        out
    }

    /// Reads the binary form.
    ///
    /// # Errors
    /// See [`WireError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let mut digests = Self::default();
        for slot in &mut digests.slots {
            slot.keys = reader.varint("keys of a slot")?;
            if slot.keys > 0 {
                slot.sum = reader.u64("digest of a slot")?;
            }
        }
        reader.finish()?;
        Ok(digests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `CLUSTER KEYSLOT` says.
    #[test]
    fn slots_are_those_of_the_servers() {
        for (key, slot) in [
            ("123456789", 12_739),
            ("foo", 12_182),
            ("{foo}bar", 12_182),
            ("foo{}{bar}", 8_363),
            ("foo{{bar}}zap", 4_015),
            ("", 0),
        ] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
    }

    #[test]
    fn digests_survive_the_wire_and_nothing_else_does() {
        let mut digests = SlotDigests::default();
        (0_u32..100).for_each(|key| digests.add(&key.to_le_bytes(), u128::from(key) << 60));
        let bytes = digests.encode();
        assert_eq!(SlotDigests::decode(&bytes).unwrap(), digests);
        assert_eq!(digests.iter().map(|(_, slot)| slot.keys).sum::<u64>(), 100);
        assert!(SlotDigests::decode(bytes.get(1..).unwrap()).is_err());
        assert!(SlotDigests::decode(&[&bytes[..], &[0]].concat()).is_err());
    }
}
