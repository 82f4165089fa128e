//! One key of a snapshot: its elements, their dots, its TTL.

use super::head::{read_dot, write_dot};
use crate::effect::{Kind, Path, UnixMs, Value};
use crate::list::{RunName, position};
use crate::merge::KeyRef;
use crate::metadata::{
    Assigned, Base, Incremented, Increments, KeyMeta, KindMeta, PathMeta, Paths, Payload, TtlDot, TtlMeta, path_of,
};
use crate::number::Number;
use crate::patch::Patch;
use crate::stream::{Part, StreamId, check_fields};
use crate::wire::{Reader, WireError, limits, writer};

/// A key by name, and all that is known of it, complete and explicit.
#[derive(Clone, Debug)]
pub struct SnapshotKey<'a> {
    /// Logical database.
    pub db: u32,
    /// Its name.
    pub name: &'a [u8],
    /// Elements without metadata have a base.
    pub state: KeyMeta,
}

const ABSENT: u8 = 0;
const BYTES: u8 = 1;
const SCORE: u8 = 2;
const PRESENT: u8 = 3;
const EXPIRING: u8 = 4;
const UNKNOWN: u8 = 5;
const ID: u8 = 6;
const OWNER: u8 = 7;
const ACKED: u8 = 8;
const LATE: u8 = 9;

const INTEGER: u8 = 0;
const FLOAT: u8 = 1;

/// Of the first byte of a path: it has a base; it has patches.
const HAS_BASE: u8 = 1;
const HAS_PATCHES: u8 = 2;

/// Appends the encoding of a key.
pub fn encode(out: &mut Vec<u8>, db: u32, name: &[u8], state: &KeyMeta) {
    writer::varint(out, u64::from(db));
    writer::prefixed(out, name);
    // What is added to the state of a key must be added here, too.
    let KeyMeta { kinds, ttl } = state;
    writer::varint(out, kinds.len() as u64);
    for KindMeta { kind, paths } in kinds {
        let lives = |(_, path): &(&[u8], &PathMeta)| !path.is_empty();
        out.push(*kind as u8);
        if *kind == Kind::List {
            encode_list(out, paths);
            continue;
        }
        writer::varint(out, paths.iter().filter(lives).count() as u64);
        for (element, path) in paths.iter().filter(lives) {
            writer::prefixed(out, element);
            encode_path(out, path);
        }
    }
    encode_ttl(out, ttl);
}

/// The elements of a list in order: of each name, how much it shares with the one before, and the rest.
fn encode_list(out: &mut Vec<u8>, paths: &Paths) {
    writer::varint(out, paths.len() as u64);
    let mut last: Vec<u8> = Vec::new();
    let mut element = |name: &[u8], path: &PathMeta| {
        let shared = last.iter().zip(name).take_while(|(a, b)| a == b).count();
        writer::varint(out, shared as u64);
        writer::prefixed(out, name.get(shared..).unwrap_or_default());
        encode_path(out, path);
        last.clear();
        last.extend_from_slice(name);
    };
    if let Paths::List(list) = paths {
        list.names().zip(0..).for_each(|(name, index)| element(&name, &list.meta(index)));
        return;
    }
    let mut ordered: Vec<(&[u8], &PathMeta)> = paths.iter().collect();
    ordered.sort_unstable_by_key(|(name, _)| *name);
    ordered.into_iter().for_each(|(name, path)| element(name, path));
}

fn decode_list(reader: &mut Reader<'_>, state: &mut KeyMeta) -> Result<(), WireError> {
    if state.kind(Kind::List).is_some() {
        return Err(WireError::Invalid { what: "list given twice" });
    }
    let mut last: Vec<u8> = Vec::new();
    for _ in 0..reader.varint("elements")? {
        let shared = reader.limited(last.len() as u64, "position")? as usize;
        let mut name = last.get(..shared).unwrap_or_default().to_vec();
        name.extend_from_slice(reader.prefixed(position::NAME_BYTES_MAX, "position")?);
        if name <= last {
            return Err(WireError::Invalid { what: "order of list elements" });
        }
        RunName::split(&name)?;
        let known = decode_path(reader, Path::Element(&name))?;
        *state.kind_or_insert(Kind::List).paths.get_or_insert(Path::Element(&name)) = known;
        last = name;
    }
    Ok(())
}

fn encode_path(out: &mut Vec<u8>, path: &PathMeta) {
    let PathMeta { assigns, sum } = path;
    let patches = if path.patches().is_some() { HAS_PATCHES } else { 0 };
    match sum.as_ref().map(|sum| &sum.base) {
        Some(Base::Stable(payload)) => {
            out.push(HAS_BASE | patches);
            encode_payload(out, payload.as_ref());
        }
        Some(Base::None) | None => out.push(patches),
    }
    writer::varint(out, assigns.len() as u64);
    for Assigned { dot, reasserted, payload } in assigns {
        write_dot(out, dot);
        writer::flag(out, *reasserted);
        encode_payload(out, payload.as_ref());
    }
    writer::varint(out, path.increments().len() as u64);
    for Incremented { dot, delta } in path.increments() {
        write_dot(out, dot);
        match *delta {
            Number::Integer(delta) => {
                out.push(INTEGER);
                writer::signed(out, delta);
            }
            Number::Float(delta) => {
                out.push(FLOAT);
                writer::f64(out, delta);
            }
        }
    }
    if let Some(patches) = path.patches() {
        writer::varint(out, patches.len);
        writer::varint(out, patches.count() as u64);
        for (dot, part) in patches.parts() {
            write_dot(out, &dot);
            part.patch().encode(out);
        }
    }
}

fn encode_payload(out: &mut Vec<u8>, payload: Option<&Payload>) {
    match payload {
        None => out.push(ABSENT),
        Some(Payload::Bytes(bytes)) => {
            out.push(BYTES);
            writer::prefixed(out, bytes);
        }
        Some(Payload::Unknown(bytes)) => {
            out.push(UNKNOWN);
            writer::prefixed(out, bytes);
        }
        Some(Payload::Expiring(expiring)) => {
            out.push(EXPIRING);
            writer::signed(out, expiring.at);
            writer::prefixed(out, &expiring.bytes);
        }
        Some(Payload::Score(score)) => {
            out.push(SCORE);
            writer::f64(out, *score);
        }
        Some(Payload::Present) => out.push(PRESENT),
        Some(Payload::Id(id)) => {
            out.push(ID);
            out.extend_from_slice(&id.to_bytes());
        }
        Some(Payload::Owner(consumer)) => {
            out.push(OWNER);
            writer::prefixed(out, consumer);
        }
        Some(Payload::Acked) => out.push(ACKED),
        Some(Payload::Late) => out.push(LATE),
    }
}

/// Appends an element without dots: what [`encode_path`] appends of [`PathMeta::stable`].
pub(super) fn encode_stable(out: &mut Vec<u8>, value: Value<'_>) {
    out.push(HAS_BASE);
    encode_value(out, value);
    // Neither assigns nor increments.
    out.extend_from_slice(&[0, 0]);
}

/// Appends an element that the dataset shows, and of which one `Assign` is known: what [`encode_path`] appends of it when its value is explicit.
/// False: there is more to say.
pub(super) fn encode_assigned(out: &mut Vec<u8>, path: &PathMeta, shown: Value<'_>) -> bool {
    let ([Assigned { dot, reasserted, payload }], None) = (&*path.assigns, &path.sum) else { return false };
    // Neither base nor patches, and one assign.
    out.extend_from_slice(&[0, 1]);
    write_dot(out, dot);
    writer::flag(out, *reasserted);
    match payload {
        None => encode_value(out, shown),
        payload => encode_payload(out, payload.as_ref()),
    }
    // No increments.
    out.push(0);
    true
}

/// What [`encode_payload`] appends.
fn encode_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Bytes(bytes) | Value::Payload(bytes) => {
            out.push(BYTES);
            writer::prefixed(out, bytes);
        }
        Value::Expiring { bytes, at } => {
            out.push(EXPIRING);
            writer::signed(out, at);
            writer::prefixed(out, bytes);
        }
        Value::Score(score) => {
            out.push(SCORE);
            writer::f64(out, score);
        }
        Value::Present => out.push(PRESENT),
        value => encode_payload(out, Some(&Payload::from_value(value))),
    }
}

/// Appends a TTL without dots.
pub(super) fn encode_stable_ttl(out: &mut Vec<u8>, at: Option<UnixMs>) {
    encode_time(out, at);
    out.push(0);
}

pub(super) fn encode_ttl(out: &mut Vec<u8>, ttl: &TtlMeta) {
    let TtlMeta { base, dots } = ttl;
    encode_time(out, *base);
    writer::varint(out, dots.len() as u64);
    for TtlDot { dot, at, strong } in dots {
        write_dot(out, dot);
        writer::flag(out, *strong);
        encode_time(out, *at);
    }
}

pub(crate) fn encode_time(out: &mut Vec<u8>, at: Option<UnixMs>) {
    writer::flag(out, at.is_some());
    if let Some(at) = at {
        writer::signed(out, at);
    }
}

/// Which key is at the front.
///
/// # Errors
/// See [`WireError`].
pub fn peek<'a>(reader: &Reader<'a>) -> Result<KeyRef<'a>, WireError> {
    read_name(&mut Reader::new(reader.rest()))
}

fn read_name<'a>(reader: &mut Reader<'a>) -> Result<KeyRef<'a>, WireError> {
    let db = reader.limited(u64::from(limits::DB_MAX), "database")? as u32;
    Ok(KeyRef { db, name: reader.prefixed(limits::NAME_BYTES_MAX, "key name")? })
}

impl<'a> SnapshotKey<'a> {
    /// Reads one key off the front.
    ///
    /// # Errors
    /// See [`WireError`].
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let KeyRef { db, name } = read_name(reader)?;
        let mut state = KeyMeta::default();
        for _ in 0..reader.varint("types of a key")? {
            let code = reader.u8("type of a key")?;
            let kind = Kind::from_code(code).ok_or(WireError::Code { what: "type of a key", code })?;
            if kind == Kind::List {
                decode_list(reader, &mut state)?;
                continue;
            }
            let count = reader.varint("elements")?;
            if count > 0 {
                state.kind_or_insert(kind).paths.expect(count);
            }
            for _ in 0..count {
                let path = path_of(kind, reader.prefixed(limits::NAME_BYTES_MAX, "element")?);
                if matches!(path, Path::Stream(name) if Part::parse(name).is_none()) {
                    return Err(WireError::Invalid { what: "part of a stream" });
                }
                let known = decode_path(reader, path)?;
                let place = state.kind_or_insert(kind).paths.get_or_insert(path);
                if !place.is_empty() {
                    return Err(WireError::Invalid { what: "element given twice" });
                }
                *place = known;
            }
        }
        state.ttl = decode_ttl(reader)?;
        Ok(Self { db, name, state })
    }
}

/// Reads a key off the front and builds nothing. Whether it is what [`super::rest::encode`] writes; `None`: it takes more to read it.
pub(super) fn pass_over(reader: &mut Reader<'_>) -> Result<Option<bool>, WireError> {
    read_name(reader)?;
    let types = reader.varint("types of a key")?;
    let mut is_at_rest = types == 1;
    for _ in 0..types {
        if reader.u8("type of a key")? == Kind::List as u8 {
            return Ok(None);
        }
        for _ in 0..reader.varint("elements")? {
            reader.prefixed(limits::NAME_BYTES_MAX, "element")?;
            let flags = reader.u8("parts of an element")?;
            if flags & !HAS_BASE != 0 {
                return Ok(None);
            }
            is_at_rest &= flags == HAS_BASE && pass_over_payload(reader)?;
            for _ in 0..reader.varint("assigns")? {
                is_at_rest = false;
                read_dot(reader)?;
                reader.flag("re-asserted")?;
                pass_over_payload(reader)?;
            }
            if reader.varint("increments")? != 0 {
                return Ok(None);
            }
        }
    }
    decode_time(reader)?;
    for _ in 0..reader.varint("TTLs")? {
        is_at_rest = false;
        read_dot(reader)?;
        reader.flag("strong")?;
        decode_time(reader)?;
    }
    Ok(Some(is_at_rest))
}

/// Whether it is one that a dataset shows.
fn pass_over_payload(reader: &mut Reader<'_>) -> Result<bool, WireError> {
    match reader.u8("value")? {
        ABSENT => return Ok(false),
        BYTES => {
            reader.prefixed(limits::VALUE_BYTES_MAX, "value")?;
        }
        EXPIRING => {
            reader.signed("expiry of a field")?;
            reader.prefixed(limits::VALUE_BYTES_MAX, "value")?;
        }
        SCORE => {
            reader.f64("score")?;
        }
        PRESENT => {}
        code => return Err(WireError::Code { what: "value", code }),
    }
    Ok(true)
}

fn decode_path(reader: &mut Reader<'_>, path: Path<'_>) -> Result<PathMeta, WireError> {
    let flags = reader.u8("parts of an element")?;
    let is_known = flags & !(HAS_BASE | HAS_PATCHES) == 0 && (flags & HAS_PATCHES == 0 || path == Path::String);
    if !is_known {
        return Err(WireError::Code { what: "parts of an element", code: flags });
    }
    let has_base = flags & HAS_BASE != 0;
    let mut known = if has_base { PathMeta::stable(decode_payload(reader, path)?) } else { PathMeta::default() };
    for _ in 0..reader.varint("assigns")? {
        let (dot, reasserted) = (read_dot(reader)?, reader.flag("re-asserted")?);
        known.assigns.push(Assigned { dot, reasserted, payload: decode_payload(reader, path)? });
    }
    let mut increments = Increments::default();
    for _ in 0..reader.varint("increments")? {
        let dot = read_dot(reader)?;
        let delta = match reader.u8("number")? {
            INTEGER => Number::Integer(reader.signed("integer")?),
            FLOAT => Number::Float(reader.f64("float")?),
            code => return Err(WireError::Code { what: "number", code }),
        };
        increments.push(Incremented { dot, delta });
    }
    known.take_increments(increments);
    if flags & HAS_PATCHES != 0 {
        let patches = known.patches_mut();
        patches.len = reader.limited(limits::VALUE_BYTES_MAX as u64, "length below patches")?;
        for _ in 0..reader.varint("patches")? {
            patches.push(read_dot(reader)?, Patch::decode(reader)?);
        }
        if patches.is_empty() {
            return Err(WireError::Invalid { what: "patches" });
        }
    }
    if known.is_empty() { Err(WireError::Invalid { what: "element without anything" }) } else { Ok(known) }
}

fn decode_payload(reader: &mut Reader<'_>, path: Path<'_>) -> Result<Option<Payload>, WireError> {
    let payload = match reader.u8("value")? {
        ABSENT => return Ok(None),
        BYTES => Payload::Bytes(reader.prefixed(limits::VALUE_BYTES_MAX, "value")?.into()),
        UNKNOWN => Payload::Unknown(reader.prefixed(limits::VALUE_BYTES_MAX, "value")?.into()),
        EXPIRING => {
            let at = reader.signed("expiry of a field")?;
            Payload::text_until(reader.prefixed(limits::VALUE_BYTES_MAX, "value")?.into(), Some(at))
        }
        SCORE => Payload::Score(reader.f64("score")?),
        PRESENT => Payload::Present,
        ID => Payload::Id(StreamId::from_bytes(reader.array("id")?)),
        OWNER => Payload::Owner(reader.prefixed(limits::NAME_BYTES_MAX, "consumer")?.into()),
        ACKED => Payload::Acked,
        LATE => Payload::Late,
        code => return Err(WireError::Code { what: "value", code }),
    };
    let fits = matches!(
        (path, &payload),
        (Path::String | Path::Field(_) | Path::Opaque | Path::Element(_), Payload::Bytes(_))
            | (Path::Opaque, Payload::Unknown(_))
            | (Path::Field(_), Payload::Expiring(_))
            | (Path::Scored(_), Payload::Score(_))
            | (Path::Member(_), Payload::Present)
    ) || matches!(path, Path::Stream(name) if fits_part(name, &payload));
    if fits { Ok(Some(payload)) } else { Err(WireError::Invalid { what: "value of another type" }) }
}

/// Whether a value is one that a part of a stream may have.
fn fits_part(name: &[u8], payload: &Payload) -> bool {
    match (Part::parse(name), payload) {
        (Some(Part::Entry(_)), Payload::Bytes(fields)) => check_fields(fields).is_ok(),
        (Some(Part::Last | Part::Group(_)), Payload::Id(_))
        | (Some(Part::Consumer { .. }), Payload::Present)
        | (Some(Part::Delivery { .. }), Payload::Owner(_) | Payload::Acked | Payload::Late) => true,
        _ => false,
    }
}

fn decode_ttl(reader: &mut Reader<'_>) -> Result<TtlMeta, WireError> {
    let mut ttl = TtlMeta { base: decode_time(reader)?, ..TtlMeta::default() };
    for _ in 0..reader.varint("TTLs")? {
        let (dot, strong) = (read_dot(reader)?, reader.flag("strong")?);
        ttl.dots.push(TtlDot { dot, at: decode_time(reader)?, strong });
    }
    Ok(ttl)
}

pub(crate) fn decode_time(reader: &mut Reader<'_>) -> Result<Option<UnixMs>, WireError> {
    if reader.flag("TTL")? { reader.signed("TTL").map(Some) } else { Ok(None) }
}
