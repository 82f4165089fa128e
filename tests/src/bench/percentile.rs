//! Percentiles of many measured times.

use std::time::Duration;

/// Measured times of one kind.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// One more time.
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Those of another round too.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These percentiles in milliseconds; NaN without times.
    pub fn milliseconds<const N: usize>(&self, percentiles: [f64; N]) -> [f64; N] {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        percentiles.map(|percentile| {
            // Less what binary fractions add: 99.9 % of 1000 is 999.
            let rank = (percentile / 100.0 * sorted.len() as f64 - 1e-6).ceil() as usize;
            sorted.get(rank.saturating_sub(1)).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Times;

    #[test]
    fn percentiles_take_the_nearest_rank() {
        let times = Times((1..=1000).map(Duration::from_millis).collect());
        assert_eq!(times.milliseconds([50.0, 99.0, 99.9]), [500.0, 990.0, 999.0]);
    }
}
