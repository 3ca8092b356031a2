//! Prometheus remote write 1.0: `prometheus.WriteRequest`, read in place.
//!
//! ```text
//! WriteRequest   1 TimeSeries*   3 MetricMetadata*
//! TimeSeries     1 Label*  2 Sample*  3 Exemplar* (counted)  4 Histogram* (refused)
//! Label          1 name  2 value            Sample   1 value f64  2 timestamp i64 ms
//! MetricMetadata 1 type  2 metric_family_name  4 help  5 unit
//! ```
//! Written by hand because a generated decoder makes a String per label: the scan below touches each byte once and allocates nothing per series. The
//! layouts that every known sender writes have a short way, anything else valid takes the general one.

use std::str::from_utf8;

use bytes::Bytes;

use tailors_format::payload::{SeriesMeta, TagRef};
use tailors_model::{MetricKind, MetricMeta, TagKind, limits};

use super::wire::{Value, Wire};
use super::{DecodeScratch, Each, Item, SeriesBatch, too_many_points, undecodable};
use crate::refusal::{Reason, Refusal};

const NAME: &[u8] = b"__name__";
/// Labels that are looked at, empty ones and the name included: a body of two-byte labels must not grow into gigabytes.
const LABELS_MAX: usize = 2 * limits::SERIES_TAGS_MAX;
const TAG_1_BYTES: u8 = 0x0a;
const TAG_2_BYTES: u8 = 0x12;
const TAG_1_FIXED64: u8 = 0x09;
const TAG_2_VARINT: u8 = 0x10;

/// Decodes a write request; see [`super::decode`].
pub fn decode(body: &[u8], points_max: usize, scratch: &mut DecodeScratch, each: &mut Each<'_>) -> Result<(), Refusal> {
    let mut labels: Vec<TagRef<'_>> = Vec::with_capacity(32);
    let mut wire = Wire(body);
    let mut points_left = points_max;
    loop {
        if let [TAG_1_BYTES, rest @ ..] = wire.0 {
            wire.0 = rest;
            let series = wire.bytes()?;
            points_left = one_series(series, points_left, &mut labels, scratch, each)?.ok_or_else(|| too_many_points(points_max))?;
            continue;
        }
        match wire.field()? {
            None => return Ok(()),
            Some((1, Value::Bytes(series))) => {
                points_left = one_series(series, points_left, &mut labels, scratch, each)?.ok_or_else(|| too_many_points(points_max))?;
            }
            Some((3, Value::Bytes(message))) => metadata(message, each)?,
            Some((1 | 3, _)) => return Err(undecodable("protobuf: not a prometheus.WriteRequest")),
            Some(_) => {}
        }
    }
}

/// What the labels of a series came to.
struct Scanned<'a> {
    metric: &'a [u8],
    bad: Option<Reason>,
    exemplars: u64,
    histograms: u64,
}

/// One `TimeSeries`. Gives the points that the request may still bring, `None` when this series brought more.
fn one_series<'a>(
    message: &'a [u8],
    points_left: usize,
    labels: &mut Vec<TagRef<'a>>,
    scratch: &mut DecodeScratch,
    each: &mut Each<'_>,
) -> Result<Option<usize>, Refusal> {
    labels.clear();
    scratch.timestamps_ms.clear();
    scratch.values.clear();
    let mut scanned = scan(message, points_left, labels, scratch)?;
    let points = scratch.timestamps_ms.len();
    if points > points_left {
        return Ok(None);
    }
    finish_labels(labels, &mut scanned);
    let metric = scanned.metric;
    if scanned.exemplars > 0 {
        each(Item::Refused { reason: Reason::Exemplar, points: scanned.exemplars, metric })?;
    }
    if scanned.histograms > 0 {
        each(Item::Refused { reason: Reason::NativeHistogram, points: scanned.histograms, metric })?;
    }
    match scanned.bad {
        Some(reason) => each(Item::Refused { reason, points: points as u64, metric })?,
        None if points == 0 => {}
        None => each(Item::Series(SeriesBatch {
            metric,
            tags: labels,
            meta: SeriesMeta::default(),
            timestamps_ms: &scratch.timestamps_ms,
            values: &scratch.values,
        }))?,
    }
    Ok(Some(points_left - points))
}

/// Reads all fields of a `TimeSeries`; stops adding points one above `points_left`.
fn scan<'a>(
    message: &'a [u8],
    points_left: usize,
    labels: &mut Vec<TagRef<'a>>,
    scratch: &mut DecodeScratch,
) -> Result<Scanned<'a>, Refusal> {
    let mut scanned = Scanned { metric: b"", bad: None, exemplars: 0, histograms: 0 };
    let mut wire = Wire(message);
    loop {
        let (number, bytes) = match wire.0 {
            [TAG_1_BYTES, rest @ ..] => {
                wire.0 = rest;
                (1, wire.bytes()?)
            }
            [TAG_2_BYTES, rest @ ..] => {
                wire.0 = rest;
                (2, wire.bytes()?)
            }
            _ => match wire.field()? {
                None => return Ok(scanned),
                Some((number @ 1..=4, Value::Bytes(bytes))) => (number, bytes),
                Some((1..=4, _)) => return Err(undecodable("protobuf: not a prometheus.TimeSeries")),
                Some(_) => continue,
            },
        };
        match number {
            1 => label(bytes, labels, &mut scanned)?,
            2 => {
                let (timestamp_ms, value) = sample(bytes)?;
                if scratch.timestamps_ms.len() > points_left {
                    return Ok(scanned);
                }
                scratch.timestamps_ms.push(timestamp_ms);
                scratch.values.push(value);
            }
            3 => scanned.exemplars += 1,
            _ => scanned.histograms += 1,
        }
    }
}

#[inline]
fn label<'a>(message: &'a [u8], labels: &mut Vec<TagRef<'a>>, scanned: &mut Scanned<'a>) -> Result<(), Refusal> {
    let (key, value) = match short_label(message) {
        Some(pair) => pair,
        None => two_strings(message)?,
    };
    // Tags and short lengths are ASCII too, so one look at the whole message settles the usual case.
    if !message.is_ascii() && (from_utf8(key).is_err() || from_utf8(value).is_err()) {
        scanned.bad.get_or_insert(Reason::NotUtf8);
        return Ok(());
    }
    if labels.len() >= LABELS_MAX {
        scanned.bad.get_or_insert(Reason::TooManyTags);
        return Ok(());
    }
    if key.is_empty() {
        scanned.bad.get_or_insert(Reason::EmptyLabel);
    }
    labels.push(TagRef { key, kind: TagKind::Pair, value });
    Ok(())
}

/// `0a len key 12 len value` with nothing after it: how every known sender writes a label.
#[inline]
fn short_label(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let [TAG_1_BYTES, key_len @ 0..=0x7f, rest @ ..] = message else { return None };
    let (key, rest) = rest.split_at_checked(usize::from(*key_len))?;
    let [TAG_2_BYTES, value_len @ 0..=0x7f, value @ ..] = rest else { return None };
    (value.len() == usize::from(*value_len)).then_some((key, value))
}

fn two_strings(message: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let (mut key, mut value): (&[u8], &[u8]) = (b"", b"");
    let mut wire = Wire(message);
    while let Some(field) = wire.field()? {
        match field {
            (1, Value::Bytes(bytes)) => key = bytes,
            (2, Value::Bytes(bytes)) => value = bytes,
            (1 | 2, _) => return Err(undecodable("protobuf: not a prometheus.Label")),
            _ => {}
        }
    }
    Ok((key, value))
}

#[inline]
fn sample(message: &[u8]) -> Result<(i64, f64), Refusal> {
    if let [TAG_1_FIXED64, a, b, c, d, e, f, g, h, TAG_2_VARINT, rest @ ..] = message {
        let mut wire = Wire(rest);
        let timestamp = wire.varint()?;
        if wire.0.is_empty() {
            // int64 travels as its two's complement.
            return Ok((timestamp as i64, f64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h])));
        }
    }
    let (mut timestamp_ms, mut value) = (0, 0.0);
    let mut wire = Wire(message);
    while let Some(field) = wire.field()? {
        match field {
            (1, Value::Fixed64(bytes)) => value = f64::from_le_bytes(bytes),
            (2, Value::Varint(number)) => timestamp_ms = number as i64,
            (1 | 2, _) => return Err(undecodable("protobuf: not a prometheus.Sample")),
            _ => {}
        }
    }
    Ok((timestamp_ms, value))
}

/// Sorts where the sender did not, finds the name, drops empty values.
fn finish_labels<'a>(labels: &mut Vec<TagRef<'a>>, scanned: &mut Scanned<'a>) {
    if !labels.windows(2).all(|pair| pair[0].key < pair[1].key) {
        labels.sort_unstable_by(|a, b| a.key.cmp(b.key));
        if labels.windows(2).any(|pair| pair[0].key == pair[1].key) {
            scanned.bad.get_or_insert(Reason::DuplicateLabel);
        }
    }
    labels.retain(|label| {
        if label.key == NAME {
            scanned.metric = label.value;
            return false;
        }
        !label.value.is_empty()
    });
    if scanned.metric.is_empty() {
        scanned.bad.get_or_insert(Reason::NoName);
    }
}

fn metadata(message: &[u8], each: &mut Each<'_>) -> Result<(), Refusal> {
    let (mut kind, mut metric, mut help, mut unit): (u64, &[u8], &[u8], &[u8]) = (0, b"", b"", b"");
    let mut wire = Wire(message);
    while let Some(field) = wire.field()? {
        match field {
            (1, Value::Varint(number)) => kind = number,
            (2, Value::Bytes(bytes)) => metric = bytes,
            (4, Value::Bytes(bytes)) => help = bytes,
            (5, Value::Bytes(bytes)) => unit = bytes,
            (1 | 2 | 4 | 5, _) => return Err(undecodable("protobuf: not a prometheus.MetricMetadata")),
            _ => {}
        }
    }
    let usable = !metric.is_empty() && metric.len() <= limits::METRIC_BYTES_MAX && from_utf8(metric).is_ok();
    if !usable {
        return each(Item::Refused { reason: Reason::Metadata, points: 1, metric });
    }
    let kind = match kind {
        1 => MetricKind::Counter,
        2 => MetricKind::Gauge,
        3 | 4 => MetricKind::Histogram,
        5 => MetricKind::Summary,
        _ => MetricKind::Unknown,
    };
    let meta =
        MetricMeta { kind, unit: text(unit, limits::TAG_KEY_BYTES_MAX), interval_s: 0, help: text(help, limits::TAG_VALUE_BYTES_MAX) };
    each(Item::Metadata { metric, meta })
}

/// The longest valid UTF-8 prefix of at most `bytes_max` bytes: descriptions are shortened, never a reason to refuse.
fn text(bytes: &[u8], bytes_max: usize) -> Bytes {
    let cut = &bytes[..bytes.len().min(bytes_max)];
    let valid = cut.utf8_chunks().next().map_or(0, |chunk| chunk.valid().len());
    Bytes::copy_from_slice(&cut[..valid])
}
