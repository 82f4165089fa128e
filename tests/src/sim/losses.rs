//! No write is lost: what survived shows, unless a write that had seen it has taken it away.
//!
//! The oracle of an instance follows what that instance does, re-assertions too (2.2 rule 5), so it finds right what one of them took away. This one
//! knows only what clients did: every group that survived, as its author made it, applied to nothing in effect order (of two groups the one
//! that has seen the other comes later). What lives then must show. More may: what came back from an old state cannot be told from what was
//! removed.

use std::collections::{BTreeMap, BTreeSet};

use syncer_shared::effect::{ClearReason, Effect, FlushScope, Kind, Op, Path, TtlNote, UnixMs, Value};
use syncer_shared::group;
use syncer_shared::memory::{Entry, MemoryKeyspace};
use syncer_shared::metadata::Payload;
use syncer_shared::number::Number;
use syncer_shared::stream::{Part, entry_id};

use super::Check;
use super::oracle::{DotName, Oracle, split};
use super::registry::{Authored, Context, Registry};

type Name = (u32, Vec<u8>);

/// What may show more, or another value, than what lives.
#[derive(Default)]
struct Doubts {
    everything: bool,
    keys: BTreeSet<Name>,
    /// That have expired somewhere.
    expired: BTreeSet<Name>,
    /// That were asserted again.
    asserted: BTreeSet<Name>,
    paths: BTreeSet<(Name, Kind, Vec<u8>)>,
    /// The types that were written.
    kinds: BTreeSet<(Name, Kind)>,
    /// Where a number below zero was written: if that comes back, less shows, and nothing is lost.
    lowered: BTreeSet<(Name, Kind, Vec<u8>)>,
    /// What somebody wrote to who may not have seen all that is stable.
    regressed: BTreeSet<Name>,
}

/// All that was written and survived lives in a dataset, when all is converged on `applied`.
///
/// Where instances may have `come_back` from old states while snapshots came in, others rightly assert what those lack of counters and strings, too; a removal
/// that had not seen that leaves it, so more shows than what lives. What an assertion has taken up is not missed then.
///
/// What is due and not shown may have been `dropped_at` that time by all, which nobody tells.
///
/// # Errors
/// What is lost.
pub fn check(
    registry: &Registry,
    applied: &Context,
    oracle: &Oracle,
    native: &MemoryKeyspace,
    come_back: bool,
    dropped_at: Option<UnixMs>,
) -> Check {
    let (mut ideal, mut doubts) = (Oracle::default(), Doubts::default());
    for (me, authored) in registry.survivors(applied) {
        let Authored { frame, context, is_captured, .. } = authored;
        let (group, _) = group::GroupView::parse(frame).map_err(|error| error.to_string())?;
        // M12: what was set aside, and makes the key again. Nothing else that a shard writes by itself does.
        let is_new = |effect: Effect<'_>| adds(effect.op) && effect.ttl == TtlNote::Created;
        let is_renewal = !is_captured && group::effects(group.body).any(is_new);
        for (index, effect) in (0_u32..).zip(group::effects(group.body)) {
            // And what is written again since one of them had not taken it up.
            let is_again = matches!(effect.op, Op::Assign { reasserted: true, .. }) || (adds(effect.op) && !is_renewal);
            if !is_captured && is_again {
                doubts.asserted.insert((effect.db, effect.key.to_vec()));
            } else {
                ideal.apply(&effect, DotName { index, ..me }, context);
                doubts.note(&effect, authored);
            }
        }
    }
    for (name, expected) in ideal.shown() {
        // What lost against another type goes when everyone has it (rule 4): also where who came back removes that type then.
        if ideal.is_mixed(name) || doubts.was_revived(name) || doubts.may_be_uncovered(name) {
            continue;
        }
        let shown = native.entries().get(name);
        let is_due = expected.expire_at.zip(dropped_at).is_some_and(|(at, now)| at <= now);
        if shown.is_none() && is_due {
            continue;
        }
        // Where its instance has all that lives, and shows it, there may be more: what came back.
        let followed = oracle.shown().find(|(other, _)| *other == name).map(|(_, entry)| entry.into_owned());
        let follows = followed.as_ref() == shown;
        let lacking = |element: &[u8]| ideal.lacking(name, element, oracle);
        let are_taken_up = |lacking: &[DotName], element: &[u8]| {
            let assertions = oracle.lacking(name, element, &ideal);
            lacking.iter().all(|dot| assertions.iter().any(|by| registry.has_taken_up(by, dot)))
        };
        // What was asserted has its place before what is written later, whatever the clocks say.
        let is_asserted = doubts.asserted.contains(name);
        let are_same_parts = |shown: &Payload, lives: &Payload| {
            let parts = shown.text().zip(lives.text());
            let are_same = |(a, b): (&[u8], &[u8])| sorted(a) == sorted(b) || ideal.makes_in_some_order(name, a);
            is_asserted && expected.kind == Kind::String && parts.is_some_and(are_same)
        };
        let differs = |element: &[u8], shown: &Payload, lives: &Payload| match (shown.text(), lives.text()) {
            _ if follows && lacking(element).is_empty() => false,
            // More may show, not less: clients only add. What was appended is no number.
            _ if come_back && follows && are_taken_up(&lacking(element), element) => {
                let is_lowered = doubts.lowered.contains(&(name.clone(), expected.kind, element.to_vec()));
                is_less(shown, lives) && !is_lowered && !are_same_parts(shown, lives)
            }
            (Some(a), Some(b)) if is_asserted && expected.kind == Kind::String => {
                // Of a text, too, more may come back.
                let has_more = || {
                    number(shown).is_none() && follows && are_taken_up(&lacking(element), element) && has_bytes(a, b)
                };
                !ideal.goes_by_order(name) && sorted(a) != sorted(b) && !has_more()
            }
            _ => shown != lives,
        };
        if let Some(lost) = doubts.lost(name, &expected, shown, &differs) {
            let key = name.1.escape_ascii();
            let lacking = ideal.all_lacking(name, oracle);
            let more = oracle.all_lacking(name, &ideal);
            return Err(format!(
                "a write is lost: key {key} of db {} has not {lost}:\n  shows    {shown:?}\n  expected {expected:?}\n  lacks    {lacking:?}\n  and has  {more:?}",
                name.0
            ));
        }
    }
    Ok(())
}

impl Doubts {
    fn note(&mut self, effect: &Effect<'_>, authored: &Authored) {
        let name = || (effect.db, effect.key.to_vec());
        let may_have_seen_less = authored.is_regressed();
        if may_have_seen_less {
            self.regressed.insert(name());
        }
        let kind = match effect.op {
            Op::Assign { path, .. } | Op::Increment { path, .. } => Some(path.kind()),
            Op::Set { .. } | Op::Patch { .. } => Some(Kind::String),
            Op::ListInsert { .. } => Some(Kind::List),
            Op::Stream(_) => Some(Kind::Stream),
            _ => None,
        };
        self.kinds.extend(kind.map(|kind| (name(), kind)));
        self.lowered
            .extend(below_zero(effect.op).map(|path| split(path)).map(|(kind, at)| (name(), kind, at.to_vec())));
        let mut at = |path: Path<'_>| {
            let (kind, element) = split(path);
            self.paths.insert((name(), kind, element.to_vec()));
        };
        match effect.op {
            // T6 to T8: it may live on.
            Op::Clear { reason: ClearReason::Expired } => {
                self.keys.insert(name());
                self.expired.insert(name());
            }
            // The TTL of a field takes up what its author had seen of it, and of two one shows.
            Op::Assign { path, reasserted: true, .. } => at(path),
            // What it removes may be asserted again.
            _ if !may_have_seen_less => {}
            Op::Flush { scope: FlushScope::All | FlushScope::Db(_) } => self.everything = true,
            Op::Assign { path, .. } | Op::Remove { path } => at(path),
            Op::Set { .. } | Op::Clear { .. } => drop(self.keys.insert(name())),
            _ => {}
        }
    }

    /// T6, T7: whoever writes an expired key again writes what it showed, and nothing else.
    fn was_revived(&self, name: &Name) -> bool {
        self.expired.contains(name) && self.asserted.contains(name)
    }

    fn may_be_uncovered(&self, name: &Name) -> bool {
        let is_regressed = self.everything || self.regressed.contains(name);
        is_regressed && self.kinds.iter().filter(|(of, _)| of == name).count() > 1
    }

    /// What of a key is lost.
    fn lost(
        &self,
        name: &Name,
        expected: &Entry,
        shown: Option<&Entry>,
        differs: &dyn Fn(&[u8], &Payload, &Payload) -> bool,
    ) -> Option<String> {
        let Some(shown) = shown.filter(|shown| shown.kind == expected.kind) else {
            return Some(format!("its {:?}", expected.kind));
        };
        if expected.kind == Kind::List {
            return lost_values(expected, shown);
        }
        let is_judged = |element: &&Vec<u8>| expected.kind != Kind::Stream || entry_id(element).is_some();
        let lacks = |element: &&Vec<u8>| match shown.elements.get(*element) {
            None => true,
            Some(payload) => {
                !self.is_in_doubt(name, expected.kind, element)
                    && differs(element, payload, &expected.elements[*element])
            }
        };
        let is_left =
            |element: &&Vec<u8>| expected.kind == Kind::Stream && is_never_worked_on(element, expected, shown);
        let mut elements = expected.elements.keys();
        let lost = elements.clone().filter(is_judged).find(lacks).or_else(|| elements.find(is_left))?;
        Some(format!("{:?} {} as it was written", expected.kind, lost.escape_ascii()))
    }

    fn is_in_doubt(&self, name: &Name, kind: Kind, element: &[u8]) -> bool {
        self.everything || self.keys.contains(name) || self.paths.contains(&(name.clone(), kind, element.to_vec()))
    }
}

/// Whether an entry that is pending, for nobody has acknowledged it, is neither pending nor to be handed out any more.
fn is_never_worked_on(element: &[u8], expected: &Entry, shown: &Entry) -> bool {
    let Some(Part::Delivery { group, id }) = Part::parse(element) else { return false };
    let position = shown.elements.get(&*Part::Group(group).name());
    matches!(expected.elements.get(element), Some(Payload::Owner(_)))
        && !shown.elements.contains_key(element)
        && shown.elements.contains_key(&*Part::Entry(id).name())
        && matches!(position, Some(Payload::Id(position)) if *position >= id)
}

/// Whether a write adds to what is there.
const fn adds(op: Op<'_>) -> bool {
    matches!(op, Op::Increment { .. } | Op::Patch { .. })
}

/// Where a write puts, or adds, a number below zero.
fn below_zero(op: Op<'_>) -> Option<Path<'_>> {
    let is_negative = |text: &[u8]| text.starts_with(b"-");
    match op {
        Op::Increment { path, delta: Number::Integer(i64::MIN..0) } => Some(path),
        Op::Increment { path, delta: Number::Float(delta) } if delta < 0.0 => Some(path),
        Op::Assign { path, value: Value::Score(score), .. } if score < 0.0 => Some(path),
        Op::Assign { path, value: Value::Bytes(text), .. } if is_negative(text) => Some(path),
        Op::Set { value, .. } if is_negative(value) => Some(Path::String),
        _ => None,
    }
}

fn number(payload: &Payload) -> Option<f64> {
    match payload {
        Payload::Score(score) => Some(*score),
        other => std::str::from_utf8(other.text()?).ok()?.parse().ok(),
    }
}

/// Of two numbers.
fn is_less(a: &Payload, b: &Payload) -> bool {
    number(a).zip(number(b)).is_some_and(|(a, b)| a < b)
}

/// Whether a text has all bytes of another one, each as often, in whatever order.
fn has_bytes(text: &[u8], other: &[u8]) -> bool {
    let mut left = sorted(text).into_iter();
    sorted(other).iter().all(|byte| left.any(|of| of == *byte))
}

fn sorted(text: &[u8]) -> Vec<u8> {
    let mut bytes = text.to_vec();
    bytes.sort_unstable();
    bytes
}

/// The elements of lists have no names to go by.
fn lost_values(expected: &Entry, shown: &Entry) -> Option<String> {
    let mut counts = BTreeMap::new();
    for payload in shown.elements.values() {
        *counts.entry(format!("{payload:?}")).or_insert(0) += 1;
    }
    expected.elements.values().map(|payload| format!("{payload:?}")).find(|value| {
        let left = counts.entry(value.clone()).or_insert(0);
        *left -= 1;
        *left < 0
    })
}

#[cfg(test)]
mod tests {
    use syncer_shared::keyspace::Keyspace;
    use syncer_shared::list::End;
    use syncer_shared::merge::Rules;

    use super::*;
    use crate::sim::cases::{A, B, C, plan, set, world};
    use crate::sim::client::Command;
    use crate::sim::plan::Failover;
    use crate::sim::stream_cases::{add, read};
    use crate::sim::streams::StreamCommand;
    use crate::sim::{Plan, World};
    use syncer_shared::stream::StreamId;

    fn pushed() -> Command {
        Command::Push(End::Tail, vec!["a".into(), "a".into()])
    }

    /// As chaos saw it (seed 14001).
    #[test]
    fn an_entry_that_was_delivered_and_that_nobody_acknowledges_is_missed() -> Check {
        let mut world = world(2, Rules::default());
        let group = Command::Stream(StreamCommand::Group("g".into(), false));
        for command in [add(100), group, read("g", Some("c"))] {
            world.command(A, "x", command)?;
        }
        world.settle()?;
        world.check_losses()?;
        let delivery = Part::Delivery { group: b"g", id: StreamId { ms: 100, seq: 1 } }.name();
        world.instances.iter_mut().for_each(|instance| instance.keyspace.take(0, b"x", Path::Stream(&delivery)));
        assert!(world.check_losses().is_err());
        Ok(())
    }

    #[test]
    fn whatever_is_taken_from_a_dataset_is_missed() -> Check {
        type Take = fn(&mut MemoryKeyspace);
        let writes: [(Command, Take); 7] = [
            (Command::IncrBy(5), |k| assert!(k.add_integer(0, b"k", -1).is_ok())),
            (Command::AppendPart("ab".into()), |k| assert!(k.put(0, b"k", Path::String, Value::Bytes(b"a")))),
            (Command::HIncrBy("f".into(), 2), |k| assert!(k.add_integer_field(0, b"k", b"f", -1).is_ok())),
            (Command::SAdd("m".into()), |k| k.take(0, b"k", Path::Member(b"m"))),
            (Command::ZIncrBy("m".into(), 1.5), |k| assert!(k.put(0, b"k", Path::Scored(b"m"), Value::Score(1.0)))),
            (pushed(), |k| k.list_remove(0, b"k", 0, 1)),
            (set("x"), |k| assert!(k.put(0, b"k", Path::String, Value::Bytes(b"y")))),
        ];
        for (command, take) in writes {
            let mut world = world(2, Rules::default());
            world.command(A, "k", command.clone())?;
            world.settle()?;
            world.check_losses()?;
            world.instances.iter_mut().for_each(|instance| take(&mut instance.keyspace));
            assert!(world.check_losses().is_err(), "of {command:?} something was taken");
        }
        Ok(())
    }

    #[test]
    fn what_a_client_has_removed_is_not_missed() -> Check {
        let removed = [
            (Command::IncrBy(5), Command::Del),
            (Command::HIncrBy("f".into(), 2), Command::HDel("f".into())),
            (Command::SAdd("m".into()), Command::SRem("m".into())),
            (Command::SAdd("m".into()), set("y")),
            (pushed(), Command::Pop(End::Head, 1, true)),
        ];
        for (write, remove) in removed {
            let mut world = world(2, Rules::default());
            world.command(A, "k", write)?;
            world.pull(A, B)?;
            world.command(B, "k", remove)?;
            world.settle()?;
            world.check_losses()?;
        }
        Ok(())
    }

    /// B asserts its text, with the digits that it has appended, and has not seen what A had added before. That comes on top of the text then, and before
    /// the digits by the order of the writes: it shows a lower number, which has all of them.
    fn asserted_below_an_older_increment() -> Result<(World, usize), String> {
        let plan = Plan { failover: Failover::LosesAnything, hot: true, ..plan(3, Rules::default()) };
        let mut world = World::new(&plan, false);
        let backup = world.instances[C].logged();
        world.command(A, "k", Command::IncrBy(1))?;
        world.settle()?;
        world.fail_over(C, backup)?;
        world.command(A, "k", Command::IncrBy(3))?;
        world.command(B, "k", Command::AppendPart("324".into()))?;
        world.sync(C, B)?;
        assert_eq!(world.instances[B].shard.counters().reasserted, 1);
        world.heal()?;
        world.all_show("k", Some("1327"))?;
        Ok((world, backup))
    }

    /// Seed 30201506169.
    #[test]
    fn what_an_assertion_puts_below_an_older_increment_is_not_missed() -> Check {
        asserted_below_an_older_increment().map(drop)
    }

    /// Then B asserts all of it: an assertion that has taken up every write, and lacks one, is a loss whatever the order.
    #[test]
    fn what_an_assertion_lacks_in_any_order_is_missed() -> Check {
        let (mut world, backup) = asserted_below_an_older_increment()?;
        world.settle()?;
        world.fail_over(C, backup)?;
        world.sync(C, B)?;
        assert_eq!(world.instances[B].shard.counters().reasserted, 2);
        world.heal()?;
        world.all_show("k", Some("1327"))?;
        let name = (0, b"k".to_vec());
        // Without the 3; without the digits; without the 1.
        for text in ["1324", "4", "327"] {
            for instance in &mut world.instances {
                let [live] = instance.oracle.lacking(&name, b"", &Oracle::default())[..] else {
                    return Err("more lives than the last assertion".into());
                };
                let value = Value::Bytes(text.as_bytes());
                let op = Op::Assign { path: Path::String, value, reasserted: true };
                let effect = Effect { db: 0, key: b"k", ttl: TtlNote::None, op };
                let again = DotName { index: live.index + 1, ..live };
                instance.oracle.apply(&effect, again, &Context::new());
                assert!(instance.keyspace.put(0, b"k", Path::String, value));
            }
            assert!(world.check_losses().is_err(), "{text} lacks something");
        }
        Ok(())
    }

    /// What a write that was not seen adds is there, and more must not be.
    #[test]
    fn what_a_removal_had_not_seen_is_missed() -> Check {
        let mut world = world(2, Rules::default());
        world.command(A, "k", Command::IncrBy(5))?;
        world.pull(A, B)?;
        world.command(A, "k", Command::IncrBy(1))?;
        world.command(B, "k", Command::Del)?;
        world.settle()?;
        world.check_losses()?;
        world.instances[A].keyspace.delete(0, b"k", ClearReason::Deleted);
        assert!(world.check_losses().is_err());
        Ok(())
    }
}
