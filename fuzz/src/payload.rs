//! Payloads: what the log and raw files hold.

use tailors_format::payload::{
    PayloadWriter, SeriesMeta, Stamp, TagRef, census_len, decode_labels, decode_points, decode_runs, read_header,
};
use tailors_model::{MetricKind, OrgId, TagKind, Window};

pub(crate) fn payload(data: &[u8]) -> bool {
    read(data).is_some()
}

/// Reads as the build does, and gives the bits of all values.
fn read(data: &[u8]) -> Option<Vec<u64>> {
    read_header(data).ok()?;
    let census = data.get(..census_len(data).ok()?)?;
    let (labels, runs) = (decode_labels(census).ok()?, decode_runs(census).ok()?);
    let points = decode_points(data, &runs).ok()?;
    for run in &runs {
        if let Some(series) = labels.series.get(run.series as usize) {
            assert!(labels.tags_of(series).count() <= labels.refs_of(series).len());
        }
    }
    assert_eq!(runs.iter().map(|run| u64::from(run.points)).sum::<u64>(), points.values.len() as u64);
    Some(points.values.iter().map(|value| value.to_bits()).collect())
}

fn stamp() -> Stamp {
    let window = Window::of_ms(1_795_132_800_000);
    let (admitted_from_ms, admitted_to_ms) = (window.start_ms(), window.end_ms());
    Stamp { org: OrgId(7), window, received_at_us: 1_795_132_801_000_123, intake_id: 99, sequence: 3, admitted_from_ms, admitted_to_ms }
}

/// Series of values, cut from bytes: 1 B how many, 1 B step, then 8 B each.
fn write(data: &[u8]) -> (Option<Vec<u8>>, Vec<u64>) {
    let mut writer = PayloadWriter::with_hash_seed(1);
    let (mut rest, mut bits) = (data, Vec::new());
    for number in 0u8..32 {
        let [count, step, tail @ ..] = rest else { break };
        let wanted = usize::from(*count).min(tail.len() / 8);
        let (body, after) = tail.split_at(wanted * 8);
        let values: Vec<f64> = body.chunks_exact(8).map(|eight| f64::from_le_bytes(eight.try_into().unwrap_or_default())).collect();
        let times: Vec<i64> =
            (0..).map(|at| stamp().window.start_ms() + at * (1 + i64::from(*step) * 100) % 14_400_000).take(values.len()).collect();
        let tags = [TagRef { key: b"host", kind: TagKind::Pair, value: &[b'a' + number % 26] }];
        let series = writer.series(b"m", &tags, SeriesMeta { kind: MetricKind::Gauge, unit: b"", interval_s: 0 });
        writer.points(series, &times, &values);
        bits.extend(values.iter().map(|value| value.to_bits()));
        rest = after;
    }
    (writer.finish(&stamp()).ok(), bits)
}

/// Encodes and decodes: the same values, bit for bit, whatever they are.
pub(crate) fn round_trip(data: &[u8]) -> bool {
    let (encoded, mut bits) = write(data);
    let Some(encoded) = encoded else { return bits.is_empty() };
    let mut decoded = read(&encoded).unwrap_or_default();
    decoded.sort_unstable();
    bits.sort_unstable();
    assert_eq!(decoded, bits, "payload round trip");
    true
}

pub(crate) fn payload_seeds() -> Vec<Vec<u8>> {
    round_trip_seeds().iter().filter_map(|seed| write(seed).0).collect()
}

pub(crate) fn round_trip_seeds() -> Vec<Vec<u8>> {
    let series = |step: u8, values: &[f64]| {
        let mut out = vec![values.len() as u8, step];
        values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
        out
    };
    let mixed = series(0, &[1.5, -0.0, f64::NAN, f64::INFINITY, 0.1 + 0.2, 1e300]);
    vec![series(10, &[1.0, 2.0, 3.25]), [series(1, &[7.0; 40]), mixed].concat()]
}
