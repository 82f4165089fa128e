//! Numbers that increments add up (DESIGN 2, MERGE_RULES 5). Filled in by number arithmetic below.

/// An amount: what `INCRBY`, `HINCRBYFLOAT`, `ZINCRBY`, ... add.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Sums of integers alone are exact and clamp to 64 bits.
    Integer(i64),
    /// One float makes the sum a float.
    Float(f64),
}
