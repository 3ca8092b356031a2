//! Times as people write them: RFC 3339, Unix seconds, `-1h`, `now`.

use chrono::{DateTime, SecondsFormat};

use crate::exit::Failure;

/// Unix milliseconds of a written time.
pub(crate) fn parse_ms(text: &str, now_ms: i64) -> Result<i64, Failure> {
    let bad = || Failure::usage(format!("`{text}` is no time; write RFC 3339 (2026-11-20T16:00:00Z), Unix seconds, -1h or now"));
    if text == "now" {
        return Ok(now_ms);
    }
    if let Some(back) = text.strip_prefix('-') {
        return duration_ms(back).map(|back_ms| now_ms - back_ms).map_err(|_| bad());
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return if seconds.is_finite() && seconds.abs() < 1e11 { Ok((seconds * 1_000.0).floor() as i64) } else { Err(bad()) };
    }
    DateTime::parse_from_rfc3339(text).map(|time| time.timestamp_millis()).map_err(|_| bad())
}

/// Milliseconds of `90`, `90s`, `15m`, `1h`, `2d`, `1w`, `250ms`, `1m30s`.
pub(crate) fn duration_ms(text: &str) -> Result<i64, Failure> {
    let bad = || Failure::usage(format!("`{text}` is no duration; write 10s, 15m, 1h, 2d or 1m30s"));
    let (mut rest, mut sum_ms) = (text, 0.0);
    while !rest.is_empty() {
        let (part_ms, tail) = leading_duration_ms(rest).ok_or_else(bad)?;
        // A number without a unit is seconds, and stands alone.
        if tail.is_none() && rest != text {
            return Err(bad());
        }
        (rest, sum_ms) = (tail.unwrap_or_default(), sum_ms + part_ms);
    }
    if text.is_empty() { Err(bad()) } else { Ok(sum_ms as i64) }
}

/// Milliseconds of the first `number unit`, and what follows; nothing follows a number without a unit.
fn leading_duration_ms(text: &str) -> Option<(f64, Option<&str>)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let (unit, rest) = rest.split_at(rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len()));
    let unit_ms = match unit {
        "" if rest.is_empty() => return Some((number * 1e3, None)),
        "ms" => 1.0,
        "s" => 1e3,
        "m" => 6e4,
        "h" => 3.6e6,
        "d" => 8.64e7,
        "w" => 6.048e8,
        _ => return None,
    };
    Some((number * unit_ms, Some(rest)))
}

/// RFC 3339 of Unix milliseconds, with milliseconds only when there are any.
pub(crate) fn rfc3339(time_ms: i64) -> String {
    let format = if time_ms % 1_000 == 0 { SecondsFormat::Secs } else { SecondsFormat::Millis };
    DateTime::from_timestamp_millis(time_ms).map_or_else(|| format!("{time_ms} ms"), |time| time.to_rfc3339_opts(format, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_durations() {
        assert_eq!(parse_ms("2026-11-20T16:00:00Z", 0).ok(), Some(1_795_190_400_000));
        assert_eq!(parse_ms("1795190400.5", 0).ok(), Some(1_795_190_400_500));
        assert_eq!(parse_ms("-1h", 3_600_000).ok(), Some(0));
        assert_eq!(parse_ms("now", 7).ok(), Some(7));
        assert!(parse_ms("yesterday", 7).is_err());
        assert!(parse_ms("NaN", 7).is_err());
        assert_eq!(duration_ms("2d").ok(), Some(172_800_000));
        assert_eq!(["1m30s", "90", "1.5m", "90000ms", "1h", ""].map(|text| duration_ms(text).ok()), {
            let ninety = Some(90_000);
            [ninety, ninety, ninety, ninety, Some(3_600_000), None]
        });
        assert!(["2y", "1m30", "1m 30s", "s", "1..5s", "1m-30s"].iter().all(|text| duration_ms(text).is_err()));
        assert_eq!(rfc3339(1_795_190_400_000), "2026-11-20T16:00:00Z");
    }
}
