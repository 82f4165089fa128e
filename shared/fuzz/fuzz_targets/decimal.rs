//! Exact decimals: what is one shows as one, and shows the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use syncer_shared::decimal::Decimal;

fuzz_target!(|text: &[u8]| {
    if let Some(number) = Decimal::parse(text) {
        let shown = number.format();
        let again = Decimal::parse(shown.as_bytes()).expect("what is shown is one");
        assert_eq!(again.format(), shown);
    }
});
