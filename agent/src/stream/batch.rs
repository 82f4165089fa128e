//! How much goes into one `SYNCER.APPLY`.

use std::time::Duration;

/// Smallest batch, in bytes: below this the cost of the command itself prevails.
const BYTES_MIN: usize = 2 << 10;
/// Largest batch, in bytes: the target's input buffer.
const BYTES_MAX: usize = 512 << 10;
/// Batches smaller than this say little about the speed.
const SAMPLE_BYTES_MIN: usize = 512;

/// Follows the speed of the target so that one batch holds its main thread for about `slice`.
#[derive(Debug)]
pub struct BatchSize {
    slice_us: f64,
    /// Smoothed.
    bytes_per_us: f64,
}

impl BatchSize {
    /// Begins with a cautious guess.
    #[must_use]
    pub fn new(slice: Duration) -> Self {
        Self { slice_us: slice.as_micros() as f64, bytes_per_us: 50.0 }
    }

    /// Bytes for the next batch.
    #[must_use]
    pub fn bytes(&self) -> usize {
        ((self.bytes_per_us * self.slice_us) as usize).clamp(BYTES_MIN, BYTES_MAX)
    }

    /// Takes note that `bytes` took `elapsed_us`.
    pub fn measured(&mut self, bytes: usize, elapsed_us: u64) {
        if bytes < SAMPLE_BYTES_MIN || elapsed_us == 0 {
            return;
        }
        let speed = bytes as f64 / elapsed_us as f64;
        // Slower counts at once, faster little by little: a long slice hurts the target's clients, a short one nobody.
        let weight = if speed < self.bytes_per_us { 0.5 } else { 0.1 };
        self.bytes_per_us += weight * (speed - self.bytes_per_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_target() {
        let mut size = BatchSize::new(Duration::from_micros(300));
        (0..100).for_each(|_| size.measured(10_000, 100));
        assert!((29_000..=31_000).contains(&size.bytes()), "{}", size.bytes());
        size.measured(10_000, 10_000);
        assert!(size.bytes() < 16_000);
        (0..100).for_each(|_| size.measured(10_000, 1_000_000));
        assert_eq!(size.bytes(), BYTES_MIN);
        (0..1000).for_each(|_| size.measured(1_000_000, 1));
        assert_eq!(size.bytes(), BYTES_MAX);
    }
}
