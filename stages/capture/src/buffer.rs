//! What was read of a partition and not yet committed: frames as they are, with the few facts of their envelopes that a node sums up.

use std::collections::BTreeSet;

use bytes::Bytes;
use tailors_format::{FormatError, payload, raw::frame};
use tailors_model::{PayloadHeader, RouteTable, ShardId, Window};
use tailors_store::log::LogRecord;

use crate::Settings;

/// Greatest bytes of one (section, window) row in a node: six numbers, window key, its share of the section's name.
const NODE_ROW_BYTES: usize = 128;
/// Bytes of everything else in a node.
const NODE_REST_BYTES: usize = 1_024;

/// One frame.
#[derive(Clone, Debug)]
pub(crate) struct Buffered {
    pub(crate) frame: Bytes,
    /// None: bad envelope.
    pub(crate) header: Option<PayloadHeader>,
}

/// Frames of one partition in offset order, `start..next`.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    pub(crate) start: u64,
    pub(crate) next: u64,
    pub(crate) frames: Vec<Buffered>,
    pub(crate) bytes: usize,
    /// When the first frame came, Unix milliseconds.
    pub(crate) opened_ms: Option<i64>,
    rows: BTreeSet<(Option<ShardId>, Option<Window>)>,
}

/// What a flush may hold over all partitions; counts down while buffers fill.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) payloads: u64,
    pub(crate) bytes: usize,
}

impl Room {
    pub(crate) fn is_full(self) -> bool {
        self.payloads == 0 || self.bytes == 0
    }
}

impl Buffer {
    pub(crate) fn at(position: u64) -> Self {
        Self { start: position, next: position, ..Self::default() }
    }

    /// Bytes that this partition's node will have at most, about.
    pub(crate) fn node_bytes(&self) -> usize {
        NODE_REST_BYTES + self.rows.len() * NODE_ROW_BYTES
    }

    /// Whether the node is as large as it may get.
    pub(crate) fn node_is_full(&self, settings: &Settings) -> bool {
        self.node_bytes() + NODE_ROW_BYTES > settings.node_bytes_max
    }

    /// Whether there is anything to commit (records, or offsets that hold none).
    pub(crate) fn moved(&self) -> bool {
        self.next > self.start
    }

    /// Takes one record unless there is no room left; `Ok(false)` then, and it is read again later. A frame that is not the one of its place
    /// is an error: bytes that the log vouches for have gone bad, and copying them would hide it.
    pub(crate) fn take(
        &mut self,
        place: (u32, u32),
        record: &LogRecord,
        routes: &RouteTable,
        settings: &Settings,
        room: &mut Room,
    ) -> Result<bool, FormatError> {
        if room.is_full() || self.node_is_full(settings) {
            return Ok(false);
        }
        let (found, used) = frame::decode(&record.frame)?;
        if (found.epoch, found.partition, found.offset) != (place.0, place.1, record.offset) || used != record.frame.len() {
            return Err(FormatError::invalid("frame", format!("is not the one of offset {}", record.offset)));
        }
        let header = payload::read_header(found.payload).ok();
        self.rows.insert((header.map(|header| routes.section(header.org)), header.map(|header| header.window)));
        room.payloads = room.payloads.saturating_sub(1);
        room.bytes = room.bytes.saturating_sub(record.frame.len());
        self.bytes += record.frame.len();
        self.frames.push(Buffered { frame: record.frame.clone(), header });
        self.next = record.offset + 1;
        Ok(true)
    }
}
