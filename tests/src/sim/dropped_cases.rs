//! The cases of keys that a server has dropped as it loaded its file (`shard/dropped.rs`), like [`super::cases`].

use syncer_shared::effect::{Path, Value};
use syncer_shared::keyspace::Keyspace;
use syncer_shared::list::End;
use syncer_shared::memory::MemoryKeyspace;
use syncer_shared::merge::Rules;

use super::cases::{A, B, C, world};
use super::client::Command;
use super::instance::Instance;
use super::{Check, World};

/// Before this time A loads its file, so long after the TTL has passed that everybody knew.
const LATER_MS: u64 = 20_000;

/// B has extended a hash, and A has not heard of that.
fn extended_at_one_site(extend: impl Fn(i64) -> Command) -> Result<World, String> {
    let mut world = world(2, Rules::default());
    let at = world.now_ms as i64 + LATER_MS as i64 / 2;
    world.command(A, "h", Command::HSet("f".into(), "1".into()))?;
    world.command(A, "h", Command::ExpireAt(at))?;
    world.settle()?;
    world.command(B, "h", extend(at))?;
    world.command(B, "h", Command::HSet("g".into(), "2".into()))?;
    world.tick(LATER_MS);
    Ok(world)
}

fn both_have_it(world: &mut World, expires: Option<i64>) -> Check {
    for site in [A, B] {
        let keyspace = &mut world.instances[site].keyspace;
        let shown = [keyspace.field(0, b"h", b"f"), keyspace.field(0, b"h", b"g")];
        if shown != [Some(b"1".to_vec()), Some(b"2".to_vec())] || keyspace.expire_at(0, b"h") != expires {
            return Err(format!("{}: {shown:?}, it expires at {:?}", site + 1, keyspace.expire_at(0, b"h")));
        }
    }
    Ok(())
}

#[test]
fn what_was_extended_elsewhere_while_it_was_dropped_comes_back() -> Check {
    let mut world = extended_at_one_site(|at| Command::ExpireAt(at + 1_000_000))?;
    let expires = world.instances[B].keyspace.expire_at(0, b"h");
    world.reload(A)?;
    world.settle()?;
    both_have_it(&mut world, expires)?;
    let mut world = extended_at_one_site(|_| Command::Persist)?;
    world.reload(A)?;
    world.settle()?;
    both_have_it(&mut world, None)
}

#[test]
fn what_was_extended_elsewhere_while_it_was_dropped_comes_back_after_a_full_sync() -> Check {
    let mut world = extended_at_one_site(|_| Command::Persist)?;
    let link = world.link(B, A);
    assert!(world.begin_sync(link)?);
    world.reload(A)?;
    while world.instances[A].shard.is_syncing() {
        world.step_sync(A, usize::MAX)?;
    }
    world.settle()?;
    both_have_it(&mut world, None)
}

/// What expires elsewhere, too, goes everywhere, whatever was written to it before.
#[test]
fn what_was_not_extended_is_gone() -> Check {
    let mut world = extended_at_one_site(|_| Command::HSet("e".into(), "0".into()))?;
    world.reload(A)?;
    world.expire(B)?;
    world.settle()?;
    for site in [A, B] {
        assert_eq!(world.instances[site].keyspace.kind(0, b"h"), None, "at {}", site + 1);
    }
    Ok(())
}

/// That keys were dropped outlives a restart, and a replica that takes over knows it.
#[test]
fn what_was_dropped_is_known_after_a_restart_and_a_failover() -> Check {
    for fails_over in [false, true] {
        let mut world = extended_at_one_site(|_| Command::Persist)?;
        world.reload(A)?;
        if fails_over {
            let all = world.instances[A].logged();
            world.fail_over(A, all)?;
        } else {
            world.restart(A)?;
        }
        world.settle()?;
        both_have_it(&mut world, None)?;
    }
    Ok(())
}

/// A key that all have, for so long that nobody keeps anything in mind of it but its TTL, which has passed.
fn due(make: &[Command]) -> Result<World, String> {
    let mut world = world(2, Rules::default());
    let at = world.now_ms as i64 + LATER_MS as i64 / 2;
    for command in make {
        world.command(A, "k", command.clone())?;
    }
    world.command(A, "k", Command::ExpireAt(at))?;
    world.settle()?;
    (0..2).for_each(|site| world.persist(site));
    world.report(A, B)?;
    world.report(B, A)?;
    world.report(A, B)?;
    for site in [A, B] {
        world.prune(site, usize::MAX)?;
    }
    world.tick(LATER_MS);
    Ok(world)
}

fn both_show_the_same(world: &mut World) -> Check {
    world.settle()?;
    world.check_equal()
}

/// Found by the simulation (30064771234 and others): a client makes a key anew where it was dropped. Elsewhere it is due, and still there: it would have
/// had the old elements, too, and no TTL.
#[test]
fn a_key_made_anew_where_it_was_dropped_has_nothing_of_the_old_one() -> Check {
    let made: [(&[Command], Command); 3] = [
        (&[Command::HSet("f".into(), "1".into())], Command::HSet("g".into(), "2".into())),
        (&[Command::Push(End::Tail, vec!["a".into()])], Command::Push(End::Tail, vec!["b".into()])),
        (&[Command::IncrBy(100)], Command::IncrBy(1)),
    ];
    for (old, new) in made {
        let mut world = due(old)?;
        world.reload(A)?;
        world.command(A, "k", new)?;
        both_show_the_same(&mut world)?;
        let entry = world.instances[B].keyspace.entries().get(&(0, b"k".to_vec())).cloned();
        assert_eq!(entry.map(|entry| (entry.elements.len(), entry.expire_at)), Some((1, None)));
    }
    Ok(())
}

/// The same where another site had extended it: both count.
#[test]
fn a_key_made_anew_where_it_was_dropped_and_extended_elsewhere_has_both() -> Check {
    let mut world = extended_at_one_site(|_| Command::Persist)?;
    world.reload(A)?;
    world.command(A, "h", Command::HSet("e".into(), "3".into()))?;
    world.settle()?;
    both_have_it(&mut world, None)?;
    assert_eq!(world.instances[A].keyspace.field(0, b"h", b"e"), Some(b"3".to_vec()));
    Ok(())
}

/// Found by the simulation (30064781759): the TTL was known to all, and something of the key was not.
#[test]
fn what_is_dropped_of_several_types_is_told_of() -> Check {
    let mut world = world(3, Rules::default());
    let at = world.now_ms as i64 + LATER_MS as i64 / 2;
    world.command(A, "k", Command::Set("1".into(), Some(at)))?;
    world.command(B, "k", Command::HSet("f".into(), "1".into()))?;
    let both_ways = |a, b| [(a, b), (b, a)];
    let all = [both_ways(A, B), both_ways(A, C), both_ways(B, C)].concat();
    for _ in 0..3 {
        all.iter().try_for_each(|(from, to)| world.pull(*from, *to).map(drop))?;
        all.iter().try_for_each(|(from, to)| world.tell(*from, *to))?;
        world.prune(A, 1)?;
    }
    let Instance { shard, keyspace, .. } = &mut world.instances[A];
    let table = shard.table(keyspace);
    let meta = table.find(0, b"k").map(|id| table.meta(id)).expect("the one that lost is known");
    assert!(meta.ttl.is_empty() && meta.kinds.len() == 2, "{meta:?}");
    world.tick(LATER_MS);
    world.reload(A)?;
    world.command(A, "k", Command::IncrBy(1))?;
    both_show_the_same(&mut world)
}

/// Found by a review: the first client writes before the server has told its replicas of what it has dropped.
#[test]
fn what_is_told_of_dropped_keys_spares_what_was_written_since() -> Check {
    let mut world = world(2, Rules::default());
    let at = world.now_ms as i64 + LATER_MS as i64 / 2;
    world.command(A, "k", Command::IncrBy(100))?;
    world.command(A, "k", Command::ExpireAt(at))?;
    world.tick(LATER_MS);
    world.reload(A)?;
    let (now_ms, mut written) = (world.wall(A), MemoryKeyspace::default());
    written.put(0, b"k", Path::String, Value::Bytes(b"1"));
    let mut shown = world.instances[A].follow_late(written, now_ms)?;
    assert_eq!(shown.string(0, b"k").as_deref(), Some(&b"1"[..]));
    Ok(())
}

/// Found by the simulation (10890227997475704): in the middle of a full sync the expiry of what was dropped does not count as having seen what the snapshot brought of
/// the key, so that shows then. A replica gets there by itself: what it begins with is what was loaded, without anything of that.
#[test]
fn what_a_snapshot_brought_below_a_dropped_key_shows_at_replicas_as_at_their_primary() -> Check {
    let mut world = world(2, Rules::default());
    let at = world.now_ms as i64 + LATER_MS as i64 / 2;
    world.command(B, "l", Command::Push(End::Tail, vec!["a".into(), "b".into()]))?;
    world.tick(1);
    world.command(A, "l", Command::Set("v".into(), Some(at)))?;
    let link = world.link(B, A);
    assert!(world.begin_sync(link)?);
    world.step_sync(A, 1)?;
    world.tick(LATER_MS);
    world.reload(A)?;
    let keyspace = &mut world.instances[A].keyspace;
    assert_eq!([0, 1, 2].map(|at| keyspace.list_get(0, b"l", at)), [Some(b"a".to_vec()), Some(b"b".to_vec()), None]);
    world.check_all()?;
    both_show_the_same(&mut world)
}
