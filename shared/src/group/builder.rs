//! Encodes effects as they are captured.

use std::ops::Range;

use super::{code, streams};
use crate::effect::{Effect, FlushScope, Kind, Op, Path, TtlNote, Value};
use crate::merge::registers::raises;
use crate::metadata::Class;
use crate::number::Number;
use crate::shard::may_wait;
use crate::wire::writer;

/// The effects of a group in the making, encoded at once into one buffer that is reused: once warm, a write
/// allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct GroupBuilder {
    body: Vec<u8>,
    count: u32,
    db: u32,
    /// Where the last key is in `body`.
    key: Option<Range<usize>>,
    /// Whether an effect may not wait.
    urgent: bool,
    /// Whether an effect raises registers.
    raises: bool,
}

impl GroupBuilder {
    /// No effects.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an effect behind the others.
    ///
    /// # Panics
    /// When the value of an `Assign` is not of its path's type, an `Increment` names a path that holds no number, or a `Remove`
    /// a list element: the caller's mistake, which no outside data can cause.
    pub fn push(&mut self, effect: &Effect<'_>) {
        self.count += 1;
        self.urgent |= !may_wait(effect);
        self.raises |= raises(effect);
        match effect.op {
            Op::Flush { scope } => {
                self.body.push(code::FLUSH);
                let scope = match scope {
                    FlushScope::All => 0,
                    FlushScope::Db(db) => u64::from(db) + 1,
                };
                writer::varint(&mut self.body, scope);
            }
            Op::Reign => self.body.push(code::REIGN),
            Op::Join { instance } => self.body.extend_from_slice(&[code::JOIN, instance.get()]),
            Op::Forget { instance } => self.body.extend_from_slice(&[code::FORGET, instance.get()]),
            Op::Again { replid, ts, index } => {
                self.body.extend_from_slice(&[code::EXTENDED, code::AGAIN]);
                writer::replid(&mut self.body, &replid);
                writer::timestamp(&mut self.body, ts);
                writer::varint(&mut self.body, u64::from(index));
            }
            Op::Publish { sharded, channel, message } => {
                self.body.extend_from_slice(&[code::EXTENDED, code::PUBLISH, u8::from(sharded)]);
                writer::prefixed(&mut self.body, channel);
                writer::prefixed(&mut self.body, message);
            }
            _ => self.push_keyed(effect),
        }
    }

    fn push_keyed(&mut self, effect: &Effect<'_>) {
        if effect.db != self.db {
            self.db = effect.db;
            self.body.push(code::SELECT);
            writer::varint(&mut self.body, u64::from(effect.db));
        }
        match effect.op {
            ref op if streams::is_stream(op) => {
                self.head(code::STREAM, effect);
                streams::encode(&mut self.body, op);
            }
            Op::Set { value, expire_at } => {
                self.head(if expire_at.is_some() { code::SET_EXPIRE } else { code::SET }, effect);
                if let Some(at) = expire_at {
                    writer::signed(&mut self.body, at);
                }
                writer::prefixed(&mut self.body, value);
            }
            Op::Assign { path: Path::Field(field), value: Value::Expiring { bytes, at }, reasserted } => {
                self.head(code::ASSIGN_EXPIRING, effect);
                self.body.push(u8::from(reasserted));
                writer::prefixed(&mut self.body, field);
                writer::signed(&mut self.body, at);
                writer::prefixed(&mut self.body, bytes);
            }
            Op::ListInsert { run, first, values } => {
                self.list(code::LIST_INSERT, effect);
                run.encode_own(&mut self.body);
                writer::varint(&mut self.body, u64::from(first));
                values.encode(&mut self.body);
            }
            Op::ListRemove { ranges } => {
                self.list(code::LIST_REMOVE, effect);
                ranges.encode(&mut self.body);
            }
            Op::Assign { path: Path::Element(name), value: Value::Bytes(bytes), reasserted } => {
                self.list(if reasserted { code::LIST_REASSERT } else { code::LIST_ASSIGN }, effect);
                writer::prefixed(&mut self.body, name);
                writer::prefixed(&mut self.body, bytes);
            }
            Op::Assign { path, value, reasserted } => {
                let place = code::place(path.kind());
                self.head(if reasserted { code::REASSERT } else { code::ASSIGN + place }, effect);
                if reasserted {
                    self.body.push(place);
                }
                self.name(path);
                self.value(path, value);
            }
            Op::Remove { path } => {
                debug_assert!(path.kind() != Kind::List, "list elements are removed by ListRemove");
                self.head(code::REMOVE + code::place(path.kind()), effect);
                self.name(path);
            }
            Op::Increment { path, delta } => self.increment(effect, path, delta),
            Op::Patch { patch, prior } => {
                self.head(code::PATCH, effect);
                patch.encode(&mut self.body);
                if patch.class() == Class::Text {
                    prior.encode(&mut self.body);
                }
            }
            Op::Clear { reason } => {
                self.head(code::CLEAR, effect);
                self.body.push(reason as u8);
            }
            Op::Expire { at } => {
                self.head(code::EXPIRE, effect);
                writer::signed(&mut self.body, at);
            }
            Op::Persist => self.head(code::PERSIST, effect),
            Op::Flush { .. } | Op::Reign | Op::Join { .. } | Op::Forget { .. } => {}
            Op::Again { .. } | Op::Publish { .. } | Op::Stream(_) => {}
        }
    }

    fn list(&mut self, what: u8, effect: &Effect<'_>) {
        self.head(code::LIST, effect);
        self.body.push(what);
    }

    /// Tag, key and TTL note.
    fn head(&mut self, code: u8, effect: &Effect<'_>) {
        let same = self.key.clone().is_some_and(|key| self.body.get(key) == Some(effect.key));
        let note = match effect.ttl {
            TtlNote::None => 0,
            TtlNote::Created => code::CREATED,
            TtlNote::Kept(_) => code::KEPT,
        };
        self.body.push(code | note | if same { code::SAME_KEY } else { 0 });
        if !same {
            writer::prefixed(&mut self.body, effect.key);
            self.key = Some(self.body.len() - effect.key.len()..self.body.len());
        }
        if let TtlNote::Kept(at) = effect.ttl {
            writer::signed(&mut self.body, at);
        }
    }

    fn name(&mut self, path: Path<'_>) {
        if let Path::Field(name) | Path::Member(name) | Path::Scored(name) = path {
            writer::prefixed(&mut self.body, name);
        }
    }

    fn value(&mut self, path: Path<'_>, value: Value<'_>) {
        match (path, value) {
            (Path::String | Path::Field(_), Value::Bytes(bytes)) | (Path::Opaque, Value::Payload(bytes)) => {
                writer::prefixed(&mut self.body, bytes);
            }
            (Path::Member(_), Value::Present) => {}
            (Path::Scored(_), Value::Score(score)) => writer::f64(&mut self.body, score),
            _ => unreachable!("the value of an Assign is of its path's type"),
        }
    }

    fn increment(&mut self, effect: &Effect<'_>, path: Path<'_>, delta: Number) {
        let place = match path {
            Path::String => 0,
            Path::Field(_) => 1,
            Path::Scored(_) => 2,
            Path::Member(_) | Path::Opaque | Path::Stream(_) | Path::Element(_) => {
                unreachable!("an Increment names a path that holds a number")
            }
        };
        match delta {
            Number::Integer(delta) => {
                self.head(code::ADD_INTEGER + place, effect);
                self.name(path);
                writer::signed(&mut self.body, delta);
            }
            Number::Float(delta) => {
                self.head(code::ADD_FLOAT + place, effect);
                self.name(path);
                writer::f64(&mut self.body, delta);
            }
        }
    }

    /// Whether no effect was pushed since the last [`GroupBuilder::clear`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether the metadata may take all of it in later.
    #[must_use]
    pub fn may_wait(&self) -> bool {
        !self.urgent
    }

    /// Whether registers of HyperLogLogs are raised.
    #[must_use]
    pub fn raises(&self) -> bool {
        self.raises
    }

    /// How many effects there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the encoded effects. Stay below [`crate::wire::limits::FRAME_BYTES_MAX`], less 64 KiB for the header
    /// and context: receivers refuse larger frames.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.body.len()
    }

    /// The encoded effects.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Starts over; keeps the buffer, unless one huge group has made it huge.
    pub fn clear(&mut self) {
        /// Kept between groups.
        const KEPT_BYTES_MAX: usize = 1 << 20;
        self.body.clear();
        self.body.shrink_to(KEPT_BYTES_MAX);
        (self.count, self.db, self.key, self.urgent, self.raises) = (0, 0, None, false, false);
    }
}
