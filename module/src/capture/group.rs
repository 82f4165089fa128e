//! The group of a unit as it is being built.

use syncer_shared::effect::{Effect, Op, Path, TtlNote, Value};
use syncer_shared::group::GroupBuilder;
use syncer_shared::list::End;
use syncer_shared::list::draft::{Draft, Drafts, Edit};
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
    /// Hashes all of whose fields have expired.
    pub hollow: Vec<(u32, Box<[u8]>)>,
    /// Edits of lists.
    pub drafts: Drafts,
}

impl Group {
    /// Empties it, keeps the memory.
    pub fn clear(&mut self) {
        self.builder.clear();
        self.before.clear();
        self.whole.clear();
        self.hollow.clear();
        self.drafts.clear();
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
                field_ttls::note(effect.db, effect.key, field, effect.ttl == TtlNote::Created);
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

    #[inline]
    fn list_push<'v>(&mut self, write: (u32, &[u8]), ttl: TtlNote, end: End, values: impl Iterator<Item = &'v [u8]>) {
        self.drafts.push(self.builder.count(), write, ttl, end, values);
    }

    fn hollow(&mut self, db: u32, key: &[u8]) {
        self.hollow.push((db, key.into()));
    }

    fn guess(&mut self) {
        self.drafts.guess();
    }

    #[inline]
    fn list(&mut self, (db, key): (u32, &[u8]), ttl: TtlNote, edit: Edit<'_>) {
        self.drafts.add(&Draft { place: self.builder.count(), db, key, ttl, edit });
    }
}
