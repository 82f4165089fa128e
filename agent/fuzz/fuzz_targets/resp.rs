//! What an agent reads from a server: any bytes, in any pieces, are the same replies or an error.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use syncer_agent::resp::decode;

/// The replies, and whether an error came after them.
fn replies(pieces: &[&[u8]]) -> (Vec<String>, bool) {
    let (mut input, mut found) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decode(&mut input) {
                Ok(Some(reply)) => found.push(format!("{reply:?}")),
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
    }
    (found, false)
}

fuzz_target!(|bytes: &[u8]| {
    let whole = replies(&[bytes]);
    let (front, back) = bytes.split_at(bytes.len() / 2);
    assert_eq!(replies(&[front, back]), whole);
});
