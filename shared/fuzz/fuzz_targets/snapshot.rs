//! Snapshots: heads and keys.
#![no_main]

use libfuzzer_sys::fuzz_target;
use syncer_shared::snapshot::{SnapshotHead, SnapshotKey};
use syncer_shared::wire::Reader;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(head) = SnapshotHead::decode(bytes) {
        let mut again = Vec::new();
        head.encode(&mut again);
        assert_eq!(SnapshotHead::decode(&again), Ok(head));
    }
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() && SnapshotKey::decode(&mut reader).is_ok() {}
});
