//! Numbers that increments add up (DESIGN 2, MERGE_RULES 5).

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
    /// leading zero, no space), else a float without spaces around it.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        parse_integer(text).map(Number::Integer).or_else(|| parse_float(text).map(Number::Float))
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
    /// that 0.1 + 0.2 prints as the `f64` sum and nothing depends on the width of `long double`.
    #[must_use]
    pub fn format(self) -> String {
        match self {
            Number::Integer(value) => value.to_string(),
            Number::Float(value) if value == 0.0 => "0".into(),
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

fn parse_float(text: &[u8]) -> Option<f64> {
    let plain = text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E'));
    let value: f64 = if plain && text.len() <= Number::TEXT_BYTES_MAX {
        std::str::from_utf8(text).ok()?.parse().ok()?
    } else {
        infinity(text)?
    };
    Some(value)
}

fn infinity(text: &[u8]) -> Option<f64> {
    let (sign, word) = match text {
        [b'-', word @ ..] => (-1.0, word),
        [b'+', word @ ..] => (1.0, word),
        word => (1.0, word),
    };
    let is_infinity = word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"infinity");
    is_infinity.then_some(sign * f64::INFINITY)
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
        for text in [&b""[..], b" 1", b"1 ", b"abc", b"1a", b"nan", b"0x1p3", b"-"] {
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
        assert_eq!(Number::parse(b"-inf"), Some(Number::Float(f64::NEG_INFINITY)));
    }

    proptest! {
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
