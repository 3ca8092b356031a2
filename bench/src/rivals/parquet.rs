//! Parquet with zstd-3: rows of metric, tags (both dictionary-coded text), milliseconds (DELTA_BINARY_PACKED), value; in order of series and time.

use std::sync::Arc;

use arrow::array::{Array, DictionaryArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::Measured;
use crate::Outcome;
use crate::data::{Dataset, START_S, fingerprint, tags_text};
use crate::timing::{best_s, time_cpu};

/// Rows of a batch.
const BATCH_ROWS: usize = 1 << 16;

/// How the values are coded below zstd.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Values {
    /// Dictionary, plain where it grows too large: the default.
    Dictionary,
    /// BYTE_STREAM_SPLIT.
    ByteStreamSplit,
}

/// Encodes, reads back, compares.
pub(crate) fn measure(dataset: &Dataset, values: Values) -> Outcome<Measured> {
    let (file, encode_s) = time_cpu(|| write(dataset, values));
    let file = file?;
    let mut sum = 0u64;
    read(&file, &mut |times, values| sum = sum.wrapping_add(fingerprint(times, values)))?;
    if sum != dataset.fingerprint() {
        return Err("Parquet: read back other points".into());
    }
    let decode_s = best_s(10, 2.0, || scan(&file))?;
    Ok(Measured { bytes: file.len(), encode_s, decode_s })
}

/// The file.
pub(crate) fn write(dataset: &Dataset, values: Values) -> Outcome<Bytes> {
    let text = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let schema = Arc::new(Schema::new(vec![
        Field::new("metric", text(), false),
        Field::new("tags", text(), false),
        Field::new("timestamp_ms", DataType::Int64, false),
        Field::new("value", DataType::Float64, false),
    ]));
    let (time, value) = (ColumnPath::from("timestamp_ms"), ColumnPath::from("value"));
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        // Labels always stay dictionaries: the default of 1 MiB would fall back to plain text.
        .set_column_dictionary_page_size_limit(ColumnPath::from("tags"), 256 << 20)
        .set_column_dictionary_enabled(time.clone(), false)
        .set_column_encoding(time, Encoding::DELTA_BINARY_PACKED);
    if values == Values::ByteStreamSplit {
        properties = properties.set_column_dictionary_enabled(value.clone(), false).set_column_encoding(value, Encoding::BYTE_STREAM_SPLIT);
    }
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties.build()))?;
    let metrics: Arc<StringArray> = Arc::new(dataset.buckets.iter().map(|bucket| Some(String::from_utf8_lossy(&bucket.metric))).collect());
    let tags: Arc<StringArray> = Arc::new(dataset.series().map(|(_, series)| Some(tags_text(&series.tags))).collect());
    let mut rows = Rows::default();
    let mut number = 0;
    for (metric, bucket) in dataset.buckets.iter().enumerate() {
        for series in &bucket.series {
            for (time, value) in series.timestamps.iter().zip(series.values.doubles()) {
                rows.metric.push(metric as i32);
                rows.tags.push(number);
                rows.time.push(START_S * 1_000 + i64::from(*time));
                rows.value.push(*value);
                if rows.value.len() == BATCH_ROWS {
                    writer.write(&rows.batch(&schema, &metrics, &tags)?)?;
                }
            }
            number += 1;
        }
    }
    writer.write(&rows.batch(&schema, &metrics, &tags)?)?;
    Ok(Bytes::from(writer.into_inner()?))
}

#[derive(Default)]
struct Rows {
    metric: Vec<i32>,
    tags: Vec<i32>,
    time: Vec<i64>,
    value: Vec<f64>,
}

impl Rows {
    fn batch(&mut self, schema: &Arc<Schema>, metrics: &Arc<StringArray>, tags: &Arc<StringArray>) -> Outcome<RecordBatch> {
        let coded = |codes: &mut Vec<i32>, texts: &Arc<StringArray>| {
            DictionaryArray::<Int32Type>::try_new(Int32Array::from(std::mem::take(codes)), texts.clone())
        };
        let columns: Vec<Arc<dyn Array>> = vec![
            Arc::new(coded(&mut self.metric, metrics)?),
            Arc::new(coded(&mut self.tags, tags)?),
            Arc::new(Int64Array::from(std::mem::take(&mut self.time))),
            Arc::new(Float64Array::from(std::mem::take(&mut self.value))),
        ];
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }
}

fn columns(batch: &RecordBatch) -> Outcome<(&Int64Array, &Float64Array)> {
    let time = batch.column_by_name("timestamp_ms").and_then(|column| column.as_any().downcast_ref());
    let value = batch.column_by_name("value").and_then(|column| column.as_any().downcast_ref());
    time.zip(value).ok_or_else(|| "Parquet: other columns".into())
}

/// All rows, once, to compare.
fn read(file: &Bytes, each: &mut dyn FnMut(&[u32], &[f64])) -> Outcome<()> {
    for batch in ParquetRecordBatchReaderBuilder::try_new(file.clone())?.with_batch_size(BATCH_ROWS).build()? {
        let batch = batch?;
        let (time, value) = columns(&batch)?;
        let offsets: Vec<u32> = time.values().iter().map(|ms| (ms - START_S * 1_000) as u32).collect();
        each(&offsets, value.values());
    }
    Ok(())
}

/// All columns of all rows, labels as dictionary codes: what a query over everything reads.
fn scan(file: &Bytes) -> Outcome<f64> {
    let mut sum = 0.0;
    for batch in ParquetRecordBatchReaderBuilder::try_new(file.clone())?.with_batch_size(BATCH_ROWS).build()? {
        let batch = batch?;
        sum += columns(&batch)?.1.values().first().copied().unwrap_or(0.0);
    }
    Ok(sum)
}

/// A file in memory whose footer and page index are cached.
pub(crate) struct Cached {
    file: Bytes,
    metadata: ArrowReaderMetadata,
}

impl Cached {
    pub(crate) fn open(file: Bytes) -> Outcome<Self> {
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
        let metadata = ArrowReaderMetadata::load(&file, options)?;
        Ok(Self { file, metadata })
    }

    /// Timestamps and values of some rows, as one who knows which rows a series has; how many.
    pub(crate) fn rows(&self, first: usize, count: usize) -> Outcome<usize> {
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.clone(), self.metadata.clone());
        let mask = ProjectionMask::columns(builder.parquet_schema(), ["timestamp_ms", "value"]);
        let selection = RowSelection::from(vec![RowSelector::skip(first), RowSelector::select(count)]);
        let mut points = 0;
        for batch in builder.with_projection(mask).with_row_selection(selection).with_batch_size(BATCH_ROWS).build()? {
            points += std::hint::black_box(batch?).num_rows();
        }
        Ok(points)
    }
}
