//! Appends fields to a `Vec`: the counterpart of [`super::Reader`].

use crate::instance::InstanceId;
use crate::replid::ReplId;
use crate::timestamp::Timestamp;

/// 32 bits, little endian.
#[inline]
pub fn u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// 64 bits, little endian.
#[inline]
pub fn u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// A double, little endian.
#[inline]
pub fn f64(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// A variable-length number (LEB128): 7 bits in each byte, lowest first; the top bit says that more follow.
#[inline]
pub fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A variable-length number with a sign (zigzag: 0, -1, 1, -2, ...).
#[inline]
pub fn signed(out: &mut Vec<u8>, value: i64) {
    varint(out, (value << 1) as u64 ^ (value >> 63) as u64);
}

/// Bytes with their length in front.
#[inline]
pub fn prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// An instance id.
pub fn instance(out: &mut Vec<u8>, instance: InstanceId) {
    out.push(instance.get());
}

/// A replication ID.
pub fn replid(out: &mut Vec<u8>, replid: &ReplId) {
    out.extend_from_slice(replid.as_bytes());
}

/// A timestamp in full.
pub fn timestamp(out: &mut Vec<u8>, ts: Timestamp) {
    u64(out, ts.bits());
}

/// Yes or no.
pub fn flag(out: &mut Vec<u8>, flag: bool) {
    out.push(u8::from(flag));
}

/// How far `ts` is above `base`. The caller knows that it is.
pub fn timestamp_above(out: &mut Vec<u8>, base: Timestamp, ts: Timestamp) {
    debug_assert!(ts > base, "{ts} is not above {base}");
    varint(out, ts.bits().wrapping_sub(base.bits()));
}
