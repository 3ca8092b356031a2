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

/// Members are read one by one: what is odd about one must not hide how many points there were, and of which metric.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Series<'a> {
    #[serde(borrow)]
    metric: Option<&'a RawValue>,
    #[serde(borrow)]
    points: Option<&'a RawValue>,
    #[serde(borrow)]
    tags: Option<&'a RawValue>,
    #[serde(borrow)]
    resources: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    unit: Option<&'a RawValue>,
    #[serde(borrow)]
    interval: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Point<'a> {
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resource<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    name: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A JSON object as `T`; serde alone would take an array too, by position.
fn object<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    raw.get().starts_with('{').then(|| serde_json::from_str(raw.get()).ok()).flatten()
}

/// A member as `T`, the default where it is absent or null; `None` when it is something else.
fn member<'a, T: Deserialize<'a> + Default>(raw: Option<&'a RawValue>) -> Option<T> {
    raw.map_or(Some(None), |raw| serde_json::from_str::<Option<T>>(raw.get()).ok()).map(Option::unwrap_or_default)
}

/// Decodes a JSON body; see [`super::decode`].
pub fn decode(body: &[u8], points_max: usize, scratch: &mut DecodeScratch, each: &mut Each<'_>) -> Result<(), Refusal> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(undecodable("JSON: the body is no object"));
    }
    let body: Body<'_> = serde_json::from_slice(body).map_err(|error| undecodable(format!("JSON: {error}")))?;
    let all = body.series.ok_or_else(|| undecodable("JSON: no member `series`"))?;
    let mut points_left = points_max;
    for raw in all {
        let series: Option<Series<'_>> = object(raw);
        let points: Option<Vec<&RawValue>> = series.as_ref().and_then(|series| member(series.points));
        let count = points.as_ref().map_or(0, Vec::len);
        points_left = points_left.checked_sub(count).ok_or_else(|| too_many_points(points_max))?;
        let metric: Option<Text<'_>> = series.as_ref().and_then(|series| member(series.metric));
        let name = metric.as_ref().map_or(&b""[..], |text| text.0.as_bytes());
        let taken = match (&series, &points, &metric) {
            (Some(series), Some(points), Some(_)) => one_series(name, series, points, scratch, each)?,
            _ => false,
        };
        if !taken {
            // How many points were meant can't always be told; one at least.
            each(Item::Refused { reason: Reason::Malformed, points: count.max(1) as u64, metric: name })?;
        }
    }
    Ok(())
}

/// Hands out a series; false when its tags or resources are not of the protocol's shape, so that nobody knows which series it is.
fn one_series(
    metric: &[u8],
    series: &Series<'_>,
    points: &[&RawValue],
    scratch: &mut DecodeScratch,
    each: &mut Each<'_>,
) -> Result<bool, Refusal> {
    if metric.is_empty() {
        return each(Item::Refused { reason: Reason::NoName, points: points.len() as u64, metric }).map(|()| true);
    }
    let texts: Option<Vec<Text<'_>>> = member(series.tags);
    let resources: Option<Vec<&RawValue>> = member(series.resources);
    let resources: Option<Vec<Resource<'_>>> = resources.and_then(|all| all.into_iter().map(object).collect());
    let (Some(texts), Some(resources)) = (&texts, &resources) else { return Ok(false) };
    let mut tags: Vec<TagRef<'_>> = texts.iter().filter_map(|text| tag(&text.0)).collect();
    tags.extend(resources.iter().filter_map(resource));
    canonical(&mut tags);
    scratch.timestamps_ms.clear();
    scratch.values.clear();
    let (mut malformed, mut bad_timestamps, mut bad_values) = (0, 0, 0);
    for raw in points {
        let Some(point) = object::<Point<'_>>(raw) else {
            malformed += 1;
            continue;
        };
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
    for (reason, points) in [(Reason::Malformed, malformed), (Reason::BadTimestamp, bad_timestamps), (Reason::BadValue, bad_values)] {
        if points > 0 {
            each(Item::Refused { reason, points, metric })?;
        }
    }
    if scratch.timestamps_ms.is_empty() {
        return Ok(true);
    }
    // What is no unit is left out; it is no reason to lose points.
    let unit: Text<'_> = member(series.unit).unwrap_or_default();
    let meta = SeriesMeta {
        kind: kind(series.kind),
        unit: if unit.0.len() <= limits::TAG_KEY_BYTES_MAX { unit.0.as_bytes() } else { b"" },
        interval_s: series.interval.and_then(|raw| raw.get().parse().ok()).unwrap_or(0),
    };
    each(Item::Series(SeriesBatch { metric, tags: &tags, meta, timestamps_ms: &scratch.timestamps_ms, values: &scratch.values }))?;
    Ok(true)
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
