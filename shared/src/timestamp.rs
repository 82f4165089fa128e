//! Hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", 2014).

use std::fmt;

/// 48 bits of Unix milliseconds, 16 bits of counter. Zero is before everything ("none").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Before every effect.
    pub const ZERO: Self = Self(0);
    /// The highest a peer may send: half of the range, so that arithmetic never wraps (year 4429).
    pub const MAX: Self = Self(u64::MAX >> 1);

    const COUNTER_BITS: u32 = 16;

    /// From its 64 bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The first timestamp of a millisecond.
    #[must_use]
    pub const fn from_ms(unix_ms: u64) -> Self {
        Self(unix_ms << Self::COUNTER_BITS)
    }

    /// All 64 bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The physical part: Unix milliseconds.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.0 >> Self::COUNTER_BITS
    }

    /// The logical part.
    #[must_use]
    pub const fn counter(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    /// For people: date and time of the physical part.
    #[must_use]
    pub const fn utc(self) -> Utc {
        Utc(self.ms() / 1000)
    }
}

/// Unix seconds, shown as `2026-11-26 13:20:25 UTC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc(u64);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (day, second) = (self.0 / 86_400, self.0 % 86_400);
        // Hinnant, "chrono-Compatible Low-Level Date Algorithms": years begin in March, eras of 400 years with one of them.
        let day = day + 719_468;
        let (era, of_era) = (day / 146_097, day % 146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let of_month = of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{of_month:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.ms(), self.counter())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The clock of one primary: strictly rising, and above every timestamp seen. It reads no wall clock; the
/// caller passes the time (I-11).
#[derive(Clone, Copy, Debug, Default)]
pub struct Hlc {
    last: Timestamp,
}

impl Hlc {
    /// A clock that has seen everything up to `last`.
    #[must_use]
    pub const fn new(last: Timestamp) -> Self {
        Self { last }
    }

    /// The next timestamp of an own group. Strictly above every one given or observed, whatever `now_ms` does (I-7).
    pub fn tick(&mut self, now_ms: u64) -> Timestamp {
        let next = Timestamp(self.last.0 + 1);
        self.last = next.max(Timestamp::from_ms(now_ms));
        self.last
    }

    /// Takes note of a timestamp from elsewhere. The caller has refused what is too far ahead.
    pub fn observe(&mut self, seen: Timestamp) {
        self.last = self.last.max(seen);
    }

    /// The highest timestamp given or observed.
    #[must_use]
    pub const fn last(&self) -> Timestamp {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_for_people() {
        let shown = |ms| Timestamp::from_ms(ms).utc().to_string();
        assert_eq!(shown(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(shown(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(shown(1_735_689_599_999), "2024-12-31 23:59:59 UTC");
        assert_eq!(shown(1_795_730_425_741), "2026-11-26 22:00:25 UTC");
        assert_eq!(shown(4_107_542_400_000), "2100-03-01 00:00:00 UTC");
    }

    #[test]
    fn rises_while_the_wall_clock_stands_still_or_jumps_back() {
        let mut hlc = Hlc::default();
        let first = hlc.tick(1000);
        let second = hlc.tick(1000);
        let third = hlc.tick(10);
        assert!(first < second && second < third);
        assert_eq!((first.ms(), third.ms(), third.counter()), (1000, 1000, 2));
    }

    #[test]
    fn stays_above_what_was_observed() {
        let mut hlc = Hlc::default();
        hlc.observe(Timestamp::from_ms(5000));
        assert!(hlc.tick(1000) > Timestamp::from_ms(5000));
        assert_eq!(hlc.tick(6000), Timestamp::from_ms(6000));
    }
}
