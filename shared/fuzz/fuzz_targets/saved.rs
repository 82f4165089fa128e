//! The saved state of a shard.
#![no_main]

use libfuzzer_sys::fuzz_target;
use syncer_shared::instance::InstanceId;
use syncer_shared::shard::{Restorer, ShardConfig};

fuzz_target!(|bytes: &[u8]| {
    let Some(instance) = InstanceId::new(1) else { return };
    let mut restorer = Restorer::new(ShardConfig::new(instance));
    if bytes.chunks(1000).all(|piece| restorer.push(piece).is_ok()) {
        let _ = restorer.finish();
    }
});
