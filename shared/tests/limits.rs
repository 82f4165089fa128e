//! Lengths and counts above their limits are refused as such, before anything is read by them; at the limit only the bytes are missing.

use syncer_shared::group::{self, Frame};
use syncer_shared::record::Record;
use syncer_shared::report;
use syncer_shared::token::ClockToken;
use syncer_shared::wire::{Reader, WireError, limits, writer};

/// `front` and a number.
fn claim(front: &[u8], number: u64) -> Vec<u8> {
    let mut bytes = front.to_vec();
    writer::varint(&mut bytes, number);
    bytes
}

fn is_too_large(error: &WireError, field: &str, limit: u64) -> bool {
    matches!(error, WireError::TooLarge { what, found, limit: told } if *what == field && *found == limit + 1 && *told == limit)
}

#[test]
fn lengths_in_effects() {
    let (name, value) = (limits::NAME_BYTES_MAX as u64, limits::VALUE_BYTES_MAX as u64);
    let key = [1, b'k'];
    let on_key = |codes: &[u8], rest: &[u8]| [codes, &key, rest].concat();
    // As docs/PROTOCOL.md numbers them: PERSIST, SET, an assigned field, a removed one, member and scored member, a payload.
    for (front, field, limit) in [
        (vec![21], "key", name),
        (on_key(&[1], &[]), "string", value),
        (on_key(&[4], &[]), "field", name),
        (on_key(&[4], &[1, b'f']), "value", value),
        (on_key(&[7], &[]), "payload", value),
        (on_key(&[9], &[]), "field", name),
        (on_key(&[10], &[]), "member", name),
        (on_key(&[11], &[]), "member", name),
        (vec![31, 1, 0], "channel", name),
        (vec![31, 1, 0, 1, b'c'], "message", value),
        (vec![0], "database", u64::from(limits::DB_MAX)),
        (vec![22], "flush scope", u64::from(limits::DB_MAX) + 1),
    ] {
        let error = group::check(&claim(&front, limit + 1)).expect_err("it is above the limit");
        assert!(is_too_large(&error, field, limit), "{field}: {error:?}");
        let at_limit = group::check(&claim(&front, limit));
        assert!(!matches!(at_limit, Err(WireError::TooLarge { .. })), "{field}: {at_limit:?}");
        // Databases and scopes are numbers, not lengths.
        let is_length = !["database", "flush scope"].contains(&field);
        assert!(!is_length || matches!(at_limit, Err(WireError::Truncated { .. })), "{field}: {at_limit:?}");
    }
}

#[test]
fn lengths_of_frames() {
    let limit = limits::FRAME_BYTES_MAX;
    let frame = |len: usize| [&u32::try_from(len).expect("it fits").to_le_bytes()[..], &[0; 60]].concat();
    let error = Frame::parse(&frame(limit + 1)).map(drop).expect_err("it is above the limit");
    assert!(is_too_large(&error, "frame length", limit as u64), "{error:?}");
    assert!(matches!(Frame::parse(&frame(limit)), Err(WireError::Truncated { .. })));
}

#[test]
fn counts_of_clocks_contexts_and_reports() {
    let entries = limits::CONTEXT_ENTRIES_MAX as u64;
    let clock = |count| ClockToken::decode(&mut Reader::new(&claim(&[], count))).expect_err("nothing follows");
    assert!(is_too_large(&clock(entries + 1), "clock entries", entries));
    assert!(matches!(clock(entries), WireError::Truncated { .. }));
    let members = limits::REPORT_MEMBERS_MAX as u64;
    let report = |count| report::decode(&claim(&[1], count)).expect_err("nothing follows");
    assert!(is_too_large(&report(members + 1), "members of a report", members));
    assert!(matches!(report(members), WireError::Truncated { .. }));
    // A context has no count: entries are counted as they come.
    let entry = [2, 1];
    let reader_of =
        |count: usize| syncer_shared::context::take_change(&mut Reader::new(&entry.repeat(count))).map(drop);
    let error = reader_of(limits::CONTEXT_ENTRIES_MAX + 1).expect_err("it is above the limit");
    assert!(is_too_large(&error, "context", entries), "{error:?}");
    assert!(matches!(reader_of(limits::CONTEXT_ENTRIES_MAX), Err(WireError::Truncated { .. })));
    // Through a record, too: the position of a peer, with a clock that is none.
    assert!(Record::parse(&claim(&[1, 1], u64::MAX)).is_err());
}
