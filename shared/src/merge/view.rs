//! `view`: what a path shows, a pure function of its live dots (DESIGN 2, I-4).

use std::borrow::Cow;

use crate::effect::Kind;
use crate::metadata::{Incremented, PathMeta, Payload, Top};
use crate::number::{Number, Total};
use crate::origin::Origins;

/// What a path shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// The value in the dataset.
    pub payload: Payload,
    /// The exact sum of integers does not fit 64 bits.
    pub clamped: bool,
}

/// The view of a path whose payloads are all explicit; `None` when nothing lives there.
#[must_use]
pub fn view(meta: &PathMeta, kind: Kind, origins: &Origins) -> Option<Shown> {
    if meta.is_empty() {
        return None;
    }
    let top = meta.payload(meta.top(origins));
    let plain = |payload| Some(Shown { payload, clamped: false });
    match kind {
        Kind::Set => plain(Payload::Present),
        Kind::Opaque => plain(top?.clone()),
        Kind::SortedSet => plain(Payload::Score(score(top, meta, origins))),
        Kind::String | Kind::Hash => Some(text(top, meta, origins)?),
    }
}

/// Score = highest `Assign` + increments, folded in effect order. Opposite infinities make 0, as in `ZUNIONSTORE`.
fn score(top: Option<&Payload>, meta: &PathMeta, origins: &Origins) -> f64 {
    let base = match top {
        Some(Payload::Score(score)) => *score,
        _ => 0.0,
    };
    let sum = ordered(meta, origins).iter().fold(base, |sum, i| sum + i.delta.as_float());
    if sum.is_nan() { 0.0 } else { sum }
}

fn text(top: Option<&Payload>, meta: &PathMeta, origins: &Origins) -> Option<Shown> {
    let base = match top {
        Some(Payload::Bytes(bytes)) if meta.increments().is_empty() => {
            return Some(Shown { payload: Payload::Bytes(bytes.clone()), clamped: false });
        }
        Some(Payload::Bytes(bytes)) => match Number::parse(bytes) {
            Some(number) => number,
            // Increments on a non-number: kept, not shown.
            None => return Some(Shown { payload: Payload::Bytes(bytes.clone()), clamped: false }),
        },
        Some(_) => return None,
        None => Number::Integer(0),
    };
    let (sum, clamped) = add(base, meta, origins);
    let text: Cow<'_, [u8]> = sum.format().into_bytes().into();
    Some(Shown { payload: Payload::Bytes(text.into()), clamped })
}

/// Base plus increments. Integers need no order.
fn add(base: Number, meta: &PathMeta, origins: &Origins) -> (Number, bool) {
    if let (Number::Integer(base), Some(sum)) = (base, integers(meta.increments())) {
        return Total::Integer(i128::from(base) + sum).shown();
    }
    ordered(meta, origins).iter().fold(Total::from(base), |total, i| total.plus(i.delta)).shown()
}

/// The sum of increments, if all are integers.
#[must_use]
pub fn integers(increments: &[Incremented]) -> Option<i128> {
    increments.iter().try_fold(0, |sum, i| match i.delta {
        Number::Integer(delta) => Some(sum + i128::from(delta)),
        Number::Float(_) => None,
    })
}

/// Floats add in effect order, never in order of arrival (I-5).
fn ordered<'a>(meta: &'a PathMeta, origins: &Origins) -> Vec<&'a Incremented> {
    let mut ordered: Vec<&Incremented> = meta.increments().iter().collect();
    ordered.sort_unstable_by(|a, b| a.dot.effect_order(&b.dot, origins));
    ordered
}

/// Whether the dataset may hold the payload of the top: see the invariant of [`PathMeta`].
#[must_use]
pub fn may_imply(meta: &PathMeta, top: Top, clamped: bool) -> bool {
    if meta.increments().is_empty() {
        return true;
    }
    let integer = match meta.payload(top) {
        Some(Payload::Bytes(bytes)) => matches!(Number::parse(bytes), Some(Number::Integer(_))),
        Some(_) => false,
        None => top == Top::Nothing,
    };
    integer && !clamped && integers(meta.increments()).is_some()
}
