//! Numbers in strings: what is one shows as one, and shows the same again; in scores, too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use syncer_shared::number::{Number, parse_float};

fuzz_target!(|text: &[u8]| {
    if let Some(number) = Number::parse(text) {
        assert!(!number.as_float().is_nan());
    }
    if let Some(float) = parse_float(text) {
        let shown = float.to_string();
        assert_eq!(parse_float(shown.as_bytes()).map(f64::to_bits), Some(float.to_bits()), "{shown}");
    }
});
