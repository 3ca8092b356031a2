//! C0: where a partition's chain ends, and whether the log can go on from there. The log's committed offset only says where to look first.

use std::ops::Range;

use tailors_format::doc::{NodeDoc, NodeKind};
use tailors_store::chain::{self, Commit};

use crate::{CaptureDeps, CaptureError};

/// The offset from which a partition is to be read: the head of its chain, behind `gap` when that is where records are known to be lost.
pub(crate) async fn assign(deps: &CaptureDeps, partition: u32, gap: Option<Range<u64>>) -> Result<u64, CaptureError> {
    let epoch = deps.log.epoch();
    let bounds = deps.log.bounds(partition).await?;
    chain::ensure_genesis(&deps.objects, epoch, partition, bounds.start, &deps.writer).await?;
    let hint = deps.log.committed(partition).await?;
    let head = chain::head(&deps.objects, epoch, partition, hint.unwrap_or(0)).await?;
    if head.ended {
        return Err(CaptureError::Ended { epoch, partition, next: head.next });
    }
    if hint.is_some_and(|hint| hint != head.next) {
        // A flush whose last step (C8) was cut off, or somebody moved the offset: counted, never believed.
        metrics::counter!("tailors_capture_offset_moved_total").increment(1);
        tracing::warn!(partition, hint, head = head.next, "the log's committed offset is not the chain's head; the chain counts");
    }
    if head.next > bounds.end {
        return Err(CaptureError::Recreated { partition, next: head.next, log_end: bounds.end });
    }
    if head.next < bounds.start {
        return hole(deps, partition, head.next..bounds.start).await;
    }
    if let Some(gap) = gap.filter(|gap| gap.start == head.next) {
        return hole(deps, partition, gap).await;
    }
    deps.log.commit(partition, head.next).await?;
    Ok(head.next)
}

/// Records offsets that are lost (retention removed them before they were captured, or damage did), if the operator said so.
async fn hole(deps: &CaptureDeps, partition: u32, lost: Range<u64>) -> Result<u64, CaptureError> {
    let Range { start, end } = lost;
    if !deps.accept_holes {
        return Err(CaptureError::Hole { partition, start, end });
    }
    tracing::error!(partition, start, end, "records are lost");
    metrics::counter!("tailors_capture_hole_records_total").increment(end - start);
    let node = NodeDoc::without_records(NodeKind::Hole, start, end, &deps.writer);
    match chain::commit(&deps.objects, deps.log.epoch(), partition, &node).await? {
        Commit::Mine => Ok(end),
        // Somebody else goes on here; the next C0 sees how far.
        Commit::Lost(other) => Ok(other.next),
    }
}
