//! The raw source: extents of raw files, cut into byte-range splits, as a leaf of a physical plan.
//!
//! A split `[start, end)` owns every frame that starts inside it; it reads from `from`, a frame start at or below `start`. Rows are
//! `extent u32` (number in the list given), `offset u64`, `payload binary view` (a slice of the fetched piece, not copied).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{BinaryViewBuilder, RecordBatch, UInt32Array, UInt64Array};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions, SendableRecordBatchStream,
};
use futures::StreamExt;
use tailors_format::raw::file;
use tailors_store::objects::Objects;

use crate::EngineError;
use crate::keep::{Piece, RawKeep};
use crate::reader::FrameReader;

/// Bytes of a raw file's end that are fetched first to read its trailer.
const TRAILER_FETCH_BYTES: u64 = 64 << 10;

/// A row of frames of one partition in a raw file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawExtent {
    /// Object key.
    pub key: String,
    /// Length of the whole file, bytes.
    pub file_bytes: u64,
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// Stream epoch of all its frames.
    pub epoch: u32,
    /// Partition of all its frames.
    pub partition: u32,
    /// First offset its node covers.
    pub offset_start: u64,
    /// One past the last offset its node covers.
    pub offset_end: u64,
}

/// A byte range of an extent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawSplit {
    /// Number of the extent.
    pub extent: u32,
    /// Where to begin reading: the start of a frame, at or below `start`.
    pub from: u64,
    /// First byte at which an own frame may start.
    pub start: u64,
    /// End of the range in which own frames start.
    pub end: u64,
}

/// Extents and how they are read; shared by the plans of a job.
#[derive(Clone, Debug)]
pub struct RawSource {
    /// The store.
    pub objects: Objects,
    /// Extents, in a fixed order.
    pub extents: Arc<Vec<RawExtent>>,
    /// Splits; together they cover every extent exactly once.
    pub splits: Arc<Vec<RawSplit>>,
    /// Bytes of one fetch.
    pub fetch_bytes_max: u64,
    /// Counts the bytes fetched, of all plans.
    pub bytes_read: Arc<AtomicU64>,
    /// Pieces kept from the first plan for the second; none: each reads.
    pub keep: Option<Arc<RawKeep>>,
}

/// Cuts extents every `split_bytes`; the file's frame index says where to begin reading. Extents that are shorter cost no request.
pub async fn plan_splits(
    objects: &Objects,
    extents: &[RawExtent],
    split_bytes: u64,
    bytes_read: &AtomicU64,
) -> Result<Vec<RawSplit>, EngineError> {
    let split_bytes = split_bytes.max(1);
    let mut splits = Vec::with_capacity(extents.len());
    let mut index: Option<(&str, Vec<u64>)> = None;
    for (number, extent) in extents.iter().enumerate() {
        let number = u32::try_from(number).map_err(|_| EngineError::Fatal("more than 2^32 extents".to_owned()))?;
        if extent.end.saturating_sub(extent.start) <= split_bytes {
            splits.push(RawSplit { extent: number, from: extent.start, start: extent.start, end: extent.end });
            continue;
        }
        if index.as_ref().is_none_or(|(key, _)| *key != extent.key) {
            index = Some((&extent.key, frame_index(objects, extent, bytes_read).await?));
        }
        let frames = index.as_ref().map_or(&[][..], |(_, frames)| frames);
        let mut start = extent.start;
        while start < extent.end {
            let end = start.saturating_add(split_bytes).min(extent.end);
            let before = frames.partition_point(|frame| *frame <= start).checked_sub(1).and_then(|at| frames.get(at));
            let from = before.copied().unwrap_or(extent.start).max(extent.start);
            splits.push(RawSplit { extent: number, from, start, end });
            start = end;
        }
    }
    Ok(splits)
}

async fn frame_index(objects: &Objects, extent: &RawExtent, bytes_read: &AtomicU64) -> Result<Vec<u64>, EngineError> {
    let mut tail_bytes = TRAILER_FETCH_BYTES;
    loop {
        let start = extent.file_bytes.saturating_sub(tail_bytes);
        let fetched = objects.get_range(&extent.key, start..extent.file_bytes).await;
        let tail = fetched.map_err(|error| EngineError::of_store(&extent.key, error))?;
        count_read(bytes_read, tail.len());
        match file::read_trailer(&tail, extent.file_bytes) {
            Ok(trailer) => return Ok(trailer.frame_index),
            Err(tailors_format::FormatError::Truncated { needed, .. }) if start > 0 && needed > tail_bytes => tail_bytes = needed,
            Err(error) => return Err(EngineError::input(&extent.key, error.to_string())),
        }
    }
}

/// Adds to a job's own count and to the process', which failed attempts are part of too.
pub(crate) fn count_read(bytes_read: &AtomicU64, bytes: usize) {
    bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
    metrics::counter!("tailors_build_raw_bytes_read_total").increment(bytes as u64);
}

/// Columns of the raw source.
pub fn raw_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("extent", DataType::UInt32, false),
        Field::new("offset", DataType::UInt64, false),
        Field::new("payload", DataType::BinaryView, false),
    ]))
}

/// Leaf: split i is read by partition i modulo the number of partitions.
#[derive(Debug)]
pub struct RawSplitExec {
    source: RawSource,
    properties: Arc<PlanProperties>,
}

impl RawSplitExec {
    /// A leaf of `partitions` partitions (at least one).
    pub fn new(source: RawSource, partitions: usize) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(raw_schema()),
            Partitioning::UnknownPartitioning(partitions.max(1)),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { source, properties: Arc::new(properties) }
    }
}

impl DisplayAs for RawSplitExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawSplitExec: extents={}, splits={}", self.source.extents.len(), self.source.splits.len())
    }
}

impl ExecutionPlan for RawSplitExec {
    fn name(&self) -> &str {
        "RawSplitExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> PlanResult<TreeNodeRecursion>,
    ) -> PlanResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>, _: ReplaceChildrenOptions) -> PlanResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> PlanResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> PlanResult<SendableRecordBatchStream> {
        let partitions = self.properties.output_partitioning().partition_count();
        let source = self.source.clone();
        let mine: Vec<usize> = (partition..source.splits.len()).step_by(partitions).collect();
        let batches = futures::stream::iter(mine).flat_map(move |split| read_split(source.clone(), split));
        Ok(Box::pin(RecordBatchStreamAdapter::new(raw_schema(), batches)))
    }
}

/// State of the reading of one split.
struct SplitState {
    source: RawSource,
    number: usize,
    extent: u32,
    reader: FrameReader,
    /// Pieces that the plan before kept, last first.
    kept: Option<Vec<Piece>>,
    /// Pieces read so far, to be kept, with the bytes they hold; none once the keep is full.
    keeping: Option<(Vec<Piece>, usize)>,
}

fn read_split(source: RawSource, number: usize) -> impl futures::Stream<Item = PlanResult<RecordBatch>> + Send {
    let split = source.splits.get(number).copied();
    let state = split.and_then(|split| {
        let extent = source.extents.get(split.extent as usize)?.clone();
        let reader = FrameReader::new(source.objects.clone(), extent, split, source.fetch_bytes_max, Arc::clone(&source.bytes_read));
        let kept = source.keep.as_ref().and_then(|keep| keep.take(number)).map(|mut pieces| {
            pieces.reverse();
            pieces
        });
        let keeping = (source.keep.is_some() && kept.is_none()).then(|| (Vec::new(), 0));
        Some(SplitState { source, number, extent: split.extent, reader, kept, keeping })
    });
    futures::stream::unfold(state, |state| async move {
        let mut state = state?;
        match next_piece(&mut state).await {
            Ok(None) => None,
            Ok(Some(piece)) => Some((batch(state.extent, &piece), Some(state))),
            Err(error) => Some((Err(DataFusionError::from(error)), None)),
        }
    })
}

async fn next_piece(state: &mut SplitState) -> Result<Option<Piece>, EngineError> {
    if let Some(kept) = &mut state.kept {
        return Ok(kept.pop());
    }
    let next = state.reader.next().await?;
    let Some(keep) = &state.source.keep else { return Ok(next.map(|(piece, _)| piece)) };
    let Some((piece, held)) = next else {
        if let Some((pieces, _)) = state.keeping.take() {
            keep.put(state.number, pieces);
        }
        return Ok(None);
    };
    if let Some((pieces, bytes)) = &mut state.keeping {
        if keep.reserve(held) {
            pieces.push(piece.clone());
            *bytes += held;
        } else {
            keep.release(*bytes);
            state.keeping = None;
        }
    }
    Ok(Some(piece))
}

fn batch(extent: u32, piece: &Piece) -> PlanResult<RecordBatch> {
    let mut payloads = BinaryViewBuilder::with_capacity(piece.len());
    for (_, payload) in piece {
        // One block per payload: all are slices of the same fetched bytes, so nothing is copied.
        let length = u32::try_from(payload.len()).map_err(|error| DataFusionError::Internal(error.to_string()))?;
        let block = payloads.append_block(Buffer::from(payload.clone()));
        payloads.try_append_view(block, 0, length)?;
    }
    let extents = UInt32Array::from(vec![extent; piece.len()]);
    let offsets = UInt64Array::from_iter_values(piece.iter().map(|(offset, _)| *offset));
    Ok(RecordBatch::try_new(raw_schema(), vec![Arc::new(extents), Arc::new(offsets), Arc::new(payloads.finish())])?)
}
