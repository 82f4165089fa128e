//! Instance ids: who is a member of the Active-Active database.

use std::fmt;

/// One member database of the Active-Active database, chosen by the operator: 1 to 63.
///
/// Invariant: the value is always within [`InstanceId::MIN`]..=[`InstanceId::MAX`], so that a set of
/// instances is one `u64` ([`InstanceSet`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(u8);

impl InstanceId {
    /// The lowest instance id.
    pub const MIN: u8 = 1;
    /// The highest instance id; 63 so that sets of instances fit one machine word.
    pub const MAX: u8 = 63;

    /// `None` when `id` is outside 1..=63.
    #[must_use]
    pub const fn new(id: u8) -> Option<Self> {
        if id >= Self::MIN && id <= Self::MAX { Some(Self(id)) } else { None }
    }

    /// The number the operator chose.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of instances, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct InstanceSet(u64);

impl InstanceSet {
    /// The empty set.
    pub const EMPTY: Self = Self(0);
    /// Every possible instance.
    pub const ALL: Self = Self(u64::MAX << 1);

    /// The set whose bits are `bits`; bit 0 is ignored, since 0 is no instance.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & !1)
    }

    /// Bit `i` is set when instance `i` is in the set.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Adds `id`.
    pub fn insert(&mut self, id: InstanceId) {
        self.0 |= 1 << id.get();
    }

    /// Removes `id`.
    pub fn remove(&mut self, id: InstanceId) {
        self.0 &= !(1 << id.get());
    }

    /// Whether `id` is in the set.
    #[must_use]
    pub const fn contains(self, id: InstanceId) -> bool {
        self.0 & (1 << id.get()) != 0
    }

    /// How many instances are in the set.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The members in rising order.
    pub fn iter(self) -> impl Iterator<Item = InstanceId> {
        (InstanceId::MIN..=InstanceId::MAX).filter_map(InstanceId::new).filter(move |id| self.contains(*id))
    }
}

impl FromIterator<InstanceId> for InstanceSet {
    fn from_iter<I: IntoIterator<Item = InstanceId>>(ids: I) -> Self {
        let mut set = Self::EMPTY;
        ids.into_iter().for_each(|id| set.insert(id));
        set
    }
}

impl fmt::Debug for InstanceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
