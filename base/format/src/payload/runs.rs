//! The run block: which series has how many points, where in time.

use crate::FormatError;

/// Consecutive points of one series.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// Number of the series in the label block.
    pub series: u32,
    /// Points, at least one.
    pub points: u32,
    /// First timestamp, milliseconds from the window's start.
    pub first_ms: u32,
    /// Milliseconds between points; 0 = irregular: all its timestamps, the first one too, are in `Points`. A single point has step 1.
    pub step_ms: u32,
}

impl Run {
    /// Whether its timestamps are in [`super::Points::timestamps`].
    pub fn is_irregular(&self) -> bool {
        self.step_ms == 0
    }
}

/// Decodes the run block of a payload, or of a prefix of `census_len` bytes. Regular runs end inside the window.
pub fn decode_runs(_payload: &[u8]) -> Result<Vec<Run>, FormatError> {
    todo!()
}
