//! Limits of everything that is decoded. A decoder refuses what is above; an encoder never gets there.

use crate::origin::Origins;

/// Bytes of one frame. A group holds a whole `MULTI`, so it must take several of the largest values people use
/// (64 MB and more); lengths and counts then fit `u32`.
pub const FRAME_BYTES_MAX: usize = 1 << 30;

/// Bytes of a key, a field or member name: the servers' own limit of a string (`proto-max-bulk-len`, 512 MB).
pub const NAME_BYTES_MAX: usize = 512 << 20;

/// Bytes of a value. Servers can be configured above 512 MB, so only the frame limits it.
pub const VALUE_BYTES_MAX: usize = FRAME_BYTES_MAX;

/// Reigns in one context or clock: as many as a shard keeps.
pub const CONTEXT_ENTRIES_MAX: usize = Origins::COUNT_MAX;

/// Members in one report: one for each possible instance id.
pub const REPORT_MEMBERS_MAX: usize = 63;

/// Bytes of the longest variable-length number: 64 bits, 7 in each byte.
pub const VARINT_BYTES_MAX: usize = 10;

/// Logical databases. Servers allow 2^31 - 1.
pub const DB_MAX: u32 = i32::MAX as u32;

const _: () = assert!(FRAME_BYTES_MAX < u32::MAX as usize, "a frame's length field has 32 bits");
const _: () = assert!(NAME_BYTES_MAX < FRAME_BYTES_MAX, "a frame holds the largest name");
