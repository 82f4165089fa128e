//! What is known of one key.

use std::collections::BTreeMap;
use std::ops::Bound;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::path::PathMeta;
use super::ttl::TtlMeta;
use crate::dot::{Dot, Seen};
use crate::effect::{Kind, Path};
use crate::list::List;
use crate::origin::{Origin, Origins};

/// The live dots of a key: per value type, per path, and of its TTL.
///
/// Invariant: at most one kind is the dataset's; all payloads of the others are kept here. A path that is not
/// listed has no dots: if the dataset has it, it is stable.
#[derive(Clone, Debug, Default)]
pub struct KeyMeta {
    /// Live dots by value type; nearly always one.
    pub kinds: SmallVec<[KindMeta; 1]>,
    /// Live TTL dots.
    pub ttl: TtlMeta,
}

/// The live dots of one value type of a key.
#[derive(Clone, Debug)]
pub struct KindMeta {
    /// The type.
    pub kind: Kind,
    /// Its paths.
    pub paths: Paths,
}

/// The paths of one value type.
#[derive(Clone, Debug)]
pub enum Paths {
    /// Of a type with a single path: strings and whole values.
    Whole(PathMeta),
    /// A few elements: a list is smaller and faster than a map.
    Few(Vec<(Box<[u8]>, PathMeta)>),
    /// Of streams, by name: a trim takes a range of them.
    Ordered(BTreeMap<Box<[u8]>, PathMeta>),
    /// Many elements.
    Many(HashMap<Box<[u8]>, PathMeta, foldhash::fast::RandomState>),
    /// The elements of a list that the dataset shows. A list that is parked, or being rewritten, has its elements listed like
    /// those of other types. What goes through single paths does not see these.
    List(Box<List>),
}

impl KeyMeta {
    /// Whether nothing is known of the key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty() && self.ttl.is_empty()
    }

    /// The entry of a type.
    #[must_use]
    pub fn kind(&self, kind: Kind) -> Option<&KindMeta> {
        self.kinds.iter().find(|k| k.kind == kind)
    }

    /// The entry of a type.
    pub fn kind_mut(&mut self, kind: Kind) -> Option<&mut KindMeta> {
        self.kinds.iter_mut().find(|k| k.kind == kind)
    }

    /// The entry of a type, made if need be.
    pub fn kind_or_insert(&mut self, kind: Kind) -> &mut KindMeta {
        let at = self.kinds.iter().position(|k| k.kind == kind).unwrap_or_else(|| {
            self.kinds.push(KindMeta { kind, paths: Paths::new(kind) });
            self.kinds.len() - 1
        });
        &mut self.kinds[at]
    }

    /// The entry of a path.
    #[must_use]
    pub fn path(&self, path: Path<'_>) -> Option<&PathMeta> {
        self.kind(path.kind())?.paths.get(path)
    }

    /// Every live dot, of values and of the TTL; of a list, the newest of each run and those that its ids do not imply.
    pub fn dots(&self) -> impl Iterator<Item = Dot> {
        let values = self.kinds.iter().flat_map(|k| k.paths.iter()).flat_map(|(_, path)| path.dots().copied());
        let lists = self.list().into_iter().flat_map(List::newest_dots);
        values.chain(lists).chain(self.ttl.dots.iter().map(|t| t.dot))
    }

    /// Whether there is nothing but the ids of a list, which stay for ever (rule L8).
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.ttl.is_empty() && self.kinds.len() == 1 && self.list().is_some_and(List::is_at_rest)
    }

    /// Packs the ids of a list of a saved state, if it is one that the dataset shows.
    pub(crate) fn gather_list(&mut self, origins: &Origins) {
        let shown = crate::merge::winner(self, origins);
        if let Some(kind) = shown.and_then(|at| self.kinds.get_mut(at)).filter(|kind| kind.kind == Kind::List) {
            kind.paths = Paths::List(Box::new(crate::list::gather(&mut kind.paths, origins)));
        }
    }

    /// The list that the dataset shows.
    #[must_use]
    pub fn list(&self) -> Option<&List> {
        self.kinds.iter().find_map(|k| if let Paths::List(list) = &k.paths { Some(&**list) } else { None })
    }

    /// The list that the dataset shows.
    pub fn list_mut(&mut self) -> Option<&mut List> {
        self.kinds.iter_mut().find_map(|k| if let Paths::List(list) = &mut k.paths { Some(&mut **list) } else { None })
    }

    /// The list that the dataset shows, if it shows all of its elements and no other type is known of the key.
    pub fn plain_list_mut(&mut self) -> Option<&mut List> {
        match self.kinds.as_mut_slice() {
            [KindMeta { kind: Kind::List, paths: Paths::List(list) }] if list.is_all_shown() => Some(list),
            _ => None,
        }
    }

    /// Whether it is a value that the dataset cannot hold.
    #[must_use]
    pub fn keeps_unknown(&self) -> bool {
        self.kinds.iter().any(|k| k.kind == Kind::Opaque && k.paths.any(PathMeta::keeps_unknown))
    }

    /// Gives every dot the origin that another shard's number stands for here.
    ///
    /// # Errors
    /// The number that stands for none.
    pub fn rename_origins(&mut self, names: &[Origin]) -> Result<(), Origin> {
        let mut unknown = None;
        let mut rename = |dot: &mut Dot| match names.get(dot.origin.index()) {
            Some(origin) => dot.origin = *origin,
            None => unknown = Some(dot.origin),
        };
        for kind in &mut self.kinds {
            kind.paths.retain(|_, path| {
                path.dots_mut(&mut rename);
                true
            });
            if let Paths::List(list) = &mut kind.paths {
                list.rename_origins(&mut rename);
            }
        }
        self.ttl.dots.iter_mut().for_each(|t| rename(&mut t.dot));
        unknown.map_or(Ok(()), Err)
    }

    /// Drops entries in which nothing lives.
    pub fn drop_empty(&mut self) {
        for kind in &mut self.kinds {
            kind.paths.retain(|_, meta| !meta.is_empty());
        }
        self.drop_empty_kinds();
    }

    /// Drops types without an entry: enough after single paths were taken out, and at no cost per element that stays.
    pub fn drop_empty_kinds(&mut self) {
        self.kinds.retain(|k| !k.paths.is_empty());
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.kinds.iter().map(|k| k.paths.heap_bytes()).sum::<usize>() + self.ttl.heap_bytes()
    }
}

/// The name of an element inside its key; empty for types with a single path.
#[must_use]
pub const fn element<'a>(path: Path<'a>) -> &'a [u8] {
    match path {
        Path::String | Path::Opaque => &[],
        Path::Field(name) | Path::Member(name) | Path::Scored(name) | Path::Stream(name) | Path::Element(name) => name,
    }
}

/// The path of an element of a type.
#[must_use]
pub const fn path_of(kind: Kind, element: &[u8]) -> Path<'_> {
    match kind {
        Kind::String => Path::String,
        Kind::Hash => Path::Field(element),
        Kind::Set => Path::Member(element),
        Kind::SortedSet => Path::Scored(element),
        Kind::Opaque => Path::Opaque,
        Kind::Stream => Path::Stream(element),
        Kind::List => Path::Element(element),
    }
}

impl Paths {
    /// Above this many elements a map is used.
    const FEW_MAX: usize = 8;

    /// No paths of a type.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        match kind {
            Kind::String | Kind::Opaque => Paths::Whole(PathMeta::default()),
            Kind::Hash | Kind::Set | Kind::SortedSet | Kind::List => Paths::Few(Vec::new()),
            Kind::Stream => Paths::Ordered(BTreeMap::new()),
        }
    }

    /// The entry of a path of this type.
    #[must_use]
    pub fn get(&self, path: Path<'_>) -> Option<&PathMeta> {
        match self {
            Paths::Whole(meta) => (!meta.is_empty()).then_some(meta),
            Paths::Few(list) => list.iter().find(|(name, _)| **name == *element(path)).map(|(_, meta)| meta),
            Paths::Ordered(map) => map.get(element(path)),
            Paths::Many(map) => map.get(element(path)),
            Paths::List(_) => None,
        }
    }

    /// The entry of a path of this type, made if need be.
    pub fn get_or_insert(&mut self, path: Path<'_>) -> &mut PathMeta {
        if let Paths::List(list) = self {
            *self = list.spread();
        }
        if let Paths::Few(list) = self
            && list.len() >= Self::FEW_MAX
            && !list.iter().any(|(name, _)| **name == *element(path))
        {
            *self = Paths::Many(list.drain(..).collect());
        }
        match self {
            Paths::Whole(meta) => meta,
            Paths::Few(list) => {
                let at = list.iter().position(|(name, _)| **name == *element(path)).unwrap_or_else(|| {
                    list.push((element(path).into(), PathMeta::default()));
                    list.len() - 1
                });
                &mut list[at].1
            }
            Paths::Ordered(map) => map.entry(element(path).into()).or_default(),
            Paths::Many(map) => map.entry(element(path).into()).or_default(),
            Paths::List(_) => unreachable!("it was spread"),
        }
    }

    /// Makes room for so many more entries, if they are few.
    pub fn expect(&mut self, more: u64) {
        if let Paths::Few(list) = self {
            list.reserve_exact(usize::try_from(more).unwrap_or(usize::MAX).min(Self::FEW_MAX));
        }
    }

    /// Takes the entry of a path out.
    pub fn remove(&mut self, path: Path<'_>) -> Option<PathMeta> {
        match self {
            Paths::Whole(meta) => Some(std::mem::take(meta)),
            Paths::Few(list) => {
                let at = list.iter().position(|(name, _)| **name == *element(path))?;
                Some(list.swap_remove(at).1)
            }
            Paths::Ordered(map) => map.remove(element(path)),
            Paths::Many(map) => map.remove(element(path)),
            Paths::List(_) => None,
        }
    }

    /// Keeps the entries for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &mut PathMeta) -> bool) {
        match self {
            Paths::Whole(meta) => {
                if !keep(&[], meta) {
                    *meta = PathMeta::default();
                }
            }
            Paths::Few(list) => list.retain_mut(|(name, meta)| keep(name, meta)),
            Paths::Ordered(map) => map.retain(|name, meta| keep(name, meta)),
            Paths::Many(map) => map.retain(|name, meta| keep(name, meta)),
            Paths::List(_) => {}
        }
    }

    /// All entries, with the element's name.
    pub fn iter(&self) -> Box<dyn Iterator<Item = (&[u8], &PathMeta)> + '_> {
        match self {
            Paths::Whole(meta) => Box::new((!meta.is_empty()).then_some((&[][..], meta)).into_iter()),
            Paths::Few(list) => Box::new(list.iter().map(|(name, meta)| (&**name, meta))),
            Paths::Ordered(map) => Box::new(map.iter().map(|(name, meta)| (&**name, meta))),
            Paths::Many(map) => Box::new(map.iter().map(|(name, meta)| (&**name, meta))),
            Paths::List(_) => Box::new(std::iter::empty()),
        }
    }

    /// The names from `from` on, up to `below`, of a type whose paths are in order.
    #[must_use]
    pub fn range(&self, from: &[u8], below: &[u8]) -> Vec<Box<[u8]>> {
        let Paths::Ordered(map) = self else { return Vec::new() };
        if from >= below {
            return Vec::new();
        }
        let range = map.range::<[u8], _>((Bound::Included(from), Bound::Excluded(below)));
        range.map(|(name, _)| name.clone()).collect()
    }

    /// The names that begin with `prefix`, of a type whose paths are in order.
    #[must_use]
    pub fn with_prefix(&self, prefix: &[u8]) -> Vec<Box<[u8]>> {
        let Paths::Ordered(map) = self else { return Vec::new() };
        let range = map.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
        range.map(|(name, _)| name).take_while(|name| name.starts_with(prefix)).cloned().collect()
    }

    /// The first name that is not before `from`, of a type whose paths are in order.
    #[must_use]
    pub fn first_from(&self, from: &[u8]) -> Option<&[u8]> {
        let Paths::Ordered(map) = self else { return None };
        map.range::<[u8], _>((Bound::Included(from), Bound::Unbounded)).next().map(|(name, _)| &**name)
    }

    /// Whether some entry is as `test` says.
    #[must_use]
    pub fn any(&self, mut test: impl FnMut(&PathMeta) -> bool) -> bool {
        match self {
            Paths::Whole(meta) => test(meta),
            Paths::Few(list) => list.iter().any(|(_, meta)| test(meta)),
            Paths::Ordered(map) => map.values().any(test),
            Paths::Many(map) => map.values().any(test),
            Paths::List(_) => false,
        }
    }

    /// Whether something may survive a removal by an author who had seen `seen`; of a list, as far as its runs tell.
    #[must_use]
    pub fn may_survive(&self, seen: &Seen<'_>) -> bool {
        match self {
            Paths::List(list) => list.may_have_unseen(seen),
            _ => self.any(|path| path.survives(seen)),
        }
    }

    /// How many paths are known.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Paths::Whole(meta) => usize::from(!meta.is_empty()),
            Paths::Few(list) => list.len(),
            Paths::Ordered(map) => map.len(),
            Paths::Many(map) => map.len(),
            Paths::List(list) => list.len(),
        }
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let fixed = match self {
            Paths::Whole(_) => 0,
            Paths::Few(list) => list.capacity() * size_of::<(Box<[u8]>, PathMeta)>(),
            Paths::Ordered(map) => map.len() * size_of::<(Box<[u8]>, PathMeta)>(),
            Paths::Many(map) => map.allocation_size(),
            Paths::List(list) => list.heap_bytes(),
        };
        fixed + self.iter().map(|(name, meta)| name.len() + meta.heap_bytes()).sum::<usize>()
    }
}
