//! Signed <-> unsigned, so that small magnitudes stay small: 0, -1, 1, -2 ... <-> 0, 1, 2, 3 ...

/// Maps signed to unsigned.
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Inverse of [`zigzag`].
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
