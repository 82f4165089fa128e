//! The cases of membership (MERGE_RULES section 3), like [`super::cases`].

use syncer_shared::instance::InstanceSet;
use syncer_shared::keyspace::Keyspace;
use syncer_shared::merge::Rules;
use syncer_shared::shard::JoinData;

use super::cases::{A, B, C, check, plan, set, world};
use super::client::Command;
use super::join_cases::forgotten_with_a_tail;
use super::{Check, Plan, World};

const F: usize = 3;

impl World {
    /// M4.
    fn has_settled(&self, instance: usize, out: usize) -> bool {
        let out = self.instances[out].id;
        self.instances[instance].shard.membership().forgotten(out).is_some_and(|forgotten| forgotten.settled)
    }
}

/// M3: A prunes what F lacks; F's DEL reaches A through C, and A must not delete what the others keep.
#[test]
fn m3_who_was_forgotten_holds_the_stable_clock_until_all_know() {
    let steps = |rules: Rules| {
        let mut world = world(4, Rules { regressed_reassert: false, ..rules });
        world.command(F, "k", set("old"))?;
        world.settle()?;
        world.command(A, "k", set("new"))?;
        world.command(F, "k", Command::Del)?;
        // C has F's DEL before it hears of the Forget.
        world.pull(F, C)?;
        world.forget(A, F)?;
        for (source, target) in [(A, B), (B, A)] {
            world.pull(source, target)?;
            world.tell(source, target)?;
        }
        // C has A's write, not yet the Forget: its report lacks that.
        world.pull(A, C)?;
        world.tell(C, A)?;
        world.tell(B, A)?;
        world.prune(A, usize::MAX)?;
        let relay = world.link(C, A);
        world.links[relay].want(InstanceSet::ALL);
        world.pull(C, A)?;
        world.shows(A, "k", Some("new"))?;
        world.heal()
    };
    check(steps, |rules| rules.forget_settles = false);
}

/// M2: what F sent to some comes to all by them; F is told, and what it wrote alone stays with it.
#[test]
fn m2_effects_of_a_forgotten_instance_come_by_members_only() {
    let steps = |rules: Rules| {
        let mut world = world(4, rules);
        world.settle()?;
        world.command(F, "shared", set("1"))?;
        world.pull(F, C)?;
        world.forget(A, F)?;
        world.command(F, "late", set("1"))?;
        if world.pull(F, A)? > 0 {
            return Err("A reads it still".into());
        }
        // The connection ends, and the next handshake tells why.
        world.pull(A, F)?;
        world.pull(A, F)?;
        assert!(!world.instances[F].shard.takes_writes(), "F was told");
        world.heal()?;
        assert_eq!(world.group(), [A, B, C]);
        for member in [A, B, C] {
            world.shows(member, "shared", Some("1"))?;
            world.shows(member, "late", None)?;
            assert!(world.has_settled(member, F));
        }
        world.shows(F, "late", Some("1"))
    };
    check(steps, |rules| rules.forgotten_is_not_read = false);
}

/// M5: two dead at once; each Forget waits only for those who are still members.
#[test]
fn m5_several_are_forgotten_at_once() -> Check {
    let mut world = world(4, Rules::default());
    world.command(A, "k", set("1"))?;
    world.settle()?;
    world.forget(A, C)?;
    world.forget(B, F)?;
    world.command(B, "k", set("2"))?;
    world.heal()?;
    assert_eq!(world.group(), [A, B]);
    world.shows(A, "k", Some("2"))
}

/// Found by the simulation (seed 1276): B has an effect of F that it hands to C alone, and is then forgotten, too. A must not take F for settled
/// as long as C can have that from B.
#[test]
fn m5_who_is_forgotten_later_has_effects_of_who_was_forgotten_before() {
    let steps = |rules: Rules| {
        let mut world = world(4, rules);
        world.settle()?;
        world.command(F, "k", set("f"))?;
        world.forget(A, F)?;
        world.pull(A, C)?;
        world.pull(C, A)?;
        world.tell(C, A)?;
        world.pull(F, B)?;
        let relay = world.link(B, C);
        world.links[relay].want(InstanceSet::ALL);
        world.pull(B, C)?;
        world.forget(A, B)?;
        world.tell(C, A)?;
        world.heal()?;
        assert_eq!(world.group(), [A, C]);
        world.shows(A, "k", Some("f"))
    };
    check(steps, |rules| rules.forgets_settle_together = false);
}

/// M7: who hears that it is out keeps what it has, and takes nothing more, which would reach nobody.
#[test]
fn m7_who_was_forgotten_takes_no_writes() {
    let steps = |rules: Rules| {
        let mut world = world(4, rules);
        world.command(A, "k", set("old"))?;
        world.settle()?;
        world.forget(A, F)?;
        // The connection ends, and the next handshake tells why.
        world.pull(A, F)?;
        world.pull(A, F)?;
        world.command(F, "late", set("1"))?;
        world.heal()?;
        world.shows(F, "k", Some("old"))?;
        let taken = world.instances[F].keyspace.string(0, b"late");
        world.shows(A, "late", taken.as_deref().and_then(|value| std::str::from_utf8(value).ok()))
    };
    check(steps, |rules| rules.forgotten_takes_no_writes = false);
}

/// M14: two forget each other; the third applies both, and both are out.
#[test]
fn m14_who_forget_each_other_are_both_out() -> Check {
    let mut world = world(4, Rules::default());
    world.command(A, "k", set("1"))?;
    world.settle()?;
    world.forget(A, B)?;
    world.forget(B, A)?;
    world.pull(B, C)?;
    world.pull(A, F)?;
    world.heal()?;
    assert_eq!(world.group(), [C, F]);
    world.command(C, "k", set("2"))?;
    world.heal()?;
    world.shows(F, "k", Some("2"))
}

/// M6: a member restored from before a Forget brings effects that nobody can have any more.
#[test]
fn m6_effects_from_before_a_settled_forget_are_refused() {
    let steps = |rules: Rules| {
        let mut world = world(4, rules);
        world.settle()?;
        let backup = world.instances[B].logged();
        world.command(F, "k", set("late"))?;
        world.forget(A, F)?;
        for _ in 0..3 {
            for (from, to) in [(A, B), (B, A), (A, C), (C, A), (B, C), (C, B)] {
                world.pull(from, to)?;
                world.tell(from, to)?;
            }
        }
        assert!(world.has_settled(A, F));
        // It reads from F as if nothing had been.
        world.fail_over(B, backup)?;
        assert_eq!(world.pull(F, B)?, 1);
        let relay = world.link(B, A);
        world.links[relay].want(InstanceSet::ALL);
        let taken = world.pull(B, A)?;
        if taken > 0
            || !world.links[relay].error.contains("SYNCERMEMBER effects of instance 4 from before it was forgotten")
        {
            return Err(format!("A takes {taken} groups that C cannot have: {}", world.links[relay].error));
        }
        world.shows(A, "k", None)
    };
    check(steps, |rules| rules.from_before_is_refused = false);
}

/// M8: who sponsors must know of every change of membership that the joining instance knows of.
#[test]
fn m8_a_sponsor_knows_every_change_that_its_protege_knows() {
    let steps = |rules: Rules| {
        let mut world = forgotten_with_a_tail(rules)?;
        world.forget(B, A)?;
        assert_eq!(world.join_by(F, B, JoinData::Refuse, true)?, None);
        world.pull(B, F)?;
        match world.join_by(F, A, JoinData::Refuse, true)? {
            Some(why) if why.starts_with("SYNCERMEMBER") => Ok(()),
            other => Err(format!("A sponsors although it has not heard that it is out: {other:?}")),
        }
    };
    check(steps, |rules| rules.sponsor_knows_all = false);
}

/// M11: who joins takes no writes before every member knows.
#[test]
fn m11_who_joins_takes_no_writes_until_all_know() {
    let steps = |rules: Rules| {
        let mut world = forgotten_with_a_tail(rules)?;
        assert_eq!(world.join_by(F, A, JoinData::Refuse, true)?, None);
        world.command(F, "early", set("x"))?;
        world.shows(F, "early", None)
    };
    check(steps, |rules| rules.joining_takes_no_writes = false);
}

/// The other policy: what the group has stays, and only what it has not is written again.
#[test]
fn m12_the_group_wins_if_so_wanted() -> Check {
    let mut world = forgotten_with_a_tail(Rules::default())?;
    assert_eq!(world.join_by(F, B, JoinData::Refuse, false)?, None);
    world.heal()?;
    world.all_show("k", Some("old"))?;
    world.all_show("n", Some("6"))?;
    world.all_show("s", Some("a string"))
}

/// M8: a sponsor that is not sure that all know of the Forget must wait: it may still get by others what F would write again.
#[test]
fn m8_nobody_joins_again_before_all_know_that_it_was_forgotten() {
    let steps = |rules: Rules| {
        let mut world = world(4, rules);
        world.command(F, "n", Command::IncrBy(1))?;
        world.settle()?;
        world.command(F, "n", Command::IncrBy(5))?;
        world.pull(F, C)?;
        world.forget(A, F)?;
        world.pull(A, F)?;
        world.pull(A, F)?;
        world.join_by(F, A, JoinData::Refuse, true)?;
        world.heal()?;
        world.join_by(F, A, JoinData::Refuse, true)?;
        world.heal()?;
        world.all_show("n", Some("6"))
    };
    check(steps, |rules| rules.rejoin_when_settled = false);
}

/// Found by the simulation (seed 0, with random joins): C gets the Join and the new reign of F in one batch, from a relay.
#[test]
fn a_join_and_what_follows_it_come_in_one_batch() -> Check {
    let mut world = forgotten_with_a_tail(Rules::default())?;
    assert_eq!(world.join_by(F, A, JoinData::Refuse, true)?, None);
    world.pull(A, B)?;
    world.pull(F, B)?;
    let relay = world.link(B, C);
    world.links[relay].want(InstanceSet::ALL);
    world.pull(B, C)?;
    world.heal()?;
    world.all_show("n", Some("6"))
}

/// A new instance with data of its own.
#[test]
fn the_data_of_a_newcomer_is_refused_replaced_or_merged() -> Check {
    for (data, shown) in [(JoinData::Replace, None), (JoinData::Merge, Some("c"))] {
        let mut world = world(2, Rules::default());
        world.command(A, "k", set("a"))?;
        world.settle()?;
        world.join()?;
        world.command(C, "l", set("c"))?;
        assert!(world.join_by(C, A, JoinData::Refuse, true)?.is_some(), "it has data");
        assert_eq!(world.join_by(C, A, data, true)?, None);
        world.command(A, "m", set("meanwhile"))?;
        world.heal()?;
        world.all_show("k", Some("a"))?;
        world.all_show("l", shown)?;
        world.all_show("m", Some("meanwhile"))?;
        world.command(C, "k", set("c"))?;
        world.heal()?;
        world.all_show("k", Some("c"))?;
    }
    Ok(())
}

/// The sponsor dies before the new instance has anything: it joins by another.
#[test]
fn a_join_goes_on_with_another_sponsor() -> Check {
    let mut world = forgotten_with_a_tail(Rules::default())?;
    assert_eq!(world.join_by(F, A, JoinData::Refuse, true)?, None);
    world.pull(A, B)?;
    world.forget(B, A)?;
    world.heal()?;
    assert_eq!(world.group(), [B, C, F]);
    world.command(F, "k", set("in"))?;
    world.heal()?;
    world.shows(B, "k", Some("in"))
}

/// A third site writes as soon as a member has admitted it, before it has read anything: what it had not seen, it takes nothing of (2.2 rule 5).
#[test]
fn a_newcomer_takes_nothing_that_it_had_not_seen() {
    let steps = |rules: Rules| {
        let mut world = world(2, rules);
        world.command(A, "k", set("v"))?;
        world.settle()?;
        world.join()?;
        let to_newcomer = world.link(A, C);
        world.connect(to_newcomer);
        world.command(C, "k", set("w"))?;
        world.command(C, "k", Command::Del)?;
        world.pull(C, A)?;
        world.shows(A, "k", Some("v"))?;
        world.command(C, "l", set("w"))?;
        world.heal()?;
        world.all_show("l", Some("w"))?;
        world.all_show("k", Some("v"))
    };
    check(steps, |rules| rules.regressed_reassert = false);
}

/// A site with data of its own that nobody asked for is no member of a group that relies on what is stable.
#[test]
fn a_stranger_with_data_is_not_admitted() -> Check {
    let mut world = world(2, Rules::default());
    world.command(A, "k", set("v"))?;
    world.settle()?;
    world.join()?;
    world.command(C, "l", set("w"))?;
    assert_eq!(world.pull(A, C)?, 0);
    let link = world.link(A, C);
    assert!(world.links[link].error.starts_with("SYNCERMEMBER "), "{}", world.links[link].error);
    assert_eq!(world.instances[A].shard.membership().members().len(), 2);
    Ok(())
}

/// Found by the simulation (seed 107, with Forgets): a newcomer that has read nothing yet admitted one that its group had forgotten.
#[test]
fn who_is_alone_admits_nobody_of_a_group() -> Check {
    let mut world = world(2, Rules::default());
    world.command(A, "k", set("v"))?;
    world.settle()?;
    world.join()?;
    assert_eq!(world.pull(C, A)?, 0);
    let link = world.link(C, A);
    assert!(world.links[link].error.starts_with("TRYAGAIN "), "{}", world.links[link].error);
    world.heal()
}

/// A, B and C, who was forgotten before anybody had its last write, and has not been told. A newcomer is let in by A, and reads C before the group.
fn newcomer_of_both_halves() -> Result<World, String> {
    let mut world = world(3, Rules::default());
    world.settle()?;
    world.command(C, "k", set("tail"))?;
    world.forget(A, C)?;
    for (from, to) in [(A, B), (B, A), (A, B)] {
        world.pull(from, to)?;
        world.tell(from, to)?;
    }
    for member in [A, B] {
        assert!(world.has_settled(member, C));
    }
    world.join()?;
    let asks = world.link(A, F);
    world.connect(asks);
    for relay in [world.link(C, F), world.link(F, A)] {
        world.links[relay].want(InstanceSet::ALL);
    }
    world.pull(C, F)?;
    world.shows(F, "k", Some("tail"))?;
    Ok(world)
}

/// Found by the simulation (seeds 33, 255, 2379, 2729): the members had settled the Forget without the newcomer, and refused for ever what it brought.
#[test]
fn m4_who_joins_may_still_bring_effects_of_who_was_forgotten() -> Check {
    let mut world = newcomer_of_both_halves()?;
    world.pull(F, A)?;
    world.shows(A, "k", Some("tail"))?;
    assert!(!world.has_settled(A, C), "the newcomer has not reported that it has the Forget");
    world.heal()?;
    assert_eq!(world.group(), [A, B, F]);
    for member in [A, B, F] {
        world.shows(member, "k", Some("tail"))?;
        assert!(world.has_settled(member, C));
    }
    Ok(())
}

/// The same, but B hears of the newcomer by a snapshot.
#[test]
fn m4_who_joins_is_known_by_a_snapshot_too() -> Check {
    let mut world = newcomer_of_both_halves()?;
    world.sync(A, B)?;
    world.step_sync(B, usize::MAX)?;
    assert!(!world.instances[B].shard.is_syncing());
    assert!(!world.has_settled(B, C));
    world.heal()?;
    world.shows(B, "k", Some("tail"))
}

/// M4: B's agent has copied a snapshot of C before B hears that C is out. Merged after that, it would bring effects of C when A has settled the `Forget`,
/// and no longer keeps what these had not seen.
#[test]
fn m4_a_snapshot_of_who_was_forgotten_since_is_not_taken() -> Check {
    let mut world = world(3, Rules::default());
    world.settle()?;
    world.command(C, "k", set("tail"))?;
    let link = world.link(C, B);
    assert!(world.copy_snapshot(link));
    world.forget(A, C)?;
    world.settle()?;
    assert!(world.has_settled(A, C));
    for _ in 0..3 {
        world.step_sync(B, usize::MAX)?;
    }
    world.heal()?;
    assert_eq!(world.group(), [A, B]);
    world.shows(A, "k", None)?;
    world.shows(B, "k", None)
}

/// Found by the simulation (seeds 334844, 2016966): an old backup loses the `Join` of a member. What that has written is taken all the same.
#[test]
fn a_member_whose_join_was_lost_is_admitted_again() -> Check {
    let mut world = world(2, Rules::default());
    world.command(A, "k", set("v"))?;
    world.settle()?;
    let before = world.instances[A].logged();
    world.join()?;
    world.pull(A, C)?;
    world.command(C, "l", set("w"))?;
    world.fail_over(A, before)?;
    assert_eq!(world.instances[A].shard.membership().members().len(), 2);
    world.pull(C, A)?;
    world.shows(A, "l", Some("w"))?;
    world.heal()?;
    world.all_show("l", Some("w"))
}

/// Found by the simulation (seeds 301050, 201929): A asked B where to read, in a reign that it lost before B had read anything of it.
#[test]
fn a_reign_that_was_lost_before_anybody_read_it_is_not_asked_for() -> Check {
    // Of a group that relies on what is stable: A must be let read there first.
    let mut world = World::new(&Plan { backlog_bytes: 500, ..plan(2, Rules::default()) }, false);
    let all = world.instances[A].logged();
    world.fail_over(A, all)?;
    let asks = world.link(B, A);
    world.connect(asks);
    world.fail_over(A, 1)?;
    for _ in 0..20 {
        world.command(B, "l", set("some value"))?;
    }
    world.command(A, "k", set("v"))?;
    world.heal()?;
    world.all_show("k", Some("v"))
}

/// Found by the simulation (seed 1882923498211481): A told C that it was out, and was forgotten itself. C is in by a `Join` that the Forget had not seen
/// (M13), but A never tells it so.
#[test]
fn m7_who_is_in_again_need_not_hear_it_from_who_said_it_was_out() -> Check {
    let mut world = world(3, Rules::default());
    world.settle()?;
    world.forget(A, C)?;
    world.pull(A, B)?;
    // A newcomer that has read nothing lets C in.
    world.join()?;
    world.pull(F, C)?;
    world.pull(F, B)?;
    world.forget(B, A)?;
    for (from, to) in [(A, C), (B, A)] {
        // The stream ends, and who asks again is told.
        world.pull(from, to)?;
        world.pull(from, to)?;
        assert!(!world.instances[to].shard.takes_writes());
    }
    let history = world.link(B, F);
    world.links[history].want(InstanceSet::ALL);
    world.pull(B, F)?;
    world.heal()?;
    assert_eq!(world.group(), [B, C, F]);
    assert!(world.instances[C].shard.takes_writes());
    world.command(C, "k", set("v"))?;
    world.heal()?;
    world.shows(B, "k", Some("v"))
}
