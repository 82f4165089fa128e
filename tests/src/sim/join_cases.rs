//! The cases of joining again (MERGE_RULES M8 to M13) in which something fails meanwhile, like [`super::cases`].

use syncer_shared::effect::Kind;
use syncer_shared::instance::InstanceSet;
use syncer_shared::keyspace::Keyspace;
use syncer_shared::merge::Rules;
use syncer_shared::shard::{JoinData, WritesRefused};

use super::cases::{A, B, C, check, set, world};
use super::client::Command;
use super::{Check, World};

const F: usize = 3;

/// Everything up to a Forget of F that is settled; F has written what nobody else has.
pub(super) fn forgotten_with_a_tail(rules: Rules) -> Result<World, String> {
    let mut world = world(4, rules);
    world.command(A, "k", set("old"))?;
    world.command(F, "n", Command::IncrBy(1))?;
    world.settle()?;
    world.command(F, "k", set("mine"))?;
    world.command(F, "n", Command::IncrBy(5))?;
    world.command(F, "s", Command::SAdd("f".into()))?;
    world.forget(A, F)?;
    world.command(A, "s", set("a string"))?;
    world.heal()?;
    Ok(world)
}

/// What F had written is in, once.
fn is_in(world: &mut World) -> Check {
    world.heal()?;
    assert_eq!(world.group(), [A, B, C, F]);
    world.all_show("k", Some("mine"))?;
    world.all_show("n", Some("6"))?;
    for instance in [A, B, C, F] {
        assert_eq!(world.instances[instance].keyspace.kind(0, b"s"), Some(Kind::Set), "of the type that F had written");
    }
    world.command(F, "n", Command::IncrBy(100))?;
    world.heal()?;
    world.all_show("n", Some("106"))
}

/// M8 to M12: F comes back, takes the group's state, and writes again what nobody had of it. Increments count once.
#[test]
fn m10_who_joins_again_writes_again_what_nobody_had() {
    let steps = |rules: Rules| {
        let mut world = forgotten_with_a_tail(rules)?;
        world.shows(A, "k", Some("old"))?;
        assert_eq!(world.join_by(F, A, JoinData::Refuse, true)?, None);
        assert!(!world.instances[F].shard.takes_writes(), "not before all know");
        world.heal()?;
        assert_eq!(world.group(), [A, B, C, F]);
        world.all_show("k", Some("mine"))?;
        world.all_show("n", Some("6"))?;
        assert_eq!(world.instances[B].keyspace.kind(0, b"s"), Some(Kind::Set), "of the type that F had written");
        Ok(())
    };
    check(steps, |rules| rules.joins_set_aside = false);
}

/// How far F has come with its join when something happens to it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// It has emptied itself.
    Begun,
    /// It has what one member has.
    HasData,
    /// All know; a part of what it had set aside is written.
    WritesAgain,
}

const STAGES: [Stage; 3] = [Stage::Begun, Stage::HasData, Stage::WritesAgain];

fn joining_at(stage: Stage) -> Result<World, String> {
    let mut world = forgotten_with_a_tail(Rules::default())?;
    assert_eq!(world.join_by(F, A, JoinData::Refuse, true)?, None);
    if stage != Stage::Begun {
        world.pull(A, F)?;
    }
    if stage == Stage::WritesAgain {
        for member in [A, B, C] {
            world.pull(A, member)?;
            world.pull(F, member)?;
            world.tell(member, F)?;
        }
        world.go_on_joining(F)?;
        assert_eq!(world.instances[F].shard.renewals_left(), Some(1), "of three keys");
    }
    assert!(!world.instances[F].shard.takes_writes(), "{stage:?}");
    Ok(world)
}

/// The replica of who joins goes on where its primary was: also with what it is to write again.
#[test]
fn who_joins_fails_over_meanwhile() -> Check {
    for stage in STAGES {
        let mut world = joining_at(stage)?;
        let all = world.instances[F].logged();
        world.fail_over(F, all)?;
        assert!(!world.instances[F].shard.takes_writes(), "{stage:?}");
        is_in(&mut world)?;
    }
    Ok(())
}

/// The replica lacks what nobody was told of: but it joins, since that was made durable.
#[test]
fn who_joins_fails_over_and_loses_what_was_not_durable() -> Check {
    for stage in STAGES {
        let mut world = joining_at(stage)?;
        let durable = world.instances[F].durable;
        world.fail_over(F, durable)?;
        is_in(&mut world)?;
    }
    Ok(())
}

#[test]
fn who_joins_restarts_meanwhile() -> Check {
    for stage in STAGES {
        let mut world = joining_at(stage)?;
        world.restart(F)?;
        world.restart(F)?;
        assert!(!world.instances[F].shard.takes_writes(), "{stage:?}");
        is_in(&mut world)?;
    }
    Ok(())
}

/// Its sponsor, too: the Join was durable (M9), what follows it may be lost.
#[test]
fn the_sponsor_fails_over_meanwhile() -> Check {
    for stage in STAGES {
        let mut world = joining_at(stage)?;
        let durable = world.instances[A].durable;
        world.fail_over(A, durable)?;
        is_in(&mut world)?;
    }
    Ok(())
}

/// M9: it never heard of the Join that it has emptied itself for, and waits for it.
#[test]
fn m9_a_join_outlives_a_crash_of_the_sponsor() {
    let steps = |rules: Rules| {
        let mut world = forgotten_with_a_tail(rules)?;
        world.persist(A);
        assert_eq!(world.join_by(F, A, JoinData::Refuse, true)?, None);
        let durable = world.instances[A].durable;
        world.fail_over(A, durable)?;
        world.heal()?;
        match world.group()[..] {
            [A, B, C, F] => world.all_show("k", Some("mine")),
            ref group => Err(format!("the group is {group:?}")),
        }
    };
    check(steps, |rules| rules.joins_are_durable = false);
}

/// C has the Forget, and has not heard of the Join yet: its refusal is no news to F.
#[test]
fn who_joins_is_not_out_because_a_peer_lags() -> Check {
    let mut world = joining_at(Stage::HasData)?;
    assert_eq!(world.pull(C, F)?, 0);
    let link = world.link(C, F);
    assert!(world.links[link].error.starts_with("SYNCERFORGOTTEN instance 4 "), "{}", world.links[link].error);
    assert_eq!(world.instances[F].shard.check_writes(), Err(WritesRefused::Joining));
    is_in(&mut world)
}

/// A is in again, and lets B in, which reads of its own Forget of A before it reads of A's return: what B says of that is no news to A, on which it
/// depends. Nor does A, while it joined, let B in because it had known it once.
#[test]
fn who_is_in_again_is_not_out_because_a_peer_lags() -> Check {
    let mut world = world(4, Rules::default());
    world.settle()?;
    world.forget(A, B)?;
    world.forget(B, A)?;
    world.pull(B, C)?;
    world.pull(A, F)?;
    world.heal()?;
    assert_eq!(world.join_by(A, C, JoinData::Refuse, true)?, None);
    world.heal()?;
    assert_eq!(world.group(), [A, C, F]);
    assert_eq!(world.join_by(B, A, JoinData::Refuse, true)?, None);
    world.pull(A, C)?;
    // It reads the history of the group up to the Forget of A.
    let (history, a) = (world.link(C, B), world.instances[A].id);
    world.links[history].want(InstanceSet::ALL);
    for _ in 0..20 {
        if world.instances[B].shard.membership().forgotten(a).is_none() {
            world.read(history, 1);
            world.deliver(history, 1, false)?;
        }
    }
    assert_eq!(world.pull(B, A)?, 0);
    let link = world.link(B, A);
    assert!(world.links[link].error.starts_with("SYNCERFORGOTTEN instance 1 "), "{}", world.links[link].error);
    assert!(world.instances[A].shard.takes_writes());
    world.heal()?;
    assert_eq!(world.group(), [A, B, C, F]);
    Ok(())
}

/// The first sponsor is dead before anybody knows, and F asks another one: what it had set aside for the first is not lost.
#[test]
fn who_joins_by_another_sponsor_keeps_what_it_had_set_aside() -> Check {
    let mut world = forgotten_with_a_tail(Rules::default())?;
    assert_eq!(world.join_by(F, A, JoinData::Refuse, true)?, None);
    world.forget(B, A)?;
    without_a(&mut world, &[B, C])?;
    assert_eq!(world.join_by(F, B, JoinData::Refuse, true)?, None);
    without_a(&mut world, &[B, C, F])?;
    assert_eq!(world.group(), [B, C, F]);
    for member in [B, C, F] {
        world.shows(member, "k", Some("mine"))?;
        world.shows(member, "n", Some("6"))?;
    }
    Ok(())
}

/// Everything flows between these.
fn without_a(world: &mut World, alive: &[usize]) -> Check {
    for _ in 0..4 {
        for from in alive {
            for to in alive.iter().filter(|to| *to != from) {
                let link = world.link(*from, *to);
                world.links[link].want(InstanceSet::ALL);
                world.pull(*from, *to)?;
                world.tell(*from, *to)?;
            }
        }
        world.go_on_joining(F)?;
    }
    Ok(())
}

/// M13: two sponsors let F in, none of which knows of the other. Both Joins live, and F has one reign that goes on.
#[test]
fn m13_two_sponsors_at_once_are_one_join() -> Check {
    for first in [A, B] {
        let mut world = forgotten_with_a_tail(Rules::default())?;
        assert_eq!(world.join_by(F, first, JoinData::Refuse, true)?, None);
        // Its beginning is known to the first one.
        world.pull(F, first)?;
        let second = A + B - first;
        assert_eq!(world.join_by(F, second, JoinData::Refuse, true)?, None);
        world.pull(F, second)?;
        world.heal()?;
        let f = world.instances[F].id;
        for member in [A, B, C, F] {
            assert_eq!(world.instances[member].shard.membership().joins(f).len(), 2);
        }
        is_in(&mut world)?;
        // And one Forget that has seen both ends both.
        world.forget(C, F)?;
        world.heal()?;
        assert_eq!(world.group(), [A, B, C]);
    }
    Ok(())
}

/// M13: a Forget that has seen one of the two Joins leaves F in.
#[test]
fn m13_a_forget_that_has_not_seen_a_join_leaves_it() -> Check {
    let mut world = forgotten_with_a_tail(Rules::default())?;
    assert_eq!(world.join_by(F, A, JoinData::Refuse, true)?, None);
    world.pull(A, C)?;
    assert_eq!(world.join_by(F, B, JoinData::Refuse, true)?, None);
    world.forget(C, F)?;
    is_in(&mut world)
}

/// M13, found by the simulation (seed 6386589968108059), which had refused it, unlike servers: who is out for itself, since it knows of the `Forget` alone,
/// gets to know the `Join` that this had not seen by a full sync, too.
#[test]
fn m13_a_join_that_a_forget_had_not_seen_comes_by_a_full_sync() -> Check {
    let mut world = world(3, Rules::default());
    // Each has let in the others by itself.
    world.pull(C, A)?;
    world.forget(A, C)?;
    world.pull(B, A)?;
    world.pull(A, C)?;
    assert!(world.instances[C].shard.check_writes().is_err(), "it is out");
    world.sync(B, C)?;
    assert_eq!(world.instances[C].shard.check_writes(), Ok(()));
    world.command(C, "k", set("in"))?;
    world.heal()?;
    assert_eq!(world.group(), [A, B, C]);
    world.all_show("k", Some("in"))
}

/// M10, M12: who has begun to write again what it had set aside does not begin anew with another sponsor, which may lack some of that: it would be
/// written twice.
#[test]
fn who_writes_again_does_not_join_anew() -> Check {
    let mut world = forgotten_with_a_tail(Rules::default())?;
    assert_eq!(world.join_by(F, A, JoinData::Refuse, true)?, None);
    for member in [A, B, C] {
        world.pull(A, member)?;
        world.pull(F, member)?;
        world.tell(member, F)?;
    }
    world.pull(A, F)?;
    world.go_on_joining(F)?;
    world.pull(F, A)?;
    let refused = world.join_by(F, B, JoinData::Refuse, true)?;
    assert!(refused.is_some_and(|why| why.starts_with("TRYAGAIN ")), "it would count twice");
    is_in(&mut world)
}

/// Found by the simulation (seeds 17180009192, 1882922039644723): what F wrote again replaced another type, and uncovered what had lost against that: at
/// F, which had just read it, and not at who had pruned it (rule 4).
#[test]
fn m12_what_is_written_again_uncovers_nothing() -> Check {
    let mut world = world(4, Rules::default());
    world.settle()?;
    world.command(F, "k", Command::IncrBy(5))?;
    world.forget(A, F)?;
    world.command(A, "k", Command::IncrBy(1))?;
    world.command(B, "k", Command::SAdd("b".into()))?;
    world.heal()?;
    assert_eq!(world.instances[C].keyspace.kind(0, b"k"), Some(Kind::Set));
    assert_eq!(world.join_by(F, A, JoinData::Refuse, true)?, None);
    world.heal()?;
    assert_eq!(world.group(), [A, B, C, F]);
    world.all_show("k", Some("5"))
}

/// Found by the simulation (seed 1882923149036267): B had not heard that F was out, nor of F but its effects, and let it join as if asked again: without a
/// `Join`, so nobody took the new reign.
#[test]
fn m8_who_does_not_know_that_somebody_is_out_does_not_let_it_in() -> Check {
    let mut world = world(4, Rules::default());
    world.command(F, "k", set("v"))?;
    // Everything but reports.
    for _ in 0..2 {
        for (from, to) in [A, B, C, F].into_iter().flat_map(|from| [A, B, C, F].map(|to| (from, to))) {
            if from != to {
                world.pull(from, to)?;
            }
        }
    }
    world.forget(A, F)?;
    // The stream ends, and who asks again is told.
    world.pull(A, F)?;
    world.pull(A, F)?;
    let refused = world.join_by(F, B, JoinData::Refuse, true)?;
    assert!(refused.is_some_and(|why| why.starts_with("ERR instance 4 is a member already")));
    world.heal()?;
    assert_eq!(world.group(), [A, B, C]);
    assert_eq!(world.join_by(F, B, JoinData::Refuse, true)?, None);
    world.heal()?;
    assert_eq!(world.group(), [A, B, C, F]);
    world.all_show("k", Some("v"))
}
