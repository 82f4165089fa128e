//! States of format version 1 with what `golden.rs` has nothing of: an instance that joins amid a full sync, and a member that keeps in mind what others
//! have yet to do. Added later; like all golden files these are added to, never edited.

use syncer_shared::effect::{ClearReason, Effect, Op, Path, TtlNote, UnixMs, Value};
use syncer_shared::group::GroupBuilder;
use syncer_shared::keyspace::Keyspace;
use syncer_shared::merge::KeyRef;
use syncer_shared::number::Number;
use syncer_shared::record::Before;
use syncer_shared::shard::{HandshakeError, Hello, JoinData, PROTOCOL, Restorer, Shard, ShardConfig};
use syncer_shared::wire::{Reader, limits};

mod golden_bytes;
mod sites;

use golden_bytes::{assert_golden, bytes, hex, instance, replid};
use sites::{NOW, Site, pull, report};

/// A, B, C, and D, who was forgotten: all others know, and nobody has what it wrote last.
type Group = [Site; 4];

/// The tag of a key (docs/PROTOCOL.md 10).
const KEY: u8 = 10;

const SHORT: UnixMs = NOW as UnixMs + 1_000;
const LONG: UnixMs = NOW as UnixMs + 60_000;

fn log(site: &mut Site, key: &[u8], ttl: TtlNote, op: Op<'_>) {
    let mut group = GroupBuilder::new();
    group.push(&Effect { db: 0, key, ttl, op });
    site.now += 10;
    site.shard.commit(&group, &Before::new(), &mut site.data, site.now);
}

fn put(site: &mut Site, key: &[u8], path: Path<'_>, value: Value<'_>) {
    let ttl = if site.data.kind(0, key).is_none() { TtlNote::Created } else { TtlNote::None };
    site.data.put(0, key, path, value);
    log(site, key, ttl, Op::Assign { path, value, reasserted: false });
}

fn add(site: &mut Site, key: &[u8], delta: i64) {
    let ttl = match (site.data.kind(0, key), site.data.expire_at(0, key)) {
        (None, _) => TtlNote::Created,
        (_, at) => at.map_or(TtlNote::None, TtlNote::Kept),
    };
    site.data.add_integer(0, key, delta).expect("a number");
    log(site, key, ttl, Op::Increment { path: Path::String, delta: Number::Integer(delta) });
}

fn expire_at(site: &mut Site, key: &[u8], at: UnixMs) {
    site.data.set_expire_at(0, key, Some(at));
    log(site, key, TtlNote::None, Op::Expire { at });
}

/// The TTL has passed there.
fn expire(site: &mut Site, key: &[u8]) {
    site.now = site.now.max(SHORT as u64 + 1);
    site.data.delete(0, key, ClearReason::Expired);
    log(site, key, TtlNote::None, Op::Clear { reason: ClearReason::Expired });
}

fn all_pull(sites: &mut [Site]) {
    for at in 0..sites.len() {
        let (before, rest) = sites.split_at_mut(at);
        let Some((site, behind)) = rest.split_first_mut() else { return };
        before.iter_mut().chain(behind).for_each(|other| pull(other, site));
    }
}

fn all_report(sites: &mut [Site]) {
    for at in 0..sites.len() {
        let (before, rest) = sites.split_at_mut(at);
        let Some((site, behind)) = rest.split_first_mut() else { return };
        before.iter_mut().chain(behind).for_each(|other| report(other, site));
    }
}

fn group() -> Group {
    let mut sites = [1, 2, 3, 4].map(Site::new);
    (0..3).for_each(|_| all_pull(&mut sites));
    let [a, .., d] = &mut sites;
    add(d, b"tail", 5);
    a.shard.forget(instance(4), a.now).expect("a member");
    for _ in 0..2 {
        all_pull(&mut sites[..3]);
        all_report(&mut sites[..3]);
    }
    assert_eq!(sites[0].shard.status().forgotten, [(instance(4), true)], "settled");
    sites
}

/// C expires what B has extended. B has written one key again, and taken up what A had added to it; A keeps the other one aside until B does.
fn with_expiries() -> Group {
    let mut sites = group();
    let [a, b, c, _] = &mut sites;
    add(b, b"count", 1);
    expire_at(b, b"count", SHORT);
    put(b, b"hash", Path::Field(b"f"), Value::Bytes(b"v"));
    expire_at(b, b"hash", SHORT);
    pull(b, a);
    pull(b, c);
    add(a, b"count", 20);
    pull(a, b);
    expire_at(b, b"hash", LONG);
    pull(b, a);
    expire_at(b, b"count", LONG);
    expire(c, b"count");
    pull(c, b);
    pull(c, a);
    pull(b, a);
    assert_eq!(a.shard.taken_up(), 1);
    expire(c, b"hash");
    pull(c, a);
    assert_eq!(a.shard.status().aside, 1);
    sites
}

/// Started again from what it has saved, by a server that dropped a key as it loaded its file.
fn restart(site: &mut Site) {
    site.data.set_expire_at(0, b"gone", Some(SHORT));
    let mut restored = read(&saved(&site.shard), site.shard.instance().get());
    restored.begin_reign(replid(0x51), site.now);
    site.shard = restored;
    site.data.delete(0, b"gone", ClearReason::Expired);
    site.now = site.now.max(SHORT as u64 + 10);
    site.shard.expire_dropped(&mut site.data, site.now);
}

/// Its backlog is small, and begins behind an entry of the index.
fn fill_backlog(site: &mut Site) {
    site.shard.take_in_tail(&mut site.data);
    site.shard.resize_backlog(400);
    while site.shard.backlog().end_offset() < 64 << 10 {
        put(site, b"big", Path::String, Value::Bytes(&[b'x'; 1000]));
    }
    add(site, b"small", 1);
}

fn member() -> Site {
    let [mut a, ..] = with_expiries();
    put(&mut a, b"gone", Path::String, Value::Bytes(b"v"));
    expire_at(&mut a, b"gone", SHORT);
    restart(&mut a);
    a.shard.forget(instance(3), a.now).expect("a member");
    fill_backlog(&mut a);
    a.data.put(0, b"big", Path::String, Value::Bytes(b"written, and not yet captured"));
    a.shard.note_changed(0, b"big").expect("the first time");
    a
}

/// Takes a part of a snapshot of `source`.
fn begin_sync(target: &mut Site, source: &mut Site, keys: &[&[u8]]) {
    target.shard.begin_sync(source.shard.snapshot_head()).expect("a primary");
    let mut encoded = Vec::new();
    for name in keys {
        source.shard.encode_snapshot_key(&mut encoded, KeyRef { db: 0, name }, &mut source.data);
    }
    let merged = target.shard.sync_keys(&encoded, &mut target.data, target.now, &mut || true);
    assert_eq!(merged, Ok(encoded.len()));
}

/// D joins again by A, and the second snapshot comes in of which it takes a part.
fn joining() -> Site {
    let [mut a, _, _, mut d] = with_expiries();
    let hello = Hello {
        protocol: PROTOCOL,
        instance: instance(4),
        replid: d.shard.replid(),
        wanted: syncer_shared::instance::InstanceSet::ALL,
        position: None,
        clock: d.shard.clock_token(),
        standing: d.shard.standing(),
    };
    match a.shard.handshake(&hello, a.now) {
        Err(HandshakeError::Forgotten(why)) => d.shard.told_forgotten(instance(1), why),
        other => panic!("{other:?}"),
    }
    let via = a.shard.sponsor(instance(4), a.now).expect("settled");
    let now = d.now;
    d.shard.join(via, (JoinData::Refuse, true), &mut d.data, (replid(0x54), now)).expect("it is out");
    assert_eq!(d.shard.renewals_left(), Some(1), "its own write");
    put(&mut a, b"plain", Path::Member(b"m"), Value::Present);
    begin_sync(&mut d, &mut a, &[b"count", b"plain"]);
    add(&mut a, b"count", 300);
    begin_sync(&mut d, &mut a, &[b"count"]);
    d
}

fn saved(shard: &Shard) -> Vec<u8> {
    let mut saved = Vec::new();
    shard.save(&mut |piece| saved.extend_from_slice(piece));
    saved
}

fn read(state: &[u8], by: u8) -> Shard {
    let mut restorer = Restorer::new(ShardConfig::new(instance(by)));
    restorer.push(state).expect("valid");
    restorer.finish().expect("whole")
}

/// The items of a state but its end, tag and body. Keys come in the order of a hash table, which is another one each time: they are sorted here.
fn items(state: &[u8]) -> Vec<(u8, String)> {
    let (mut reader, mut items) = (Reader::new(state), Vec::new());
    while !reader.is_empty() {
        let tag = reader.u8("tag").expect("a tag");
        let body = reader.prefixed(limits::FRAME_BYTES_MAX, "item").expect("a body");
        items.push((tag, hex(body)));
    }
    items.pop();
    items.chunk_by_mut(|a, b| a.0 == KEY && b.0 == KEY).for_each(<[_]>::sort);
    items
}

/// This version writes exactly the items of the file, and reads it as the same: a state has all that a shard must know, so who is saved again as the same is the
/// same.
fn assert_saved(shard: &Shard, file: &str) {
    let expected = items(&bytes(file));
    assert_eq!(items(&saved(shard)), expected, "the bytes of a released format have changed");
    let restored = read(&bytes(file), shard.instance().get());
    assert_eq!(items(&saved(&restored)), expected, "it is not what was saved");
    assert_eq!(restored.clock_token(), shard.clock_token());
    assert_eq!(restored.status().forgotten, shard.status().forgotten);
    let kept = |shard: &Shard| (shard.taken_up(), shard.status().aside, shard.has_changed(), shard.renewals_left());
    assert_eq!(kept(&restored), kept(shard));
    assert_eq!(restored.syncing_head(), shard.syncing_head());
}

#[test]
fn a_member_that_keeps_in_mind_what_others_have_yet_to_do() {
    let site = member();
    assert_saved(&site.shard, include_str!("../../tests/fixtures/state-v1/member.hex"));
}

#[test]
fn an_instance_that_joins_amid_a_full_sync() {
    let site = joining();
    assert!(site.shard.has_synced(KeyRef { db: 0, name: b"count" }));
    assert_saved(&site.shard, include_str!("../../tests/fixtures/state-v1/joining.hex"));
}

/// Those of `golden.rs`: what is read of them is saved as the same, too.
#[test]
fn other_golden_states_are_saved_again_as_they_were() {
    for file in [
        include_str!("../../tests/fixtures/state-v1/small.hex"),
        include_str!("../../tests/fixtures/state-v1/small-had.hex"),
        include_str!("../../tests/fixtures/state-v1/tail.hex"),
        include_str!("../../tests/fixtures/state-v1/tail-had.hex"),
    ] {
        assert_golden(&saved(&read(&bytes(file), 1)), file);
    }
}
