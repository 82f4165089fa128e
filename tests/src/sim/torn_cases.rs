//! What a target of a full sync takes for torn at the source: stable here in full, there in part. Somebody who came back from an old state has removed the
//! rest then, or it was removed here (`merge/regressed.rs`, `shard/past.rs`). Cases like [`super::cases`].

use syncer_shared::instance::InstanceSet;
use syncer_shared::keyspace::Keyspace;
use syncer_shared::merge::Rules;

use super::cases::{A, B, C, plan, set, world};
use super::client::Command;
use super::plan::Failover;
use super::{Check, Plan, World};

/// Found by the simulation (seed 4299018595): an old backup removed what it had not lost, and then got back what it had, which is a part of what the target
/// has pruned.
#[test]
fn what_an_old_backup_removed_before_it_got_back_the_rest_is_asserted_again() -> Check {
    let plan = Plan { failover: Failover::LosesAnything, ..plan(2, Rules::default()) };
    let mut world = World::new(&plan, false);
    world.command(A, "k", Command::AppendPart("x".into()))?;
    world.settle()?;
    let backup = world.instances[A].logged();
    world.command(A, "k", Command::AppendPart("23".into()))?;
    world.settle()?;
    world.fail_over(A, backup)?;
    world.command(A, "k", Command::Del)?;
    let back = world.link(B, A);
    world.links[back].want(InstanceSet::ALL);
    world.pull(B, A)?;
    world.shows(A, "k", Some("23"))?;
    world.sync(A, B)?;
    world.heal()?;
    world.all_show("k", Some("x23"))
}

/// Found by the simulation (seed 17400209922): the same of a field. Who came back incremented it after the removal, which supposes a 0 without a dot below that:
/// so the source had an entry for what it had lost, and was not taken for torn.
#[test]
fn what_an_old_backup_removed_and_incremented_again_is_asserted_again() -> Check {
    let plan = Plan { failover: Failover::LosesAnything, ..plan(3, Rules::default()) };
    let mut world = World::new(&plan, false);
    let add = |by| Command::HIncrBy("f".into(), by);
    world.command(A, "h", Command::HSet("g".into(), "v".into()))?;
    world.command(A, "h", add(5))?;
    let pairs = [(A, B), (A, C), (B, A), (B, C), (C, A), (C, B)];
    pairs.iter().try_for_each(|(from, to)| world.pull(*from, *to).map(drop))?;
    let backup = world.instances[B].logged();
    world.command(A, "h", add(10))?;
    pairs.iter().try_for_each(|(from, to)| world.pull(*from, *to).map(drop))?;
    // A knows that all have it. Nobody else does, so C will assert nothing.
    for from in [B, C] {
        world.tell(from, A)?;
    }
    world.prune(A, usize::MAX)?;
    world.fail_over(B, backup)?;
    world.command(B, "h", Command::HDel("f".into()))?;
    world.command(B, "h", add(100))?;
    // It gets back what it had lost.
    world.pull(A, B)?;
    for target in [A, C] {
        world.sync(B, target)?;
    }
    world.heal()?;
    for instance in &mut world.instances {
        assert_eq!(instance.keyspace.field(0, b"h", b"f").as_deref(), Some(&b"115"[..]), "at {}", instance.id);
    }
    assert_eq!(world.instances[A].shard.counters().reasserted, 1);
    Ok(())
}

/// Found by the simulation (seed 8589934731): no state is lost here. The source has what the target has overwritten or removed since, and with what was
/// written there afterwards it shows something else. That was taken for torn and asserted again; of two targets that did so, one lost what it had added.
#[test]
fn what_a_target_has_overwritten_is_not_torn_at_the_source() -> Check {
    for overwrite in [Command::HSet("d".into(), "1".into()), Command::HDel("d".into())] {
        let mut world = world(3, Rules::default());
        let add = |by| Command::HIncrBy("d".into(), by);
        world.command(A, "h", Command::HSet("e".into(), "v".into()))?;
        world.settle()?;
        world.command(A, "h", Command::HSet("d".into(), "5".into()))?;
        // All know that B and C have it but A, who prunes nothing therefore.
        for target in [B, C] {
            world.pull(A, target)?;
        }
        for (from, to) in [(A, B), (C, B), (A, C), (B, C)] {
            world.tell(from, to)?;
        }
        for (target, by) in [(B, 10), (C, 100)] {
            world.command(target, "h", overwrite.clone())?;
            world.command(target, "h", add(by))?;
        }
        // The snapshot has news of something else.
        world.command(A, "l", set("y"))?;
        for target in [B, C] {
            world.sync(A, target)?;
            assert_eq!(world.instances[target].shard.counters().reasserted, 0);
        }
        world.heal()?;
        let shown = world.instances[A].keyspace.field(0, b"h", b"d");
        let expected: &[u8] = if let Command::HDel(_) = overwrite { b"110" } else { b"111" };
        assert_eq!(shown.as_deref(), Some(expected));
    }
    Ok(())
}

/// Found by the simulation (seed 8601007155): no state is lost here either. B has deleted what A, which has not seen that, still has increments of; what C
/// added meanwhile B has folded. B asserted that again as if A had lost the rest, and A's own `DEL`, which had seen all of it, did not remove it.
///
/// Seeds 25770101793 and 25770102726: nor where a replica of A or of B took over before, which lost nothing. The reports of A's new reign do not count at
/// B, and a B that was just promoted has heard none. Seed 6386574782633355: nor where A was restarted after that, and knew no more what its reign before had when
/// it began.
#[test]
fn what_a_target_has_deleted_and_folded_since_is_not_torn_at_the_source() -> Check {
    for (promoted, restarts) in [(None, 0), (None, 2), (Some(A), 0), (Some(A), 1), (Some(B), 0)] {
        let plan = Plan { failover: Failover::LosesUnreported, ..plan(3, Rules::default()) };
        let mut world = World::new(&plan, false);
        let add = |by| Command::HIncrBy("d".into(), by);
        world.settle()?;
        world.command(C, "h", add(5))?;
        for target in [A, B] {
            world.pull(C, target)?;
        }
        world.command(B, "h", Command::Del)?;
        world.command(C, "h", add(10))?;
        for target in [A, B] {
            world.pull(C, target)?;
        }
        // B knows that all have both, and A prunes nothing.
        for from in [A, C] {
            world.tell(from, B)?;
        }
        if let Some(promoted) = promoted {
            let logged = world.instances[promoted].logged();
            world.fail_over(promoted, logged)?;
        }
        (0..restarts).try_for_each(|_| world.restart(A))?;
        world.prune(B, usize::MAX)?;
        world.command(A, "l", set("y"))?;
        world.sync(A, B)?;
        assert_eq!(world.instances[B].shard.counters().reasserted, 0, "{promoted:?} was promoted, {restarts} restarts");
        world.command(A, "h", Command::Del)?;
        world.heal()?;
        assert_eq!(world.instances[B].keyspace.field(0, b"h", b"d"), None);
    }
    Ok(())
}

/// Found by the simulation (seeds 17400027156 and 8800133964): A came back from before it had met B, and lets it in again by a Join that B does not have. So B
/// was taken for who has emptied itself to join, and what it had written for harmless: it hid what A had folded, and not what A's replica had not (I-12). A
/// snapshot of it is to do what the write does if it comes by itself.
#[test]
fn what_a_site_wrote_that_its_target_has_met_anew_is_news_of_the_past() -> Check {
    for by_snapshot in [false, true] {
        let plan = Plan { failover: Failover::LosesAnything, backlog_bytes: 500, ..plan(2, Rules::default()) };
        let mut world = World::new(&plan, false);
        world.settle()?;
        world.fail_over(A, 1)?;
        for _ in 0..100 {
            world.command(A, "z", Command::ZIncrBy("c".into(), 1.0))?;
        }
        // What its backlog has lost is stable: it is alone.
        world.tell(B, A)?;
        world.prune(A, usize::MAX)?;
        world.command(B, "z", Command::ZAdd("c".into(), 5.0))?;
        // B asks where to read, and is in.
        world.pull(A, B)?;
        let link = world.link(B, A);
        if by_snapshot {
            assert!(world.begin_sync(link)?);
            world.step_sync(A, usize::MAX)?;
        } else {
            world.links[link].want(InstanceSet::ALL);
            world.pull(B, A)?;
        }
        world.check_all()?;
        assert_eq!(world.instances[A].shard.counters().reasserted, 1, "by a snapshot: {by_snapshot}");
        world.heal()?;
        // And what of it was not stable yet.
        for instance in [A, B] {
            assert_eq!(world.instances[instance].keyspace.score(0, b"z", b"c"), Some(14.0));
        }
    }
    Ok(())
}

/// Found by a review: C has not heard of a late comer, X, which has read a part of the group only, and deleted a key.
#[test]
fn what_a_late_comer_has_deleted_is_gone_or_asserted() -> Check {
    const X: usize = 3;
    let mut world = world(3, Rules::default());
    world.command(A, "k", set("v"))?;
    world.settle()?;
    world.command(A, "m", set("1"))?;
    world.settle()?;
    world.command(A, "w", set("2"))?;
    // Stable at C only.
    for to in [B, C] {
        world.pull(A, to)?;
    }
    for from in [A, B] {
        world.tell(from, C)?;
    }
    world.join()?;
    let link = world.link(A, X);
    world.links[link].want(InstanceSet::ALL);
    while world.shows(X, "m", Some("1")).is_err() {
        world.read(link, usize::MAX);
        world.deliver(link, 1, false)?;
    }
    world.command(X, "k", Command::Del)?;
    world.sync(X, C)?;
    for to in [A, B] {
        world.pull(X, to)?;
    }
    world.heal()
}
