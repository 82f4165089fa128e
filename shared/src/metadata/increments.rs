//! The live increments of a path, with their sum at hand: a counter that everybody writes to has many.

use std::cmp::Ordering;

use crate::clock::VectorClock;
use crate::decimal::Decimal;
use crate::dot::Dot;
use crate::number::{Number, add_scores};
use crate::origin::Origins;

/// One live `Increment`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Incremented {
    /// Its identity.
    pub dot: Dot,
    /// Its amount.
    pub delta: Number,
}

/// Live `Increment`s in no particular order.
///
/// Invariant: `sum` and `reach` are those of the list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Increments {
    list: Vec<Incremented>,
    /// What they add to a string or a field: exact, so in any order.
    sum: Decimal,
    /// The sum of their absolute values while all are whole, else infinite.
    reach: f64,
    /// The last in effect order, if known.
    last: Option<Dot>,
}

impl Increments {
    /// All of them.
    #[must_use]
    pub fn list(&self) -> &[Incremented] {
        &self.list
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What they add to a string or a field.
    #[must_use]
    pub fn sum(&self) -> Decimal {
        self.sum
    }

    /// One more.
    pub fn push(&mut self, increment: Incremented) {
        self.list.push(increment);
        self.last = None;
        self.count(increment.delta);
    }

    /// One more. Whether it comes last in effect order.
    pub fn insert(&mut self, increment: Incremented, origins: &Origins) -> bool {
        let order = |a: &Dot, b: &Dot| a.effect_order(b, origins);
        let last = self.last.or_else(|| self.list.iter().map(|i| i.dot).max_by(order));
        let is_last = last.is_none_or(|last| order(&last, &increment.dot) == Ordering::Less);
        self.push(increment);
        self.last = if is_last { Some(increment.dot) } else { last };
        is_last
    }

    fn count(&mut self, delta: Number) {
        self.sum = self.sum.plus(delta.into());
        let float = delta.as_float();
        self.reach += if float.fract() == 0.0 { float.abs() } else { f64::INFINITY };
    }

    /// Whether their sum over a score is the same in any order: all partial sums are whole and exact.
    #[must_use]
    pub fn is_exact_over(&self, base: f64) -> bool {
        /// Up to here doubles have every whole number.
        const EXACT: f64 = (1_u64 << 53) as f64;
        base.fract() == 0.0 && base.abs() + self.reach <= EXACT
    }

    /// In effect order.
    #[must_use]
    pub fn ordered(&self, origins: &Origins) -> Vec<Incremented> {
        let mut ordered = self.list.clone();
        ordered.sort_unstable_by(|a, b| a.dot.effect_order(&b.dot, origins));
        ordered
    }

    /// Keeps those for which `keep` says so.
    pub fn retain(&mut self, keep: impl FnMut(&Incremented) -> bool) {
        let mut list = std::mem::take(&mut self.list);
        list.retain(keep);
        *self = list.into_iter().collect();
    }

    /// Adds those that are stable to a score and drops them; returns the sum. Nothing that is still to come precedes them in effect
    /// order: whoever writes it has them. What is here already and is not stable may; then only those before it are taken.
    pub(super) fn fold_scores(&mut self, base: f64, stable: &VectorClock, origins: &Origins) -> f64 {
        let any_order = self.is_exact_over(base);
        let (mut sum, mut kept) = (base, Vec::new());
        for increment in self.ordered(origins) {
            if increment.dot.is_in(stable) && (any_order || kept.is_empty()) {
                sum = add_scores(sum, increment.delta.as_float());
            } else {
                kept.push(increment);
            }
        }
        *self = kept.into_iter().collect();
        sum
    }

    /// Changes every dot.
    pub(super) fn dots_mut(&mut self, change: impl FnMut(&mut Dot)) {
        self.last = None;
        self.list.iter_mut().map(|i| &mut i.dot).for_each(change);
    }

    /// Bytes on the heap, for `metadata_bytes`.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.list.capacity() * size_of::<Incremented>()
    }
}

impl FromIterator<Incremented> for Increments {
    fn from_iter<I: IntoIterator<Item = Incremented>>(increments: I) -> Self {
        let mut all = Self { list: increments.into_iter().collect(), ..Self::default() };
        for at in 0..all.list.len() {
            all.count(all.list[at].delta);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::{Incremented, Increments};
    use crate::decimal::Decimal;
    use crate::dot::Dot;
    use crate::instance::InstanceId;
    use crate::number::Number;
    use crate::origin::Origins;
    use crate::replid::ReplId;
    use crate::timestamp::Timestamp;

    #[test]
    fn the_sum_follows_what_comes_and_goes() {
        let mut origins = Origins::default();
        let origin = origins.intern(ReplId::from_bytes([7; 20]), InstanceId::new(1).unwrap()).unwrap();
        let one = |ts, delta| Incremented { dot: Dot { ts: Timestamp::from_bits(ts), index: 0, origin }, delta };
        let sum = |text: &str| Decimal::parse(text.as_bytes()).unwrap();
        let mut increments = Increments::default();
        assert!(increments.insert(one(1, Number::Integer(5)), &origins));
        assert!(increments.insert(one(4, Number::Integer(i64::MAX)), &origins));
        assert_eq!(increments.sum(), sum("9223372036854775812"));
        assert!(!increments.is_exact_over(0.0), "beyond 2^53");
        assert!(!increments.insert(one(3, Number::Float(0.5)), &origins));
        assert_eq!(increments.sum(), sum("9223372036854775812.5"));
        increments.retain(|i| i.dot.ts < Timestamp::from_bits(4));
        assert_eq!(increments.sum(), sum("5.5"));
        assert!(!increments.is_exact_over(0.0), "a fraction");
        assert!(!increments.insert(one(2, Number::Integer(1)), &origins), "the last is found again");
        increments.retain(|i| i.delta != Number::Float(0.5));
        assert!(increments.is_exact_over(1.0) && !increments.is_exact_over(0.5));
    }
}
