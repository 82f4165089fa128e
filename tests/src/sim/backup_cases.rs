//! The cases of old backups (2.2 rule 5), like [`super::cases`]. Those of streams, strings in part and full syncs are with these.

use syncer_shared::effect::FlushScope;
use syncer_shared::keyspace::Keyspace;
use syncer_shared::list::End;
use syncer_shared::merge::Rules;

use super::Check;
use super::cases::{A, B, check, set, world};
use super::client::Command;

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
