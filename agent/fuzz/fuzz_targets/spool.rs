//! The file of a snapshot that an agent finds on its disk.
#![no_main]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use syncer_agent::spool::Spool;
use syncer_shared::instance::InstanceId;

/// Reads pieces; nothing else in the fuzzer's process runs beside it.
static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().build().expect("a runtime"));

fuzz_target!(|bytes: &[u8]| {
    let path = std::env::temp_dir().join(format!("syncer-fuzz-spool-{}", std::process::id()));
    fs::write(&path, bytes).expect("the folder can be written to");
    if let Ok(spool) = Spool::open(Path::new(&path), InstanceId::new(1).expect("an id")) {
        RUNTIME.block_on(async {
            let _ = spool.verify().await;
            if let Ok(mut pieces) = spool.pieces().await {
                while let Ok(Some(_)) = pieces.next().await {}
            }
        });
    }
    fs::remove_file(&path).expect("it is there");
});
