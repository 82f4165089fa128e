//! Strings on the server, read, and how it stores them.

use syncer_shared::hyperloglog::HEADER;
use syncer_shared::keyspace::Keyspace;

use super::server::ServerKeyspace;
use crate::redis::KeyType;

impl ServerKeyspace<'_> {
    /// See [`Keyspace::string`].
    pub(super) fn read_string(&mut self, db: u32, key: &[u8]) -> Option<Vec<u8>> {
        let open = self.key(db, key);
        if open.key_type() != KeyType::String {
            return None;
        }
        if let Some(bytes) = open.long_string() {
            return Some(bytes.to_vec());
        }
        self.call(db, key, c"GET", &[]).bytes().map(<[u8]>::to_vec)
    }

    /// See [`Keyspace::strings`]. Where one command cannot name them all, as in a cluster, each is read for itself; a long one in place.
    pub(super) fn read_strings(&mut self, db: u32, keys: &[&[u8]], visit: &mut dyn FnMut(Option<&[u8]>)) {
        if let [first, rest @ ..] = keys
            && !rest.is_empty()
        {
            let reply = self.call(db, first, c"MGET", rest);
            if let Some(values) = reply.root().filter(|values| values.len() == keys.len()) {
                return values.each(&mut |value| visit(value.bytes()));
            }
        }
        for key in keys {
            let open = self.key(db, key);
            match open.long_string() {
                Some(text) => visit(Some(text)),
                None => visit(self.string(db, key).as_deref()),
            }
        }
    }

    /// See [`Keyspace::string_range`].
    pub(super) fn read_range(&mut self, db: u32, key: &[u8], start: u64, len: usize) -> Vec<u8> {
        let part = |text: &[u8]| {
            let rest = usize::try_from(start).ok().and_then(|start| text.get(start..)).unwrap_or_default();
            rest.get(..len).unwrap_or(rest).to_vec()
        };
        let open = self.key(db, key);
        match open.long_string() {
            Some(text) => part(text),
            None if open.string_len() == 0 => Vec::new(),
            None => part(&self.string(db, key).unwrap_or_default()),
        }
    }

    /// See [`Keyspace::changed_string`]. It is stored raw, however short. A HyperLogLog at least; what is
    /// shorter than any may be something else again, and is looked at as usual.
    pub(super) fn beginning_of_raw(&mut self, db: u32, key: &[u8], len: usize) -> Vec<u8> {
        let open = self.key(db, key);
        if open.string_len() > HEADER
            && let Some(text) = open.raw_string()
        {
            return text.get(..len).unwrap_or(text).to_vec();
        }
        self.read_range(db, key, 0, len)
    }
}

/// Whether servers store the string as an integer: up to 20 bytes, a 64-bit integer as `ll2string` prints it.
pub(super) fn is_stored_as_integer(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        b"0" => text.len() == 1,
        [b'1'..=b'9', ..] if digits.len() <= 19 => {
            digits.iter().all(u8::is_ascii_digit)
                && std::str::from_utf8(text).is_ok_and(|text| text.parse::<i64>().is_ok())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_stored_as_integer;

    #[test]
    fn integers_are_told_as_servers_tell_them() {
        for text in ["0", "7", "-1", "9223372036854775807", "-9223372036854775808"] {
            assert!(is_stored_as_integer(text.as_bytes()), "{text}");
        }
        for text in ["", "-", "-0", "00", "+1", "1 ", "1.0", "9223372036854775808", "-9223372036854775809", "12a"] {
            assert!(!is_stored_as_integer(text.as_bytes()), "{text}");
        }
    }
}
