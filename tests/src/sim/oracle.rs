//! What an instance must show: every live dot kept for ever, in the plainest form, and `view` over them (DESIGN 2).
//!
//! Written from the rules, not from the merge: it shares no code with it but the number texts and the names of list positions, whose
//! bytes sort as elements do.

mod order;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use syncer_shared::decimal::Decimal;
use syncer_shared::effect::{Effect, FlushScope, Kind, Op, Path, TtlNote, UnixMs, Value};
use syncer_shared::hyperloglog::{HyperLogLog, Registers};
use syncer_shared::instance::InstanceId;
use syncer_shared::keyspace::place;
use syncer_shared::list::{At, Reign, RunName};
use syncer_shared::memory::{Entry, MemoryKeyspace};
use syncer_shared::metadata::Payload;
use syncer_shared::number::{Number, add_scores};
use syncer_shared::patch::Patch;
use syncer_shared::replid::ReplId;
use syncer_shared::timestamp::Timestamp;

use super::registry::Context;
use super::streams;

/// Effect order: as the fields are (DESIGN 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DotName {
    /// Of the group.
    pub ts: Timestamp,
    /// Of the author.
    pub instance: InstanceId,
    /// Of the reign.
    pub replid: ReplId,
    /// In the group.
    pub index: u32,
}

/// A live dot of a value.
#[derive(Clone, Debug, PartialEq)]
struct Live {
    dot: DotName,
    kind: Kind,
    element: Vec<u8>,
    what: What,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Assign { payload: Payload, flagged: bool },
    Increment(Number),
    Patch(OwnedPatch),
}

/// A change of a string in part.
#[derive(Clone, Debug, PartialEq)]
enum OwnedPatch {
    Bytes(usize, Vec<u8>),
    /// Each bit and its place.
    Bits(Vec<(usize, bool)>),
    Append(Vec<u8>),
    Registers(Vec<u8>),
}

/// A live TTL dot.
#[derive(Clone, Debug, PartialEq)]
struct LiveTtl {
    dot: DotName,
    at: Option<UnixMs>,
    strong: bool,
}

#[derive(Clone, Debug, Default)]
struct Key {
    values: Vec<Live>,
    ttl: Vec<LiveTtl>,
    /// What it shows, once somebody has looked.
    shown: OnceCell<Option<Entry>>,
}

/// The live dots of every key.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    keys: BTreeMap<(u32, Vec<u8>), Key>,
}

/// What the author of an effect had seen: its context, its reign so far, and its group so far (G2).
struct Author<'a> {
    me: DotName,
    context: &'a Context,
}

impl Author<'_> {
    fn reign(&self) -> Reign {
        Reign { instance: self.me.instance, replid: self.me.replid }
    }

    fn saw(&self, dot: &DotName) -> bool {
        if dot.replid == self.me.replid {
            return (dot.ts, dot.index) < (self.me.ts, self.me.index);
        }
        self.context.get(&dot.replid).is_some_and(|seen| *seen >= dot.ts)
    }
}

/// The type and the name of a path.
pub(super) fn split(path: Path<'_>) -> (Kind, &[u8]) {
    match path {
        Path::String => (Kind::String, &[]),
        Path::Field(name) => (Kind::Hash, name),
        Path::Member(name) => (Kind::Set, name),
        Path::Scored(name) => (Kind::SortedSet, name),
        Path::Opaque => (Kind::Opaque, &[]),
        Path::Stream(name) => (Kind::Stream, name),
        Path::Element(name) => (Kind::List, name),
    }
}

fn payload(value: Value<'_>) -> Payload {
    match value {
        Value::Bytes(bytes) | Value::Payload(bytes) => Payload::Bytes(bytes.into()),
        Value::Expiring { bytes, at } => Payload::text_until(bytes.into(), Some(at)),
        Value::Score(score) => Payload::Score(score),
        Value::Present => Payload::Present,
        Value::Id(id) => Payload::Id(id),
        Value::Owner(consumer) => Payload::Owner(consumer.into()),
        Value::Acked => Payload::Acked,
        Value::Late => Payload::Late,
    }
}

impl Oracle {
    /// Adds one effect to what was applied. Effects may come in any causal order.
    pub fn apply(&mut self, effect: &Effect<'_>, me: DotName, context: &Context) {
        let author = Author { me, context };
        if let Op::Flush { scope } = effect.op {
            let in_scope = |db: u32| scope == FlushScope::All || scope == FlushScope::Db(db);
            self.keys.iter_mut().filter(|((db, _), _)| in_scope(*db)).for_each(|(_, key)| key.clear(&author));
        } else if !matches!(
            effect.op,
            Op::Reign | Op::Join { .. } | Op::Forget { .. } | Op::Again { .. } | Op::Publish { .. }
        ) {
            self.keys.entry((effect.db, effect.key.to_vec())).or_default().apply(effect, &author);
        }
        self.keys.retain(|_, key| !key.values.is_empty() || !key.ttl.is_empty());
    }

    /// A key of a snapshot comes in: live is what is in both, and what the other has not seen.
    pub fn meet(&mut self, name: (u32, Vec<u8>), theirs: &Self, ours: &Context, their_clock: &Context) {
        let has = |clock: &Context, dot: &DotName| clock.get(&dot.replid).is_some_and(|seen| *seen >= dot.ts);
        let nothing = Key::default();
        let other = theirs.keys.get(&name).unwrap_or(&nothing);
        let own = self.keys.entry(name).or_default();
        own.shown.take();
        let before = own.clone();
        own.values.retain(|live| other.values.contains(live) || !has(their_clock, &live.dot));
        own.ttl.retain(|live| other.ttl.contains(live) || !has(their_clock, &live.dot));
        let news = |live: &&Live| !before.values.contains(live) && !has(ours, &live.dot);
        own.values.extend(other.values.iter().filter(news).cloned());
        let news = |live: &&LiveTtl| !before.ttl.contains(live) && !has(ours, &live.dot);
        own.ttl.extend(other.ttl.iter().filter(news).cloned());
        self.keys.retain(|_, key| !key.values.is_empty() || !key.ttl.is_empty());
    }

    /// Meets what is left of keys that nobody shows or keeps metadata of: no snapshot names them.
    pub fn meet_dead(&mut self, theirs: &Self, ours: &Context, their_clock: &Context) {
        let dead = |oracle: &Self| -> Vec<_> {
            oracle.keys.iter().filter(|(_, key)| key.values.is_empty()).map(|(name, _)| name.clone()).collect()
        };
        for name in dead(self).into_iter().chain(dead(theirs)) {
            self.meet(name, theirs, ours, their_clock);
        }
    }

    /// The dataset that an instance must show.
    pub fn shown(&self) -> impl Iterator<Item = (&(u32, Vec<u8>), Cow<'_, Entry>)> {
        self.keys.iter().filter_map(|(name, key)| Some((name, Cow::Borrowed(key.shown()?))))
    }

    /// Whether several types of a key live.
    #[must_use]
    pub fn is_mixed(&self, name: &(u32, Vec<u8>)) -> bool {
        let values = self.keys.get(name).map_or(&[][..], |key| &key.values);
        values.windows(2).any(|two| two[0].kind != two[1].kind)
    }

    /// The dots of an element that live here and not there.
    #[must_use]
    pub fn lacking(&self, name: &(u32, Vec<u8>), element: &[u8], there: &Self) -> Vec<DotName> {
        let values = |of: &Self| of.keys.get(name).map(|key| key.values.clone()).unwrap_or_default();
        let others = values(there);
        let is_lacking = |live: &Live| live.element == element && !others.iter().any(|other| other.dot == live.dot);
        values(self).iter().filter(|live| is_lacking(live)).map(|live| live.dot).collect()
    }

    /// The dots of a key that live here and not there, with their elements.
    #[must_use]
    pub fn all_lacking(&self, name: &(u32, Vec<u8>), there: &Self) -> Vec<(String, DotName)> {
        let values = self.keys.get(name).map_or(&[][..], |key| &key.values);
        let elements: BTreeSet<&Vec<u8>> = values.iter().map(|live| &live.element).collect();
        let lacking = |element: &Vec<u8>| self.lacking(name, element, there).into_iter();
        elements.into_iter().flat_map(|e| lacking(e).map(|dot| (e.escape_ascii().to_string(), dot))).collect()
    }

    /// Where a dataset differs, for people.
    #[must_use]
    pub fn difference(&self, native: &MemoryKeyspace, dropped: &BTreeSet<(u32, Vec<u8>)>) -> Option<String> {
        if self.shown().eq(streams::shown(native)) {
            return None;
        }
        let (expected, native): (BTreeMap<_, _>, BTreeMap<_, _>) =
            (self.shown().collect(), streams::shown(native).collect());
        let names = expected.keys().chain(native.keys());
        let is_dropped = |name: &(u32, Vec<u8>)| !native.contains_key(name) && dropped.contains(name);
        let name = names.copied().find(|name| expected.get(name) != native.get(name) && !is_dropped(name))?;
        Some(format!(
            "key {:?} of db {}:\n  shows    {:?}\n  expected {:?}\n  live dots {:#?}",
            String::from_utf8_lossy(&name.1),
            name.0,
            native.get(name),
            expected.get(name),
            self.keys.get(name)
        ))
    }

    /// The same live dots, in whatever order they came?
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        let sorted = |key: &Key| {
            let (mut values, mut ttl) = (key.values.clone(), key.ttl.clone());
            values.sort_by_key(|live| live.dot);
            ttl.sort_by_key(|live| live.dot);
            (values, ttl)
        };
        let all = |oracle: &Self| oracle.keys.iter().map(|(name, key)| (name.clone(), sorted(key))).collect::<Vec<_>>();
        all(self) == all(other)
    }
}

impl Key {
    fn shown(&self) -> Option<&Entry> {
        let shown = || self.view().and_then(|entry| streams::shown_of(&entry).map(Cow::into_owned));
        self.shown.get_or_init(shown).as_ref()
    }

    fn clear(&mut self, author: &Author<'_>) {
        self.shown.take();
        self.values.retain(|live| !author.saw(&live.dot));
        self.ttl.retain(|live| !author.saw(&live.dot));
    }

    /// Removes what was seen at a path, and of other types.
    fn replace(&mut self, kind: Kind, element: Option<&[u8]>, author: &Author<'_>) {
        let dominated = |live: &Live| live.kind != kind || element.is_some_and(|element| *live.element == *element);
        self.values.retain(|live| !(dominated(live) && author.saw(&live.dot)));
    }

    fn apply(&mut self, effect: &Effect<'_>, author: &Author<'_>) {
        self.shown.take();
        match effect.op {
            Op::Set { value, expire_at } => {
                self.clear(author);
                self.add(author, Path::String, What::Assign { payload: Payload::Bytes(value.into()), flagged: false });
                self.ttl.push(LiveTtl { dot: author.me, at: expire_at, strong: true });
            }
            Op::Assign { path, value, reasserted } => {
                let (kind, element) = split(path);
                self.replace(kind, Some(element), author);
                self.add(author, path, What::Assign { payload: payload(value), flagged: reasserted });
            }
            Op::Increment { path, delta } => {
                self.replace(split(path).0, None, author);
                self.add(author, path, What::Increment(delta));
            }
            Op::Patch { patch, .. } => {
                self.replace(Kind::String, None, author);
                self.add(author, Path::String, What::Patch(OwnedPatch::new(patch)));
            }
            Op::Remove { path } => {
                let (kind, element) = split(path);
                self.replace(kind, Some(element), author);
            }
            Op::Stream(op) => {
                self.values.retain(|live| {
                    let dominated = live.kind != Kind::Stream || streams::removes(op, &live.element);
                    !(dominated && author.saw(&live.dot))
                });
            }
            Op::ListInsert { run, first, values } => {
                self.replace(Kind::List, None, author);
                let run = run.name(author.reign(), author.me.ts);
                for (index, value) in (first..).zip(values.iter()) {
                    let name = run.element(At { ts: author.me.ts, index });
                    let payload = Payload::Bytes(value.into());
                    self.add(author, Path::Element(&name), What::Assign { payload, flagged: false });
                }
            }
            Op::ListRemove { ranges } => {
                self.replace(Kind::List, None, author);
                for range in ranges.iter() {
                    let wanted = range.run.name(author.reign(), author.me.ts);
                    let is_in = |live: &Live| {
                        live.kind == Kind::List
                            && RunName::split(&live.element)
                                .is_ok_and(|(run, at)| run == wanted && range.from <= at && at <= range.to)
                    };
                    self.values.retain(|live| !(is_in(live) && author.saw(&live.dot)));
                }
            }
            Op::Clear { .. } => self.clear(author),
            Op::Expire { at } => self.set_ttl(author, Some(at), true),
            Op::Persist => self.set_ttl(author, None, true),
            Op::Flush { .. }
            | Op::Reign
            | Op::Join { .. }
            | Op::Forget { .. }
            | Op::Again { .. }
            | Op::Publish { .. } => {}
        }
        for (element, payload) in streams::assigns(&effect.op) {
            self.replace(Kind::Stream, Some(&element), author);
            let flagged = matches!(effect.op, Op::Assign { reasserted: true, .. });
            self.add(author, Path::Stream(&element), What::Assign { payload, flagged });
        }
        match effect.ttl {
            TtlNote::None => {}
            TtlNote::Created => self.set_ttl(author, None, false),
            TtlNote::Kept(at) => self.ttl.push(LiveTtl { dot: author.me, at: Some(at), strong: false }),
        }
    }

    fn add(&mut self, author: &Author<'_>, path: Path<'_>, what: What) {
        let (kind, element) = split(path);
        self.values.push(Live { dot: author.me, kind, element: element.to_vec(), what });
    }

    fn set_ttl(&mut self, author: &Author<'_>, at: Option<UnixMs>, strong: bool) {
        self.ttl.retain(|live| !author.saw(&live.dot));
        self.ttl.push(LiveTtl { dot: author.me, at, strong });
    }

    fn view(&self) -> Option<Entry> {
        let rank = |live: &&Live| (!matches!(live.what, What::Assign { flagged: true, .. }), live.dot);
        let kind =
            self.values.iter().filter(|live| streams::makes_type(live.kind, &live.element)).max_by_key(rank)?.kind;
        let mut elements: BTreeMap<Vec<u8>, Vec<&Live>> = BTreeMap::new();
        for live in self.values.iter().filter(|live| live.kind == kind) {
            elements.entry(live.element.clone()).or_default().push(live);
        }
        let name = |index, name| if kind == Kind::List { place(index).to_vec() } else { name };
        let shown = |(name, lives)| Some((name, show(kind, lives)?));
        // What is late is not compared: see `streams::shown_of`.
        let elements: BTreeMap<_, _> = elements
            .into_iter()
            .filter_map(shown)
            .filter(|(_, payload)| *payload != Payload::Late)
            .enumerate()
            .map(|(at, (of, payload))| (name(at, of), payload))
            .collect();
        if elements.is_empty() {
            return None;
        }
        Some(Entry { kind, elements, expire_at: self.ttl_view() })
    }

    /// T4.
    fn ttl_view(&self) -> Option<UnixMs> {
        let of = |strong: bool| self.ttl.iter().filter(move |live| live.strong == strong).map(|live| live.at);
        let highest =
            |times: Vec<Option<UnixMs>>| if times.contains(&None) { None } else { times.into_iter().max()? };
        let strong: Vec<_> = of(true).collect();
        if strong.is_empty() { highest(of(false).collect()) } else { highest(strong) }
    }
}

/// One path.
fn show(kind: Kind, mut lives: Vec<&Live>) -> Option<Payload> {
    lives.sort_by_key(|live| live.dot);
    let assigns = lives.iter().filter_map(|live| match &live.what {
        What::Assign { payload, flagged } => Some(((!flagged, live.dot), payload)),
        What::Increment(_) | What::Patch(_) => None,
    });
    if kind == Kind::Stream {
        let mut ranked: Vec<_> = assigns.collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        return streams::show(&ranked.into_iter().map(|(_, payload)| payload).collect::<Vec<_>>());
    }
    let field_ttl = field_ttl(assigns.clone());
    let top = assigns.max_by_key(|(rank, _)| *rank).map(|(_, payload)| payload);
    if kind == Kind::String && lives.iter().any(|live| matches!(live.what, What::Patch(_))) {
        let top = top.and_then(Payload::text).map(<[u8]>::to_vec);
        let mut hides = top.as_ref().is_some_and(|text| text.starts_with(b"HYLL"));
        let shown = lives.iter().fold(top, |text, live| live.what.change(text, &mut hides));
        return shown.map(|text| Payload::Bytes(text.into()));
    }
    let deltas: Vec<Number> = lives
        .iter()
        .filter_map(|live| if let What::Increment(delta) = live.what { Some(delta) } else { None })
        .collect();
    Some(match (kind, top) {
        (Kind::Set, _) => Payload::Present,
        (Kind::SortedSet, top) => {
            let base = if let Some(Payload::Score(score)) = top { *score } else { 0.0 };
            Payload::Score(deltas.iter().fold(base, |sum, delta| add_scores(sum, delta.as_float())))
        }
        (Kind::Hash, Some(top)) if deltas.is_empty() => {
            Payload::text_until(top.text().unwrap_or_default().into(), field_ttl)
        }
        (_, Some(top)) if deltas.is_empty() => top.clone(),
        (_, top) => {
            let base = match top {
                Some(top) => top.text().and_then(Decimal::parse),
                None => Some(Decimal::ZERO),
            };
            match (base, top) {
                (Some(base), _) => {
                    let sum = deltas.iter().fold(base, |sum, delta| sum.plus((*delta).into()));
                    Payload::text_until(sum.format().into_bytes().into(), field_ttl)
                }
                (None, Some(top)) => Payload::text_until(top.text().unwrap_or_default().into(), field_ttl),
                (None, None) => Payload::Present,
            }
        }
    })
}

/// T10: a write of the field decides its TTL, the latest one; else, among changes of the TTL alone, none, or the latest time.
fn field_ttl<'a>(assigns: impl Iterator<Item = ((bool, DotName), &'a Payload)> + Clone) -> Option<UnixMs> {
    let written = assigns.clone().filter(|((is_write, _), _)| *is_write).max_by_key(|(rank, _)| *rank);
    match written {
        Some((_, payload)) => payload.expire_at(),
        None => assigns.map(|(_, payload)| payload.expire_at()).min_by_key(|at| at.map_or(i64::MIN, |at| -at))?,
    }
}

impl OwnedPatch {
    fn new(patch: Patch<'_>) -> Self {
        match patch {
            Patch::Bytes { offset, bytes } => Self::Bytes(offset as usize, bytes.to_vec()),
            Patch::Bits { offset, count, value } => {
                let bit = |at: u8| ((offset + u64::from(at)) as usize, value >> (count - 1 - at) & 1 == 1);
                Self::Bits((0..count).map(bit).collect())
            }
            Patch::Append(bytes) => Self::Append(bytes.to_vec()),
            Patch::Registers(registers) => Self::Registers(registers.bytes().to_vec()),
        }
    }
}

impl What {
    /// What it makes of a string, step by step. A HyperLogLog hides bytes, but not what they have made one.
    fn change(&self, text: Option<Vec<u8>>, hides: &mut bool) -> Option<Vec<u8>> {
        let grown = |end: usize| {
            let mut grown = text.clone().unwrap_or_default();
            grown.resize(grown.len().max(end), 0);
            grown
        };
        match self {
            What::Assign { .. } => text,
            What::Increment(delta) => match text.as_deref().map(Decimal::parse) {
                Some(None) => text,
                base => Some(base.flatten().unwrap_or_default().plus((*delta).into()).format().into_bytes()),
            },
            What::Patch(OwnedPatch::Bytes(..) | OwnedPatch::Bits(_) | OwnedPatch::Append(_)) if *hides => text,
            What::Patch(OwnedPatch::Bytes(offset, bytes)) => {
                let mut grown = grown(offset + bytes.len());
                grown[*offset..offset + bytes.len()].copy_from_slice(bytes);
                Some(grown)
            }
            What::Patch(OwnedPatch::Bits(bits)) => {
                let mut grown = grown(bits.iter().map(|(place, _)| place / 8 + 1).max().unwrap_or(0));
                for (place, bit) in bits {
                    let mask = 0x80 >> (place % 8);
                    grown[place / 8] = grown[place / 8] & !mask | if *bit { mask } else { 0 };
                }
                Some(grown)
            }
            What::Patch(OwnedPatch::Append(bytes)) => Some([text.unwrap_or_default(), bytes.clone()].concat()),
            What::Patch(OwnedPatch::Registers(registers)) => {
                let all = text.as_deref().map_or_else(|| Some(HyperLogLog::default()), HyperLogLog::parse);
                let (Some(mut all), Some(registers)) = (all, Registers::new(registers)) else { return text };
                all.raise(registers);
                *hides = true;
                Some(all.text())
            }
        }
    }
}
