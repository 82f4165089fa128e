//! The cases of what everyone has of a number, and a site that came back without a part of it: it comes as a whole in a full sync, or not at all. Like [`super::cases`].

use syncer_shared::keyspace::Keyspace;
use syncer_shared::merge::Rules;

use super::cases::{A, B, plan, set};
use super::client::Command;
use super::plan::Failover;
use super::{Check, Plan, World};

fn world() -> World {
    World::new(&Plan { failover: Failover::LosesAnything, ..plan(2, Rules::default()) }, false)
}

/// Whether all that B has applied is stable at A.
fn is_stable_at_a(world: &World) -> bool {
    let stable = world.instances[A].stable();
    world.instances[B].applied.iter().all(|(replid, ts)| stable.get(replid) >= Some(ts))
}

/// So many that pruning looks for what can be folded.
fn add(world: &mut World, instance: usize, times: usize) -> Check {
    world.tick(1);
    world.write(instance, &vec![(0, b"h".to_vec(), Command::HIncrBy("f".into(), 1)); times])
}

fn shown(world: &World, instance: usize) -> Option<String> {
    let field = world.instances[instance].keyspace.clone().field(0, b"h", b"f");
    field.map(|value| String::from_utf8_lossy(&value).into_owned())
}

/// Found by a review. Both made a number at once, and B came back without A's, and removed its own, which everyone has.
#[test]
fn what_two_have_made_of_a_number_at_once_comes_as_a_whole() -> Check {
    let field = |value: &str| Command::HSet("f".into(), value.into());
    let append = |digit: &str| Command::AppendPart(digit.into());
    let cases = [
        (set("5"), set("7")),
        (field("5"), field("7")),
        (Command::ZAdd("m".into(), 5.0), Command::ZAdd("m".into(), 7.0)),
        (append("5"), append("7")),
        (set("5"), append("7")),
    ];
    for (by_a, by_b) in cases {
        for prunes in [true, false] {
            let mut world = world();
            world.settle()?;
            world.command(A, "n", by_a.clone())?;
            world.command(B, "n", by_b.clone())?;
            let backup = world.instances[B].logged();
            world.pull(A, B)?;
            world.pull(B, A)?;
            world.tell(B, A)?;
            assert!(is_stable_at_a(&world));
            let all = world.instances[A].keyspace.clone();
            world.fail_over(B, backup)?;
            world.command(B, "n", Command::Del)?;
            world.sync(A, B)?;
            if prunes {
                world.prune(A, usize::MAX)?;
            }
            world.prune(B, usize::MAX)?;
            world.sync(B, A)?;
            world.check_all().map_err(|error| format!("{by_a:?} {prunes} {error}"))?;
            world.heal()?;
            for instance in [A, B] {
                assert_eq!(world.instances[instance].keyspace, all, "{by_a:?} and {by_b:?}");
            }
        }
    }
    Ok(())
}

/// Found by a review. B came back without a part of a counter, removed the rest and began it anew. That supposes an entry of 0, which was taken for one of what everyone has: so A's entry did not
/// come, and of its dots only what was new to B.
#[test]
fn who_came_back_and_began_a_counter_anew_takes_all_that_everyone_has_of_it() -> Check {
    for case in 0..16 {
        // Whether A has an entry below its increments; whether B has lost a part of them, or something else; and whether A has folded them when B takes the snapshot, and when it takes one of B.
        let [has_entry, loses, folds, prunes] = [1, 2, 4, 8].map(|bit| case & bit > 0);
        let mut world = world();
        world.settle()?;
        if has_entry {
            world.command(A, "h", Command::HSet("other".into(), "1".into()))?;
        }
        world.command(A, "h", Command::HIncrBy("f".into(), 2))?;
        world.command(A, "h", Command::HSet("other".into(), "1".into()))?;
        world.pull(A, B)?;
        world.tell(A, B)?;
        world.tell(B, A)?;
        let before = world.instances[B].logged();
        add(&mut world, A, 20)?;
        world.pull(A, B)?;
        let backup = if loses { before } else { world.instances[B].logged() };
        world.command(A, "k", set("v"))?;
        world.pull(A, B)?;
        world.tell(B, A)?;
        if folds {
            world.prune(A, usize::MAX)?;
        }
        world.fail_over(B, backup)?;
        world.command(B, "h", Command::HDel("f".into()))?;
        add(&mut world, B, 20)?;
        world.sync(A, B)?;
        assert_eq!(shown(&world, B).as_deref(), Some("42"), "{case:b}");
        if prunes {
            world.prune(A, usize::MAX)?;
            world.prune(B, usize::MAX)?;
        }
        world.sync(B, A)?;
        world.check_all().map_err(|error| format!("{case:b} {error}"))?;
        world.heal()?;
        for instance in [A, B] {
            assert_eq!(shown(&world, instance).as_deref(), Some("42"), "{case:b}");
        }
    }
    Ok(())
}

/// A 0 that nobody has supposed: what a client has written, or a sum.
#[test]
fn a_zero_that_everyone_has_is_none_that_is_supposed() -> Check {
    for case in 0..32 {
        let [is_sum, grows_here, grows_there, folds, prunes] = [1, 2, 4, 8, 16].map(|bit| case & bit > 0);
        let mut world = world();
        world.settle()?;
        world.command(A, "h", Command::HSet("other".into(), "1".into()))?;
        if is_sum {
            world.command(A, "h", Command::HIncrBy("f".into(), 5))?;
            world.command(A, "h", Command::HIncrBy("f".into(), -5))?;
        } else {
            world.command(A, "h", Command::HSet("f".into(), "0".into()))?;
        }
        world.pull(A, B)?;
        world.tell(A, B)?;
        world.prune(B, usize::MAX)?;
        let backup = world.instances[B].logged();
        world.command(A, "k", set("v"))?;
        if grows_there {
            add(&mut world, A, 20)?;
        }
        world.pull(A, B)?;
        world.tell(B, A)?;
        if folds {
            world.prune(A, usize::MAX)?;
        }
        world.fail_over(B, backup)?;
        if grows_here {
            add(&mut world, B, 20)?;
        }
        world.sync(A, B)?;
        let all = (20 * (u8::from(grows_here) + u8::from(grows_there))).to_string();
        assert_eq!(shown(&world, B).as_ref(), Some(&all), "{case:b}");
        if prunes {
            world.prune(A, usize::MAX)?;
            world.prune(B, usize::MAX)?;
        }
        world.sync(B, A)?;
        world.check_all().map_err(|error| format!("{case:b} {error}"))?;
        world.heal()?;
        for instance in [A, B] {
            assert_eq!(shown(&world, instance).as_ref(), Some(&all), "{case:b}");
        }
    }
    Ok(())
}

/// By a review. B came back and overwrote a number, of which the whole comes beside that: so B shows the sum of both until A has answered. Without the dots of what everyone has A would take the
/// snapshot of B for one of who had seen all that, and assert nothing: then B loses a part of its history again, and deletes what it had written, and that is all there was for B, but not for A.
#[test]
fn what_everyone_has_comes_beside_what_who_came_back_has_written() -> Check {
    for loses in [false, true] {
        let mut world = world();
        world.command(A, "h", Command::HSet("f".into(), "2".into()))?;
        world.settle()?;
        let before = world.instances[B].logged();
        add(&mut world, A, 20)?;
        world.pull(A, B)?;
        let backup = if loses { before } else { world.instances[B].logged() };
        world.command(A, "k", set("v"))?;
        world.pull(A, B)?;
        world.tell(B, A)?;
        world.fail_over(B, backup)?;
        world.command(B, "h", Command::HSet("f".into(), "100".into()))?;
        let overwritten = world.instances[B].logged();
        world.sync(A, B)?;
        world.sync(B, A)?;
        world.check_all()?;
        assert_eq!(shown(&world, A).as_deref(), Some("100"));
        world.fail_over(B, overwritten)?;
        world.command(B, "h", Command::Del)?;
        world.pull(B, A)?;
        world.check_all()?;
        world.heal()?;
        for instance in [A, B] {
            assert_eq!(shown(&world, instance).as_deref(), Some("22"));
        }
    }
    Ok(())
}
