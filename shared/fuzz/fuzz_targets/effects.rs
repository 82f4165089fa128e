//! Bodies of groups.
#![no_main]

use libfuzzer_sys::fuzz_target;
use syncer_shared::group::{self, GroupBuilder};

fuzz_target!(|body: &[u8]| {
    let iterated = group::effects(body).count();
    let Ok(count) = group::check(body) else { return };
    assert_eq!(iterated, count as usize);
    let mut builder = GroupBuilder::new();
    group::effects(body).for_each(|effect| builder.push(&effect));
    assert_eq!(builder.body(), body);
});
