//! Values that are captured later than they are written: nothing overtakes them, and no crash or failover loses them.

mod sites;

use sites::{K, NOW, Site, met, pull, settle};
use syncer_shared::effect::{ClearReason, Effect, Op, Path, TtlNote, Value};
use syncer_shared::group::GroupBuilder;
use syncer_shared::instance::InstanceId;
use syncer_shared::keyspace::Keyspace;
use syncer_shared::memory::MemoryKeyspace;
use syncer_shared::record::{Before, Record};
use syncer_shared::replid::ReplId;
use syncer_shared::shard::{Restorer, Shard, ShardConfig, Start};

/// Writes the value without capturing it.
fn write(site: &mut Site, value: &[u8]) {
    site.data.put(0, K, Path::Opaque, Value::Payload(value));
    site.shard.note_changed(0, K);
}

fn value(data: &mut MemoryKeyspace) -> Option<Vec<u8>> {
    data.payload(0, K)
}

/// Logs what a client did, as the module does.
fn log(site: &mut Site, key: &[u8], op: Op<'_>) {
    let mut group = GroupBuilder::new();
    group.push(&Effect { db: 0, key, ttl: TtlNote::None, op });
    site.shard.add_changed(&mut group, &mut site.data);
    site.now += 10;
    site.shard.commit(&group, &Before::new(), &mut site.data, site.now);
}

fn string(value: &[u8]) -> Op<'_> {
    Op::Set { value, expire_at: None }
}

#[test]
fn a_mark_is_noted_once_and_ends_with_the_capture() {
    let (mut a, mut b) = met();
    assert!(a.shard.note_changed(0, K).is_some() && a.shard.note_changed(0, K).is_none());
    write(&mut a, b"V1");
    write(&mut a, b"V2");
    a.data.set_expire_at(0, K, Some(5));
    pull(&mut a, &mut b);
    assert_eq!(value(&mut b.data), None, "not captured yet");
    a.shard.capture_changed(&mut a.data, a.now);
    assert!(!a.shard.has_changed());
    settle(&mut a, &mut b);
    assert_eq!((value(&mut b.data), b.data.expire_at(0, K)), (Some(b"V2".to_vec()), Some(5)));
}

#[test]
fn no_other_write_overtakes_it() {
    let (mut a, mut b) = met();
    write(&mut a, b"V1");
    a.data.put(0, b"flag", Path::String, Value::Bytes(b"done"));
    log(&mut a, b"flag", string(b"done"));
    assert!(!a.shard.has_changed());
    settle(&mut a, &mut b);
    assert_eq!(value(&mut b.data), Some(b"V1".to_vec()));
}

#[test]
fn a_group_that_says_what_became_of_it_says_it_once() {
    let (mut a, mut b) = met();
    write(&mut a, b"V1");
    a.data.delete(0, K, ClearReason::Deleted);
    let mut group = GroupBuilder::new();
    group.push(&Effect { db: 0, key: K, ttl: TtlNote::None, op: Op::Clear { reason: ClearReason::Deleted } });
    a.shard.add_changed(&mut group, &mut a.data);
    assert_eq!(group.count(), 1);
    a.shard.commit(&group, &Before::new(), &mut a.data, a.now + 1);
    write(&mut a, b"V2");
    a.data.delete(0, K, ClearReason::Expired);
    let mut group = GroupBuilder::new();
    a.shard.add_changed(&mut group, &mut a.data);
    assert_eq!(group.count(), 1, "a file was loaded, and what had expired was dropped");
    a.shard.commit(&group, &Before::new(), &mut a.data, a.now + 2);
    settle(&mut a, &mut b);
    assert_eq!((value(&mut b.data), a.shard.has_changed()), (None, false));
}

/// I-4: a remote effect must not meet a value that nobody has logged.
#[test]
fn it_is_captured_before_a_remote_write_of_the_key() {
    for flush in [false, true] {
        let (mut a, mut b) = met();
        b.now = a.now - 5;
        match flush {
            true => b.flush(),
            false => b.put(Path::Opaque, Value::Payload(b"V1 of b")),
        }
        a.now += 1_000;
        write(&mut a, b"V2 of a");
        pull(&mut b, &mut a);
        assert!(!a.shard.has_changed());
        settle(&mut a, &mut b);
        assert_eq!(value(&mut b.data), Some(b"V2 of a".to_vec()), "a concurrent write, and the later one");
    }
}

#[test]
fn a_remote_write_of_another_key_leaves_it() {
    let (mut a, mut b) = met();
    write(&mut a, b"V1");
    b.data.put(0, b"other", Path::String, Value::Bytes(b"x"));
    log(&mut b, b"other", string(b"x"));
    pull(&mut b, &mut a);
    assert!(a.shard.has_changed());
}

/// What a replica, or the same server after a restart, has: the records and the writes, or a file with both.
fn follower(a: &mut Site, marks: &[Vec<u8>]) -> Shard {
    let mut bytes = Vec::new();
    a.shard.save(&mut |piece| bytes.extend_from_slice(piece));
    let mut restorer = Restorer::new(ShardConfig::new(InstanceId::new(1).expect("in range")));
    restorer.push(&bytes).and_then(|()| restorer.finish()).map_or_else(
        |error| panic!("{error}"),
        |mut shard| {
            marks.iter().for_each(|mark| shard.replay(mark, &mut a.data).expect("a record"));
            shard
        },
    )
}

#[test]
fn whoever_is_primary_next_captures_it() {
    for by_record in [false, true] {
        let (mut a, mut b) = met();
        a.put(Path::Opaque, Value::Payload(b"V1"));
        settle(&mut a, &mut b);
        let _ = a.shard.take_records();
        a.data.put(0, K, Path::Opaque, Value::Payload(b"V2"));
        let replica = if by_record {
            let mut record = Vec::new();
            Record::changed(&mut record, 0, K);
            follower(&mut a, &[record.clone(), record])
        } else {
            a.shard.note_changed(0, K);
            follower(&mut a, &[])
        };
        a.shard = replica;
        a.shard.begin_reign(ReplId::from_bytes([9; 20]), NOW + 100);
        assert!(a.shard.has_changed());
        a.now = NOW + 200;
        a.shard.capture_changed(&mut a.data, a.now);
        settle(&mut a, &mut b);
        assert_eq!(value(&mut b.data), Some(b"V2".to_vec()));
    }
}

#[test]
fn a_replica_forgets_the_mark_with_the_capture() {
    let mut a = Site::new(1);
    let mut data = MemoryKeyspace::default();
    let mut replica = Shard::new(a.shard.config_mut().clone(), ReplId::from_bytes([7; 20]), Start::Replica, 0);
    let mut records = a.shard.take_records();
    a.data.put(0, K, Path::Opaque, Value::Payload(b"V1"));
    records.push(a.shard.note_changed(0, K).expect("new").to_vec());
    a.shard.capture_changed(&mut a.data, NOW + 1);
    records.extend(a.shard.take_records());
    for (at, record) in records.iter().enumerate() {
        if at + 1 == records.len() {
            assert!(replica.has_changed());
            data.put(0, K, Path::Opaque, Value::Payload(b"V1"));
        }
        replica.replay(record, &mut data).expect("in order");
    }
    assert!(!replica.has_changed());
    assert_eq!(replica.backlog().end_offset(), a.shard.backlog().end_offset());
}
