//! Limits of time and size, the same for every protocol. One `now` per request; both ends of the admitted time are inclusive, and they travel in the
//! payload's envelope, so that the builder's recheck needs neither clock nor settings.

use tailors_model::limits::{METRIC_BYTES_MAX, SERIES_TAGS_MAX, TAG_KEY_BYTES_MAX, TAG_VALUE_BYTES_MAX, TIME_MAX_MS, TIME_MIN_MS};

use crate::decode::SeriesBatch;
use crate::refusal::{Reason, Refused, shown};
use crate::settings::{LatePolicy, OrgSettings};

/// The time that a request's points may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admitted {
    /// Earliest, Unix milliseconds, inclusive.
    pub from_ms: i64,
    /// Latest, Unix milliseconds, inclusive.
    pub to_ms: i64,
    /// Age in seconds behind `from_ms`, for messages.
    pub age_max_s: u32,
}

impl Admitted {
    /// The limits of an org at `now_ms`; `backfill` keys may send any age down to retention.
    pub fn at(now_ms: i64, backfill: bool, settings: &OrgSettings) -> Self {
        let age_max_s = match settings.late_policy {
            _ if backfill => settings.retention_s,
            LatePolicy::Accept => settings.late_max_s,
            LatePolicy::Refuse => settings.late_window_s,
        };
        Self {
            from_ms: (now_ms - i64::from(age_max_s) * 1_000).max(TIME_MIN_MS),
            to_ms: (now_ms + i64::from(settings.ahead_max_s) * 1_000).min(TIME_MAX_MS),
            age_max_s,
        }
    }

    /// Whether a time is within the limits.
    #[inline]
    pub fn holds(&self, time_ms: i64) -> bool {
        self.from_ms <= time_ms && time_ms <= self.to_ms
    }
}

/// Buffers for the points that stay when some are refused.
#[derive(Debug, Default)]
pub struct AdmitScratch {
    timestamps_ms: Vec<i64>,
    values: Vec<f64>,
}

/// The points of a batch that may be stored; the others are counted in `refused`.
pub fn admit<'a>(
    batch: &SeriesBatch<'a>,
    admitted: &Admitted,
    scratch: &'a mut AdmitScratch,
    refused: &mut Refused,
) -> (&'a [i64], &'a [f64]) {
    if let Some(reason) = bad_series(batch) {
        refused.add(reason, batch.timestamps_ms.len() as u64, || format!("first: metric `{}`", shown(batch.metric)));
        return (&[], &[]);
    }
    if batch.timestamps_ms.iter().all(|time_ms| admitted.holds(*time_ms)) {
        return (batch.timestamps_ms, batch.values);
    }
    scratch.timestamps_ms.clear();
    scratch.values.clear();
    for (time_ms, value) in batch.timestamps_ms.iter().zip(batch.values) {
        if admitted.holds(*time_ms) {
            scratch.timestamps_ms.push(*time_ms);
            scratch.values.push(*value);
        } else {
            refuse_time(batch.metric, *time_ms, admitted, refused);
        }
    }
    (&scratch.timestamps_ms, &scratch.values)
}

fn refuse_time(metric: &[u8], time_ms: i64, admitted: &Admitted, refused: &mut Refused) {
    if time_ms > admitted.to_ms {
        let example = || format!("first: metric `{}` at {time_ms} ms; latest accepted now: {} ms", shown(metric), admitted.to_ms);
        refused.add(Reason::Future, 1, example);
    } else {
        let example = || {
            let (from_ms, age_max_s) = (admitted.from_ms, admitted.age_max_s);
            format!("first: metric `{}` at {time_ms} ms; earliest accepted now: {from_ms} ms (limit {age_max_s} s)", shown(metric))
        };
        refused.add(Reason::Late, 1, example);
    }
}

/// What is too large about a series.
#[inline]
fn bad_series(batch: &SeriesBatch<'_>) -> Option<Reason> {
    if batch.metric.len() > METRIC_BYTES_MAX {
        return Some(Reason::LongName);
    }
    if batch.tags.len() > SERIES_TAGS_MAX {
        return Some(Reason::TooManyTags);
    }
    if batch.tags.iter().any(|tag| tag.key.len() > TAG_KEY_BYTES_MAX) {
        return Some(Reason::LongTagKey);
    }
    if batch.tags.iter().any(|tag| tag.value.len() > TAG_VALUE_BYTES_MAX) {
        return Some(Reason::LongTagValue);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_763_726_400_000;

    #[test]
    fn limits_by_policy_and_scope() {
        let mut settings = OrgSettings::default();
        let day_ms = 86_400_000;
        assert_eq!(Admitted::at(NOW_MS, false, &settings).from_ms, NOW_MS - 10 * day_ms);
        assert_eq!(Admitted::at(NOW_MS, true, &settings).from_ms, NOW_MS - 456 * day_ms);
        settings.late_policy = LatePolicy::Refuse;
        let admitted = Admitted::at(NOW_MS, false, &settings);
        assert_eq!((admitted.from_ms, admitted.to_ms), (NOW_MS - 10_800_000, NOW_MS + 900_000));
        assert!(admitted.holds(admitted.from_ms) && admitted.holds(admitted.to_ms), "inclusive at both ends");
        assert!(!admitted.holds(admitted.from_ms - 1) && !admitted.holds(admitted.to_ms + 1));
        assert_eq!(Admitted::at(TIME_MIN_MS + 1, true, &settings).from_ms, TIME_MIN_MS);
    }
}
