//! The arguments of a staged command.

use super::unit::{Span, Unit};

/// The arguments of a staged command, and what was told about it later.
pub struct StageArgs<'a> {
    pub(super) unit: &'a Unit,
    pub(super) spans: &'a [Span],
    pub(super) told: &'a [Span],
}

impl<'a> StageArgs<'a> {
    /// The argument at `index`; 0 is the name.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.spans.get(index).map(|span| self.unit.bytes(*span))
    }

    /// The arguments from `first` on.
    pub fn from(&self, first: usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let unit = self.unit;
        self.spans.get(first..).unwrap_or_default().iter().map(move |span| unit.bytes(*span))
    }

    /// Pairs of arguments from `first` on.
    pub fn pairs(&self, first: usize) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let unit = self.unit;
        let pairs = self.spans.get(first..).unwrap_or_default().chunks_exact(2);
        pairs.map(move |pair| (unit.bytes(pair[0]), unit.bytes(pair[1])))
    }

    /// What stands behind `FIELDS count`.
    pub fn fields(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let word = (2..self.len()).find(|at| self.get(*at).is_some_and(|a| a.eq_ignore_ascii_case(b"fields")));
        self.from(word.map_or(self.len(), |at| at + 2))
    }

    /// What a look or the reply told.
    pub fn told(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let unit = self.unit;
        self.told.iter().map(move |span| unit.bytes(*span))
    }

    /// How many arguments, the name included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }
}
