//! Records of the replication stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use syncer_shared::record::Record;

fuzz_target!(|bytes: &[u8]| {
    let _ = Record::parse(bytes);
});
