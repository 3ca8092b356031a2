//! The decoder seam: a protocol's body becomes `Item`s, one after the other, through a plain function. A further protocol is a further module and
//! one more arm in `decode`.
//!
//! Items borrow from the body and from buffers that are reused: nothing is allocated per point or label. A decoder checks what its protocol says
//! (shape, names, UTF-8, duplicates); limits and time are checked once for all protocols, in `admit`.

pub mod datadog;
pub mod remote_write;
mod wire;

use tailors_format::payload::{SeriesMeta, TagRef};
use tailors_model::MetricMeta;

use crate::refusal::{Cause, Reason, Refusal};

/// What a path speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// Prometheus remote write 1.0.
    RemoteWrite,
    /// Datadog's `/api/v2/series` as JSON, and the key check.
    Datadog,
}

/// One finding in a body.
#[derive(Debug)]
pub enum Item<'a> {
    /// Points of one series, in request order; may be empty.
    Series(SeriesBatch<'a>),
    /// Metadata of a metric that came without samples.
    Metadata {
        /// Metric name; not empty.
        metric: &'a [u8],
        /// Its metadata.
        meta: MetricMeta,
    },
    /// Points that can't be stored.
    Refused {
        /// Why.
        reason: Reason,
        /// How many; 0 when the series had none, yet is bad.
        points: u64,
        /// Of which metric, as far as known.
        metric: &'a [u8],
    },
}

/// Points of one series.
#[derive(Clone, Copy, Debug)]
pub struct SeriesBatch<'a> {
    /// Metric name; not empty.
    pub metric: &'a [u8],
    /// Canonical: sorted, no exact duplicates.
    pub tags: &'a [TagRef<'a>],
    /// Kind, unit, interval, as far as the protocol says.
    pub meta: SeriesMeta<'a>,
    /// Unix milliseconds.
    pub timestamps_ms: &'a [i64],
    /// As many as timestamps.
    pub values: &'a [f64],
}

/// Buffers that live from request to request.
#[derive(Debug, Default)]
pub struct DecodeScratch {
    timestamps_ms: Vec<i64>,
    values: Vec<f64>,
}

impl DecodeScratch {
    /// Gives back memory that an unusually large series took.
    pub(crate) fn trim(&mut self) {
        const POINTS_KEPT: usize = 64 << 10;
        self.timestamps_ms.clear();
        self.values.clear();
        self.timestamps_ms.shrink_to(POINTS_KEPT);
        self.values.shrink_to(POINTS_KEPT);
    }
}

/// Takes items; an error ends the decoding with that refusal.
pub type Each<'e> = dyn FnMut(Item<'_>) -> Result<(), Refusal> + 'e;

/// Decodes a decompressed body. Errors: undecodable, or more than `points_max` points; items given before it are to be thrown away.
pub fn decode(protocol: Protocol, body: &[u8], points_max: usize, scratch: &mut DecodeScratch, each: &mut Each<'_>) -> Result<(), Refusal> {
    match protocol {
        Protocol::RemoteWrite => remote_write::decode(body, points_max, scratch, each),
        Protocol::Datadog => datadog::decode(body, points_max, scratch, each),
    }
}

fn undecodable(detail: impl Into<String>) -> Refusal {
    Refusal::new(Cause::Undecodable, detail)
}

fn too_many_points(points_max: usize) -> Refusal {
    Refusal::new(Cause::Points, format!("more than {points_max} points in one request; send smaller batches"))
}

/// Canonical form of tags that borrow.
fn canonical(tags: &mut Vec<TagRef<'_>>) {
    tags.sort_unstable_by(|a, b| (a.key, a.kind, a.value).cmp(&(b.key, b.kind, b.value)));
    tags.dedup_by(|a, b| (a.key, a.kind, a.value) == (b.key, b.kind, b.value));
}

#[cfg(test)]
mod tests;
