//! Rivals that need no server: other ways to store the rows of a data set, complete with labels, and to read them back.

pub(crate) mod gorilla;
pub(crate) mod parquet;
pub(crate) mod zstd;

/// What a rival needed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Bytes of all, labels too.
    pub(crate) bytes: usize,
    /// Seconds to write, one core.
    pub(crate) encode_s: f64,
    /// Seconds to read all timestamps and values, one core; the best of some runs.
    pub(crate) decode_s: f64,
}
