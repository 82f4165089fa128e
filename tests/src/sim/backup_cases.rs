//! The cases of old backups (2.2 rule 5), like [`super::cases`]. Those of streams, strings in part and full syncs are with these.

use syncer_shared::effect::FlushScope;
use syncer_shared::keyspace::Keyspace;
use syncer_shared::list::End;
use syncer_shared::merge::Rules;

use super::cases::{A, B, C, check, plan, set, world};
use super::client::Command;
use super::plan::Failover;
use super::{Check, Plan, World};

/// MERGE_CASES A1: B loses what A already counts as stable, and deletes what it has instead.
#[test]
fn a1_a_regressed_delete_takes_nothing_that_it_had_not_seen() {
    let steps = |rules: Rules| {
        let mut world = world(3, rules);
        world.command(A, "k", set("old"))?;
        world.settle()?;
        let backup = world.instances[B].logged();
        world.command(A, "k", set("new"))?;
        world.settle()?;
        world.fail_over(B, backup)?;
        world.shows(B, "k", Some("old"))?;
        world.command(B, "k", Command::Del)?;
        world.pull(B, A)?;
        world.shows(A, "k", Some("new"))?;
        world.heal()?;
        world.all_show("k", Some("new"))
    };
    check(steps, |rules| rules.regressed_reassert = false);
}

/// 2.2 rule 5: what is asserted again against an old backup is the latest write of all, and yet must not hide what a client wrote meanwhile.
#[test]
fn what_is_asserted_again_ranks_below_what_clients_wrote_meanwhile() {
    let steps = |rules: Rules| {
        let mut world = world(3, rules);
        world.command(A, "k", set("old"))?;
        world.settle()?;
        let backup = world.instances[C].logged();
        world.command(A, "k", set("stable"))?;
        world.settle()?;
        world.fail_over(C, backup)?;
        world.command(B, "k", set("newest"))?;
        world.command(C, "k", Command::Del)?;
        world.pull(C, A)?;
        assert_eq!(world.instances[A].shard.counters().reasserted, 1);
        world.shows(A, "k", Some("stable"))?;
        world.pull(A, B)?;
        world.pull(B, A)?;
        world.heal()?;
        world.all_show("k", Some("newest"))
    };
    check(steps, |rules| rules.reassert_flag = false);
}

/// Found by the simulation (seed 103198 and many more): what had lost against a list everyone had dropped (rule 4); then who came back without
/// anything brought its type back, and showed it with what was dropped elsewhere.
#[test]
fn what_lost_against_a_list_does_not_come_back_in_part() -> Check {
    let mut world = world(2, Rules::default());
    world.command(B, "k", Command::HIncrBy("c".into(), -9))?;
    world.command(A, "k", Command::Push(End::Tail, vec!["e".into()]))?;
    world.settle()?;
    world.fail_over(B, 1)?;
    world.command(B, "k", Command::HIncrBy("c".into(), 3))?;
    world.heal()?;
    for instance in [A, B] {
        assert_eq!(world.instances[instance].keyspace.field(0, b"k", b"c").as_deref(), Some(&b"3"[..]));
    }
    Ok(())
}

/// Found by the simulation (seed 4295002884): the same, but who came back removes the list, which uncovers what lost against it where that is not
/// dropped yet.
#[test]
fn what_lost_against_a_list_is_not_uncovered_by_an_old_backup() -> Check {
    for removal in [Command::Pop(End::Tail, 2, true), Command::Del, Command::Flush(FlushScope::All)] {
        let mut world = world(2, Rules::default());
        world.command(A, "k", Command::IncrBy(1))?;
        world.command(B, "k", Command::Push(End::Tail, vec!["e".into(), "f".into()]))?;
        let backup = world.instances[B].logged();
        world.settle()?;
        world.fail_over(B, backup)?;
        world.command(B, "k", removal)?;
        world.pull(B, A)?;
        world.heal()?;
    }
    Ok(())
}

/// Chaos (seed 61) found keys that should have expired, at all sites without a TTL: what is asserted again beside an expiry that has not seen it lives on.
#[test]
fn what_is_asserted_again_keeps_its_ttl_beside_an_expiry() -> Check {
    let mut world = world(3, Rules::default());
    world.command(A, "k", Command::HSet("f".into(), "old".into()))?;
    world.settle()?;
    let backup = world.instances[C].logged();
    let at = world.now_ms as i64 + 10_000;
    world.command(A, "k", Command::HSet("f".into(), "new".into()))?;
    world.command(A, "k", Command::ExpireAt(at))?;
    world.settle()?;
    world.fail_over(C, backup)?;
    // It knows of no TTL.
    world.command(C, "k", Command::HDel("f".into()))?;
    world.pull(C, B)?;
    assert_eq!(world.instances[B].shard.counters().reasserted, 1);
    world.tick(10_100);
    world.expire(A)?;
    world.heal()?;
    for instance in [A, B, C] {
        let keyspace = &mut world.instances[instance].keyspace;
        if keyspace.kind(0, b"k").is_some() {
            assert_eq!(keyspace.expire_at(0, b"k"), Some(at), "at {instance}");
        }
    }
    Ok(())
}

/// Found by the simulation with keys that always have a TTL: who came back makes a key and sets its TTL. One site asserts for the first of these that there
/// was none; the next one must not take that for a stable "no TTL" that the second would change.
#[test]
fn who_came_back_can_set_the_ttl_of_a_new_key() -> Check {
    let mut world = world(3, Rules::default());
    let backup = world.instances[C].logged();
    world.command(A, "other", set("1"))?;
    world.settle()?;
    world.fail_over(C, backup)?;
    world.pull(C, B)?;
    let at = world.now_ms as i64 + 10_000;
    world.write(C, &[Command::AppendPart("x".into()), Command::ExpireAt(at)].map(|c| (0, b"k".to_vec(), c)))?;
    world.pull(C, A)?;
    world.pull(A, B)?;
    world.pull(C, B)?;
    assert_eq!(world.instances[B].keyspace.expire_at(0, b"k"), Some(at));
    world.heal()
}

/// 2.2 rule 5: who lacks what it has reported takes no writes until it has it again. Nothing is lost without that, but every such write has something asserted
/// again.
#[test]
fn who_lacks_what_it_has_reported_catches_up_before_it_takes_writes() {
    let steps = |rules: Rules| {
        let mut world = world(2, rules);
        world.command(A, "k", set("old"))?;
        world.settle()?;
        let backup = world.instances[B].logged();
        world.command(A, "k", set("new"))?;
        world.settle()?;
        world.fail_over(B, backup)?;
        world.tell(A, B)?;
        // As a client does: again and again.
        while world.instances[B].shard.check_writes().is_err() && world.pull(A, B)? > 0 {}
        world.command(B, "k", Command::Del)?;
        world.heal()?;
        match world.instances[A].shard.counters().reasserted {
            0 => world.all_show("k", None),
            many => Err(format!("{many} keys are asserted again")),
        }
    };
    check(steps, |rules| rules.catches_up_first = false);
}

/// Seed 26106506289: a snapshot in a file outlives that all sites, each from an old backup, have lost what it has: some of it in the entry without a dot, some with dots. They go on, and what
/// they add is stable at two of them when the third merges that file. In a snapshot of the third, what is stable at the others stands beside that entry: they assert what they have, and
/// the entry below that would not show any more.
#[test]
fn what_only_an_old_snapshot_has_is_in_what_is_asserted_against_its_news() -> Check {
    // Folded where it is asserted, or not; and with a part of the counter that nobody has lost.
    for (prunes, kept) in [(false, 0), (true, 0), (false, 1000), (true, 1000)] {
        old_snapshot_with_an_entry(prunes, kept).map_err(|error| format!("{prunes}, {kept}: {error}"))?;
    }
    Ok(())
}

fn old_snapshot_with_an_entry(prunes: bool, kept: i64) -> Check {
    let plan = Plan { failover: Failover::LosesAnything, ..plan(3, Rules::default()) };
    let mut world = World::new(&plan, false);
    let add = |by: i64| Command::HIncrBy("f".into(), by);
    world.command(A, "h", Command::HSet("other".into(), "1".into()))?;
    if kept > 0 {
        world.command(A, "h", add(kept))?;
    }
    world.settle()?;
    let backups = [A, B, C].map(|instance| world.instances[instance].logged());
    world.command(B, "h", add(17))?;
    world.settle()?;
    world.command(B, "h", add(20))?;
    world.pull(B, A)?;
    world.fail_over(C, backups[C])?;
    let link = world.link(A, C);
    assert!(world.copy_snapshot(link));
    world.fail_over(A, backups[A])?;
    world.fail_over(B, backups[B])?;
    for instance in [A, B] {
        world.command(instance, "h", add(5))?;
    }
    for _ in 0..2 {
        for (source, target) in [(A, B), (B, A), (C, A), (C, B), (A, C), (B, C)] {
            world.pull(source, target)?;
        }
    }
    // C hears no report.
    for (from, to) in [(A, B), (B, A), (C, A), (C, B)] {
        world.tell(from, to)?;
    }
    for instance in [A, B].into_iter().filter(|_| prunes) {
        world.prune(instance, usize::MAX)?;
    }
    world.step_sync(C, usize::MAX)?;
    let all = (kept + 47).to_string();
    let shown = |world: &mut World, at: usize| world.instances[at].keyspace.field(0, b"h", b"f");
    assert_eq!(shown(&mut world, C).as_deref(), Some(all.as_bytes()));
    for target in [A, B] {
        // What C asserts against theirs is older.
        world.instances[target].skew_ms = 1000;
        world.sync(C, target)?;
        assert_eq!(world.instances[target].shard.counters().reasserted, 1);
    }
    for source in [A, B] {
        world.pull(source, C)?;
    }
    world.heal()?;
    for at in [A, B, C] {
        let shown = shown(&mut world, at).map(|text| String::from_utf8_lossy(&text).into_owned());
        if shown.as_deref() != Some(&*all) {
            return Err(format!("{} shows {shown:?}, not {all}", at + 1));
        }
    }
    Ok(())
}
