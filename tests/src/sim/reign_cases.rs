//! The cases of reigns and their servers, like [`super::cases`].

use syncer_shared::instance::InstanceSet;
use syncer_shared::merge::Rules;

use super::cases::{A, B, C, check, set, world};

/// 2.2 rule 3: what a server sent before another one took over arrives afterwards. Who knows of the new reign takes it from members only, if they
/// have it.
#[test]
fn who_knows_a_later_reign_takes_nothing_of_an_earlier_server() {
    let steps = |rules: Rules| {
        let mut world = world(3, rules);
        world.settle()?;
        let before = world.instances[A].logged();
        world.command(A, "k", set("lost"))?;
        let late = world.link(A, B);
        world.read(late, usize::MAX);
        world.fail_over(A, before)?;
        world.pull(A, C)?;
        let relay = world.link(C, B);
        world.links[relay].want(InstanceSet::ALL);
        world.pull(C, B)?;
        if world.deliver(late, u32::MAX, false)? > 0 {
            return Err("B takes what only the lost server had".into());
        }
        assert!(world.links[late].error.starts_with("SYNCERFENCED "), "{}", world.links[late].error);
        world.heal()?;
        world.all_show("k", None)
    };
    check(steps, |rules| rules.old_reigns_are_fenced = false);
}
