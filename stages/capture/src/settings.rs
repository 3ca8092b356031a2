//! What an operator may move.

/// Settings of capture; plain data.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seconds after which the oldest buffered record is flushed; 600, in `up` 20; 1..=3600.
    pub flush_after_s: u64,
    /// Payloads after which a flush starts; 100,000.
    pub flush_payloads_max: u64,
    /// Bytes of frames after which a flush starts; 64 MiB. Two such buffers may exist: one filling, one on its way.
    pub flush_bytes_max: usize,
    /// Bytes of a chain node after which a flush starts; 48 KiB, so that a node never reaches the 64 KiB of a document.
    pub node_bytes_max: usize,
    /// Bytes asked of the log in one read of a partition; 4 MiB.
    pub read_bytes_max: usize,
    /// Milliseconds to rest when no partition had anything new; 100.
    pub idle_ms: u64,
    /// Milliseconds before a partition that could not be read or committed is taken up anew (C0); 1,000.
    pub restart_after_ms: u64,
    /// Seconds that the log keeps captured records for; 24 h.
    pub log_retention_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            flush_after_s: 600,
            flush_payloads_max: 100_000,
            flush_bytes_max: 64 << 20,
            node_bytes_max: 48 << 10,
            read_bytes_max: 4 << 20,
            idle_ms: 100,
            restart_after_ms: 1_000,
            log_retention_s: 24 * 3_600,
        }
    }
}

impl Settings {
    /// The settings of `up`: early looks need a flush every 20 s until the live store serves the last day (protocol.md 2.3).
    pub fn for_up() -> Self {
        Self { flush_after_s: 20, ..Self::default() }
    }
}
