//! Keys at rest: no dot is known of them, so the dataset has all there is. Most keys of a snapshot are, and most of those are the same where
//! it is merged. So they are encoded straight from the dataset, and recognised by their bytes.

use super::key;
use crate::effect::Kind;
use crate::keyspace::Keyspace;
use crate::merge::KeyRef;
use crate::metadata::element;
use crate::wire::writer;

/// Appends the encoding of a key of which no dot is known, as [`key::encode`] would that of its state, the elements in the order of the dataset.
/// False, and nothing is appended, where there is no such key, or the metadata has to say more: of lists, streams and whole values.
pub fn encode<K: Keyspace>(out: &mut Vec<u8>, key: KeyRef<'_>, keyspace: &mut K) -> bool {
    let Some(kind) = keyspace.kind(key.db, key.name) else { return false };
    if !matches!(kind, Kind::String | Kind::Hash | Kind::Set | Kind::SortedSet) {
        return false;
    }
    writer::varint(out, u64::from(key.db));
    writer::prefixed(out, key.name);
    writer::varint(out, 1);
    out.push(kind as u8);
    let (first, mut count) = (out.len(), 0);
    keyspace.elements(key.db, key.name, &mut |path, value| {
        count += 1;
        writer::prefixed(out, element(path));
        key::encode_stable(out, value);
    });
    let mut head = Vec::new();
    writer::varint(&mut head, count);
    out.splice(first..first, head);
    key::encode_stable_ttl(out, keyspace.expire_at(key.db, key.name));
    true
}
