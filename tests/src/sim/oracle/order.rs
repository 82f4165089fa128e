//! Other orders of what changes a string than that of the effects: what was asserted again has its place before what is written later, whatever the clocks say.

use syncer_shared::effect::Kind;

use super::{Live, Oracle, OwnedPatch, What};

/// Of so many changes all orders are tried.
const CHANGES_MAX: usize = 8;

impl Oracle {
    /// Whether the order of what changes a string may make another one of it than the same bytes in another order.
    #[must_use]
    pub fn goes_by_order(&self, name: &(u32, Vec<u8>)) -> bool {
        let values = self.keys.get(name).map_or(&[][..], |key| &key.values);
        let is_patch = |live: &Live| matches!(live.what, What::Patch(_));
        let only_joins = |live: &Live| matches!(live.what, What::Assign { .. } | What::Patch(OwnedPatch::Append(_)));
        values.iter().any(is_patch) && !values.iter().all(only_joins)
    }

    /// Whether all that lives of a string, each once, makes this text of it in some order. Of very many changes it is not told.
    #[must_use]
    pub fn makes_in_some_order(&self, name: &(u32, Vec<u8>), text: &[u8]) -> bool {
        let values = self.keys.get(name).map_or(&[][..], |key| &key.values);
        let assigns = values.iter().filter_map(|live| match &live.what {
            What::Assign { payload, flagged } => Some(((!flagged, live.dot), payload)),
            What::Increment(_) | What::Patch(_) => None,
        });
        let top = assigns.max_by_key(|(rank, _)| *rank).and_then(|(_, payload)| payload.text());
        let changes: Vec<&What> =
            values.iter().map(|live| &live.what).filter(|what| !matches!(what, What::Assign { .. })).collect();
        let hides = top.is_some_and(|text| text.starts_with(b"HYLL"));
        values.iter().all(|live| live.kind == Kind::String)
            && changes.len() <= CHANGES_MAX
            && makes(top.map(<[u8]>::to_vec), hides, &changes, text)
    }
}

/// Whether what is left makes the wanted text of this one.
fn makes(text: Option<Vec<u8>>, hides: bool, left: &[&What], wanted: &[u8]) -> bool {
    if left.is_empty() {
        return text.as_deref() == Some(wanted);
    }
    (0..left.len()).any(|next| {
        let (mut rest, mut hides) = (left.to_vec(), hides);
        let text = rest.remove(next).change(text.clone(), &mut hides);
        makes(text, hides, &rest, wanted)
    })
}
