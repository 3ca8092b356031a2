//! What an operator may move.

/// Settings of control; plain data. Those of protocol.md 2.3 must be equal for all controls of a store.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Smallest quiet time q before a provisional or late seal, seconds; 600, in `up` 20.
    pub quiet_min_s: u64,
    /// Whether early looks (provisional seals) are taken.
    pub provisional: bool,
    /// Whether the loop builds; by hand always works. No setting of its own: `build.enabled` decides.
    #[serde(skip)]
    pub build_enabled: bool,
    /// Builds at the same time; 1..=2.
    pub build_concurrency: usize,
    /// How late a point may be to be in the closed seal, counted from the window's start, seconds: 4 h of window + 3 h.
    pub close_after_s: u64,
    /// Tolerated clock error of an intake (delta), seconds; 60.
    pub clock_error_s: u64,
    /// Delivery timeout of a producer (D), seconds; 120.
    pub delivery_timeout_s: u64,
    /// Time for readers before files of a superseded generation go, seconds; 2 h.
    pub reader_grace_s: u64,
    /// Time after the last publication of a day's windows before they are put into one file, seconds; doubles with each time it was done before, up
    /// to a day; 3,600; `0` = never.
    pub day_after_s: u64,
    /// Failed attempts after which a job is parked; 3.
    pub attempts_max: u32,
    /// Wait before the second attempt, milliseconds; doubles.
    pub backoff_min_ms: u64,
    /// A job parked for something that may pass (full disk, store away) gets another attempt after this, seconds; 60.
    pub parked_retry_s: u64,
    /// Payloads per million that may be left out of a generation because their raw file is damaged; 100.
    pub corrupt_payloads_per_million: u64,
    /// Milliseconds between two ticks of the loop; 1,000.
    pub tick_ms: u64,
    /// How long a seal by hand waits for capture, seconds; 120.
    pub hand_timeout_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            quiet_min_s: 600,
            provisional: false,
            build_enabled: true,
            build_concurrency: 1,
            close_after_s: 7 * 3_600,
            clock_error_s: 60,
            delivery_timeout_s: 120,
            reader_grace_s: 2 * 3_600,
            day_after_s: 3_600,
            attempts_max: 3,
            backoff_min_ms: 1_000,
            parked_retry_s: 60,
            corrupt_payloads_per_million: 100,
            tick_ms: 1_000,
            hand_timeout_s: 120,
        }
    }
}

impl Settings {
    /// The settings of `up`: early looks on, q at least 20 s.
    pub fn for_up() -> Self {
        Self { quiet_min_s: 20, provisional: true, ..Self::default() }
    }

    /// C(W) - T in milliseconds: 7 h + 2 delta + D.
    pub fn close_after_ms(&self) -> i64 {
        // Seconds of a few hours: far inside an i64.
        ((self.close_after_s + 2 * self.clock_error_s + self.delivery_timeout_s) * 1_000) as i64
    }
}
