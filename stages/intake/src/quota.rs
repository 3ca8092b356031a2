//! Points a second per org: a token bucket that holds ten seconds and may go into debt by one request, so that no request is too large for ever.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tailors_model::OrgId;

/// Seconds of quota that may be saved up.
const SAVED_S: u64 = 10;

#[derive(Debug)]
struct Bucket {
    /// Points that may still be sent, in millionths; negative = debt.
    micropoints: i128,
    seen_us: i64,
}

/// Buckets of all orgs that have a quota.
#[derive(Debug, Default)]
pub(crate) struct Quotas(Mutex<BTreeMap<OrgId, Bucket>>);

impl Quotas {
    /// Takes `points` from an org's bucket; `Err` with the seconds until it is out of debt.
    pub(crate) fn take(&self, org: OrgId, points: u64, per_s: u64, now_us: i64) -> Result<(), u32> {
        if per_s == 0 {
            return Ok(());
        }
        let full = i128::from(per_s) * i128::from(SAVED_S) * 1_000_000;
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(org).or_insert(Bucket { micropoints: full, seen_us: now_us });
        // A clock that went back gives nothing.
        let passed_us = now_us.saturating_sub(bucket.seen_us).max(0);
        bucket.seen_us = now_us;
        bucket.micropoints = full.min(bucket.micropoints + i128::from(passed_us) * i128::from(per_s));
        if bucket.micropoints <= 0 {
            let seconds = (-bucket.micropoints) / (i128::from(per_s) * 1_000_000) + 1;
            return Err(u32::try_from(seconds).unwrap_or(u32::MAX));
        }
        bucket.micropoints -= i128::from(points) * 1_000_000;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debt_is_paid_off_in_time() {
        let quotas = Quotas::default();
        let org = OrgId(1);
        assert_eq!(quotas.take(org, 2_500, 100, 0), Ok(()), "a request above the bucket passes once");
        assert_eq!(quotas.take(org, 1, 100, 1_000_000), Err(15), "1,400 points of debt at 100 a second");
        assert_eq!(quotas.take(org, 1, 100, 16_000_000), Ok(()));
        assert_eq!(quotas.take(OrgId(2), 1, 100, 0), Ok(()), "orgs don't share");
        assert_eq!(quotas.take(org, u64::MAX, 0, 0), Ok(()), "0 = no quota");
    }
}
