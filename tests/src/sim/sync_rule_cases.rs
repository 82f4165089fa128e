//! The rules of full syncs (DESIGN 5), each with its control, like [`super::cases`].

use syncer_shared::keyspace::Keyspace;
use syncer_shared::merge::Rules;
use syncer_shared::shard::WritesRefused;

use super::cases::{A, B, C, check, set, world};
use super::client::Command;
use super::{Check, World};

impl World {
    fn has_member(&mut self, instance: usize, key: &str, member: &str, wanted: bool) -> Check {
        match self.instances[instance].keyspace.has_member(0, key.as_bytes(), member.as_bytes()) {
            has if has == wanted => Ok(()),
            has => Err(format!("{}: {member} is in {key}: {has}", instance + 1)),
        }
    }
}

/// Both have a number without a dot. The target has folded what it has written since the snapshot, and the source has acknowledged since: its own is more.
#[test]
fn of_two_entries_without_a_dot_the_one_is_taken_that_is_more() {
    /// Of so many increments pruning folds some.
    const MANY: i64 = 20;
    let steps = |rules: Rules| {
        let mut world = world(2, rules);
        world.command(A, "h", Command::HIncrBy("f".into(), 5))?;
        world.settle()?;
        let link = world.link(A, B);
        if !world.begin_sync(link)? {
            return Err("no full sync begins".into());
        }
        for _ in 0..MANY {
            world.command(B, "h", Command::HIncrBy("f".into(), 1))?;
        }
        world.pull(B, A)?;
        world.tell(A, B)?;
        world.prune(B, usize::MAX)?;
        world.step_sync(B, usize::MAX)?;
        match world.instances[B].keyspace.field(0, b"h", b"f").as_deref() {
            Some(b"25") => world.heal(),
            other => Err(format!("the number is {:?}", other.map(String::from_utf8_lossy))),
        }
    };
    check(steps, |rules| rules.either_entry_is_taken = false);
}

/// What the source has removed has no dot at the target any more, nor anything at the source. That has seen all that it may be made of.
#[test]
fn an_entry_without_a_dot_goes_if_the_other_side_has_seen_it_and_has_none() {
    let steps = |rules: Rules| {
        let mut world = world(2, rules);
        for member in ["kept", "removed"] {
            world.command(A, "s", Command::SAdd(member.into()))?;
        }
        world.settle()?;
        world.command(A, "s", Command::SRem("removed".into()))?;
        world.sync(A, B)?;
        world.has_member(B, "s", "removed", false)?;
        world.has_member(B, "s", "kept", true)?;
        world.heal()
    };
    check(steps, |rules| rules.lone_entries_go = false);
}

/// What came without a dot is stable at the target as well: it is nothing that an old backup has seen.
#[test]
fn s_is_the_higher_of_both_after_a_full_sync() {
    let steps = |rules: Rules| {
        let mut world = world(3, rules);
        world.command(A, "k", set("old"))?;
        world.settle()?;
        let backup = world.instances[C].logged();
        world.command(A, "k", set("new"))?;
        world.pull(A, B)?;
        world.pull(A, C)?;
        world.tell(B, A)?;
        world.tell(C, A)?;
        world.prune(A, usize::MAX)?;
        world.sync(A, B)?;
        world.fail_over(C, backup)?;
        world.command(C, "k", Command::Del)?;
        world.pull(C, B)?;
        world.shows(B, "k", Some("new"))?;
        world.heal()?;
        world.all_show("k", Some("new"))
    };
    check(steps, |rules| rules.sync_raises_stable = false);
}

/// What an origin writes after a snapshot has seen all that it had seen before, though only the snapshot has told of that.
#[test]
fn the_stream_context_of_an_origin_comes_with_its_clock_entry() {
    let steps = |rules: Rules| {
        let mut world = world(3, rules);
        world.command(A, "other", set("v"))?;
        world.pull(A, C)?;
        world.command(B, "s", Command::SAdd("a".into()))?;
        world.pull(B, A)?;
        world.command(A, "other", set("w"))?;
        world.sync(A, C)?;
        world.command(A, "s", Command::SRem("a".into()))?;
        world.pull(A, C)?;
        world.has_member(C, "s", "a", false)?;
        world.heal()
    };
    check(steps, |rules| rules.sync_takes_contexts = false);
}

/// The agent has all of the snapshot before any of it is merged: that its source loses what it has of it is no reason to wait.
#[test]
fn a_snapshot_is_whole_before_it_is_merged() {
    let steps = |rules: Rules| {
        let mut world = world(3, rules);
        for key in ["a", "b", "c"] {
            world.command(A, key, set("1"))?;
        }
        let link = world.link(A, B);
        if !world.begin_sync(link)? {
            return Err("no full sync begins".into());
        }
        world.step_sync(B, 1)?;
        world.break_sync(B);
        // A comes back without any of it, and nobody else has it.
        world.fail_over(A, 1)?;
        world.resume_sync(B)?;
        world.heal()?;
        world.all_show("a", Some("1"))
    };
    check(steps, |rules| rules.snapshots_are_whole = false);
}

/// A new instance serves reads and takes no writes until it has all that is stable at its source.
#[test]
fn who_has_a_part_of_a_full_sync_takes_no_writes() -> Check {
    let mut world = world(2, Rules::default());
    for key in ["a", "b"] {
        world.command(A, key, set("1"))?;
    }
    world.settle()?;
    world.join()?;
    let link = world.link(A, C);
    world.connect(link);
    assert!(world.begin_sync(link)?);
    world.step_sync(C, 1)?;
    assert_eq!(world.instances[C].shard.check_writes(), Err(WritesRefused::Behind));
    world.step_sync(C, usize::MAX)?;
    assert_eq!(world.instances[C].shard.check_writes(), Ok(()));
    world.command(C, "a", set("2"))?;
    world.heal()?;
    world.all_show("a", Some("2"))
}
