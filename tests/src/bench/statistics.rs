//! Medians of rounds, and how far the rounds lie apart.

/// The rounds of one figure.
#[derive(Clone, Debug, Default)]
pub struct Rounds(Vec<f64>);

impl Rounds {
    /// One more round.
    pub fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// The median; NaN without rounds.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => sorted[odd / 2],
            even => (sorted[even / 2 - 1] + sorted[even / 2]) / 2.0,
        }
    }

    /// The noise: half the distance between the lowest and the highest round, as a share of the median.
    pub fn noise(&self) -> f64 {
        let lowest = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (highest - lowest) / 2.0 / self.median()
    }

    /// Round by round divided by those of `base`: what both rounds suffered alike drops out.
    #[must_use]
    pub fn ratio(&self, base: &Self) -> Self {
        Self(self.0.iter().zip(&base.0).map(|(own, base)| own / base).collect())
    }

    /// Round by round added up.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(left, right)| left + right).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::Rounds;

    #[test]
    fn medians_and_ratios_go_round_by_round() {
        let own = Rounds(vec![10.0, 40.0, 18.0]);
        let base = Rounds(vec![10.0, 20.0, 20.0]);
        assert_eq!(own.median(), 18.0);
        assert_eq!(own.ratio(&base).median(), 1.0);
        assert_eq!(base.noise(), 0.25);
        assert_eq!(Rounds(vec![1.0, 2.0]).median(), 1.5);
    }
}
