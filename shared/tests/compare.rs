//! Full sync by merge: what was compared while the snapshot was copied, and which keys it lacks.

#[path = "sites/mod.rs"]
mod sites;

use sites::{Site, pull};
use syncer_shared::effect::{ClearReason, Effect, FlushScope, Op, TtlNote};
use syncer_shared::group::GroupBuilder;
use syncer_shared::keyspace::{Keyspace, SetTtl};
use syncer_shared::merge::KeyRef;
use syncer_shared::snapshot::SnapshotHead;

const NAMES: [&[u8]; 3] = [b"one", b"two", b"three"];

const fn key(name: &[u8]) -> KeyRef<'_> {
    KeyRef { db: 0, name }
}

/// Two sites with the same keys at rest, and the snapshot of the first, which counts as stable what the second has not seen: so whatever the second has
/// removed meanwhile may have been written anew.
fn same() -> (Site, Site, SnapshotHead, Vec<u8>) {
    let (mut a, mut b) = (Site::new(1), Site::new(2));
    b.set("own");
    pull(&mut b, &mut a);
    for site in [&mut a, &mut b] {
        NAMES.iter().for_each(|name| site.data.set_string(0, name, b"value", SetTtl::Clear));
    }
    a.set("news");
    let mut head = a.shard.snapshot_head();
    head.reigns.iter_mut().for_each(|reign| reign.stable = reign.applied);
    let mut keys = Vec::new();
    for name in NAMES {
        assert!(a.shard.encode_snapshot_key(&mut keys, key(name), &mut a.data));
    }
    (a, b, head, keys)
}

fn compare(site: &mut Site, head: &SnapshotHead, keys: &[u8]) {
    site.shard.begin_compare(head.clone(), NAMES.len() as u64);
    let used = site.shard.compare_keys(keys, &mut site.data, &mut || true).expect("keys");
    assert_eq!(used, keys.len());
}

fn merge(site: &mut Site, head: &SnapshotHead, keys: &[u8]) {
    site.shard.begin_sync(head.clone()).expect("it is taken");
    let used = site.shard.sync_keys(keys, &mut site.data, site.now, &mut || true).expect("keys");
    assert_eq!(used, keys.len());
    assert!(NAMES.iter().all(|name| site.shard.has_synced(key(name))), "all are merged");
}

fn delete(site: &mut Site, name: &[u8]) {
    site.data.delete(0, name, ClearReason::Deleted);
    let mut group = GroupBuilder::new();
    let op = Op::Clear { reason: ClearReason::Deleted };
    group.push(&Effect { db: 0, key: name, ttl: TtlNote::None, op });
    site.now += 10;
    site.shard.commit(&group, &Vec::new(), &mut site.data, site.now);
}

fn value(site: &mut Site, name: &[u8]) -> Option<Vec<u8>> {
    site.data.string(0, name)
}

/// What is changed here behind the shard's back would be put right by a merge that looks at it.
fn change_unseen(site: &mut Site) {
    NAMES.iter().for_each(|name| site.data.set_string(0, name, b"unseen", SetTtl::Clear));
}

#[test]
fn what_is_the_same_and_untouched_is_merged_without_a_look() {
    let (_, mut b, head, keys) = same();
    compare(&mut b, &head, &keys);
    change_unseen(&mut b);
    merge(&mut b, &head, &keys);
    assert!(NAMES.iter().all(|name| value(&mut b, name).as_deref() == Some(b"unseen")));
}

#[test]
fn what_was_not_the_same_is_looked_at() {
    let (_, mut b, head, keys) = same();
    b.data.set_string(0, NAMES[1], b"another", SetTtl::Clear);
    compare(&mut b, &head, &keys);
    merge(&mut b, &head, &keys);
    assert_eq!(value(&mut b, NAMES[1]).as_deref(), Some(&b"value"[..]));
}

#[test]
fn what_was_written_since_is_merged_as_it_comes() {
    let (_, mut b, head, keys) = same();
    compare(&mut b, &head, &keys);
    delete(&mut b, NAMES[1]);
    merge(&mut b, &head, &keys);
    assert!(NAMES.iter().all(|name| value(&mut b, name).as_deref() == Some(b"value")));
}

#[test]
fn what_is_written_between_two_keys_of_the_merge_counts_too() {
    let (_, mut b, head, keys) = same();
    compare(&mut b, &head, &keys);
    b.shard.begin_sync(head).expect("it is taken");
    let mut left = 1;
    let mut one = || std::mem::take(&mut left) > 0;
    let used = b.shard.sync_keys(&keys, &mut b.data, b.now, &mut one).expect("a key");
    assert_eq!(used, (keys.len() - 2) / 3, "the third name is two bytes longer");
    delete(&mut b, NAMES[1]);
    b.shard.sync_keys(&keys[used..], &mut b.data, b.now, &mut || true).expect("the rest");
    assert_eq!(value(&mut b, NAMES[1]).as_deref(), Some(&b"value"[..]));
}

#[test]
fn after_a_flush_all_are_merged_as_they_come() {
    let (_, mut b, head, keys) = same();
    compare(&mut b, &head, &keys);
    b.flush();
    merge(&mut b, &head, &keys);
    assert!(NAMES.iter().all(|name| value(&mut b, name).as_deref() == Some(b"value")));
}

#[test]
fn what_the_backlog_has_lost_may_have_been_a_write() {
    let (_, mut b, head, keys) = same();
    compare(&mut b, &head, &keys);
    delete(&mut b, NAMES[1]);
    b.shard.resize_backlog(0);
    merge(&mut b, &head, &keys);
    assert_eq!(value(&mut b, NAMES[1]).as_deref(), Some(&b"value"[..]));
}

#[test]
fn another_snapshot_is_merged_as_it_comes() {
    let (_, mut b, head, keys) = same();
    compare(&mut b, &SnapshotHead { offset: head.offset + 1, ..head.clone() }, &keys);
    change_unseen(&mut b);
    merge(&mut b, &head, &keys);
    assert!(NAMES.iter().all(|name| value(&mut b, name).as_deref() == Some(b"value")));
}

#[test]
fn a_merge_that_goes_on_after_a_break_looks_at_what_it_has_not_merged() {
    let (_, mut b, head, keys) = same();
    compare(&mut b, &head, &keys);
    b.shard.begin_sync(head.clone()).expect("it is taken");
    change_unseen(&mut b);
    merge(&mut b, &head, &keys);
    assert!(NAMES.iter().all(|name| value(&mut b, name).as_deref() == Some(b"value")));
}

/// In another order nothing is taken for what it is not.
#[test]
fn keys_in_another_order_are_merged_as_they_come() {
    let (mut a, mut b, head, keys) = same();
    compare(&mut b, &head, &keys);
    change_unseen(&mut b);
    let mut turned = Vec::new();
    for name in [NAMES[1], NAMES[2], NAMES[0]] {
        a.shard.encode_snapshot_key(&mut turned, key(name), &mut a.data);
    }
    merge(&mut b, &head, &turned);
    assert!(NAMES.iter().all(|name| value(&mut b, name).as_deref() == Some(b"value")));
}

fn keys_here(site: &mut Site) -> u64 {
    let mut count = 0;
    site.data.keys(FlushScope::All, &mut |_, _| count += 1);
    count
}

#[test]
fn the_count_says_when_the_snapshot_has_all_keys() {
    let (_, mut b, head, keys) = same();
    b.data.delete(0, sites::K, ClearReason::Deleted);
    merge(&mut b, &head, &keys);
    let count = keys_here(&mut b);
    assert_eq!(b.shard.may_be_absent(count, &mut b.data), Some(Vec::new()));
    // Another key at rest: all must be looked at.
    assert_eq!(b.shard.may_be_absent(count + 1, &mut b.data), None);
}

#[test]
fn what_is_written_during_a_merge_is_counted_and_named() {
    let (_, mut b, head, keys) = same();
    b.data.delete(0, sites::K, ClearReason::Deleted);
    merge(&mut b, &head, &keys);
    // One comes, one of the snapshot goes.
    b.set("during");
    delete(&mut b, NAMES[0]);
    let count = keys_here(&mut b);
    assert_eq!(b.shard.may_be_absent(count, &mut b.data), Some(vec![(0, sites::K.to_vec())]));
    assert_eq!(b.shard.may_be_absent(count + 1, &mut b.data), None);
    b.flush();
    assert_eq!(b.shard.may_be_absent(0, &mut b.data), None);
}

#[test]
fn a_merge_that_goes_on_after_a_break_has_no_count() {
    let (_, mut b, head, keys) = same();
    b.data.delete(0, sites::K, ClearReason::Deleted);
    merge(&mut b, &head, &keys);
    assert!(b.shard.begin_sync(head).expect("it is taken"), "it goes on");
    let count = keys_here(&mut b);
    assert_eq!(b.shard.may_be_absent(count, &mut b.data), None);
}
