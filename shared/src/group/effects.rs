//! Decodes the effects of a body.

use super::{code, streams};
use crate::effect::{ClearReason, Effect, FUNCTIONS_DB, FlushScope, Kind, Op, Path, TtlNote, Value};
use crate::list::{Ranges, RunName, RunRef, Values, position};
use crate::metadata::Class;
use crate::number::Number;
use crate::patch::{Patch, Prior};
use crate::shard::may_wait;
use crate::wire::{Reader, WireError, limits};

/// Checks a body from elsewhere; returns how many effects it has.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(body: &[u8]) -> Result<u32, WireError> {
    survey(body).map(|survey| survey.effects)
}

/// What there is to know of a body as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// How many effects.
    pub effects: u32,
    /// The highest database that they touch; libraries of functions are in none.
    pub db_max: u32,
    /// Whether one of them lets an instance join.
    pub joins: bool,
    /// Whether one of them needs the metadata, whatever its author had seen.
    pub urgent: bool,
}

/// Checks a body from elsewhere and looks at all of it.
pub(super) fn survey(body: &[u8]) -> Result<Survey, WireError> {
    let mut effects = effects(body);
    let mut survey = Survey::default();
    while let Some(effect) = effects.next_checked()? {
        survey.effects += 1;
        survey.joins |= matches!(effect.op, Op::Join { .. });
        survey.urgent |= !may_wait(&effect);
        let db = match effect.op {
            Op::Flush { scope: FlushScope::Db(db) } => db,
            _ => effect.db,
        };
        if db > survey.db_max && db != FUNCTIONS_DB {
            survey.db_max = db;
        }
    }
    Ok(survey)
}

/// The effects of a body that [`check`] has accepted, or that a builder made. Ends early on any other.
#[must_use]
pub fn effects(body: &[u8]) -> Effects<'_> {
    Effects { reader: Reader::new(body), db: 0, key: None }
}

/// Iterator over the effects of a body; allocates nothing.
#[derive(Clone, Debug)]
pub struct Effects<'a> {
    reader: Reader<'a>,
    db: u32,
    key: Option<&'a [u8]>,
}

impl<'a> Iterator for Effects<'a> {
    type Item = Effect<'a>;

    fn next(&mut self) -> Option<Effect<'a>> {
        self.next_checked().ok().flatten()
    }
}

impl<'a> Effects<'a> {
    /// The next effect, or none at the end.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn next_checked(&mut self) -> Result<Option<Effect<'a>>, WireError> {
        let selected = self.db;
        while !self.reader.is_empty() {
            let tag = self.reader.u8("effect tag")?;
            if tag != code::SELECT {
                return self.effect(tag).map(Some);
            }
            self.db = self.reader.limited(u64::from(limits::DB_MAX), "database")? as u32;
            // One way to say it: a SELECT changes the database, and an effect with a key follows.
            let idle = |tag: &u8| {
                matches!(*tag, code::SELECT | code::FLUSH | code::REIGN | code::JOIN | code::FORGET | code::EXTENDED)
            };
            if self.db == selected || self.reader.rest().first().is_none_or(idle) {
                return Err(WireError::Invalid { what: "SELECT" });
            }
        }
        Ok(None)
    }

    fn effect(&mut self, tag: u8) -> Result<Effect<'a>, WireError> {
        let keyless = |op| Effect { db: 0, key: &[], ttl: TtlNote::None, op };
        let reader = &mut self.reader;
        match tag {
            code::FLUSH => {
                let scope = reader.limited(u64::from(limits::DB_MAX) + 1, "flush scope")?;
                let scope = scope.checked_sub(1).map_or(FlushScope::All, |db| FlushScope::Db(db as u32));
                Ok(keyless(Op::Flush { scope }))
            }
            code::REIGN => Ok(keyless(Op::Reign)),
            code::JOIN => Ok(keyless(Op::Join { instance: reader.instance("joining instance")? })),
            code::FORGET => Ok(keyless(Op::Forget { instance: reader.instance("forgotten instance")? })),
            code::EXTENDED => match reader.u8("second code of an effect")? {
                code::PUBLISH => {
                    let sharded = match reader.u8("SPUBLISH")? {
                        0 => false,
                        1 => true,
                        code => return Err(WireError::Code { what: "SPUBLISH", code }),
                    };
                    let channel = reader.prefixed(limits::NAME_BYTES_MAX, "channel")?;
                    let message = reader.prefixed(limits::VALUE_BYTES_MAX, "message")?;
                    Ok(keyless(Op::Publish { sharded, channel, message }))
                }
                code::AGAIN => {
                    let (replid, ts) = (reader.replid("reign of a write")?, reader.timestamp("timestamp of a write")?);
                    let index = reader.limited(u64::from(u32::MAX), "index of a write")? as u32;
                    Ok(keyless(Op::Again { replid, ts, index }))
                }
                code => Err(WireError::Code { what: "second code of an effect", code }),
            },
            _ => self.keyed(tag),
        }
    }

    fn keyed(&mut self, tag: u8) -> Result<Effect<'a>, WireError> {
        let key = self.key(tag)?;
        let ttl = match tag & (code::CREATED | code::KEPT) {
            0 => TtlNote::None,
            code::CREATED => TtlNote::Created,
            code::KEPT => TtlNote::Kept(self.reader.signed("kept TTL")?),
            _ => return Err(WireError::Invalid { what: "TTL note" }),
        };
        let op = self.op(tag & code::MASK)?;
        Ok(Effect { db: self.db, key, ttl, op })
    }

    fn key(&mut self, tag: u8) -> Result<&'a [u8], WireError> {
        let same = tag & code::SAME_KEY != 0;
        let key = match self.key {
            Some(key) if same => key,
            None if same => return Err(WireError::Invalid { what: "key of the first effect" }),
            _ => self.reader.prefixed(limits::NAME_BYTES_MAX, "key")?,
        };
        if !same && self.key == Some(key) {
            return Err(WireError::Invalid { what: "repeated key" });
        }
        self.key = Some(key);
        Ok(key)
    }

    fn op(&mut self, code: u8) -> Result<Op<'a>, WireError> {
        let unknown = WireError::Code { what: "effect", code };
        match code {
            code::SET => Ok(Op::Set { expire_at: None, value: self.bytes("string")? }),
            code::SET_EXPIRE => {
                let expire_at = Some(self.reader.signed("expiry")?);
                Ok(Op::Set { expire_at, value: self.bytes("string")? })
            }
            code::ASSIGN..code::REMOVE => self.assign(code::kind(code - code::ASSIGN).ok_or(unknown)?, false),
            code::REASSERT => {
                let place = self.reader.u8("kind")?;
                self.assign(code::kind(place).ok_or(WireError::Code { what: "kind", code: place })?, true)
            }
            code::ASSIGN_EXPIRING => {
                let reasserted = match self.reader.u8("re-asserted")? {
                    0 => false,
                    1 => true,
                    code => return Err(WireError::Code { what: "re-asserted", code }),
                };
                let path = self.path(Kind::Hash)?;
                let at = self.reader.signed("expiry of a field")?;
                Ok(Op::Assign { path, value: Value::Expiring { bytes: self.bytes("value")?, at }, reasserted })
            }
            code::REMOVE..code::ADD_INTEGER => {
                Ok(Op::Remove { path: self.path(code::kind(code - code::REMOVE).ok_or(unknown)?)? })
            }
            code::ADD_INTEGER..code::ADD_FLOAT => {
                let path = self.number_path(code - code::ADD_INTEGER)?;
                Ok(Op::Increment { path, delta: Number::Integer(self.reader.signed("increment")?) })
            }
            code::ADD_FLOAT..code::CLEAR => {
                let path = self.number_path(code - code::ADD_FLOAT)?;
                Ok(Op::Increment { path, delta: Number::Float(self.reader.f64("increment")?) })
            }
            code::LIST => self.list(),
            code::PATCH => {
                let patch = Patch::decode(&mut self.reader)?;
                let has_prior = patch.class() == Class::Text;
                let prior = if has_prior { Prior::decode(&mut self.reader)? } else { Prior::NONE };
                Ok(Op::Patch { patch, prior })
            }
            code::CLEAR => Ok(Op::Clear { reason: self.reason()? }),
            code::EXPIRE => Ok(Op::Expire { at: self.reader.signed("expiry")? }),
            code::PERSIST => Ok(Op::Persist),
            code::STREAM => streams::decode(&mut self.reader),
            _ => Err(unknown),
        }
    }

    fn assign(&mut self, kind: Kind, reasserted: bool) -> Result<Op<'a>, WireError> {
        let path = self.path(kind)?;
        let value = match kind {
            Kind::String | Kind::Hash => Value::Bytes(self.bytes("value")?),
            Kind::Set => Value::Present,
            Kind::SortedSet => Value::Score(self.reader.f64("score")?),
            Kind::Opaque => Value::Payload(self.bytes("payload")?),
            Kind::Stream => return Err(WireError::Code { what: "kind", code: kind as u8 }),
            Kind::List => Value::Bytes(self.bytes("list element")?),
        };
        Ok(Op::Assign { path, value, reasserted })
    }

    fn list(&mut self) -> Result<Op<'a>, WireError> {
        match self.reader.u8("list effect")? {
            code::LIST_INSERT => {
                let run = RunRef::decode_own(&mut self.reader)?;
                let first = self.reader.limited(u64::from(u32::MAX), "place of a list element")? as u32;
                let values = Values::decode(&mut self.reader)?;
                match first.checked_add(values.len()) {
                    Some(_) => Ok(Op::ListInsert { run, first, values }),
                    None => Err(WireError::Invalid { what: "place of a list element" }),
                }
            }
            code::LIST_REMOVE => Ok(Op::ListRemove { ranges: Ranges::decode(&mut self.reader)? }),
            code @ (code::LIST_ASSIGN | code::LIST_REASSERT) => self.assign(Kind::List, code == code::LIST_REASSERT),
            code => Err(WireError::Code { what: "list effect", code }),
        }
    }

    fn element(&mut self) -> Result<Path<'a>, WireError> {
        let name = self.reader.prefixed(position::NAME_BYTES_MAX, "position")?;
        RunName::split(name).map(|_| Path::Element(name))
    }

    fn path(&mut self, kind: Kind) -> Result<Path<'a>, WireError> {
        Ok(match kind {
            Kind::String => Path::String,
            Kind::Hash => Path::Field(self.reader.prefixed(limits::NAME_BYTES_MAX, "field")?),
            Kind::Set => Path::Member(self.reader.prefixed(limits::NAME_BYTES_MAX, "member")?),
            Kind::SortedSet => Path::Scored(self.reader.prefixed(limits::NAME_BYTES_MAX, "member")?),
            Kind::Opaque => Path::Opaque,
            Kind::Stream => return Err(WireError::Code { what: "kind", code: kind as u8 }),
            Kind::List => self.element()?,
        })
    }

    fn number_path(&mut self, place: u8) -> Result<Path<'a>, WireError> {
        self.path(match place {
            0 => Kind::String,
            1 => Kind::Hash,
            _ => Kind::SortedSet,
        })
    }

    fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], WireError> {
        self.reader.prefixed(limits::VALUE_BYTES_MAX, what)
    }

    fn reason(&mut self) -> Result<ClearReason, WireError> {
        match self.reader.u8("clear reason")? {
            0 => Ok(ClearReason::Deleted),
            1 => Ok(ClearReason::Expired),
            2 => Ok(ClearReason::Evicted),
            code => Err(WireError::Code { what: "clear reason", code }),
        }
    }
}
