//! Looks at the dataset around a command that `SYNCER.CALL` runs, and what its reply says.

use syncer_shared::decimal::Decimal;
use syncer_shared::digest::KeyDigest;
use syncer_shared::hyperloglog::{HEADER, HyperLogLog};
use syncer_shared::keyspace::Keyspace;

use super::event::Event;
use super::patch::{self, Field};
use super::shape::{Shape, has_flags};
use super::stream::{self, Changes, Given};
use super::unit::Unit;
use super::{ServerDataset, VOLATILE};
use crate::keyspace::functions::{self, Library};
use crate::keyspace::put_back;
use crate::redis::passthrough::{self, As, Leaf, Outcome};
use crate::redis::timer::cached_ms;
use crate::redis::{Args, Context, OwnedText, Text, call};
use crate::state;

/// What was there before the command.
pub struct Before {
    shape: Shape,
    kind: Kind,
}

enum Kind {
    Nothing,
    /// What the string is before it is changed in part, as [`patch::look`] tells it, and the fields of `BITFIELD`.
    Prior(Vec<u8>, Vec<Field>),
    /// The target of `BITOP` before.
    Bits(patch::Target),
    /// Registers before.
    Registers(HyperLogLog),
    /// The beginning of a HyperLogLog: `PFCOUNT` writes down there what it counted.
    Header(Vec<u8>),
    /// The element that a float is added to, if it was there.
    Element(Option<Vec<u8>>),
    /// Members that will go.
    Leaving(Vec<Vec<u8>>),
    /// Members that may change, and their scores.
    Scores(Vec<(usize, Option<f64>)>),
    /// Digests of the keys that may change; none of those that are to be captured anyway.
    Digests(Vec<(usize, Option<u128>)>),
    /// See there.
    Stream(stream::Before),
    /// Places in a list.
    Places(Vec<u64>),
    /// The keys that may change: whether they did, the reply tells.
    Keys(Vec<usize>),
    /// The libraries of functions.
    Libraries(Vec<Library>),
}

/// What the reply and a look afterwards tell.
#[derive(Default)]
pub struct After {
    /// Members; where scores were looked at, each with its score.
    members: Vec<Vec<u8>>,
    changed: Vec<Vec<u8>>,
    /// A key that has lost its TTL without an event.
    persisted: Option<Vec<u8>>,
    /// Libraries of functions that are new or other, with their code, or gone.
    libraries: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    streams: Vec<(Vec<u8>, Changes)>,
}

impl Before {
    /// Runs the command.
    pub fn run(&self, context: &Context, args: Args<'_>, run_as: As) -> Given {
        match &self.kind {
            Kind::Stream(before) => before.run(context, args, run_as),
            _ => Given::Reply(passthrough::run(context, args, run_as)),
        }
    }

    /// Looks.
    pub fn look(context: &Context, dataset: &mut ServerDataset<'_>, shape: Shape, args: Args<'_>) -> Self {
        let db = context.db();
        let key_at = if shape == Shape::BitOp { 2 } else { 1 };
        let key = args.bytes(key_at).unwrap_or_default();
        // Looks see what has expired, too, the command will not.
        if VOLATILE.get() && dataset.expire_at(db, key).is_some_and(|at| at < cached_ms() as i64) {
            drop(call(context, c"EXISTS", args.get(key_at).as_slice()));
        }
        let score =
            |dataset: &mut ServerDataset<'_>, at| args.bytes(at).and_then(|member| dataset.score(db, key, member));
        let kind = match shape {
            shape if shape.is_patch() => {
                let fields = if shape == Shape::BitField { patch::fields(args) } else { Vec::new() };
                Kind::Prior(patch::look(dataset, db, key), fields)
            }
            Shape::BitOp => patch::Target::look(dataset, db, args).map_or(Kind::Nothing, Kind::Bits),
            Shape::PfMerge => Kind::Registers(patch::registers(dataset, db, key)),
            Shape::PfCount => Kind::Header(dataset.string_range(db, key, 0, HEADER)),
            Shape::IncrFloat => Kind::Element(dataset.string(db, key)),
            Shape::HIncrFloat => Kind::Element(args.bytes(2).and_then(|field| dataset.field(db, key, field))),
            Shape::ZIncrBy => Kind::Element(score(dataset, 3).map(text)),
            Shape::ZAdd if !has_flags(args.bytes(2)) => Kind::Nothing,
            Shape::ZAdd => {
                let flags = leading_flags(args);
                if (2..2 + flags).any(|at| args.bytes(at).is_some_and(|a| a.eq_ignore_ascii_case(b"incr"))) {
                    Kind::Element(score(dataset, 3 + flags).map(text))
                } else {
                    Kind::Scores((3 + flags..args.len()).step_by(2).map(|at| (at, score(dataset, at))).collect())
                }
            }
            Shape::GeoAdd => {
                let first = 4 + leading_flags(args);
                Kind::Scores((first..args.len()).step_by(3).map(|at| (at, score(dataset, at))).collect())
            }
            Shape::ZRemByRank => Kind::Leaving(range(context, c"ZRANGE", args)),
            Shape::ZRemByScore => Kind::Leaving(range(context, c"ZRANGEBYSCORE", args)),
            Shape::ZRemByLex => Kind::Leaving(range(context, c"ZRANGEBYLEX", args)),
            Shape::Functions => Kind::Libraries(functions::list(context)),
            Shape::Stream => Kind::Stream(stream::Before::look(context, args)),
            Shape::ListInsert => Kind::Places(pivot(context, args).into_iter().collect()),
            Shape::ListRemove => Kind::Places(places(context, args, 3, args.bytes(2))),
            Shape::Whole => {
                let digest = |at| {
                    let key = args.bytes(at).unwrap_or_default();
                    let is_changed = state::shard().is_ok_and(|shard| shard.is_changed(db, key));
                    (at, (!is_changed).then(|| digest(dataset, db, key)))
                };
                Kind::Digests(written(context, args).into_iter().map(digest).collect())
            }
            _ => Kind::Nothing,
        };
        let kind = match (shape, kind) {
            (Shape::IncrFloat, Kind::Element(before)) if is_out_of_range(&before, args.bytes(2)) => Kind::Keys(vec![1]),
            (Shape::HIncrFloat, Kind::Element(before)) if is_out_of_range(&before, args.bytes(3)) => {
                Kind::Keys(vec![1])
            }
            (_, kind) => kind,
        };
        Self { shape, kind }
    }

    /// Whether the command is a message, which leaves no trace but its reply.
    #[must_use]
    pub fn is_message(&self) -> bool {
        matches!(self.shape, Shape::Publish { .. })
    }

    /// What the stage should know before its event.
    pub fn tell(&self, unit: &mut Unit) {
        match &self.kind {
            Kind::Element(Some(before)) | Kind::Prior(before, _) => unit.tell(before),
            Kind::Bits(target) => unit.tell(&target.told),
            Kind::Leaving(members) => members.iter().for_each(|member| unit.tell(member)),
            Kind::Places(places) => places.iter().for_each(|place| unit.tell(&place.to_le_bytes())),
            _ => {}
        }
    }
}

impl After {
    /// Looks, and reads the reply.
    pub fn look(
        context: &Context,
        dataset: &mut ServerDataset<'_>,
        before: Before,
        args: Args<'_>,
        given: &Given,
    ) -> Self {
        let mut after = Self::default();
        match (before.kind, given) {
            (Kind::Stream(before), given) => {
                let name = |changes: Changes| (args.bytes(changes.key).unwrap_or_default().to_vec(), changes);
                after.streams = before.changes(context, args, given).into_iter().map(name).collect();
            }
            (kind, Given::Reply(outcome)) if !outcome.is_error() => {
                after.read(context, dataset, before.shape, kind, args, outcome);
            }
            _ => {}
        }
        after
    }

    fn read(
        &mut self,
        context: &Context,
        dataset: &mut ServerDataset<'_>,
        shape: Shape,
        before: Kind,
        args: Args<'_>,
        outcome: &Outcome,
    ) {
        let db = context.db();
        let name = |at| args.bytes(at).unwrap_or_default();
        match before {
            Kind::Scores(scores) => {
                // With the score of now: a later command of the unit may add to it.
                for (at, was) in scores {
                    let score = dataset.score(db, name(1), name(at));
                    if let Some(score) = score.filter(|_| score != was) {
                        self.members.extend([name(at).to_vec(), text(score)]);
                    }
                }
            }
            Kind::Digests(digests) => {
                let changed =
                    |(at, was): &(usize, Option<u128>)| was.is_none_or(|was| digest(dataset, db, name(*at)) != was);
                self.changed = digests.into_iter().filter(changed).map(|(at, _)| name(at).to_vec()).collect();
            }
            Kind::Libraries(libraries) => self.libraries = changed_libraries(&libraries, &functions::list(context)),
            Kind::Prior(told, fields) => {
                self.members = patch::written(dataset, db, name(1), &told, &fields, outcome);
            }
            Kind::Bits(target) => match target.patches(dataset, db, name(2)) {
                Some(patches) => {
                    self.members = patches;
                    self.persisted = target.has_lost_ttl(dataset, db, name(2)).then(|| name(2).to_vec());
                }
                None => self.changed = vec![name(2).to_vec()],
            },
            Kind::Registers(known) => {
                self.members = vec![patch::registers(dataset, db, name(1)).above(&known).to_vec()];
            }
            Kind::Header(known) => {
                // Its TTL may have passed since the look: nothing is to come of that.
                let now = dataset.string_range(db, name(1), 0, HEADER);
                if now.len() == known.len() && now != known {
                    put_back(context, db, name(1), &known);
                }
            }
            Kind::Keys(keys) if says_something(outcome) => {
                self.changed = keys.into_iter().map(|at| name(at).to_vec()).collect();
            }
            _ => self.members = popped(shape, outcome),
        }
    }

    /// Completes the stage, which is still open.
    pub fn tell(&self, unit: &mut Unit, db: u32) {
        self.members.iter().for_each(|member| unit.tell(member));
        self.changed.iter().for_each(|key| unit.changed(db, key));
        self.persisted.iter().for_each(|key| unit.event(Event::Persist, db, key, cached_ms()));
        self.libraries.iter().for_each(|(name, code)| unit.library(name, code.as_deref()));
        for (key, changes) in &self.streams {
            if changes.effects.is_empty() {
                unit.changed(db, key);
            } else {
                unit.did(db, key, changes.effects.body());
            }
        }
    }
}

/// What became of libraries: first those that are gone, whose functions others may have taken over.
fn changed_libraries(before: &[Library], after: &[Library]) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let gone = before.iter().filter(|(name, _)| !after.iter().any(|(other, _)| other == name));
    let changed = after.iter().filter(|library| !before.contains(library));
    gone.map(|(name, _)| (name.clone(), None))
        .chain(changed.map(|(name, code)| (name.clone(), Some(code.clone()))))
        .collect()
}

/// Whether numbers are too large for an increment: then the key is captured whole.
fn is_out_of_range(before: &Option<Vec<u8>>, delta: Option<&[u8]>) -> bool {
    let is_out = |text: &[u8]| !Decimal::parse(text).is_some_and(Decimal::may_add);
    before.iter().map(Vec::as_slice).chain(delta).any(is_out)
}

/// The members that the reply of a pop names.
fn popped(shape: Shape, outcome: &Outcome) -> Vec<Vec<u8>> {
    let (first, step) = match shape {
        Shape::SPop | Shape::ListMove => (0, 1),
        // Members and scores by turns, after the key if there is one.
        Shape::ZPop { names_key } => (usize::from(names_key), 2),
        _ => return Vec::new(),
    };
    let (mut at, mut members) = (0, Vec::new());
    outcome.leaves(&mut |leaf| {
        if let Leaf::Bytes(member) = leaf
            && at >= first
            && (at - first) % step == 0
        {
            members.push(member.to_vec());
        }
        at += 1;
    });
    members
}

fn says_something(outcome: &Outcome) -> bool {
    let mut any = false;
    outcome.leaves(&mut |leaf| any |= !matches!(leaf, Leaf::Other | Leaf::Integer(0) | Leaf::Bytes(b"0-0")));
    any
}

/// The positions of the keys that the command may write.
fn written(context: &Context, args: Args<'_>) -> Vec<usize> {
    let mut positions = Vec::new();
    passthrough::written_keys(context, args, |position| positions.push(position));
    positions
}

fn digest(dataset: &mut ServerDataset<'_>, db: u32, key: &[u8]) -> u128 {
    let mut elements = KeyDigest::new();
    dataset.elements(db, key, &mut |path, value| elements.element(path, value));
    elements.finish(db, key, dataset.expire_at(db, key))
}

/// What a range command says about the same arguments.
fn range(context: &Context, command: &std::ffi::CStr, args: Args<'_>) -> Vec<Vec<u8>> {
    let args: Vec<_> = args.iter().skip(1).take(3).collect();
    let mut members = Vec::new();
    call(context, command, &args).each(|member| members.extend(member.bytes().map(<[u8]>::to_vec)));
    members
}

/// The places of an element of a list, in order; `count` as `LREM` takes it.
fn places(context: &Context, args: Args<'_>, element: usize, count: Option<&[u8]>) -> Vec<u64> {
    let count = count.and_then(|text| std::str::from_utf8(text).ok()?.parse::<i64>().ok()).unwrap_or(0);
    let (rank, count) = (if count < 0 { "-1" } else { "1" }, count.unsigned_abs().to_string());
    let words = [c_text("RANK"), c_text(rank), c_text("COUNT"), c_text(&count)];
    let mut all: smallvec::SmallVec<[Text<'_>; 6]> = [args.get(1), args.get(element)].into_iter().flatten().collect();
    all.extend(words.iter().map(OwnedText::text));
    let mut places = Vec::new();
    call(context, c"LPOS", &all).each(|place| places.extend(place.integer().and_then(|at| u64::try_from(at).ok())));
    places.sort_unstable();
    places
}

/// Where `LINSERT` puts its element.
fn pivot(context: &Context, args: Args<'_>) -> Option<u64> {
    let first = places(context, args, 3, Some(b"1")).first().copied()?;
    let is_after = args.bytes(2).is_some_and(|word| word.eq_ignore_ascii_case(b"after"));
    Some(first + u64::from(is_after))
}

fn c_text(word: &str) -> OwnedText {
    OwnedText::new(word.as_bytes())
}

/// How many flags follow the key of `ZADD` or `GEOADD`.
fn leading_flags(args: Args<'_>) -> usize {
    (2..args.len()).take_while(|at| has_flags(args.bytes(*at))).count()
}

fn text(score: f64) -> Vec<u8> {
    score.to_string().into_bytes()
}
