//! The cases of strings that are changed in part, like [`super::cases`].

use syncer_shared::merge::Rules;

use super::cases::{A, B, C, plan, set, world};
use super::client::Command;
use super::plan::Failover;
use super::streams::StreamCommand;
use super::{Check, Plan, World};

/// All know what all have, though nobody has pruned it yet.
fn all_report(world: &mut World) -> Check {
    [A, B, C].into_iter().for_each(|at| world.persist(at));
    for _ in 0..2 {
        for (from, to) in [(A, B), (A, C), (B, A), (B, C), (C, A), (C, B)] {
            world.report(from, to)?;
        }
    }
    Ok(())
}

/// Found by the simulation (seeds 4295042635, 4295068254, 4295084814, 4295046476): an old backup with a clock set back increments what it has not
/// seen. In effect order that is before what others have appended, and have pruned.
#[test]
fn an_increment_before_a_stable_patch_is_the_same_whatever_is_pruned() -> Check {
    for change in [Command::AppendPart("23".into()), Command::SetBit(27, true)] {
        let mut world = world(2, Rules::default());
        world.command(A, "k", change)?;
        world.settle()?;
        world.instances[B].skew_ms = -60_000;
        world.fail_over(B, 1)?;
        world.command(B, "k", Command::IncrBy(1))?;
        world.pull(B, A)?;
        world.heal()?;
    }
    Ok(())
}

/// With a clock that is right it adds to all that is there, and nothing is asserted again.
#[test]
fn an_increment_of_an_old_backup_is_only_added() -> Check {
    let mut world = world(2, Rules::default());
    world.command(A, "k", Command::IncrBy(5))?;
    world.settle()?;
    let backup = world.instances[B].logged();
    world.command(A, "k", Command::IncrBy(2))?;
    world.settle()?;
    world.fail_over(B, backup)?;
    world.command(B, "k", Command::IncrBy(1))?;
    world.pull(B, A)?;
    world.heal()?;
    world.all_show("k", Some("8"))?;
    assert_eq!(world.instances[A].shard.counters().reasserted, 0);
    Ok(())
}

/// Found by chaos (seed 41): who came back from an old backup appended to a string, two others wrote all of it again, each with what it had
/// appended itself meanwhile and nobody else had yet. Only one of these strings could show.
#[test]
fn what_two_sites_append_outlives_what_an_old_backup_appends() -> Check {
    let mut world = world(3, Rules::default());
    let append = |text: &str| Command::AppendPart(text.into());
    let backup = world.instances[C].logged();
    world.command(A, "k", append("stable"))?;
    world.settle()?;
    world.fail_over(C, backup)?;
    world.command(A, "k", append(" a"))?;
    world.command(B, "k", append(" b"))?;
    world.command(C, "k", append(" c"))?;
    world.pull(C, A)?;
    world.pull(C, B)?;
    world.heal()?;
    world.all_show("k", Some("stable a b c"))
}

/// Found by the simulation (seeds 4295017549, 4295033256, 4295099022, 26102001876): two patches make the beginning of a HyperLogLog together. Only one that
/// is below patches hides them: where the dataset stands for a long value, it has some already that others would not show.
#[test]
fn patches_that_make_a_hyperloglog_hide_no_others() -> Check {
    let (to_h, to_y, other) = (Command::SetBit(4, true), Command::SetBit(15, true), Command::SetBit(47, false));
    let orders = [
        [(A, &to_h), (B, &to_y), (C, &other)],
        [(A, &to_h), (B, &other), (C, &to_y)],
        [(A, &other), (B, &to_h), (C, &to_y)],
    ];
    let tails = ["1".to_owned(), "1".repeat(80)];
    for (order, tail) in orders.into_iter().flat_map(|order| tails.each_ref().map(|tail| (order, tail))) {
        for first in [A, B, C] {
            let mut world = world(3, Rules::default());
            world.command(A, "k", set(&format!("@XLL1{tail}")))?;
            world.settle()?;
            for (instance, command) in order {
                world.command(instance, "k", command.clone())?;
                world.tick(1);
            }
            // In every order of arrival.
            for (source, target) in [(first, A), (first, B), (first, C)].into_iter().filter(|(a, b)| a != b) {
                world.pull(source, target)?;
            }
            // And all at once.
            world.sync(B, C)?;
            world.heal()?;
            world.all_show("k", Some(&format!("HYLL1{}{}", "0", &tail[1..])))?;
        }
    }
    Ok(())
}

/// A HyperLogLog hides what is written to parts of another value at once. What becomes one by patches of which some are known to all, and hides none
/// of the others, must not do so where they are folded into it.
#[test]
fn patches_known_to_all_are_not_folded_into_a_hyperloglog() -> Check {
    let mut world = world(3, Rules::default());
    world.command(A, "k", set(&format!("@XLL1{}", "1".repeat(80))))?;
    world.settle()?;
    world.command(A, "k", Command::SetBit(4, true))?;
    // Enough for pruning to look.
    for bit in 0..30 {
        world.command(A, "k", Command::SetBit((10 + bit) * 8 + 7, false))?;
    }
    world.command(B, "k", Command::SetBit(15, true))?;
    // It makes it none again, and its author may go on.
    world.command(C, "k", Command::SetBit(31, true))?;
    for (source, target) in [(A, B), (B, A), (A, C), (B, C), (C, A)] {
        world.pull(source, target)?;
    }
    all_report(&mut world)?;
    world.prune(A, usize::MAX)?;
    world.command(C, "k", Command::SetRange(5, b"0".to_vec()))?;
    world.heal()?;
    world.all_show("k", Some(&format!("HYLM101111{}{}", "0".repeat(30), "1".repeat(45))))
}

/// Found by the simulation (seed 1882888679198166): registers that were raised while a full sync went on, beside something unseen. The server's
/// own text was left.
#[test]
fn registers_raised_during_a_full_sync_have_the_text_of_all_instances() -> Check {
    let mut world = world(2, Rules::default());
    world.command(B, "m", Command::HIncrBy("b".into(), 2))?;
    world.command(A, "m", Command::PfAdd(vec!["1".into()]))?;
    // That is the whole text, since it is one of a HyperLogLog.
    world.command(A, "m", Command::SetBit(44, true))?;
    let link = world.link(B, A);
    assert!(world.begin_sync(link)?);
    world.step_sync(A, 1)?;
    world.command(A, "m", Command::PfAdd(vec!["2".into(), "3".into()]))?;
    world.step_sync(A, usize::MAX)?;
    world.heal()
}

/// Found by the simulation (seeds 4295044676, 4295205451): an old backup writes a string, gets back what it had lost, and is then taken a snapshot
/// of. Its clock does not tell that the write had not seen what is below it.
#[test]
fn a_snapshot_tells_that_a_write_had_not_seen_what_is_below_it() -> Check {
    let mut world: World = world(2, Rules::default());
    world.command(A, "k", set("1"))?;
    world.settle()?;
    let backup = world.instances[B].logged();
    world.command(A, "k", Command::AppendPart("23".into()))?;
    world.settle()?;
    world.fail_over(B, backup)?;
    world.command(B, "k", set("007"))?;
    world.pull(A, B)?;
    world.sync(B, A)?;
    world.heal()
}

/// Found by the simulation (seed 4298005571): an acknowledgement that is later than a `SET` won the key for a stream that nobody has any more: nothing was
/// shown, and what then wrote a bit had no byte of the value below it.
#[test]
fn an_acknowledgement_hides_no_other_type() -> Check {
    let mut world = world(2, Rules::default());
    for command in [
        StreamCommand::Add(None, "v".into()),
        StreamCommand::Group("g".into(), false),
        StreamCommand::Read("g".into(), Some("c".into()), 1),
    ] {
        world.command(A, "k", Command::Stream(command))?;
    }
    world.settle()?;
    world.command(A, "k", set("5"))?;
    world.tick(1);
    world.command(B, "k", Command::Stream(StreamCommand::Ack("g".into(), 0)))?;
    world.pull(B, A)?;
    world.pull(A, B)?;
    world.all_show("k", Some("5"))?;
    world.command(A, "k", Command::SetBit(15, false))?;
    world.heal()?;
    world.all_show("k", Some("5\0"))
}

/// A review's: who comes back from an old state writes to a part of what it has not seen become a HyperLogLog, by patches that one instance has pruned.
#[test]
fn what_patches_made_a_hyperloglog_is_the_same_for_an_old_backup_whatever_is_pruned() -> Check {
    for pruned in [false, true] {
        let plan = Plan { failover: Failover::LosesAnything, ..plan(3, Rules::default()) };
        let mut world = World::new(&plan, false);
        world.command(A, "k", set(&format!("@XLL1{}", "1".repeat(80))))?;
        world.settle()?;
        let backup = world.instances[C].logged();
        world.command(A, "k", Command::SetBit(4, true))?;
        world.command(B, "k", Command::SetBit(15, true))?;
        for (source, target) in [(A, B), (B, A), (A, C), (B, C)] {
            world.pull(source, target)?;
        }
        all_report(&mut world)?;
        if pruned {
            world.prune(A, usize::MAX)?;
        }
        world.fail_over(C, backup)?;
        world.command(C, "k", Command::SetRange(5, b"0".to_vec()))?;
        world.pull(C, A)?;
        world.pull(C, B)?;
        world.heal()?;
    }
    Ok(())
}
