//! Keyspace events of what the merge writes, like those of local commands.

use std::ffi::CStr;

use smallvec::SmallVec;
use syncer_shared::effect::ClearReason;

use crate::redis::EventClass;

/// A keyspace event: its class and its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// What turns it on.
    pub class: EventClass,
    /// Its name, as published.
    pub name: &'static CStr,
}

impl Event {
    pub const SET: Self = Self { class: EventClass::String, name: c"set" };
    pub const SETRANGE: Self = Self { class: EventClass::String, name: c"setrange" };
    pub const HSET: Self = Self { class: EventClass::Hash, name: c"hset" };
    pub const HDEL: Self = Self { class: EventClass::Hash, name: c"hdel" };
    pub const ZADD: Self = Self { class: EventClass::SortedSet, name: c"zadd" };
    pub const ZREM: Self = Self { class: EventClass::SortedSet, name: c"zrem" };
    pub const LPUSH: Self = Self { class: EventClass::List, name: c"lpush" };
    pub const RPUSH: Self = Self { class: EventClass::List, name: c"rpush" };
    pub const XADD: Self = Self { class: EventClass::Stream, name: c"xadd" };
    pub const XDEL: Self = Self { class: EventClass::Stream, name: c"xdel" };
    pub const LINSERT: Self = Self { class: EventClass::List, name: c"linsert" };
    pub const LPOP: Self = Self { class: EventClass::List, name: c"lpop" };
    pub const RPOP: Self = Self { class: EventClass::List, name: c"rpop" };
    pub const LREM: Self = Self { class: EventClass::List, name: c"lrem" };
    pub const LSET: Self = Self { class: EventClass::List, name: c"lset" };
    pub const EXPIRE: Self = Self { class: EventClass::Generic, name: c"expire" };
    pub const PERSIST: Self = Self { class: EventClass::Generic, name: c"persist" };
    pub const DEL: Self = Self { class: EventClass::Generic, name: c"del" };

    /// The event of a key that goes.
    pub const fn of(reason: ClearReason) -> Self {
        match reason {
            ClearReason::Deleted => Self::DEL,
            ClearReason::Expired => Self { class: EventClass::Expired, name: c"expired" },
            ClearReason::Evicted => Self { class: EventClass::Evicted, name: c"evicted" },
        }
    }
}

/// The events due for one key, in order; a run of the same event counts once, as for a command with many elements.
#[derive(Default)]
pub struct Events(SmallVec<[Event; 4]>);

impl Events {
    /// Notes that `event` happened.
    pub fn push(&mut self, event: Event) {
        if self.0.last() != Some(&event) {
            self.0.push(event);
        }
    }

    /// Whether none happened.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes them all out.
    pub fn drain(&mut self) -> impl Iterator<Item = Event> {
        self.0.drain(..)
    }
}
