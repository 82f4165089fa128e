//! What an open key shows, without any command.

use syncer_shared::effect::{Kind, Path, UnixMs, Value};
use syncer_shared::snapshot::AtRest;

use super::field_ttls;
use crate::redis::{Key, KeyType};

/// Its type.
#[must_use]
pub fn kind(key: &Key) -> Option<Kind> {
    match key.key_type() {
        KeyType::Empty => None,
        KeyType::String => Some(Kind::String),
        KeyType::Hash => Some(Kind::Hash),
        KeyType::Set => Some(Kind::Set),
        KeyType::SortedSet => Some(Kind::SortedSet),
        KeyType::List => Some(Kind::List),
        KeyType::Stream => Some(Kind::Stream),
        KeyType::Other => Some(Kind::Opaque),
    }
}

/// Visits the elements of a hash without TTLs of its fields, a set or a sorted set.
pub fn elements(key: &Key, visit: &mut dyn FnMut(Path<'_>, Value<'_>)) {
    match key.key_type() {
        KeyType::Hash => key.scan(&mut |field, value| {
            visit(Path::Field(field), Value::Bytes(value.unwrap_or_default()));
        }),
        KeyType::Set => key.scan(&mut |member, _| visit(Path::Member(member), Value::Present)),
        KeyType::SortedSet => key.scan(&mut |member, score| {
            let score = score.and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| text.parse().ok());
            visit(Path::Scored(member), Value::Score(score.unwrap_or_default()));
        }),
        _ => {}
    }
}

/// A key all of which is to be seen without a command, and without a look-up.
pub struct Plain<'a>(&'a Key);

impl<'a> Plain<'a> {
    /// If it is one: a long string, a hash without TTLs of fields, a set, a sorted set.
    #[must_use]
    pub fn new(key: &'a Key) -> Option<Self> {
        let is_plain = match key.key_type() {
            KeyType::String => key.long_string().is_some(),
            KeyType::Hash => !field_ttls::may_exist(),
            KeyType::Set | KeyType::SortedSet => true,
            _ => false,
        };
        is_plain.then_some(Self(key))
    }
}

impl AtRest for Plain<'_> {
    fn kind(&mut self) -> Option<Kind> {
        kind(self.0)
    }

    fn elements(&mut self, visit: &mut dyn FnMut(Path<'_>, Value<'_>)) {
        match self.0.long_string() {
            Some(text) => visit(Path::String, Value::Bytes(text)),
            None => elements(self.0, visit),
        }
    }

    fn expire_at(&mut self) -> Option<UnixMs> {
        self.0.expire_at()
    }
}
