//! Time is passed in: the one seam through which anything learns what time it is.

use std::sync::atomic::{AtomicI64, Ordering};

/// A source of Unix time. Production reads the machine's clock (in `tailors`), tests and simulations set it by hand.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Microseconds since 1970-01-01T00:00:00Z.
    fn now_us(&self) -> i64;

    /// Milliseconds since 1970-01-01T00:00:00Z.
    fn now_ms(&self) -> i64 {
        self.now_us().div_euclid(1_000)
    }
}

/// A clock that stands still until it is set.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `now_ms`, Unix milliseconds.
    pub fn at_ms(now_ms: i64) -> Self {
        Self(AtomicI64::new(now_ms * 1_000))
    }

    /// Shows `now_ms` from now on; may go back, as real clocks do.
    pub fn set_ms(&self, now_ms: i64) {
        self.0.store(now_ms * 1_000, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_us(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}
