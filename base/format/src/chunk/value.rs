//! Values <-> integers: which transform makes a series' doubles small integers, exactly.
//!
//! Decimal: integer i and exponent e <= 14 such that `i / 10^e` (division, not multiplication) has the very bits of the value. Binary: `i / 2^k`.
//! Double: the bits in numeric order, which is always exact. What a transform can't hold (-0.0, NaN with its payload, infinities, odd doubles)
//! becomes an exception, if few do.

/// Powers of ten that an f64 holds exactly.
pub(super) const POW10: [f64; 15] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14];
/// Greatest decimal exponent.
pub(super) const EXPONENT_MAX: u8 = 14;
/// Greatest binary exponent.
pub(super) const SCALE_MAX: u8 = 60;
/// Rounding by addition holds below this; above, an f64 hardly tells decimals from noise. Of what is rounded: 2^51 - 0.25 is below, its integer not.
const INTEGER_MAX: f64 = FRACTION_MAX as f64;
/// Integers of fractions, times their divisor, are below it in magnitude.
pub(super) const FRACTION_MAX: u64 = 1 << 51;
/// 1.5 x 2^52: adding and subtracting it rounds to an integer.
const ROUNDER: f64 = 6_755_399_441_055_744.0;
/// Constants may be greater integers than series.
const CONSTANT_MAX: f64 = (1u64 << 53) as f64;
const SAMPLE: usize = 64;

/// How integers become values.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Transform {
    /// `integer / 10^e`.
    Decimal(u8),
    /// `integer / 2^k`.
    Binary(u8),
    /// Integer = the bits in numeric order.
    Double,
    /// Integer = position in the chunk's sorted list of doubles.
    Dictionary,
    /// No doubles: sketches, taken apart into columns.
    Sketch,
    /// No doubles: native histograms, taken apart into columns.
    Histogram,
}

/// How a series is stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Class {
    /// All bits equal: one value in the index.
    Const,
    /// Integers in pages.
    Integers(Transform),
    /// Sketches or histograms: columns in pages.
    Distribution,
}

impl Transform {
    /// Whether integers are numerators: below 2^51, and -0.0, NaNs and infinities are exceptions.
    pub(super) fn is_fraction(self) -> bool {
        matches!(self, Self::Decimal(_) | Self::Binary(_))
    }

    /// What integers are divided by; 1 for those that are no fractions.
    pub(super) fn divisor(self) -> f64 {
        match self {
            Self::Decimal(exponent) => POW10[usize::from(exponent.min(EXPONENT_MAX))],
            Self::Binary(scale) => (1u64 << scale.min(SCALE_MAX)) as f64,
            Self::Double | Self::Dictionary | Self::Sketch | Self::Histogram => 1.0,
        }
    }
}

/// Doubles in numeric order as integers; inverse of [`from_ordered`].
pub(super) fn to_ordered(value: f64) -> i64 {
    let bits = value.to_bits() as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

/// Inverse of [`to_ordered`].
pub(super) fn from_ordered(integer: i64) -> f64 {
    f64::from_bits((integer ^ (((integer >> 63) as u64) >> 1) as i64) as u64)
}

/// The integer i with `i / divisor` bit-identical to the value.
#[inline]
fn to_fraction(value: f64, divisor: f64) -> Option<i64> {
    let scaled = value * divisor;
    let rounded = (scaled + ROUNDER) - ROUNDER;
    let exact = rounded.abs() < INTEGER_MAX && (rounded / divisor).to_bits() == value.to_bits();
    exact.then_some(rounded as i64)
}

/// An integer below 2^51 as a double: added to the bits of 1.5 x 2^52 it is the double behind it. Made vectors of, unlike a conversion.
#[inline]
pub(super) fn to_double(integer: i64) -> f64 {
    f64::from_bits((integer as u64).wrapping_add(ROUNDER.to_bits())) - ROUNDER
}

/// The integer that was added to 1.5 x 2^52.
#[inline]
fn low_bits(magic: f64) -> i64 {
    (magic.to_bits() as i64).wrapping_sub(ROUNDER.to_bits() as i64)
}

/// The integer as the lowest bits of a double, and 0 if it is exact. Without branches or comparisons of integers, so that compilers make vectors of it.
#[inline]
fn rounded(value: f64, divisor: f64) -> (f64, u64) {
    let scaled = value * divisor;
    let magic = scaled + ROUNDER;
    let integer = magic - ROUNDER;
    let too_great = if integer.abs() < INTEGER_MAX { 0 } else { 1 };
    (magic, too_great | ((integer / divisor).to_bits() ^ value.to_bits()))
}

/// Appends an integer for each value; those that the transform can't hold go to `exceptions` as (position, bits), and the integer before stands in.
pub(super) fn to_integers(values: &[f64], transform: Transform, out: &mut Vec<i64>, exceptions: &mut Vec<(usize, u64)>) {
    let start = out.len();
    if !transform.is_fraction() {
        out.extend(values.iter().map(|value| to_ordered(*value)));
        return;
    }
    let divisor = transform.divisor();
    out.resize(start + values.len(), 0);
    let mut bad = 0;
    for (value, out) in values.iter().zip(&mut out[start..]) {
        let (magic, own) = rounded(*value, divisor);
        bad |= own;
        *out = low_bits(magic);
    }
    if bad == 0 {
        return;
    }
    // Until there is one before, the first one of all stands in.
    let mut before = values.iter().find_map(|value| to_fraction(*value, divisor)).unwrap_or(0);
    for (i, value) in values.iter().enumerate() {
        match to_fraction(*value, divisor) {
            Some(integer) => before = integer,
            None => {
                exceptions.push((start + i, value.to_bits()));
                out[start + i] = before;
            }
        }
    }
}

/// The value of a constant as (exponent, integer), if it is a decimal.
pub(super) fn constant_parts(value: f64) -> Option<(u8, i64)> {
    (0..=EXPONENT_MAX).find_map(|exponent| {
        let scaled = (value * POW10[usize::from(exponent)]).round();
        let exact = scaled.abs() < CONSTANT_MAX && to_value(scaled as i64, exponent).to_bits() == value.to_bits();
        exact.then_some((exponent, scaled as i64))
    })
}

/// `integer / 10^exponent`.
#[inline]
pub(super) fn to_value(integer: i64, exponent: u8) -> f64 {
    integer as f64 / POW10[usize::from(exponent)]
}

pub(super) fn is_special(value: f64) -> bool {
    !value.is_finite() || value.to_bits() == (-0.0f64).to_bits()
}

/// Least exponent at which the value is exact, from `from` on.
fn exponent_of(value: f64, from: u8) -> Option<u8> {
    (from..=EXPONENT_MAX).find(|exponent| to_fraction(value, POW10[usize::from(*exponent)]).is_some())
}

/// Least k >= 0 such that `value x 2^k` is an integer.
fn scale_of(value: f64) -> Option<u8> {
    let bits = value.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i32 - 1023;
    let zeros = (bits | 1 << 52).trailing_zeros() as i32;
    let scale = (52 - zeros - exponent).max(0);
    (exponent > -1023 && scale <= i32::from(SCALE_MAX)).then_some(scale as u8).or((value == 0.0).then_some(0))
}

/// Whether few enough values are exceptions.
pub(super) fn fits(values: &[f64], transform: Transform) -> bool {
    let divisor = transform.divisor();
    if values.iter().fold(0, |bad, value| bad | rounded(*value, divisor).1) == 0 {
        return true;
    }
    let misses = values.iter().filter(|value| rounded(**value, divisor).1 != 0).count();
    let special = values.iter().filter(|value| is_special(**value)).count();
    special * 16 <= values.len() * 15 && misses.saturating_sub(special) <= values.len() / 16
}

/// The class of a series; the exponent is the least that serves it.
pub(super) fn classify(values: &[f64]) -> Class {
    let first = values.first().copied().unwrap_or(0.0).to_bits();
    if values.iter().all(|value| value.to_bits() == first) {
        return Class::Const;
    }
    Class::Integers(transform_of(values))
}

fn transform_of(values: &[f64]) -> Transform {
    // Evenly spaced sample: tells full-mantissa series from decimal ones without fifteen tests for each of their values.
    let step = values.len().div_ceil(SAMPLE).max(1);
    let sample = || values.iter().step_by(step).copied().filter(|value| !is_special(*value));
    let Some(exponent) = sampled_exponent(sample()) else {
        return binary(values, sample()).unwrap_or(Transform::Double);
    };
    if fits(values, Transform::Decimal(exponent)) {
        return Transform::Decimal(exponent);
    }
    let all = values.iter().filter(|value| !is_special(**value)).filter_map(|value| exponent_of(*value, exponent)).max();
    match all {
        Some(e) if fits(values, Transform::Decimal(e)) => Transform::Decimal(e),
        _ => binary(values, sample()).unwrap_or(Transform::Double),
    }
}

/// The greatest of the sampled values' exponents; `None` if too few are decimals.
fn sampled_exponent(sample: impl Iterator<Item = f64>) -> Option<u8> {
    let (mut kept, mut n) = ([0.0; SAMPLE], 0);
    for (value, kept) in sample.zip(&mut kept) {
        *kept = value;
        n += 1;
    }
    let (mut exponent, mut decimal, mut odd) = (0, 0u32, 0u32);
    for some in kept[..n].chunks(SAMPLE / 8) {
        // Mostly all are exact at the exponent in force, and all at once are tested in little time.
        let divisor = POW10[usize::from(exponent)];
        if some.iter().fold(0, |bad, value| bad | rounded(*value, divisor).1) == 0 {
            decimal += some.len() as u32;
            continue;
        }
        for value in some {
            match exponent_of(*value, exponent).or_else(|| exponent_of(*value, 0)) {
                // Exact at a lower exponent only: a magnitude too great for the one in force.
                Some(e) => {
                    decimal += 1;
                    exponent = exponent.max(e);
                }
                None => odd += 1,
            }
            if odd > 8 && odd > decimal {
                return None;
            }
        }
    }
    (odd * 8 <= decimal + odd && decimal > 0).then_some(exponent)
}

/// A binary scale, where it saves at least twelve bits of the mantissa: f32 widened to f64, sixteenths of small numbers.
fn binary(values: &[f64], sample: impl Iterator<Item = f64>) -> Option<Transform> {
    let (mut scale, mut most) = (0, 0f64);
    for value in sample {
        scale = scale.max(scale_of(value)?);
        most = most.max(value.abs());
    }
    let small = |scale: u8, most: f64| most * (1u64 << scale) as f64 <= (1u64 << 40) as f64;
    if !small(scale, most) {
        return None;
    }
    for value in values.iter().filter(|value| !is_special(**value)) {
        scale = scale.max(scale_of(*value)?);
        most = most.max(value.abs());
    }
    (small(scale, most) && fits(values, Transform::Binary(scale))).then_some(Transform::Binary(scale))
}

/// Greatest common divisor of the magnitudes; 1 when all are zero.
pub(super) fn gcd_of(integers: &[i64]) -> i64 {
    let mut gcd = 0u64;
    for some in integers.chunks(256) {
        // Mostly a block says nothing new, and for powers of two that shows in a few cycles.
        let low_bits = some.iter().fold(0, |bits, integer| bits | integer.unsigned_abs());
        if gcd.is_power_of_two() && low_bits & (gcd - 1) == 0 {
            if gcd == 1 {
                break;
            }
            continue;
        }
        for integer in some {
            let (mut a, mut b) = (gcd, integer.unsigned_abs());
            while b != 0 {
                (a, b) = (b, a % b);
            }
            gcd = a;
            if gcd == 1 {
                break;
            }
        }
    }
    i64::try_from(gcd.max(1)).unwrap_or(1)
}

/// Each integer but the first less the one before it; there is at least one.
pub(super) fn differences(integers: &[i64]) -> impl Iterator<Item = i64> {
    integers[1..].iter().zip(integers).map(|(after, before)| after.wrapping_sub(*before))
}

/// Divides integers of a fraction by what divides them all.
pub(super) fn divide(integers: &mut [i64], divisor: i64) {
    if divisor == 1 {
        return;
    }
    // Integers are below 2^51 and their quotients are integers, so doubles do it exactly, and processors do it to four at a time.
    let divisor = divisor as f64;
    integers.iter_mut().for_each(|integer| *integer = low_bits(to_double(*integer) / divisor + ROUNDER));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_doubles_is_kept_both_ways() {
        let doubles = [f64::NEG_INFINITY, f64::MIN, -1.0, -5e-324, -0.0, 0.0, 5e-324, 1.0, 1.5, f64::MAX, f64::INFINITY];
        assert!(doubles.windows(2).all(|pair| to_ordered(pair[0]) < to_ordered(pair[1])));
        assert!(doubles.iter().all(|value| from_ordered(to_ordered(*value)).to_bits() == value.to_bits()));
    }

    #[test]
    fn transforms_are_what_the_values_are() {
        let of = |values: &[f64]| match classify(values) {
            Class::Const | Class::Distribution => None,
            Class::Integers(transform) => Some(transform),
        };
        assert_eq!(of(&[2.5, 2.5]), None);
        assert_eq!(of(&[2.5, 2.25, 3.0]), Some(Transform::Decimal(2)));
        let widened: Vec<f64> = (0..100).map(|i| f64::from(1.0f32 / (i + 3) as f32)).collect();
        assert!(matches!(of(&widened), Some(Transform::Binary(_))));
        let noise: Vec<f64> = (1..100).map(|i| 75.0 + f64::from(i).sqrt().fract()).collect();
        assert_eq!(of(&noise), Some(Transform::Double));
    }
}
