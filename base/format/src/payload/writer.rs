//! The writer of a payload.

use tailors_model::MetricMeta;

use super::{SeriesMeta, Stamp, TagRef};
use crate::FormatError;

/// Collects points of one org and one window; reused, so that dictionaries and the zstd context keep their memory.
#[derive(Default)]
pub struct PayloadWriter {}

impl PayloadWriter {
    /// An empty writer. Its dictionaries are hashed with seed 0: see [`PayloadWriter::with_hash_seed`].
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty writer whose hash tables a sender can't aim at: `seed` is drawn once per process. It never reaches the bytes.
    pub fn with_hash_seed(_seed: u64) -> Self {
        Self::default()
    }

    /// Number of a series within this payload, the same for the same labels and metadata. Tags must be canonical (sorted, no duplicates).
    /// The number holds until `finish`.
    pub fn series(&mut self, _metric: &[u8], _tags: &[TagRef<'_>], _meta: SeriesMeta<'_>) -> u32 {
        todo!()
    }

    /// Appends points of a series in request order, Unix milliseconds, all inside the window that `finish` will name. Finds regular runs by itself.
    pub fn points(&mut self, _series: u32, _timestamps_ms: &[i64], _values: &[f64]) {
        todo!()
    }

    /// Metadata of a metric that came without samples.
    pub fn metadata(&mut self, _metric: &[u8], _meta: &MetricMeta) {
        todo!()
    }

    /// Points so far.
    pub fn points_len(&self) -> u32 {
        todo!()
    }

    /// Bytes before compression: an upper bound of what `finish` will give, for practical purposes.
    pub fn bytes_estimate(&self) -> usize {
        todo!()
    }

    /// Whether there is neither a point nor metadata.
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// The payload; clears the writer for reuse, also on error. Errors are the caller's mistakes: a point outside the window, an unknown series number,
    /// slices of different length, more than any reader takes.
    pub fn finish(&mut self, _stamp: &Stamp) -> Result<Vec<u8>, FormatError> {
        todo!()
    }
}
