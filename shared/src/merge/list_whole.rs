//! Whole lists, when the general way wants them element by element: made explicit, written again, compared, visited.

use super::{KeyRef, Merge, view};
use crate::dot::{Dot, Seen};
use crate::effect::{Kind, Path, Value};
use crate::keyspace::Keyspace;
use crate::list::{List, gather, in_order};
use crate::metadata::{KeyMeta, KindMeta, PathMeta, Paths, Payload};

impl<K: Keyspace> Merge<'_, K> {
    /// Makes everything of a list explicit that `wanted` says.
    pub(super) fn expose_list(
        &mut self,
        key: KeyRef<'_>,
        kinds: &mut smallvec::SmallVec<[KindMeta; 1]>,
        mut wanted: impl FnMut(Path<'_>, &PathMeta) -> bool,
    ) {
        let known = kinds.iter().position(|kind| kind.kind == Kind::List).map(|at| kinds.remove(at).paths);
        let list = match known {
            Some(Paths::List(list)) => *list,
            Some(mut paths) if !paths.is_empty() => gather(&mut paths, self.origins),
            _ => List::base(self.keyspace.list_len(key.db, key.name)),
        };
        let hidden = list.hidden();
        let mut items: Vec<(Box<[u8]>, PathMeta)> =
            list.names().map(|name| Box::from(&name[..])).zip((0..).map(|index| list.meta(index))).collect();
        let mut shown =
            (0..items.len()).filter(|index| hidden.binary_search(index).is_err()).collect::<Vec<_>>().into_iter();
        let mut unwanted = vec![false; items.len()];
        let origins = self.origins;
        self.keyspace.elements(key.db, key.name, &mut |_, value| {
            let Some(index) = shown.next() else { return };
            let Some((name, meta)) = items.get_mut(index) else { return };
            if wanted(Path::Element(name), meta) {
                Self::expose_as(meta, Payload::from_value(value), origins);
            } else if let Some(unwanted) = unwanted.get_mut(index) {
                *unwanted = true;
            }
        });
        let kept = items.into_iter().zip(unwanted).filter(|(_, unwanted)| !unwanted).map(|(item, _)| item);
        let paths = Paths::Many(kept.collect());
        if !paths.is_empty() {
            kinds.push(KindMeta { kind: Kind::List, paths });
        }
    }

    /// A list beside another type goes, or sees that go, when all its dots are stable (2.2 rule 4): they come up for pruning like those of
    /// other types.
    pub(super) fn queue_list(&mut self, key: KeyRef<'_>, meta: &KeyMeta) {
        let Some(kind) = meta.kind(Kind::List).filter(|_| meta.kinds.len() > 1) else { return };
        let mut newest: Vec<Dot> = Vec::new();
        let mut note = |dot: Dot| match newest.iter_mut().find(|known| known.origin == dot.origin) {
            Some(known) if known.ts < dot.ts => *known = dot,
            Some(_) => {}
            None => newest.push(dot),
        };
        if let Paths::List(list) = &kind.paths {
            list.newest_dots().for_each(&mut note);
        }
        kind.paths.iter().flat_map(|(_, path)| path.dots()).for_each(|dot| note(*dot));
        newest.iter().for_each(|dot| self.queue(key, dot));
    }

    /// Writes a list that the dataset does not have.
    pub(super) fn restore_list(&mut self, key: KeyRef<'_>, paths: Paths) -> Paths {
        let mut items = in_order(paths);
        for (index, (_, meta)) in items.iter_mut().enumerate() {
            if let Some(Payload::Bytes(value)) = view::view(meta, Kind::List, self.origins) {
                self.keyspace.list_insert(key.db, key.name, index, &value);
            }
            self.imply(meta);
        }
        Paths::List(Box::new(List::gather(items.into_iter(), self.origins)))
    }

    /// Changes a list from what it was to what it is now, both explicit. Whether that is a difference to clients.
    pub(super) fn meet_list(&mut self, key: KeyRef<'_>, before: Paths, met: Paths) -> Paths {
        let (before, mut met) = (in_order(before), in_order(met));
        let (mut old, mut index) = (before.iter().peekable(), 0);
        for (name, meta) in &mut met {
            while let Some((_, _)) = old.next_if(|(known, _)| *known < *name) {
                self.keyspace.list_remove(key.db, key.name, index, 1);
            }
            let was =
                old.next_if(|(known, _)| *known == *name).map(|(_, meta)| view::view(meta, Kind::List, self.origins));
            let shown = view::view(meta, Kind::List, self.origins);
            if let Some(Payload::Bytes(value)) = &shown {
                match &was {
                    None => self.keyspace.list_insert(key.db, key.name, index, value),
                    Some(was) if *was != shown => self.keyspace.list_set(key.db, key.name, index, value),
                    Some(_) => {}
                }
            }
            self.imply(meta);
            index += 1;
        }
        let rest = old.count();
        if rest > 0 {
            self.keyspace.list_remove(key.db, key.name, index, rest);
        }
        Paths::List(Box::new(List::gather(met.into_iter(), self.origins)))
    }

    /// Visits the elements of a list that the dataset shows, with what is known of them.
    pub(super) fn items(&mut self, key: KeyRef<'_>, mut visit: impl FnMut(Path<'_>, PathMeta, Value<'_>)) {
        let known = self.table.find(key.db, key.name).and_then(|id| self.table.meta(id).list());
        let base;
        let list = match known {
            Some(list) => list,
            None => {
                base = List::base(self.keyspace.list_len(key.db, key.name));
                &base
            }
        };
        let mut names = list.names().zip(0..);
        self.keyspace.elements(key.db, key.name, &mut |_, value| {
            if let Some((name, index)) = names.next() {
                visit(Path::Element(&name), list.meta(index), value);
            }
        });
    }
}

impl List {
    /// Removes what was seen; the dataset has nothing of the rest.
    pub(super) fn clear_seen(&mut self, seen: &Seen<'_>) {
        for index in (0..self.len()).rev() {
            let mut meta = self.meta(index);
            meta.remove_seen(seen);
            if meta.is_empty() {
                self.remove(index..index + 1);
            } else {
                self.set_meta(index, meta);
                self.hide(index);
            }
        }
    }
}
