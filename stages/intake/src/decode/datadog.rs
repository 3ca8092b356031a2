//! Datadog `/api/v2/series` as JSON, read in place: names borrow from the body unless they hold escapes, numbers are parsed from their text.
//!
//! Each series and each number is read by itself, so that one bad series or point never takes others with it. Times are whole or decimal seconds,
//! floored to milliseconds exactly (through f64, 1763726400.123 could become .122); values go through the standard parser, which is exact to the bit.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use tailors_format::payload::{SeriesMeta, TagRef};
use tailors_model::{MetricKind, TagKind, limits};

use super::{DecodeScratch, Each, Item, SeriesBatch, canonical, too_many_points, undecodable};
use crate::refusal::{Reason, Refusal};

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    series: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Series<'a> {
    #[serde(borrow, default)]
    metric: Option<Text<'a>>,
    #[serde(borrow, default)]
    points: Option<Vec<Point<'a>>>,
    #[serde(borrow, default)]
    tags: Option<Vec<Text<'a>>>,
    #[serde(borrow, default)]
    resources: Option<Vec<Resource<'a>>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    unit: Option<Text<'a>>,
    #[serde(borrow, default)]
    interval: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Point<'a> {
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Resource<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Decodes a JSON body; see [`super::decode`].
pub fn decode(body: &[u8], points_max: usize, scratch: &mut DecodeScratch, each: &mut Each<'_>) -> Result<(), Refusal> {
    let body: Body<'_> = serde_json::from_slice(body).map_err(|error| undecodable(format!("JSON: {error}")))?;
    let all = body.series.ok_or_else(|| undecodable("JSON: no member `series`"))?;
    let mut points_left = points_max;
    for raw in all {
        match serde_json::from_str::<Series<'_>>(raw.get()) {
            Ok(series) => {
                let points = series.points.as_ref().map_or(0, Vec::len);
                points_left = points_left.checked_sub(points).ok_or_else(|| too_many_points(points_max))?;
                one_series(&series, scratch, each)?;
            }
            Err(_) => each(Item::Refused { reason: Reason::Malformed, points: 0, metric: b"" })?,
        }
    }
    Ok(())
}

fn one_series(series: &Series<'_>, scratch: &mut DecodeScratch, each: &mut Each<'_>) -> Result<(), Refusal> {
    let metric = series.metric.as_ref().map_or("", |text| &text.0).as_bytes();
    let points = series.points.as_deref().unwrap_or_default();
    if metric.is_empty() {
        return each(Item::Refused { reason: Reason::NoName, points: points.len() as u64, metric });
    }
    let mut tags: Vec<TagRef<'_>> = series.tags.iter().flatten().filter_map(|text| tag(&text.0)).collect();
    tags.extend(series.resources.iter().flatten().filter_map(resource));
    canonical(&mut tags);
    scratch.timestamps_ms.clear();
    scratch.values.clear();
    let (mut bad_timestamps, mut bad_values) = (0, 0);
    for point in points {
        let Some(timestamp_ms) = point.timestamp.and_then(|raw| milliseconds(raw.get())) else {
            bad_timestamps += 1;
            continue;
        };
        let Some(value) = point.value.and_then(|raw| number(raw.get())) else {
            bad_values += 1;
            continue;
        };
        scratch.timestamps_ms.push(timestamp_ms);
        scratch.values.push(value);
    }
    for (reason, points) in [(Reason::BadTimestamp, bad_timestamps), (Reason::BadValue, bad_values)] {
        if points > 0 {
            each(Item::Refused { reason, points, metric })?;
        }
    }
    if scratch.timestamps_ms.is_empty() {
        return Ok(());
    }
    let meta = SeriesMeta {
        kind: kind(series.kind),
        // A unit too long to be one is left out; it is no reason to lose points.
        unit: series.unit.as_ref().map(|text| text.0.as_bytes()).filter(|unit| unit.len() <= limits::TAG_KEY_BYTES_MAX).unwrap_or_default(),
        interval_s: series.interval.and_then(|raw| raw.get().parse().ok()).unwrap_or(0),
    };
    each(Item::Series(SeriesBatch { metric, tags: &tags, meta, timestamps_ms: &scratch.timestamps_ms, values: &scratch.values }))
}

/// `k:v` split at the first colon; a bare tag is kept as it is, also one without anything before its colon.
fn tag(text: &str) -> Option<TagRef<'_>> {
    match text.split_once(':') {
        Some((key, value)) if !key.is_empty() => Some(TagRef { key: key.as_bytes(), kind: TagKind::Pair, value: value.as_bytes() }),
        _ if text.is_empty() => None,
        _ => Some(TagRef { key: text.as_bytes(), kind: TagKind::Bare, value: b"" }),
    }
}

/// Resources become tags: `host`, `device` and every other type by its own name.
fn resource<'a>(resource: &'a Resource<'_>) -> Option<TagRef<'a>> {
    let (kind, name) = (&resource.kind.as_ref()?.0, &resource.name.as_ref()?.0);
    (!kind.is_empty() && !name.is_empty()).then(|| TagRef { key: kind.as_bytes(), kind: TagKind::Pair, value: name.as_bytes() })
}

fn kind(raw: Option<&RawValue>) -> MetricKind {
    match raw.map(RawValue::get) {
        Some("1") => MetricKind::Count,
        Some("2") => MetricKind::Rate,
        Some("3") => MetricKind::Gauge,
        _ => MetricKind::Unknown,
    }
}

/// The double nearest to a JSON number; `None` for anything else and beyond the range of doubles.
fn number(text: &str) -> Option<f64> {
    let starts = text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    text.parse().ok().filter(|value: &f64| starts && value.is_finite())
}

/// Milliseconds of decimal seconds, floored; far beyond any limit it saturates. `None` when the text is no JSON number.
pub(super) fn milliseconds(text: &str) -> Option<i64> {
    /// Digits that count; more can't move a millisecond within any limit but by the floor, which `cut` remembers.
    const DIGITS_MAX: u32 = 30;
    let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (plain, exponent) = rest.split_once(['e', 'E']).map_or((rest, Some(0)), |(plain, exponent)| (plain, exponent.parse::<i64>().ok()));
    let (whole, fraction) = plain.split_once('.').unwrap_or((plain, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if whole.is_empty() || !digits().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (mut number, mut taken, mut dropped, mut cut) = (0i128, 0u32, 0i64, false);
    for digit in digits().map(|byte| i128::from(byte - b'0')) {
        if taken == DIGITS_MAX {
            dropped += 1;
            cut |= digit > 0;
        } else {
            number = number * 10 + digit;
            taken += u32::from(number > 0);
        }
    }
    // number * 10^shift milliseconds.
    let shift = exponent?.saturating_sub(i64::try_from(fraction.len()).ok()?).saturating_add(dropped + 3);
    let magnitude = if shift >= 0 {
        let power = u32::try_from(shift).ok().and_then(|shift| 10i128.checked_pow(shift));
        if number == 0 { 0 } else { power.and_then(|power| number.checked_mul(power)).unwrap_or(i128::MAX) }
    } else {
        let power = u32::try_from(-shift).ok().and_then(|shift| 10i128.checked_pow(shift)).unwrap_or(i128::MAX);
        cut |= number % power > 0;
        number / power
    };
    let floored = if negative { magnitude.saturating_neg().saturating_sub(i128::from(cut)) } else { magnitude };
    Some(i64::try_from(floored).unwrap_or(if negative { i64::MIN } else { i64::MAX }))
}
