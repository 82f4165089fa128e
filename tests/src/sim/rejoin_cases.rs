//! What the simulation found of instances that join again, besides [`super::join_cases`].

use syncer_shared::keyspace::Keyspace as _;
use syncer_shared::merge::Rules;
use syncer_shared::shard::JoinData;

use super::cases::{A, B, C, world};
use super::client::Command;
use super::join_cases::forgotten_with_a_tail;
use super::streams::StreamCommand;
use super::{Check, World};

const F: usize = 3;

/// F, which is out, joins by A, and what it has set aside wins.
fn joins_again(world: &mut World) -> Check {
    assert_eq!(world.join_by(F, A, JoinData::Refuse, true)?, None);
    world.heal()?;
    assert_eq!(world.group(), [A, B, C, F]);
    Ok(())
}

/// Seed 12890019011: a group that F had read was moved past an entry that F had not seen then, as if it were skipped on purpose.
#[test]
fn m12_a_group_is_not_moved_past_what_its_reader_had_not_seen() -> Check {
    let add = |value: &str| Command::Stream(StreamCommand::Add(None, value.into()));
    let mut world = world(4, Rules::default());
    world.command(A, "x", add("old"))?;
    world.command(A, "x", Command::Stream(StreamCommand::Group("g".into(), true)))?;
    world.settle()?;
    world.forget(A, F)?;
    world.command(B, "x", add("of B"))?;
    world.tick(10);
    world.command(F, "x", add("of F"))?;
    world.command(F, "x", Command::Stream(StreamCommand::Read("g".into(), Some("c".into()), 3)))?;
    world.heal()?;
    // Healing looks for entries that were skipped.
    joins_again(&mut world)
}

/// Seed 12890030933: who had introduced itself, joined anew by another sponsor before anything of it was read, and was refused for good (`SYNCERID`).
#[test]
fn m8_who_has_introduced_itself_joins_anew_by_another() -> Check {
    let mut world = forgotten_with_a_tail(Rules::default())?;
    assert_eq!(world.join_by(F, A, JoinData::Refuse, true)?, None);
    for member in [B, C] {
        world.pull(A, member)?;
    }
    // It asks where to read.
    for member in [A, B, C] {
        world.pull(member, F)?;
    }
    assert_eq!(world.join_by(F, B, JoinData::Refuse, true)?, None);
    world.heal()?;
    assert_eq!(world.group(), [A, B, C, F]);
    world.all_show("k", Some("mine"))
}

/// Seed 25769804253: the sponsor took a snapshot of who had just emptied itself to join, and asserted everything that it lacked, as if it had lost that. What
/// another member removed meanwhile came back with it.
#[test]
fn m10_who_has_emptied_itself_to_join_has_lost_nothing() -> Check {
    let mut world = forgotten_with_a_tail(Rules::default())?;
    world.settle()?;
    assert_eq!(world.join_by(F, A, JoinData::Refuse, true)?, None);
    world.command(B, "k", Command::Del)?;
    let link = world.link(F, A);
    assert!(world.begin_sync(link)?);
    world.step_sync(A, usize::MAX)?;
    assert_eq!(world.instances[A].shard.counters().reasserted, 0);
    world.heal()
}

/// Seed 6386546375656866: A forgot F in the middle of a full sync from it. That was settled before B had what the snapshot brought, and B took S to be what
/// all had seen.
#[test]
fn m4_who_merges_a_snapshot_does_not_forget_whose_writes_it_brings() -> Check {
    let mut world = world(4, Rules::default());
    world.settle()?;
    world.command(F, "k", Command::HIncrBy("f".into(), 1))?;
    let link = world.link(F, A);
    assert!(world.begin_sync(link)?);
    world.step_sync(A, 1)?;
    assert!(world.instances[A].shard.is_syncing());
    let refused = world.forget(A, F);
    assert!(refused.as_ref().is_err_and(|error| error.contains("TRYAGAIN")), "{refused:?}");
    world.step_sync(A, usize::MAX)?;
    world.forget(A, F)?;
    world.heal()?;
    assert_eq!(world.group(), [A, B, C]);
    assert_eq!(world.instances[B].keyspace.field(0, b"k", b"f").as_deref(), Some(&b"1"[..]));
    Ok(())
}

/// Seed 6386550898167155: F wrote an entry again that had the id of one that the others had deleted, with a delivery of it pending. Their servers held that still, and
/// F's, which came without the entry, never did.
#[test]
fn m12_an_entry_that_is_written_again_brings_no_delivery_of_another() -> Check {
    let add = || Command::Stream(StreamCommand::Add(Some(100), "v".into()));
    let mut world = world(4, Rules::default());
    world.settle()?;
    world.forget(A, F)?;
    world.command(F, "x", add())?;
    for command in [add(), Command::Stream(StreamCommand::Group("g".into(), false))] {
        world.command(A, "x", command)?;
    }
    world.command(A, "x", Command::Stream(StreamCommand::Read("g".into(), Some("c".into()), 3)))?;
    world.heal()?;
    world.command(A, "x", Command::Stream(StreamCommand::Delete(0)))?;
    world.heal()?;
    assert_eq!(world.join_by(F, A, JoinData::Refuse, true)?, None);
    let link = world.link(A, F);
    assert!(world.begin_sync(link)?);
    world.step_sync(F, usize::MAX)?;
    // Healing compares what is pending, and with what is to be.
    world.heal()
}
