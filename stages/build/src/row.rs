//! The row between the two halves of the build plan: some points of one bucket, run by run, with all that a merge needs to know of them.
//!
//! ```text
//! bucket      u32 column
//! payloads    per payload: received_at i64 | epoch u32 | partition u32 | offset u64
//! metas       per distinct metadata: kind u8 | interval_s u32 | unit length u32 | unit
//! series      per series: key u128 | print u64 | tags length u32 | tags (`labels`)
//! runs        per run: series u32 | payload u32 | meta u32 (2^32 - 1: nothing said) | index u32 | points u32; positions above
//! timestamps  per point: u32, milliseconds in the window, run by run
//! values      per point: f64
//! ```
//! Little-endian. A row lives within one build of one process family; it is no file format and has no checksum.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type};
use bytes::Bytes;
use datafusion::error::{DataFusionError, Result as PlanResult};
use hashbrown::HashMap;
use tailors_format::FormatError;
use tailors_format::bytes::Cursor;
use tailors_format::payload::LabelSeries;
use tailors_model::{MetricKind, Tag};

use crate::BuildError;
use crate::labels::{Identity, get_tags, put_tags, show};
use crate::merge::Order;

/// Points of a row at most, so that a batch of rows stays a few MiB.
pub(crate) const ROW_POINTS_MAX: usize = 8_192;
/// Number of a meta that says nothing.
const NO_META: u32 = u32::MAX;
const COLUMNS: [&str; 6] = ["payloads", "metas", "series", "runs", "timestamps", "values"];
const RUN_BYTES: usize = 20;

/// Columns of the build plan.
pub(crate) fn schema() -> SchemaRef {
    let blobs = COLUMNS.iter().map(|name| Field::new(*name, DataType::Binary, false));
    Arc::new(Schema::new(std::iter::once(Field::new("bucket", DataType::UInt32, false)).chain(blobs).collect::<Vec<_>>()))
}

/// Two series of one working key.
pub(crate) fn collision(key: u128, one: &[u8], other: &[u8]) -> DataFusionError {
    let text = |tags: &[u8]| get_tags(tags).map_or_else(|error| error.to_string(), |tags| show(&tags));
    let why = format!("two series have the working key {key:032x}: {} and {}", text(one), text(other));
    DataFusionError::External(Box::new(BuildError::Collision(why)))
}

/// A run as the builder takes it.
pub(crate) struct NewRun<'a> {
    /// Order of its first point.
    pub(crate) order: Order,
    pub(crate) identity: Identity,
    pub(crate) series: &'a LabelSeries,
    pub(crate) timestamps: &'a [u32],
    pub(crate) values: &'a [f64],
}

struct Known {
    number: u32,
    print: u64,
    /// Its tags in the series column.
    tags: std::ops::Range<usize>,
}

/// A row that grows.
#[derive(Default)]
pub(crate) struct RowBuilder {
    payload: Option<Order>,
    payloads: Vec<u8>,
    metas: Vec<u8>,
    series: Vec<u8>,
    runs: Vec<u8>,
    timestamps: Vec<u8>,
    values: Vec<u8>,
    known_series: HashMap<u128, Known>,
    known_metas: HashMap<(MetricKind, u32, Bytes), u32>,
}

impl RowBuilder {
    /// Points so far.
    pub(crate) fn points(&self) -> usize {
        self.timestamps.len() / 4
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> usize {
        let blobs = [&self.payloads, &self.metas, &self.series, &self.runs, &self.timestamps, &self.values];
        blobs.iter().map(|blob| blob.len()).sum::<usize>() + self.known_series.len() * 64
    }

    /// Appends a run; `tags` are those of its series.
    pub(crate) fn push<'a>(&mut self, run: &NewRun<'a>, tags: impl Iterator<Item = &'a Tag>) -> PlanResult<()> {
        let payload = self.payload_number(Order { index: 0, ..run.order });
        let meta = self.meta_number(run.series);
        let series = self.series_number(run.identity, tags)?;
        for number in [series, payload, meta, run.order.index, run.timestamps.len() as u32] {
            self.runs.extend_from_slice(&number.to_le_bytes());
        }
        self.timestamps.extend(run.timestamps.iter().flat_map(|stamp| stamp.to_le_bytes()));
        self.values.extend(run.values.iter().flat_map(|value| value.to_le_bytes()));
        Ok(())
    }

    fn payload_number(&mut self, order: Order) -> u32 {
        if self.payload != Some(order) {
            self.payload = Some(order);
            self.payloads.extend_from_slice(&order.received_at_us.to_le_bytes());
            self.payloads.extend_from_slice(&order.epoch.to_le_bytes());
            self.payloads.extend_from_slice(&order.partition.to_le_bytes());
            self.payloads.extend_from_slice(&order.offset.to_le_bytes());
        }
        (self.payloads.len() / 24 - 1) as u32
    }

    fn meta_number(&mut self, series: &LabelSeries) -> u32 {
        if series.kind == MetricKind::Unknown && series.interval_s == 0 && series.unit.is_empty() {
            return NO_META;
        }
        let next = self.known_metas.len() as u32;
        let number = *self.known_metas.entry((series.kind, series.interval_s, series.unit.clone())).or_insert(next);
        if number == next {
            self.metas.push(series.kind as u8);
            self.metas.extend_from_slice(&series.interval_s.to_le_bytes());
            self.metas.extend_from_slice(&(series.unit.len() as u32).to_le_bytes());
            self.metas.extend_from_slice(&series.unit);
        }
        number
    }

    fn series_number<'a>(&mut self, identity: Identity, tags: impl Iterator<Item = &'a Tag>) -> PlanResult<u32> {
        if let Some(known) = self.known_series.get(&identity.key) {
            if known.print == identity.print {
                return Ok(known.number);
            }
            let mut other = Vec::new();
            put_tags(&mut other, tags).map_err(internal)?;
            return Err(collision(identity.key, &self.series[known.tags.clone()], &other));
        }
        let number = self.known_series.len() as u32;
        self.series.extend_from_slice(&identity.key.to_le_bytes());
        self.series.extend_from_slice(&identity.print.to_le_bytes());
        let length_at = self.series.len();
        self.series.extend_from_slice(&[0; 4]);
        let start = self.series.len();
        put_tags(&mut self.series, tags).map_err(internal)?;
        let length = (self.series.len() - start) as u32;
        self.series[length_at..start].copy_from_slice(&length.to_le_bytes());
        self.known_series.insert(identity.key, Known { number, print: identity.print, tags: start..self.series.len() });
        Ok(number)
    }
}

/// Finished rows -> a batch.
pub(crate) fn batch(rows: &[(u32, RowBuilder)]) -> PlanResult<RecordBatch> {
    let blob =
        |of: fn(&RowBuilder) -> &Vec<u8>| -> ArrayRef { Arc::new(BinaryArray::from_iter_values(rows.iter().map(|(_, row)| of(row)))) };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|(bucket, _)| *bucket))),
        blob(|row| &row.payloads),
        blob(|row| &row.metas),
        blob(|row| &row.series),
        blob(|row| &row.runs),
        blob(|row| &row.timestamps),
        blob(|row| &row.values),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

/// A row out of a batch.
pub(crate) struct Row<'a> {
    pub(crate) bucket: u32,
    /// Of each payload, index 0.
    pub(crate) payloads: Vec<Order>,
    /// Kind, interval in seconds, unit.
    pub(crate) metas: Vec<(MetricKind, u32, Bytes)>,
    pub(crate) series: Vec<RowSeries<'a>>,
    runs: &'a [u8],
    pub(crate) timestamps: &'a [u8],
    pub(crate) values: &'a [u8],
}

/// A series of a row.
pub(crate) struct RowSeries<'a> {
    pub(crate) identity: Identity,
    /// Tags as they travel.
    pub(crate) tags: &'a [u8],
}

/// A run of a row.
#[derive(Clone, Copy)]
pub(crate) struct RowRun {
    pub(crate) series: u32,
    pub(crate) payload: u32,
    pub(crate) meta: Option<u32>,
    pub(crate) index: u32,
    pub(crate) points: u32,
}

/// Points of a row: timestamps and values as bytes.
pub(crate) fn points(batch: &RecordBatch, row: usize) -> (&[u8], &[u8]) {
    (batch.column(5).as_binary::<i32>().value(row), batch.column(6).as_binary::<i32>().value(row))
}

impl<'a> Row<'a> {
    /// Reads row number `row`.
    pub(crate) fn of(batch: &'a RecordBatch, row: usize) -> PlanResult<Self> {
        let blob = |column: usize| batch.column(column).as_binary::<i32>().value(row);
        let (timestamps, values) = points(batch, row);
        Ok(Self {
            bucket: batch.column(0).as_primitive::<UInt32Type>().value(row),
            payloads: payloads(blob(1)).map_err(internal)?,
            metas: metas(blob(2)).map_err(internal)?,
            series: series(blob(3)).map_err(internal)?,
            runs: blob(4),
            timestamps,
            values,
        })
    }

    /// Its runs.
    pub(crate) fn runs(&self) -> impl Iterator<Item = RowRun> {
        let (runs, _) = self.runs.as_chunks::<RUN_BYTES>();
        runs.iter().map(|run| {
            let (numbers, _) = run.as_chunks::<4>();
            let number = |at: usize| numbers.get(at).map_or(0, |bytes| u32::from_le_bytes(*bytes));
            let meta = Some(number(2)).filter(|meta| *meta != NO_META);
            RowRun { series: number(0), payload: number(1), meta, index: number(3), points: number(4) }
        })
    }
}

fn payloads(bytes: &[u8]) -> Result<Vec<Order>, FormatError> {
    let mut cursor = Cursor::new("payloads of a row", bytes);
    let mut out = Vec::with_capacity(bytes.len() / 24);
    while cursor.remaining() > 0 {
        let received_at_us = cursor.i64()?;
        out.push(Order { received_at_us, epoch: cursor.u32()?, partition: cursor.u32()?, offset: cursor.u64()?, index: 0 });
    }
    Ok(out)
}

fn metas(bytes: &[u8]) -> Result<Vec<(MetricKind, u32, Bytes)>, FormatError> {
    let mut cursor = Cursor::new("metas of a row", bytes);
    let mut out = Vec::new();
    while cursor.remaining() > 0 {
        let kind = MetricKind::from_u8(cursor.u8()?).unwrap_or_default();
        let interval_s = cursor.u32()?;
        let length = cursor.u32()? as usize;
        out.push((kind, interval_s, Bytes::copy_from_slice(cursor.take(length)?)));
    }
    Ok(out)
}

fn series(bytes: &[u8]) -> Result<Vec<RowSeries<'_>>, FormatError> {
    let mut cursor = Cursor::new("series of a row", bytes);
    let mut out = Vec::new();
    while cursor.remaining() > 0 {
        let (low, high) = (cursor.u64()?, cursor.u64()?);
        let identity = Identity { key: u128::from(high) << 64 | u128::from(low), print: cursor.u64()? };
        let length = cursor.u32()? as usize;
        out.push(RowSeries { identity, tags: cursor.take(length)? });
    }
    Ok(out)
}

/// Rows are made and read by this crate: one that doesn't parse is a bug.
pub(crate) fn internal(error: FormatError) -> DataFusionError {
    DataFusionError::Internal(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tailors_engine::find_error;

    #[test]
    fn rows_read_back_and_equal_keys_of_different_series_are_named() {
        let series =
            LabelSeries { metric: 0, tags_start: 0, tags_len: 1, kind: MetricKind::Rate, unit: Bytes::from_static(b"ms"), interval_s: 10 };
        let (one, two) = ([Tag::pair("host", "one")], [Tag::pair("host", "two")]);
        let new = |key, print, index| NewRun {
            order: Order { received_at_us: 5, epoch: 1, partition: 2, offset: 3, index },
            identity: Identity { key, print },
            series: &series,
            timestamps: &[7, 8],
            values: &[1.5, -0.0],
        };
        let mut row = RowBuilder::default();
        row.push(&new(1, 10, 0), one.iter()).expect("first");
        row.push(&new(2, 20, 2), two.iter()).expect("second");
        row.push(&new(1, 10, 4), one.iter()).expect("first again");
        let error = row.push(&new(1, 11, 6), two.iter()).expect_err("a collision");
        let text = find_error::<BuildError>(&error).map(ToString::to_string).unwrap_or_default();
        assert!(text.contains("host:one") && text.contains("host:two"), "{text}");
        let batch = batch(&[(9, row)]).expect("batch");
        let row = Row::of(&batch, 0).expect("row");
        assert_eq!((row.bucket, row.payloads.len(), row.series.len(), row.metas.len()), (9, 1, 2, 1));
        assert_eq!(get_tags(row.series[1].tags).expect("tags"), two);
        let runs: Vec<_> = row.runs().map(|run| (run.series, run.payload, run.meta, run.index, run.points)).collect();
        assert_eq!(runs, [(0, 0, Some(0), 0, 2), (1, 0, Some(0), 2, 2), (0, 0, Some(0), 4, 2)]);
        assert_eq!((row.timestamps.len(), row.values.len()), (24, 48));
    }
}
