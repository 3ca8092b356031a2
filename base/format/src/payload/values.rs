//! The point block.

use super::Run;
use crate::FormatError;

/// The point block.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Points {
    /// Milliseconds from the window's start, of all points of the irregular runs, in run order.
    pub timestamps: Vec<u32>,
    /// Values of all runs, in run order, bit-exact.
    pub values: Vec<f64>,
}

/// Decodes the point block; `runs` are those of the same payload.
pub fn decode_points(_payload: &[u8], _runs: &[Run]) -> Result<Points, FormatError> {
    todo!()
}
