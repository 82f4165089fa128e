//! The cases of snapshots in files (agent/src/spool/), like [`super::sync_cases`].

use syncer_shared::keyspace::Keyspace;
use syncer_shared::merge::Rules;

use super::cases::{A, B, C, set, world};
use super::client::Command;
use super::{Check, World};

/// A snapshot of three keys, of which one is merged at B.
fn midway() -> Result<World, String> {
    let mut world = world(3, Rules::default());
    world.command(A, "s", Command::SAdd("early".into()))?;
    world.command(A, "h", Command::HIncrBy("f".into(), 1))?;
    world.settle()?;
    world.command(A, "h", Command::HIncrBy("f".into(), 10))?;
    world.command(A, "n", Command::IncrBy(10))?;
    world.command(A, "s", Command::SRem("early".into()))?;
    world.command(B, "n", Command::IncrBy(100))?;
    world.command(B, "h", Command::HIncrBy("f".into(), 100))?;
    let link = world.link(A, B);
    assert!(world.begin_sync(link)?);
    world.step_sync(B, 1)?;
    Ok(world)
}

fn is_whole(mut world: World) -> Check {
    assert!(!world.instances[B].shard.is_syncing());
    world.shows(B, "n", Some("110"))?;
    assert_eq!(world.instances[B].keyspace.field(0, b"h", b"f").as_deref(), Some(&b"111"[..]));
    assert!(!world.instances[B].keyspace.has_member(0, b"s", b"early"));
    world.heal()?;
    world.all_show("n", Some("110"))
}

/// What is merged of the same snapshot is known: it counts once.
#[test]
fn the_same_snapshot_is_taken_up_where_it_ended() -> Check {
    let mut world = midway()?;
    let (shard, table) = (&world.instances[B].shard, world.instances[B].logged());
    let head = shard.syncing_head().cloned();
    world.break_sync(B);
    assert!(world.resume_sync(B)?);
    assert_eq!(world.instances[B].logged(), table, "it is the same: there is nothing to tell replicas");
    assert_eq!(world.instances[B].shard.syncing_head(), head.as_ref());
    world.step_sync(B, usize::MAX)?;
    is_whole(world)
}

/// Its agent has all of the snapshot: that the source has lost what was in it is no reason to wait (chaos, seed 11).
#[test]
fn a_snapshot_outlives_what_its_source_has_lost() -> Check {
    let mut world = midway()?;
    world.fail_over(A, 4)?;
    world.break_sync(B);
    let link = world.link(B, C);
    assert!(!world.begin_sync(link)?, "half of a snapshot is given to nobody");
    assert!(world.resume_sync(B)?);
    world.step_sync(B, usize::MAX)?;
    is_whole(world)
}

/// A replica has followed the merge so far.
#[test]
fn a_snapshot_outlives_a_failover_of_its_target() -> Check {
    let mut world = midway()?;
    let all = world.instances[B].logged();
    world.fail_over(B, all)?;
    world.command(B, "mine", set("v"))?;
    assert!(world.resume_sync(B)?);
    world.step_sync(B, usize::MAX)?;
    is_whole(world)
}

/// Who takes over from before the beginning needs nothing of it; who does from before the end finds the file still there.
#[test]
fn a_file_stays_until_its_snapshot_is_durable() -> Check {
    let mut world = midway()?;
    let begun = world.instances[B].logged();
    world.step_sync(B, usize::MAX)?;
    world.fail_over(B, begun)?;
    assert!(world.instances[B].shard.is_syncing());
    world.fail_over(A, 4)?;
    assert!(world.resume_sync(B)?);
    world.step_sync(B, usize::MAX)?;
    world.persist(B);
    assert!(!world.resume_sync(B)?);
    is_whole(world)
}

/// The source has lost a part of it since, so a newer snapshot of it is no substitute: who falls back into the older one needs that (12891028491).
#[test]
fn a_file_stays_beside_a_newer_one_of_a_source_that_has_lost_something() -> Check {
    let mut world = midway()?;
    let begun = world.instances[B].logged();
    world.step_sync(B, usize::MAX)?;
    world.fail_over(A, 4)?;
    let link = world.link(A, B);
    assert!(world.begin_sync(link)?);
    world.fail_over(B, begun)?;
    assert!(world.resume_sync(B)?);
    world.step_sync(B, usize::MAX)?;
    is_whole(world)
}

/// Two have whole snapshots of each other, and merge both at once.
#[test]
fn two_merge_each_others_snapshots_at_once() -> Check {
    let mut world = world(2, Rules::default());
    world.command(A, "s", Command::SAdd("gone".into()))?;
    world.command(A, "t", Command::SAdd("gone".into()))?;
    world.settle()?;
    for (instance, key, by) in [(A, "s", 1), (B, "t", 100)] {
        world.command(instance, key, Command::SRem("gone".into()))?;
        world.command(instance, "n", Command::IncrBy(by))?;
    }
    let links = [world.link(A, B), world.link(B, A)];
    assert!(links.into_iter().all(|link| world.copy_snapshot(link)));
    world.step_sync(A, 2)?;
    world.step_sync(B, 2)?;
    world.command(A, "n", Command::IncrBy(10))?;
    world.command(B, "n", Command::IncrBy(10))?;
    assert!([A, B].iter().all(|instance| world.instances[*instance].shard.is_syncing()));
    world.step_sync(A, usize::MAX)?;
    world.step_sync(B, usize::MAX)?;
    world.heal()?;
    world.all_show("n", Some("121"))?;
    assert!(!world.instances[A].keyspace.has_member(0, b"s", b"gone"));
    assert!(!world.instances[B].keyspace.has_member(0, b"t", b"gone"));
    Ok(())
}

/// While a snapshot is copied its target goes on: effects of others come, S rises, metadata goes. Then comes the old snapshot.
#[test]
fn an_old_snapshot_takes_nothing_back() -> Check {
    let mut world = world(3, Rules::default());
    for member in ["kept", "before", "after"] {
        world.command(A, "s", Command::SAdd(member.into()))?;
    }
    world.command(A, "h", Command::HIncrBy("f".into(), 1))?;
    world.settle()?;
    world.command(A, "s", Command::SRem("before".into()))?;
    let link = world.link(A, B);
    assert!(world.copy_snapshot(link));
    world.command(A, "s", Command::SRem("after".into()))?;
    world.command(C, "s", Command::SAdd("new".into()))?;
    world.command(C, "h", Command::HIncrBy("f".into(), 10))?;
    world.command(C, "n", Command::IncrBy(5))?;
    // All of it is everywhere, and pruned, before the snapshot is merged.
    world.settle()?;
    assert_eq!(world.instances[B].shard.status().metadata_keys, 0);
    world.step_sync(B, usize::MAX)?;
    let keyspace = &mut world.instances[B].keyspace;
    let members = ["kept", "new", "before", "after"].map(|member| keyspace.has_member(0, b"s", member.as_bytes()));
    assert_eq!(members, [true, true, false, false]);
    assert_eq!(keyspace.field(0, b"h", b"f").as_deref(), Some(&b"11"[..]));
    world.heal()?;
    world.all_show("n", Some("5"))
}
