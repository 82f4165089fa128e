//! The cases that the rules are there for (MERGE_CASES.md, MERGE_RULES.md), each with its control: with the rule switched off,
//! the same steps must break.

use syncer_shared::keyspace::Keyspace;
use syncer_shared::list::End;
use syncer_shared::merge::Rules;

use super::client::Command;
use super::plan::Failover;
use super::{Check, Plan, World};

pub(super) const A: usize = 0;
pub(super) const B: usize = 1;
pub(super) const C: usize = 2;

pub(super) fn world(instances: u8, rules: Rules) -> World {
    World::new(&plan(instances, rules), false)
}

pub(super) fn plan(instances: u8, rules: Rules) -> Plan {
    Plan {
        streams: false,
        patches: false,
        hot: false,
        short_lived: false,
        drops: false,
        seed: 0,
        instances,
        steps: 0,
        backlog_bytes: 1 << 30,
        ttl: true,
        flush: false,
        failover: Failover::Never,
        clock_jumps: false,
        joins_after: None,
        joins_by_sponsor: false,
        prune: true,
        forgets: false,
        rejoins: false,
        lists: true,
        rules,
    }
}

pub(super) fn set(value: &str) -> Command {
    Command::Set(value.into(), None)
}

impl World {
    /// A whole full sync.
    pub(super) fn sync(&mut self, source: usize, target: usize) -> Check {
        let link = self.link(source, target);
        if !self.begin_sync(link)? {
            return Err("no full sync begins".into());
        }
        self.step_sync(target, usize::MAX)
    }

    /// Everybody gets everything, and tells everybody, until all is stable.
    pub(super) fn settle(&mut self) -> Check {
        for _ in 0..3 {
            for link in 0..self.links.len() {
                let (source, target) = (self.links[link].source, self.links[link].target);
                self.pull(source, target)?;
            }
            for link in 0..self.links.len() {
                let (source, target) = (self.links[link].source, self.links[link].target);
                self.tell(source, target)?;
            }
        }
        (0..self.instances.len()).try_for_each(|instance| self.prune(instance, usize::MAX))
    }

    /// One reports to another what it has. All that anybody has is durable.
    pub(super) fn tell(&mut self, from: usize, to: usize) -> Check {
        (0..self.instances.len()).for_each(|instance| self.persist(instance));
        self.report(from, to)
    }

    pub(super) fn shows(&mut self, instance: usize, key: &str, value: Option<&str>) -> Check {
        let shown = self.instances[instance].keyspace.string(0, key.as_bytes());
        if shown.as_deref() == value.map(str::as_bytes) {
            return Ok(());
        }
        let shown = shown.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Err(format!("{} shows {shown:?}, not {value:?}", instance + 1))
    }

    pub(super) fn all_show(&mut self, key: &str, value: Option<&str>) -> Check {
        (0..self.instances.len()).try_for_each(|instance| self.shows(instance, key, value))
    }
}

/// The steps hold with all rules, and break without one.
pub(super) fn check(steps: impl Fn(Rules) -> Check, without: impl Fn(&mut Rules)) {
    steps(Rules::default()).expect("with all rules");
    let mut rules = Rules::default();
    without(&mut rules);
    let broken = steps(rules).expect_err("the control: without its rule, the case must break");
    println!("without the rule: {}", broken.lines().next().unwrap_or_default());
}

/// DESIGN 2.1, I-3: C must not apply what B had done to an element that C has not got yet.
#[test]
fn a_group_waits_for_what_its_author_had_seen() {
    let steps = |rules: Rules| {
        let mut world = world(3, rules);
        world.command(A, "s", Command::SAdd("a".into()))?;
        world.pull(A, B)?;
        world.command(B, "s", Command::SRem("a".into()))?;
        world.pull(B, C)?;
        world.pull(A, C)?;
        world.pull(B, C)?;
        assert!(!world.instances[C].keyspace.has_member(0, b"s", b"a"));
        world.heal()
    };
    check(steps, |rules| rules.groups_wait = false);
}

/// 2.2 rule 2: B has something newer of C than A's last write, but not that write. One time for all would say that it has. Rule 5 would hide the
/// harm, so it is off.
#[test]
fn s_is_the_lowest_of_each_replication_id() {
    let steps = |rules: Rules| {
        let mut world = world(3, Rules { regressed_reassert: false, ..rules });
        world.command(A, "k", set("old"))?;
        world.settle()?;
        world.instances[C].skew_ms = 1000;
        world.command(C, "l", set("x"))?;
        world.command(A, "k", set("new"))?;
        world.pull(C, B)?;
        world.pull(A, C)?;
        world.pull(C, A)?;
        world.tell(C, A)?;
        world.tell(B, A)?;
        world.prune(A, usize::MAX)?;
        world.command(B, "k", Command::Del)?;
        world.pull(B, A)?;
        world.shows(A, "k", Some("new"))?;
        world.heal()
    };
    check(steps, |rules| rules.stable_is_a_vector = false);
}

/// 2.2 rule 6: a replica has the same S as its primary, else it would prune, and decide, otherwise.
#[test]
fn s_rises_by_the_replication_stream() {
    let steps = |rules: Rules| {
        let mut world = world(2, rules);
        world.command(A, "k", set("v"))?;
        world.settle()?;
        world.check_all()
    };
    check(steps, |rules| rules.stable_is_logged = false);
}

/// The same of who is alone: it raises S by what its backlog has lost. Found by the simulation (seeds 1882898756012154, 1882900972701342).
#[test]
fn s_of_who_is_alone_rises_by_the_replication_stream_too() -> Check {
    let plan = Plan { backlog_bytes: 500, ..plan(1, Rules::default()) };
    let mut world = World::new(&plan, false);
    for _ in 0..20 {
        world.command(A, "k", set("some value"))?;
    }
    let before = world.instances[A].shard.status().stable;
    world.instances[A].shard.advance_stability();
    assert_ne!(world.instances[A].shard.status().stable, before, "the backlog has lost nothing");
    world.prune(A, usize::MAX)?;
    world.check_all()
}

/// L7: a queue that two push to in turn, each a run of its own, and that is popped: what is gone costs nothing, here or there.
#[test]
fn l7_nothing_is_kept_of_elements_that_are_gone() {
    let steps = |rules: Rules| {
        let mut world = world(2, rules);
        for turn in 0..100 {
            let (author, other) = if turn % 2 == 0 { (A, B) } else { (B, A) };
            world.command(author, "l", Command::Push(End::Tail, vec!["v".into()]))?;
            if turn >= 3 {
                world.command(author, "l", Command::Pop(End::Head, 1, true))?;
            }
            world.pull(author, other)?;
        }
        for site in &mut world.instances {
            let list = site.shard.key_info(0, b"l", &mut site.keyspace).list.ok_or("no ids")?;
            if (list.elements, list.runs) != (3, 3) {
                return Err(format!("{} knows {list:?}", site.id));
            }
        }
        world.heal()
    };
    check(steps, |rules| rules.removed_elements_go = false);
}

/// L6: A sets an element that B pops at the same time: it comes back where it was.
#[test]
fn l6_an_lset_brings_an_element_back_to_its_place() {
    let steps = |rules: Rules| {
        let mut world = world(2, rules);
        world.command(A, "l", Command::Push(End::Tail, ["a", "b", "c"].map(String::from).to_vec()))?;
        world.settle()?;
        world.command(A, "l", Command::LSet(1, "x".into()))?;
        world.command(B, "l", Command::Pop(End::Head, 2, true))?;
        world.pull(A, B)?;
        world.pull(B, A)?;
        for instance in [A, B] {
            let keyspace = &mut world.instances[instance].keyspace;
            let shown = [0, 1].map(|index| keyspace.list_get(0, b"l", index));
            if shown != [Some(b"x".to_vec()), Some(b"c".to_vec())] {
                return Err(format!("{} shows {shown:?}", instance + 1));
            }
        }
        world.heal()
    };
    check(steps, |rules| rules.lset_brings_back = false);
}

/// MERGE_CASES A2: a lost tail comes back by relay, after its author has reported something newer. Rule 5 would hide the harm,
/// so it is off.
#[test]
fn a2_a_report_counts_only_when_it_is_covered() {
    let steps = |rules: Rules| {
        let mut world = world(3, Rules { regressed_reassert: false, ..rules });
        world.command(A, "k", set("old"))?;
        world.settle()?;
        let before = world.instances[B].logged();
        world.command(C, "k", set("new"))?;
        world.command(B, "k", Command::Del)?;
        world.pull(B, C)?;
        world.fail_over(B, before)?;
        world.pull(C, B)?;
        // So that C's report has the start of that reign, which is the rule's other half.
        world.pull(B, C)?;
        world.pull(C, A)?;
        world.pull(B, A)?;
        world.tell(B, A)?;
        world.tell(C, A)?;
        world.prune(A, usize::MAX)?;
        let relay = world.link(C, A);
        world.links[relay].want(syncer_shared::instance::InstanceSet::ALL);
        world.pull(C, A)?;
        world.shows(A, "k", Some("new"))?;
        world.heal()?;
        world.all_show("k", Some("new"))
    };
    check(steps, |rules| rules.reports_are_covered = false);
}

/// MERGE_CASES A3, rule 4: the winner is stable, a loser is not; then an increment that saw only the winner.
#[test]
fn a3_a_path_is_pruned_as_a_whole() {
    let steps = |rules: Rules| {
        let mut world = world(3, rules);
        world.settle()?;
        world.command(B, "k", set("5"))?;
        // Several, so that pruning looks at the key although one dot is not stable.
        (81..=100).try_for_each(|value: i32| world.command(A, "k", set(&value.to_string())))?;
        world.pull(A, B)?;
        world.pull(A, C)?;
        world.pull(B, A)?;
        world.tell(B, A)?;
        world.tell(C, A)?;
        world.prune(A, usize::MAX)?;
        world.command(C, "k", Command::IncrBy(1))?;
        world.pull(C, A)?;
        world.shows(A, "k", Some("101"))?;
        world.heal()?;
        world.all_show("k", Some("101"))
    };
    check(steps, |rules| rules.prune_whole_paths = false);
}

/// Rule 4, of several types: the hash that has lost is stable, the set that has won is not; then a write that saw only the hash brings it back up.
#[test]
fn a_key_of_several_types_is_pruned_as_a_whole() {
    let steps = |rules: Rules| {
        let mut world = world(3, rules);
        world.settle()?;
        // Several, so that pruning looks at the key although one dot is not stable.
        (1..=20).try_for_each(|value: i32| world.command(A, "k", Command::HSet("f".into(), value.to_string())))?;
        world.command(B, "k", Command::SAdd("a".into()))?;
        world.pull(A, B)?;
        world.pull(A, C)?;
        world.pull(B, A)?;
        world.tell(B, A)?;
        world.tell(C, A)?;
        world.prune(A, usize::MAX)?;
        world.command(C, "k", Command::HSet("g".into(), "v".into()))?;
        world.pull(C, A)?;
        match world.instances[A].keyspace.field(0, b"k", b"f").as_deref() {
            Some(b"20") => world.heal(),
            other => Err(format!("the hash comes up with {other:?}")),
        }
    };
    check(steps, |rules| rules.prune_whole_keys = false);
}

/// MERGE_CASES A4: the last member of a set goes; the hash that was parked under it must not come up where it was not pruned.
#[test]
fn a4_a_type_is_a_conflict_domain() {
    let steps = |rules: Rules| {
        let mut world = world(2, rules);
        world.command(A, "k", Command::HSet("f".into(), "v".into()))?;
        world.command(B, "k", Command::SAdd("a".into()))?;
        world.pull(A, B)?;
        world.pull(B, A)?;
        world.tell(B, A)?;
        world.prune(A, usize::MAX)?;
        world.command(A, "k", Command::SRem("a".into()))?;
        world.pull(A, B)?;
        world.heal()?;
        match world.instances[B].keyspace.kind(0, b"k") {
            None => Ok(()),
            Some(kind) => Err(format!("a {kind:?} came up")),
        }
    };
    check(steps, |rules| rules.types_conflict = false);
}

/// Found by the simulation (seeds 4300030364, 4300031337): a string has lost against a hash, and both are stable. But B shows the string, since it has not
/// seen yet that A has removed what was above both, and changes it: that removes the hash.
#[test]
fn what_lost_against_another_type_stays_until_all_know_what_was_removed() {
    let steps = |rules: Rules| {
        let mut world = world(3, rules);
        world.command(C, "k", set("23"))?;
        world.command(B, "k", Command::HIncrBy("f".into(), 1))?;
        world.command(A, "k", set("70"))?;
        world.pull(A, B)?;
        world.command(A, "k", Command::Del)?;
        for (source, target) in [(B, A), (B, C), (A, C), (C, A), (C, B)] {
            world.pull(source, target)?;
        }
        world.shows(B, "k", Some("70"))?;
        for (from, to) in [(A, C), (B, C)] {
            world.tell(from, to)?;
        }
        world.prune(C, usize::MAX)?;
        world.command(B, "k", Command::IncrBy(1))?;
        world.pull(B, C)?;
        world.shows(C, "k", Some("24"))?;
        world.heal()?;
        world.all_show("k", Some("24"))
    };
    check(steps, |rules| rules.losers_grace = false);
}

/// MERGE_RULES G2: `MULTI SET k 5; INCR k; SET k 7`, then at a peer.
#[test]
fn g2_a_group_sees_itself() {
    let steps = |rules: Rules| {
        let mut world = world(2, rules);
        let key = b"k".to_vec();
        let commands = [(0, key.clone(), set("5")), (0, key.clone(), Command::IncrBy(1)), (0, key, set("7"))];
        world.tick(1);
        world.write(A, &commands)?;
        world.pull(A, B)?;
        world.all_show("k", Some("7"))?;
        world.heal()
    };
    check(steps, |rules| rules.group_sees_itself = false);
}

/// Found by the simulation (seed 0): a replica that was promoted refused its own earlier writes from a peer.
#[test]
fn a_promoted_replica_gets_its_lost_writes_back() -> Check {
    let mut world = world(2, Rules::default());
    let before = world.instances[A].logged();
    world.command(A, "k", set("v"))?;
    world.pull(A, B)?;
    world.fail_over(A, before)?;
    world.shows(A, "k", None)?;
    world.heal()?;
    world.all_show("k", Some("v"))
}

/// Found by the simulation (seed 5538): a report named a reign before its first effect had come, and was not counted when it had.
#[test]
fn a_report_that_came_too_early_counts_later() -> Check {
    let mut world = world(2, Rules::default());
    world.command(A, "k", set("v"))?;
    world.settle()?;
    let all = world.instances[A].logged();
    world.fail_over(A, all)?;
    world.command(A, "k", set("w"))?;
    world.tell(A, B)?;
    world.pull(A, B)?;
    world.tell(A, B)?;
    world.tell(B, A)?;
    world.tell(A, B)?;
    world.prune(B, usize::MAX)?;
    match world.instances[B].shard.status().metadata_keys {
        0 => Ok(()),
        kept => Err(format!("metadata of {kept} keys is kept")),
    }
}

/// 2.2 rule 1: B reports what only its memory has, loses it, and deletes what A counts as seen. Rule 5 would hide the harm, so it is off.
#[test]
fn what_is_reported_outlives_a_crash() {
    let steps = |rules: Rules| {
        let mut world = world(2, Rules { regressed_reassert: false, ..rules });
        world.command(A, "k", set("old"))?;
        world.settle()?;
        let backup = world.instances[B].logged();
        world.command(A, "k", set("new"))?;
        world.persist(A);
        world.pull(A, B)?;
        world.report(B, A)?;
        world.prune(A, usize::MAX)?;
        world.fail_over(B, backup)?;
        world.command(B, "k", Command::Del)?;
        world.pull(B, A)?;
        world.shows(A, "k", Some("new"))
    };
    check(steps, |rules| rules.reports_are_durable = false);
}

/// L4: what two sites push at the same time, element by element, does not interleave.
#[test]
fn l4_runs_stay_together() {
    for end in [End::Head, End::Tail] {
        let steps = |rules: Rules| {
            let mut world = world(2, rules);
            for i in 0..4 {
                for (instance, name) in [(A, 'a'), (B, 'b')] {
                    world.command(instance, "l", Command::Push(end, vec![format!("{name}{i}")]))?;
                    world.tick(1);
                }
            }
            world.heal()?;
            let keyspace = &mut world.instances[A].keyspace;
            let authors: Vec<u8> = (0..8).filter_map(|i| keyspace.list_get(0, b"l", i)).map(|value| value[0]).collect();
            let turns = authors.windows(2).filter(|pair| pair[0] != pair[1]).count();
            if turns == 1 { Ok(()) } else { Err(format!("they take {turns} turns")) }
        };
        check(steps, |rules| rules.runs_continue = false);
    }
}

/// Found by the simulation (seeds 132210, 132384): two `LSET` of one element, of which the own one became stable last. Nothing looked at
/// the list any more then, so the loser was kept for ever.
#[test]
fn l8_a_parked_element_goes_when_the_own_sibling_is_the_last_to_be_stable() -> Check {
    let mut world = world(2, Rules::default());
    world.command(A, "l", Command::Push(End::Tail, vec!["a".into(), "b".into()]))?;
    world.settle()?;
    world.command(B, "l", Command::LSet(0, "other".into()))?;
    world.command(A, "l", Command::LSet(0, "own".into()))?;
    world.pull(B, A)?;
    world.tell(B, A)?;
    world.prune(A, usize::MAX)?;
    world.heal()
}
