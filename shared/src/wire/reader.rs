//! Reads fields off the front of a slice.

use super::{WireError, limits};
use crate::instance::InstanceId;
use crate::replid::ReplId;
use crate::timestamp::Timestamp;

/// A position in bytes from elsewhere. No method panics, copies or allocates.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads these bytes off the front, if they are there. Whether they were.
    pub fn skip_if(&mut self, front: &[u8]) -> bool {
        let rest = self.rest.strip_prefix(front);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Whether everything has been read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    #[inline]
    pub fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(WireError::Truncated { what })?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    #[inline]
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::Truncated { what })?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    #[inline]
    pub fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        self.array(what).map(|[byte]| byte)
    }

    /// 32 bits, little endian.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    #[inline]
    pub fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// 64 bits, little endian.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    #[inline]
    pub fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A double, little endian. Never NaN.
    ///
    /// # Errors
    /// [`WireError::Truncated`], [`WireError::Invalid`].
    #[inline]
    pub fn f64(&mut self, what: &'static str) -> Result<f64, WireError> {
        let value = self.array(what).map(f64::from_le_bytes)?;
        if value.is_nan() { Err(WireError::Invalid { what }) } else { Ok(value) }
    }

    /// A variable-length number (LEB128) in its only, shortest form.
    ///
    /// # Errors
    /// [`WireError::Truncated`], [`WireError::Varint`].
    #[inline]
    pub fn varint(&mut self, what: &'static str) -> Result<u64, WireError> {
        match *self.rest {
            [byte @ 0..0x80, ref rest @ ..] => {
                self.rest = rest;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(what),
        }
    }

    fn long_varint(&mut self, what: &'static str) -> Result<u64, WireError> {
        let (mut value, mut shift) = (0, 0);
        for (at, &byte) in self.rest.iter().enumerate().take(limits::VARINT_BYTES_MAX) {
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                let fits = at + 1 < limits::VARINT_BYTES_MAX || byte <= 1;
                if byte == 0 || !fits {
                    break;
                }
                self.rest = self.rest.get(at + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        if self.rest.len() < limits::VARINT_BYTES_MAX && self.rest.iter().all(|byte| *byte >= 0x80) {
            return Err(WireError::Truncated { what });
        }
        Err(WireError::Varint { what })
    }

    /// A variable-length number with a sign (zigzag).
    ///
    /// # Errors
    /// As [`Reader::varint`].
    #[inline]
    pub fn signed(&mut self, what: &'static str) -> Result<i64, WireError> {
        let zigzag = self.varint(what)?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    /// A variable-length number of at most `limit`.
    ///
    /// # Errors
    /// As [`Reader::varint`], and [`WireError::TooLarge`].
    #[inline]
    pub fn limited(&mut self, limit: u64, what: &'static str) -> Result<u64, WireError> {
        let found = self.varint(what)?;
        if found > limit { Err(WireError::TooLarge { what, found, limit }) } else { Ok(found) }
    }

    /// Bytes with their length in front.
    ///
    /// # Errors
    /// As [`Reader::limited`].
    #[inline]
    pub fn prefixed(&mut self, limit: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        let len = self.limited(limit as u64, what)?;
        self.take(len as usize, what)
    }

    /// An instance id.
    ///
    /// # Errors
    /// [`WireError::Truncated`], [`WireError::Instance`].
    pub fn instance(&mut self, what: &'static str) -> Result<InstanceId, WireError> {
        let id = self.u8(what)?;
        InstanceId::new(id).ok_or(WireError::Instance(id))
    }

    /// A replication ID.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn replid(&mut self, what: &'static str) -> Result<ReplId, WireError> {
        self.array(what).map(ReplId::from_bytes)
    }

    /// A timestamp in full; zero is "none".
    ///
    /// # Errors
    /// [`WireError::Truncated`], [`WireError::Invalid`].
    pub fn timestamp(&mut self, what: &'static str) -> Result<Timestamp, WireError> {
        let ts = Timestamp::from_bits(self.u64(what)?);
        if ts > Timestamp::MAX { Err(WireError::Invalid { what }) } else { Ok(ts) }
    }

    /// Yes or no.
    ///
    /// # Errors
    /// [`WireError::Truncated`], [`WireError::Code`].
    pub fn flag(&mut self, what: &'static str) -> Result<bool, WireError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            code => Err(WireError::Code { what, code }),
        }
    }

    /// How far a timestamp is above `base`: at least 1, and not beyond [`Timestamp::MAX`].
    ///
    /// # Errors
    /// As [`Reader::varint`], and [`WireError::Invalid`].
    pub fn timestamp_above(&mut self, base: Timestamp, what: &'static str) -> Result<Timestamp, WireError> {
        let delta = self.varint(what)?;
        let bits = base.bits().checked_add(delta).ok_or(WireError::Invalid { what })?;
        let allowed = delta > 0 && bits <= Timestamp::MAX.bits();
        if allowed { Ok(Timestamp::from_bits(bits)) } else { Err(WireError::Invalid { what }) }
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// [`WireError::Trailing`].
    pub fn finish(&self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::Trailing(self.rest.len())) }
    }
}
