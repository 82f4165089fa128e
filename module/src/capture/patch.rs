//! Strings that a command changes in part: what is looked at before, and the patches that come of it.

use syncer_shared::hyperloglog::{self, HyperLogLog, RegisterBytes};
use syncer_shared::keyspace::Keyspace;
use syncer_shared::patch::{Patch, Prior, REACH_MAX, difference};
use syncer_shared::wire::Reader;

use super::arguments::StageArgs;
use super::shape::Shape;
use crate::redis::passthrough::{Leaf, Outcome};
use crate::redis::{Args, Text};

/// What a string is before a command changes it in part: a [`Prior`], encoded. Empty when the whole string is to be captured:
/// the bytes of a HyperLogLog are not merged with its registers.
pub fn look<D: Keyspace>(dataset: &mut D, db: u32, key: &[u8]) -> Vec<u8> {
    let len = dataset.string_len(db, key);
    let is_long = len > Prior::TEXT_MAX as u64;
    let text = match (len, is_long) {
        (0, _) => Vec::new(),
        (_, true) => dataset.string_range(db, key, 0, hyperloglog::HEADER),
        (_, false) => dataset.string(db, key).unwrap_or_default(),
    };
    if hyperloglog::is_claimed(&text) {
        return Vec::new();
    }
    let mut told = Vec::with_capacity(8 + text.len());
    if is_long { Prior::Length(len) } else { Prior::of(&text) }.encode(&mut told);
    told
}

/// What was told of the string before.
#[must_use]
pub fn prior(told: Option<&[u8]>) -> Option<Prior<'_>> {
    Prior::decode(&mut Reader::new(told?)).ok()
}

/// The patch that the arguments say, but for `BITFIELD`.
#[must_use]
pub fn of_args<'a>(shape: Shape, args: &StageArgs<'a>) -> Option<Patch<'a>> {
    let offset = || std::str::from_utf8(args.get(2)?).ok()?.parse().ok();
    let patch = match shape {
        Shape::SetBit => Patch::Bits { offset: offset()?, count: 1, value: u64::from(args.get(3)? == b"1") },
        Shape::SetRange => Patch::Bytes { offset: offset()?, bytes: args.get(3)? },
        Shape::Append => Patch::Append(args.get(2)?),
        _ => return None,
    };
    Some(patch)
}

/// Bits that an operation of `BITFIELD` may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Which value of the reply is its.
    answer: usize,
    offset: u64,
    count: u8,
}

/// The operations of `BITFIELD` that write; the server has accepted them.
#[must_use]
pub fn fields(args: Args<'_>) -> Vec<Field> {
    let (mut fields, mut at, mut answer) = (Vec::new(), 2, 0);
    while let Some(operation) = args.bytes(at) {
        let is = |name: &[u8]| operation.eq_ignore_ascii_case(name);
        if is(b"overflow") {
            at += 2;
            continue;
        }
        let writes = is(b"set") || is(b"incrby");
        if writes && let Some((offset, count)) = place(args.get(at + 1), args.get(at + 2)) {
            fields.push(Field { answer, offset, count });
        }
        answer += 1;
        at += if writes { 4 } else { 3 };
    }
    fields
}

/// `u8 #2`: 8 bits from bit 16 on.
fn place(kind: Option<Text<'_>>, offset: Option<Text<'_>>) -> Option<(u64, u8)> {
    let (kind, offset) = (kind?.as_str()?, offset?.as_str()?);
    let count: u8 = kind.get(1..)?.parse().ok().filter(|count| (1..=64).contains(count))?;
    match offset.strip_prefix('#') {
        Some(index) => Some((index.parse::<u64>().ok()?.checked_mul(u64::from(count))?, count)),
        None => Some((offset.parse().ok()?, count)),
    }
}

/// The patches of those operations that were carried out. Those that overflowed and failed answer nothing, but make the string longer
/// all the same.
pub fn written<D: Keyspace>(
    dataset: &mut D,
    db: u32,
    key: &[u8],
    before: &[u8],
    fields: &[Field],
    outcome: &Outcome,
) -> Vec<Vec<u8>> {
    let len = prior(Some(before)).map_or(0, |prior| prior.length());
    let grows = |field: &Field| (field.offset + u64::from(field.count)).div_ceil(8) > len;
    let mut carried_out = Vec::new();
    outcome.leaves(&mut |leaf| carried_out.push(matches!(leaf, Leaf::Integer(_))));
    let done = fields.iter().filter(|field| carried_out.get(field.answer) == Some(&true) || grows(field));
    let encoded = done.map(|field| {
        /// As many as 64 bits can touch.
        const WINDOW: usize = 9;
        let window = dataset.string_range(db, key, field.offset / 8, WINDOW);
        let mut bytes = Vec::new();
        Patch::bits_in(&window, field.offset, field.count).encode(&mut bytes);
        bytes
    });
    encoded.collect()
}

/// What the target of a `BITOP` was.
pub struct Target {
    /// As [`look`] tells it.
    pub told: Vec<u8>,
    text: Vec<u8>,
    /// `BITOP` takes a TTL away, and no event says so.
    had_ttl: bool,
}

impl Target {
    /// Looks at what `BITOP operation target source ...` is about to change. None if it replaces the whole value: of another type, or none, or a
    /// HyperLogLog, or one that it makes shorter. Only what is to be compared is copied.
    pub fn look<D: Keyspace>(dataset: &mut D, db: u32, args: Args<'_>) -> Option<Self> {
        let target = args.bytes(2)?;
        let mut len = |key| dataset.string_len(db, key);
        let (before, now) = (len(target), args.iter().skip(3).map(|source| len(source.as_bytes())).max()?);
        if now < before || now > REACH_MAX {
            return None;
        }
        let text = dataset.string(db, target)?;
        let told = look(dataset, db, target);
        let had_ttl = dataset.expire_at(db, target).is_some();
        (!told.is_empty()).then_some(Self { told, text, had_ttl })
    }

    /// What the command has changed, as patches; the first bit if nothing, since that is a write, too. None where it is shorter now all the same, a
    /// source having expired; nothing where it is gone, which its own event tells.
    pub fn patches<D: Keyspace>(&self, dataset: &mut D, db: u32, key: &[u8]) -> Option<Vec<Vec<u8>>> {
        let mut told = Some(Vec::new());
        dataset.strings(db, &[key], &mut |now| {
            let Some(now) = now else { return };
            let encode = |patch: Patch<'_>| {
                let mut bytes = Vec::new();
                patch.encode(&mut bytes);
                bytes
            };
            told = difference(&self.text, now).map(|patches| match patches.as_slice() {
                [] => vec![encode(Patch::bits_in(now, 0, 1))],
                _ => patches.into_iter().map(encode).collect(),
            });
        });
        told
    }

    /// Whether a TTL is gone with it.
    pub fn has_lost_ttl<D: Keyspace>(&self, dataset: &mut D, db: u32, key: &[u8]) -> bool {
        self.had_ttl && dataset.kind(db, key).is_some() && dataset.expire_at(db, key).is_none()
    }
}

/// The registers of a HyperLogLog; none of what is none.
pub fn registers<D: Keyspace>(dataset: &mut D, db: u32, key: &[u8]) -> HyperLogLog {
    dataset.string(db, key).as_deref().and_then(HyperLogLog::parse).unwrap_or_default()
}

/// The registers that the elements of `PFADD` raise.
#[must_use]
pub fn elements(args: &StageArgs<'_>) -> RegisterBytes {
    hyperloglog::registers_of(args.from(2))
}
