//! The cases of full sync (MERGE_CASES A5, DESIGN 5), like [`super::cases`].

use syncer_shared::keyspace::Keyspace;
use syncer_shared::list::End;
use syncer_shared::merge::Rules;

use super::cases::{A, B, C, check, plan, set, world};
use super::client::Command;
use super::plan::Failover;
use super::{Check, Plan, World};

/// MERGE_CASES A5: a snapshot whose source has pruned what its target still has the dots of.
#[test]
fn a5_a_snapshot_with_pruned_elements_meets_their_dots() {
    let steps = |rules: Rules| {
        let mut world = world(2, rules);
        world.command(A, "k", set("5"))?;
        world.settle()?;
        world.command(A, "k", Command::IncrBy(1))?;
        world.command(A, "h", Command::HSet("f".into(), "v".into()))?;
        world.pull(A, B)?;
        world.tell(A, B)?;
        world.prune(B, usize::MAX)?;
        world.command(A, "k", Command::IncrBy(10))?;
        world.command(B, "k", Command::IncrBy(100))?;
        world.sync(B, A)?;
        world.shows(A, "k", Some("116"))?;
        assert_eq!(world.instances[A].keyspace.field(0, b"h", b"f").as_deref(), Some(&b"v"[..]), "the field is lost");
        world.heal()?;
        world.all_show("k", Some("116"))
    };
    check(steps, |rules| rules.entries_stand_for_stable = false);
}

/// L8: an element that was set has the dot of its `LSET` for ever, also where nobody else has to hear of it: a snapshot goes by it.
#[test]
fn l8_the_dot_of_an_element_is_never_pruned() {
    let steps = |rules: Rules| {
        let mut world = world(2, rules);
        world.command(A, "l", Command::Push(End::Tail, vec!["a".into(), "b".into()]))?;
        world.settle()?;
        world.command(A, "l", Command::LSet(0, "x".into()))?;
        world.pull(A, B)?;
        world.tell(B, A)?;
        world.prune(A, usize::MAX)?;
        world.sync(A, B)?;
        if world.instances[B].keyspace.list_get(0, b"l", 0).as_deref() != Some(b"x") {
            return Err("the element is lost".into());
        }
        world.heal()
    };
    check(steps, |rules| rules.list_winner_stays = false);
}

/// Both sides write while a snapshot comes in; what it has brought already is not seen by the target's writes.
#[test]
fn writes_during_a_full_sync_take_nothing_that_they_have_not_seen() -> Check {
    let mut world = world(2, Rules::default());
    world.command(A, "s", Command::SAdd("a".into()))?;
    world.command(A, "t", Command::SAdd("a".into()))?;
    let link = world.link(A, B);
    assert!(world.begin_sync(link)?);
    world.step_sync(B, 2)?;
    world.command(B, "s", Command::Del)?;
    world.command(B, "t", Command::SRem("a".into()))?;
    world.command(A, "s", Command::SAdd("b".into()))?;
    world.step_sync(B, usize::MAX)?;
    for instance in [A, B] {
        assert!(
            world.instances[instance].keyspace.has_member(0, b"s", b"a"),
            "B had not seen it when it deleted the key"
        );
        assert!(world.instances[instance].keyspace.has_member(0, b"t", b"a"));
    }
    world.heal()
}

/// A snapshot that breaks off leaves a state that says so, and the next one completes it.
#[test]
fn a_full_sync_that_breaks_off_is_taken_up_again() -> Check {
    let mut world = world(2, Rules::default());
    for key in ["a", "b", "c"] {
        world.command(A, key, set("1"))?;
    }
    let link = world.link(A, B);
    assert!(world.begin_sync(link)?);
    world.step_sync(B, 2)?;
    world.break_sync(B);
    assert!(world.instances[B].shard.is_syncing());
    assert_eq!(world.pull(A, B)?, 0, "half of a snapshot takes no effects");
    world.command(A, "a", Command::Del)?;
    world.heal()?;
    world.all_show("a", None)?;
    world.all_show("c", Some("1"))
}

/// Found by the simulation (seed 105643): who had a list from a snapshot that was still coming in set one of its elements, and a third instance got
/// that before the push itself.
#[test]
fn a_push_comes_after_an_lset_of_one_of_its_elements() -> Check {
    for at in [0, 1] {
        let mut world = world(3, Rules::default());
        world.command(A, "l", Command::Push(End::Tail, vec!["x".into(), "y".into(), "z".into()]))?;
        let link = world.link(A, B);
        assert!(world.begin_sync(link)?);
        world.step_sync(B, 1)?;
        world.command(B, "l", Command::LSet(at, "set".into()))?;
        world.pull(B, C)?;
        world.pull(A, C)?;
        let mut expected = ["x", "y", "z"];
        expected[usize::try_from(at).unwrap_or_default()] = "set";
        let keyspace = &mut world.instances[C].keyspace;
        let shown: Vec<_> = (0..expected.len()).map(|index| keyspace.list_get(0, b"l", index)).collect();
        assert_eq!(shown, expected.map(|value| Some(value.as_bytes().to_vec())), "after an LSET of {at}");
        world.heal()?;
    }
    Ok(())
}

/// Found by the simulation (seed 4294967801): the snapshot was of an instance whose clock is ahead, so a push during the sync got a position
/// in front of what it was pushed behind (rule L4).
#[test]
fn what_is_pushed_during_a_full_sync_is_behind_what_the_snapshot_brought() -> Check {
    let mut world = world(2, Rules::default());
    world.instances[A].skew_ms = 30_000;
    world.command(A, "l", Command::Push(End::Tail, vec!["a".into()]))?;
    let link = world.link(A, B);
    assert!(world.begin_sync(link)?);
    world.step_sync(B, 1)?;
    world.command(B, "l", Command::Push(End::Tail, vec!["b".into()]))?;
    let values = |world: &mut super::World| {
        let keyspace = &mut world.instances[B].keyspace;
        [0, 1].map(|index| keyspace.list_get(0, b"l", index).map(|value| String::from_utf8_lossy(&value).into_owned()))
    };
    assert_eq!(values(&mut world), [Some("a".to_owned()), Some("b".to_owned())]);
    world.step_sync(B, usize::MAX)?;
    world.heal()?;
    assert_eq!(values(&mut world), [Some("a".to_owned()), Some("b".to_owned())]);
    Ok(())
}

/// Found by the simulation (seed 4294967392): a list that a snapshot brought beside another type was taken for one that is not shown, after a
/// restart: while a full sync goes on, the dataset implies nothing of it.
#[test]
fn a_list_that_shows_above_another_type_is_known_as_such_after_a_restart() -> Check {
    let mut world = world(2, Rules::default());
    world.command(B, "l", Command::IncrBy(8))?;
    world.command(A, "l", Command::Push(End::Tail, vec!["a".into(), "b".into(), "c".into()]))?;
    let link = world.link(A, B);
    assert!(world.begin_sync(link)?);
    world.step_sync(B, 1)?;
    world.break_sync(B);
    world.restart(B)?;
    world.command(B, "l", Command::Trim(2, 5))?;
    assert_eq!(world.instances[B].keyspace.list_len(0, b"l"), 3, "B had not seen what it cut off");
    world.heal()
}

/// A primary that is demoted midway takes no more of the snapshot: what its new primary's state has of it is not the same.
#[test]
fn a_demoted_target_takes_no_more_of_a_snapshot() -> Check {
    let mut world = world(2, Rules::default());
    world.command(A, "a", set("1"))?;
    world.command(A, "b", set("1"))?;
    let link = world.link(A, B);
    assert!(world.begin_sync(link)?);
    world.step_sync(B, 1)?;
    world.instances[B].shard.follow_primary();
    let refused = world.step_sync(B, 1).expect_err("it is a replica");
    assert!(refused.contains("SYNCERROLE"), "{refused}");
    let end = world.instances[B].shard.end_sync().expect_err("it is a replica");
    assert!(end.to_string().starts_with("SYNCERROLE"), "{end}");
    Ok(())
}

/// Each side has folded increments into its base that the other still has as dots: neither base is all of it.
#[test]
fn increments_that_only_the_target_has_folded_survive_a_full_sync() -> Check {
    /// Of so many increments of so many elements, pruning looks through the paths of a key.
    const MANY: i64 = 20;
    const ELEMENTS: [&str; 5] = ["a", "b", "c", "d", "e"];
    let mut world = world(2, Rules::default());
    let hit = |world: &mut World, instance, by: i64| -> Check {
        for element in ELEMENTS {
            world.command(instance, "h", Command::HIncrBy(element.into(), by))?;
            world.command(instance, "z", Command::ZIncrBy(element.into(), by as f64))?;
        }
        Ok(())
    };
    hit(&mut world, A, 5)?;
    world.settle()?;
    for _ in 0..MANY {
        hit(&mut world, A, 1)?;
        hit(&mut world, B, 1000)?;
    }
    // Each reports before it has the other's increments: so each knows only of the other's that they are everywhere.
    world.tell(A, B)?;
    world.tell(B, A)?;
    world.pull(A, B)?;
    world.pull(B, A)?;
    for instance in [A, B] {
        world.persist(instance);
        world.instances[instance].shard.advance_stability();
        world.prune(instance, usize::MAX)?;
    }
    world.sync(A, B)?;
    let all = 5 + MANY * 1001;
    for element in ELEMENTS {
        let keyspace = &mut world.instances[B].keyspace;
        assert_eq!(keyspace.field(0, b"h", element.as_bytes()), Some(all.to_string().into_bytes()));
        assert_eq!(keyspace.score(0, b"z", element.as_bytes()), Some(all as f64));
    }
    world.heal()
}

/// Found by the simulation (seed 1882873268274984): what the target writes during a sync the source acknowledges, after its snapshot; the target
/// folds it, and its entry is more than the snapshot's.
#[test]
fn what_the_target_folds_during_a_full_sync_survives_it() -> Check {
    const MANY: i64 = 20;
    let mut world = world(2, Rules::default());
    let hit = |world: &mut World, instance, by: i64| -> Check {
        world.command(instance, "h", Command::HIncrBy("a".into(), by))?;
        world.command(instance, "z", Command::ZIncrBy("a".into(), by as f64))
    };
    hit(&mut world, A, 5)?;
    world.settle()?;
    let link = world.link(A, B);
    assert!(world.begin_sync(link)?);
    for _ in 0..MANY {
        hit(&mut world, B, 1)?;
    }
    world.pull(B, A)?;
    world.tell(A, B)?;
    world.persist(B);
    world.instances[B].shard.advance_stability();
    world.prune(B, usize::MAX)?;
    hit(&mut world, B, 1)?;
    world.step_sync(B, usize::MAX)?;
    let all = 5 + MANY + 1;
    let keyspace = &mut world.instances[B].keyspace;
    assert_eq!(keyspace.field(0, b"h", b"a"), Some(all.to_string().into_bytes()));
    assert_eq!(keyspace.score(0, b"z", b"a"), Some(all as f64));
    world.heal()
}

/// An increment where a field was removed takes an entry without a dot for granted. The source still has the one that was removed.
#[test]
fn what_was_removed_and_incremented_again_stays_removed_in_a_full_sync() -> Check {
    let mut world = world(2, Rules::default());
    world.command(A, "h", Command::HIncrBy("f".into(), 5))?;
    world.command(A, "h", Command::HIncrBy("other".into(), 1))?;
    world.settle()?;
    world.command(B, "h", Command::HDel("f".into()))?;
    world.command(B, "h", Command::HIncrBy("f".into(), 1))?;
    world.sync(A, B)?;
    assert_eq!(world.instances[B].keyspace.field(0, b"h", b"f").as_deref(), Some(&b"1"[..]));
    world.heal()
}

/// Found by the simulation (seed 8589940206): the same, but nothing was removed: the target came back from an old backup, and has never had it.
#[test]
fn what_an_old_backup_increments_without_having_it_is_added_in_a_full_sync() -> Check {
    let mut world = world(2, Rules::default());
    world.command(A, "h", Command::HIncrBy("f".into(), 5))?;
    world.settle()?;
    world.fail_over(B, 1)?;
    for field in ["other", "f"] {
        world.command(B, "h", Command::HIncrBy(field.into(), 1))?;
    }
    world.sync(A, B)?;
    assert_eq!(world.instances[B].keyspace.field(0, b"h", b"f").as_deref(), Some(&b"6"[..]));
    world.heal()
}

/// What the source had removed has no dot at the target any more. Only a source that has seen all that the target counts as stable says that it
/// is gone: so S stands still at the target, whatever its source acknowledges meanwhile.
#[test]
fn what_the_source_removed_goes_although_it_acknowledges_more_meanwhile() -> Check {
    let mut world = world(2, Rules::default());
    for member in ["kept", "removed"] {
        world.command(A, "s", Command::SAdd(member.into()))?;
    }
    world.command(A, "gone", set("1"))?;
    world.settle()?;
    world.command(A, "s", Command::SRem("removed".into()))?;
    world.command(A, "gone", Command::Del)?;
    let link = world.link(A, B);
    assert!(world.begin_sync(link)?);
    world.command(B, "t", Command::SAdd("mine".into()))?;
    world.pull(B, A)?;
    world.tell(A, B)?;
    world.persist(B);
    world.instances[B].shard.advance_stability();
    world.step_sync(B, usize::MAX)?;
    assert!(!world.instances[B].keyspace.has_member(0, b"s", b"removed"));
    world.all_show("gone", None)?;
    world.heal()
}

/// Found by the simulation (seed 1882912093911804): a source that came back from an old backup has removed something that is stable at the target. Since
/// it lacks something else that is stable there, it does not count as having seen that: the target keeps it, and has to say so.
#[test]
fn what_an_old_backup_removed_and_a_snapshot_lacks_is_asserted_again() -> Check {
    for change in [None, Some(Command::AppendPart("23".into()))] {
        let plan = Plan { failover: Failover::LosesAnything, ..plan(2, Rules::default()) };
        let mut world = World::new(&plan, false);
        world.command(A, "k", set("x"))?;
        world.settle()?;
        let backup = world.instances[A].logged();
        world.command(A, "l", set("y"))?;
        world.settle()?;
        world.fail_over(A, backup)?;
        world.command(A, "k", Command::Del)?;
        if let Some(change) = change {
            world.command(B, "k", change)?;
        }
        world.sync(A, B)?;
        world.heal()?;
    }
    Ok(())
}

/// The source has removed nothing, so nothing is asserted: of two targets that did so, each with what only it had added, one would lose that.
#[test]
fn what_two_targets_add_outlives_a_source_from_an_old_backup() -> Check {
    for (add, shown) in [(Command::IncrBy(1), "7"), (Command::AppendPart("0".into()), "500")] {
        let plan = Plan { failover: Failover::LosesAnything, ..plan(3, Rules::default()) };
        let mut world = World::new(&plan, false);
        world.command(C, "k", Command::IncrBy(5))?;
        world.settle()?;
        let backup = world.instances[C].logged();
        world.command(C, "l", set("y"))?;
        world.settle()?;
        world.fail_over(C, backup)?;
        for target in [A, B] {
            world.command(target, "k", add.clone())?;
        }
        for target in [A, B] {
            world.sync(C, target)?;
        }
        world.heal()?;
        world.all_show("k", Some(shown))?;
    }
    Ok(())
}

/// The same, but the source has what others had added to what it removed.
#[test]
fn what_an_old_backup_removed_in_part_is_asserted_again() -> Check {
    let plan = Plan { failover: Failover::LosesAnything, ..plan(3, Rules::default()) };
    let mut world = World::new(&plan, false);
    world.command(A, "k", set("x"))?;
    world.settle()?;
    let backup = world.instances[A].logged();
    world.command(C, "k", Command::AppendPart("23".into()))?;
    world.command(A, "l", set("y"))?;
    world.settle()?;
    world.fail_over(A, backup)?;
    world.command(A, "k", Command::Del)?;
    world.pull(C, A)?;
    world.shows(A, "k", Some("23"))?;
    for target in [B, C] {
        world.sync(A, target)?;
        world.shows(target, "k", Some("x23"))?;
    }
    world.heal()?;
    world.all_show("k", Some("x23"))
}

/// Found by the simulation (seed 1882922039644797): B, in the middle of a full sync, wrote to a key whose TTL only the snapshot had brought, and noted that. C,
/// who had pruned that the key had none, showed it; who had not pruned that did not.
#[test]
fn a_ttl_that_a_snapshot_has_brought_is_set_by_who_writes_to_its_key() -> Check {
    for command in [Command::IncrBy(1), Command::Push(End::Tail, vec!["b".into()])] {
        let mut world = world(3, Rules::default());
        let at = world.now_ms as i64 + 1_000_000;
        world.command(A, "k", command.clone())?;
        for _ in 0..2 {
            // Twice for the grace period of TTLs.
            world.settle()?;
            world.command(A, "other", set("v"))?;
        }
        world.settle()?;
        world.command(A, "k", Command::ExpireAt(at))?;
        let link = world.link(A, B);
        assert!(world.begin_sync(link)?);
        world.step_sync(B, 2)?;
        assert!(world.instances[B].shard.is_syncing());
        world.command(B, "k", command)?;
        world.pull(B, C)?;
        assert_eq!(world.instances[C].keyspace.expire_at(0, b"k"), Some(at));
        world.heal()?;
        for instance in [A, B, C] {
            assert_eq!(world.instances[instance].keyspace.expire_at(0, b"k"), Some(at));
        }
    }
    Ok(())
}

/// Seed 13104004425: B came back without a part of what everyone has of a counter, and removes the rest. A still had that with its dots when B took a snapshot of it, so it went; and was a
/// part of A's entry when A took one of B: two sums that differ were taken for what each other's removal had left.
#[test]
fn what_everyone_has_of_a_counter_comes_to_who_came_back_as_a_whole() -> Check {
    let plan = Plan { failover: Failover::LosesAnything, ..plan(2, Rules::default()) };
    let mut world = World::new(&plan, false);
    world.settle()?;
    let backup = world.instances[B].logged();
    world.command(A, "n", Command::IncrBy(8))?;
    world.settle()?;
    world.fail_over(B, backup)?;
    // So many that pruning looks for what can be folded.
    world.write(B, &vec![(0, b"n".to_vec(), Command::IncrBy(1)); 20])?;
    world.pull(B, A)?;
    world.tell(B, A)?;
    let stable = world.instances[A].stable();
    assert!(world.instances[B].applied.iter().all(|(replid, ts)| stable.get(replid) >= Some(ts)));
    world.command(B, "n", Command::Del)?;
    world.sync(A, B)?;
    world.prune(A, usize::MAX)?;
    world.sync(B, A)?;
    world.check_all()?;
    world.heal()?;
    world.all_show("n", Some("28"))
}

/// The same where A has no entry yet, and B lost what it had told everyone of.
#[test]
fn what_everyone_has_of_a_counter_comes_as_a_whole_where_nothing_of_it_is_folded() -> Check {
    for prunes in [false, true] {
        let plan = Plan { failover: Failover::LosesAnything, ..plan(2, Rules::default()) };
        let mut world = World::new(&plan, false);
        world.settle()?;
        world.command(A, "n", Command::IncrBy(2))?;
        world.pull(A, B)?;
        let backup = world.instances[B].logged();
        world.command(A, "n", Command::IncrBy(8))?;
        world.pull(A, B)?;
        world.tell(B, A)?;
        world.fail_over(B, backup)?;
        world.command(B, "n", Command::Del)?;
        world.sync(A, B)?;
        world.prune(B, usize::MAX)?;
        if prunes {
            world.prune(A, usize::MAX)?;
        }
        world.sync(B, A)?;
        world.check_all()?;
        world.heal()?;
        world.all_show("n", Some("10"))?;
    }
    Ok(())
}
