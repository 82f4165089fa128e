//! Hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", 2014).

use std::fmt;
use std::time::{Duration, SystemTime};

/// 48 bits of Unix milliseconds, 16 bits of counter. Zero is before everything ("none").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Before every effect.
    pub const ZERO: Self = Self(0);
    /// The highest a peer may send: half of the range, so that arithmetic never wraps (year 6429).
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

    /// For people: date and time of the physical part, as of RFC 3339.
    #[must_use]
    pub fn utc(self) -> String {
        // What a peer may send ends long before: see `MAX`.
        let ms = self.min(Self::MAX).ms();
        humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_millis(ms)).to_string()
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
        assert_eq!(Timestamp::from_ms(1_795_730_425_741).utc(), "2026-11-26T22:00:25Z");
        assert!(Timestamp::from_bits(u64::MAX).utc().starts_with("6429-"));
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
