//! Clock tokens, binary and text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use syncer_shared::token::ClockToken;
use syncer_shared::wire::Reader;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = Reader::new(bytes);
    if let Ok(token) = ClockToken::decode(&mut reader) {
        let mut again = Vec::new();
        token.encode(&mut again);
        assert_eq!(again, bytes[..bytes.len() - reader.rest().len()]);
        assert_eq!(token.to_string().parse(), Ok(token));
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(token) = text.parse::<ClockToken>()
    {
        assert_eq!(token.to_string(), text.trim());
    }
});
