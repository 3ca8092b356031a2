//! One Parquet file of points, written row group by row group; bit-exact, sorted as it is fed.
//!
//! Tags are a map from a key to the list of its values: a key may have several (Datadog), and DuckDB refuses a map that names a key twice. A bare tag's
//! value is null, which no pair has. `series` is a number for those tools that can't group by a map. Memory: one row group, however long the file.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::writer::ColumnWriterImpl;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;
use tailors_model::series::{metric_hash, tag_hash};
use tailors_model::{MetricKind, MetricMeta, OrgId, SeriesHash, Tag, TagKind};

/// Columns; `docs/export.md` explains them.
const SCHEMA: &str = "message points {
    required int64 org;
    required binary metric (STRING);
    required group tags (MAP) {
        repeated group key_value {
            required binary key (STRING);
            required group value (LIST) {
                repeated group list {
                    optional binary element (STRING);
                }
            }
        }
    }
    required int64 timestamp (TIMESTAMP(MILLIS, true));
    required double value;
    required binary kind (STRING);
    optional binary unit (STRING);
    required int64 interval_s;
    required int64 series;
}";
/// Rows of a row group.
const ROWS_MAX: usize = 1 << 20;
/// Rows of one series side by side are kept as one stretch; so many end a row group too, which bounds the labels in memory.
const STRETCHES_MAX: usize = 1 << 16;
/// Rows of a page of short values; longer ones end by their bytes.
const PAGE_ROWS: usize = 1 << 17;
/// Levels given to a column at once.
const BATCH: usize = 1 << 13;
/// Bytes of distinct texts of a column and row group before they are written out plain.
const DICTIONARY_BYTES: usize = 8 << 20;
const ZSTD_LEVEL: i32 = 3;

fn kind_name(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Unknown => "unknown",
        MetricKind::Gauge => "gauge",
        MetricKind::Count => "count",
        MetricKind::Rate => "rate",
        MetricKind::Counter => "counter",
        MetricKind::Distribution => "distribution",
        MetricKind::Histogram => "histogram",
        MetricKind::Summary => "summary",
    }
}

/// What one row has in one column: values, and the levels that place them; flat columns that are never null have none.
#[derive(Debug)]
struct Cell<T> {
    values: Vec<T>,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
}

impl<T> Cell<T> {
    fn one(value: T) -> Self {
        Self { values: vec![value], definitions: Vec::new(), repetitions: Vec::new() }
    }

    /// Null without a value.
    fn maybe(value: Option<T>) -> Self {
        Self { definitions: vec![i16::from(value.is_some())], repetitions: Vec::new(), values: value.into_iter().collect() }
    }

    fn nested() -> Self {
        Self { values: Vec::new(), definitions: Vec::new(), repetitions: Vec::new() }
    }

    /// Hands it to a column and empties it.
    fn write<D: DataType<T = T>>(&mut self, column: &mut ColumnWriterImpl<'_, D>) -> Result<()> {
        let given = |levels: &[i16]| !levels.is_empty();
        if !self.values.is_empty() || given(&self.definitions) {
            let definitions = Some(&self.definitions[..]).filter(|levels| given(levels));
            let repetitions = Some(&self.repetitions[..]).filter(|levels| given(levels));
            column.write_batch(&self.values, definitions, repetitions)?;
        }
        self.values.clear();
        self.definitions.clear();
        self.repetitions.clear();
        Ok(())
    }

    fn level(&mut self, definition: i16, repetition: i16) {
        self.definitions.push(definition);
        self.repetitions.push(repetition);
    }
}

/// What all rows of a series share.
#[derive(Debug)]
pub(super) struct Labels {
    org: Cell<i64>,
    metric: Cell<ByteArray>,
    keys: Cell<ByteArray>,
    tag_values: Cell<ByteArray>,
    kind: Cell<ByteArray>,
    unit: Cell<ByteArray>,
    interval_s: Cell<i64>,
    series: Cell<i64>,
}

impl Labels {
    /// Of a series; `Err` names the text that is no UTF-8, which Parquet's strings must be.
    pub(super) fn new(org: OrgId, metric: &Bytes, tags: &[Tag], meta: &MetricMeta) -> std::result::Result<Self, String> {
        let texts = tags.iter().flat_map(|tag| [&tag.key, &tag.value]).chain([metric, &meta.unit]);
        for text in texts {
            std::str::from_utf8(text).map_err(|_| format!("`{}` is no UTF-8, which text in Parquet must be", text.escape_ascii()))?;
        }
        let (mut keys, mut tag_values) = (Cell::nested(), Cell::nested());
        // Canonical tags are sorted: values of one key stand side by side.
        for (number, same_key) in tags.chunk_by(|a, b| a.key == b.key).enumerate() {
            keys.level(1, i16::from(number > 0));
            keys.values.push(same_key[0].key.clone().into());
            for (place, tag) in same_key.iter().enumerate() {
                let is_pair = tag.kind == TagKind::Pair;
                tag_values.level(if is_pair { 3 } else { 2 }, if place > 0 { 2 } else { i16::from(number > 0) });
                tag_values.values.extend(is_pair.then(|| tag.value.clone().into()));
            }
        }
        if tags.is_empty() {
            keys.level(0, 0);
            tag_values.level(0, 0);
        }
        // Half of the working key is enough to group by.
        let hash = SeriesHash::of(metric_hash(metric), tags.iter().map(tag_hash)).0 as u64 as i64;
        Ok(Self {
            org: Cell::one(i64::from(org.0)),
            metric: Cell::one(metric.clone().into()),
            keys,
            tag_values,
            kind: Cell::one(kind_name(meta.kind).into()),
            unit: Cell::maybe(Some(meta.unit.clone()).filter(|unit| !unit.is_empty()).map(ByteArray::from)),
            interval_s: Cell::one(i64::from(meta.interval_s)),
            series: Cell::one(hash),
        })
    }
}

/// Rows of one series that follow each other.
struct Stretch {
    labels: Arc<Labels>,
    rows: usize,
}

/// A Parquet file being written.
pub(super) struct Table<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    stretches: Vec<Stretch>,
    times_ms: Vec<i64>,
    values: Vec<f64>,
    /// Rows given to it.
    pub(super) rows: u64,
}

impl<W: Write + Send> Table<W> {
    /// A file without rows; `notes` are kept as its key-value metadata.
    pub(super) fn new(out: W, notes: Vec<KeyValue>) -> Result<Self> {
        let (time, value) = (ColumnPath::from("timestamp"), ColumnPath::from("value"));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
            .set_dictionary_page_size_limit(DICTIONARY_BYTES)
            .set_column_dictionary_page_size_limit(value, 1 << 20)
            .set_data_page_row_count_limit(PAGE_ROWS)
            // A reader skips row groups by all columns, pages by time alone: what is kept of each page until the footer is small.
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_column_statistics_enabled(time.clone(), EnabledStatistics::Page)
            .set_column_dictionary_enabled(time.clone(), false)
            .set_column_encoding(time, Encoding::DELTA_BINARY_PACKED)
            .set_key_value_metadata(Some(notes))
            .build();
        let writer = SerializedFileWriter::new(out, Arc::new(parse_message_type(SCHEMA)?), Arc::new(properties))?;
        Ok(Self { writer, stretches: Vec::new(), times_ms: Vec::new(), values: Vec::new(), rows: 0 })
    }

    /// Appends points of a series: milliseconds from `start_ms` (Unix) and as many values.
    pub(super) fn push(&mut self, labels: &Arc<Labels>, start_ms: i64, times: &[u32], values: &[f64]) -> Result<()> {
        let (mut times, mut values) = (times, values);
        while !values.is_empty() {
            let n = values.len().min(ROWS_MAX - self.values.len());
            self.times_ms.extend(times[..n].iter().map(|time| start_ms + i64::from(*time)));
            self.values.extend_from_slice(&values[..n]);
            match self.stretches.last_mut() {
                Some(last) if Arc::ptr_eq(&last.labels, labels) => last.rows += n,
                _ => self.stretches.push(Stretch { labels: labels.clone(), rows: n }),
            }
            self.rows += n as u64;
            (times, values) = (&times[n..], &values[n..]);
            if self.values.len() == ROWS_MAX || self.stretches.len() == STRETCHES_MAX {
                self.end_group()?;
            }
        }
        Ok(())
    }

    fn end_group(&mut self) -> Result<()> {
        let mut group = self.writer.next_row_group()?;
        let stretches = &self.stretches;
        labels::<Int64Type, W>(&mut group, stretches, |labels| &labels.org)?;
        labels::<ByteArrayType, W>(&mut group, stretches, |labels| &labels.metric)?;
        labels::<ByteArrayType, W>(&mut group, stretches, |labels| &labels.keys)?;
        labels::<ByteArrayType, W>(&mut group, stretches, |labels| &labels.tag_values)?;
        column::<Int64Type, W>(&mut group, &mut |column| column.write_batch(&self.times_ms, None, None).map(|_| ()))?;
        column::<DoubleType, W>(&mut group, &mut |column| column.write_batch(&self.values, None, None).map(|_| ()))?;
        labels::<ByteArrayType, W>(&mut group, stretches, |labels| &labels.kind)?;
        labels::<ByteArrayType, W>(&mut group, stretches, |labels| &labels.unit)?;
        labels::<Int64Type, W>(&mut group, stretches, |labels| &labels.interval_s)?;
        labels::<Int64Type, W>(&mut group, stretches, |labels| &labels.series)?;
        group.close()?;
        self.stretches.clear();
        self.times_ms.clear();
        self.values.clear();
        Ok(())
    }

    /// Writes what is left and the footer.
    pub(super) fn finish(mut self) -> Result<W> {
        if !self.values.is_empty() {
            self.end_group()?;
        }
        self.writer.into_inner()
    }
}

/// Writes the next column of a row group.
fn column<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    fill: &mut dyn FnMut(&mut ColumnWriterImpl<'_, T>) -> Result<()>,
) -> Result<()> {
    let next = group.next_column()?;
    let mut column = next.ok_or_else(|| ParquetError::General("the schema has fewer columns than are written".to_owned()))?;
    fill(column.typed::<T>())?;
    column.close()
}

/// Writes a column that is the same in all rows of a stretch.
fn labels<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    stretches: &[Stretch],
    of: fn(&Labels) -> &Cell<T::T>,
) -> Result<()> {
    column::<T, W>(group, &mut |column| {
        let mut batch = Cell::<T::T>::nested();
        for stretch in stretches {
            let cell = of(&stretch.labels);
            for _ in 0..stretch.rows {
                batch.values.extend_from_slice(&cell.values);
                batch.definitions.extend_from_slice(&cell.definitions);
                batch.repetitions.extend_from_slice(&cell.repetitions);
                if batch.values.len().max(batch.definitions.len()) >= BATCH {
                    batch.write(column)?;
                }
            }
        }
        batch.write(column)
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use parquet::column::reader::get_typed_column_reader;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;

    fn labels_of(host: u32, tags: &[Tag]) -> Arc<Labels> {
        let tags = [tags, &[Tag::pair("host", host.to_string())]].concat();
        Arc::new(Labels::new(OrgId(1), &Bytes::from_static(b"m"), &tags, &MetricMeta::default()).expect("UTF-8"))
    }

    /// Row groups end at their rows, and at their series where those are short; nothing is lost at the edges.
    #[test]
    fn row_groups_are_bounded_by_rows_and_by_series() {
        let mut table = Table::new(Vec::new(), Vec::new()).expect("a schema");
        let long: Vec<u32> = (0..ROWS_MAX as u32 + 10).collect();
        let values: Vec<f64> = long.iter().map(|n| f64::from(*n)).collect();
        table.push(&labels_of(0, &[]), 5, &long, &values).expect("writes");
        for host in 1..=STRETCHES_MAX as u32 {
            table.push(&labels_of(host, &[Tag::bare("canary")]), 0, &[host], &[-f64::from(host)]).expect("writes");
        }
        assert_eq!(table.rows as usize, long.len() + STRETCHES_MAX);
        let file = SerializedFileReader::new(Bytes::from(table.finish().expect("writes"))).expect("a whole file");
        let groups: Vec<i64> = file.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
        assert_eq!(groups, [ROWS_MAX as i64, 10 + STRETCHES_MAX as i64 - 1, 1]);
        let mut read = Vec::new();
        for group in 0..groups.len() {
            let column = file.get_row_group(group).and_then(|group| group.get_column_reader(5)).expect("values");
            get_typed_column_reader::<DoubleType>(column).read_records(usize::MAX, None, None, &mut read).expect("reads");
        }
        let short = (1..=STRETCHES_MAX as u32).map(|host| -f64::from(host));
        assert!(read.iter().copied().eq(values.iter().copied().chain(short)));
        let last = file.get_row_group(2).expect("a group").get_row_iter(None).expect("rows").next().expect("one").expect("reads");
        let shown = last.to_string();
        assert!(shown.contains("canary") && shown.contains(&STRETCHES_MAX.to_string()), "{shown}");
    }

    #[test]
    fn text_that_is_no_utf8_is_refused_not_bent() {
        let tags = [Tag::pair("k", &b"\xff"[..])];
        let error = Labels::new(OrgId(1), &Bytes::from_static(b"m"), &tags, &MetricMeta::default()).expect_err("no UTF-8");
        assert!(error.contains("\\xff"), "{error}");
    }
}
