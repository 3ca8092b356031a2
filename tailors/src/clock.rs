//! The machine's clock, the only place that reads it; with `up --now` it runs at an offset that is fixed when the data directory is made.

use std::time::{SystemTime, UNIX_EPOCH};

use tailors_model::Clock;

/// Wall clock plus a fixed offset.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SystemClock {
    /// Added to the machine's time, milliseconds.
    pub(crate) offset_ms: i64,
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one reading of the wall clock
    fn now_us(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX) + self.offset_ms * 1_000
    }
}
