//! The codec of snapshots: what is written reads back; whatever else comes is refused or means something, and never panics (I-10).

mod arbitrary;

use arbitrary::{element_name, float, instance, kind, name, number, replid, timestamp};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use syncer_shared::clock::VectorClock;
use syncer_shared::dot::Dot;
use syncer_shared::effect::{Effect, Kind, Op, Path, TtlNote};
use syncer_shared::group::GroupBuilder;
use syncer_shared::keyspace::Keyspace;
use syncer_shared::membership::Forgotten;
use syncer_shared::memory::MemoryKeyspace;
use syncer_shared::merge::{KeyRef, Merge, Rules};
use syncer_shared::metadata::{Assigned, Incremented, KeyMeta, PathMeta, Payload, Table, TtlDot, TtlMeta, path_of};
use syncer_shared::number::Number;
use syncer_shared::origin::{Origin, Origins};
use syncer_shared::snapshot::{
    Holder, SnapshotForgotten, SnapshotHead, SnapshotKey, SnapshotReign, TakenUp, key, rest,
};
use syncer_shared::timestamp::Timestamp;
use syncer_shared::wire::Reader;

const KEY: KeyRef<'_> = KeyRef { db: 0, name: b"key" };

fn dot() -> impl Strategy<Value = Dot> {
    (timestamp(), 0..9_u32, 0..7_u16).prop_map(|(ts, index, origin)| Dot {
        ts,
        index,
        origin: Origin::from_index(origin),
    })
}

fn payload(kind: Kind) -> BoxedStrategy<Payload> {
    match kind {
        Kind::Set => Just(Payload::Present).boxed(),
        Kind::SortedSet => float().prop_map(Payload::Score).boxed(),
        Kind::Hash => {
            (name(), any::<Option<i64>>()).prop_map(|(bytes, at)| Payload::text_until(bytes.into(), at)).boxed()
        }
        Kind::Opaque => (name(), any::<bool>())
            .prop_map(
                |(bytes, known)| if known { Payload::Bytes(bytes.into()) } else { Payload::Unknown(bytes.into()) },
            )
            .boxed(),
        // Streams are in a test of their own.
        Kind::String | Kind::List | Kind::Stream => name().prop_map(|bytes| Payload::Bytes(bytes.into())).boxed(),
    }
}

type Parts = (Option<Payload>, Vec<(Dot, bool, Option<Payload>)>, Vec<(Dot, Number)>);

fn path(kind: Kind) -> impl Strategy<Value = PathMeta> {
    let assigned = (dot(), any::<bool>(), option::of(payload(kind)));
    let parts = (option::of(payload(kind)), vec(assigned, 0..3), vec((dot(), number()), 0..3));
    parts.prop_map(|(base, assigns, increments): Parts| {
        let mut path = if base.is_some() || assigns.is_empty() { PathMeta::stable(base) } else { PathMeta::default() };
        let assign = |(dot, reasserted, payload)| Assigned { dot, reasserted, payload };
        path.assigns.extend(assigns.into_iter().map(assign));
        path.take_increments(increments.into_iter().map(|(dot, delta)| Incremented { dot, delta }).collect());
        path
    })
}

fn paths() -> impl Strategy<Value = (Kind, Vec<(Vec<u8>, PathMeta)>)> {
    let of = |kind, name| (Just(kind), vec((name, path(kind)), 0..12));
    prop_oneof![
        4 => kind().prop_flat_map(move |kind| of(kind, name().boxed())),
        1 => of(Kind::List, element_name().boxed()),
    ]
}

fn ttl() -> impl Strategy<Value = TtlMeta> {
    let dots = (dot(), option::of(any::<i64>()), any::<bool>());
    (option::of(any::<i64>()), vec(dots, 0..3)).prop_map(|(base, dots)| TtlMeta {
        base,
        dots: dots.into_iter().map(|(dot, at, strong)| TtlDot { dot, at, strong }).collect(),
    })
}

fn state() -> impl Strategy<Value = KeyMeta> {
    (vec(paths(), 0..3), ttl()).prop_map(|(kinds, ttl)| {
        let mut state = KeyMeta::default();
        for (kind, paths) in kinds {
            for (element, path) in paths {
                *state.kind_or_insert(kind).paths.get_or_insert(path_of(kind, &element)) = path;
            }
        }
        state.ttl = ttl;
        state
    })
}

/// Places that what a reign had names.
const HAD_MAX: usize = 2;

/// By places that every head below has that tells it.
fn had() -> impl Strategy<Value = Option<VectorClock>> {
    let clock = |entries: Vec<Timestamp>| {
        let mut clock = VectorClock::default();
        entries.into_iter().enumerate().for_each(|(at, ts)| clock.raise(Origin::from_index(at as u16), ts));
        clock
    };
    option::of(vec(prop_oneof![Just(Timestamp::ZERO), timestamp()], 0..=HAD_MAX).prop_map(clock))
}

fn reign() -> impl Strategy<Value = SnapshotReign> {
    let times = (timestamp(), timestamp(), prop_oneof![Just(Timestamp::ZERO), timestamp()]);
    (replid(), instance(), times, vec(any::<u8>(), 0..9), had()).prop_map(
        |(replid, instance, (applied, stable, start), context, had)| SnapshotReign {
            replid,
            instance,
            applied,
            stable,
            start,
            context,
            had,
        },
    )
}

fn head() -> impl Strategy<Value = SnapshotHead> {
    let left = (vec(forgotten(), 0..3), vec(dot().prop_map(|dot| dot.origin), 0..3), vec(taken(), 0..3));
    (instance(), replid(), any::<u64>(), vec(reign(), 0..5), vec((instance(), dot()), 0..4), left).prop_map(
        |(instance, replid, offset, mut reigns, joins, (forgotten, frozen, taken))| {
            if reigns.len() < HAD_MAX {
                reigns.iter_mut().for_each(|reign| reign.had = None);
            }
            SnapshotHead { instance, replid, offset, reigns, joins, forgotten, frozen, taken }
        },
    )
}

fn taken() -> impl Strategy<Value = TakenUp> {
    let holder =
        (dot(), any::<bool>(), any::<bool>()).prop_map(|(dot, reasserted, has)| Holder { dot, reasserted, has });
    (dot(), name(), any::<i64>(), vec(holder, 0..3)).prop_map(|(dot, key, delta, holders)| {
        let mut group = GroupBuilder::new();
        let op = Op::Increment { path: Path::String, delta: Number::Integer(delta) };
        group.push(&Effect { db: 0, key: &key, ttl: TtlNote::None, op });
        TakenUp { dot, effect: group.body().to_vec(), holders }
    })
}

fn forgotten() -> impl Strategy<Value = SnapshotForgotten> {
    (instance(), vec(dot(), 0..3), any::<bool>())
        .prop_map(|(instance, forgets, settled)| (instance, Forgotten { forgets, settled }).into())
}

/// The order of kinds and paths in memory means nothing.
fn same(a: &KeyMeta, b: &KeyMeta) -> bool {
    let covers = |a: &KeyMeta, b: &KeyMeta| {
        a.kinds
            .iter()
            .all(|kind| kind.paths.iter().all(|(element, path)| b.path(path_of(kind.kind, element)) == Some(path)))
    };
    covers(a, b) && covers(b, a) && a.ttl == b.ttl
}

type Elements = Vec<(Vec<u8>, Payload)>;

/// Elements of one kind without dots, and a TTL.
fn at_rest() -> impl Strategy<Value = (Kind, Elements, Option<i64>)> {
    let kind = prop_oneof![Just(Kind::String), Just(Kind::Hash), Just(Kind::Set), Just(Kind::SortedSet)];
    kind.prop_flat_map(|kind| {
        let count = if kind == Kind::String { 1..2 } else { 1..200 };
        let element = if kind == Kind::String { Just(Vec::new()).boxed() } else { element_name().boxed() };
        (Just(kind), vec((element, payload(kind)), count), any::<Option<i64>>())
    })
}

proptest! {
    /// Straight from the dataset it is what the general way says.
    #[test]
    fn keys_at_rest_read_back(name in name(), (kind, elements, ttl) in at_rest()) {
        let (mut dataset, mut state) = (MemoryKeyspace::default(), KeyMeta::default());
        for (element, payload) in &elements {
            let path = path_of(kind, element);
            dataset.put(0, &name, path, payload.value(path));
            *state.kind_or_insert(kind).paths.get_or_insert(path) = PathMeta::stable(Some(payload.clone()));
        }
        dataset.set_expire_at(0, &name, ttl);
        state.ttl.base = ttl;
        let mut bytes = b"before".to_vec();
        let is_said = rest::encode(&mut bytes, KeyRef { db: 0, name: &name }, &mut dataset);
        prop_assert!(is_said);
        let mut reader = Reader::new(&bytes);
        prop_assert!(reader.skip_if(b"before") && !reader.skip_if(b"after, for sure"));
        let mut skipped = reader;
        prop_assert!(rest::skip(&mut skipped) && skipped.is_empty());
        let read = SnapshotKey::decode(&mut reader).expect("it was just written");
        prop_assert!(reader.is_empty());
        prop_assert_eq!((read.db, read.name), (0, &*name));
        prop_assert!(same(&read.state, &state), "{:?} is not {:?}", read.state, state);
    }

    /// Straight from the dataset, with what is known of who has written it, it is what the general way says.
    #[test]
    fn known_keys_read_back((kind, elements, at) in at_rest(), known in vec(option::of((dot(), any::<bool>(), 0..12_u8)), 200), ttl in ttl()) {
        let (mut dataset, mut table) = (MemoryKeyspace::default(), Table::default());
        let mut meta = KeyMeta { ttl, ..KeyMeta::default() };
        let mut is_simple = true;
        for ((element, payload), known) in elements.iter().zip(&known) {
            let path = path_of(kind, element);
            dataset.put(0, b"key", path, payload.value(path));
            let Some((dot, reasserted, how)) = *known else { continue };
            let slot = meta.kind_or_insert(kind).paths.get_or_insert(path);
            // Mostly the dataset has its value.
            let payload = (how < 3).then(|| payload.clone());
            *slot = PathMeta { assigns: [Assigned { dot, reasserted, payload }].into_iter().collect(), sum: None };
            if how == 0 {
                slot.take_increments([Incremented { dot, delta: Number::Integer(1) }].into_iter().collect());
                is_simple = false;
            }
        }
        dataset.set_expire_at(0, b"key", at);
        let id = table.entry(0, b"key");
        *table.meta_mut(id) = meta.clone();
        let (origins, rules, stable, mut conflicts) = (Origins::default(), Rules::default(), VectorClock::default(), 0);
        let exposed = Merge {
            table: &mut table,
            origins: &origins,
            keyspace: &mut dataset,
            rules: &rules,
            syncing: None,
            stable: &stable,
            conflicts: &mut conflicts,
        }
        .exposed(KEY);
        let mut bytes = b"before".to_vec();
        let is_said = rest::encode_known(&mut bytes, KEY, &meta, &mut dataset);
        prop_assert!(is_said || !is_simple);
        if is_said {
            let mut reader = Reader::new(&bytes);
            prop_assert!(reader.skip_if(b"before"));
            let read = SnapshotKey::decode(&mut reader).expect("it was just written");
            prop_assert!(reader.is_empty() && (read.db, read.name) == (0, &b"key"[..]));
            prop_assert!(same(&read.state, &exposed), "{:?} is not {:?}", read.state, exposed);
        } else {
            prop_assert_eq!(bytes, b"before");
        }
    }

    #[test]
    fn keys_read_back(db in 0..16_u32, name in name(), state in state()) {
        let mut bytes = Vec::new();
        key::encode(&mut bytes, db, &name, &state);
        let mut reader = Reader::new(&bytes);
        let mut skipped = reader;
        match rest::skip_any(&mut skipped) {
            Some(is_at_rest) => {
                prop_assert!(skipped.is_empty());
                prop_assert!(!is_at_rest || state.dots().next().is_none());
            }
            None => prop_assert_eq!(skipped.rest(), reader.rest()),
        }
        let read = SnapshotKey::decode(&mut reader).expect("it was just written");
        prop_assert!(reader.is_empty());
        prop_assert_eq!((read.db, read.name), (db, &*name));
        prop_assert!(same(&read.state, &state), "{:?} is not {:?}", read.state, state);
    }

    #[test]
    fn heads_read_back(head in head()) {
        let mut bytes = Vec::new();
        head.encode(&mut bytes);
        prop_assert_eq!(SnapshotHead::decode(&bytes), Ok(head));
    }

    #[test]
    fn a_cut_or_changed_snapshot_never_panics(state in state(), head in head(), cut in any::<prop::sample::Index>(), flip in any::<u8>()) {
        let (mut key, mut first) = (Vec::new(), Vec::new());
        key::encode(&mut key, 0, b"k", &state);
        head.encode(&mut first);
        for bytes in [&mut key, &mut first] {
            let at = cut.index(bytes.len());
            bytes[at] ^= flip;
            let _ = SnapshotKey::decode(&mut Reader::new(bytes));
            let _ = SnapshotHead::decode(bytes);
            let _ = SnapshotKey::decode(&mut Reader::new(&bytes[..at]));
            let _ = (rest::skip_any(&mut Reader::new(bytes)), rest::skip_any(&mut Reader::new(&bytes[..at])));
            prop_assert!(SnapshotHead::decode(&bytes[..at]).is_err() || at == 0);
        }
    }
}
