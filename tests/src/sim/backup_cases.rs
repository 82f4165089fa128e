//! The cases of old backups (2.2 rule 5), like [`super::cases`]. Those of streams, strings in part and full syncs are with these.

use syncer_shared::effect::{FlushScope, Value};
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
    // What nobody has lost, what only the file has without a dot, and what is added when that is lost: rising or falling.
    for (kept, lost, more) in
        [(0, 17, [5, 5]), (1000, 17, [5, 5]), (1000, -17, [5, 5]), (1000, -17, [-5, -5]), (1000, 17, [5, -7])]
    {
        let add = |by: i64| Command::HIncrBy("f".into(), by);
        let before: Vec<Command> = (kept > 0).then(|| add(kept)).into_iter().collect();
        let all = (kept + lost + 20 + more[0] + more[1]).to_string();
        old_snapshot_with_an_entry(&before, &[add(lost)], &more.map(add), &|world, at| {
            shows_field(world, at, "f", &all)
        })
        .map_err(|error| format!("{kept}, {lost}, {more:?}: {error}"))?;
    }
    Ok(())
}

/// The same of other paths of that key: what the file has of them is newer than what the others have, and nobody has a dot of it.
#[test]
fn what_only_an_old_snapshot_has_of_another_field_is_not_hidden_by_what_is_asserted() -> Check {
    let (text, add) = (|text: &str| Command::HSet("t".into(), text.into()), |by| Command::HIncrBy("f".into(), by));
    let shows = |world: &mut World, at: usize| {
        shows_field(world, at, "t", "new")?;
        shows_field(world, at, "f", "30")
    };
    old_snapshot_with_an_entry(&[text("old")], &[text("new")], &[5, 5].map(add), &shows)?;
    // What was written when that was lost is newer.
    let shows_newest = |world: &mut World, at: usize| shows_field(world, at, "t", "newest");
    old_snapshot_with_an_entry(&[text("old")], &[text("new")], &[text("newest"), add(5)], &shows_newest)?;
    let count = |by| Command::HIncrBy("n".into(), by);
    let shows = |world: &mut World, at: usize| {
        shows_field(world, at, "n", "1017")?;
        shows_field(world, at, "f", "30")
    };
    old_snapshot_with_an_entry(&[count(1000)], &[count(17)], &[5, 5].map(add), &shows)
}

/// The same of the TTL: one that only the file has, where the others have none, or another one.
#[test]
fn a_ttl_that_only_an_old_snapshot_has_is_not_hidden_by_what_is_asserted() -> Check {
    let far = 10_000_000_000_000;
    for before in [None, Some(far + 5000)] {
        let add = |by| Command::HIncrBy("f".into(), by);
        let shows = |world: &mut World, at: usize| match world.instances[at].keyspace.expire_at(0, b"h") {
            Some(expires) if expires == far => shows_field(world, at, "f", "30"),
            expires => Err(format!("{} expires at {expires:?}", at + 1)),
        };
        let before: Vec<Command> = before.map(Command::ExpireAt).into_iter().collect();
        old_snapshot_with_an_entry(&before, &[Command::ExpireAt(far)], &[5, 5].map(add), &shows)
            .map_err(|error| format!("{before:?}: {error}"))?;
    }
    Ok(())
}

fn shows_field(world: &mut World, at: usize, field: &str, value: &str) -> Check {
    let shown = world.instances[at].keyspace.field(0, b"h", field.as_bytes());
    let shown = shown.map(|text| String::from_utf8_lossy(&text).into_owned());
    if shown.as_deref() == Some(value) {
        Ok(())
    } else {
        Err(format!("{} shows {shown:?} in {field}, not {value}", at + 1))
    }
}

/// Of a hash: what all have, what only the file has without dots (and 20 of a counter with one), and what A and B, who lost that, write instead.
fn old_snapshot_with_an_entry(
    before: &[Command],
    lost: &[Command],
    after: &[Command; 2],
    shows: &dyn Fn(&mut World, usize) -> Check,
) -> Check {
    // Folded where it is asserted, or not.
    for prunes in [false, true] {
        let plan = Plan { failover: Failover::LosesAnything, ..plan(3, Rules::default()) };
        let mut world = World::new(&plan, false);
        let write = |world: &mut World, at, commands: &[Command]| {
            commands.iter().try_for_each(|command| world.command(at, "h", command.clone()).map(drop))
        };
        write(&mut world, A, &[Command::HSet("other".into(), "1".into())])?;
        write(&mut world, A, before)?;
        world.settle()?;
        let backups = [A, B, C].map(|instance| world.instances[instance].logged());
        write(&mut world, B, lost)?;
        world.settle()?;
        write(&mut world, B, &[Command::HIncrBy("f".into(), 20)])?;
        world.pull(B, A)?;
        world.fail_over(C, backups[C])?;
        let link = world.link(A, C);
        assert!(world.copy_snapshot(link));
        world.fail_over(A, backups[A])?;
        world.fail_over(B, backups[B])?;
        for (at, command) in [A, B].into_iter().zip(after) {
            write(&mut world, at, std::slice::from_ref(command))?;
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
        shows(&mut world, C)?;
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
        [A, B, C]
            .into_iter()
            .try_for_each(|at| shows(&mut world, at))
            .map_err(|error| format!("{prunes}, healed: {error}"))?;
    }
    Ok(())
}

/// Seed 30600014424: two sites come back, one of them further. Against what that one writes the other asserts what it has, and lacks what is stable elsewhere. That is asserted in turn, and
/// shows, whatever the clocks say: nobody has dots of all that is in it, so nobody could write that again.
#[test]
fn what_is_asserted_against_an_assertion_that_knew_less_shows() -> Check {
    for heard in [Heard::Nothing, Heard::Write, Heard::Snapshot, Heard::WriteAndSnapshot] {
        for skew_ms in [-1000, 1000] {
            assertion_that_knew_less(heard, skew_ms).map_err(|error| format!("{heard:?}, {skew_ms}: {error}"))?;
        }
    }
    Ok(())
}

/// What A hears of before the effects of C come: of what B wrote, so that it has asserted everything against that already, or a snapshot of C.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Heard {
    Nothing,
    Write,
    Snapshot,
    WriteAndSnapshot,
}

fn assertion_that_knew_less(heard: Heard, skew_ms: i64) -> Check {
    let plan = Plan { failover: Failover::LosesAnything, ..plan(3, Rules::default()) };
    let mut world = World::new(&plan, false);
    let add = |by: i64| Command::HIncrBy("f".into(), by);
    let mut backups = [0; 3];
    for (lost, by, text) in [(B, 1, "oldest"), (C, 2, "older"), (A, 4, "newest")] {
        world.command(A, "h", add(by))?;
        world.command(A, "h", Command::HSet("g".into(), text.into()))?;
        world.command(A, "whole", Command::Whole(text.into()))?;
        world.settle()?;
        backups[lost] = world.instances[lost].logged();
    }
    for site in [B, C] {
        world.fail_over(site, backups[site])?;
        // That it came back.
        world.pull(site, A)?;
    }
    world.instances[C].skew_ms = skew_ms;
    world.command(C, "h", add(8))?;
    for field in ["f", "g"] {
        world.command(B, "h", Command::HDel(field.into()))?;
    }
    world.command(B, "whole", Command::Del)?;
    if matches!(heard, Heard::Write | Heard::WriteAndSnapshot) {
        world.pull(B, A)?;
    }
    world.pull(B, C)?;
    if matches!(heard, Heard::Snapshot | Heard::WriteAndSnapshot) {
        world.sync(C, A)?;
    }
    world.pull(C, A)?;
    world.heal()?;
    for at in [A, B, C] {
        let keyspace = &mut world.instances[at].keyspace;
        let mut shown = |field: &[u8]| keyspace.field(0, b"h", field).unwrap_or_default();
        let shown = [shown(b"f"), shown(b"g")].map(|text| String::from_utf8_lossy(&text).into_owned());
        let mut whole = None;
        keyspace.elements(0, b"whole", &mut |_, value| {
            if let Value::Payload(bytes) = value {
                whole = Some(String::from_utf8_lossy(bytes).into_owned());
            }
        });
        if whole.as_deref() != Some("newest") {
            return Err(format!("{} shows {whole:?} of what is captured whole", at + 1));
        }
        if shown != ["15", "newest"] {
            return Err(format!("{} shows {shown:?}", at + 1));
        }
    }
    Ok(())
}
