//! The cases of keys that a server has dropped as it loaded its file (`shard/dropped.rs`), like [`super::cases`].

use syncer_shared::effect::ClearReason;
use syncer_shared::keyspace::Keyspace;
use syncer_shared::merge::Rules;

use super::cases::{A, B, world};
use super::client::Command;
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

/// A's server has loaded its file.
fn drop_it(world: &mut World) {
    let (now_ms, instance) = (world.wall(A), &mut world.instances[A]);
    instance.keyspace.delete(0, b"h", ClearReason::Deleted);
    instance.shard.expire_dropped(&mut instance.keyspace, now_ms);
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
    drop_it(&mut world);
    world.settle()?;
    both_have_it(&mut world, expires)?;
    let mut world = extended_at_one_site(|_| Command::Persist)?;
    drop_it(&mut world);
    world.settle()?;
    both_have_it(&mut world, None)
}

#[test]
fn what_was_extended_elsewhere_while_it_was_dropped_comes_back_after_a_full_sync() -> Check {
    let mut world = extended_at_one_site(|_| Command::Persist)?;
    let link = world.link(B, A);
    assert!(world.begin_sync(link)?);
    drop_it(&mut world);
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
    drop_it(&mut world);
    world.expire(B)?;
    world.settle()?;
    for site in [A, B] {
        assert_eq!(world.instances[site].keyspace.kind(0, b"h"), None, "at {}", site + 1);
    }
    Ok(())
}
