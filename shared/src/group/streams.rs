//! Effects on streams: code 30, then a code of their own (docs/PROTOCOL.md 4).

use crate::effect::{Op, Path, StreamOp, Value};
use crate::stream::{Ids, Part, StreamId, check_fields};
use crate::wire::{Reader, WireError, limits, writer};

const ASSIGN: u8 = 1;
const REASSERT: u8 = 2;
const REMOVE: u8 = 3;
const TRIM: u8 = 4;
const UNGROUP: u8 = 5;
const DELIVER: u8 = 6;

const ACKED: u8 = 0;
const LATE: u8 = 1;
const OWNER: u8 = 2;

/// Whether an effect is encoded here.
#[must_use]
pub fn is_stream(op: &Op<'_>) -> bool {
    matches!(
        op,
        Op::Stream(_)
            | Op::Assign { path: Path::Stream(_), .. }
            | Op::Remove { path: Path::Stream(_) }
            | Op::Increment { path: Path::Stream(_), .. }
    )
}

/// Appends what follows the key of an effect on a stream.
///
/// # Panics
/// See [`super::GroupBuilder::push`].
pub fn encode(out: &mut Vec<u8>, op: &Op<'_>) {
    match *op {
        Op::Assign { path: Path::Stream(name), value, reasserted } => {
            out.push(if reasserted { REASSERT } else { ASSIGN });
            writer::prefixed(out, name);
            encode_value(out, value);
        }
        Op::Remove { path: Path::Stream(name) } => {
            out.push(REMOVE);
            writer::prefixed(out, name);
        }
        Op::Stream(StreamOp::Trim { below }) => {
            out.push(TRIM);
            out.extend_from_slice(&below.to_bytes());
        }
        Op::Stream(StreamOp::Ungroup { group }) => {
            out.push(UNGROUP);
            writer::prefixed(out, group);
        }
        Op::Stream(StreamOp::Deliver { group, consumer, position, ids }) => {
            out.push(DELIVER);
            writer::prefixed(out, group);
            out.push(u8::from(consumer.is_some()));
            consumer.into_iter().for_each(|consumer| writer::prefixed(out, consumer));
            out.extend_from_slice(&position.to_bytes());
            writer::prefixed(out, ids.bytes());
        }
        _ => unreachable!("only effects on streams come here, and none of them is an Increment"),
    }
}

fn encode_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Bytes(fields) => writer::prefixed(out, fields),
        Value::Id(id) => out.extend_from_slice(&id.to_bytes()),
        Value::Present => {}
        Value::Acked => out.push(ACKED),
        Value::Late => out.push(LATE),
        Value::Owner(consumer) => {
            out.push(OWNER);
            writer::prefixed(out, consumer);
        }
        Value::Expiring { .. } | Value::Score(_) | Value::Payload(_) => {
            unreachable!("the value of an Assign is of its path's type")
        }
    }
}

/// Reads what follows the key.
///
/// # Errors
/// What is wrong with it.
pub fn decode<'a>(reader: &mut Reader<'a>) -> Result<Op<'a>, WireError> {
    let code = reader.u8("effect on a stream")?;
    Ok(match code {
        ASSIGN | REASSERT => {
            let (name, part) = part(reader)?;
            let value = decode_value(reader, part)?;
            Op::Assign { path: Path::Stream(name), value, reasserted: code == REASSERT }
        }
        REMOVE => Op::Remove { path: Path::Stream(part(reader)?.0) },
        TRIM => Op::Stream(StreamOp::Trim { below: id(reader)? }),
        UNGROUP => Op::Stream(StreamOp::Ungroup { group: name(reader, "group")? }),
        DELIVER => {
            let group = name(reader, "group")?;
            let consumer = match reader.u8("consumer")? {
                0 => None,
                1 => Some(name(reader, "consumer")?),
                code => return Err(WireError::Code { what: "consumer", code }),
            };
            let position = id(reader)?;
            let ids = Ids::new(reader.prefixed(limits::VALUE_BYTES_MAX, "ids")?)?;
            Op::Stream(StreamOp::Deliver { group, consumer, position, ids })
        }
        _ => return Err(WireError::Code { what: "effect on a stream", code }),
    })
}

fn name<'a>(reader: &mut Reader<'a>, what: &'static str) -> Result<&'a [u8], WireError> {
    reader.prefixed(limits::NAME_BYTES_MAX, what)
}

fn id(reader: &mut Reader<'_>) -> Result<StreamId, WireError> {
    reader.array("id").map(StreamId::from_bytes)
}

fn part<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], Part<'a>), WireError> {
    let name = name(reader, "part of a stream")?;
    let part = Part::parse(name).ok_or(WireError::Invalid { what: "part of a stream" })?;
    Ok((name, part))
}

fn decode_value<'a>(reader: &mut Reader<'a>, part: Part<'a>) -> Result<Value<'a>, WireError> {
    Ok(match part {
        Part::Entry(_) => {
            let fields = reader.prefixed(limits::VALUE_BYTES_MAX, "fields of an entry")?;
            check_fields(fields)?;
            Value::Bytes(fields)
        }
        Part::Last | Part::Group(_) => Value::Id(id(reader)?),
        Part::Consumer { .. } => Value::Present,
        Part::Delivery { .. } => match reader.u8("delivery")? {
            ACKED => Value::Acked,
            LATE => Value::Late,
            OWNER => Value::Owner(name(reader, "consumer")?),
            code => return Err(WireError::Code { what: "delivery", code }),
        },
    })
}
