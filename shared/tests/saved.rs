//! The saved state of a shard: what is written reads back and is the same shard; whatever else comes is refused and never panics (I-10).

use proptest::collection::vec;
use proptest::prelude::*;
use syncer_shared::effect::{Effect, Op, Path, TtlNote, Value};
use syncer_shared::group::GroupBuilder;
use syncer_shared::instance::{InstanceId, InstanceSet};
use syncer_shared::keyspace::Keyspace;
use syncer_shared::memory::MemoryKeyspace;
use syncer_shared::number::Number;
use syncer_shared::record::Before;
use syncer_shared::replid::ReplId;
use syncer_shared::shard::{Answer, Hello, PROTOCOL, PeerState, Restorer, SavedError, Shard, ShardConfig, Start};
use syncer_shared::wire::{Reader, WireError, limits, writer};

const NOW_MS: u64 = 1_700_000_000_000;

fn instance(id: u8) -> InstanceId {
    InstanceId::new(id).expect("in range")
}

fn replid(byte: u8) -> ReplId {
    ReplId::from_bytes([byte; 20])
}

/// A primary of instance 1 with a member beside it, some metadata and a second reign.
fn primary() -> Shard {
    let mut shard = Shard::new(ShardConfig::new(instance(1)), replid(0x11), Start::Empty, NOW_MS);
    shard.handshake(&hello(&shard, None), NOW_MS + 1).expect("a newcomer");
    shard.set_position(instance(2), replid(0x22), 77).expect("no fence");
    shard.set_peer_state(instance(2), PeerState::Down, "of the session only");
    let mut keyspace = MemoryKeyspace::default();
    let string = |value| Op::Assign { path: Path::String, value: Value::Bytes(value), reasserted: false };
    for (key, ttl, op) in [
        (&b"k"[..], TtlNote::Created, string(b"v")),
        (b"k", TtlNote::None, Op::Expire { at: NOW_MS as i64 + 60_000 }),
        (b"n", TtlNote::None, Op::Increment { path: Path::String, delta: Number::Integer(7) }),
        (b"n", TtlNote::None, Op::Increment { path: Path::String, delta: Number::Float(0.5) }),
    ] {
        let (mut group, db) = (GroupBuilder::new(), 0);
        group.push(&Effect { db, key, ttl, op });
        keyspace.put(db, key, Path::String, Value::Bytes(b"7.5"));
        shard.commit(&group, &Before::new(), &mut keyspace, NOW_MS + 2);
    }
    shard.begin_reign(replid(0x12), NOW_MS + 3);
    let _ = shard.take_records();
    shard
}

fn hello(of: &Shard, position: Option<(ReplId, u64)>) -> Hello {
    let (protocol, wanted) = (PROTOCOL, InstanceSet::ALL);
    Hello {
        protocol,
        instance: instance(2),
        replid: replid(0x22),
        wanted,
        position,
        clock: of.clock_token(),
        standing: of.standing(),
    }
}

fn saved(shard: &Shard) -> Vec<u8> {
    let mut bytes = Vec::new();
    shard.save(&mut |piece| {
        assert!(piece.len() <= 1 << 20, "a piece has {} bytes", piece.len());
        bytes.extend_from_slice(piece);
    });
    bytes
}

fn restore(id: u8, bytes: &[u8], piece: usize) -> Result<Shard, SavedError> {
    let mut restorer = Restorer::new(ShardConfig::new(instance(id)));
    bytes.chunks(piece.max(1)).try_for_each(|piece| restorer.push(piece))?;
    restorer.finish()
}

fn log_of(shard: &mut Shard) -> Vec<u8> {
    let first = shard.backlog().first_offset();
    let chunk = shard.backlog_mut().read(first, usize::MAX, InstanceSet::ALL).expect("from the first offset");
    chunk.assemble().to_vec()
}

#[test]
fn a_restarted_primary_goes_on_where_it_was() {
    let mut before = primary();
    let mut after = restore(1, &saved(&before), 100).expect("its own state");
    assert!(!after.is_primary(), "a reign is to begin first");
    assert_eq!(after.clock_token(), before.clock_token());
    assert_eq!(log_of(&mut after), log_of(&mut before));
    assert_eq!(after.table(&mut MemoryKeyspace::default()).len(), 2);
    let peer = after.peer(instance(2)).expect("known");
    assert_eq!((peer.position, peer.state, &*peer.error), (Some((replid(0x22), 77)), PeerState::Unknown, ""));
    let end = before.backlog().end_offset();
    after.begin_reign(replid(0x13), NOW_MS + 4);
    let past: Vec<_> = after.status().past.iter().map(|past| past.replid).collect();
    assert_eq!(past, [replid(0x11), replid(0x12)]);
    // Where a peer stopped reading, in the last reign or one before, it goes on.
    for (reign, offset) in [(0x12, end), (0x11, after.status().past[0].end)] {
        let welcome = after.handshake(&hello(&before, Some((replid(reign), offset))), NOW_MS + 5).expect("known");
        assert_eq!(welcome.answer, Answer::Continue(offset));
    }
    // But not behind the end of a past one: what followed there is another log.
    let beyond = after.status().past[0].end + 1;
    let welcome = after.handshake(&hello(&before, Some((replid(0x11), beyond))), NOW_MS + 5).expect("known");
    assert_ne!(welcome.answer, Answer::Continue(beyond));
}

#[test]
fn no_more_past_replication_ids_than_configured() {
    let mut shard = primary();
    shard.config_mut().past_replids_max = 3;
    (0..9).for_each(|reign| shard.begin_reign(replid(0x20 + reign), NOW_MS));
    assert_eq!(shard.status().past.len(), 3);
    assert_eq!(shard.status().past[2].replid, replid(0x27), "the last ones");
}

#[test]
fn the_state_of_another_instance_becomes_ones_own() {
    let mut source = primary();
    let mut moved = restore(3, &saved(&source), 1000).expect("a state");
    moved.begin_reign(replid(0x33), NOW_MS + 9);
    assert_eq!(moved.instance(), instance(3));
    assert!(moved.status().past.is_empty(), "its own replication IDs only");
    assert!(moved.clock_token().covers(&source.clock_token()));
    assert!(moved.membership().contains(instance(3)));
    let end = source.backlog().end_offset();
    assert_eq!(moved.peer(instance(1)).and_then(|peer| peer.position), Some((replid(0x12), end)));
    // Both ways a partial sync does.
    let hello = Hello {
        instance: instance(3),
        replid: replid(0x33),
        clock: moved.clock_token(),
        ..hello(&moved, Some((replid(0x12), end)))
    };
    assert_eq!(source.handshake(&hello, NOW_MS + 9).expect("known").answer, Answer::Continue(end));
    let back = Hello { instance: instance(1), replid: source.replid(), ..self::hello(&source, None) };
    assert!(matches!(moved.handshake(&back, NOW_MS + 9).expect("known").answer, Answer::Continue(_)));
}

#[test]
fn a_large_value_is_cut_into_pieces() {
    let mut shard = primary();
    let mut keyspace = MemoryKeyspace::default();
    for value in [vec![7; 5 << 20], vec![8; 3 << 20]] {
        let mut group = GroupBuilder::new();
        let op = Op::Set { value: &value, expire_at: None };
        group.push(&Effect { db: 0, key: b"large", ttl: TtlNote::None, op });
        shard.commit(&group, &Before::new(), &mut keyspace, NOW_MS);
    }
    let mut restored = restore(1, &saved(&shard), 1 << 20).expect("its own state");
    assert_eq!(log_of(&mut restored), log_of(&mut shard));
}

#[test]
fn a_smaller_backlog_takes_what_fits() {
    let shard = primary();
    let config = ShardConfig { backlog_bytes: 100, ..ShardConfig::new(instance(1)) };
    let mut restorer = Restorer::new(config);
    restorer.push(&saved(&shard)).expect("its own state");
    let restored = restorer.finish().expect("its own state");
    assert!(restored.backlog().bytes() < shard.backlog().bytes());
    assert_eq!(restored.backlog().end_offset(), shard.backlog().end_offset());
}

#[test]
fn a_later_version_is_refused_by_name() {
    let mut bytes = saved(&primary());
    bytes[2] = 9;
    assert_eq!(restore(1, &bytes, 1000).err(), Some(SavedError::Wire(WireError::Version(9))));
}

/// The items of a state but its end: kind and body (docs/PROTOCOL.md 10).
fn items(state: &[u8]) -> Vec<(u8, &[u8])> {
    let (mut reader, mut items) = (Reader::new(state), Vec::new());
    while !reader.is_empty() {
        let kind = reader.u8("item").expect("a kind");
        items.push((kind, reader.prefixed(limits::FRAME_BYTES_MAX, "item").expect("a body")));
    }
    items.pop();
    items
}

/// What is refused of one more item of a state: `front` and a number.
fn refused(state: &[u8], kind: u8, front: &[u8], number: u64) -> Option<SavedError> {
    let (mut before, mut body, mut item) = (Vec::new(), front.to_vec(), vec![kind]);
    for (kind, body) in items(state) {
        before.push(kind);
        writer::prefixed(&mut before, body);
    }
    writer::varint(&mut body, number);
    writer::prefixed(&mut item, &body);
    let mut restorer = Restorer::new(ShardConfig::new(instance(1)));
    restorer.push(&before).expect("its own state");
    restorer.push(&item).err()
}

#[test]
fn counts_and_lengths_above_their_limits_are_refused_as_such() {
    let state = saved(&primary());
    let reigns = items(&state).iter().filter(|(kind, body)| *kind == 2 && body.first() == Some(&1)).count() as u64;
    let (entries, frame) = (limits::CONTEXT_ENTRIES_MAX as u64, limits::FRAME_BYTES_MAX as u64);
    let offsets = [0; 16];
    let backlog = [&offsets[..], &[0, 0, 0]].concat();
    for (kind, front, field, limit) in [
        // A context; clock, stable clock and changed reigns; past reigns; a report of a member; what is passed on of others.
        (2, &[0, 0][..], "context of a reign", frame),
        (3, &[], "clock entries", reigns),
        (3, &[0], "clock entries", reigns),
        (3, &[0, 0], "reigns", reigns),
        (4, &[], "past replication IDs", entries),
        (6, &[2, 0], "clock entries", reigns),
        (7, &[1], "members of a report", limits::REPORT_MEMBERS_MAX as u64),
        // The backlog and its index; what is still to be written by who joins.
        (15, &backlog, "entries of a mark", entries),
        (16, &offsets[..8], "clock entries", reigns),
        (19, &[0, 0, 1], "renewal", frame),
    ] {
        let error = refused(&state, kind, front, limit + 1);
        let expected = WireError::TooLarge { what: field, found: limit + 1, limit };
        assert_eq!(error, Some(SavedError::Wire(expected)), "{kind}, {field}");
        let at_limit = refused(&state, kind, front, limit);
        assert!(
            !matches!(at_limit, Some(SavedError::Wire(WireError::TooLarge { .. }))),
            "{kind}, {field}: {at_limit:?}"
        );
    }
}

proptest! {
    #[test]
    fn a_cut_off_state_is_refused(part in 0.0..1.0_f64, piece in 1..5000_usize) {
        let bytes = saved(&primary());
        let len = (bytes.len() as f64 * part) as usize;
        prop_assert!(restore(1, &bytes[..len], piece).is_err());
    }

    #[test]
    fn a_damaged_state_is_refused(part in 0.0..1.0_f64, by in 1..=255_u8, piece in 1..5000_usize) {
        let mut bytes = saved(&primary());
        let at = (bytes.len() as f64 * part) as usize;
        bytes[at] ^= by;
        prop_assert!(restore(1, &bytes, piece).is_err());
    }

    #[test]
    fn anything_is_refused_without_a_panic(bytes in vec(any::<u8>(), 0..400), keep in 0..400_usize) {
        let valid = saved(&primary());
        let mixed: Vec<u8> = valid.iter().copied().take(keep).chain(bytes).collect();
        prop_assert!(restore(1, &mixed, 64).is_err());
    }
}
