//! Digests of slots: what is accepted encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use syncer_shared::slot::SlotDigests;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(digests) = SlotDigests::decode(bytes) {
        assert_eq!(digests.encode(), bytes);
    }
});
