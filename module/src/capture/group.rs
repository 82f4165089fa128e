//! The group of a unit as it is being built.

use syncer_shared::effect::{Effect, Op, Path, Value};
use syncer_shared::group::GroupBuilder;
use syncer_shared::shard::Before;

use super::effects::Sink;
use crate::keyspace::field_ttls;

/// Effects, and the elements before increments by floats. Reused.
#[derive(Debug, Default)]
pub struct Group {
    /// The effects.
    pub builder: GroupBuilder,
    /// See [`Before`].
    pub before: Before,
    /// Keys captured whole for want of a better way.
    pub whole: Vec<(u32, Box<[u8]>)>,
}

impl Group {
    /// Empties it, keeps the memory.
    pub fn clear(&mut self) {
        self.builder.clear();
        self.before.clear();
        self.whole.clear();
    }
}

impl Sink for Group {
    #[inline]
    fn push(&mut self, effect: &Effect<'_>, before: Option<Option<&[u8]>>) {
        if let Some(before) = before {
            self.before.push((self.builder.count(), before.map(<[u8]>::to_vec)));
        }
        match effect.op {
            Op::Assign { path: Path::Field(field), value: Value::Expiring { .. }, .. } => {
                field_ttls::note(effect.db, effect.key, field);
            }
            Op::Remove { path: Path::Field(field) } if field_ttls::may_exist() => {
                field_ttls::forget(effect.db, effect.key, field);
            }
            _ => {}
        }
        self.builder.push(effect);
    }

    fn whole(&mut self, db: u32, key: &[u8]) {
        self.whole.push((db, key.into()));
    }
}
