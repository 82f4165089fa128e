//! What the golden files of the formats are made of.
#![allow(dead_code, reason = "each test binary uses a part")]

use syncer_shared::instance::InstanceId;
use syncer_shared::replid::ReplId;
use syncer_shared::timestamp::Timestamp;

pub fn instance(id: u8) -> InstanceId {
    InstanceId::new(id).expect("in range")
}

pub fn replid(byte: u8) -> ReplId {
    ReplId::from_bytes([byte; 20])
}

pub fn ts(ms: u64, counter: u64) -> Timestamp {
    Timestamp::from_bits(ms << 16 | counter)
}

/// Bytes of a file: hexadecimal, `#` begins a comment.
pub fn bytes(file: &str) -> Vec<u8> {
    let digits: String =
        file.lines().flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace()).collect();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
    (0..digits.len()).step_by(2).map(byte).collect()
}

pub fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    bytes.chunks(24).map(line).collect::<Vec<_>>().join("\n")
}

pub fn assert_golden(written: &[u8], file: &str) {
    assert_eq!(hex(written), hex(&bytes(file)), "the bytes of a released format have changed");
}
