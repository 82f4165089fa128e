//! Remote effects whose author had seen everything that is here: they only go into the dataset. Their metadata can wait
//! (`shard/tail.rs`).

use super::{KeyRef, registers};
use crate::effect::{Effect, Kind, Op, Path, TtlNote};
use crate::keyspace::{Keyspace, SetTtl};
use crate::number::Number;
use crate::patch::Patch;

/// Writes the effect to the dataset. False, and nothing is done, when the metadata of the key must be looked at: what the
/// author had before it is not what the dataset shows.
pub fn write<K: Keyspace>(effect: &Effect<'_>, keyspace: &mut K) -> bool {
    let (db, key) = (effect.db, effect.key);
    match effect.op {
        Op::Set { value, expire_at } => {
            keyspace.set_string(db, key, value, expire_at.map_or(SetTtl::Clear, SetTtl::At));
        }
        Op::Assign { path, value, reasserted: false } if is_as_before(effect, path, keyspace) => {
            keyspace.put(db, key, path, value);
        }
        // Without a note on the TTL, whether the type is another one is told by the attempt.
        Op::Increment { path, delta: Number::Integer(delta) }
            if effect.ttl == TtlNote::None || is_as_before(effect, path, keyspace) =>
        {
            return match path {
                Path::String => keyspace.add_integer(db, key, delta).is_ok(),
                Path::Field(field) => keyspace.add_integer_field(db, key, field, delta).is_ok(),
                _ => false,
            };
        }
        Op::Patch { patch: Patch::Registers(registers), .. } => {
            let exists = effect.ttl != TtlNote::Created;
            // Without a note on the TTL it must be there all the same: what is not there has no base.
            let is_there = exists == keyspace.kind(db, key).is_some();
            let key = KeyRef { db, name: key };
            return is_there
                && is_as_before(effect, Path::String, keyspace)
                && registers::raise(keyspace, key, registers, exists);
        }
        Op::Remove { path } if is_as_before(effect, path, keyspace) => keyspace.take(db, key, path),
        Op::Clear { reason } => keyspace.delete(db, key, reason),
        Op::Expire { at } => keyspace.set_expire_at(db, key, Some(at)),
        Op::Persist => keyspace.set_expire_at(db, key, None),
        Op::Publish { sharded, channel, message } => keyspace.publish(sharded, channel, message),
        _ => return false,
    }
    true
}

/// Whether the dataset has the key as the author says: of that type or not at all, with the TTL that it has noted.
fn is_as_before<K: Keyspace>(effect: &Effect<'_>, path: Path<'_>, keyspace: &mut K) -> bool {
    let kind = match path {
        Path::String | Path::Field(_) | Path::Member(_) | Path::Scored(_) => path.kind(),
        _ => return false,
    };
    let native: Option<Kind> = keyspace.kind(effect.db, effect.key);
    match effect.ttl {
        TtlNote::None => native.is_none_or(|native| native == kind),
        TtlNote::Created => native.is_none(),
        TtlNote::Kept(at) => native == Some(kind) && keyspace.expire_at(effect.db, effect.key) == Some(at),
    }
}
