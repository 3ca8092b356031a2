//! Remote write bodies shaped as those of `rw_load.py` (1, 5, 500 samples per series), values from base/synth.

use std::rc::Rc;

use tailors_synth::{Class, Spec};

use crate::Outcome;

/// Points of a body.
const BODY_POINTS: usize = 10_000;

/// What bodies look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// 5,000 hosts, one sample per series, every second.
    Live,
    /// 1,000 hosts, five samples per series, every 10 s.
    Fleet,
    /// 20 series, 500 samples each, every second.
    Month,
    /// 500 hosts, ten samples per series, every 10 s: the payload format's decode speed is promised at ten points a run.
    Ten,
}

impl Shape {
    /// Those that `rw_load.py` sends.
    pub(crate) const OF_RW_LOAD: [Self; 3] = [Self::Live, Self::Fleet, Self::Month];

    /// Its name in the issues.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Fleet => "fleet",
            Self::Month => "month",
            Self::Ten => "ten points a run",
        }
    }

    fn samples(self) -> usize {
        match self {
            Self::Live => 1,
            Self::Fleet => 5,
            Self::Month => 500,
            Self::Ten => 10,
        }
    }

    fn step_s(self) -> u32 {
        if matches!(self, Self::Fleet | Self::Ten) { 10 } else { 1 }
    }

    /// Seconds that one body covers.
    pub(crate) fn body_s(self) -> u32 {
        self.samples() as u32 * self.step_s()
    }
}

/// A series' name.
#[derive(Debug)]
pub(crate) struct Labels {
    pub(crate) metric: String,
    pub(crate) tags: Vec<(String, String)>,
}

/// One request: all series, the same times in each.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) times_ms: Vec<i64>,
    labels: Rc<Vec<Labels>>,
    /// As many as times, series after series.
    values: Vec<f64>,
}

/// `count` requests in time order, the first beginning at `start_s`.
pub(crate) fn requests(shape: Shape, count: usize, start_s: i64) -> Vec<Request> {
    let samples = shape.samples();
    let class = if shape == Shape::Month { Class::Month } else { Class::Fleet };
    let series = (BODY_POINTS / samples) as u32;
    let spec = Spec { class, seed: 4, series, start_s, seconds: count as u32 * shape.body_s(), step_s: shape.step_s() };
    let mut labels = Vec::new();
    let mut columns = vec![(Vec::new(), Vec::with_capacity(BODY_POINTS)); count];
    for series in tailors_synth::generate(spec) {
        for ((times, values), points) in columns.iter_mut().zip(series.points.chunks(samples)) {
            if labels.is_empty() {
                times.extend(points.iter().map(|(at, _)| *at));
            }
            values.extend(points.iter().map(|(_, value)| *value));
        }
        labels.push(Labels { metric: series.metric, tags: series.tags });
    }
    let labels = Rc::new(labels);
    columns.into_iter().map(|(times_ms, values)| Request { times_ms, labels: labels.clone(), values }).collect()
}

impl Request {
    pub(crate) fn points(&self) -> usize {
        self.values.len()
    }

    /// Each series with its values.
    pub(crate) fn series(&self) -> impl Iterator<Item = (&Labels, &[f64])> {
        self.labels.iter().zip(self.values.chunks(self.times_ms.len()))
    }

    /// The `prometheus.WriteRequest`, not compressed.
    pub(crate) fn remote_write(&self) -> Vec<u8> {
        let (mut body, mut message, mut part) = (Vec::new(), Vec::new(), Vec::new());
        for (labels, values) in self.series() {
            message.clear();
            // `__name__` sorts before every label of these.
            let name = ("__name__", labels.metric.as_str());
            let pairs = labels.tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            for (key, value) in std::iter::once(name).chain(pairs) {
                part.clear();
                field(&mut part, 1, key.as_bytes());
                field(&mut part, 2, value.as_bytes());
                field(&mut message, 1, &part);
            }
            for (time, value) in self.times_ms.iter().zip(values) {
                part.clear();
                part.push(1 << 3 | 1);
                part.extend_from_slice(&value.to_le_bytes());
                part.push(2 << 3);
                varint(&mut part, *time as u64);
                field(&mut message, 2, &part);
            }
            field(&mut body, 1, &message);
        }
        body
    }
}

/// A body as it is sent.
pub(crate) fn snappy(body: &[u8]) -> Outcome<Vec<u8>> {
    Ok(snap::raw::Encoder::new().compress_vec(body)?)
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, value: u64) {
    tailors_format::bytes::put_varint(out, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_ten_thousand_points_each() {
        for shape in Shape::OF_RW_LOAD {
            let requests = requests(shape, 2, 1_800_000_000);
            assert_eq!(requests.iter().map(Request::points).collect::<Vec<_>>(), [BODY_POINTS; 2], "{shape:?}");
            assert!(requests[0].times_ms.last() < requests[1].times_ms.first());
            assert!(requests.iter().all(|request| request.series().count() * request.times_ms.len() == BODY_POINTS), "{shape:?}");
        }
    }

    /// What `rw_load.py encode` says of its own: bytes a point, raw and with snappy.
    #[test]
    fn bodies_are_as_long_as_those_of_rw_load() {
        for (shape, raw, packed) in [(Shape::Live, 117.17, 15.27), (Shape::Fleet, 38.03, 8.25), (Shape::Month, 18.08, 8.27)] {
            let requests = requests(shape, 20, 1_795_132_800);
            let bodies: Vec<Vec<u8>> = requests.iter().map(Request::remote_write).collect();
            let sent: usize = bodies.iter().map(|body| snappy(body).map_or(0, |packed| packed.len())).sum();
            let per_point = |bytes: usize| bytes as f64 / (bodies.len() * BODY_POINTS) as f64;
            let found = (per_point(bodies.iter().map(Vec::len).sum()), per_point(sent));
            assert!((found.0 - raw).abs() < 0.01, "{shape:?}: {found:?}");
            // Values differ: counters of base/synth begin higher.
            assert!((found.1 / packed - 1.0).abs() < 0.15, "{shape:?}: {found:?}");
        }
    }
}
