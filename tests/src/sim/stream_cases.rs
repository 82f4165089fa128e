//! The cases of streams (DESIGN 2.3), like [`super::cases`].

use syncer_shared::effect::{FlushScope, Path};
use syncer_shared::keyspace::Keyspace;
use syncer_shared::merge::Rules;
use syncer_shared::metadata::Payload;
use syncer_shared::stream::{Part, StreamId};

use super::cases::{A, B, C, check, world};
use super::client::Command;
use super::streams::StreamCommand;
use super::{Check, World};

pub(super) fn add(ms: u64) -> Command {
    Command::Stream(StreamCommand::Add(Some(ms), "v".into()))
}

fn delete(entry: usize) -> Command {
    Command::Stream(StreamCommand::Delete(entry))
}

pub(super) fn read(group: &str, consumer: Option<&str>) -> Command {
    Command::Stream(StreamCommand::Read(group.into(), consumer.map(str::to_owned), usize::MAX))
}

impl World {
    fn last_id(&mut self, instance: usize, key: &str) -> Option<StreamId> {
        match self.instances[instance].keyspace.stream_part(0, key.as_bytes(), Part::Last) {
            Some(Payload::Id(id)) => Some(id),
            _ => None,
        }
    }

    fn has_last_id(&mut self, instance: usize, ms: u64) -> Check {
        let last = self.last_id(instance, "x");
        if last.is_some_and(|id| id.ms == ms) { Ok(()) } else { Err(format!("the last id is {last:?}, not {ms}")) }
    }
}

/// Found by the simulation (seed 71): an old entry that was asserted again brought its own id as the last one, below a later entry.
#[test]
fn an_entry_that_is_asserted_again_leaves_the_last_id_alone() {
    let steps = |rules: Rules| {
        let mut world = world(3, rules);
        world.command(A, "x", add(100))?;
        world.settle()?;
        let backup = world.instances[B].logged();
        world.command(A, "x", add(200))?;
        world.settle()?;
        world.fail_over(B, backup)?;
        world.command(B, "x", delete(0))?;
        world.pull(B, A)?;
        world.has_last_id(A, 200)?;
        world.heal()?;
        world.has_last_id(B, 200)
    };
    check(steps, |rules| rules.last_ids_stay = false);
}

/// DESIGN 2.3: of several last ids the highest shows, whoever was the last to write.
#[test]
fn of_several_last_ids_the_highest_shows() -> Check {
    let mut world = world(2, Rules::default());
    world.command(A, "x", add(200))?;
    world.command(B, "x", add(100))?;
    world.pull(A, B)?;
    world.pull(B, A)?;
    world.has_last_id(A, 200)?;
    world.has_last_id(B, 200)?;
    world.heal()
}

/// DESIGN 2.3: an entry that the author of a trim had not seen stays, whatever its id.
#[test]
fn a_trim_spares_what_it_has_not_seen() {
    let steps = |rules: Rules| {
        let mut world = world(2, rules);
        world.command(A, "x", add(100))?;
        world.pull(A, B)?;
        world.command(B, "x", add(150))?;
        world.command(A, "x", add(200))?;
        world.command(A, "x", Command::Stream(StreamCommand::Trim(0)))?;
        world.pull(A, B)?;
        let entry = |ms| Part::Entry(StreamId { ms, seq: 1 });
        let keyspace = &mut world.instances[B].keyspace;
        let left = [100, 150, 200].map(|ms| keyspace.stream_part(0, b"x", entry(ms)).is_some());
        if left != [false, true, false] {
            return Err(format!("B has {left:?}"));
        }
        world.heal()
    };
    check(steps, |rules| rules.trims_spare_unseen = false);
}

/// Found by the simulation (seeds 175, 571, 887): a group that was set back reads what is pending again, with `NOACK`. A server leaves that
/// pending, so it is not acknowledged elsewhere.
#[test]
fn what_is_pending_stays_so_when_it_is_read_again_without_acknowledging() -> Check {
    let mut world = world(2, Rules::default());
    let group = || Command::Stream(StreamCommand::Group("g".into(), false));
    for command in [add(100), group(), read("g", Some("c")), add(200), group(), read("g", None)] {
        world.command(A, "x", command)?;
    }
    world.pull(A, B)?;
    let id = StreamId { ms: 100, seq: 1 };
    let delivery = Part::Delivery { group: b"g", id };
    let owner = world.instances[B].keyspace.stream_part(0, b"x", delivery);
    assert_eq!(owner, Some(Payload::Owner(b"c"[..].into())));
    world.heal()
}

/// Found by the simulation (seeds 102811, 117719): a group was set back while another site read on, so that an acknowledged entry was passed
/// over. Whether it was handed out again depended on whether its acknowledgement was pruned.
#[test]
fn what_a_read_passes_over_is_late_whatever_is_pruned() -> Check {
    let mut world = world(3, Rules::default());
    let set_back = || Command::Stream(StreamCommand::Group("g".into(), false));
    for command in [add(100), set_back(), read("g", None)] {
        world.command(A, "x", command)?;
    }
    world.settle()?;
    world.command(B, "x", set_back())?;
    world.command(C, "x", add(300))?;
    world.command(C, "x", read("g", None))?;
    world.pull(B, A)?;
    world.pull(C, A)?;
    world.check_all()?;
    world.heal()
}

/// DESIGN 2.3: a read moves a group past an entry that it had not seen; the entry is handed out all the same.
#[test]
fn no_entry_is_skipped_that_came_late() {
    let steps = |rules: Rules| {
        let mut world = world(2, rules);
        world.command(B, "x", add(100))?;
        for command in [add(300), Command::Stream(StreamCommand::Group("g".into(), false)), read("g", None)] {
            world.command(A, "x", command)?;
        }
        world.pull(A, B)?;
        let delivery = Part::Delivery { group: b"g", id: StreamId { ms: 100, seq: 1 } };
        match world.instances[B].keyspace.stream_part(0, b"x", delivery) {
            Some(Payload::Late) => world.heal(),
            other => Err(format!("B is not to hand it out: {other:?}")),
        }
    };
    check(steps, |rules| rules.late_entries = false);
}

/// Found by the simulation (seeds 104715, 105359): a `Flush` or `Clear` that had seen neither an entry nor the group that it is late for left
/// both, but not that the entry has yet to be handed out.
#[test]
fn what_is_late_stays_so_when_its_entry_and_group_outlive_a_removal() -> Check {
    for removal in [Command::Flush(FlushScope::All), Command::Del] {
        let mut world = world(3, Rules::default());
        world.command(C, "x", add(1))?;
        world.command(B, "x", add(100))?;
        for command in [add(300), Command::Stream(StreamCommand::Group("g".into(), false)), read("g", None)] {
            world.command(A, "x", command)?;
        }
        world.pull(B, A)?;
        world.command(C, "x", removal)?;
        world.pull(C, A)?;
        let delivery = Part::Delivery { group: b"g", id: StreamId { ms: 100, seq: 1 } };
        let late = world.instances[A].keyspace.stream_part(0, b"x", delivery);
        assert_eq!(late, Some(Payload::Late));
        world.heal()?;
    }
    Ok(())
}

/// Found by the simulation (seeds 199519, 4295013715; 22007463, 13103011115, 13107107783): whoever had not seen that a group is past an entry delivered it again. Whether
/// everyone has acknowledged it, or it was left out, shows nowhere once that is pruned: it is pending at all sites, twice rather than never.
#[test]
fn what_a_group_has_passed_is_pending_where_an_old_backup_delivers_it() -> Check {
    for passes in [read("g", None), Command::Stream(StreamCommand::Group("g".into(), true))] {
        let mut world = world(3, Rules::default());
        world.command(A, "x", add(100))?;
        world.command(A, "x", Command::Stream(StreamCommand::Group("g".into(), false)))?;
        world.settle()?;
        let backup = world.instances[B].logged();
        world.command(A, "x", passes)?;
        world.settle()?;
        world.fail_over(B, backup)?;
        world.command(B, "x", read("g", Some("c")))?;
        world.pull(B, A)?;
        let delivery = Part::Delivery { group: b"g", id: StreamId { ms: 100, seq: 1 } };
        let owner = world.instances[A].keyspace.stream_part(0, b"x", delivery);
        assert_eq!(owner, Some(Payload::Owner(b"c"[..].into())));
        world.heal()?;
        world.check_losses()?;
    }
    Ok(())
}

/// Found by the simulation (seeds 206219, 4296008751): who came back without an entry that everyone had read on, and moved its group past it.
#[test]
fn what_an_old_backup_passes_over_is_late() -> Check {
    let mut world = world(2, Rules::default());
    for command in [add(50), Command::Stream(StreamCommand::Group("g".into(), false)), read("g", None)] {
        world.command(A, "x", command)?;
    }
    world.settle()?;
    let backup = world.instances[B].logged();
    world.command(A, "x", add(100))?;
    world.settle()?;
    world.fail_over(B, backup)?;
    world.command(B, "x", add(300))?;
    world.command(B, "x", read("g", None))?;
    world.pull(B, A)?;
    let delivery = Part::Delivery { group: b"g", id: StreamId { ms: 100, seq: 1 } };
    assert_eq!(world.instances[A].keyspace.stream_part(0, b"x", delivery), Some(Payload::Late));
    world.heal()
}

/// Found by the simulation (seed 4296008751): that an entry was late was asserted again with its group. So it went with the group, and did not
/// come back with it.
#[test]
fn that_an_entry_is_late_is_not_asserted_again() -> Check {
    let mut world = world(2, Rules::default());
    let group = || Command::Stream(StreamCommand::Group("g".into(), true));
    world.command(A, "x", add(50))?;
    world.command(A, "x", group())?;
    world.settle()?;
    let backup = world.instances[B].logged();
    world.command(A, "x", add(100))?;
    world.command(A, "x", group())?;
    world.command(B, "x", add(70))?;
    world.pull(A, B)?;
    world.settle()?;
    let delivery = Part::Delivery { group: b"g", id: StreamId { ms: 70, seq: 1 } };
    assert_eq!(world.instances[A].keyspace.stream_part(0, b"x", delivery), Some(Payload::Late));
    world.fail_over(B, backup)?;
    world.command(B, "x", Command::Stream(StreamCommand::Destroy("g".into())))?;
    world.pull(B, A)?;
    assert_eq!(world.instances[A].keyspace.stream_part(0, b"x", delivery), Some(Payload::Late));
    let asserted = |(_, _, meta): (u32, &[u8], &syncer_shared::metadata::KeyMeta)| {
        meta.path(Path::Stream(&delivery.name())).is_some()
    };
    let target = &mut world.instances[A];
    assert!(!target.shard.table(&mut target.keyspace).iter().any(asserted), "nothing says so but the dataset");
    world.heal()
}

/// Found by the simulation (seed 4297002323): a snapshot brings an entry that was gone, and not its delivery, which a broken-off one had brought.
#[test]
fn a_delivery_that_a_snapshot_does_not_have_does_not_come_back_with_its_entry() -> Check {
    let mut world = world(3, Rules::default());
    world.command(C, "x", add(100))?;
    world.command(A, "x", add(100))?;
    world.command(A, "x", Command::Stream(StreamCommand::Group("g".into(), false)))?;
    world.command(A, "x", read("g", Some("c")))?;
    world.command(A, "x", delete(0))?;
    world.command(A, "x", add(200))?;
    let link = world.link(A, B);
    assert!(world.begin_sync(link)?);
    world.step_sync(B, 1)?;
    world.break_sync(B);
    world.command(A, "x", Command::Stream(StreamCommand::Destroy("g".into())))?;
    world.pull(C, A)?;
    assert!(world.begin_sync(link)?);
    world.step_sync(B, 1)?;
    let delivery = Part::Delivery { group: b"g", id: StreamId { ms: 100, seq: 1 } };
    assert_eq!(world.instances[B].keyspace.stream_part(0, b"x", delivery), None);
    world.step_sync(B, usize::MAX)?;
    world.heal()
}

/// Found by the simulation (seeds 4294967911, 479, 1016747): B gives an entry to a consumer that it has from a part of a snapshot only, so C hears of the
/// delivery before the entry. The snapshot that brings C the entry makes it late first.
#[test]
fn a_delivery_that_came_before_its_entry_is_shown_when_a_snapshot_brings_that() -> Check {
    let mut world = world(3, Rules::default());
    world.command(A, "x", add(50))?;
    world.command(A, "x", Command::Stream(StreamCommand::Group("g".into(), false)))?;
    world.settle()?;
    world.command(A, "x", add(100))?;
    let link = world.link(A, B);
    assert!(world.begin_sync(link)?);
    world.step_sync(B, 1)?;
    world.command(B, "x", read("g", Some("d")))?;
    world.break_sync(B);
    world.pull(B, C)?;
    world.sync(A, C)?;
    let delivery = Part::Delivery { group: b"g", id: StreamId { ms: 100, seq: 1 } };
    let owner = Payload::Owner(b"d".as_slice().into());
    assert_eq!(world.instances[C].keyspace.stream_part(0, b"x", delivery), Some(owner));
    world.heal()
}

/// Found by the simulation (seed 1035779): a delivery that the dataset had left out, since its entry was gone. That came back while the group was gone,
/// too, which came back last.
#[test]
fn a_delivery_shows_again_with_its_group() -> Check {
    let mut world = world(3, Rules::default());
    let group = || Command::Stream(StreamCommand::Group("g".into(), true));
    world.command(C, "x", add(100))?;
    world.command(B, "x", add(100))?;
    world.command(A, "x", add(300))?;
    world.command(A, "x", group())?;
    world.pull(B, A)?;
    world.pull(A, B)?;
    // The entry is late for the group: that is delivered, and the group is left where it is.
    world.command(A, "x", read("g", Some("c")))?;
    world.command(B, "x", Command::Stream(StreamCommand::Destroy("g".into())))?;
    world.command(B, "x", delete(0))?;
    world.pull(A, B)?;
    world.pull(C, B)?;
    world.pull(B, A)?;
    world.pull(C, A)?;
    world.command(A, "x", group())?;
    world.pull(A, B)?;
    let delivery = Part::Delivery { group: b"g", id: StreamId { ms: 100, seq: 1 } };
    let owner = world.instances[B].keyspace.stream_part(0, b"x", delivery);
    assert_eq!(owner, Some(Payload::Owner(b"c"[..].into())));
    world.heal()
}

/// The same, but the group is there, and pruned.
#[test]
fn a_delivery_shows_again_with_its_entry_in_a_group_without_metadata() -> Check {
    let mut world = world(3, Rules::default());
    world.command(B, "x", add(100))?;
    world.command(A, "x", add(300))?;
    world.command(A, "x", Command::Stream(StreamCommand::Group("g".into(), true)))?;
    world.settle()?;
    world.command(A, "x", read("g", Some("c")))?;
    world.command(B, "x", delete(0))?;
    world.pull(A, B)?;
    world.fail_over(C, 1)?;
    world.command(C, "x", add(100))?;
    world.pull(C, B)?;
    let delivery = Part::Delivery { group: b"g", id: StreamId { ms: 100, seq: 1 } };
    let owner = world.instances[B].keyspace.stream_part(0, b"x", delivery);
    assert_eq!(owner, Some(Payload::Owner(b"c"[..].into())));
    world.heal()
}

/// Found by the simulation (seeds 2124375, 1048867): a delivery came where its entry was gone, and was pruned there. Then an old backup wrote the entry
/// again: it was pending where a server had held the delivery, and late elsewhere.
#[test]
fn a_delivery_that_all_have_had_does_not_come_back_with_its_entry() -> Check {
    let mut world = world(3, Rules::default());
    world.command(A, "x", add(100))?;
    world.command(A, "x", Command::Stream(StreamCommand::Group("g".into(), false)))?;
    world.settle()?;
    world.command(C, "x", read("g", Some("c")))?;
    world.command(A, "x", delete(0))?;
    world.settle()?;
    world.fail_over(B, 1)?;
    world.command(B, "x", add(100))?;
    // Each of them says that nothing is left of it. That leaves alone what the other has to hand out.
    world.pull(B, A)?;
    world.pull(B, C)?;
    world.pull(A, C)?;
    let delivery = Part::Delivery { group: b"g", id: StreamId { ms: 100, seq: 1 } };
    for instance in [A, C] {
        assert_eq!(world.instances[instance].keyspace.stream_part(0, b"x", delivery), Some(Payload::Late));
    }
    world.heal()
}

/// Found by the simulation (seed 4301514327): an entry whose author had not seen all that is stable made a stream. Its last id was taken for one that had been
/// there without a dot, so it outlived the `DEL` behind it.
#[test]
fn the_last_id_of_a_stream_that_a_regressed_entry_makes_goes_with_it() -> Check {
    let mut world = world(2, Rules::default());
    world.settle()?;
    let backup = world.instances[B].logged();
    world.command(A, "y", add(1))?;
    world.settle()?;
    world.fail_over(B, backup)?;
    let unit = [add(100), Command::Del].map(|command| (0, b"x".to_vec(), command));
    world.tick(1);
    world.write(B, &unit)?;
    world.pull(B, A)?;
    assert_eq!(world.last_id(A, "x"), None);
    world.heal()
}

/// Found by the simulation (seed 8601509287): all had an acknowledgement that the removal of its group had not seen. Nothing shows that where it is pruned, so
/// who came back and delivered the entry again had it pending there, and not where it is not pruned.
#[test]
fn what_all_have_acknowledged_is_delivered_again_when_its_group_is_gone() -> Check {
    let mut world = world(3, Rules::default());
    let group = || Command::Stream(StreamCommand::Group("g".into(), false));
    for command in [add(100), group(), read("g", Some("c"))] {
        world.command(A, "x", command)?;
    }
    world.settle()?;
    let backup = world.instances[B].logged();
    world.command(C, "x", Command::Stream(StreamCommand::Ack("g".into(), 0)))?;
    world.command(A, "x", Command::Stream(StreamCommand::Destroy("g".into())))?;
    world.settle()?;
    world.fail_over(B, backup)?;
    world.command(B, "x", group())?;
    world.command(B, "x", read("g", Some("d")))?;
    world.pull(B, A)?;
    let delivery = Part::Delivery { group: b"g", id: StreamId { ms: 100, seq: 1 } };
    let owner = world.instances[A].keyspace.stream_part(0, b"x", delivery);
    assert_eq!(owner, Some(Payload::Owner(b"d"[..].into())));
    world.heal()
}

/// Found by the simulation (seed 1882924759646579): a group outlived its removal, for it had been read since. A delivery of an entry that is gone is no part of a
/// stream that anybody names, and stayed.
#[test]
fn a_delivery_whose_entry_is_gone_goes_with_its_group_that_stays() -> Check {
    let mut world = world(3, Rules::default());
    world.command(A, "x", add(100))?;
    world.settle()?;
    let backup = world.instances[C].logged();
    world.command(A, "x", Command::Stream(StreamCommand::Group("g".into(), false)))?;
    world.command(A, "x", read("g", Some("c")))?;
    world.settle()?;
    for command in [delete(0), add(200), read("g", Some("d"))] {
        world.command(B, "x", command)?;
    }
    world.command(A, "x", Command::Stream(StreamCommand::Destroy("g".into())))?;
    // A asserts the entry again that C, who came back, deletes.
    world.fail_over(C, backup)?;
    world.command(C, "x", delete(0))?;
    world.pull(C, A)?;
    world.pull(C, B)?;
    world.pull(A, B)?;
    let delivery = Part::Delivery { group: b"g", id: StreamId { ms: 100, seq: 1 } };
    assert_eq!(world.instances[B].keyspace.stream_part(0, b"x", delivery), Some(Payload::Late));
    world.heal()
}

/// Found by the simulation (seeds 21474841479, 4301503299): beside another type a stream is written anew, entries before groups. So an entry that came below
/// the position of a group was not late.
#[test]
fn an_entry_that_comes_beside_another_type_is_late() -> Check {
    let string = || Command::Append("s".into());
    for is_shown in [true, false] {
        let mut world = world(3, Rules::default());
        let stream = [add(300), Command::Stream(StreamCommand::Group("g".into(), true))];
        if is_shown {
            world.command(C, "x", string())?;
        }
        for command in stream {
            world.command(B, "x", command)?;
        }
        world.command(A, "x", add(100))?;
        if !is_shown {
            world.command(C, "x", string())?;
        }
        world.pull(C, B)?;
        world.pull(A, B)?;
        world.command(C, "x", Command::Del)?;
        world.pull(C, B)?;
        let delivery = Part::Delivery { group: b"g", id: StreamId { ms: 100, seq: 1 } };
        assert_eq!(world.instances[B].keyspace.stream_part(0, b"x", delivery), Some(Payload::Late), "{is_shown}");
        world.heal()?;
    }
    Ok(())
}

/// Found by the simulation (seed 1882940738901079): who came back deleted an entry that had been delivered. A dataset keeps no delivery without its entry,
/// nor does the metadata when all have had it; then the entry is asserted again by who had seen the delivery, and has it still.
#[test]
fn an_entry_that_is_asserted_again_brings_its_deliveries_along() -> Check {
    for removal in [delete(0), Command::Stream(StreamCommand::Trim(0))] {
        let mut world = world(2, Rules::default());
        world.command(A, "x", add(100))?;
        world.settle()?;
        let backup = world.instances[A].logged();
        world.command(B, "x", Command::Stream(StreamCommand::Group("g".into(), false)))?;
        world.command(B, "x", read("g", Some("c")))?;
        world.settle()?;
        world.fail_over(A, backup)?;
        // Its report counts only if it knows the new reign.
        world.pull(A, B)?;
        world.command(A, "x", removal)?;
        world.pull(B, A)?;
        world.tell(B, A)?;
        world.prune(A, usize::MAX)?;
        world.pull(A, B)?;
        world.pull(B, A)?;
        let delivery = Part::Delivery { group: b"g", id: StreamId { ms: 100, seq: 1 } };
        for instance in [A, B] {
            let owner = world.instances[instance].keyspace.stream_part(0, b"x", delivery);
            assert_eq!(owner, Some(Payload::Owner(b"c"[..].into())), "{}", instance + 1);
        }
        world.heal()?;
    }
    Ok(())
}
