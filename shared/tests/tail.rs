//! Groups that nothing is concurrent to: their metadata is made only when something needs it (`shard/tail.rs`).

mod sites;

use sites::{K, Site, met, prune, report, settle};
use syncer_shared::effect::{Op, Path, TtlNote, Value};
use syncer_shared::hyperloglog::{self, RegisterBytes, Registers, is_canonical, raised, registers_of};
use syncer_shared::keyspace::Keyspace;
use syncer_shared::patch::{Patch, Prior};

/// Who writes while the others only read never needs metadata, nor do the others: nothing is concurrent.
#[test]
fn what_nobody_else_writes_meanwhile_never_gets_metadata() {
    let (mut a, mut b) = met();
    let keys = |site: &Site| site.shard.status().metadata_keys;
    for round in 0..3 {
        a.put(Path::Field(b"f"), Value::Bytes(b"v"));
        a.put(Path::Field(b"g"), Value::Bytes(b"w"));
        a.take(Path::Field(b"f"));
        a.set("7");
        a.incr(5);
        a.del();
        a.incr(round);
        settle(&mut a, &mut b);
        assert_eq!((keys(&a), keys(&b)), (0, 0));
        assert!(a.shard.status().waiting_groups >= 7 && b.shard.status().waiting_groups >= 7);
        a.del();
        settle(&mut a, &mut b);
        prune(&mut a, &mut b);
    }
}

/// Nothing prunes where nobody else is: a backlog that is to be smaller than its tail gets so all the same, as soon as the tail has.
#[test]
fn a_lone_backlog_shrinks_below_its_tail() {
    const BYTES: u64 = 64 << 10;
    let mut a = Site::new(1);
    (0..2_000).for_each(|_| a.set("a value that takes some room"));
    assert!(a.shard.backlog().end_offset() > BYTES && a.shard.status().waiting_groups > 1_000);
    a.shard.resize_backlog(BYTES);
    a.set("next");
    a.shard.prune(100);
    assert_eq!(a.shard.backlog().capacity(), BYTES);
    (0..2_000).for_each(|_| a.set("a value that takes some room"));
    assert!(a.shard.backlog().end_offset() - a.shard.backlog().first_offset() <= BYTES);
}

/// Adds to a HyperLogLog as a server does, which has its own text of it.
fn pfadd<'a>(site: &mut Site, element: &[u8], bytes: &'a mut RegisterBytes) -> (TtlNote, Op<'a>) {
    *bytes = registers_of([element].into_iter());
    let registers = Registers::new(bytes).expect("registers");
    let known = site.data.string(0, K);
    let mut text =
        known.as_deref().map_or_else(|| hyperloglog::text(registers), |known| raised(known, registers).expect("news"));
    (text[8], text[15]) = (1, 0);
    site.data.put(0, K, Path::String, Value::Bytes(&text));
    let note = if known.is_some() { site.kept() } else { TtlNote::Created };
    (note, Op::Patch { patch: Patch::Registers(registers), prior: Prior::NONE })
}

/// Registers need no metadata where nobody else writes. The dataset has the text that all sites write at once.
#[test]
fn registers_wait_and_show_the_text_of_all_sites() {
    let (mut a, mut b) = met();
    let mut bytes = RegisterBytes::new();
    for element in [b"one".as_slice(), b"two", b"three"] {
        let op = pfadd(&mut a, element, &mut bytes);
        a.log(&[op]);
        assert!(is_canonical(&a.data.string(0, K).expect("a string")));
        settle(&mut a, &mut b);
    }
    let figures = |site: &Site| (site.shard.status().metadata_keys, site.shard.status().waiting_groups);
    assert_eq!((figures(&a), figures(&b)), ((0, 3), (0, 3)));
    for (site, element) in [(&mut a, b"four"), (&mut b, b"five")] {
        let op = pfadd(site, element, &mut bytes);
        site.log(&[op]);
    }
    settle(&mut a, &mut b);
    let all = registers_of([b"one".as_slice(), b"two", b"three", b"four", b"five"].into_iter());
    let text = hyperloglog::text(Registers::new(&all).expect("registers"));
    assert_eq!(b.data.string(0, K), Some(text), "the metadata is there when something concurrent comes");
    prune(&mut a, &mut b);
}

/// What a transaction writes behind them is no text of registers, whatever it looks like.
#[test]
fn a_string_that_is_written_behind_registers_stays_as_it_is() {
    let (mut a, mut b) = met();
    let mut bytes = RegisterBytes::new();
    let raise = pfadd(&mut a, b"one", &mut bytes);
    let mut own = a.data.string(0, K).expect("a string");
    own[8] = 7;
    a.data.put(0, K, Path::String, Value::Bytes(&own));
    a.log(&[raise, (TtlNote::None, Op::Set { value: &own, expire_at: None })]);
    settle(&mut a, &mut b);
    assert_eq!(b.data.string(0, K), Some(own));
    prune(&mut a, &mut b);
}

/// A concurrent write needs the metadata of what waits: it meets the same dots as if they had been there from the start.
#[test]
fn what_waits_is_there_when_something_concurrent_comes() {
    let (mut a, mut b) = met();
    a.set("1");
    settle(&mut a, &mut b);
    a.incr(4);
    b.set("10");
    settle(&mut a, &mut b);
    assert_eq!(a.data.string(0, K).as_deref(), Some(&b"14"[..]));
    let known = a.shard.key_info(0, K, &mut a.data);
    assert_eq!(known.dots.len(), 2, "{known:?}");
    prune(&mut a, &mut b);
}

/// The ids of lists stay when everybody has them. Groups that wait beside them go all the same, and with the list its ids.
#[test]
fn what_waits_beside_lists_goes_with_what_it_replaces() {
    let (mut a, mut b) = met();
    let figures = |site: &Site| (site.shard.status().metadata_keys, site.shard.status().waiting_groups);
    a.rpush(b"one");
    a.rpush(b"two");
    settle(&mut a, &mut b);
    rest(&mut a, &mut b);
    assert_eq!((figures(&a), figures(&b)), ((1, 0), (1, 0)), "the ids");
    a.expire(sites::NOW as i64 + 1_000_000);
    a.persist();
    settle(&mut a, &mut b);
    assert_eq!((figures(&a), figures(&b)), ((1, 2), (1, 2)), "neither needs the ids");
    rest(&mut a, &mut b);
    assert_eq!((figures(&a), figures(&b)), ((1, 0), (1, 0)));
    a.set("now a string");
    settle(&mut a, &mut b);
    assert_eq!((figures(&a), figures(&b)), ((1, 1), (1, 1)));
    prune(&mut a, &mut b);
    assert!(a.shard.table(&mut a.data).is_empty() && b.shard.table(&mut b.data).is_empty());
}

/// An edit of a list needs the ids that are, not those of the list that was.
#[test]
fn an_edit_takes_in_what_waits() {
    let (mut a, mut b) = met();
    a.rpush(b"old");
    settle(&mut a, &mut b);
    rest(&mut a, &mut b);
    a.del();
    a.rpush(b"new");
    assert_eq!(a.shard.status().counters.lists_rewritten, 0);
    b.rpush(b"other");
    settle(&mut a, &mut b);
    assert_eq!(b.data.list_len(0, K), 2, "the push that the removal had not seen stays");
    assert_eq!(a.shard.status().counters.lists_rewritten + b.shard.status().counters.lists_rewritten, 0);
}

/// Reports until everybody knows that everybody has everything.
fn rest(a: &mut Site, b: &mut Site) {
    for _ in 0..3 {
        report(a, b);
        report(b, a);
    }
    while a.shard.prune(1000) + b.shard.prune(1000) > 0 {}
}
