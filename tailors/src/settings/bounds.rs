//! Which values a setting may take. A value outside is refused at the start by name (TLR-4007), never bent silently.

use tailors_intake::OrgSettings;
use tailors_model::limits;

use super::Settings;
use crate::exit::Failure;

/// A number where no bound is meant.
const ANY: u64 = u64::MAX;

/// A setting's name, its value, the smallest and the largest it may have.
type Bound = (String, u64, u64, u64);

/// Refuses the first setting that is out of its bounds.
pub(super) fn check(settings: &Settings) -> Result<(), Failure> {
    match all(settings).into_iter().find(|(_, value, least, most)| !(*least..=*most).contains(value)) {
        None => Ok(()),
        Some((name, value, least, ANY)) => Err(Failure::usage(format!("TLR-4007: {name} is {value}; it must be at least {least}"))),
        Some((name, value, least, most)) => Err(Failure::usage(format!("TLR-4007: {name} is {value}; it must be {least} to {most}"))),
    }
}

fn all(settings: &Settings) -> Vec<Bound> {
    let mut bounds = vec![
        at("memory_bytes_max", settings.memory_bytes_max.0, 256 << 20, ANY),
        at("log.partitions", u64::from(settings.log.partitions), 1, 1_024),
        at("build.cores", settings.build.cores as u64, 1, 256),
        at("build.memory_bytes_max", settings.build.memory_bytes_max, 1 << 20, ANY),
    ];
    bounds.extend(intake(&settings.intake));
    bounds.extend(of_org("intake.org", &settings.intake.org));
    for (org, own) in &settings.intake.overrides {
        bounds.extend(of_org(&format!("intake.overrides.{org}"), own));
    }
    bounds.extend(capture(&settings.capture));
    bounds.extend(control(&settings.control));
    bounds.extend(query(settings));
    bounds
}

fn at(name: &str, value: u64, least: u64, most: u64) -> Bound {
    (name.to_owned(), value, least, most)
}

fn intake(set: &tailors_intake::Settings) -> [Bound; 9] {
    let body_most = limits::REQUEST_BYTES_MAX as u64;
    let decoded_most = limits::REQUEST_DECODED_BYTES_MAX as u64;
    [
        at("intake.remote_write_body_bytes_max", set.remote_write_body_bytes_max as u64, 1, body_most),
        at("intake.remote_write_decoded_bytes_max", set.remote_write_decoded_bytes_max as u64, 1, decoded_most),
        at("intake.datadog_body_bytes_max", set.datadog_body_bytes_max as u64, 1, body_most),
        at("intake.datadog_decoded_bytes_max", set.datadog_decoded_bytes_max as u64, 1, decoded_most),
        at("intake.request_points_max", set.request_points_max as u64, 1, limits::REQUEST_POINTS_MAX as u64),
        at("intake.request_windows_max", set.request_windows_max as u64, 1, limits::REQUEST_WINDOWS_MAX as u64),
        // The largest body, counted four times.
        at("intake.inflight_bytes_max", set.inflight_bytes_max as u64, 64 << 20, ANY),
        at("intake.body_timeout_s", set.body_timeout_s, 1, 3_600),
        at("intake.retry_after_s", u64::from(set.retry_after_s), 1, 3_600),
    ]
}

fn of_org(group: &str, set: &OrgSettings) -> [Bound; 1] {
    [at(&format!("{group}.dirty_windows_max"), set.dirty_windows_max as u64, 1, limits::DIRTY_WINDOWS_MAX as u64)]
}

fn capture(set: &tailors_capture::Settings) -> [Bound; 7] {
    [
        at("capture.flush_after_s", set.flush_after_s, 1, 3_600),
        at("capture.flush_payloads_max", set.flush_payloads_max, 1, ANY),
        at("capture.flush_bytes_max", set.flush_bytes_max as u64, 1 << 20, 1 << 30),
        // Above 48 KiB the last rows of a node could reach the 64 KiB of a document.
        at("capture.node_bytes_max", set.node_bytes_max as u64, 4 << 10, 48 << 10),
        at("capture.read_bytes_max", set.read_bytes_max as u64, 64 << 10, 256 << 20),
        at("capture.idle_ms", set.idle_ms, 1, 60_000),
        at("capture.restart_after_ms", set.restart_after_ms, 1, 3_600_000),
    ]
}

fn control(set: &tailors_control::Settings) -> [Bound; 11] {
    [
        at("control.quiet_min_s", set.quiet_min_s, 1, 86_400),
        at("control.build_concurrency", set.build_concurrency as u64, 1, 2),
        // A window lasts 4 h, and can't be closed before its end.
        at("control.close_after_s", set.close_after_s, 4 * 3_600, 30 * 86_400),
        at("control.clock_error_s", set.clock_error_s, 0, 3_600),
        at("control.delivery_timeout_s", set.delivery_timeout_s, 1, 86_400),
        at("control.day_after_s", set.day_after_s, 0, 30 * 86_400),
        at("control.attempts_max", u64::from(set.attempts_max), 1, 1_000),
        at("control.backoff_min_ms", set.backoff_min_ms, 1, 3_600_000),
        at("control.corrupt_payloads_per_million", set.corrupt_payloads_per_million, 0, 1_000_000),
        at("control.tick_ms", set.tick_ms, 1, 60_000),
        at("control.hand_timeout_s", set.hand_timeout_s, 1, 86_400),
    ]
}

fn query(settings: &Settings) -> [Bound; 9] {
    let (limits, source) = (&settings.query.limits, &settings.query.source);
    // A negative number is below every least value.
    let signed = |value: i64| u64::try_from(value).unwrap_or(0);
    [
        at("query.limits.points_max", limits.points_max, 1, ANY),
        at("query.limits.series_max", limits.series_max, 1, ANY),
        at("query.limits.steps_max", limits.steps_max, 1, ANY),
        at("query.limits.answer_bytes_max", limits.answer_bytes_max, 1, ANY),
        at("query.limits.memory_bytes_max", limits.memory_bytes_max, 1, ANY),
        at("query.limits.time_ms_max", limits.time_ms_max, 1, ANY),
        at("query.limits.lookback_ms", signed(limits.lookback_ms), 1, 86_400_000),
        at("query.source.snapshot_age_ms_max", u64::try_from(source.snapshot_age_ms_max).unwrap_or(ANY), 0, 3_600_000),
        at("query.source.files_in_flight", source.files_in_flight as u64, 1, 1_024),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_numeric_bound_names_a_setting_that_is_there() {
        let settings = Settings::default();
        let table = toml::Table::try_from(&settings).expect("serializes");
        for (name, value, least, most) in all(&settings) {
            let found = name.split('.').try_fold(&toml::Value::Table(table.clone()), |at, part| at.get(part)).cloned();
            assert_eq!(found.and_then(|found| found.as_integer()), i64::try_from(value).ok(), "{name}");
            assert!(least <= most, "{name}");
        }
        check(&settings).expect("the defaults are inside");
    }
}
