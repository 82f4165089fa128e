//! What live increments and patches make of a value, one after the other in effect order.
//!
//! Increments alone, or registers alone, need no order and are folded elsewhere; this is for strings with patches.

use crate::clock::VectorClock;
use crate::decimal::Decimal;
use crate::dot::Dot;
use crate::hyperloglog::{self, HyperLogLog};
use crate::number::Number;
use crate::origin::Origins;
use crate::patch::Prior;

use super::patches::{Part, Patches};
use super::path::{Base, PathMeta, Sum, Top};
use super::payload::Payload;

/// A live dot that changes the value of the path's top.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Delta<'a> {
    Number(Number),
    Patch(Part<'a>),
}

/// What increments and patches there are on a path. Those of one class go with each other: the dataset can stand for the top below
/// them. Of two classes it cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Increments.
    Numbers,
    /// Bits, bytes, appended ones.
    Text,
    /// Registers of a HyperLogLog.
    Registers,
}

impl PathMeta {
    /// The string that they all make; `None` when nothing lives here. The top's payload, if it has one, is here.
    #[must_use]
    pub fn folded(&self, origins: &Origins) -> Option<Vec<u8>> {
        let value = self.payload(self.top(origins)).and_then(Payload::text).map(<[u8]>::to_vec);
        fold(value, self.deltas(origins, |_| true).into_iter().map(|(_, delta)| delta)).text
    }

    /// Whether patches of bytes are kept, and not shown: the value below them is a HyperLogLog.
    #[must_use]
    pub fn hides_text(&self, origins: &Origins) -> bool {
        self.payload(self.top(origins)).and_then(Payload::text).is_some_and(hyperloglog::is_claimed)
    }

    /// Those that `wanted` names, in effect order.
    fn deltas(&self, origins: &Origins, wanted: impl Fn(&Dot) -> bool) -> Vec<(Dot, Delta<'_>)> {
        let numbers = self.increments().iter().map(|i| (i.dot, Delta::Number(i.delta)));
        let patches = self.patches().into_iter().flat_map(|p| p.parts()).map(|(dot, part)| (dot, Delta::Patch(part)));
        let mut deltas: Vec<_> = numbers.chain(patches).filter(|(dot, _)| wanted(dot)).collect();
        deltas.sort_by(|a, b| a.0.effect_order(&b.0, origins));
        deltas
    }

    /// Whether increments or patches of another class live here.
    #[must_use]
    pub fn has_other_than(&self, class: Class) -> bool {
        let numbers = !self.increments().is_empty();
        let (text, registers) = self.patches().map_or((false, false), |p| (p.has_text(), p.has_registers()));
        (class != Class::Numbers && numbers)
            || (class != Class::Text && text)
            || (class != Class::Registers && registers)
    }

    /// The class, if there is but one.
    fn only_class(&self) -> Option<Class> {
        let is_only = |class: &Class| !self.has_other_than(*class);
        [Class::Numbers, Class::Text, Class::Registers].into_iter().find(is_only)
    }

    /// Folds stable increments and patches into the base, from the first in effect order up to the first unstable one: what is still to
    /// come has seen all of them, so it comes behind. All `Assign`s are stable, and the dataset shows this path.
    ///
    /// The base that remains is implied if it can be. None of them is folded where they would become a HyperLogLog that hides the others.
    pub(super) fn fold_patches(&mut self, stable: &VectorClock, origins: &Origins) {
        let top = self.top(origins);
        let is_implied = top != Top::Nothing && self.payload(top).is_none();
        let deltas_of =
            |path: &Self| path.increments().iter().map(|i| i.dot).chain(path.patch_dots().copied()).collect();
        let dots: Vec<Dot> = deltas_of(self);
        let unstable = dots.iter().filter(|dot| !dot.is_in(stable));
        let first_unstable = unstable.min_by(|a, b| a.effect_order(b, origins)).copied();
        let is_folded = |dot: &Dot| first_unstable.is_none_or(|first| dot.effect_order(&first, origins).is_lt());
        let folded = self.deltas(origins, is_folded);
        let is_text = |part: Part<'_>| !matches!(part, Part::Registers(_));
        let has_others =
            self.patches().into_iter().flat_map(Patches::parts).any(|(dot, part)| is_text(part) && !is_folded(&dot));
        let (value, len) = if is_implied {
            (None, folded.iter().fold(self.base_len(origins), |len, (_, delta)| delta.grown(len)))
        } else {
            let base = self.payload(top).and_then(Payload::text).map(<[u8]>::to_vec);
            let hides = base.as_deref().is_some_and(hyperloglog::is_claimed);
            let Folded { text: value, is_raised } = fold(base, folded.iter().map(|(_, delta)| *delta));
            let becomes_one = !hides && !is_raised && value.as_deref().is_some_and(hyperloglog::is_claimed);
            if has_others && becomes_one {
                return;
            }
            let len = value.as_ref().map_or(0, |value| value.len() as u64);
            (value, len)
        };
        let Some(sum) = &mut self.sum else { return };
        sum.increments.retain(|i| !is_folded(&i.dot));
        if let Some(patches) = &mut sum.patches {
            patches.retain(|dot| !is_folded(dot));
            patches.len = len;
        }
        sum.patches.take_if(|patches| patches.is_empty());
        let is_shown_as_one = |value: &[u8]| sum.is_hyperloglog_with_patches(value, origins);
        let is_one = value.as_deref().is_some_and(is_shown_as_one);
        self.assigns.clear();
        let base = match (value, self.only_class()) {
            (None, _) if !is_implied => Base::None,
            (None, _) => Base::Stable(None),
            // The dataset shows a sum, so it is written as sums are.
            (Some(value), Some(Class::Numbers)) if !is_sum(&value) => Base::Stable(Some(Payload::Bytes(value.into()))),
            // What may be a number stays known below patches.
            // The dataset does not tell what is below a HyperLogLog.
            (Some(value), Some(Class::Text)) if is_one || matches!(Prior::of(&value), Prior::Text(_)) => {
                Base::Stable(Some(Payload::Bytes(value.into())))
            }
            (Some(_), Some(_)) => Base::Stable(None),
            (Some(value), None) => Base::Stable(Some(Payload::Bytes(value.into()))),
        };
        if let Some(sum) = &mut self.sum {
            sum.base = base;
        }
    }

    /// Bytes of the top's own value.
    #[must_use]
    pub fn base_len(&self, origins: &Origins) -> u64 {
        match self.top(origins) {
            Top::Nothing => 0,
            top => match self.payload(top).and_then(Payload::text) {
                Some(text) => text.len() as u64,
                None => self.patches().map_or(0, |p| p.len),
            },
        }
    }
}

impl Sum {
    /// Whether the patches hide behind this value, or make a HyperLogLog of it.
    fn is_hyperloglog_with_patches(&self, value: &[u8], origins: &Origins) -> bool {
        let makes_one = |(patches, beginning): (&Patches, _)| patches.make_hyperloglog(beginning, origins);
        let with_beginning = self.patches.as_deref().zip(value.first_chunk().copied());
        hyperloglog::is_claimed(value) || with_beginning.is_some_and(makes_one)
    }
}

/// What increments and patches have made of a text.
struct Folded {
    /// Of nothing, if there were none.
    text: Option<Vec<u8>>,
    /// Whether registers were.
    is_raised: bool,
}

/// Whether the text is that of a sum.
pub(super) fn is_sum(text: &[u8]) -> bool {
    Decimal::parse(text).is_some_and(|number| number.format().as_bytes() == text)
}

impl Delta<'_> {
    /// How long it makes a string of `len` bytes; of patches only.
    fn grown(&self, len: u64) -> u64 {
        match self {
            Delta::Patch(Part::Append(bytes)) => len + bytes.len() as u64,
            Delta::Patch(part) => len.max(part.end().unwrap_or(0)),
            Delta::Number(_) => len,
        }
    }
}

/// Applies them in order. What does not fit is kept elsewhere, not shown: a number on what is none, registers on no HyperLogLog, bytes
/// on one. What bytes have made is none: whoever has written some by which it became one has not seen the others, or not written bytes
/// (`capture/effects/string.rs`).
fn fold<'a>(mut value: Option<Vec<u8>>, deltas: impl Iterator<Item = Delta<'a>>) -> Folded {
    let hides_text = value.as_deref().is_some_and(hyperloglog::is_claimed);
    // Registers are raised at once: nothing else changes a HyperLogLog.
    let mut raised: Option<HyperLogLog> = None;
    for delta in deltas {
        match delta {
            Delta::Patch(Part::Registers(registers)) => {
                if raised.is_none() {
                    raised = value.as_deref().map_or_else(|| Some(HyperLogLog::default()), HyperLogLog::parse);
                }
                raised.iter_mut().for_each(|all| all.raise(registers));
            }
            _ if raised.is_some() => {}
            Delta::Number(delta) => {
                let base = value.as_deref().map_or(Some(Decimal::ZERO), Decimal::parse);
                value = base.map(|base| base.plus(delta.into()).format().into_bytes()).or(value);
            }
            Delta::Patch(part) => {
                if !hides_text {
                    part.write(value.get_or_insert_default(), 0);
                }
            }
        }
    }
    let is_raised = raised.is_some();
    Folded { text: raised.map(|all| all.text()).or(value), is_raised }
}

impl crate::patch::Patch<'_> {
    /// What it goes with.
    #[must_use]
    pub const fn class(&self) -> Class {
        if let crate::patch::Patch::Registers(_) = self { Class::Registers } else { Class::Text }
    }
}

/// Whether the string is a HyperLogLog, but not as all sites write it.
#[must_use]
pub fn canonical(text: &[u8]) -> Option<Vec<u8>> {
    if hyperloglog::is_canonical(text) { None } else { HyperLogLog::parse(text).map(|all| all.text()) }
}
