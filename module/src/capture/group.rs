//! The group of a unit as it is being built.

use syncer_shared::effect::Effect;
use syncer_shared::group::GroupBuilder;
use syncer_shared::shard::Before;

use super::effects::Sink;

/// Effects, and the elements before increments by floats. Reused.
#[derive(Debug, Default)]
pub struct Group {
    /// The effects.
    pub builder: GroupBuilder,
    /// See [`Before`].
    pub before: Before,
}

impl Group {
    /// Empties it, keeps the memory.
    pub fn clear(&mut self) {
        self.builder.clear();
        self.before.clear();
    }
}

impl Sink for Group {
    #[inline]
    fn push(&mut self, effect: &Effect<'_>, before: Option<Option<&[u8]>>) {
        if let Some(before) = before {
            self.before.push((self.builder.count(), before.map(<[u8]>::to_vec)));
        }
        self.builder.push(effect);
    }
}
