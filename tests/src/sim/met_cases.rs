//! The cases of what is kept in mind of a write when an assertion that takes it up meets others beside it (`shard/{taken,met}.rs`), like [`super::cases`].

use syncer_shared::merge::Rules;

use super::cases::{A, B, C, plan};
use super::client::Command;
use super::plan::Failover;
use super::taken_cases::all_show_field;
use super::{Check, Plan, World};

const D: usize = 3;

/// How A gets an assertion.
#[derive(Clone, Copy, Debug)]
enum Way {
    Stream,
    Snapshot,
    /// Of one that has it by its stream.
    SnapshotOfAnother,
}

/// Seed 30200002065: A had what B had added beside its own overwrite, which had not seen that, and it was stable at A: there nothing is kept in mind of what may be folded. But
/// beside an overwrite that is not stable nothing is. B hears of that overwrite by a snapshot only, whose reign has seen since what B had added.
#[test]
fn what_is_stable_beside_an_overwrite_is_kept_in_mind_when_an_assertion_takes_it_up() -> Check {
    [Way::Stream, Way::Snapshot, Way::SnapshotOfAnother].into_iter().try_for_each(stable_beside_an_overwrite)
}

fn stable_beside_an_overwrite(way: Way) -> Check {
    let plan = Plan { failover: Failover::LosesAnything, ..plan(4, Rules::default()) };
    let mut world = World::new(&plan, false);
    let set = |value: &str| Command::HSet("f".into(), value.into());
    let backup = world.instances[C].logged();
    world.command(A, "h", set("5"))?;
    world.settle()?;
    // B merges a snapshot of one that came back without that, and will assert it.
    world.fail_over(C, backup)?;
    let link = world.link(C, B);
    assert!(world.begin_sync(link)?);
    world.command(B, "h", Command::HIncrBy("f".into(), 100))?;
    world.command(A, "h", set("3"))?;
    for (source, target) in [(B, A), (A, D), (B, D), (D, C), (A, C), (B, C), (A, C)] {
        world.pull(source, target)?;
    }
    // Before they know of C's new reign, which B does not report.
    for (from, to) in [(B, A), (D, A), (B, D), (A, D)] {
        world.tell(from, to)?;
    }
    for to in [A, D] {
        world.pull(C, to)?;
        world.tell(C, to)?;
        let stable = world.instances[to].stable();
        assert!(world.instances[B].applied.iter().all(|(replid, ts)| stable.get(replid) >= Some(ts)));
    }
    world.command(A, "other", set("1"))?;
    world.step_sync(B, usize::MAX)?;
    assert_eq!(world.instances[B].shard.counters().reasserted, 1);
    match way {
        Way::Stream => drop(world.pull(B, A)?),
        Way::Snapshot => world.sync(B, A)?,
        Way::SnapshotOfAnother => {
            world.pull(B, D)?;
            world.sync(D, A)?;
        }
    }
    world.sync(A, B)?;
    assert_eq!(world.instances[B].shard.taken_up(), 1, "{way:?}");
    world.heal()?;
    all_show_field(&mut world, "h", "f", "103")
}
