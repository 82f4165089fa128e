//! Keys at rest: no dot is known of them, so the dataset has all there is. Most keys of a snapshot are, and most of those are the same where
//! it is merged. So they are encoded straight from the dataset, and recognised by their bytes. The same way are encoded those of which nothing is known
//! but who has written their elements.

use super::key;
use crate::effect::{Kind, Path, UnixMs, Value};
use crate::keyspace::Keyspace;
use crate::merge::KeyRef;
use crate::metadata::{KeyMeta, Paths, element};
use crate::wire::{Reader, writer};

/// What a dataset shows of a key at rest, told element by element.
pub trait AtRest {
    /// Its type; `None`: there is no such key.
    fn kind(&mut self) -> Option<Kind>;
    /// Visits its elements in the order of the dataset.
    fn elements(&mut self, visit: &mut dyn FnMut(Path<'_>, Value<'_>));
    /// Its TTL.
    fn expire_at(&mut self) -> Option<UnixMs>;
}

/// A key of a keyspace.
struct InKeyspace<'a, K> {
    key: KeyRef<'a>,
    keyspace: &'a mut K,
}

impl<K: Keyspace> AtRest for InKeyspace<'_, K> {
    fn kind(&mut self) -> Option<Kind> {
        self.keyspace.kind(self.key.db, self.key.name)
    }

    fn elements(&mut self, visit: &mut dyn FnMut(Path<'_>, Value<'_>)) {
        self.keyspace.elements(self.key.db, self.key.name, visit);
    }

    fn expire_at(&mut self) -> Option<UnixMs> {
        self.keyspace.expire_at(self.key.db, self.key.name)
    }
}

/// Appends the encoding of a key of which no dot is known, as [`key::encode`] would that of its state, the elements in the order of the dataset.
/// False, and nothing is appended, where there is no such key, or the metadata has to say more: of lists, streams and whole values.
pub fn encode<K: Keyspace>(out: &mut Vec<u8>, key: KeyRef<'_>, keyspace: &mut K) -> bool {
    encode_shown(out, key, &KeyMeta::default(), &mut InKeyspace { key, keyspace })
}

/// The same of one of which `known` is known, if that is no more than one `Assign` each of some elements, and dots of its TTL.
pub fn encode_known<K: Keyspace>(out: &mut Vec<u8>, key: KeyRef<'_>, known: &KeyMeta, keyspace: &mut K) -> bool {
    encode_shown(out, key, known, &mut InKeyspace { key, keyspace })
}

/// The same of a key that is looked at in another way.
pub fn encode_shown(out: &mut Vec<u8>, key: KeyRef<'_>, known: &KeyMeta, shown: &mut impl AtRest) -> bool {
    let Some(kind) = shown.kind() else { return false };
    if !matches!(kind, Kind::String | Kind::Hash | Kind::Set | Kind::SortedSet) {
        return false;
    }
    let paths = match &*known.kinds {
        [] => None,
        [own] if own.kind == kind => Some(&own.paths),
        _ => return false,
    };
    let begin = out.len();
    writer::varint(out, u64::from(key.db));
    writer::prefixed(out, key.name);
    writer::varint(out, 1);
    out.push(kind as u8);
    if !encode_elements(out, paths, shown) {
        out.truncate(begin);
        return false;
    }
    if known.ttl.is_empty() {
        key::encode_stable_ttl(out, shown.expire_at());
    } else {
        key::encode_ttl(out, &known.ttl);
    }
    true
}

/// How many they are, and each. False: of some there is more to say, or the dataset does not show it.
fn encode_elements(out: &mut Vec<u8>, paths: Option<&Paths>, shown: &mut impl AtRest) -> bool {
    let (place, mut count, mut unmet, mut is_plain) = (out.len(), 0_u64, paths.map_or(0, Paths::len), true);
    out.push(0);
    shown.elements(&mut |path, value| {
        if !is_plain {
            return;
        }
        count += 1;
        writer::prefixed(out, element(path));
        match paths.and_then(|paths| paths.get(path)) {
            None => key::encode_stable(out, value),
            Some(known) => {
                unmet = unmet.saturating_sub(1);
                is_plain = key::encode_assigned(out, known, value);
            }
        }
    });
    put_count(out, place, count);
    is_plain && unmet == 0
}

/// Puts how many elements there are in front of them: mostly that takes the one byte that was left for it.
fn put_count(out: &mut Vec<u8>, place: usize, count: u64) {
    match out.get_mut(place) {
        Some(byte) if count < 0x80 => *byte = count as u8,
        _ => {
            let mut head = Vec::new();
            writer::varint(&mut head, count);
            out.splice(place..=place, head);
        }
    }
}

/// Reads a key at rest off the front, and builds nothing of it. False, and nothing is read, if another one is there.
pub fn skip(reader: &mut Reader<'_>) -> bool {
    let mut behind = *reader;
    let is_at_rest = skip_any(&mut behind) == Some(true);
    if is_at_rest {
        *reader = behind;
    }
    is_at_rest
}

/// The same of one that may not be at rest: whether it is. `None`, and nothing is read, if it takes more to read it, or it is broken.
pub fn skip_any(reader: &mut Reader<'_>) -> Option<bool> {
    let mut behind = *reader;
    let is_at_rest = key::pass_over(&mut behind).ok()??;
    *reader = behind;
    Some(is_at_rest)
}
