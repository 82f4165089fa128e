//! Assertions that a later one would hide, though its author knew less (2.2 rule 5).
//!
//! Of several assertions of a path the last one shows. What everyone had when one was made may have had no dots any more: nobody keeps that in mind, so nobody could write
//! it again (`shard/taken.rs`). So an assertion must not be hidden by one whose author came back from before that. Who gets such a one has all that its author had seen (I-3), and
//! asserts the path after it: what is stable there ([`Merge::at_risk`], [`Merge::key_at_risk`]), and what has been asserted there already.

use super::regressed::has_stable;
use super::{Element, KeyRef, Merge, OwnedPath};
use crate::clock::VectorClock;
use crate::dot::Dot;
use crate::effect::{Kind, Path};
use crate::keyspace::Keyspace;
use crate::metadata::{KeyMeta, Top, path_of};

/// Which values one of several assertions decides. (Members are there by any of them, and what is stable of lists keeps its dots. Of streams an entry is the same in all; what is
/// pending may be so again.)
const fn is_decided(kind: Kind) -> bool {
    matches!(kind, Kind::String | Kind::Hash | Kind::SortedSet | Kind::Opaque)
}

impl<K: Keyspace> Merge<'_, K> {
    /// What shows of a path by an assertion that the one of `by`, whose author had `seen` so much, would hide. Not where something else of the path is stable: that is asserted with all
    /// that shows.
    pub(super) fn hidden(
        &mut self,
        key: KeyRef<'_>,
        path: Path<'_>,
        by: &Dot,
        (seen, stable): (&VectorClock, &VectorClock),
    ) -> Option<Element> {
        let ours = self.table.find(key.db, key.name).and_then(|at| self.table.meta(at).path(path))?;
        let Top::Assign(top) = ours.top(self.origins) else { return None };
        let top = ours.assigns.get(top).filter(|top| top.reasserted)?.dot;
        let is_hidden = !top.is_in(seen) && top.effect_order(by, self.origins).is_lt();
        if !is_decided(path.kind()) || !is_hidden || has_stable(Some(ours), stable) {
            return None;
        }
        self.native(key, path).map(|payload| Element { path: OwnedPath::new(path), payload })
    }

    /// The same of a key of a snapshot, whose source had `seen` so much.
    pub(super) fn all_hidden(
        &mut self,
        key: KeyRef<'_>,
        theirs: &KeyMeta,
        (seen, stable): (&VectorClock, &VectorClock),
    ) -> Vec<Element> {
        let kinds = theirs.kinds.iter().filter(|kind| is_decided(kind.kind));
        let paths = kinds.flat_map(|kind| kind.paths.iter().map(|(name, meta)| (path_of(kind.kind, name), meta)));
        let last = paths.filter_map(|(path, meta)| {
            let asserted = meta.assigns.iter().filter(|a| a.reasserted).map(|a| a.dot);
            Some((path, asserted.max_by(|a, b| a.effect_order(b, self.origins))?))
        });
        let last: Vec<(Path<'_>, Dot)> = last.collect();
        last.into_iter().filter_map(|(path, by)| self.hidden(key, path, &by, (seen, stable))).collect()
    }
}
