//! Numbers that increments add up (DESIGN 2, MERGE_RULES 5): the text a server takes for one, and the text it shows.
//!
//! Servers add floats of strings and hash fields in `long double`, which differs between CPUs. Sums here are decimal for the
//! numbers that people use: 0.1 + 0.2 is 0.3, as on a server, and the same on every CPU.

/// An amount: what `INCRBY`, `HINCRBYFLOAT`, `ZINCRBY`, ... add.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Sums of integers alone are exact and clamp to 64 bits.
    Integer(i64),
    /// One float makes the sum a float. Never NaN.
    Float(f64),
}

impl Number {
    /// The longest text that servers take for a number (`MAX_LONG_DOUBLE_CHARS` in Redis's util.h).
    const TEXT_BYTES_MAX: usize = 5 * 1024;

    /// Reads a number as servers do: an integer in its one form (`string2ll` in Redis's util.c: no sign but `-`, no
    /// leading zero, no space), else a float without spaces around it (`strtold`, hexadecimal included).
    ///
    /// NaN is none, and so is what is not finite as a double: servers refuse to add to infinity.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let float = || parse_float(text).filter(|float| float.is_finite()).map(Number::Float);
        parse_integer(text).map(Number::Integer).or_else(float)
    }

    /// As a float.
    #[must_use]
    pub const fn as_float(self) -> f64 {
        match self {
            Number::Integer(value) => value as f64,
            Number::Float(value) => value,
        }
    }

    /// The text that the dataset shows: the same on every instance and CPU.
    ///
    /// Floats print with up to 17 digits behind the point, without an exponent and without trailing zeros, as
    /// `INCRBYFLOAT` prints (`ld2string` in Redis's util.c); of the texts that mean the same `f64` the shortest is taken, so
    /// that nothing depends on the width of `long double`.
    #[must_use]
    pub fn format(self) -> String {
        match self {
            Number::Integer(value) => value.to_string(),
            Number::Float(0.0) => "0".into(),
            Number::Float(value) => {
                let shortest = format!("{value}");
                match shortest.split_once('.') {
                    Some((_, digits)) if digits.len() > 17 => trim(&format!("{value:.17}")),
                    _ => shortest,
                }
            }
        }
    }
}

/// Without trailing zeros behind the point.
fn trim(text: &str) -> String {
    let trimmed = text.trim_end_matches('0').trim_end_matches('.');
    if trimmed == "-0" { "0".into() } else { trimmed.into() }
}

fn parse_integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => text.len() == 1,
        [first, ..] => first.is_ascii_digit() && *first != b'0' && digits.iter().all(u8::is_ascii_digit),
        [] => false,
    };
    if !canonical || text.len() > 20 {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A sum in the making: base first, then increments in effect order (I-5).
///
/// Invariant: after each step it is what its text says. So a sum whose first part has been pruned to the text in the dataset, at
/// one instance and not at another, goes on alike (I-6).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Total {
    /// Integers so far, or a float that shows as one; exact, whatever 64 bits hold.
    Integer(i128),
    /// With a fraction, or beyond 64 bits.
    Float(f64),
}

impl From<Number> for Total {
    fn from(base: Number) -> Self {
        match base {
            Number::Integer(integer) => Total::Integer(integer.into()),
            Number::Float(float) => Total::Float(float),
        }
    }
}

impl Total {
    /// One step.
    #[must_use]
    pub fn plus(self, delta: Number) -> Self {
        let sum = match (self, delta) {
            (Total::Integer(sum), Number::Integer(delta)) => return Total::Integer(sum + i128::from(delta)),
            (Total::Integer(sum), Number::Float(delta)) => add_decimal(sum as f64, delta),
            (Total::Float(sum), delta) => add_decimal(sum, delta.as_float()),
        };
        // INCRBYFLOAT refuses what is not finite; two concurrent ones can still add up to it.
        let finite = if sum.is_nan() { 0.0 } else { sum.clamp(f64::MIN, f64::MAX) };
        Number::parse(Number::Float(finite).format().as_bytes()).map_or(Total::Float(finite), Total::from)
    }

    /// What is shown, and whether it is a limit because the exact sum does not fit 64 bits.
    #[must_use]
    pub fn shown(self) -> (Number, bool) {
        match self {
            Total::Float(sum) => (Number::Float(sum), false),
            Total::Integer(exact) => {
                let clamped = exact.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
                (Number::Integer(clamped), i128::from(clamped) != exact)
            }
        }
    }
}

/// The sum of two floats of strings or hash fields: of the shortest decimals that stand for them, rounded once. Sorted-set
/// scores are added as plain doubles, as servers do.
#[must_use]
pub fn add_decimal(a: f64, b: f64) -> f64 {
    match (decimal_units(a), decimal_units(b)) {
        (Some(x), Some(y)) => from_units(x + y),
        _ => a + b,
    }
}

/// Digits behind the point that servers show (`%.17Lf`).
const DECIMALS: usize = 17;

/// One, in units of the last digit shown.
const ONE: i128 = 10_i128.pow(DECIMALS as u32);

/// Sums are decimal below this: 1e18 in units of 1e-17 leaves room for a sum in 127 bits.
const DECIMAL_LIMIT: f64 = 1e18;

/// A double as a whole number of 1e-17, if its shortest decimal is one.
fn decimal_units(float: f64) -> Option<i128> {
    if float.is_nan() || float.abs() >= DECIMAL_LIMIT {
        return None;
    }
    let text = float.abs().to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let padding = 10_i128.pow(DECIMALS.checked_sub(fraction.len())? as u32);
    let fraction = if fraction.is_empty() { 0 } else { fraction.parse::<i128>().ok()? };
    let units = whole.parse::<i128>().ok()? * ONE + fraction * padding;
    Some(if float < 0.0 { -units } else { units })
}

/// The double nearest to `units` of 1e-17.
fn from_units(units: i128) -> f64 {
    let sign = if units < 0 { "-" } else { "" };
    let (whole, fraction) = (units.unsigned_abs() / ONE.unsigned_abs(), units.unsigned_abs() % ONE.unsigned_abs());
    format!("{sign}{whole}.{fraction:0DECIMALS$}").parse().unwrap_or(units as f64 / ONE as f64)
}

/// A float as servers read it (`string2ld`), infinities included, NaN not: right for sorted-set scores, too.
#[must_use]
pub fn parse_float(text: &[u8]) -> Option<f64> {
    if text.len() >= Number::TEXT_BYTES_MAX {
        return None;
    }
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1.0, digits),
        [b'+', digits @ ..] => (1.0, digits),
        digits => (1.0, digits),
    };
    let value = match digits {
        [b'0', b'x' | b'X', hex @ ..] => parse_hex(std::str::from_utf8(hex).ok()?)?,
        [b'0'..=b'9' | b'.', ..] => std::str::from_utf8(digits).ok()?.parse().ok()?,
        word => infinity(word)?,
    };
    Some(sign * value)
}

/// Hexadecimal digits with an optional point and an optional binary exponent, rounded once.
fn parse_hex(text: &str) -> Option<f64> {
    let (digits, exponent) = match text.split_once(['p', 'P']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (mut mantissa, mut shift) = (0_u64, 0_i32);
    for (i, digit) in whole.chars().chain(fraction.chars()).enumerate() {
        let digit = u64::from(digit.to_digit(16)?);
        let behind_point = i >= whole.chars().count();
        if mantissa >> 58 == 0 {
            mantissa = mantissa << 4 | digit;
            shift -= if behind_point { 4 } else { 0 };
        } else {
            // Of further digits only whether they are all zero matters for rounding.
            mantissa |= u64::from(digit != 0);
            shift += if behind_point { 0 } else { 4 };
        }
    }
    Some(scale(mantissa as f64, exponent.saturating_add(shift)))
}

/// `value * 2^exponent`, in steps that neither overflow nor underflow early.
fn scale(mut value: f64, exponent: i32) -> f64 {
    const STEP: i32 = 512;
    // From its bits: `powi` may differ between CPUs.
    let power = |exponent: i32| f64::from_bits(((exponent + 1023) as u64) << 52);
    let mut exponent = exponent.clamp(-4 * STEP, 4 * STEP);
    while exponent.abs() > STEP {
        let step = STEP * exponent.signum();
        value *= power(step);
        exponent -= step;
    }
    value * power(exponent)
}

fn infinity(word: &[u8]) -> Option<f64> {
    let is_infinity = word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"infinity");
    is_infinity.then_some(f64::INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_have_one_form() {
        assert_eq!(Number::parse(b"0"), Some(Number::Integer(0)));
        assert_eq!(Number::parse(b"-12"), Some(Number::Integer(-12)));
        assert_eq!(Number::parse(b"9223372036854775807"), Some(Number::Integer(i64::MAX)));
        for float in [&b"-0"[..], b"007", b"+1", b"9223372036854775808"] {
            assert!(matches!(Number::parse(float), Some(Number::Float(_))), "{float:?}");
        }
        for text in [
            &b""[..],
            b" 1",
            b"1 ",
            b"abc",
            b"1a",
            b"nan",
            b"-nan",
            b"0x",
            b"0xg",
            b"--1",
            b"+-1",
            b"e5",
            b".",
            b"inf",
            b"1e999",
            b"-",
        ] {
            assert_eq!(Number::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn floats_print_without_exponent() {
        assert_eq!(Number::Float(10.5).format(), "10.5");
        assert_eq!(Number::Float(-0.0).format(), "0");
        assert_eq!(Number::Float(3.0).format(), "3");
        assert_eq!(Number::Float(5e3).format(), "5000");
        assert_eq!(Number::Float(1e-20).format(), "0");
        assert_eq!(Number::Float(1e21).format(), "1000000000000000000000");
    }

    #[test]
    fn floats_are_what_strtold_takes() {
        let taken =
            [("007", 7.0), ("+1", 1.0), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("0x10", 16.0), ("-0x.8p1", -1.0)];
        for (text, value) in taken {
            assert_eq!(Number::parse(text.as_bytes()), Some(Number::Float(value)), "{text}");
        }
        assert_eq!(parse_float(b"-inf"), Some(f64::NEG_INFINITY));
        assert_eq!(parse_float(b"0x1.fffffffffffff8p0"), Some(2.0), "rounds once, to even");
    }

    /// Found by the simulation (seed 1046): one instance had pruned 0.1 - 1e16 to its text, an integer.
    #[test]
    fn a_total_goes_on_from_its_text() {
        let total = Total::from(Number::Float(0.1)).plus(Number::Float(-1e16));
        assert_eq!(total, Total::Integer(-10_000_000_000_000_000));
        assert_eq!(total.plus(Number::Integer(-5)).shown(), (Number::Integer(-10_000_000_000_000_005), false));
        let beyond = Total::from(Number::Integer(i64::MAX)).plus(Number::Integer(1));
        assert_eq!(beyond.shown(), (Number::Integer(i64::MAX), true));
        assert_eq!(beyond.plus(Number::Integer(-1)).shown(), (Number::Integer(i64::MAX), false));
    }

    #[test]
    fn sums_are_decimal() {
        assert_eq!(add_decimal(0.1, 0.2), 0.3);
        assert_eq!(add_decimal(10.5, 0.1), 10.6);
        assert_eq!(add_decimal(-0.3, 0.1), -0.2);
        assert_eq!(add_decimal(1e300, 1e300), 2e300, "beyond decimals: as doubles");
    }

    proptest! {
        #[test]
        fn decimal_sums_commute_and_are_near(a in -1e9..1e9_f64, b in -1e9..1e9_f64) {
            prop_assert_eq!(add_decimal(a, b).to_bits(), add_decimal(b, a).to_bits());
            prop_assert!((add_decimal(a, b) - (a + b)).abs() <= 1e-6);
        }

        #[test]
        fn any_text_is_read_without_panic(text: Vec<u8>) {
            let _ = Number::parse(&text);
        }

        #[test]
        fn integers_round_trip(value: i64) {
            prop_assert_eq!(Number::parse(Number::Integer(value).format().as_bytes()), Some(Number::Integer(value)));
        }

        #[test]
        fn a_printed_float_prints_the_same_again(value in -1e18..1e18_f64) {
            let text = Number::Float(value).format();
            let again = Number::parse(text.as_bytes()).expect("a number").format();
            prop_assert_eq!(text, again);
        }
    }
}
