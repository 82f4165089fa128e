//! Vector clocks inside one shard.

use crate::origin::Origin;
use crate::timestamp::Timestamp;

/// Origin -> highest timestamp applied from it, without gaps (I-2). Absent = [`Timestamp::ZERO`].
///
/// Dense: a shard knows few reigns, and comparing is then a loop over two slices.
#[derive(Debug, Default)]
pub struct VectorClock {
    entries: Vec<Timestamp>,
}

impl Clone for VectorClock {
    fn clone(&self) -> Self {
        Self { entries: self.entries.clone() }
    }

    fn clone_from(&mut self, from: &Self) {
        self.entries.clone_from(&from.entries);
    }
}

impl VectorClock {
    /// The entry of `origin`.
    #[must_use]
    pub fn get(&self, origin: Origin) -> Timestamp {
        self.entries.get(origin.index()).copied().unwrap_or_default()
    }

    /// Sets the entry of `origin`.
    pub fn set(&mut self, origin: Origin, ts: Timestamp) {
        if origin.index() >= self.entries.len() {
            self.entries.resize(origin.index() + 1, Timestamp::ZERO);
        }
        self.entries[origin.index()] = ts;
    }

    /// Raises the entry of `origin` to at least `ts`.
    pub fn raise(&mut self, origin: Origin, ts: Timestamp) {
        if self.get(origin) < ts {
            self.set(origin, ts);
        }
    }

    /// Raises every entry to at least that of `other`.
    pub fn join(&mut self, other: &Self) {
        other.iter().for_each(|(origin, ts)| self.raise(origin, ts));
    }

    /// Whether everything in `other` is in `self`.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.iter().all(|(origin, ts)| self.get(origin) >= ts)
    }

    /// Whether the effect of `origin` at `ts` is in the clock.
    #[must_use]
    pub fn has(&self, origin: Origin, ts: Timestamp) -> bool {
        self.get(origin) >= ts
    }

    /// The same with other names: each origin is a place in `names`. What has none is left out.
    #[must_use]
    pub fn renamed(&self, names: &[Origin]) -> Self {
        let mut renamed = Self::default();
        for (origin, ts) in self.iter() {
            if let Some(name) = names.get(origin.index()) {
                renamed.raise(*name, ts);
            }
        }
        renamed
    }

    /// The entries above zero.
    pub fn iter(&self) -> impl Iterator<Item = (Origin, Timestamp)> + '_ {
        let entry = |(i, &ts): (usize, &Timestamp)| (Origin::from_index(i as u16), ts);
        self.entries.iter().enumerate().map(entry).filter(|(_, ts)| *ts > Timestamp::ZERO)
    }
}

impl PartialEq for VectorClock {
    fn eq(&self, other: &Self) -> bool {
        self.covers(other) && other.covers(self)
    }
}

impl Eq for VectorClock {}
