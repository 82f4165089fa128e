//! Regressed effects: an old backup came back and wrote without having seen what is stable here (2.2 rule 5).
//!
//! What is asserted again is decided by S, not by what happens to be pruned: a replica prunes at other times than its primary (I-12).

use super::meet::Dots;
use super::stream::{LAST, is_entry, removes_entry_of, touches};
use super::{Author, Element, KeyRef, Merge, view};
use crate::clock::VectorClock;
use crate::dot::Dot;
use crate::effect::{Effect, FlushScope, Kind, Op, Path, StreamOp, TtlNote, UnixMs, Value};
use crate::hyperloglog::{HEADER, is_claimed};
use crate::keyspace::Keyspace;
use crate::metadata::{Class, KeyMeta, KindMeta, PathMeta, Payload, Top, TtlDot, TtlMeta};
use crate::origin::Origins;
use crate::stream::{Part, PartName, StreamId, entry_id};

/// Places of a key to author again.
#[derive(Clone, Debug, PartialEq)]
pub struct AtRisk {
    /// Logical database.
    pub db: u32,
    /// Key.
    pub name: Box<[u8]>,
    /// Stable elements that the effect would remove elsewhere.
    pub elements: Vec<Element>,
    /// Its stable TTL, if the effect may change that.
    pub ttl: Option<StableTtl>,
    /// It is a list, and the effect brings another type or may uncover one: what lost against the list is gone here, if everyone had it.
    pub is_list: bool,
    /// Deliveries of an entry that the effect brings back: they are gone here, if everyone had them.
    pub gone: Vec<PartName>,
}

impl AtRisk {
    const fn nothing_of(db: u32, name: Box<[u8]>) -> Self {
        Self { db, name, elements: Vec::new(), ttl: None, is_list: false, gone: Vec::new() }
    }

    fn of_gone(key: KeyRef<'_>, ttl: StableTtl) -> Self {
        Self { ttl: Some(ttl), ..Self::nothing_of(key.db, key.name.into()) }
    }
}

/// How to assert a stable TTL again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StableTtl {
    /// This time.
    At(UnixMs),
    /// None, against an effect that brings one: a strong dot.
    Persistent,
    /// None: a weak dot, so that a concurrent `EXPIRE` of someone else still wins.
    Created,
}

/// What an effect does to the TTL of the keys that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TtlChange {
    Untouched,
    Removed,
    Brought,
}

impl TtlChange {
    fn of(effect: &Effect<'_>) -> Self {
        match (effect.op, effect.ttl) {
            (Op::Set { expire_at: Some(_), .. } | Op::Expire { .. }, _) | (_, TtlNote::Kept(_)) => Self::Brought,
            (Op::Set { .. } | Op::Clear { .. } | Op::Flush { .. } | Op::Persist, _) | (_, TtlNote::Created) => {
                Self::Removed
            }
            _ => Self::Untouched,
        }
    }
}

/// The type that an effect brings.
fn brings(op: Op<'_>) -> Option<Kind> {
    match op {
        Op::Set { .. } | Op::Patch { .. } => Some(Kind::String),
        Op::Assign { path, .. } | Op::Increment { path, .. } => Some(path.kind()),
        Op::Stream(_) => Some(Kind::Stream),
        Op::ListInsert { .. } => Some(Kind::List),
        _ => None,
    }
}

/// The deliveries that an effect makes.
fn delivered_by(op: Op<'_>) -> Vec<PartName> {
    match op {
        Op::Assign { path: Path::Stream(name), .. } if is_delivery(name) => vec![PartName::from_slice(name)],
        Op::Stream(StreamOp::Deliver { group, ids, .. }) => {
            ids.iter().map(|id| Part::Delivery { group, id }.name()).collect()
        }
        _ => Vec::new(),
    }
}

/// Entries and deliveries of a key of a snapshot that are new here.
fn news_of_stream(theirs: &KeyMeta, clock: &VectorClock) -> (Vec<StreamId>, Vec<PartName>) {
    let (mut entries, mut deliveries) = (Vec::new(), Vec::new());
    let paths = theirs.kind(Kind::Stream).into_iter().flat_map(|kind| kind.paths.iter());
    for (name, _) in paths.filter(|(_, meta)| meta.dots().any(|dot| !dot.is_in(clock))) {
        match Part::parse(name) {
            Some(Part::Entry(id)) => entries.push(id),
            Some(Part::Delivery { .. }) => deliveries.push(PartName::from_slice(name)),
            _ => {}
        }
    }
    (entries, deliveries)
}

fn is_delivery(name: &[u8]) -> bool {
    matches!(Part::parse(name), Some(Part::Delivery { .. }))
}

/// How to assert the TTL of a key that is gone, and that an effect makes again: what everyone had set may be dropped here, and shows at who has not dropped
/// it. The time that the author had left alone counts, else none.
fn ttl_of_gone(effect: &Effect<'_>) -> Option<StableTtl> {
    match (effect.op, effect.ttl) {
        // It has a strong one itself, and none wins.
        (Op::Set { expire_at: None, .. }, _) => None,
        (op, _) if brings(op).is_none() => None,
        (_, TtlNote::Kept(at)) => Some(StableTtl::At(at)),
        _ => Some(StableTtl::Created),
    }
}

impl<K: Keyspace> Merge<'_, K> {
    /// What is stable here and would be removed by a regressed effect at those who still have its dots, or who count it as seen.
    /// The receiver authors it anew, flagged, *before* it applies the effect: so the new dots are concurrent to it, stay, and
    /// rank below everything newer.
    pub fn at_risk(
        &mut self,
        effect: &Effect<'_>,
        dot: &Dot,
        (seen, stable): (&VectorClock, &VectorClock),
    ) -> Vec<AtRisk> {
        let key = KeyRef { db: effect.db, name: effect.key };
        let author = self.author(dot);
        let ttl = TtlChange::of(effect);
        let removed = match effect.op {
            Op::ListRemove { ranges } => self.names_in(key, ranges, author),
            _ => Vec::new(),
        };
        let mut gone = self.stably_delivered(key, delivered_by(effect.op), stable);
        if let Op::Assign { path: Path::Stream(name), .. } = effect.op
            && let Some(id) = entry_id(name)
        {
            gone = self.stably_gone(key, vec![id], stable);
        }
        if brings(effect.op).is_some() && self.is_gone(key) {
            let of_gone = ttl_of_gone(effect).map(|ttl| AtRisk::of_gone(key, ttl));
            return of_gone.map(|of_gone| AtRisk { gone, ..of_gone }).into_iter().collect();
        }
        let writes_bytes = matches!(effect.op, Op::Patch { patch, .. } if patch.class() == Class::Text);
        let is_hidden_if_pruned = writes_bytes && self.shows_hyperloglog(key);
        let mut of_key =
            |wanted: &dyn Fn(Path<'_>) -> bool| self.stable_places(key, wanted, ttl, stable).into_iter().collect();
        let mut found: Vec<AtRisk> = match effect.op {
            Op::Set { .. } | Op::Clear { .. } => of_key(&|_| true),
            Op::Assign { path, .. } if is_entry(path) => {
                of_key(&|p| p == path || p == LAST || p.kind() != Kind::Stream)
            }
            Op::Assign { path, .. } | Op::Remove { path } => {
                of_key(&|p| p == path || p.kind() != path.kind() || removes_entry_of(effect.op, p))
            }
            Op::Stream(op) => of_key(&|p| {
                let is_touched = matches!(p, Path::Stream(name) if touches(op, name));
                is_touched || p.kind() != Kind::Stream || removes_entry_of(effect.op, p)
            }),
            // If a clock was set back its place among stable patches depends on what is pruned. Else it comes behind them everywhere, and the string
            // is left alone: who asserts it takes up patches that are not stable, and of two who do so one loses the other's.
            Op::Patch { .. } | Op::Increment { path: Path::String, .. } if may_precede(author, stable) => {
                of_key(&|_| true)
            }
            // What patches have made a HyperLogLog hides none of the others, but one that they are pruned to does.
            Op::Patch { .. } if is_hidden_if_pruned => of_key(&|_| true),
            Op::Patch { .. } => of_key(&|p| p.kind() != Kind::String),
            Op::Increment { path, .. } => of_key(&|p| p.kind() != path.kind()),
            Op::ListInsert { .. } => of_key(&|p| p.kind() != Kind::List),
            Op::ListRemove { .. } => of_key(&|p| match p {
                Path::Element(name) => removed.iter().any(|removed| **removed == *name),
                _ => true,
            }),
            Op::Expire { .. } | Op::Persist => of_key(&|_| false),
            Op::Flush { scope } => self.stable_dataset(scope, stable),
            Op::Reign | Op::Join { .. } | Op::Forget { .. } | Op::Again { .. } | Op::Publish { .. } => Vec::new(),
        };
        // Elements of other types that are asserted again say that they are alone; those of lists keep their dots.
        let uncovers = matches!(effect.op, Op::ListRemove { .. } | Op::Clear { .. })
            || brings(effect.op).is_some_and(|kind| kind != Kind::List);
        let is_list = uncovers && self.keyspace.kind(key.db, key.name) == Some(Kind::List);
        let hidden = match effect.op {
            Op::Assign { path, reasserted: true, .. } => self.hidden(key, path, dot, (seen, stable)),
            _ => None,
        };
        if found.is_empty() && (is_list || !gone.is_empty() || hidden.is_some()) {
            found.push(AtRisk::nothing_of(key.db, key.name.into()));
        }
        if let Some(of_key) = found.first_mut() {
            of_key.elements.extend(hidden);
            of_key.gone = gone;
            of_key.is_list |= is_list;
        }
        found
    }

    /// Nothing shows of a key, and not since this server cannot read it.
    fn is_gone(&mut self, key: KeyRef<'_>) -> bool {
        let keeps_unknown = self.table.find(key.db, key.name).is_some_and(|at| self.table.meta(at).keeps_unknown());
        !keeps_unknown && self.keyspace.kind(key.db, key.name).is_none()
    }

    fn shows_hyperloglog(&mut self, key: KeyRef<'_>) -> bool {
        self.keyspace.kind(key.db, key.name) == Some(Kind::String)
            && is_claimed(&self.keyspace.string_range(key.db, key.name, 0, HEADER))
    }

    /// Deliveries of entries that are not here. A dataset keeps none without its entry, or not for ever, and what is stable has no metadata: so of what
    /// everyone has had, some still have a delivery when the entry comes back, and others have not.
    pub(crate) fn stably_gone(
        &mut self,
        key: KeyRef<'_>,
        mut ids: Vec<StreamId>,
        stable: &VectorClock,
    ) -> Vec<PartName> {
        let last = self.keyspace.stream_part(key.db, key.name, Part::Last);
        // Whatever was delivered is not above it.
        let may_have_been = |id: &StreamId| matches!(last, Some(Payload::Id(last)) if *id <= last);
        ids.retain(|id| may_have_been(id) && self.keyspace.stream_part(key.db, key.name, Part::Entry(*id)).is_none());
        if ids.is_empty() {
            return Vec::new();
        }
        let mut names = Vec::new();
        self.keyspace.elements(key.db, key.name, &mut |path, _| {
            if let Path::Stream(name) = path
                && let Some(Part::Group(group)) = Part::parse(name)
            {
                names.extend(ids.iter().map(|&id| Part::Delivery { group, id }.name()));
            }
        });
        let meta = self.table.find(key.db, key.name).map(|at| self.table.meta(at));
        names.retain(|name| has_stable(meta.and_then(|meta| meta.path(Path::Stream(name))), stable));
        names
    }

    /// Which of these deliveries are new although everyone has had others, of which nothing is left here: these may have no metadata elsewhere. Whether they were acknowledged
    /// nobody can tell: a group also passes what it leaves out, and what a consumer had that is deleted. So they are handed out anew: twice rather than never. Not of a key that
    /// shows another type: to remove a part of a stream there would remove that.
    fn stably_delivered(&mut self, key: KeyRef<'_>, mut names: Vec<PartName>, stable: &VectorClock) -> Vec<PartName> {
        if self.keyspace.kind(key.db, key.name).is_some_and(|kind| kind != Kind::Stream) {
            return Vec::new();
        }
        names.retain(|name| {
            let path = Path::Stream(name);
            // What is late there is nothing that anybody has.
            let is_left = self.native(key, path).is_some_and(|shown| shown != Payload::Late);
            let meta = self.table.find(key.db, key.name).and_then(|at| self.table.meta(at).path(path));
            !is_left && has_stable(meta, stable)
        });
        names
    }

    /// What is stable here of a whole key, when a snapshot of an instance that came back from an old state has news of it. Of what was
    /// `stable_there`, and is not known here, that may have more in its entries without dots: none of them would show below what is asserted, so
    /// they are taken into it. `seen`: by the source, if that has not had all that is stable here, so that what it has asserted knew less. `clock`: what was applied here.
    pub fn key_at_risk(
        &mut self,
        key: KeyRef<'_>,
        theirs: &KeyMeta,
        seen: Option<&VectorClock>,
        (clock, stable): (&VectorClock, &VectorClock),
        stable_there: Option<&VectorClock>,
    ) -> Option<AtRisk> {
        let (entries, deliveries) = news_of_stream(theirs, clock);
        let mut gone = self.stably_delivered(key, deliveries, stable);
        gone.extend(self.stably_gone(key, entries, stable));
        if self.is_gone(key) {
            let of_gone = AtRisk::of_gone(key, theirs.ttl.view().map_or(StableTtl::Created, StableTtl::At));
            return Some(AtRisk { gone, ..of_gone });
        }
        let mut found = self.stable_places(key, &|_| true, TtlChange::Brought, stable);
        if let (Some(found), Some(there)) = (&mut found, stable_there) {
            let ours = self.exposed(key);
            for element in &mut found.elements {
                let path = element.path.get();
                let both = theirs.path(path).zip(ours.path(path));
                let whole = both.and_then(|both| with_entry(both, path.kind(), (there, stable), self.origins));
                element.payload = whole.unwrap_or_else(|| element.payload.clone());
            }
            found.ttl = found.ttl.map(|ttl| with_time((&theirs.ttl, &ours.ttl), (there, stable)).unwrap_or(ttl));
        }
        let is_list = self.keyspace.kind(key.db, key.name) == Some(Kind::List);
        let hidden = seen.map(|seen| self.all_hidden(key, theirs, (seen, stable))).unwrap_or_default();
        let lone = || AtRisk::nothing_of(key.db, key.name.into());
        let mut found = found.or_else(|| (is_list || !hidden.is_empty() || !gone.is_empty()).then(lone))?;
        found.elements.extend(hidden);
        Some(AtRisk { is_list, gone, ..found })
    }

    /// What is stable here of a key and not the same in `theirs`, a snapshot of an instance that came back from an old state and has no news of it.
    ///
    /// Who asserts a path takes up what is not stable of it, and of two who do so one loses the other's. So nothing is asserted where the source has it
    /// still: with a base, or with what may be a part of it while something here is not stable.
    pub fn missing_at_risk(&mut self, key: KeyRef<'_>, theirs: &KeyMeta, stable: &VectorClock) -> Option<AtRisk> {
        let is_list = self.keyspace.kind(key.db, key.name) == Some(Kind::List) && theirs.kind(Kind::List).is_none();
        let mut found = self.stable_places(key, &|_| true, TtlChange::Removed, stable)?;
        let ours = self.exposed(key);
        let (origins, is_stable) = (self.origins, |dot: &Dot| dot.is_in(stable));
        let shows = |meta: Option<&PathMeta>, path: Path<'_>| {
            meta.map(|meta| meta.part(is_stable)).and_then(|meta| view::view(&meta, path.kind(), origins))
        };
        found.elements.retain(|element| {
            let path = element.path.get();
            let (there, here) = (theirs.path(path), ours.path(path));
            let is_news = here.is_some_and(|here| !here.dots().all(is_stable));
            let may_be_whole = there.is_some_and(|meta| meta.has_base() || (is_news && meta.dots().any(is_stable)));
            !may_be_whole && shows(there, path) != shows(here, path)
        });
        let ttl = found.ttl.filter(|_| theirs.kinds.is_empty() && !found.elements.is_empty());
        (is_list || !found.elements.is_empty()).then_some(AtRisk { is_list, ttl, ..found })
    }

    /// What is stable here of a path of which `theirs`, a snapshot of an instance that has seen all that is stable here, has a part. Whoever removed the rest
    /// had not seen that part: it came back from an old state, for else its report would not count here (rule 3).
    pub fn torn_at_risk(&mut self, key: KeyRef<'_>, theirs: &KeyMeta, stable: &VectorClock) -> Option<AtRisk> {
        let may_be_torn = |meta: &PathMeta| !has_sure_base(meta) && meta.dots().any(|dot| dot.is_in(stable));
        let is_plain = |kind: &&KindMeta| kind.kind != Kind::List;
        if !theirs.kinds.iter().filter(is_plain).any(|kind| kind.paths.any(may_be_torn)) {
            return None;
        }
        let ours = self.exposed(key);
        let origins = self.origins;
        let is_torn = |path: Path<'_>| {
            let (Some(theirs), Some(ours)) = (theirs.path(path).filter(|meta| may_be_torn(meta)), ours.path(path))
            else {
                return false;
            };
            if !has_sure_base(ours) {
                // What was overwritten here, and the source has not seen that, is not torn there.
                let of_theirs: Vec<&Dot> = theirs.dots().collect();
                return ours.dots().any(|dot| dot.is_in(stable) && !of_theirs.contains(&dot));
            }
            let mut both = theirs.part(|dot| dot.is_in(stable));
            both.take_dots(ours, |dot| !dot.is_in(stable));
            view::view(&both, path.kind(), origins) != view::view(ours, path.kind(), origins)
        };
        let wanted = |path: Path<'_>| path.kind() != Kind::List && is_torn(path);
        self.stable_places(key, &wanted, TtlChange::Untouched, stable)
    }

    fn stable_dataset(&mut self, scope: FlushScope, stable: &VectorClock) -> Vec<AtRisk> {
        let mut names: Vec<(u32, Box<[u8]>)> = Vec::new();
        self.keyspace.keys(scope, &mut |db, name| names.push((db, name.into())));
        let key = |(db, name): &(u32, Box<[u8]>)| {
            let key = KeyRef { db: *db, name };
            let is_list = self.keyspace.kind(key.db, key.name) == Some(Kind::List);
            self.stable_places(key, &|_| true, TtlChange::Removed, stable).map(|found| AtRisk { is_list, ..found })
        };
        names.iter().filter_map(key).collect()
    }

    fn stable_places(
        &mut self,
        key: KeyRef<'_>,
        wanted: &dyn Fn(Path<'_>) -> bool,
        change: TtlChange,
        stable: &VectorClock,
    ) -> Option<AtRisk> {
        let kind = self.keyspace.kind(key.db, key.name);
        let (mut elements, mut late, mut is_stable) = (Vec::new(), Vec::new(), false);
        if kind == Some(Kind::List) {
            // Positions keep their dots for ever, so only what never had one is at risk.
            self.items(key, |path, meta, value| {
                is_stable |= has_stable(Some(&meta), stable);
                if wanted(path) && meta.has_base() {
                    elements.push(Element::new(path, value));
                }
            });
        }
        let meta = self.table.find(key.db, key.name).map(|id| self.table.meta(id));
        let known = kind.and_then(|kind| meta?.kind(kind));
        if kind.is_some_and(|kind| kind != Kind::List) {
            self.keyspace.elements(key.db, key.name, &mut |path, value| {
                let meta = known.and_then(|k| k.paths.get(path));
                if has_stable(meta, stable) {
                    is_stable = true;
                    if wanted(path) && !shows_news(meta, stable) {
                        elements.push(Element::new(path, value));
                    } else if value == Value::Late {
                        late.push(Element::new(path, value));
                    }
                }
            });
        }
        // Of groups that are asserted again: how far depends on it.
        if !late.is_empty() {
            let groups: Vec<Element> = elements.iter().filter(|element| element.group().is_some()).cloned().collect();
            late.retain(|late: &Element| {
                late.late().is_some_and(|(of, _)| groups.iter().any(|g| g.group() == Some(of)))
            });
            elements.append(&mut late);
        }
        let shown = match meta.filter(|m| !m.ttl.is_empty()) {
            Some(meta) if ttl_has_stable(&meta.ttl, stable) => Some(meta.ttl.view()),
            // Those dots may be the author's own. Whether a stable "none" was there before can't be told any more, but for what shows; and there was
            // none if nothing of the key is stable.
            Some(meta) => (change == TtlChange::Brought && is_stable && meta.ttl.view().is_none()).then_some(None),
            None => kind.map(|_| self.keyspace.expire_at(key.db, key.name)),
        };
        let ttl = shown.and_then(|shown| match (change, shown) {
            (TtlChange::Untouched, _) => None,
            (_, Some(at)) => Some(StableTtl::At(at)),
            // A weak dot travels with an element.
            (TtlChange::Removed, None) if !elements.is_empty() => Some(StableTtl::Created),
            (TtlChange::Brought | TtlChange::Removed, None) => Some(StableTtl::Persistent),
        });
        let found = !elements.is_empty() || ttl.is_some();
        found.then(|| AtRisk { elements, ttl, ..AtRisk::nothing_of(key.db, key.name.into()) })
    }
}

/// What a path shows above the entry without a dot that `theirs` has, of who has seen all that is stable here: each of these writes has a dot there, is in that entry, or was
/// overwritten or removed by who had seen it. So that entry is not older than what shows here. `None` if there is none.
fn with_entry(
    (theirs, ours): (&PathMeta, &PathMeta),
    kind: Kind,
    (there, stable): (&VectorClock, &VectorClock),
    origins: &Origins,
) -> Option<Payload> {
    let is_stable = |dot: &Dot| dot.is_in(stable);
    // What an assertion here has taken up would count twice.
    let is_settled = ours.assigns.iter().all(|assigned| is_stable(&assigned.dot));
    // Elements of lists keep their dots; of parts of streams the highest shows, or what was not handed out yet.
    if !has_sure_base(theirs) || !is_settled || matches!(kind, Kind::List | Kind::Stream) {
        return None;
    }
    let mut whole = theirs.part(is_stable);
    let of_theirs: Dots = theirs.dots().copied().collect();
    whole.take_dots(ours, |dot| !is_stable(dot) && (!dot.is_in(there) || of_theirs.contains(dot)));
    view::view(&whole, kind, origins)
}

/// The same of a TTL. That there is none has no time, so nobody can tell whether that is newer.
fn with_time((theirs, ours): (&TtlMeta, &TtlMeta), (there, stable): (&VectorClock, &VectorClock)) -> Option<StableTtl> {
    let is_stable = |dot: &Dot| dot.is_in(stable);
    let mut whole = TtlMeta { base: Some(theirs.base?), ..TtlMeta::default() };
    whole.dots.extend(theirs.dots.iter().filter(|ttl| is_stable(&ttl.dot)).copied());
    let is_in_base = |ttl: &TtlDot| ttl.dot.is_in(there) && !theirs.dots.iter().any(|of| of.dot == ttl.dot);
    whole.dots.extend(ours.dots.iter().filter(|ttl| !is_stable(&ttl.dot) && !is_in_base(ttl)).copied());
    Some(whole.view().map_or(StableTtl::Persistent, StableTtl::At))
}

/// Whether there is an entry without a dot. One of 0 may be but supposed, by who has incremented what was removed.
fn has_sure_base(meta: &PathMeta) -> bool {
    meta.has_base() && meta.payload(Top::Base).and_then(Payload::text) != Some(b"0")
}

/// Whether something of an element is stable: without a dot, or with one in S.
pub(super) fn has_stable(meta: Option<&PathMeta>, stable: &VectorClock) -> bool {
    meta.is_none_or(|m| m.is_empty() || m.has_base() || m.dots().any(|dot| dot.is_in(stable)))
}

/// Whether what shows is an `Assign` that is not stable yet: nobody has pruned that, and who asserts it again would put it below older writes.
fn shows_news(meta: Option<&PathMeta>, stable: &VectorClock) -> bool {
    meta.is_some_and(|meta| meta.assigns.iter().any(|a| !a.reasserted && !a.dot.is_in(stable)))
}

/// Whether something stable may come behind an effect in effect order.
fn may_precede(author: Author, stable: &VectorClock) -> bool {
    stable.iter().any(|(_, ts)| ts >= author.now)
}

fn ttl_has_stable(ttl: &TtlMeta, stable: &VectorClock) -> bool {
    ttl.base.is_some() || ttl.dots.iter().any(|t| t.dot.is_in(stable))
}
