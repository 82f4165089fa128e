//! Numbers in strings: what is one shows as one, and shows the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use syncer_shared::number::Number;

fuzz_target!(|text: &[u8]| {
    if let Some(number) = Number::parse(text) {
        let shown = number.format();
        let again = Number::parse(shown.as_bytes()).expect("what is shown is a number");
        assert_eq!(again.format(), shown);
    }
});
