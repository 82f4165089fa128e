//! The worked cases of DESIGN 2: two instances write at once, then hear of each other.

mod sites;

use sites::{K, NOW, Site, met, prune, pull, report, settle};
use syncer_shared::effect::{ClearReason, Effect, Kind, Op, Path, TtlNote, UnixMs, Value};
use syncer_shared::group::GroupBuilder;
use syncer_shared::keyspace::Keyspace;
use syncer_shared::merge::KeyRef;
use syncer_shared::metadata::{Base, Payload};
use syncer_shared::number::Number;

/// Both at once, after a common past that is stable; in both orders of arrival and with and without metadata of the past.
fn conflict(past: impl Fn(&mut Site), left: impl Fn(&mut Site), right: impl Fn(&mut Site), check: impl Fn(&mut Site)) {
    for pruned in [false, true] {
        let (mut a, mut b) = met();
        past(&mut a);
        settle(&mut a, &mut b);
        if pruned {
            prune(&mut a, &mut b);
        }
        left(&mut a);
        b.now = a.now + 1;
        right(&mut b);
        settle(&mut a, &mut b);
        check(&mut a);
        prune(&mut a, &mut b);
        check(&mut b);
    }
}

#[test]
fn increment_concurrent_with_set_stays() {
    conflict(|s| s.set("5"), |s| s.set("10"), |s| s.incr(1), |s| assert_eq!(s.string().as_deref(), Some("11")));
    conflict(|s| s.set("5"), |s| s.incr(1), |s| s.set("10"), |s| assert_eq!(s.string().as_deref(), Some("11")));
    conflict(|s| s.set("5"), |s| s.incr(2), |s| s.incr(3), |s| assert_eq!(s.string().as_deref(), Some("10")));
}

#[test]
fn increment_concurrent_with_del_counts_from_zero() {
    conflict(|s| s.set("5"), Site::del, |s| s.incr(1), |s| assert_eq!(s.string().as_deref(), Some("1")));
    conflict(|s| s.set("5"), |s| s.incr(1), Site::del, |s| assert_eq!(s.string().as_deref(), Some("1")));
}

#[test]
fn sets_keep_the_later_and_park_the_other() {
    conflict(|_| {}, |s| s.set("a"), |s| s.set("b"), |s| assert_eq!(s.string().as_deref(), Some("b")));
}

#[test]
fn a_parked_value_shows_when_the_winner_is_deleted_by_one_who_saw_only_it() {
    let (mut a, mut b) = met();
    a.set("a");
    b.now = a.now + 5;
    b.set("b");
    b.del();
    settle(&mut a, &mut b);
    assert_eq!(a.string().as_deref(), Some("a"));
    prune(&mut a, &mut b);
}

#[test]
fn set_members_that_are_added_win() {
    let m = Path::Member(b"a");
    let add = |s: &mut Site| s.put(m, Value::Present);
    conflict(add, |s| s.take(m), add, |s| assert!(s.data.has_member(0, K, b"a")));
    conflict(add, add, |s| s.take(m), |s| assert!(s.data.has_member(0, K, b"a")));
    conflict(add, |s| s.take(m), |s| s.take(m), |s| assert!(s.data.kind(0, K).is_none()));
}

#[test]
fn deleting_a_hash_keeps_a_concurrent_field() {
    let f = |s: &mut Site| s.put(Path::Field(b"f"), Value::Bytes(b"v"));
    let g = |s: &mut Site| s.put(Path::Field(b"g"), Value::Bytes(b"w"));
    conflict(f, Site::del, g, |s| {
        assert_eq!(s.data.field(0, K, b"g").as_deref(), Some(&b"w"[..]));
        assert!(s.data.field(0, K, b"f").is_none());
    });
}

#[test]
fn score_removed_and_incremented_counts_from_zero() {
    let x = Path::Scored(b"x");
    let incr = |s: &mut Site| {
        let before = s.data.score(0, K, b"x").unwrap_or_default();
        s.data.put(0, K, x, Value::Score(before + 2.0));
        let mut group = GroupBuilder::new();
        let op = Op::Increment { path: x, delta: Number::Float(2.0) };
        group.push(&Effect { db: 0, key: K, ttl: TtlNote::None, op });
        let looks = vec![(0, Some(before.to_string().into_bytes()))];
        s.now += 10;
        s.shard.commit(&group, &looks, &mut s.data, s.now);
    };
    let add = |s: &mut Site| s.put(x, Value::Score(4.1));
    conflict(add, |s| s.take(x), incr, |s| assert_eq!(s.data.score(0, K, b"x"), Some(2.0)));
    conflict(add, incr, incr, |s| assert_eq!(s.data.score(0, K, b"x"), Some(4.1 + 2.0 + 2.0)));
}

#[test]
fn ttls_merge() {
    let at = |s: i64| NOW as i64 + s * 1000;
    let ttl = |want: Option<UnixMs>| move |s: &mut Site| assert_eq!(s.data.expire_at(0, K), want);
    conflict(|s| s.set("v"), |s| s.expire(at(10)), |s| s.expire(at(50)), ttl(Some(at(50))));
    conflict(|s| s.set("v"), |s| s.expire(at(50)), |s| s.expire(at(10)), ttl(Some(at(50))));
    conflict(
        |s| {
            s.set("v");
            s.expire(at(5));
        },
        |s| s.expire(at(10)),
        Site::persist,
        ttl(None),
    );
    conflict(|s| s.set("v"), |s| s.set("w"), |s| s.expire(at(10)), ttl(None));
}

#[test]
fn a_counter_whose_key_expires_elsewhere_keeps_its_ttl() {
    let at = NOW as i64 + 10_000;
    let expired = |s: &mut Site| {
        s.data.delete(0, K, ClearReason::Expired);
        s.log(&[(TtlNote::None, Op::Clear { reason: ClearReason::Expired })]);
    };
    conflict(
        |s| {
            s.set("1");
            s.expire(at);
        },
        expired,
        |s| s.incr(1),
        |s| {
            assert_eq!(s.string().as_deref(), Some("1"));
            assert_eq!(s.data.expire_at(0, K), Some(at));
        },
    );
}

#[test]
fn an_expiry_is_revived_by_who_extended_it() {
    let at = |s: i64| NOW as i64 + s * 1000;
    let expired = |s: &mut Site| {
        s.data.delete(0, K, ClearReason::Expired);
        s.log(&[(TtlNote::None, Op::Clear { reason: ClearReason::Expired })]);
    };
    conflict(
        |s| {
            s.set("v");
            s.expire(at(1));
        },
        expired,
        |s| s.expire(at(500)),
        |s| {
            assert_eq!(s.string().as_deref(), Some("v"));
            assert_eq!(s.data.expire_at(0, K), Some(at(500)));
        },
    );
    conflict(
        |s| {
            s.set("v");
            s.expire(at(1));
        },
        |s| s.expire(at(500)),
        expired,
        |s| {
            assert_eq!(s.string().as_deref(), Some("v"));
        },
    );
}

#[test]
fn types_conflict_and_the_later_wins() {
    let m = |s: &mut Site| s.put(Path::Member(b"m"), Value::Present);
    conflict(|_| {}, |s| s.set("v"), m, |s| assert!(s.data.has_member(0, K, b"m")));
    conflict(|_| {}, m, |s| s.set("v"), |s| assert_eq!(s.string().as_deref(), Some("v")));
    let (mut a, mut b) = met();
    a.set("v");
    b.now = a.now + 5;
    m(&mut b);
    settle(&mut a, &mut b);
    a.del();
    settle(&mut a, &mut b);
    assert!(a.data.kind(0, K).is_none());
    prune(&mut a, &mut b);
}

#[test]
fn flush_keeps_what_it_has_not_seen() {
    conflict(|s| s.set("old"), Site::flush, |s| s.set("new"), |s| assert_eq!(s.string().as_deref(), Some("new")));
    conflict(|s| s.set("old"), |s| s.set("new"), Site::flush, |s| assert_eq!(s.string().as_deref(), Some("new")));
    conflict(|s| s.set("old"), Site::flush, |_| {}, |s| assert!(s.data.kind(0, K).is_none()));
}

#[test]
fn a_sum_beyond_64_bits_is_exact() {
    let near = (i64::MAX - 1).to_string();
    let (mut a, mut b) = met();
    a.set(&near);
    settle(&mut a, &mut b);
    a.incr(1);
    b.incr(1);
    settle(&mut a, &mut b);
    assert_eq!(a.string().as_deref(), Some("9223372036854775808"));
}

/// A message is delivered once, also when it is read again, and leaves nothing to prune.
#[test]
fn a_message_arrives_once() {
    let (mut a, mut b) = met();
    let publish = |message| Op::Publish { sharded: false, channel: b"news", message };
    a.log(&[(TtlNote::None, publish(b"1"))]);
    a.set("v");
    a.log(&[(TtlNote::None, publish(b"2"))]);
    settle(&mut a, &mut b);
    settle(&mut a, &mut b);
    let came = [(b"news".to_vec(), b"1".to_vec()), (b"news".to_vec(), b"2".to_vec())];
    assert_eq!((b.data.published.as_slice(), a.data.published.len()), (&came[..], 0));
    prune(&mut a, &mut b);
}

/// A value that one server cannot read: clients see no such key there, and nothing is lost.
mod unknown_values {
    use super::*;

    /// The second site does not know values that begin with X.
    fn met() -> (Site, Site) {
        let (a, mut b) = super::met();
        b.data.unknown = Some(b'X');
        (a, b)
    }

    fn whole(value: &'static [u8]) -> impl Fn(&mut Site) {
        move |site| {
            site.data.delete(0, K, ClearReason::Deleted);
            site.put(Path::Opaque, Value::Payload(value));
        }
    }

    fn exchange(a: &mut Site, b: &mut Site) {
        for _ in 0..3 {
            pull(a, b);
            pull(b, a);
        }
    }

    /// Everything that can be pruned is.
    fn rest(a: &mut Site, b: &mut Site) {
        for _ in 0..3 {
            report(a, b);
            report(b, a);
        }
        while a.shard.prune(1000) + b.shard.prune(1000) > 0 {}
    }

    fn kept(site: &mut Site) -> Option<Vec<u8>> {
        let state = site.shard.snapshot_key(KeyRef { db: 0, name: K }, &mut site.data);
        let path = state.path(Path::Opaque)?;
        let base = path.sum.as_ref().map(|sum| sum.base.clone());
        let payloads = path.assigns.iter().filter_map(|a| a.payload.clone());
        payloads.chain(base.and_then(|base| if let Base::Stable(payload) = base { payload } else { None })).find_map(
            |payload| match payload {
                Payload::Unknown(bytes) => Some(bytes.into_vec()),
                _ => None,
            },
        )
    }

    /// Once its server can read them, stable or not, a site shows what the others show.
    #[test]
    fn show_when_the_server_has_come_to_know_their_type() {
        for is_stable in [false, true] {
            let (mut a, mut b) = met();
            whole(b"X1")(&mut a);
            a.expire(NOW as i64 + 1_000_000);
            exchange(&mut a, &mut b);
            if is_stable {
                rest(&mut a, &mut b);
            }
            assert_eq!((b.shard.show_unknown(&mut b.data), b.shard.status().unknown), (0, 1), "not yet");
            b.data.unknown = None;
            assert_eq!((b.shard.show_unknown(&mut b.data), b.shard.status().unknown), (1, 0));
            settle(&mut a, &mut b);
            prune(&mut a, &mut b);
            assert_eq!(b.data.payload(0, K), Some(b"X1".to_vec()));
        }
    }

    #[test]
    fn stay_also_when_they_are_stable() {
        let (mut a, mut b) = met();
        whole(b"X1")(&mut a);
        a.expire(NOW as i64 + 1_000_000);
        exchange(&mut a, &mut b);
        assert_eq!((b.data.kind(0, K), b.shard.status().unknown), (None, 1));
        rest(&mut a, &mut b);
        assert!(a.shard.table(&mut a.data).is_empty());
        assert_eq!((kept(&mut b).as_deref(), b.shard.status().unknown), (Some(&b"X1"[..]), 1));
        assert!(b.shard.key_info(0, K, &mut b.data).unknown);
        let state = b.shard.snapshot_key(KeyRef { db: 0, name: K }, &mut b.data);
        assert_eq!(state.ttl.view(), Some(NOW as i64 + 1_000_000), "its TTL is passed on, too");
    }

    #[test]
    fn go_when_the_key_is_deleted_or_written() {
        for pruned in [false, true] {
            let (mut a, mut b) = met();
            whole(b"X1")(&mut a);
            exchange(&mut a, &mut b);
            if pruned {
                rest(&mut a, &mut b);
            }
            whole(b"X2")(&mut a);
            exchange(&mut a, &mut b);
            assert_eq!(kept(&mut b).as_deref(), Some(&b"X2"[..]));
            a.del();
            exchange(&mut a, &mut b);
            assert_eq!(b.shard.status().unknown, 0);

            whole(b"X3")(&mut a);
            exchange(&mut a, &mut b);
            b.set("here");
            settle(&mut a, &mut b);
            assert_eq!((a.string().as_deref(), b.shard.status().unknown), (Some("here"), 0));
            prune(&mut a, &mut b);

            whole(b"known")(&mut a);
            settle(&mut a, &mut b);
            whole(b"X4")(&mut a);
            exchange(&mut a, &mut b);
            assert_eq!((b.data.kind(0, K), b.shard.status().unknown), (None, 1), "nothing stale is shown");
            whole(b"known")(&mut a);
            settle(&mut a, &mut b);
            prune(&mut a, &mut b);
        }
    }

    #[test]
    fn give_way_to_concurrent_values_and_come_back() {
        let (mut a, mut b) = met();
        whole(b"X1")(&mut a);
        b.now = a.now + 5;
        b.set("later");
        settle(&mut a, &mut b);
        assert_eq!(a.string().as_deref(), Some("later"));
        // Seen by a alone: the value of the other type shows again where it can.
        let (mut a, mut b) = met();
        b.set("earlier");
        a.now = b.now + 5;
        whole(b"X1")(&mut a);
        exchange(&mut a, &mut b);
        assert_eq!((a.data.kind(0, K), b.data.kind(0, K)), (Some(Kind::Opaque), None));
        assert_eq!(kept(&mut b).as_deref(), Some(&b"X1"[..]));
    }
}
