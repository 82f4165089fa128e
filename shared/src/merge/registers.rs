//! Registers of HyperLogLogs in the dataset: what needs no metadata.

use super::KeyRef;
use crate::effect::{Effect, Op, Path, Value};
use crate::hyperloglog::{self, DENSE, DENSE_SHOWN_BY, Registers};
use crate::keyspace::Keyspace;
use crate::metadata::fold::canonical;
use crate::metadata::{Class, Table};
use crate::patch::Patch;

/// Whether an effect raises registers.
pub const fn raises(effect: &Effect<'_>) -> bool {
    matches!(effect.op, Op::Patch { patch: Patch::Registers(_), .. })
}

/// Whether the effect raises registers of a string that other things change, too: what it shows then only the metadata tells.
pub fn is_blended(table: &Table, effect: &Effect<'_>) -> bool {
    let known = || table.find(effect.db, effect.key).and_then(|id| table.meta(id).path(Path::String));
    raises(effect) && known().is_some_and(|path| path.has_other_than(Class::Registers))
}

/// Where registers were raised by a command, the dataset gets the text that all instances write.
pub fn correct<K: Keyspace>(keyspace: &mut K, key: KeyRef<'_>) {
    let beginning = keyspace.changed_string(key.db, key.name, DENSE_SHOWN_BY);
    let is_long = beginning.len() == DENSE_SHOWN_BY;
    if is_long && hyperloglog::begins_canonical_dense(&beginning, keyspace.string_len(key.db, key.name)) {
        return;
    }
    let is_whole = !is_long && !beginning.is_empty();
    let native = if is_whole { Some(beginning) } else { keyspace.string(key.db, key.name) };
    if let Some(text) = native.and_then(|native| canonical(&native)) {
        keyspace.put(key.db, key.name, Path::String, Value::Bytes(&text));
    }
}

/// Raises registers in the dataset. False, and nothing is done, when there is something else than a HyperLogLog.
pub fn raise<K: Keyspace>(keyspace: &mut K, key: KeyRef<'_>, registers: Registers<'_>, exists: bool) -> bool {
    let text = if exists {
        let len = keyspace.string_len(key.db, key.name);
        // One that is dense without need becomes sparse, as at its author (`correct`).
        let beginning = |keyspace: &mut K| keyspace.string_range(key.db, key.name, 0, DENSE_SHOWN_BY);
        if len == DENSE as u64 && hyperloglog::begins_canonical_dense(&beginning(keyspace), len) {
            raise_in_place(keyspace, key, registers);
            return true;
        }
        let Some(known) = keyspace.string(key.db, key.name) else { return false };
        match hyperloglog::raised(&known, registers) {
            Some(text) => text,
            None => return hyperloglog::has(&known, registers),
        }
    } else {
        hyperloglog::text(registers)
    };
    keyspace.put(key.db, key.name, Path::String, Value::Bytes(&text));
    true
}

/// Who is dense stays so (`hyperloglog.rs`).
fn raise_in_place<K: Keyspace>(keyspace: &mut K, key: KeyRef<'_>, registers: Registers<'_>) {
    for (index, value) in registers.iter() {
        let (at, shift) = hyperloglog::dense_place(index);
        let found = keyspace.string_range(key.db, key.name, at as u64, 2);
        let mut bytes = [found.first().copied().unwrap_or_default(), found.get(1).copied().unwrap_or_default()];
        if hyperloglog::raise_dense(&mut bytes, shift, value) {
            let bytes = bytes.get(..found.len()).unwrap_or_default();
            keyspace.write_range(key.db, key.name, at as u64, bytes);
        }
    }
}
