//! A remote write 1.0 body from truth points: the sending half, kept apart from the intake's decoder so that each checks the other.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::exit::Failure;
use crate::truth::{Identity, TruthPoint};

/// Snappy-compressed `prometheus.WriteRequest` of the points, series in order of their numbers.
pub(crate) fn encode(points: &[TruthPoint], identities: &[Identity]) -> Result<Bytes, Failure> {
    let mut by_series: BTreeMap<u32, Vec<&TruthPoint>> = BTreeMap::new();
    for point in points {
        by_series.entry(point.series).or_default().push(point);
    }
    let (mut body, mut series, mut sample) = (Vec::new(), Vec::new(), Vec::new());
    for (number, points) in by_series {
        series.clear();
        let identity = &identities[number as usize];
        let name = ("__name__", identity.metric.as_str());
        let mut labels: Vec<(&str, &str)> =
            identity.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain([name]).collect();
        labels.sort_unstable();
        for (name, value) in labels {
            sample.clear();
            field(&mut sample, 1, name.as_bytes());
            field(&mut sample, 2, value.as_bytes());
            field(&mut series, 1, &sample);
        }
        for point in points {
            sample.clear();
            sample.push(1 << 3 | 1);
            sample.extend_from_slice(&point.value.to_bits().to_le_bytes());
            sample.push(2 << 3);
            varint(&mut sample, point.time_ms as u64);
            field(&mut series, 2, &sample);
        }
        field(&mut body, 1, &series);
    }
    let packed = snap::raw::Encoder::new().compress_vec(&body).map_err(|error| Failure::usage(error.to_string()))?;
    Ok(Bytes::from(packed))
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, value: u64) {
    tailors_format::bytes::put_varint(out, value);
}
