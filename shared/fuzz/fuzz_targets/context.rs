//! Changes of a stream's context, one after the other; each is taken whole or not at all.
#![no_main]

use libfuzzer_sys::fuzz_target;
use syncer_shared::context::StreamContext;

fuzz_target!(|input: &[u8]| {
    let mut context = StreamContext::new();
    for change in input.split(|byte| *byte == 0) {
        let mut change = change.to_vec();
        change.push(0);
        let before = context.clone();
        let checked = context.check_change(&change);
        let applied = context.apply_change(&change);
        assert_eq!(checked, applied);
        if applied.is_err() {
            assert_eq!(context, before);
        } else {
            let mut author = before;
            let mut again = Vec::new();
            author.encode_change(context.entries().iter().copied(), &mut again);
            assert_eq!(again, change);
        }
    }
});
