//! The cases of what re-assertions have taken up (2.2 rule 5, `shard/taken.rs`), like [`super::cases`]: of two that have not seen each other one shows, so who
//! has written what only the other one has writes it again.

use syncer_shared::effect::Path;
use syncer_shared::instance::InstanceId;
use syncer_shared::keyspace::Keyspace;
use syncer_shared::merge::Rules;
use syncer_shared::shard::{Restorer, ShardConfig};

use super::cases::{A, B, C, plan, set, world};
use super::client::Command;
use super::plan::Failover;
use super::{Check, Plan, World};

pub(super) fn all_show_field(world: &mut World, key: &str, field: &str, value: &str) -> Check {
    for instance in &mut world.instances {
        let shown = instance.keyspace.field(0, key.as_bytes(), field.as_bytes());
        if shown.as_deref() != Some(value.as_bytes()) {
            return Err(format!("{field} of {key} is {shown:?} at {}, not {value}", instance.id));
        }
    }
    Ok(())
}

/// A and B have added to a counter and asserted it, each with its own part: C came back without what is stable, and deleted it.
fn two_assertions() -> Result<World, String> {
    let plan = Plan { failover: Failover::LosesAnything, ..plan(3, Rules::default()) };
    let mut world = World::new(&plan, false);
    world.command(A, "k", Command::IncrBy(5))?;
    world.settle()?;
    let backup = world.instances[C].logged();
    world.command(A, "k", Command::IncrBy(20))?;
    world.settle()?;
    world.fail_over(C, backup)?;
    world.command(A, "k", Command::IncrBy(100))?;
    world.command(B, "k", Command::IncrBy(1000))?;
    world.command(C, "k", Command::Del)?;
    world.pull(C, A)?;
    world.pull(C, B)?;
    assert!([A, B].iter().all(|site| world.instances[*site].shard.taken_up() > 0));
    Ok(world)
}

/// Found by the simulation (seed 12950002590): what was taken up is in the saved state.
#[test]
fn what_an_assertion_has_taken_up_outlives_a_restart() -> Check {
    let mut world = two_assertions()?;
    [A, B].iter().try_for_each(|site| world.restart(*site))?;
    world.heal()?;
    world.all_show("k", Some("1125"))
}

/// And replicas know it.
#[test]
fn what_an_assertion_has_taken_up_outlives_a_failover() -> Check {
    let mut world = two_assertions()?;
    for site in [A, B] {
        let all = world.instances[site].logged();
        world.fail_over(site, all)?;
    }
    world.heal()?;
    world.all_show("k", Some("1125"))
}

/// What a reign has written again, and its successor has lost, comes back from the others: it is not written once more.
#[test]
fn what_was_written_again_by_a_reign_that_is_lost_counts_once() -> Check {
    let mut world = two_assertions()?;
    let logged = [A, B].map(|site| world.instances[site].logged());
    world.heal()?;
    let again = [A, B].map(|site| world.instances[site].shard.counters().reasserted);
    assert!(again.contains(&2), "nobody has written again: {again:?}");
    for (site, logged) in [A, B].into_iter().zip(logged) {
        world.fail_over(site, logged)?;
        assert!(world.instances[site].shard.taken_up() > 0);
    }
    world.heal()?;
    world.all_show("k", Some("1125"))
}

/// The same where who lost that gets it back by a snapshot only, which does not say that it was written again.
#[test]
fn what_was_written_again_by_a_reign_that_is_lost_and_a_snapshot_brings_counts_once() -> Check {
    let mut world = two_assertions()?;
    // Everybody has everything, but C is not told.
    for _ in 0..3 {
        for link in 0..world.links.len() {
            let (source, target) = (world.links[link].source, world.links[link].target);
            world.pull(source, target)?;
        }
        for (from, to) in [(A, B), (B, A), (C, A), (C, B)] {
            world.tell(from, to)?;
        }
    }
    let logged = [A, B].map(|site| world.instances[site].logged());
    let before = [A, B].map(|site| world.instances[site].shard.counters().reasserted);
    for site in [A, B] {
        world.go_on_joining(site)?;
        world.pull(site, C)?;
    }
    let again = [A, B].map(|site| world.instances[site].shard.counters().reasserted);
    assert_ne!(before, again, "nobody has written again");
    for (index, site) in [A, B].into_iter().enumerate().filter(|(index, _)| before[*index] != again[*index]) {
        world.fail_over(site, logged[index])?;
        assert!(world.instances[site].shard.taken_up() > 0);
        world.sync(C, site)?;
    }
    world.heal()?;
    world.all_show("k", Some("1125"))
}

/// Seeds 8802001020, 17406004575: everybody has the assertions, but it is not decided yet. Where they are pruned a snapshot of the key was taken to have removed them;
/// where they are not, as at a replica, they were there still.
#[test]
fn what_is_settled_outlives_a_snapshot_that_finds_the_assertions_pruned() -> Check {
    let mut world = two_assertions()?;
    world.settle()?;
    let kept = [A, B].map(|site| world.instances[site].shard.taken_up());
    for (source, target) in [(A, B), (B, A)] {
        // Else the key is the same there.
        world.command(source, "k", Command::IncrBy(1))?;
        world.sync(source, target)?;
    }
    assert_eq!(kept, [A, B].map(|site| world.instances[site].shard.taken_up()));
    world.check_all()?;
    world.heal()?;
    world.all_show("k", Some("1127"))
}

/// Of two sites that assert a counter again one shows, and each has taken up what only it had added.
#[test]
fn what_only_one_of_two_assertions_has_taken_up_is_written_again() -> Check {
    for path in [Path::String, Path::Field(b"f"), Path::Scored(b"m")] {
        let add = |by: i64| match path {
            Path::String => Command::IncrBy(by),
            Path::Field(_) => Command::HIncrBy("f".into(), by),
            _ => Command::ZIncrBy("m".into(), by as f64),
        };
        let mut world = world(3, Rules::default());
        world.command(A, "k", add(5))?;
        world.settle()?;
        let backup = world.instances[C].logged();
        world.command(A, "k", add(20))?;
        world.settle()?;
        world.fail_over(C, backup)?;
        world.command(A, "k", add(100))?;
        world.command(B, "k", add(1000))?;
        world.command(C, "k", Command::Del)?;
        world.pull(C, A)?;
        world.pull(C, B)?;
        assert!(world.instances[A].shard.taken_up() + world.instances[B].shard.taken_up() > 0);
        world.heal()?;
        let shown = match path {
            Path::String => world.instances[A].keyspace.string(0, b"k"),
            Path::Field(field) => world.instances[A].keyspace.field(0, b"k", field),
            _ => world.instances[A].keyspace.score(0, b"k", b"m").map(|score| score.to_string().into_bytes()),
        };
        assert_eq!(shown.as_deref(), Some(&b"1125"[..]), "{path:?}");
    }
    Ok(())
}

/// The same of strings, where who came back has a clock that was set back: its patch belongs before stable ones.
#[test]
fn what_only_one_of_two_assertions_of_a_string_has_taken_up_is_written_again() -> Check {
    let mut world = world(3, Rules::default());
    let append = |text: &str| Command::AppendPart(text.into());
    let backup = world.instances[C].logged();
    world.command(A, "k", append("stable"))?;
    world.settle()?;
    world.instances[C].skew_ms = -60_000;
    world.fail_over(C, backup)?;
    world.command(A, "k", append("<a>"))?;
    world.command(B, "k", append("<b>"))?;
    world.command(C, "k", append("<c>"))?;
    world.pull(C, A)?;
    world.pull(C, B)?;
    world.heal()?;
    let shown = world.instances[A].keyspace.string(0, b"k").unwrap_or_default();
    for part in ["stable", "<a>", "<b>", "<c>"] {
        let count = shown.windows(part.len()).filter(|window| *window == part.as_bytes()).count();
        assert_eq!(count, 1, "{part} in {}", shown.escape_ascii());
    }
    Ok(())
}

/// The same where a snapshot lacks the path, and two bring it at once.
#[test]
fn what_two_targets_add_outlives_a_snapshot_without_it() -> Check {
    let plan = Plan { failover: Failover::LosesAnything, ..plan(3, Rules::default()) };
    let mut world = World::new(&plan, false);
    let backup = world.instances[C].logged();
    world.command(A, "k", Command::IncrBy(5))?;
    world.settle()?;
    world.fail_over(C, backup)?;
    world.command(A, "k", Command::IncrBy(10))?;
    world.command(B, "k", Command::IncrBy(100))?;
    for target in [A, B] {
        world.sync(C, target)?;
        assert_eq!(world.instances[target].shard.counters().reasserted, 1);
    }
    world.heal()?;
    world.all_show("k", Some("115"))
}

/// Found by the simulation (seed 12950044449): who asserts a counter takes up what it has added itself, and the snapshot that it is merging brings a newer
/// write beside that, which had not seen it.
#[test]
fn what_an_assertion_has_taken_up_outlives_what_the_same_snapshot_brings() -> Check {
    let plan = Plan { failover: Failover::LosesAnything, ..plan(3, Rules::default()) };
    let mut world = World::new(&plan, false);
    let backup = world.instances[C].logged();
    let set = |field: &str, value: &str| Command::HSet(field.into(), value.into());
    world.command(A, "h", set("f", "5"))?;
    world.command(A, "h", set("g", "old"))?;
    world.settle()?;
    world.fail_over(C, backup)?;
    // It has not seen what is stable of the key, and gets it back.
    world.command(C, "h", set("g", "new"))?;
    world.command(A, "h", Command::HIncrBy("f".into(), 10))?;
    world.command(B, "h", set("f", "3"))?;
    world.pull(A, C)?;
    world.pull(B, C)?;
    world.sync(C, A)?;
    assert_eq!(world.instances[A].shard.counters().reasserted, 1);
    world.heal()?;
    all_show_field(&mut world, "h", "f", "13")
}

/// Found by the simulation (seed 25900057656): what another site's assertion has taken up of who came back, who hears of it by a snapshot only; and that has a
/// newer write, too. It is written again if that had not seen it, and not if that has overwritten it.
#[test]
fn what_an_assertion_in_a_snapshot_has_taken_up_is_written_again() -> Check {
    for (overwrites, shown) in [(B, "13"), (A, "3")] {
        let plan = Plan { failover: Failover::LosesAnything, ..plan(3, Rules::default()) };
        let mut world = World::new(&plan, false);
        let backup = world.instances[C].logged();
        world.command(A, "h", Command::HSet("f".into(), "5".into()))?;
        world.settle()?;
        world.fail_over(C, backup)?;
        world.command(C, "h", Command::HIncrBy("f".into(), 10))?;
        world.pull(C, A)?;
        // Else the snapshot has no news.
        world.command(C, "other", set("1"))?;
        world.sync(C, A)?;
        world.command(overwrites, "h", Command::HSet("f".into(), "3".into()))?;
        world.pull(B, A)?;
        world.sync(A, C)?;
        assert_eq!(world.instances[C].shard.taken_up(), usize::from(overwrites == B));
        world.heal()?;
        all_show_field(&mut world, "h", "f", shown)?;
    }
    Ok(())
}

/// Seed 26100027075: one unit of who came back removes a path twice, so it is asserted twice. A kept in mind that the first assertion has what it had added, which is
/// gone with the second; and took the second, when it met a snapshot, for one that nothing is known of.
#[test]
fn what_an_assertion_has_taken_up_is_in_the_next_one_of_the_same_instance() -> Check {
    let plan = Plan { failover: Failover::LosesAnything, ..plan(3, Rules::default()) };
    let mut world = World::new(&plan, false);
    let set = |value: &str| Command::HSet("f".into(), value.into());
    let add = |by| Command::HIncrBy("f".into(), by);
    world.command(A, "h", set("5"))?;
    world.settle()?;
    let backup = world.instances[C].logged();
    world.command(A, "h", add(20))?;
    world.settle()?;
    world.fail_over(C, backup)?;
    world.command(A, "h", add(100))?;
    world.command(B, "h", set("3"))?;
    let unit = [Command::HDel("f".into()), add(1), Command::HDel("f".into())];
    world.write(C, &unit.map(|command| (0, b"h".to_vec(), command)))?;
    world.pull(C, A)?;
    assert_eq!(world.instances[A].shard.taken_up(), 1);
    world.sync(B, A)?;
    assert_eq!(world.instances[A].shard.taken_up(), 1);
    world.heal()?;
    all_show_field(&mut world, "h", "f", "103")
}

/// A has added to a field and asserts it, with that, against C, which came back without what is stable. B has overwritten the field without having seen either.
fn asserted_beside_an_overwrite(is_lost: bool) -> Result<World, String> {
    let plan = Plan { failover: Failover::LosesAnything, ..plan(3, Rules::default()) };
    let mut world = World::new(&plan, false);
    let set = |value: &str| Command::HSet("f".into(), value.into());
    let add = |by| Command::HIncrBy("f".into(), by);
    world.command(A, "h", set("5"))?;
    world.settle()?;
    let backup = world.instances[C].logged();
    world.command(A, "h", add(20))?;
    world.settle()?;
    world.fail_over(C, backup)?;
    let author = if is_lost { B } else { A };
    let logged = world.instances[B].logged();
    world.command(author, "h", add(100))?;
    if is_lost {
        world.pull(B, A)?;
        world.fail_over(B, logged)?;
    }
    world.command(B, "h", set("3"))?;
    if !is_lost {
        world.pull(A, B)?;
    }
    world.command(C, "h", Command::HDel("f".into()))?;
    world.pull(C, A)?;
    Ok(world)
}

/// Seeds 8800106760, 26100089583: a snapshot brings A an overwrite of which it cannot tell whether that had seen what A's assertion has taken up: B had by then.
/// But B had them beside each other, and tells so.
#[test]
fn who_has_seen_what_an_assertion_takes_up_tells_what_had_not_seen_that() -> Check {
    let mut world = asserted_beside_an_overwrite(false)?;
    for source in [C, A] {
        world.pull(source, B)?;
    }
    world.command(B, "other", set("1"))?;
    world.sync(B, A)?;
    assert_eq!(world.instances[A].shard.taken_up(), 1);
    world.heal()?;
    all_show_field(&mut world, "h", "f", "103")
}

/// Seeds 25900025433, 26100022380, 26100027075, 13100301126: B has lost what it had added, and gets it back by a snapshot in which A's assertion, which does not show, has taken it
/// up. A tells what that was.
#[test]
fn who_lost_what_an_assertion_has_taken_up_is_told() -> Check {
    let mut world = asserted_beside_an_overwrite(true)?;
    world.pull(B, A)?;
    world.sync(A, B)?;
    assert_eq!(world.instances[B].shard.taken_up(), 1);
    world.heal()?;
    all_show_field(&mut world, "h", "f", "103")
}

/// Seeds 26107006770, 26108002755: of what A had added and lost a snapshot brings back one that adds as much as what A has to write again. It was taken for that, written again by
/// a reign that was lost; but it is older than that, or than the assertion, or else the source, which has all that, has not heard that anything was written again.
#[test]
fn what_adds_as_much_as_what_an_assertion_has_taken_up_is_not_taken_for_that() -> Check {
    (0..3).try_for_each(adds_as_much)
}

/// What A loses it adds at first, or after what the assertion takes up, or after the assertion.
fn adds_as_much(lost: u32) -> Check {
    let plan = Plan { failover: Failover::LosesAnything, ..plan(3, Rules::default()) };
    let mut world = World::new(&plan, false);
    let add = |by| Command::HIncrBy("f".into(), by);
    let add_and_lose = |world: &mut World| {
        let logged = world.instances[A].logged();
        world.command(A, "h", add(100))?;
        world.pull(A, B)?;
        world.fail_over(A, logged)
    };
    world.command(A, "h", Command::HSet("f".into(), "5".into()))?;
    world.settle()?;
    let backup = world.instances[C].logged();
    world.command(A, "h", add(20))?;
    world.settle()?;
    world.fail_over(C, backup)?;
    world.command(B, "h", Command::HSet("f".into(), "3".into()))?;
    if lost == 0 {
        add_and_lose(&mut world)?;
    }
    world.command(A, "h", add(100))?;
    if lost == 1 {
        add_and_lose(&mut world)?;
    }
    world.command(C, "h", Command::HDel("f".into()))?;
    world.pull(C, A)?;
    if lost == 2 {
        world.pull(C, B)?;
        add_and_lose(&mut world)?;
    }
    assert_eq!(world.instances[A].shard.taken_up(), 1);
    world.sync(B, A)?;
    assert_eq!(world.instances[A].shard.taken_up(), 1, "{lost}");
    world.heal()?;
    all_show_field(&mut world, "h", "f", "203")
}

/// B's client overwrites the field while the snapshot comes in: to everybody else it has not seen what that brings, nor what an assertion in it has taken up.
#[test]
fn who_writes_while_a_snapshot_tells_has_not_seen_what_it_tells() -> Check {
    let mut world = asserted_beside_an_overwrite(true)?;
    world.pull(B, A)?;
    let link = world.link(A, B);
    assert!(world.begin_sync(link)?);
    world.step_sync(B, 1)?;
    assert!(world.instances[B].shard.is_syncing());
    assert_eq!(world.instances[B].shard.taken_up(), 1);
    world.command(B, "h", Command::HSet("f".into(), "7".into()))?;
    world.step_sync(B, usize::MAX)?;
    world.heal()?;
    all_show_field(&mut world, "h", "f", "107")
}

/// Who begins with the state of another instance, as by a file of the servers' own kind, tells of it like that one: the author may hear of it by a snapshot only.
#[test]
fn what_an_assertion_has_taken_up_is_known_to_who_takes_over_the_state() -> Check {
    let world = asserted_beside_an_overwrite(false)?;
    let from = &world.instances[A].shard;
    let config = ShardConfig::new(InstanceId::new(4).ok_or("an id")?);
    let mut restorer = Restorer::new(config);
    let mut result = Ok(());
    from.save(&mut |piece| {
        if result.is_ok() {
            result = restorer.push(piece);
        }
    });
    let newcomer = result.and_then(|()| restorer.finish()).map_err(|error| error.to_string())?;
    assert_eq!(from.snapshot_head().taken.len(), 1);
    assert_eq!(newcomer.snapshot_head().taken, from.snapshot_head().taken);
    Ok(())
}

/// Found by a review: the others know that every member has the assertion, and the author, which has heard less, has not decided yet. It falls back to a state from before it
/// wrote, and gets all back by a snapshot only, with the metadata, and without.
#[test]
fn who_has_not_written_it_is_not_done_with_it_before_its_author() -> Check {
    for prunes in [false, true] {
        let plan = Plan { failover: Failover::LosesAnything, ..plan(3, Rules::default()) };
        let mut world = World::new(&plan, false);
        let add = |by| Command::HIncrBy("f".into(), by);
        world.command(A, "h", Command::HSet("f".into(), "5".into()))?;
        world.settle()?;
        let backup = world.instances[C].logged();
        world.command(A, "h", add(20))?;
        world.settle()?;
        world.fail_over(C, backup)?;
        let old = world.instances[A].logged();
        world.command(A, "h", add(100))?;
        world.command(B, "h", Command::HSet("f".into(), "3".into()))?;
        world.command(C, "h", Command::HDel("f".into()))?;
        world.pull(C, A)?;
        for _ in 0..3 {
            for link in 0..world.links.len() {
                world.pull(world.links[link].source, world.links[link].target)?;
            }
            for (from, to) in [(A, B), (C, B), (A, C), (B, C)] {
                world.tell(from, to)?;
            }
        }
        for site in [B, C] {
            world.go_on_joining(site)?;
            if prunes {
                world.prune(site, usize::MAX)?;
            }
        }
        assert_eq!(world.instances[A].shard.taken_up(), 1);
        world.fail_over(A, old)?;
        world.sync(B, A)?;
        world.heal()?;
        all_show_field(&mut world, "h", "f", "103")?;
        for instance in &world.instances {
            assert!(instance.shard.snapshot_head().taken.is_empty(), "{} still keeps it in mind", instance.id);
        }
    }
    Ok(())
}
