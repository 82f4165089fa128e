//! The cases of entries that are late for a group (DESIGN 2.3), like [`super::cases`].

use syncer_shared::keyspace::Keyspace;
use syncer_shared::list::End;
use syncer_shared::merge::Rules;
use syncer_shared::metadata::Payload;
use syncer_shared::stream::{Part, StreamId};

use super::cases::{A, B, C, plan, set, world};
use super::client::Command;
use super::plan::Failover;
use super::stream_cases::{add, read};
use super::streams::StreamCommand;
use super::{Check, Plan, World};

const F: usize = 3;

/// What everybody is to hand out, once: it is late for group `g`.
const LATE: StreamId = StreamId { ms: 100, seq: 1 };

fn group() -> Command {
    Command::Stream(StreamCommand::Group("g".into(), false))
}

fn destroy() -> Command {
    Command::Stream(StreamCommand::Destroy("g".into()))
}

impl World {
    fn delivered(&mut self, instance: usize) -> Option<Payload> {
        self.instances[instance].keyspace.stream_part(0, b"x", Part::Delivery { group: b"g", id: LATE })
    }

    /// Everybody has what A has written, and only A has heard of that: it is stable there alone.
    fn only_a_knows(&mut self) -> Check {
        for to in [B, C] {
            self.pull(A, to)?;
        }
        [B, C].into_iter().try_for_each(|from| self.tell(from, A))
    }
}

/// Found by the simulation (seeds 17183028883, 17183008695): a group that a snapshot had brought was destroyed while that still came in. It stayed, for
/// who destroyed it counts as not having seen it; but the server had forgotten what was late for it.
#[test]
fn what_is_late_stays_so_when_a_group_outlives_its_end_during_a_full_sync() -> Check {
    let mut world = world(2, Rules::default());
    world.command(B, "x", add(100))?;
    for command in [add(300), group(), read("g", None)] {
        world.command(A, "x", command)?;
    }
    let link = world.link(A, B);
    assert!(world.begin_sync(link)?);
    world.step_sync(B, 1)?;
    assert_eq!(world.delivered(B), Some(Payload::Late));
    world.command(B, "x", destroy())?;
    assert_eq!(world.delivered(B), Some(Payload::Late));
    world.step_sync(B, usize::MAX)?;
    world.heal()
}

/// Found by the simulation (seed 12893030179): a group was asserted again that somebody had destroyed meanwhile. What was late there for it came back with
/// the group, but not that it is late.
#[test]
fn what_is_late_is_handed_out_where_its_group_is_asserted_again() -> Check {
    let mut world = world(3, Rules::default());
    let backup = world.instances[C].logged();
    world.command(B, "x", add(100))?;
    for command in [add(300), group(), read("g", None)] {
        world.command(A, "x", command)?;
    }
    world.settle()?;
    assert_eq!(world.delivered(B), Some(Payload::Late));
    world.fail_over(C, backup)?;
    world.command(B, "x", destroy())?;
    world.command(C, "x", group())?;
    world.pull(C, A)?;
    world.pull(C, B)?;
    world.pull(A, B)?;
    world.command(B, "x", read("g", Some("c")))?;
    assert_eq!(world.delivered(B), Some(Payload::Owner(b"c"[..].into())));
    world.heal()
}

/// Found by the simulation (seed 8603006819): of a group that was destroyed only the acknowledgement of a late entry was left, which the `XGROUP DESTROY` had
/// not seen. The key lost its place in the table for a moment, and with it that acknowledgement its place in the queue for pruning.
#[test]
fn an_acknowledgement_that_outlives_its_group_is_pruned() -> Check {
    let mut world = world(3, Rules::default());
    world.command(B, "x", add(100))?;
    for command in [add(300), group(), read("g", None)] {
        world.command(A, "x", command)?;
    }
    world.settle()?;
    assert_eq!(world.delivered(A), Some(Payload::Late));
    world.command(C, "x", destroy())?;
    world.command(A, "x", read("g", None))?;
    world.pull(C, A)?;
    world.settle()?;
    assert_eq!(world.instances[A].shard.status().metadata_keys, 0);
    world.heal()
}

/// Seed 6386590028926563, where the check was wrong: A had the removal of an entry by a snapshot that still came in, and moved a group past it. F, which read A
/// and had not been told that it was out, has the entry in front of that group for good. Nobody in the group does.
#[test]
fn who_is_out_may_keep_an_entry_that_the_group_has_removed() -> Check {
    let mut world = world(4, Rules::default());
    for command in [add(100), add(200)] {
        world.command(A, "x", command)?;
    }
    world.settle()?;
    world.forget(B, F)?;
    world.command(C, "x", Command::Stream(StreamCommand::Delete(0)))?;
    let link = world.link(C, A);
    assert!(world.begin_sync(link)?);
    world.step_sync(A, 1)?;
    for command in [group(), read("g", None)] {
        world.command(A, "x", command)?;
    }
    world.pull(A, F)?;
    world.heal()?;
    assert_eq!(world.group(), [A, B, C]);
    let has_entry =
        [A, B, C, F].map(|at| world.instances[at].keyspace.stream_part(0, b"x", Part::Entry(LATE)).is_some());
    assert_eq!(has_entry, [false, false, false, true]);
    Ok(())
}

/// Found by the simulation (seed 26106129247): an entry came anew whose acknowledgement everybody knew, so it was late for its group. A full sync left that so
/// at the primary, which had pruned the acknowledgement, and not at the replica, which had not (I-12).
#[test]
fn what_is_late_anew_stays_so_in_a_full_sync_whatever_is_pruned() -> Check {
    let mut world = world(2, Rules::default());
    for command in [add(100), group(), read("g", Some("c"))] {
        world.command(A, "x", command)?;
    }
    world.pull(A, B)?;
    world.command(A, "x", Command::Del)?;
    world.command(B, "x", Command::Stream(StreamCommand::Ack("g".into(), 0)))?;
    // The primaries prune that it is acknowledged.
    world.settle()?;
    for command in [add(300), Command::Stream(StreamCommand::Group("g".into(), true))] {
        world.command(B, "x", command)?;
    }
    world.command(A, "x", add(100))?;
    world.pull(A, B)?;
    assert_eq!(world.delivered(B), Some(Payload::Late));
    let link = world.link(A, B);
    assert!(world.begin_sync(link)?);
    world.step_sync(B, usize::MAX)?;
    assert_eq!(world.delivered(B), Some(Payload::Late));
    world.check_all()?;
    world.heal()
}

/// Found by chaos (seed 14001): who had come back added an entry and delivered it, in one transaction. At the others it is below the position of the group: it was taken for one that everybody
/// had acknowledged, so nobody was to work on it any more. It is pending where it was delivered; what nobody has had is not acknowledged.
#[test]
fn what_is_added_and_delivered_at_once_after_an_old_backup_stays_pending() -> Check {
    let mut world = world(3, Rules::default());
    for command in [add(10), group()] {
        world.command(A, "x", command)?;
    }
    world.settle()?;
    let backup = world.instances[B].logged();
    for command in [add(300), read("g", None)] {
        world.command(A, "x", command)?;
    }
    world.settle()?;
    world.fail_over(B, backup)?;
    let both = [add(100), read("g", Some("c"))].map(|command| (0, b"x".to_vec(), command));
    world.write(B, &both)?;
    world.heal()?;
    for instance in [A, B, C] {
        assert_eq!(world.delivered(instance), Some(Payload::Owner(b"c"[..].into())));
    }
    Ok(())
}

/// Seed 22000731, the same one after the other: where the group began behind the entry, which so was neither late for it nor handed out.
#[test]
fn what_is_delivered_of_a_new_entry_stays_pending_where_the_group_began_behind_it() -> Check {
    let mut world = world(3, Rules::default());
    world.command(A, "k", set("old"))?;
    world.settle()?;
    let backup = world.instances[B].logged();
    world.command(A, "k", set("new"))?;
    world.settle()?;
    world.fail_over(B, backup)?;
    world.command(B, "x", add(100))?;
    world.pull(B, A)?;
    world.command(A, "x", Command::Stream(StreamCommand::Group("g".into(), true)))?;
    for command in [group(), read("g", Some("c"))] {
        world.command(B, "x", command)?;
    }
    world.heal()?;
    for instance in [A, B, C] {
        assert_eq!(world.delivered(instance), Some(Payload::Owner(b"c"[..].into())));
    }
    Ok(())
}

/// Found by a review: to say that nothing is left of earlier deliveries is a removal, which takes what is of another type now along.
#[test]
fn what_has_another_type_now_outlives_that_an_old_backup_reads_its_stream() -> Check {
    for (after, settles) in [(Command::Push(End::Tail, vec!["e".into()]), true), (set("s"), false)] {
        let mut world = world(3, Rules::default());
        for command in [add(100), group()] {
            world.command(A, "x", command)?;
        }
        world.settle()?;
        let backup = world.instances[B].logged();
        world.command(A, "x", Command::Del)?;
        world.settle()?;
        // So that its type wins.
        world.instances[A].skew_ms = 1000;
        world.command(A, "x", after)?;
        if settles {
            world.settle()?;
        }
        let kind = world.instances[A].keyspace.kind(0, b"x");
        world.fail_over(B, backup)?;
        world.command(B, "x", read("g", Some("c")))?;
        world.pull(B, A)?;
        assert_eq!(world.instances[A].keyspace.kind(0, b"x"), kind);
        world.heal()?;
        assert_eq!(world.instances[A].keyspace.kind(0, b"x"), kind);
    }
    Ok(())
}

/// Found by a review: only A knows that everyone has acknowledged it, and gets the delivery by a snapshot.
#[test]
fn what_an_old_backup_delivers_again_is_pending_at_all_sites_also_by_a_snapshot() -> Check {
    let plan = Plan { failover: Failover::LosesAnything, ..plan(3, Rules::default()) };
    let mut world = World::new(&plan, false);
    for command in [add(100), group()] {
        world.command(A, "x", command)?;
    }
    world.settle()?;
    let backup = world.instances[B].logged();
    world.command(A, "x", read("g", None))?;
    world.only_a_knows()?;
    world.fail_over(B, backup)?;
    world.command(B, "x", read("g", Some("c")))?;
    world.sync(B, A)?;
    world.pull(B, C)?;
    world.heal()?;
    for instance in [A, B, C] {
        assert_eq!(world.delivered(instance), Some(Payload::Owner(b"c"[..].into())));
    }
    Ok(())
}

/// Found by a review: what a regressed mover has made late is nothing that anybody has either.
#[test]
fn what_is_late_and_delivered_by_an_old_backup_is_pending_at_all_sites() -> Check {
    let mut world = world(3, Rules::default());
    for command in [add(100), group()] {
        world.command(A, "x", command)?;
    }
    world.settle()?;
    let backup = world.instances[B].logged();
    // Acknowledged, then set back.
    for command in [read("g", None), group()] {
        world.command(A, "x", command)?;
    }
    world.only_a_knows()?;
    world.prune(A, usize::MAX)?;
    world.fail_over(B, backup)?;
    let to_the_end = Command::Stream(StreamCommand::Group("g".into(), true));
    for command in [to_the_end, group(), read("g", Some("c"))] {
        world.command(B, "x", command)?;
    }
    for to in [A, C] {
        world.pull(B, to)?;
    }
    world.heal()?;
    assert_eq!(world.delivered(A), world.delivered(C));
    Ok(())
}

/// Found by a review: an entry comes back by snapshots only, and one site has kept a delivery of it.
#[test]
fn an_entry_that_only_snapshots_bring_back_has_no_deliveries_left() -> Check {
    let plan = Plan { failover: Failover::LosesAnything, ..plan(3, Rules::default()) };
    let mut world = World::new(&plan, false);
    world.settle()?;
    let backup = world.instances[B].logged();
    for command in [add(100), group()] {
        world.command(A, "x", command)?;
    }
    world.settle()?;
    world.command(C, "x", read("g", Some("c")))?;
    world.command(A, "x", Command::Stream(StreamCommand::Delete(0)))?;
    world.settle()?;
    world.fail_over(B, backup)?;
    world.command(B, "x", add(100))?;
    for to in [A, C] {
        world.sync(B, to)?;
    }
    world.heal()
}
