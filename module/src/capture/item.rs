//! Something that happened in an execution unit.

use syncer_shared::effect::FlushScope;

use super::event::Event;
use super::unit::Span;

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A staged command did what its arguments say.
    Staged {
        /// Which one.
        stage: usize,
        /// The key concerned.
        key: Span,
        /// Its database.
        db: u32,
        /// The argument index of the key.
        at: usize,
        /// Whether it created the key.
        created: bool,
    },
    /// An event that says it all, or too little.
    Event {
        /// What it says.
        event: Event,
        /// The key concerned.
        key: Span,
        /// Its database.
        db: u32,
        /// Whether the key was created just before.
        created: bool,
    },
    /// A command did what these effects say.
    Effects {
        /// Encoded, of database 0, without TTL notes.
        body: Span,
        /// The key concerned.
        key: Span,
        /// Its database.
        db: u32,
        /// Whether the command created the key.
        created: bool,
    },
    /// Fields of a hash may have expired: those of these that are gone.
    Expired {
        /// The key concerned.
        key: Span,
        /// Its database.
        db: u32,
        /// The first field in `Unit::expired`, and how many.
        fields: (usize, usize),
    },
    /// Databases were emptied.
    Flush(FlushScope),
    /// Two databases changed places.
    Swap(u32, u32),
    /// A library of functions was loaded or deleted.
    Library {
        /// Its name.
        name: Span,
        /// Its code, if it is there.
        code: Option<Span>,
    },
    /// A staged `PUBLISH` was delivered here.
    Published {
        /// Which one.
        stage: usize,
    },
}

impl Item {
    /// The key that it is about, and its database.
    #[must_use]
    pub fn key(&self) -> Option<(u32, Span)> {
        match *self {
            Self::Staged { key, db, .. }
            | Self::Event { key, db, .. }
            | Self::Effects { key, db, .. }
            | Self::Expired { key, db, .. } => Some((db, key)),
            Self::Flush(_) | Self::Swap(..) | Self::Library { .. } | Self::Published { .. } => None,
        }
    }
}
