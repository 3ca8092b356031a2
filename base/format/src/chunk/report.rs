//! What `inspect` prints: bytes of a file by part and by metric.

use std::collections::BTreeMap;

use tailors_model::OrgId;

use super::ChunkIndex;
use super::index::{ChunkEntry, PageEntry};
use super::layout::{CRC_BYTES, HEADER_BYTES, TRAILER_BYTES};
use super::value::Transform;

/// Bytes of a file by part.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct ChunkReport {
    /// Points in the file.
    pub points: u64,
    /// Series entries in the file.
    pub series: u64,
    /// (part, bytes) in file order; they sum to the file's length.
    pub parts: Vec<(&'static str, u64)>,
    /// Per metric, in file order.
    pub metrics: Vec<MetricReport>,
}

/// One metric of a report.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct MetricReport {
    /// Tenant.
    pub org: OrgId,
    /// Metric name; lossy if it is no UTF-8.
    pub metric: String,
    /// Series entries.
    pub series: u64,
    /// Points.
    pub points: u64,
    /// Bytes of its pages and their checksums: all metrics sum to those two parts. What it takes of the index is not told apart, and pages that it
    /// shares with a metric before it count there.
    pub bytes: u64,
    /// Encodings used, by name; their points and bytes sum to the metric's.
    pub encodings: Vec<EncodingReport>,
}

/// Values of a metric that are written in one way.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct EncodingReport {
    /// E.g. `1e-2 delta pco32` for differences of hundredths; `same` before it when the pages are those of an earlier metric.
    pub name: String,
    /// Points.
    pub points: u64,
    /// Pages.
    pub pages: u64,
    /// Bytes of these pages and their checksums, unless they are an earlier metric's.
    pub bytes: u64,
}

impl ChunkEntry {
    fn name(&self) -> String {
        let delta = if self.delta { " delta" } else { "" };
        let divisor = if self.divisor > 1 { format!(" x{}", self.divisor) } else { String::new() };
        let transform = match self.transform {
            Transform::Decimal(0) => "integers".to_owned(),
            Transform::Decimal(exponent) => format!("1e-{exponent}"),
            Transform::Binary(scale) => format!("2^-{scale}"),
            Transform::Double => "f64".to_owned(),
            Transform::Dictionary => "dictionary".to_owned(),
            Transform::Sketch => "sketch".to_owned(),
            Transform::Histogram => "histogram".to_owned(),
        };
        format!("{transform}{divisor}{delta} {}", self.coder.name())
    }
}

impl ChunkIndex {
    /// Bytes per part and metric.
    pub fn report(&self) -> ChunkReport {
        let sections = self.trailer.sections(self.file_len - TRAILER_BYTES as u64);
        let [times, series, labels, directory] = sections.map(|(_, _, range)| range.end - range.start);
        let own = |page: &&PageEntry| self.chunks.get(page.chunk as usize).is_some_and(|chunk| chunk.original == page.chunk);
        let checksums = (self.pages.iter().filter(own).count() * CRC_BYTES) as u64;
        let parts = vec![
            ("header", HEADER_BYTES as u64),
            ("pages", self.trailer.times_at - HEADER_BYTES as u64 - checksums),
            ("page checksums", checksums),
            ("times", times),
            ("series index", series),
            ("labels", labels),
            ("directory", directory),
            ("trailer", TRAILER_BYTES as u64),
        ];
        let metrics: Vec<MetricReport> = (0..self.metrics.len()).map(|metric| self.report_metric(metric)).collect();
        ChunkReport { points: metrics.iter().map(|metric| metric.points).sum(), series: self.series.len() as u64, parts, metrics }
    }

    fn report_metric(&self, metric: usize) -> MetricReport {
        let metric = &self.metrics[metric];
        let own = &self.series[metric.series.start as usize..metric.series.end as usize];
        let mut encodings: BTreeMap<String, EncodingReport> = BTreeMap::new();
        let constant: u64 =
            own.iter().filter(|series| series.constant().is_some()).map(|series| u64::from(self.times.points(series.time))).sum();
        if constant > 0 {
            encodings.insert("const".to_owned(), EncodingReport { points: constant, ..EncodingReport::default() });
        }
        // Chunks end where metrics do, so the metric's pages are those that begin among its values.
        let first = own.iter().find_map(|series| series.first_value()).unwrap_or(0);
        let last = first + metric.points - constant;
        let pages = self.pages.partition_point(|page| page.first < first)..self.pages.partition_point(|page| page.first < last);
        for page in &self.pages[pages] {
            let Some(chunk) = self.chunks.get(page.chunk as usize) else { continue };
            let is_own = chunk.original == page.chunk;
            let encoding = encodings.entry(if is_own { chunk.name() } else { format!("same {}", chunk.name()) }).or_default();
            encoding.points += u64::from(page.points);
            encoding.pages += 1;
            encoding.bytes += if is_own { u64::from(page.length) } else { 0 };
        }
        MetricReport {
            org: metric.org,
            metric: String::from_utf8_lossy(&metric.metric).into_owned(),
            series: u64::from(metric.series.end - metric.series.start),
            points: metric.points,
            bytes: encodings.values().map(|encoding| encoding.bytes).sum(),
            encodings: encodings.into_iter().map(|(name, encoding)| EncodingReport { name, ..encoding }).collect(),
        }
    }
}
