//! Sums of strings and hash fields: exact decimals, so that increments add up alike in any order (I-5).
//!
//! Servers add floats of strings and fields in `long double`, which differs between CPUs, and keep 17 digits behind the point after
//! each step. So do sums here, but exactly: what a sum shows is all that it is. Hence a part of it may be pruned to the text in the
//! dataset at one instance and not at another (I-6).

use crate::number::{Number, parse_float};

/// A number with 17 digits behind the point.
///
/// Sums end at some 1.7e21, where they would stay: capture makes no increments of what could get there ([`Decimal::may_add`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal(i128);

/// Digits behind the point that servers show (`%.17Lf`, `ld2string` in Redis's util.c).
const DECIMALS: usize = 17;

/// One, in units of the last digit.
const ONE: i128 = 10_i128.pow(DECIMALS as u32);

impl Decimal {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Reads a number as servers do ([`Number::parse`]); `None`, too, when it is out of range.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() >= Number::TEXT_BYTES_MAX {
            return None;
        }
        plain(text).or_else(|| Self::from_float(parse_float(text)?))
    }

    /// The decimal that stands for a double: the shortest that means it.
    #[must_use]
    pub fn from_float(float: f64) -> Option<Self> {
        if float.fract() == 0.0 && float.abs() < 1e15 {
            return Some(Self(float as i128 * ONE));
        }
        plain(float.to_string().as_bytes())
    }

    /// Whether it is small enough for an increment, or for what increments count on: with sums this size at every instance the sum of
    /// all of them is in range.
    #[must_use]
    pub const fn may_add(self) -> bool {
        self.0.unsigned_abs() <= 10_000_000_000_000_000_000 * ONE.unsigned_abs()
    }

    /// The sum.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The text that the dataset shows: no exponent, no trailing zeros behind the point. Reading it gives the number again.
    #[must_use]
    pub fn format(self) -> String {
        let (whole, fraction) = (self.0 / ONE, (self.0 % ONE).unsigned_abs());
        if fraction == 0 {
            return whole.to_string();
        }
        let sign = if self.0 < 0 { "-" } else { "" };
        let text = format!("{sign}{}.{fraction:0DECIMALS$}", whole.unsigned_abs());
        text.trim_end_matches('0').into()
    }
}

/// What a number adds; one out of range, which only a broken peer sends, as much as there is.
impl From<Number> for Decimal {
    fn from(number: Number) -> Self {
        match number {
            Number::Integer(integer) => Self(i128::from(integer) * ONE),
            Number::Float(float) => {
                let limit = if float < 0.0 { i128::MIN } else { i128::MAX };
                Self::from_float(float).unwrap_or(Self(limit))
            }
        }
    }
}

/// Digits with an optional sign and an optional point, rounded to what is kept.
fn plain(text: &[u8]) -> Option<Decimal> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let (whole, fraction) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if whole.is_empty() && fraction.is_empty() || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let kept = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(DECIMALS);
    let mut units = 0_i128;
    for digit in whole.iter().copied().chain(kept) {
        let digit = digit.is_ascii_digit().then(|| i128::from(digit - b'0'))?;
        units = units.checked_mul(10)?.checked_add(digit)?;
    }
    if fraction.get(DECIMALS).is_some_and(|digit| *digit >= b'5') {
        units = units.checked_add(1)?;
    }
    Some(Decimal(if negative { -units } else { units }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(parts: &[&str]) -> String {
        let parts = parts.iter().map(|part| Decimal::parse(part.as_bytes()).unwrap());
        parts.fold(Decimal::ZERO, Decimal::plus).format()
    }

    #[test]
    fn sums_are_decimal() {
        assert_eq!(sum(&["0.1", "0.2"]), "0.3");
        assert_eq!(sum(&["10.50", "0.1"]), "10.6");
        assert_eq!(sum(&["-0.3", "0.1"]), "-0.2");
        assert_eq!(sum(&["-0.3", "0.3"]), "0");
        assert_eq!(sum(&["0.1", "1e16", "-1e16"]), "0.1", "nothing is lost on the way");
        assert_eq!(sum(&["9223372036854775807", "1"]), "9223372036854775808");
        assert_eq!(sum(&["5.0e3", "2.0e2"]), "5200");
        assert_eq!(sum(&["0x10", "-.5", "5."]), "20.5");
        assert_eq!(sum(&["1e-20", "-0"]), "0");
        assert_eq!(sum(&["0.000000000000000015"]), "0.00000000000000002", "rounds at the last digit that servers show");
    }

    #[test]
    fn what_is_no_number_or_out_of_range_is_told() {
        for text in ["", "-", ".", "a", "1a", "1.a", "1.2.3", " 1", "inf", "nan", "1e22", "-1e300", "--1"] {
            assert_eq!(Decimal::parse(text.as_bytes()), None, "{text}");
        }
        assert!(Decimal::parse(b"1e19").is_some_and(Decimal::may_add));
        assert!(!Decimal::parse(b"-1.1e19").is_some_and(Decimal::may_add));
        assert_eq!(Decimal::from(Number::Float(1e300)).plus(Decimal::from(Number::Float(1e300))), Decimal(i128::MAX));
        assert!(Decimal(i128::MIN).format().starts_with("-17014118346046923173"));
    }

    proptest! {
        #[test]
        fn a_text_means_its_number(units: i128) {
            prop_assert_eq!(Decimal::parse(Decimal(units).format().as_bytes()), Some(Decimal(units)));
        }

        #[test]
        fn a_double_is_read_as_its_shortest_text(float in -1e18..1e18_f64) {
            let near = |decimal: Decimal| decimal.format().parse::<f64>().unwrap();
            prop_assert!((near(Decimal::from_float(float).unwrap()) - float).abs() <= 1e-17);
        }

        #[test]
        fn any_text_is_read_without_panic(text: Vec<u8>) {
            let _ = Decimal::parse(&text);
        }
    }
}
