//! `view`: what a path shows, a pure function of its live dots (DESIGN 2, I-4).

use crate::decimal::Decimal;
use crate::effect::{Kind, UnixMs};
use crate::metadata::{PathMeta, Payload, Top};
use crate::number::add_scores;
use crate::origin::Origins;

/// The value in the dataset of a path whose payloads are all explicit; `None` when nothing lives there.
#[must_use]
pub fn view(meta: &PathMeta, kind: Kind, origins: &Origins) -> Option<Payload> {
    if meta.is_empty() {
        return None;
    }
    if kind == Kind::String && meta.patches().is_some() {
        return meta.folded(origins).map(|text| Payload::Bytes(text.into()));
    }
    let top = meta.payload(meta.top(origins));
    match kind {
        Kind::Set => Some(Payload::Present),
        Kind::Opaque | Kind::List => top.cloned(),
        Kind::Stream => part(top, meta),
        Kind::SortedSet => Some(Payload::Score(score(top, meta, origins))),
        Kind::String | Kind::Hash => text(top, meta),
    }
}

/// Score = highest `Assign` + increments. Doubles add in effect order, never in order of arrival (I-5).
fn score(top: Option<&Payload>, meta: &PathMeta, origins: &Origins) -> f64 {
    let base = match top {
        Some(Payload::Score(score)) => *score,
        _ => 0.0,
    };
    let Some(sum) = &meta.sum else { return base };
    sum.increments.ordered(origins).iter().fold(base, |sum, i| add_scores(sum, i.delta.as_float()))
}

/// A part of a stream: an acknowledgement hides all deliveries, the highest of several ids shows.
fn part(top: Option<&Payload>, meta: &PathMeta) -> Option<Payload> {
    let mut payloads = meta.assigns.iter().filter_map(|a| a.payload.as_ref()).chain(meta.payload(Top::Base));
    if payloads.clone().any(|payload| *payload == Payload::Acked) {
        return None;
    }
    match top? {
        Payload::Id(id) => {
            let highest = payloads.try_fold(*id, |id, payload| match payload {
                Payload::Id(other) => Some(id.max(*other)),
                _ => None,
            });
            highest.map(Payload::Id)
        }
        top => Some(top.clone()),
    }
}

/// Text = highest `Assign` + increments, if it is a number. Decimals need no order.
fn text(top: Option<&Payload>, meta: &PathMeta) -> Option<Payload> {
    let Some(top) = top else {
        return Some(Payload::Bytes(Decimal::ZERO.plus(meta.added()).format().into_bytes().into()));
    };
    let text = top.text()?;
    // Increments on a non-number: kept, not shown.
    let number = Decimal::parse(text).filter(|_| !meta.increments().is_empty());
    let shown = number.map(|number| number.plus(meta.added()).format().into_bytes().into());
    Some(Payload::text_until(shown.unwrap_or_else(|| text.into()), field_expiry(top, meta)))
}

/// When a field expires (T10): a write of it decides; where only its TTL was changed, by several at once, none wins, else the latest time.
fn field_expiry(top: &Payload, meta: &PathMeta) -> Option<UnixMs> {
    if !has_several_ttls(meta) || meta.assigns.iter().any(|a| !a.reasserted) {
        return top.expire_at();
    }
    let mut times = meta.assigns.iter().map(|a| a.payload.as_ref().and_then(Payload::expire_at));
    times.try_fold(UnixMs::MIN, |latest, at| Some(latest.max(at?)))
}

/// Whether what the dataset shows of a field may have the TTL of another `Assign` than the top.
fn has_several_ttls(meta: &PathMeta) -> bool {
    meta.assigns.len() > 1
        && meta.assigns.iter().any(|a| a.payload.as_ref().is_some_and(|payload| payload.expire_at().is_some()))
}

/// Whether the dataset may hold the payload of the top: see the invariant of [`PathMeta`].
#[must_use]
pub fn may_imply(meta: &PathMeta, top: Top) -> bool {
    if let Some(Payload::Id(_)) = meta.payload(top) {
        // The dataset holds the highest of several.
        return meta.assigns.len() + usize::from(meta.has_base()) == 1;
    }
    // The authors of patches may not have seen the top: pruning tells.
    if meta.patches().is_some() || has_several_ttls(meta) {
        return false;
    }
    meta.increments().is_empty()
        || match meta.payload(top) {
            Some(payload) => payload
                .text()
                .is_some_and(|bytes| Decimal::parse(bytes).is_some_and(|n| n.format().as_bytes() == bytes)),
            None => top == Top::Nothing,
        }
}
