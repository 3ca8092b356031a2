//! Values of a series -> their class: how they become integers, exactly or not at all.
//!
//! Decimal test: integer i and exponent e <= 14 such that `i / 10^e` (division, not multiplication) has the very bits of the value. What fails
//! (-0.0, NaN with its payload, infinities, odd doubles) becomes an exception, if few do.

/// Powers of ten that an f64 holds exactly.
pub(super) const POW10: [f64; 15] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14];
/// Greatest exponent.
pub(super) const EXPONENT_MAX: u8 = 14;
/// Integers above this are not told apart by an f64.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;
const SAMPLE: usize = 256;

/// The integer i with `i / 10^e` bit-identical to the value.
#[inline]
pub(super) fn to_integer(value: f64, exponent: u8) -> Option<i64> {
    let power = POW10[usize::from(exponent)];
    let scaled = value * power;
    if scaled.is_nan() || scaled.abs() >= INTEGER_MAX {
        return None;
    }
    let integer = scaled.round() as i64;
    (to_value(integer, exponent).to_bits() == value.to_bits()).then_some(integer)
}

/// Inverse of [`to_integer`].
#[inline]
pub(super) fn to_value(integer: i64, exponent: u8) -> f64 {
    integer as f64 / POW10[usize::from(exponent)]
}

/// Least exponent at which the value is exact, from `from` on.
pub(super) fn exponent_of(value: f64, from: u8) -> Option<u8> {
    (from..=EXPONENT_MAX).find(|exponent| to_integer(value, *exponent).is_some())
}

fn is_special(value: f64) -> bool {
    !value.is_finite() || value.to_bits() == (-0.0f64).to_bits()
}

/// How the values of a series are stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Class {
    /// All bits equal: one value in the index.
    Const,
    /// Integers at this exponent, the rest exceptions.
    Decimal(u8),
    /// Doubles as they are.
    Float,
}

/// Whether at this exponent few enough values are exceptions.
pub(super) fn fits(values: &[f64], exponent: u8) -> bool {
    let (mut special, mut odd) = (0, 0);
    let odd_max = values.len() / 16;
    for value in values {
        if is_special(*value) {
            special += 1;
        } else if to_integer(*value, exponent).is_none() {
            odd += 1;
            if odd > odd_max {
                return false;
            }
        }
    }
    special * 2 <= values.len()
}

/// The class of a series; the exponent is the least that serves it.
pub(super) fn classify(values: &[f64]) -> Class {
    let first = values.first().copied().unwrap_or(0.0).to_bits();
    if values.iter().all(|value| value.to_bits() == first) {
        return Class::Const;
    }
    // Evenly spaced sample: tells full-mantissa series from decimal ones without fifteen tests for each of their values.
    let step = values.len().div_ceil(SAMPLE).max(1);
    let (mut exponent, mut decimal, mut odd) = (0, 0, 0);
    for value in values.iter().step_by(step).filter(|value| !is_special(**value)) {
        match exponent_of(*value, exponent).or_else(|| exponent_of(*value, 0)) {
            // Exact at a lower exponent only: a magnitude too great for the one in force.
            Some(e) => {
                decimal += 1;
                exponent = exponent.max(e);
            }
            None => odd += 1,
        }
    }
    if odd * 8 > decimal + odd || decimal == 0 {
        return Class::Float;
    }
    if fits(values, exponent) {
        return Class::Decimal(exponent);
    }
    let all = values.iter().filter(|value| !is_special(**value)).filter_map(|value| exponent_of(*value, exponent)).max();
    match all {
        Some(e) if fits(values, e) => Class::Decimal(e),
        _ => Class::Float,
    }
}

/// Greatest common divisor of the magnitudes; 1 when all are zero.
pub(super) fn gcd_of(integers: &[i64]) -> i64 {
    let mut gcd = 0u64;
    for integer in integers {
        let (mut a, mut b) = (gcd, integer.unsigned_abs());
        if gcd == 1 {
            break;
        }
        while b != 0 {
            (a, b) = (b, a % b);
        }
        gcd = a;
    }
    i64::try_from(gcd.max(1)).unwrap_or(1)
}
