//! The cases of reigns and their servers, like [`super::cases`].

use syncer_shared::instance::InstanceSet;
use syncer_shared::merge::Rules;

use super::cases::{A, B, C, check, set, world};
use super::client::Command;

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

/// 2.2 rule 3, its other half: C's report has all that A has, but C does not know the reign that B has begun since, so it may still take what B's earlier
/// server has sent and lost. Rule 5 would hide the harm, so it is off.
#[test]
fn a_report_counts_only_when_it_covers_the_start_of_every_reign() {
    for is_told_first in [false, true] {
        let steps = |rules: Rules| {
            let mut world = world(3, Rules { regressed_reassert: false, ..rules });
            world.command(A, "k", set("old"))?;
            world.settle()?;
            let before = world.instances[B].logged();
            world.command(B, "k", Command::Del)?;
            let late = world.link(B, C);
            world.read(late, usize::MAX);
            world.fail_over(B, before)?;
            world.command(A, "k", set("new"))?;
            world.pull(A, B)?;
            world.pull(A, C)?;
            if is_told_first {
                world.tell(C, A)?;
            }
            world.pull(B, A)?;
            world.tell(C, A)?;
            world.tell(B, A)?;
            world.prune(A, usize::MAX)?;
            world.deliver(late, u32::MAX, false)?;
            let relay = world.link(C, A);
            world.links[relay].want(InstanceSet::ALL);
            world.pull(C, A)?;
            world.shows(A, "k", Some("new"))?;
            world.heal()?;
            world.all_show("k", Some("new"))
        };
        check(steps, |rules| rules.reports_cover_starts = false);
    }
}
