//! The cases of lists (MERGE_RULES section 1), like [`super::cases`]. Their controls break the code: [`crate::controls`].

use std::collections::BTreeSet;

use syncer_shared::effect::Op;
use syncer_shared::group::{self, Frame};
use syncer_shared::instance::{InstanceId, InstanceSet};
use syncer_shared::keyspace::Keyspace;
use syncer_shared::list::{At, End, Name, Reign, RunName, Side};
use syncer_shared::merge::Rules;
use syncer_shared::replid::ReplId;
use syncer_shared::timestamp::Timestamp;

use super::cases::{A, B, C, world};
use super::client::Command;
use super::{Check, World};

fn push(values: &[&str]) -> Command {
    Command::Push(End::Tail, values.iter().map(ToString::to_string).collect())
}

impl World {
    fn shows_list(&mut self, instance: usize, key: &str, wanted: &[&str]) -> Check {
        let keyspace = &mut self.instances[instance].keyspace;
        let elements = (0..).map_while(|index| keyspace.list_get(0, key.as_bytes(), index));
        let shown: Vec<String> = elements.map(|value| String::from_utf8_lossy(&value).into_owned()).collect();
        if shown == wanted { Ok(()) } else { Err(format!("{} shows {shown:?}, not {wanted:?}", instance + 1)) }
    }

    /// Of each edit that a command makes of lists: how many elements it adds, and how many ranges it removes.
    fn edits(&mut self, instance: usize, key: &str, command: Command) -> Result<Vec<(u32, usize)>, String> {
        let from = self.instances[instance].shard.backlog().end_offset();
        self.command(instance, key, command)?;
        let backlog = self.instances[instance].shard.backlog_mut();
        let logged = backlog.read(from, usize::MAX, InstanceSet::ALL).map_err(|error| error.to_string())?.assemble();
        let (frame, _) = Frame::parse(&logged).map_err(|error| error.to_string())?;
        let Frame::Group(group) = frame else { return Err("no group".into()) };
        let edit = |op: Op<'_>| match op {
            Op::ListInsert { values, .. } => Some((values.len(), 0)),
            Op::ListRemove { ranges } => Some((0, ranges.iter().count())),
            _ => None,
        };
        Ok(group::effects(group.body).filter_map(|effect| edit(effect.op)).collect())
    }
}

/// L1: a position says who began its run and when, and when the element was made: that is the dot that made it. So no two reigns make the same one.
#[test]
fn l1_a_position_says_its_run_and_the_dot_that_made_it() {
    let ts = Timestamp::from_bits;
    let by =
        |id, reign| Reign { instance: InstanceId::new(id).expect("an id"), replid: ReplId::from_bytes([reign; 20]) };
    let anchor = RunName::new(&[], Side::After, ts(3), by(3, 3)).segments(At { ts: ts(4), index: 1 });
    let mut names: BTreeSet<Name> = BTreeSet::new();
    for (anchor, side) in
        [Name::new(), anchor].iter().flat_map(|anchor| [(anchor, Side::Before), (anchor, Side::After)])
    {
        for (reign, begun) in [(by(1, 1), 5), (by(1, 1), 6), (by(1, 2), 5), (by(2, 1), 5)] {
            for made in [(7, 0), (7, 1), (8, 0)].map(|(at, index)| At { ts: ts(at), index }) {
                let name = RunName::new(anchor, side, ts(begun), reign).element(made);
                let (run, at) = RunName::split(&name).expect("a position");
                assert_eq!((run.beginning(), at), (Some((reign, ts(begun))), made));
                assert!(names.insert(name), "two have one position");
            }
        }
    }
}

/// L2: A inserts beside an element that B takes out at the same time. The position says where, whatever is left of its neighbours.
#[test]
fn l2_an_element_comes_to_its_place_though_its_anchor_is_gone() -> Check {
    for (gone, shown) in [(1, &["x", "b", "c"][..]), (2, &["x", "c"])] {
        let mut world = world(3, Rules::default());
        world.command(A, "l", push(&["a", "b", "c"]))?;
        world.settle()?;
        world.command(A, "l", Command::LInsert(1, "x".into()))?;
        world.command(B, "l", Command::Pop(End::Head, gone, true))?;
        for (source, target) in [(B, C), (A, C), (A, B), (B, A)] {
            world.pull(source, target)?;
        }
        for instance in [A, B, C] {
            world.shows_list(instance, "l", shown)?;
        }
        world.heal()?;
    }
    Ok(())
}

/// L5: one command is one insert, or one range of each run, however many elements it makes or takes.
#[test]
fn l5_a_command_is_one_range() -> Check {
    let mut world = world(2, Rules::default());
    let many: Vec<String> = (0..100).map(|value| value.to_string()).collect();
    assert_eq!(world.edits(A, "l", Command::Push(End::Tail, many.clone()))?, [(100, 0)]);
    assert_eq!(world.edits(A, "l", Command::Push(End::Head, many))?, [(100, 0)]);
    world.pull(A, B)?;
    assert_eq!(world.edits(B, "l", Command::Pop(End::Tail, 60, true))?, [(0, 1)]);
    assert_eq!(world.edits(B, "l", Command::Pop(End::Head, 60, true))?, [(0, 1)]);
    // Of both runs.
    assert_eq!(world.edits(B, "l", Command::Trim(30, 49))?, [(0, 2)]);
    world.heal()
}

/// L9: a full sync of a list, position by position: what one side has taken out goes, what it cannot have seen stays, and all comes into one order.
#[test]
fn l9_lists_meet_position_by_position() -> Check {
    let mut world = world(3, Rules::default());
    world.command(A, "l", push(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]))?;
    world.settle()?;
    world.command(A, "l", Command::Pop(End::Head, 2, true))?;
    world.command(A, "l", Command::LRem(2, 1))?;
    world.command(A, "l", push(&["of A"]))?;
    world.command(B, "l", Command::LInsert(6, "between".into()))?;
    world.command(B, "l", push(&["of B"]))?;
    world.command(B, "l", Command::LSet(3, "three".into()))?;
    world.sync(A, B)?;
    world.shows_list(B, "l", &["2", "three", "5", "between", "6", "7", "8", "9", "of A", "of B"])?;
    world.heal()
}
