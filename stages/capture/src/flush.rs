//! C3..C8: one raw object for all partitions of a flush, then one chain node per partition, then the hint.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tailors_format::FormatError;
use tailors_format::doc::{ExtentRow, NodeDoc, NodeKind, RawRef};
use tailors_format::key;
use tailors_format::raw::file::{Extent, ExtentKey, RawFile, RawFileWriter};
use tailors_model::{OrgId, RouteTable, Window};
use tailors_store::StoreError;
use tailors_store::chain::{self, Commit};
use tailors_store::log::LogError;

use crate::buffer::Buffer;
use crate::{CaptureDeps, CaptureError};

/// Section of records whose envelope is bad; it belongs to no window.
const SECTION_NONE: &str = "none";

/// Everything one flush writes.
pub(crate) struct Flush {
    /// Grows by one with each flush of this writer, so that no two flushes share a key or an attempt.
    pub(crate) number: u32,
    /// The one route table of this flush.
    pub(crate) routes: Arc<RouteTable>,
    /// Partition -> frames.
    pub(crate) buffers: BTreeMap<u32, Buffer>,
}

/// Where each partition stands after a flush: `Some(head)` goes on there, `None` starts again at C0.
pub(crate) type Heads = BTreeMap<u32, Option<u64>>;

/// Writes and commits. Errors that a retry may mend end in `None` for the partitions concerned; what was uploaded for nothing is an orphan.
pub(crate) async fn flush(deps: Arc<CaptureDeps>, flush: Flush) -> Result<Heads, CaptureError> {
    let partitions: Vec<u32> = flush.buffers.keys().copied().collect();
    let restart = |partitions: &[u32]| partitions.iter().map(|partition| (*partition, None)).collect::<Heads>();
    let (epoch, writer) = (deps.log.epoch(), deps.writer.clone());
    let headers = flush.buffers.values().flat_map(|buffer| &buffer.frames).filter_map(|buffered| buffered.header.as_ref());
    let orgs: BTreeSet<(OrgId, Window)> = headers.map(|header| (header.org, header.window)).collect();
    // Copying and summing 64 MiB takes a while: off the threads that serve requests.
    let assembled = tokio::task::spawn_blocking(move || assemble(epoch, &writer, flush)).await;
    let Ok(assembled) = assembled else { return Ok(restart(&partitions)) };
    let (file_key, bytes, nodes) = assembled?;
    let raw_bytes = bytes.len() as u64;
    match deps.objects.put_data(&file_key, bytes).await {
        // What builds read is measured against this (at most three times as much).
        Ok(()) => metrics::counter!("tailors_capture_raw_bytes_total").increment(raw_bytes),
        Err(error) => {
            stop_or_warn(error, "upload")?;
            return Ok(restart(&partitions));
        }
    }
    (deps.flushing.0)(&orgs);
    let mut heads = Heads::new();
    for (partition, node) in nodes {
        heads.insert(partition, commit(&deps, partition, &node).await?);
    }
    for (partition, head) in heads.iter().filter_map(|(partition, head)| head.map(|head| (*partition, head))) {
        match deps.log.commit(partition, head).await {
            Err(LogError::Fatal(why)) => return Err(LogError::Fatal(why).into()),
            Err(error) => tracing::warn!(partition, %error, "the log did not take the committed offset; it is only a hint"),
            Ok(()) => {}
        }
    }
    let older_than_us =
        deps.clock.now_us().saturating_sub(i64::try_from(deps.settings.log_retention_s).unwrap_or(i64::MAX).saturating_mul(1_000_000));
    match deps.log.retain(older_than_us).await {
        Err(LogError::Fatal(why)) => return Err(LogError::Fatal(why).into()),
        Err(error) => tracing::warn!(%error, "log retention did not run"),
        Ok(_) => {}
    }
    Ok(heads)
}

/// C7 of one partition.
async fn commit(deps: &CaptureDeps, partition: u32, node: &NodeDoc) -> Result<Option<u64>, CaptureError> {
    match chain::commit(&deps.objects, deps.log.epoch(), partition, node).await {
        Ok(Commit::Mine) => {
            metrics::counter!("tailors_capture_records_total").increment(node.records);
            metrics::counter!("tailors_capture_points_total").increment(node.points);
            metrics::counter!("tailors_capture_envelope_corrupt_total").increment(node.envelope_corrupt);
            Ok(Some(node.next))
        }
        Ok(Commit::Lost(other)) => {
            metrics::counter!("tailors_capture_lost_race_total").increment(1);
            tracing::warn!(partition, start = node.start, winner = %other.writer, "another writer committed here; going on after it");
            if other.kind == NodeKind::End {
                return Err(CaptureError::Ended { epoch: deps.log.epoch(), partition, next: other.next });
            }
            // C0 reads how far the winner has come by now.
            Ok(None)
        }
        Err(error) => {
            stop_or_warn(error, "commit")?;
            Ok(None)
        }
    }
}

/// What a retry may mend is said and counted; the rest ends capture.
fn stop_or_warn(error: StoreError, step: &'static str) -> Result<(), CaptureError> {
    match error {
        StoreError::Denied(_) | StoreError::Fatal(_) => Err(error.into()),
        StoreError::Retry(_) | StoreError::NotFound(_) | StoreError::Data { .. } | StoreError::Fenced(_) => {
            metrics::counter!("tailors_capture_flush_failed_total", "step" => step).increment(1);
            tracing::warn!(%error, step, "a flush failed; its records are read again");
            Ok(())
        }
    }
}

/// Key and bytes of a raw file, and per partition the node that commits its part.
type Assembled = (String, Vec<u8>, Vec<(u32, NodeDoc)>);

/// The raw file and the nodes that commit its parts; a pure function of the flush.
fn assemble(epoch: u32, writer: &str, flush: Flush) -> Result<Assembled, FormatError> {
    let number = u64::from(flush.number);
    let mut file = RawFileWriter::new(writer, number, 1);
    for (partition, buffer) in &flush.buffers {
        file.offers(epoch, *partition, buffer.start);
        let mut groups: BTreeMap<(String, i64), Vec<usize>> = BTreeMap::new();
        for (index, buffered) in buffer.frames.iter().enumerate() {
            let group = match &buffered.header {
                Some(header) => (flush.routes.section(header.org).to_string(), header.window.start_s()),
                None => (SECTION_NONE.to_owned(), 0),
            };
            groups.entry(group).or_default().push(index);
        }
        for ((section, window_s), frames) in groups {
            file.begin_extent(ExtentKey { partition: *partition, section, window_s });
            for buffered in frames.iter().filter_map(|index| buffer.frames.get(*index)) {
                let (points, received_at_us) = buffered.header.map_or((0, 0), |header| (u64::from(header.points), header.received_at_us));
                file.frame(&buffered.frame, points, received_at_us)?;
            }
        }
    }
    let RawFile { bytes, extents, crc32c } = file.finish()?;
    let raw = RawRef { key: key::raw(writer, number, 1), bytes: bytes.len() as u64, crc32c: format!("{crc32c:08x}") };
    let node = |(partition, buffer): (&u32, &Buffer)| (*partition, node(*partition, buffer, &extents, &raw, &flush, writer));
    let nodes = flush.buffers.iter().map(node).collect();
    Ok((raw.key.clone(), bytes, nodes))
}

/// The node of one partition.
fn node(partition: u32, buffer: &Buffer, extents: &[Extent], raw: &RawRef, flush: &Flush, writer: &str) -> NodeDoc {
    let mut rows: BTreeMap<String, BTreeMap<String, Vec<ExtentRow>>> = BTreeMap::new();
    for extent in extents.iter().filter(|extent| extent.key.partition == partition) {
        let windows = rows.entry(extent.key.section.clone()).or_default();
        let row = (extent.start, extent.end, extent.payloads, extent.points, extent.received_min_us, extent.received_max_us);
        windows.entry(format!("{:010}", extent.key.window_s)).or_default().push(row);
    }
    let headers = || buffer.frames.iter().filter_map(|buffered| buffered.header.as_ref());
    let range = |low: Option<i64>, high: Option<i64>| low.zip(high);
    let with_points = || headers().filter(|header| header.points > 0);
    let payloads = headers().count() as u64;
    NodeDoc {
        kind: NodeKind::Data,
        start: buffer.start,
        next: buffer.next,
        raw: Some(raw.clone()),
        extents: rows,
        route_version: flush.routes.version,
        records: buffer.frames.len() as u64,
        payloads,
        points: headers().map(|header| u64::from(header.points)).sum(),
        envelope_corrupt: buffer.frames.len() as u64 - payloads,
        time_ms: range(with_points().map(|h| h.min_ms).min(), with_points().map(|h| h.max_ms).max()),
        received_at_us: range(headers().map(|h| h.received_at_us).min(), headers().map(|h| h.received_at_us).max()),
        writer: writer.to_owned(),
        attempt: flush.number,
    }
}
