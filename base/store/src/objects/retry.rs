//! Retry of requests on the store: full-jitter exponential backoff up to a deadline, and the count of what became of each.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::{Objects, StoreError};

/// Bytes per second below which an upload counts as stuck: its deadline grows by what its size takes at this speed.
const UPLOAD_BYTES_PER_S_MIN: u64 = 1 << 20;

/// Counts one attempt at a request.
pub(super) fn count(verb: &'static str, outcome: &'static str) {
    metrics::counter!("tailors_store_requests_total", "verb" => verb, "outcome" => outcome).increment(1);
}

fn outcome_of<T>(result: &Result<T, StoreError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(StoreError::Retry(_)) => "retry",
        Err(StoreError::NotFound(_)) => "absent",
        Err(StoreError::Data { .. }) => "data",
        Err(StoreError::Fenced(_)) => "fenced",
        Err(StoreError::Denied(_)) => "denied",
        Err(StoreError::Fatal(_)) => "fatal",
    }
}

impl Objects {
    /// Repeats an idempotent request until it works, fails for good, or the deadline comes.
    pub(super) async fn retrying<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        verb: &'static str,
        upload_bytes: u64,
        request: impl Fn() -> F,
    ) -> Result<T, StoreError> {
        let deadline = self.deadline(upload_bytes);
        let mut wait_ms = self.0.retry.backoff_min_ms;
        loop {
            let result = self.within(upload_bytes, deadline, verb, request()).await;
            count(verb, outcome_of(&result));
            match result {
                Err(error) if error.is_retryable() => {
                    if !self.pause(&mut wait_ms, deadline).await {
                        return Err(error);
                    }
                }
                result => return result,
            }
        }
    }

    /// When a request that begins now has failed.
    pub(super) fn deadline(&self, upload_bytes: u64) -> Instant {
        Instant::now() + Duration::from_millis(self.0.retry.deadline_ms) + upload_time(upload_bytes)
    }

    /// One attempt: at most half of the whole time, so that one lost connection doesn't use it up.
    pub(super) async fn within<T>(
        &self,
        upload_bytes: u64,
        deadline: Instant,
        what: &str,
        attempt: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let limit = Duration::from_millis(self.0.retry.deadline_ms / 2) + upload_time(upload_bytes);
        let end = deadline.min(Instant::now() + limit);
        match tokio::time::timeout_at(end, attempt).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Retry(format!("{what}: no answer within {} ms", limit.as_millis()))),
        }
    }

    /// Waits for a random time up to `wait_ms`, which doubles; `false` when the deadline comes first.
    pub(super) async fn pause(&self, wait_ms: &mut u64, deadline: Instant) -> bool {
        let bound = (*wait_ms).clamp(1, self.0.retry.backoff_max_ms.max(1));
        *wait_ms = bound.saturating_mul(2);
        let until = Instant::now() + Duration::from_millis(self.random() % (bound + 1));
        if until >= deadline {
            return false;
        }
        tokio::time::sleep_until(until).await;
        true
    }

    fn random(&self) -> u64 {
        split_mix(self.0.jitter.fetch_add(SPLIT_MIX_STEP, Ordering::Relaxed))
    }
}

fn upload_time(bytes: u64) -> Duration {
    Duration::from_secs(bytes / UPLOAD_BYTES_PER_S_MIN)
}

/// The step of SplitMix64.
pub(super) const SPLIT_MIX_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Output function of SplitMix64: enough to spread retries, and the same on every machine.
pub(super) fn split_mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(SPLIT_MIX_STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
