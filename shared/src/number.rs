//! Numbers that increments add up (DESIGN 2, MERGE_RULES 5): the text a server takes for one.

/// An amount: what `INCRBY`, `HINCRBYFLOAT`, `ZINCRBY`, ... add.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Of `INCRBY`, `HINCRBY`.
    Integer(i64),
    /// Of the others. Never NaN.
    Float(f64),
}

impl Number {
    /// The longest text that servers take for a number (`MAX_LONG_DOUBLE_CHARS` in Redis's util.h).
    pub(crate) const TEXT_BYTES_MAX: usize = 5 * 1024;

    /// Reads a number as servers do: an integer in its one form (`string2ll` in Redis's util.c: no sign but `-`, no
    /// leading zero, no space), else a float without spaces around it (`strtold`, hexadecimal included).
    ///
    /// NaN is none, and so is what is not finite as a double: servers refuse to add to infinity.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let float = || parse_float(text).filter(|float| float.is_finite()).map(Number::Float);
        parse_integer(text).map(Number::Integer).or_else(float)
    }

    /// As a double.
    #[must_use]
    pub const fn as_float(self) -> f64 {
        match self {
            Number::Integer(value) => value as f64,
            Number::Float(value) => value,
        }
    }
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

/// One step of a sum of scores: as servers add them. Opposite infinities make 0, as in `ZUNIONSTORE`.
#[must_use]
pub fn add_scores(a: f64, b: f64) -> f64 {
    let sum = a + b;
    if sum.is_nan() { 0.0 } else { sum }
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
    fn floats_are_what_strtold_takes() {
        let taken =
            [("007", 7.0), ("+1", 1.0), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("0x10", 16.0), ("-0x.8p1", -1.0)];
        for (text, value) in taken {
            assert_eq!(Number::parse(text.as_bytes()), Some(Number::Float(value)), "{text}");
        }
        assert_eq!(parse_float(b"-inf"), Some(f64::NEG_INFINITY));
        assert_eq!(parse_float(b"0x1.fffffffffffff8p0"), Some(2.0), "rounds once, to even");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text: Vec<u8>) {
            let _ = Number::parse(&text);
        }

        #[test]
        fn integers_round_trip(value: i64) {
            prop_assert_eq!(Number::parse(value.to_string().as_bytes()), Some(Number::Integer(value)));
        }
    }
}
