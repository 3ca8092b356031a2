//! The envelope of a payload as a value: all that capture and the planner ever read of one. Its bytes are in `tailors-format`.

use crate::{OrgId, Window};

/// Plain facts about one payload: one org, one window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PayloadHeader {
    /// Tenant, from the API key.
    pub org: OrgId,
    /// The one window of all its points.
    pub window: Window,
    /// When the intake took it, Unix microseconds, strictly increasing per intake process; orders equal timestamps (P4).
    pub received_at_us: i64,
    /// Random id of the intake process.
    pub intake_id: u64,
    /// Position among this intake's payloads; with `intake_id` tells a retry between intake and log.
    pub sequence: u64,
    /// Earliest time admitted, Unix milliseconds, inclusive: the builder's recheck needs no clock and no settings.
    pub admitted_from_ms: i64,
    /// Latest time admitted, Unix milliseconds, inclusive.
    pub admitted_to_ms: i64,
    /// Series in the label block.
    pub series: u32,
    /// Points; 0 is legal (metadata alone).
    pub points: u32,
    /// Earliest point, Unix milliseconds; the window's start when there is none.
    pub min_ms: i64,
    /// Latest point, Unix milliseconds; the window's start when there is none.
    pub max_ms: i64,
}
