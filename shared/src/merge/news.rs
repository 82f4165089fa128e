//! The usual case of a full sync: a key that is at rest here has been written anew at the source, all of it. So it becomes what it is there, with
//! the same result as when its two states meet dot by dot, for a fraction of the work.

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::meet::Meeting;
use super::{KeyRef, Merge};
use crate::effect::Kind;
use crate::keyspace::Keyspace;
use crate::metadata::{KeyMeta, KindMeta, PathMeta, Paths, Payload, TtlMeta, element, path_of};

impl Meeting<'_> {
    /// Whether a key at rest at the target becomes what it is at the source: by rule 7 the target's entries go, for the source has seen
    /// all that they may be made of, and what is there in their place is new to the target, each path with one dot and its value.
    fn is_all_news(&self, theirs: &KeyMeta) -> bool {
        let [KindMeta { kind: Kind::String | Kind::Hash | Kind::Set | Kind::SortedSet, paths }] = &*theirs.kinds else {
            return false;
        };
        let is_news = |path: &PathMeta| match (&*path.assigns, &path.sum) {
            ([assigned], None) => {
                let is_known = assigned.dot.is_in(self.target.clock) || assigned.dot.is_in(self.target.stable);
                assigned.payload.is_some() && !is_known
            }
            _ => false,
        };
        let entries_go = !self.rules.entries_stand_for_stable
            || (self.rules.lone_entries_go && self.source.clock.covers(self.target.stable));
        entries_go && !paths.is_empty() && !paths.any(|path| !is_news(path))
    }
}

impl<K: Keyspace> Merge<'_, K> {
    /// Merges a key that is at rest here and all news. Gives its state back if it is another case.
    pub(super) fn take_news(&mut self, key: KeyRef<'_>, mut theirs: KeyMeta, meeting: &Meeting<'_>) -> Option<KeyMeta> {
        // What is new to this shard stays explicit while a sync goes on (`Merge::imply`): so nothing is to be changed of it.
        let is_syncing = self.syncing.is_some_and(|clock| meeting.target.clock.covers(clock));
        if !is_syncing || self.table.find(key.db, key.name).is_some() || !meeting.is_all_news(&theirs) {
            return Some(theirs);
        }
        let native = self.keyspace.kind(key.db, key.name);
        let shown = theirs.kinds.first().map(|kind| kind.kind);
        if native.is_some() && native != shown {
            return Some(theirs);
        }
        let at = native.and_then(|_| self.keyspace.expire_at(key.db, key.name));
        let here = TtlMeta { base: at, ..TtlMeta::default() };
        theirs.ttl = meeting.ttl((&theirs.ttl, true), (&here, native.is_some()));
        let id = self.table.entry(key.db, key.name);
        theirs.dots().for_each(|dot| self.table.queue(id, &dot));
        if native.is_none() {
            self.restore(key, theirs);
            return None;
        }
        if let Some(kind) = theirs.kinds.first() {
            self.show_news(key, kind);
        }
        self.keep_met(key, theirs);
        None
    }

    /// Writes what the dataset shows otherwise, and takes out what is not there.
    fn show_news(&mut self, key: KeyRef<'_>, KindMeta { kind, paths }: &KindMeta) {
        let mut news = News::new(paths);
        let mut gone: Vec<Box<[u8]>> = Vec::new();
        if *kind == Kind::String {
            let is_same = news.text().is_some_and(|text| self.keyspace.is_string(key.db, key.name, text));
            news.elements.iter_mut().for_each(|news| news.is_shown = is_same);
        } else {
            self.keyspace.elements(key.db, key.name, &mut |path, value| match news.find(element(path)) {
                Some(news) => news.is_shown = news.payload.value(path) == value,
                None => gone.push(element(path).into()),
            });
        }
        gone.iter().for_each(|name| self.keyspace.take(key.db, key.name, path_of(*kind, name)));
        for news in news.elements.iter().filter(|news| !news.is_shown) {
            self.keyspace.put(
                key.db,
                key.name,
                path_of(*kind, news.name),
                news.payload.value(path_of(*kind, news.name)),
            );
        }
    }
}

/// The elements of a key to be shown.
struct News<'a> {
    elements: SmallVec<[Element<'a>; FEW]>,
    /// Where the next one is looked for first: mostly both sides have them in the same order.
    next: usize,
    /// Of many, once they are found in another order.
    places: HashMap<&'a [u8], usize, foldhash::fast::RandomState>,
}

struct Element<'a> {
    name: &'a [u8],
    payload: &'a Payload,
    is_shown: bool,
}

/// As many are looked through.
const FEW: usize = 8;

impl<'a> News<'a> {
    fn new(paths: &'a Paths) -> Self {
        let element = |(name, path): (&'a [u8], &'a PathMeta)| {
            let payload = path.assigns.first()?.payload.as_ref()?;
            Some(Element { name, payload, is_shown: false })
        };
        Self { elements: paths.iter().filter_map(element).collect(), next: 0, places: HashMap::default() }
    }

    fn text(&self) -> Option<&'a [u8]> {
        self.elements.first()?.payload.text()
    }

    fn find(&mut self, name: &[u8]) -> Option<&mut Element<'a>> {
        let at = self.place_of(name)?;
        self.next = at + 1;
        self.elements.get_mut(at)
    }

    fn place_of(&mut self, name: &[u8]) -> Option<usize> {
        if self.elements.get(self.next).is_some_and(|element| element.name == name) {
            return Some(self.next);
        }
        if self.elements.len() <= FEW {
            return self.elements.iter().position(|element| element.name == name);
        }
        if self.places.is_empty() {
            self.places = self.elements.iter().enumerate().map(|(at, element)| (element.name, at)).collect();
        }
        self.places.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;
    use smallvec::smallvec;

    use super::super::{Rules, Side};
    use super::*;
    use crate::clock::VectorClock;
    use crate::dot::Dot;
    use crate::effect::Value;
    use crate::instance::InstanceId;
    use crate::keyspace::SetTtl;
    use crate::memory::MemoryKeyspace;
    use crate::metadata::{Assigned, Table, TtlDot};
    use crate::origin::{Origin, Origins};
    use crate::replid::ReplId;
    use crate::timestamp::Timestamp;

    const KEY: KeyRef<'_> = KeyRef { db: 0, name: b"key" };
    const KINDS: [Kind; 4] = [Kind::String, Kind::Hash, Kind::Set, Kind::SortedSet];
    const ORIGINS: u16 = 2;

    /// Of a path at the source.
    #[derive(Clone, Debug)]
    enum There {
        Written { origin: u16, ts: u64, value: u8 },
        AtRest(u8),
    }

    /// Elements and their values, and the TTL.
    type Here = (Kind, Vec<(u8, u8)>, Option<i64>);

    #[derive(Clone, Debug)]
    struct Case {
        kind: Kind,
        there: Vec<(u8, There)>,
        ttl_there: Vec<(u16, u64, Option<i64>, bool)>,
        here: Option<Here>,
        /// Of source and target: clock, and S, which is not above it.
        clocks: [[(u64, u64); ORIGINS as usize]; 2],
        rule_7: bool,
    }

    fn case() -> impl Strategy<Value = Case> {
        // From few names to more than are kept in a list.
        let name = || prop_oneof![3 => 0..4_u8, 1 => 0..20_u8];
        let kind = || (0..KINDS.len()).prop_map(|at| KINDS[at]);
        let dot = || (0..ORIGINS, prop_oneof![4 => 10..12_u64, 1 => 1..10_u64]);
        let there = prop_oneof![
            20 => (dot(), 0..3_u8).prop_map(|((origin, ts), value)| There::Written { origin, ts, value }),
            1 => (0..3_u8).prop_map(There::AtRest),
        ];
        let ttl = (dot(), option::of(1..3_i64), any::<bool>()).prop_map(|((o, ts), at, strong)| (o, ts, at, strong));
        let here = (option::weighted(0.1, kind()), vec((name(), 0..3_u8), 1..20), option::of(1..3_i64));
        let clock = || (1..13_u64, 0..10_u64).prop_map(|(clock, stable)| (clock, stable.min(clock)));
        (
            (kind(), vec((name(), there), 1..20), vec(ttl, 0..2), option::weighted(0.9, here)),
            ([clock(), clock()], [(5..10_u64, 0..6_u64), (5..10_u64, 0..6_u64)], prop::bool::weighted(0.9)),
        )
            .prop_map(|((kind, there, ttl_there, here), (source, target, rule_7))| Case {
                kind,
                there,
                ttl_there,
                here: here.map(|(other, elements, at)| (other.unwrap_or(kind), elements, at)),
                clocks: [source, target],
                rule_7,
            })
    }

    fn value(kind: Kind, value: u8) -> Payload {
        match kind {
            Kind::Set => Payload::Present,
            Kind::SortedSet => Payload::Score(f64::from(value)),
            _ => Payload::Bytes([b'v', value].into()),
        }
    }

    impl Case {
        fn theirs(&self) -> KeyMeta {
            let mut meta = KeyMeta::default();
            for (name, there) in &self.there {
                let path = match there {
                    There::AtRest(is) => PathMeta::stable(Some(value(self.kind, *is))),
                    There::Written { origin, ts, value: is } => {
                        let payload = Some(value(self.kind, *is));
                        let dot = Dot { ts: Timestamp::from_bits(*ts), index: 0, origin: Origin::from_index(*origin) };
                        PathMeta { assigns: smallvec![Assigned { dot, reasserted: false, payload }], sum: None }
                    }
                };
                *meta.kind_or_insert(self.kind).paths.get_or_insert(path_of(self.kind, &[*name])) = path;
            }
            meta.ttl.dots = self
                .ttl_there
                .iter()
                .map(|&(origin, ts, at, strong)| {
                    let dot = Dot { ts: Timestamp::from_bits(ts), index: 1, origin: Origin::from_index(origin) };
                    TtlDot { dot, at, strong }
                })
                .collect();
            meta
        }

        fn data(&self) -> MemoryKeyspace {
            let mut data = MemoryKeyspace::default();
            if let Some((kind, elements, at)) = &self.here {
                for (name, is) in elements {
                    match (kind, value(*kind, *is)) {
                        (Kind::String, Payload::Bytes(text)) => data.set_string(0, KEY.name, &text, SetTtl::Clear),
                        (_, payload) => {
                            let path = path_of(*kind, std::slice::from_ref(name));
                            data.put(0, KEY.name, path, payload.value(path));
                        }
                    }
                }
                data.set_expire_at(0, KEY.name, *at);
            }
            data
        }

        fn clock(&self, side: usize, of: impl Fn((u64, u64)) -> u64) -> VectorClock {
            let mut clock = VectorClock::default();
            for (at, entry) in (0..ORIGINS).zip(self.clocks[side]) {
                clock.set(Origin::from_index(at), Timestamp::from_bits(of(entry)));
            }
            clock
        }

        /// What is known and shown afterwards, and whether it was all news.
        fn play(&self, takes_news: bool) -> (String, MemoryKeyspace, bool) {
            let [there, here] = [0, 1].map(|side| (self.clock(side, |e| e.0), self.clock(side, |e| e.1)));
            let meeting = Meeting {
                source: Side { clock: &there.0, stable: &there.1 },
                target: Side { clock: &here.0, stable: &here.1 },
                rules: Rules { entries_stand_for_stable: self.rule_7, ..Rules::default() },
            };
            let mut origins = Origins::default();
            for at in 1..=ORIGINS as u8 {
                origins.intern(ReplId::from_bytes([at; 20]), InstanceId::new(at).unwrap()).unwrap();
            }
            let (mut table, mut keyspace, rules, mut conflicts) = (Table::default(), self.data(), Rules::default(), 0);
            let mut merge = Merge {
                table: &mut table,
                origins: &origins,
                keyspace: &mut keyspace,
                rules: &rules,
                syncing: Some(&here.0),
                stable: &here.1,
                conflicts: &mut conflicts,
            };
            let mut is_news = false;
            if takes_news {
                is_news = merge.take_news(KEY, self.theirs(), &meeting).is_none();
            }
            if !is_news {
                merge.meet_by_dots(KEY, &self.theirs(), &meeting);
            }
            (known(&table), keyspace, is_news)
        }
    }

    /// In an order that does not tell how it came about.
    fn known(table: &Table) -> String {
        let Some(id) = table.find(0, KEY.name) else { return String::new() };
        let KeyMeta { kinds, ttl } = table.meta(id);
        let kinds = kinds.iter().map(|KindMeta { kind, paths }| {
            let mut paths: Vec<(&[u8], &PathMeta)> = paths.iter().collect();
            paths.sort_unstable_by_key(|(name, _)| *name);
            format!("{kind:?} {paths:?}")
        });
        format!("{:?} {ttl:?} {:?}", kinds.collect::<Vec<_>>(), table.awaited())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn news_are_taken_as_they_would_be_met(case in case()) {
            let (taken, met) = (case.play(true), case.play(false));
            prop_assert_eq!(taken.0, met.0);
            prop_assert_eq!(taken.1, met.1);
        }
    }

    #[test]
    fn what_was_written_anew_is_news() {
        let written = |name, value| (name, There::Written { origin: 0, ts: 11, value });
        for kind in KINDS {
            let case = Case {
                kind,
                there: (0..12).map(|name| written(name, 1)).collect(),
                ttl_there: vec![(0, 11, None, true)],
                here: Some((kind, (3..15).map(|name| (name, name % 2)).collect(), Some(1))),
                clocks: [[(12, 5); 2], [(9, 5); 2]],
                rule_7: true,
            };
            let (_, data, is_news) = case.play(true);
            assert!(is_news, "{kind:?}");
            let shown = &data.entries()[&(0, KEY.name.to_vec())];
            let is_value = |is: &Payload| is.value(path_of(kind, b"")) == value(kind, 1).value(path_of(kind, b""));
            assert!(shown.elements.values().all(is_value), "{shown:?}");
            assert_eq!(shown.elements.len(), if kind == Kind::String { 1 } else { 12 });
            assert_eq!(shown.expire_at, None);
            assert!(matches!(
                value(kind, 1).value(path_of(kind, b"")),
                Value::Bytes(_) | Value::Present | Value::Score(_)
            ));
        }
    }
}
