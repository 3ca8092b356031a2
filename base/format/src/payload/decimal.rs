//! Doubles that are short decimals: `v` is bit for bit `m / 10^e` with |m| < 2^50 and e <= 14.
//!
//! If v is such a decimal for one e, it is for every greater e that keeps |m| below the limit: m / 10^e is then the same rational number, both
//! operands are exact doubles, and division rounds correctly. So one test at the greatest e tells whether there is any.

/// Greatest exponent.
pub(super) const EXPONENT_MAX: usize = 14;
/// 10^e.
pub(super) const POWERS: [f64; EXPONENT_MAX + 1] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14];
/// 2^50: the product v * 10^e is then off by less than 1/8, so rounding it finds m.
const LIMIT: f64 = (1u64 << 50) as f64;
/// 1.5 * 2^52: adding it rounds to an integer, whose two's complement stands in the low bits.
const MAGIC: f64 = 6_755_399_441_055_744.0;

/// m of a value that [`fits`] at this exponent.
pub(super) fn mantissa(value: f64, power: f64) -> i64 {
    (value * power + MAGIC).to_bits().wrapping_sub(MAGIC.to_bits()) as i64
}

/// Whether `value` = m / power, bit for bit.
fn fits(value: f64, power: f64) -> bool {
    let scaled = value * power;
    let rounded = (scaled + MAGIC) - MAGIC;
    // -0.0, infinities and NaN fail here: 0 / power is +0.0, and comparisons with NaN are false.
    (scaled.abs() < LIMIT) & ((rounded / power).to_bits() == value.to_bits())
}

/// Whether `value` is such a decimal at any exponent.
pub(super) fn is_decimal(value: f64) -> bool {
    let binary = (value.to_bits() >> 52 & 0x7ff) as i64 - 1023;
    // |value| < 2^(binary + 1), and 10^e <= 2^(49 - binary) where e <= (49 - binary) * log10(2).
    let greatest = (49 - binary) * 30_102 / 100_000;
    (0..=1_100).contains(&greatest) && fits(value, POWERS[(greatest as usize).min(EXPONENT_MAX)])
}

/// The least exponent of a value.
fn least_exponent(value: f64) -> Option<usize> {
    if fits(value, 1.0) {
        return Some(0);
    }
    if !is_decimal(value) {
        return None;
    }
    (1..=EXPONENT_MAX).find(|exponent| fits(value, POWERS[*exponent]))
}

/// The longest prefix that is decimal with one exponent, and that exponent.
pub(super) fn prefix(values: &[f64]) -> (usize, usize) {
    let mut exponent = 0;
    let mut greatest = 0f64;
    let mut done = 0;
    while done < values.len() {
        let chunk = &values[done..values.len().min(done + 64)];
        let power = POWERS[exponent];
        let good = chunk.iter().fold(true, |good, value| good & fits(*value, power));
        if good {
            greatest = chunk.iter().fold(greatest, |greatest, value| greatest.max(value.abs()));
            done += chunk.len();
            continue;
        }
        for value in chunk {
            if !fits(*value, POWERS[exponent]) {
                let Some(needed) = least_exponent(*value) else { return (done, exponent) };
                // Those before fit a greater exponent too, unless they get too long.
                if needed <= exponent || greatest * POWERS[needed] >= LIMIT {
                    return (done, exponent);
                }
                exponent = needed;
            }
            greatest = greatest.max(value.abs());
            done += 1;
        }
    }
    (done, exponent)
}
