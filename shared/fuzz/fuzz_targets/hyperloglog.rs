//! HyperLogLogs, which clients write as they like: what is one keeps its registers in the text that all sites write.
#![no_main]

use libfuzzer_sys::fuzz_target;
use syncer_shared::hyperloglog::{self, HyperLogLog};

fuzz_target!(|text: &[u8]| {
    let Some(registers) = HyperLogLog::parse(text) else { return };
    let canonical = registers.text();
    assert!(hyperloglog::is_canonical(&canonical));
    let again = HyperLogLog::parse(&canonical).expect("what is written is one");
    assert_eq!(again.text(), canonical);
    assert!(again.above(&registers).to_vec().is_empty() && registers.above(&again).to_vec().is_empty());
});
