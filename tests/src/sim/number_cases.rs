//! The cases of sums (DESIGN 2), like [`super::cases`].

use syncer_shared::effect::Kind;
use syncer_shared::keyspace::Keyspace;
use syncer_shared::merge::Rules;

use super::Check;
use super::cases::{A, B, C, set, world};
use super::client::Command;

/// What instances write before, what they write at once, and what all show then.
type Case<'a> = (&'a [(usize, Command)], &'a [(usize, Command)], Option<&'a str>);

/// DESIGN 2, worked cases.
#[test]
fn worked_cases() -> Check {
    let cases: [Case<'_>; 4] = [
        (&[(A, set("5"))], &[(A, set("10")), (B, Command::IncrBy(1))], Some("11")),
        (&[(A, set("5"))], &[(A, Command::Del), (B, Command::IncrBy(1))], Some("1")),
        (&[], &[(A, set("a")), (B, set("b"))], Some("b")),
        (
            &[(A, Command::Set("0.1".into(), None))],
            &[(A, Command::IncrByFloat(0.2)), (B, Command::IncrByFloat(0.3))],
            Some("0.6"),
        ),
    ];
    for (before, concurrent, shown) in cases {
        let mut world = world(2, Rules::default());
        before.iter().try_for_each(|(instance, command)| world.command(*instance, "k", command.clone()))?;
        world.settle()?;
        concurrent.iter().try_for_each(|(instance, command)| world.command(*instance, "k", command.clone()))?;
        world.pull(A, B)?;
        world.pull(B, A)?;
        world.all_show("k", shown)?;
        world.heal()?;
    }
    Ok(())
}

/// Found by the simulation (seed 3): the float sum of an earlier command in a transaction was written over a later one.
#[test]
fn a_later_command_of_a_transaction_is_not_undone_by_a_float_sum() -> Check {
    let mut world = world(2, Rules::default());
    let key = b"k".to_vec();
    world.write(A, &[(0, key.clone(), Command::IncrByFloat(0.5)), (0, key, set("62"))])?;
    world.pull(A, B)?;
    world.all_show("k", Some("62"))
}

/// Found by the simulation (seed 362): 1 + (2^63 - 1) is shown, and goes on.
#[test]
fn a_sum_beyond_64_bits_is_exact() -> Check {
    let mut world = world(2, Rules::default());
    world.command(A, "k", Command::IncrBy(1))?;
    world.command(B, "k", Command::IncrBy(i64::MAX))?;
    world.pull(B, A)?;
    world.shows(A, "k", Some("9223372036854775808"))?;
    world.command(B, "k", Command::IncrBy(-9))?;
    world.pull(A, B)?;
    world.pull(B, A)?;
    world.all_show("k", Some("9223372036854775799"))?;
    world.heal()
}

/// Found by the simulation (seed 1046): one instance had pruned a float sum that shows as an integer.
#[test]
fn a_pruned_float_sum_goes_on_as_one_that_is_not_pruned() -> Check {
    let mut world = world(2, Rules::default());
    world.command(A, "k", set("0.1"))?;
    world.command(A, "k", Command::IncrByFloat(-1e16))?;
    world.pull(A, B)?;
    world.tell(B, A)?;
    world.prune(A, usize::MAX)?;
    world.command(A, "k", Command::IncrByFloat(-5.0))?;
    world.pull(A, B)?;
    world.all_show("k", Some("-10000000000000004.9"))?;
    world.heal()
}

/// Found by the simulation (seed 3013703): a stable 0 was taken for nothing, so an old backup that had not seen it took it along with its
/// own increment.
#[test]
fn a_stable_zero_outlives_an_old_backup_that_counts_on_it() -> Check {
    let mut world = world(3, Rules::default());
    world.settle()?;
    let backup = world.instances[B].logged();
    world.command(A, "k", Command::IncrBy(9))?;
    world.command(A, "k", Command::IncrBy(-9))?;
    world.settle()?;
    world.fail_over(B, backup)?;
    world.command(B, "k", Command::IncrBy(5))?;
    world.command(B, "k", Command::Del)?;
    world.pull(B, A)?;
    // All of it is asserted again, the increment too.
    world.shows(A, "k", Some("5"))?;
    world.heal()
}

/// Found by the simulation (seed 4294972077): pruning took 1e3 below an increment for 1000, as sums are written, and then came what had been
/// appended to it.
#[test]
fn a_number_below_an_increment_keeps_its_text() -> Check {
    let mut world = world(3, Rules::default());
    world.settle()?;
    // Several, so that pruning looks at the key although one dot is not stable.
    (0..20).try_for_each(|_| world.command(A, "k", set("1e3")))?;
    world.pull(A, B)?;
    world.pull(A, C)?;
    world.instances[C].skew_ms = 30_000;
    world.command(C, "k", Command::IncrByFloat(0.2))?;
    world.tell(A, C)?;
    world.tell(B, C)?;
    world.prune(C, usize::MAX)?;
    world.command(B, "k", Command::AppendPart("1250".into()))?;
    world.pull(B, C)?;
    world.shows(C, "k", Some("1e31250"))?;
    world.heal()
}

/// Found by the simulation (seed 13100201316): of a counter that two sites delete while others add to it, each keeps what comes after its own removal, and has folded that.
/// The other one knows it, and has removed it. A full sync took the two entries for the same one, and what the target had removed came back there alone.
#[test]
fn of_two_removals_each_takes_what_the_other_has_left() -> Check {
    const D: usize = 3;
    for kind in [Kind::String, Kind::Hash, Kind::SortedSet] {
        let add = |by: i64| match kind {
            Kind::String => Command::IncrBy(by),
            Kind::Hash => Command::HIncrBy("f".into(), by),
            _ => Command::ZIncrBy("f".into(), by as f64),
        };
        let remove = || match kind {
            Kind::String => Command::Del,
            Kind::Hash => Command::HDel("f".into()),
            _ => Command::ZRem("f".into()),
        };
        let mut world = world(4, Rules::default());
        world.settle()?;
        world.command(C, "k", add(2))?;
        world.command(D, "k", add(9))?;
        for (from, to) in [(C, A), (D, B), (D, C), (C, D)] {
            world.pull(from, to)?;
        }
        // These count once what they tell of has come.
        for (from, to) in [(A, B), (C, B), (D, B), (B, A), (C, A), (D, A)] {
            world.tell(from, to)?;
        }
        world.command(A, "k", remove())?;
        world.command(B, "k", remove())?;
        world.pull(D, A)?;
        world.pull(C, B)?;
        for (from, to) in [(C, A), (C, B)] {
            world.tell(from, to)?;
        }
        world.command(A, "k", add(1000))?;
        world.command(B, "k", add(100))?;
        for site in [A, B] {
            world.prune(site, usize::MAX)?;
        }
        world.sync(B, A)?;
        world.heal()?;
        for instance in &mut world.instances {
            let keyspace = &mut instance.keyspace;
            let shown = match kind {
                Kind::String => keyspace.string(0, b"k"),
                Kind::Hash => keyspace.field(0, b"k", b"f"),
                _ => keyspace.score(0, b"k", b"f").map(|score| score.to_string().into_bytes()),
            };
            assert_eq!(shown.as_deref(), Some(&b"1100"[..]), "{kind:?} at {}", instance.id);
        }
    }
    Ok(())
}
