//! What the simulation found of instances that join again, besides [`super::join_cases`].

use syncer_shared::instance::InstanceSet;
use syncer_shared::keyspace::Keyspace as _;
use syncer_shared::merge::Rules;
use syncer_shared::shard::JoinData;

use super::cases::{A, B, C, check, set, world};
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
    world.sync(F, A)?;
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
    world.sync(A, F)?;
    // Healing compares what is pending, and with what is to be.
    world.heal()
}

/// F, which is out, joins by A and is about to write again.
fn is_to_write_again(world: &mut World) -> Check {
    assert_eq!(world.join_by(F, A, JoinData::Refuse, true)?, None);
    world.pull(A, F)?;
    for member in [A, B, C] {
        world.pull(A, member)?;
        world.pull(F, member)?;
        world.tell(member, F)?;
    }
    Ok(())
}

/// M12: what is written again is new, whenever it was written first: a member that wrote before F wrote again comes before that.
#[test]
fn m12_what_is_written_again_is_new() -> Check {
    let mut world = forgotten_with_a_tail(Rules::default())?;
    is_to_write_again(&mut world)?;
    world.command(B, "k", set("of B"))?;
    world.tick(1);
    world.go_on_joining(F)?;
    world.heal()?;
    world.all_show("k", Some("mine"))
}

/// M12: it replaces what F has of the group, as any write does, metadata or not.
#[test]
fn m12_what_is_written_again_replaces_what_is_there() -> Check {
    let mut world = world(4, Rules::default());
    world.command(A, "n", Command::IncrBy(1))?;
    world.settle()?;
    world.forget(A, F)?;
    world.command(F, "n", set("10"))?;
    world.heal()?;
    world.command(A, "n", Command::IncrBy(2))?;
    is_to_write_again(&mut world)?;
    world.command(B, "n", Command::IncrBy(4))?;
    world.pull(B, F)?;
    world.shows(F, "n", Some("7"))?;
    world.go_on_joining(F)?;
    world.heal()?;
    world.all_show("n", Some("10"))
}

/// M12: the oldest first.
#[test]
fn m12_what_was_written_first_is_written_again_first() -> Check {
    let mut world = world(4, Rules::default());
    world.settle()?;
    world.forget(A, F)?;
    for key in ["c", "b", "a"] {
        world.command(F, key, set("v"))?;
    }
    world.heal()?;
    is_to_write_again(&mut world)?;
    world.go_on_joining(F)?;
    assert_eq!(world.instances[F].shard.renewals_left(), Some(1), "of three keys");
    for (key, shown) in [("c", Some("v")), ("b", Some("v")), ("a", None)] {
        world.shows(F, key, shown)?;
    }
    world.heal()
}

/// M15: who is out, and has not heard of it, gets the error from who knows, and nothing more.
#[test]
fn m15_who_is_out_gets_the_error_and_no_data() -> Check {
    let mut world = world(4, Rules::default());
    world.settle()?;
    world.forget(A, F)?;
    world.pull(A, B)?;
    world.command(B, "k", set("new"))?;
    // The connection ends, and the next handshake tells why.
    world.pull(B, F)?;
    world.pull(B, F)?;
    let link = world.link(B, F);
    if !world.links[link].error.starts_with("SYNCERFORGOTTEN instance 4 ") {
        return Err(format!("F is told nothing: {:?}", world.links[link].error));
    }
    world.shows(F, "k", None)?;
    assert!(!world.instances[F].shard.takes_writes(), "it knows now");
    world.heal()?;
    world.shows(F, "k", None)
}

/// F was forgotten and joins by A; nobody else has heard of that when A is forgotten, too. A joins by B, and has read of the history what B has of A and B.
/// F has the `Join` of A's, or not yet.
fn by_who_is_forgotten(rules: Rules, has_joined: bool) -> Result<World, String> {
    let mut world = world(4, rules);
    world.links.iter_mut().for_each(|link| link.has_strangers = true);
    world.command(F, "k", set("old"))?;
    world.settle()?;
    world.forget(B, F)?;
    world.heal()?;
    for link in 0..world.links.len() {
        let own = world.instances[world.links[link].source].id;
        world.links[link].want([own].into_iter().collect());
    }
    world.command(A, "k", set("new"))?;
    world.pull(A, B)?;
    assert_eq!(world.join_by(F, A, JoinData::Refuse, true)?, None);
    if has_joined {
        let link = world.link(A, F);
        world.links[link].want(InstanceSet::ALL);
    }
    world.pull(A, F)?;
    world.forget(C, A)?;
    // It writes this again, and has seen then what it has read of F.
    world.command(A, "a", set("of A"))?;
    world.pull(C, B)?;
    for _ in 0..2 {
        world.tell(B, C)?;
        world.tell(C, B)?;
    }
    // The stream ends, and who asks again is told.
    world.pull(C, A)?;
    world.pull(C, A)?;
    assert_eq!(world.join_by(A, B, JoinData::Refuse, true)?, None);
    let (link, wanted) = (world.link(B, A), [A, B].map(|instance| world.instances[instance].id));
    world.links[link].want(wanted.into_iter().collect());
    world.pull(B, A)?;
    assert!(world.instances[A].shard.membership().contains(world.instances[F].id), "it has not read that F is out");
    Ok(world)
}

/// The group goes on, with what A had written.
fn goes_on_without_f(world: &mut World) -> Check {
    world.heal()?;
    assert_eq!(world.group(), [A, B, C]);
    for member in [A, B, C] {
        world.shows(member, "k", Some("new"))?;
        world.shows(member, "a", Some("of A"))?;
    }
    Ok(())
}

/// Seed 26100500345: A, which had not read yet that F was out, read F's new reign, which nobody who is in takes. What A wrote then had seen that, and nobody
/// took it.
#[test]
fn m10_who_joins_reads_nobody_whom_its_sponsor_does_not_know() {
    for has_joined in [false, true] {
        let steps = |rules: Rules| {
            let mut world = by_who_is_forgotten(rules, has_joined)?;
            world.pull(F, A)?;
            goes_on_without_f(&mut world)
        };
        check(steps, |rules| rules.joins_by_sponsor = false);
    }
}

/// Of a snapshot of F all is taken, by everybody, also that reign of its own: nothing refers to what others refuse.
#[test]
fn m10_who_joins_takes_a_snapshot_of_whom_its_sponsor_does_not_know() -> Check {
    for has_joined in [false, true] {
        let mut world = by_who_is_forgotten(Rules::default(), has_joined)?;
        world.sync(F, A)?;
        world.heal()?;
        assert!(world.group().starts_with(&[A, B, C]), "{:?}", world.group());
        for member in [A, B, C] {
            world.shows(member, "k", Some("new"))?;
            world.shows(member, "a", Some("of A"))?;
        }
    }
    Ok(())
}

/// F, whose first sponsor is out, joins by another: what it has never heard of is no hindrance.
#[test]
fn m8_who_joined_by_who_is_forgotten_joins_by_another() -> Check {
    let mut world = by_who_is_forgotten(Rules::default(), false)?;
    goes_on_without_f(&mut world)?;
    joins_again(&mut world)?;
    world.all_show("a", Some("of A"))
}

/// Seed 30201113814: F joined by A, and before it had read of that it joined by B, which had not heard of it either. A had its first new reign, of which its
/// second had seen nothing, and refused it for good (`SYNCERID`). So it was where F, or B, had read of the `Join`: B then takes F for one that asks again.
#[test]
fn m13_who_joins_by_another_sponsor_goes_on_with_the_reign_that_it_has_begun() -> Check {
    for (has_joined, knows_join) in [(false, false), (false, true), (true, true)] {
        let mut world = forgotten_with_a_tail(Rules::default())?;
        world.links.iter_mut().for_each(|link| link.has_strangers = true);
        assert_eq!(world.join_by(F, A, JoinData::Refuse, true)?, None);
        if knows_join {
            world.pull(A, B)?;
        }
        if !has_joined {
            // Then it reads the beginning of A's log, up to what needs that of others.
            let (link, only) = (world.link(A, F), world.instances[A].id);
            world.links[link].want([only].into_iter().collect());
        }
        world.pull(A, F)?;
        assert!(world.pull(F, A)? > 0);
        assert_eq!(world.join_by(F, B, JoinData::Refuse, true)?, None);
        // Its replica, too.
        let all = world.instances[F].logged();
        world.fail_over(F, all)?;
        world.heal()?;
        assert_eq!(world.group(), [A, B, C, F]);
        world.all_show("k", Some("mine"))?;
        world.all_show("n", Some("6"))?;
    }
    Ok(())
}
