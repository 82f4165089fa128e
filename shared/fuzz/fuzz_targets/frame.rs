//! Frames, with the checksum set right so that the fuzzer gets behind it. What is accepted encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use syncer_shared::group::{self, Frame, GroupBuilder};

fuzz_target!(|input: &[u8]| {
    let _ = Frame::parse(input);
    let mut bytes = input.to_vec();
    if bytes.len() < 9 {
        return;
    }
    let len = (bytes.len() as u32).to_le_bytes();
    bytes[..4].copy_from_slice(&len);
    // The checksum that the decoder says it has computed.
    if let Err(syncer_shared::wire::WireError::Checksum { computed, .. }) = Frame::parse(&bytes) {
        bytes[4..8].copy_from_slice(&computed.to_le_bytes());
    }
    match Frame::parse(&bytes) {
        Ok((Frame::Group(view), rest)) => {
            assert!(rest.is_empty());
            let mut builder = GroupBuilder::new();
            group::effects(view.body).for_each(|effect| builder.push(&effect));
            let mut again = Vec::new();
            group::encode_frame(
                &mut again,
                view.instance,
                &view.replid,
                view.prev,
                view.ts,
                view.change,
                builder.body(),
            );
            assert_eq!(again, bytes);
        }
        Ok((Frame::Skip(skip), _)) => {
            let mut again = Vec::new();
            group::encode_skip(&mut again, skip.bytes);
            assert_eq!(again, bytes);
        }
        Err(_) => {}
    }
});
