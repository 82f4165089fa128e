//! Reports.
#![no_main]

use libfuzzer_sys::fuzz_target;
use syncer_shared::report;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(members) = report::decode(bytes) {
        let mut again = Vec::new();
        report::encode(&members, &mut again);
        assert_eq!(again, bytes);
    }
});
