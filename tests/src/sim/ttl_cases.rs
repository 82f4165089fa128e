//! The cases of TTLs (MERGE_RULES section 2), like [`super::cases`].

use syncer_shared::instance::InstanceSet;
use syncer_shared::keyspace::Keyspace;
use syncer_shared::merge::Rules;

use super::cases::{A, B, C, check, plan, set, world};
use super::client::Command;
use super::plan::Failover;
use super::{Check, Plan, World};

/// MERGE_RULES T1: a TTL that was set, shorter or not, counts more than the one that a concurrent write has seen.
#[test]
fn t1_a_ttl_that_was_set_is_stronger_than_one_that_was_seen() {
    let steps = |rules: Rules| {
        let mut world = world(2, rules);
        let at = world.now_ms as i64 + 10_000;
        world.command(A, "k", Command::Set("1".into(), Some(at + 90_000)))?;
        world.pull(A, B)?;
        world.command(A, "k", Command::IncrBy(1))?;
        world.command(B, "k", Command::ExpireAt(at))?;
        world.pull(A, B)?;
        world.pull(B, A)?;
        for instance in [A, B] {
            let expires = world.instances[instance].keyspace.expire_at(0, b"k");
            if expires != Some(at) {
                return Err(format!("it expires at {expires:?}, not {at}"));
            }
        }
        world.heal()
    };
    check(steps, |rules| rules.strong_ttl = false);
}

/// MERGE_RULES T2: a counter that expires elsewhere keeps the TTL that its increment saw.
#[test]
fn t2_a_counter_never_lives_on_without_ttl() {
    let steps = |rules: Rules| {
        let mut world = world(2, rules);
        let at = world.now_ms as i64 + 10_000;
        world.command(A, "k", Command::Set("1".into(), Some(at)))?;
        world.pull(A, B)?;
        world.tick(9_900);
        world.command(B, "k", Command::IncrBy(1))?;
        world.tick(200);
        world.expire(A)?;
        world.pull(A, B)?;
        world.pull(B, A)?;
        match world.instances[A].keyspace.expire_at(0, b"k") {
            Some(expires) if expires == at => world.heal(),
            other => Err(format!("the TTL is {other:?}")),
        }
    };
    check(steps, |rules| rules.weak_ttl = false);
}

/// MERGE_RULES T5: C makes the key that A expires. The TTL of the one that is gone is not that of the new one, neither where all of it was known nor where
/// both meet.
#[test]
fn t5_an_expiry_takes_its_ttl_along() {
    let steps = |rules: Rules| {
        let mut world = world(3, rules);
        let at = world.now_ms as i64 + 10_000;
        world.command(A, "k", Command::SAdd("a".into()))?;
        world.command(A, "k", Command::ExpireAt(at))?;
        world.pull(A, B)?;
        world.tick(10_100);
        world.command(C, "k", Command::SAdd("c".into()))?;
        world.pull(C, B)?;
        world.expire(A)?;
        world.pull(C, A)?;
        world.pull(A, B)?;
        for instance in [A, B] {
            let keyspace = &mut world.instances[instance].keyspace;
            let (expires, is_there) = (keyspace.expire_at(0, b"k"), keyspace.has_member(0, b"k", b"c"));
            if expires.is_some() || !is_there {
                return Err(format!("it expires at {expires:?}, is there: {is_there}"));
            }
        }
        world.heal()
    };
    check(steps, |rules| rules.expiry_takes_ttl = false);
}

/// MERGE_RULES T6: B had extended what A expires.
#[test]
fn t6_what_was_extended_lives_on() {
    let steps = |rules: Rules| {
        let mut world = world(3, rules);
        let at = world.now_ms as i64 + 10_000;
        world.command(A, "k", Command::Set("v".into(), Some(at)))?;
        world.pull(A, B)?;
        world.pull(A, C)?;
        world.command(B, "k", Command::ExpireAt(at + 40_000))?;
        world.tick(10_100);
        world.expire(A)?;
        world.pull(A, B)?;
        world.shows(B, "k", Some("v"))?;
        world.pull(B, A)?;
        world.pull(A, C)?;
        world.pull(B, C)?;
        world.all_show("k", Some("v"))?;
        world.heal()
    };
    check(steps, |rules| rules.expiry_reassert = false);
}

/// MERGE_RULES T7: what is written again after an expiry must not hide a newer write.
#[test]
fn t7_what_is_asserted_again_ranks_below_what_clients_write() {
    let steps = |rules: Rules| {
        let mut world = world(3, rules);
        let at = world.now_ms as i64 + 10_000;
        world.command(A, "k", Command::Set("old".into(), Some(at)))?;
        world.pull(A, B)?;
        world.pull(A, C)?;
        world.command(C, "k", Command::Append("new".into()))?;
        world.command(B, "k", Command::ExpireAt(at + 40_000))?;
        world.tick(10_100);
        world.expire(A)?;
        world.pull(A, B)?;
        world.pull(A, C)?;
        world.pull(B, C)?;
        world.shows(C, "k", Some("new"))?;
        world.pull(C, A)?;
        world.pull(B, A)?;
        world.pull(C, B)?;
        world.all_show("k", Some("new"))?;
        world.heal()
    };
    check(steps, |rules| rules.reassert_flag = false);
}

/// A has expired what C had extended, of which B alone has heard.
fn expired_against_one_that_is_lost(rules: Rules) -> Result<World, String> {
    let mut world = world(3, rules);
    world.settle()?;
    let at = world.now_ms as i64 + 10_000;
    world.command(A, "k", Command::Set("v".into(), Some(at)))?;
    world.pull(A, B)?;
    world.pull(A, C)?;
    world.command(C, "k", Command::ExpireAt(at + 4_000_000))?;
    world.pull(C, B)?;
    world.tick(10_100);
    world.expire(A)?;
    world.pull(A, B)?;
    Ok(world)
}

/// MERGE_RULES T8: C extended what A expires, and is lost after B alone has heard of it.
#[test]
fn t8_what_a_lost_instance_had_extended_lives_on() {
    let steps = |rules: Rules| {
        let mut world = expired_against_one_that_is_lost(rules)?;
        world.shows(B, "k", None)?;
        world.forget(A, C)?;
        world.heal()?;
        for instance in [A, B] {
            world.shows(instance, "k", Some("v"))?;
        }
        Ok(())
    };
    check(steps, |rules| rules.orphans_are_revived = false);
}

/// Found by the simulation (seed 1004572): the key was written anew before C was forgotten. What C had extended took that away.
#[test]
fn what_was_written_since_outranks_what_a_lost_instance_had_extended() -> Check {
    for since in [set("new"), Command::SAdd("m".into())] {
        let mut world = expired_against_one_that_is_lost(Rules::default())?;
        world.command(B, "k", since)?;
        let written = world.instances[B].keyspace.clone();
        world.forget(A, C)?;
        world.heal()?;
        for instance in [A, B] {
            assert_eq!(world.instances[instance].keyspace.entries(), written.entries());
        }
    }
    Ok(())
}

/// Found by the simulation (seed 5629): A had pruned the TTL of a key that it had emptied; a field that B added at the same time
/// brings the TTL along, although B knows of a creation that would outrank the note.
#[test]
fn a_write_to_a_key_that_was_emptied_brings_its_ttl_along() -> Check {
    let mut world = world(2, Rules::default());
    world.settle()?;
    let at = world.now_ms as i64 + 10_000;
    world.command(A, "k", Command::Append("v".into()))?;
    world.command(B, "k", Command::HIncrBy("f".into(), 1))?;
    world.command(A, "k", Command::ExpireAt(at))?;
    world.pull(A, B)?;
    world.pull(B, A)?;
    world.command(A, "k", Command::HDel("f".into()))?;
    world.tell(B, A)?;
    world.prune(A, usize::MAX)?;
    world.command(B, "k", Command::HSet("g".into(), "2".into()))?;
    world.pull(B, A)?;
    assert_eq!(world.instances[A].keyspace.expire_at(0, b"k"), Some(at));
    world.pull(A, B)?;
    world.heal()
}

/// Found by the simulation (seed 111866): at B a hash without TTL was all stable, while A, who had not seen the DEL, noted the TTL that it removed.
#[test]
fn a_stable_key_without_ttl_stays_so_until_all_know_what_was_removed() {
    let steps = |rules: Rules| {
        let mut world = world(2, rules);
        world.settle()?;
        let at = world.now_ms as i64 + 10_000;
        world.command(B, "k", Command::Set("v".into(), Some(at)))?;
        world.command(A, "k", Command::HSet("f".into(), "1".into()))?;
        world.pull(B, A)?;
        world.command(B, "k", Command::Del)?;
        world.pull(A, B)?;
        world.tell(A, B)?;
        world.prune(B, usize::MAX)?;
        world.command(A, "k", Command::HSet("g".into(), "2".into()))?;
        world.pull(A, B)?;
        world.pull(B, A)?;
        world.heal()
    };
    check(steps, |rules| rules.ttl_grace = false);
}

/// Found by the simulation (seed 3001886): C had expired the key, so a TTL that came later dangled there, was stable and dropped.
/// B, who had seen it and not the expiry, noted a later one.
#[test]
fn a_ttl_without_a_key_stays_until_all_know_that_the_key_is_gone() {
    let steps = |rules: Rules| {
        let mut world = world(3, rules);
        world.command(A, "k", Command::HSet("f".into(), "1".into()))?;
        world.settle()?;
        let now = world.now_ms as i64;
        world.command(B, "k", Command::ExpireAt(now + 60_000))?;
        world.pull(B, C)?;
        world.command(C, "k", Command::Del)?;
        world.command(A, "k", Command::ExpireAt(now + 40_000))?;
        world.pull(A, C)?;
        world.pull(A, B)?;
        world.tell(A, C)?;
        world.tell(B, C)?;
        world.prune(C, usize::MAX)?;
        world.command(B, "k", Command::HSet("g".into(), "2".into()))?;
        world.pull(B, C)?;
        world.heal()
    };
    check(steps, |rules| rules.ttl_grace = false);
}

/// Found by the simulation (seed 3022496): a regressed DEL of a key without TTL uncovered an older TTL where that was not pruned yet.
#[test]
fn what_an_old_backup_endangers_keeps_having_no_ttl() -> Check {
    let mut world = world(3, Rules::default());
    world.settle()?;
    let at = world.now_ms as i64 + 60_000;
    let backup = world.instances[C].logged();
    world.command(C, "k", Command::Set("v".into(), Some(at)))?;
    world.settle()?;
    world.fail_over(C, backup)?;
    world.command(C, "k", set("w"))?;
    world.pull(C, A)?;
    world.tell(C, A)?;
    world.command(C, "k", Command::Del)?;
    world.pull(C, A)?;
    world.heal()
}

/// Found by the simulation (seed 12884905915): a TTL that was set while the key was deleted dangles until all know that; then who had lost that makes the
/// key again. It has the TTL where that is not dropped, or comes once more.
#[test]
fn a_key_that_an_old_backup_makes_again_has_no_older_ttl() -> Check {
    let times = |world: &World| [20_000, 60_000].map(|ms| world.now_ms as i64 + ms);
    let makes = [
        |_| Command::HSet("f".into(), "2".into()),
        |_| Command::PfAdd(vec!["1".into()]),
        |[sooner, _]: [i64; 2]| Command::Set("w".into(), Some(sooner)),
    ];
    for make in makes {
        let mut world = world(2, Rules::default());
        world.command(A, "k", set("v"))?;
        world.settle()?;
        let times = times(&world);
        world.command(A, "k", Command::ExpireAt(times[1]))?;
        world.command(B, "k", Command::Del)?;
        world.settle()?;
        world.fail_over(B, 1)?;
        world.command(B, "k", make(times))?;
        world.pull(B, A)?;
        let expected = if let Command::Set(_, at) = make(times) { at } else { None };
        assert_eq!(world.instances[A].keyspace.expire_at(0, b"k"), expected);
        world.heal()?;
    }
    Ok(())
}

/// Found by the simulation (seed 12891013111): who came back gave a key a TTL without having seen that it has none, and had caught up when a snapshot of it
/// was taken: only there the two showed beside each other.
#[test]
fn a_snapshot_of_who_came_back_brings_no_ttl_to_a_key_that_has_none() -> Check {
    let plan = Plan { failover: Failover::LosesAnything, ..plan(3, Rules::default()) };
    let mut world = World::new(&plan, false);
    let at = world.now_ms as i64 + 60_000;
    world.settle()?;
    let backup = world.instances[C].logged();
    world.command(A, "k", set("v"))?;
    world.settle()?;
    world.fail_over(C, backup)?;
    world.command(C, "k", Command::AppendPart("w".into()))?;
    world.command(C, "k", Command::ExpireAt(at))?;
    world.command(A, "k", Command::Append("x".into()))?;
    // What it had lost of its own, too: it is not behind any more.
    let link = world.link(A, C);
    world.links[link].want(InstanceSet::ALL);
    world.pull(A, C)?;
    world.pull(B, C)?;
    let stable = world.instances[A].shard.status().stable;
    assert!(world.instances[C].shard.clock_token().covers(&stable), "it has caught up");
    assert_eq!(world.instances[C].keyspace.expire_at(0, b"k"), None);
    for target in [A, B] {
        world.sync(C, target)?;
        assert_eq!(world.instances[target].keyspace.expire_at(0, b"k"), None);
    }
    world.heal()
}

/// The same of a counter that has a TTL in the old backup: that is what counts (T2).
#[test]
fn a_counter_that_an_old_backup_makes_again_keeps_the_ttl_that_it_had() -> Check {
    let mut world = world(2, Rules::default());
    let at = world.now_ms as i64 + 40_000;
    world.command(A, "k", Command::Set("5".into(), Some(at)))?;
    world.settle()?;
    let backup = world.instances[B].logged();
    world.command(A, "k", Command::ExpireAt(at + 10_000))?;
    world.command(B, "k", Command::Del)?;
    world.settle()?;
    world.fail_over(B, backup)?;
    world.command(B, "k", Command::IncrBy(1))?;
    world.pull(B, A)?;
    assert_eq!(world.instances[A].keyspace.expire_at(0, b"k"), Some(at));
    world.heal()
}

/// T10: the TTL of a field is merged as that of a key (T4): of several that were set at the same time none wins, else the latest, whoever was the last.
#[test]
fn t10_of_several_ttls_of_a_field_none_shows_or_the_latest() -> Check {
    for (left, right, shown) in
        [(Some(10), Some(50), Some(50)), (Some(50), Some(10), Some(50)), (None, Some(10), None), (Some(10), None, None)]
    {
        let mut world = world(2, Rules::default());
        let at = |s: i64| world.now_ms as i64 + s * 1000;
        let [first, left, right, shown] = [Some(5), left, right, shown].map(|s| s.map(at));
        world.command(A, "h", Command::HSet("f".into(), "v".into()))?;
        world.command(A, "h", Command::HExpireAt("f".into(), first))?;
        world.settle()?;
        world.command(A, "h", Command::HExpireAt("f".into(), left))?;
        world.command(B, "h", Command::HExpireAt("f".into(), right))?;
        world.pull(A, B)?;
        world.pull(B, A)?;
        for instance in [A, B] {
            assert_eq!(world.instances[instance].keyspace.field_expire_at(0, b"h", b"f"), shown, "{}", instance + 1);
        }
        world.heal()?;
    }
    Ok(())
}
