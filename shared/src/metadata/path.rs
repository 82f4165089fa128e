//! What is known of one path: its live dots.

use std::cmp::Ordering;

use smallvec::{SmallVec, smallvec};

use super::fold::Class;
use super::increments::{Incremented, Increments};
use super::patches::Patches;
use super::payload::Payload;
use crate::clock::VectorClock;
use crate::decimal::Decimal;
use crate::dot::{Dot, Seen};
use crate::number::Number;
use crate::origin::Origins;
use crate::patch::{Patch, Prior};

/// One live `Assign`.
#[derive(Clone, Debug, PartialEq)]
pub struct Assigned {
    /// Its identity.
    pub dot: Dot,
    /// T7: ranks below every unflagged live dot of its path.
    pub reasserted: bool,
    /// Its payload, or none while the dataset holds it (see [`PathMeta`]).
    pub payload: Option<Payload>,
}

/// The entry without a dot: what was there before any live dot, known to be everywhere (DESIGN 2.2).
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Base {
    /// There is none.
    #[default]
    None,
    /// There is one. Without a payload the dataset holds it (see [`PathMeta`]).
    Stable(Option<Payload>),
}

/// The live dots of one path.
///
/// Invariant: the *top* (highest live `Assign`, else the base) may have no payload here: then the dataset's value is
/// the top's own, plus the sum of the live increments if there are any; the top is a number then, written as sums are
/// ([`Decimal::format`]), and no score. Under live patches see [`Patches`]. Every other `Assign` has its payload here. So a plain write stores no value twice,
/// and a counter needs no look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PathMeta {
    /// Live `Assign`s in no particular order.
    pub assigns: SmallVec<[Assigned; 1]>,
    /// What only paths with increments or a base under them need.
    pub sum: Option<Box<Sum>>,
}

/// Base and increments of a path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sum {
    /// The entry without dot.
    pub base: Base,
    /// Live `Increment`s.
    pub increments: Increments,
    /// Live `Patch`es, if there are any.
    pub patches: Option<Box<Patches>>,
}

/// Which entry is the top of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Top {
    /// No `Assign` and no base: increments count from 0.
    Nothing,
    /// The entry without dot.
    Base,
    /// `assigns[i]`.
    Assign(usize),
}

impl PathMeta {
    /// A path that one effect has written whole; the dataset shows it.
    #[must_use]
    pub fn shown(dot: Dot) -> Self {
        Self { assigns: smallvec![Assigned { dot, reasserted: false, payload: None }], sum: None }
    }

    /// A path that is there without a dot.
    #[must_use]
    pub fn stable(payload: Option<Payload>) -> Self {
        Self { assigns: SmallVec::new(), sum: Some(Box::new(Sum { base: Base::Stable(payload), ..Sum::default() })) }
    }

    /// The live increments.
    #[must_use]
    pub fn increments(&self) -> &[Incremented] {
        self.sum.as_ref().map_or(&[], |sum| sum.increments.list())
    }

    /// What the live increments add to a string or a field.
    #[must_use]
    pub fn added(&self) -> Decimal {
        self.sum.as_ref().map_or(Decimal::ZERO, |sum| sum.increments.sum())
    }

    /// Adds a live increment. Whether it comes last in effect order.
    pub fn increment(&mut self, dot: Dot, delta: Number, origins: &Origins) -> bool {
        self.sum.get_or_insert_default().increments.insert(Incremented { dot, delta }, origins)
    }

    /// Gives a path that has none its live increments.
    pub fn take_increments(&mut self, increments: Increments) {
        if !increments.is_empty() {
            self.sum.get_or_insert_default().increments = increments;
        }
    }

    /// Takes the live dots of another state of the path that are `wanted`.
    pub fn take_dots(&mut self, from: &Self, wanted: impl Fn(&Dot) -> bool) {
        self.assigns.extend(from.assigns.iter().filter(|a| wanted(&a.dot)).cloned());
        for increment in from.increments().iter().filter(|i| wanted(&i.dot)) {
            self.sum.get_or_insert_default().increments.push(*increment);
        }
        for (dot, part) in from.patches().into_iter().flat_map(Patches::parts).filter(|(dot, _)| wanted(dot)) {
            self.patches_mut().push(dot, part.patch());
        }
    }

    /// The base and the live dots that are `wanted`. What the path shows is explicit.
    #[must_use]
    pub fn part(&self, wanted: impl Fn(&Dot) -> bool) -> Self {
        let mut part = if self.has_base() { Self::stable(self.payload(Top::Base).cloned()) } else { Self::default() };
        part.take_dots(self, wanted);
        part
    }

    /// The live patches.
    #[must_use]
    pub fn patches(&self) -> Option<&Patches> {
        self.sum.as_ref()?.patches.as_deref()
    }

    /// The dots of live patches; one may come several times.
    pub fn patch_dots(&self) -> impl Iterator<Item = &Dot> {
        self.patches().into_iter().flat_map(Patches::dots)
    }

    /// Where the next live patch goes.
    pub fn patches_mut(&mut self) -> &mut Patches {
        self.sum.get_or_insert_default().patches.get_or_insert_default()
    }

    /// Adds a live patch. `prior`: the string just before. If this is the first to write bytes, a short one becomes the payload of the
    /// top, less its increments; of a longer one, which is no number, it is noted how long it was.
    pub fn patch(&mut self, dot: Dot, patch: Patch<'_>, prior: Prior<'_>, origins: &Origins) {
        let is_first = patch.class() == Class::Text && !self.patches().is_some_and(Patches::has_text);
        if is_first && let Prior::Text(text) = prior {
            let (top, added) = (self.top(origins), self.added());
            if let Some(slot @ None) = self.payload_mut(top) {
                *slot = Some(Payload::Bytes(text.into()).less(added));
            }
        }
        let patches = self.patches_mut();
        if is_first {
            patches.len = prior.length();
        }
        patches.insert(dot, patch, origins);
    }

    /// Whether any dot lives here.
    #[must_use]
    pub fn has_dots(&self) -> bool {
        !self.assigns.is_empty() || !self.increments().is_empty() || self.patches().is_some()
    }

    /// Whether there is an entry without dot.
    #[must_use]
    pub fn has_base(&self) -> bool {
        self.sum.as_ref().is_some_and(|sum| sum.base != Base::None)
    }

    /// Whether it says only that an entry of a stream has yet to be handed out: no effect has said so, so none that was seen takes it back.
    #[must_use]
    pub fn is_late(&self) -> bool {
        let base = self.sum.as_ref().map(|sum| &sum.base);
        !self.has_dots() && matches!(base, Some(Base::Stable(Some(Payload::Late))))
    }

    /// Whether it is a delivery of which everybody knows that it is acknowledged: so it may be pruned.
    #[must_use]
    pub fn is_acknowledged_by_all(&self, stable: &VectorClock) -> bool {
        let is_acked = self.assigns.iter().any(|assigned| assigned.payload == Some(Payload::Acked));
        is_acked && self.dots().all(|dot| dot.is_in(stable))
    }

    /// Whether it is but an entry without dot that the dataset holds.
    #[must_use]
    pub fn is_dataset_only(&self) -> bool {
        !self.has_dots() && !self.keeps_unknown()
    }

    /// Whether it keeps a value that the dataset cannot hold.
    #[must_use]
    pub fn keeps_unknown(&self) -> bool {
        let base = self.sum.as_ref().map(|sum| &sum.base);
        matches!(base, Some(Base::Stable(Some(Payload::Unknown(_)))))
            || self.assigns.iter().any(|a| matches!(a.payload, Some(Payload::Unknown(_))))
    }

    /// Notes whether the dataset holds the payload of the top, after it was written there. If it does, it may be implied.
    pub fn held(&mut self, is_held: bool, origins: &Origins) {
        let top = self.top(origins);
        let Some(Some(payload)) = self.payload_mut(top) else { return };
        match payload {
            Payload::Bytes(bytes) if !is_held => *payload = Payload::Unknown(std::mem::take(bytes)),
            Payload::Unknown(bytes) if is_held => *payload = Payload::Bytes(std::mem::take(bytes)),
            _ => {}
        }
    }

    /// Whether nothing lives here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.assigns.is_empty() && self.sum.as_ref().is_none_or(|sum| sum.is_empty())
    }

    /// Every live dot.
    pub fn dots(&self) -> impl Iterator<Item = &Dot> {
        let increments = self.increments().iter().map(|i| &i.dot);
        self.assigns.iter().map(|a| &a.dot).chain(increments).chain(self.patch_dots())
    }

    /// Changes every live dot.
    pub(crate) fn dots_mut(&mut self, change: &mut impl FnMut(&mut Dot)) {
        self.assigns.iter_mut().for_each(|a| change(&mut a.dot));
        if let Some(sum) = &mut self.sum {
            sum.increments.dots_mut(&mut *change);
            sum.patches.iter_mut().for_each(|p| p.dots_mut(&mut *change));
        }
    }

    /// Whether something here survives a removal by an author who had seen `seen`.
    #[must_use]
    pub fn survives(&self, seen: &Seen<'_>) -> bool {
        self.dots().any(|dot| !seen.has(dot)) || (self.has_base() && !seen.has_stable())
    }

    /// Removes what the author had seen. The caller has made the payloads explicit if anything survives.
    pub fn remove_seen(&mut self, seen: &Seen<'_>) {
        self.assigns.retain(|a| !seen.has(&a.dot));
        if let Some(sum) = &mut self.sum {
            sum.increments.retain(|i| !seen.has(&i.dot));
            sum.patches.iter_mut().for_each(|p| p.retain(|dot| !seen.has(dot)));
            sum.patches.take_if(|p| p.is_empty());
            if seen.has_stable() {
                sum.base = Base::None;
            }
            if sum.is_empty() {
                self.sum = None;
            }
        }
    }

    /// The entry that decides the value before increments: unflagged before flagged before the base, the
    /// higher in effect order first.
    #[must_use]
    pub fn top(&self, origins: &Origins) -> Top {
        let best = self.assigns.iter().enumerate().max_by(|(_, a), (_, b)| a.rank(b, origins));
        match best {
            Some((i, _)) => Top::Assign(i),
            None if self.has_base() => Top::Base,
            None => Top::Nothing,
        }
    }

    /// The payload slot of the top.
    pub fn payload_mut(&mut self, top: Top) -> Option<&mut Option<Payload>> {
        match top {
            Top::Nothing => None,
            Top::Base => match &mut self.sum.as_mut()?.base {
                Base::Stable(payload) => Some(payload),
                Base::None => None,
            },
            Top::Assign(i) => self.assigns.get_mut(i).map(|a| &mut a.payload),
        }
    }

    /// The payload of the top, if it is kept here.
    #[must_use]
    pub fn payload(&self, top: Top) -> Option<&Payload> {
        match top {
            Top::Nothing => None,
            Top::Base => match &self.sum.as_ref()?.base {
                Base::Stable(payload) => payload.as_ref(),
                Base::None => None,
            },
            Top::Assign(i) => self.assigns.get(i)?.payload.as_ref(),
        }
    }

    /// Bytes on the heap, for `metadata_bytes`.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let spilled = if self.assigns.spilled() { self.assigns.capacity() * size_of::<Assigned>() } else { 0 };
        let parked: usize = self.assigns.iter().filter_map(|a| a.payload.as_ref()).map(Payload::heap_bytes).sum();
        let patches = self.patches().map_or(0, |p| size_of::<Patches>() + p.heap_bytes());
        let sum = self.sum.as_ref().map_or(0, |s| size_of::<Sum>() + s.increments.heap_bytes()) + patches;
        spilled + parked + sum
    }
}

impl Sum {
    fn is_empty(&self) -> bool {
        self.base == Base::None && self.increments.is_empty() && self.patches.is_none()
    }
}

impl Assigned {
    /// Flagged dots rank below unflagged ones (T7), else effect order.
    #[must_use]
    pub fn rank(&self, other: &Self, origins: &Origins) -> Ordering {
        other.reasserted.cmp(&self.reasserted).then_with(|| self.dot.effect_order(&other.dot, origins))
    }
}
