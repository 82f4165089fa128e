//! Lengths and counts above their limits are refused as such, before anything is read by them; at the limit only the bytes are missing.

mod sites;

use sites::{K, Site, met};
use syncer_shared::group::{self, Frame, GroupView, encode_frame};
use syncer_shared::hyperloglog::Registers;
use syncer_shared::keyspace::Keyspace;
use syncer_shared::list::position::{ANCHOR_BYTES_MAX, NAME_BYTES_MAX};
use syncer_shared::merge::KeyRef;
use syncer_shared::origin::Origins;
use syncer_shared::patch::REACH_MAX;
use syncer_shared::record::Record;
use syncer_shared::report;
use syncer_shared::shard::{ApplyError, Batch, SyncError};
use syncer_shared::snapshot::{SnapshotHead, SnapshotKey, rest};
use syncer_shared::stream::{LAST_NAME, Part, StreamId};
use syncer_shared::timestamp::Timestamp;
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

/// A field of effects above its limit is refused as such; at the limit, a length is just longer than what follows.
fn check_effects(fields: impl IntoIterator<Item = (Vec<u8>, &'static str, u64)>) {
    for (front, field, limit) in fields {
        let error = group::check(&claim(&front, limit + 1)).expect_err("it is above the limit");
        assert!(is_too_large(&error, field, limit), "{field}: {error:?}");
        let at_limit = group::check(&claim(&front, limit));
        assert!(matches!(at_limit, Err(WireError::Truncated { .. })), "{field}: {at_limit:?}");
    }
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

const NAMES: u64 = limits::NAME_BYTES_MAX as u64;
const VALUES: u64 = limits::VALUE_BYTES_MAX as u64;

/// `code`, the key, and what follows it.
fn on_key(code: u8, rest: &[&[u8]]) -> Vec<u8> {
    [&[code, 1, b'k'], &rest.concat()[..]].concat()
}

#[test]
fn lengths_in_streams() {
    let stream = |rest: &[&[u8]]| on_key(30, rest);
    let prefixed = |part: Part<'_>| {
        let name = part.name();
        [&[name.len() as u8], &name[..]].concat()
    };
    let entry = prefixed(Part::Entry(StreamId::MIN));
    let delivery = prefixed(Part::Delivery { group: b"g", id: StreamId::MIN });
    let (id, group): ([u8; 16], &[u8]) = ([0; 16], &[1, b'g']);
    // Assign, the same re-asserted, remove, end of a group, delivery.
    check_effects([
        (stream(&[&[1]]), "part of a stream", NAMES),
        (stream(&[&[1], &entry]), "fields of an entry", VALUES),
        (stream(&[&[2], &delivery, &[2]]), "consumer", NAMES),
        (stream(&[&[3]]), "part of a stream", NAMES),
        (stream(&[&[5]]), "group", NAMES),
        (stream(&[&[6]]), "group", NAMES),
        (stream(&[&[6], group, &[1]]), "consumer", NAMES),
        (stream(&[&[6], group, &[0], &id]), "ids", VALUES),
    ]);
}

#[test]
fn lengths_in_lists() {
    let list = |rest: &[&[u8]]| on_key(29, rest);
    // Insert, remove, assign, the same re-asserted. The run of a group's own at an end, or one anchored at an element.
    let (count, anchor) = (u64::from(u32::MAX), ANCHOR_BYTES_MAX as u64);
    check_effects([
        (list(&[&[1, 2]]), "anchor", anchor),
        (list(&[&[1, 0]]), "place of a list element", count),
        (list(&[&[1, 0, 0]]), "list elements", count),
        (list(&[&[1, 0, 0, 1]]), "list element", VALUES),
        (list(&[&[2]]), "ranges", count),
        (list(&[&[2, 1, 2]]), "anchor", anchor),
        (list(&[&[3]]), "position", NAME_BYTES_MAX as u64),
        (list(&[&[4]]), "position", NAME_BYTES_MAX as u64),
    ]);
}

#[test]
fn lengths_in_patches() {
    let patch = |rest: &[u8]| on_key(28, &[rest]);
    check_effects([
        (patch(&[1]), "offset", REACH_MAX),
        (patch(&[2]), "bit offset", REACH_MAX * 8),
        (patch(&[3]), "appended bytes", VALUES),
        (patch(&[4]), "registers", Registers::BYTES_MAX as u64),
    ]);
    // A number: nothing of that length follows.
    let prior = |number| group::check(&claim(&patch(&[1, 0, 1, b'x']), number));
    let error = prior((VALUES << 1) + 1).expect_err("it is above the limit");
    assert!(is_too_large(&error, "length before", VALUES << 1), "{error:?}");
    assert!(prior(VALUES << 1).is_ok());
}

/// The front of a snapshot's head, up to its reigns: version, instance, replication ID, offset.
fn head(version: u8, rest: &[u8]) -> Vec<u8> {
    [&[version, 1], &[7; 20][..], &[0; 8], rest].concat()
}

#[test]
fn counts_and_lengths_in_heads_of_snapshots() {
    let reigns = Origins::COUNT_MAX as u64;
    let reign = [&[1][..], &[7; 20], &[1], &[0; 24]].concat();
    let ts = [0; 8];
    for (front, field, limit) in [
        (head(1, &[]), "reigns of a snapshot", reigns),
        (head(1, &reign), "context of a reign", limits::FRAME_BYTES_MAX as u64),
        (head(1, &[0, 1, 2]), "reign of a dot", reigns - 1),
        (head(1, &[&[0, 1, 2, 0][..], &ts].concat()), "index of a dot", u64::from(u32::MAX)),
        (head(2, &[0, 0, 1, 2, 0, 1]), "reign of a dot", reigns - 1),
        (head(2, &[0, 0, 0, 1]), "frozen reign", reigns - 1),
    ] {
        let error = SnapshotHead::decode(&claim(&front, limit + 1)).expect_err("it is above the limit");
        assert!(is_too_large(&error, field, limit), "{field}: {error:?}");
        let at_limit = SnapshotHead::decode(&claim(&front, limit));
        assert!(!matches!(at_limit, Err(WireError::TooLarge { .. })), "{field}: {at_limit:?}");
    }
}

/// A key of a snapshot up to its elements: database 0, its name, one type of value.
fn snapshot_key(kind: u8, rest: &[&[u8]]) -> Vec<u8> {
    [&[0, 1, b'k', 1, kind], &rest.concat()[..]].concat()
}

#[test]
fn counts_and_lengths_in_keys_of_snapshots() {
    let (string, hash, opaque, list, stream) = (1, 2, 5, 6, 7);
    let last = [&[1, 1], LAST_NAME].concat();
    let (element, base): (&[u8], &[u8]) = (&[1, 0], &[1]);
    let field = [1, 1, b'f'];
    for (front, what, limit) in [
        (vec![], "database", u64::from(limits::DB_MAX)),
        (vec![0], "key name", NAMES),
        (snapshot_key(hash, &[&[1]]), "element", NAMES),
        (snapshot_key(list, &[&[1]]), "position", 0),
        (snapshot_key(list, &[&[1, 0]]), "position", NAME_BYTES_MAX as u64),
        (snapshot_key(string, &[element, base, &[1]]), "value", VALUES),
        (snapshot_key(hash, &[&field, base, &[4, 0]]), "value", VALUES),
        (snapshot_key(opaque, &[element, base, &[5]]), "value", VALUES),
        (snapshot_key(stream, &[&last, base, &[7]]), "consumer", NAMES),
        (snapshot_key(string, &[element, &[2, 0, 0]]), "length below patches", VALUES),
        (snapshot_key(string, &[element, &[0, 1]]), "reign of a dot", Origins::COUNT_MAX as u64 - 1),
    ] {
        let decode = |number| SnapshotKey::decode(&mut Reader::new(&claim(&front, number))).map(drop);
        let error = decode(limit + 1).expect_err("it is above the limit");
        assert!(is_too_large(&error, what, limit), "{what}: {error:?}");
        assert!(!matches!(decode(limit), Err(WireError::TooLarge { .. })), "{what}: {:?}", decode(limit));
    }
}

/// What there is of a site: data, clock, log.
fn state(site: &mut Site) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        site.data.entries().clone(),
        site.shard.clock_token(),
        site.shard.backlog().end_offset(),
        site.shard.take_records(),
    )
}

/// The effects before the one that is too long are of the same group: none of them is applied.
#[test]
fn nothing_of_a_group_with_a_length_above_its_limit_is_applied() {
    let (a, mut b) = met();
    b.shard.take_records();
    let set = [1, 1, b'j', 1, b'v'];
    let (from, next) = (a.shard.backlog().end_offset(), 1_000);
    let me = a.shard.replid();
    let prev = a.shard.clock_token().get(&me);
    for too_long in [
        claim(&on_key(30, &[&[5]]), NAMES + 1),
        claim(&on_key(29, &[&[1, 0, 0, 1]]), VALUES + 1),
        claim(&on_key(28, &[&[3]]), VALUES + 1),
    ] {
        let frame = |body: &[u8]| {
            let mut frame = Vec::new();
            encode_frame(&mut frame, a.shard.instance(), &me, prev, Timestamp::from_bits(prev.bits() + 1), &[0], body);
            frame
        };
        let before = state(&mut b);
        let frames = frame(&[&set[..], &too_long].concat());
        let (next, end) = (from + frames.len() as u64, next);
        let batch = Batch { peer: a.shard.instance(), replid: me, from, next, end, source_ms: a.now, frames: &frames };
        let applied = b.shard.apply(&batch, &mut b.data, b.now, &mut || true);
        let Err(ApplyError::Frame(error)) = applied else { panic!("{applied:?}") };
        assert!(matches!(error, WireError::TooLarge { .. }), "{error:?}");
        assert_eq!(state(&mut b), before);
        assert!(GroupView::parse(&frame(&set)).is_ok(), "without it the group is one");
    }
}

/// Nothing of the key that has it, and of none behind it.
#[test]
fn nothing_of_a_snapshots_key_with_a_length_above_its_limit_is_merged() {
    let (mut a, mut b) = met();
    a.set("v");
    b.shard.begin_sync(a.shard.snapshot_head()).expect("it is taken");
    b.shard.take_records();
    // A hash with a field before the one that is too long; a stream.
    let field: &[u8] = &[2, 1, b'f', 1, 1, 1, b'v', 0, 0];
    for too_long in [
        claim(&snapshot_key(2, &[field]), NAMES + 1),
        claim(&snapshot_key(7, &[&[1, 1], LAST_NAME, &[1, 7]]), NAMES + 1),
    ] {
        let mut behind = Vec::new();
        assert!(rest::encode(&mut behind, KeyRef { db: 0, name: K }, &mut a.data));
        let before = state(&mut b);
        let merged = b.shard.sync_keys(&[too_long, behind].concat(), &mut b.data, b.now, &mut || true);
        let Err(SyncError::Frame(error)) = merged else { panic!("{merged:?}") };
        assert!(matches!(error, WireError::TooLarge { .. }), "{error:?}");
        assert_eq!(state(&mut b), before);
        assert_eq!(b.data.kind(0, K), None);
    }
}
