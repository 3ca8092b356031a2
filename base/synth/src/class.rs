//! Kinds of fleets: which metrics, tags, lifetimes and shapes series i of a class has.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::walk::{Shape, Values};
use crate::{Spec, SynthSeries};

/// A kind of fleet; `tailors generate --class NAME`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Host metrics that live for the whole range: CPU, memory, disk, network.
    Hosts,
    /// Containers that come and go: 5 to 200 points each.
    Containers,
    /// Monotonic counters with rare resets.
    Counters,
    /// Two-decimal gauges.
    Gauges,
    /// Full-mantissa noise.
    Mantissa,
    /// All of the above, constants, NaN and stale markers.
    Mix,
    /// The five kinds of `rw_load.py month`, in turn: gauge, counter, constant, integers, full mantissa.
    Month,
    /// Two metrics per host as in `rw_load.py fleet`: a value of one of the five kinds, and a counter.
    Fleet,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 8] =
        [Self::Hosts, Self::Containers, Self::Counters, Self::Gauges, Self::Mantissa, Self::Mix, Self::Month, Self::Fleet];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hosts => "hosts",
            Self::Containers => "containers",
            Self::Counters => "counters",
            Self::Gauges => "gauges",
            Self::Mantissa => "mantissa",
            Self::Mix => "mix",
            Self::Month => "month",
            Self::Fleet => "fleet",
        }
    }

    /// The class of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == text)
    }
}

const HOST_METRICS: [(&str, Shape); 8] = [
    ("system.cpu.user", Shape::Walk { decimals: 2, step: 3.0, low: 0.0, high: 100.0 }),
    ("system.mem.used", Shape::Walk { decimals: 0, step: 4096.0, low: 1e6, high: 6e7 }),
    ("system.load.1", Shape::Walk { decimals: 2, step: 0.1, low: 0.0, high: 32.0 }),
    ("system.net.bytes_rcvd", Shape::Counter { rate: 2_000.0, reset: 0.0 }),
    ("system.io.w_s", Shape::Counts { rate: 8.0 }),
    ("system.cpu.num_cores", Shape::Constant { value: 64.0 }),
    ("system.disk.in_use", Shape::Walk { decimals: 4, step: 0.0002, low: 0.0, high: 1.0 }),
    ("system.uptime", Shape::Counter { rate: 1.0, reset: 0.0 }),
];

pub(crate) fn series(spec: &Spec, index: u32) -> SynthSeries {
    // One stream per (seed, series), so that series do not depend on each other.
    let mut rng = ChaCha8Rng::seed_from_u64(spec.seed);
    rng.set_stream(u64::from(index) + 1);
    let class = if spec.class == Class::Mix { of_mix(index) } else { Some(spec.class) };
    let host = |i: u32| ("host".to_owned(), format!("host-{i:05}"));
    match class {
        Some(Class::Hosts) => {
            let (metric, shape) = HOST_METRICS[index as usize % HOST_METRICS.len()];
            let number = index / HOST_METRICS.len() as u32;
            let tags = vec![("env".to_owned(), ["prod", "staging", "dev"][number as usize % 3].to_owned()), host(number)];
            filled(spec, metric.to_owned(), tags, shape, rng, None)
        }
        Some(Class::Containers) => {
            let shapes = [
                ("container.memory.rss", Shape::Pages { step: 16 }),
                ("container.requests", Shape::Counts { rate: 3.0 }),
                ("container.cpu.cores", Shape::Mantissa { mean: 0.4, spread: 0.1 }),
                ("container.restarts", Shape::Constant { value: f64::from(index % 3) }),
            ];
            let (metric, shape) = shapes[index as usize % shapes.len()];
            let tags = vec![
                ("container_id".to_owned(), format!("{:016x}", rng.random::<u64>())),
                host(index % 200),
                ("service".to_owned(), format!("svc-{:02}", index % 40)),
            ];
            let points = rng.random_range(5..=200u32);
            filled(spec, metric.to_owned(), tags, shape, rng, Some(points))
        }
        Some(Class::Counters) => {
            filled(spec, "app.requests.total".to_owned(), vec![host(index)], Shape::Counter { rate: 20.0, reset: 0.000_1 }, rng, None)
        }
        Some(Class::Gauges) => {
            let shape = Shape::Walk { decimals: 2, step: 0.25, low: 0.0, high: 100.0 };
            filled(spec, "app.gauge".to_owned(), vec![host(index)], shape, rng, None)
        }
        Some(Class::Mantissa) => {
            filled(spec, "app.latency".to_owned(), vec![host(index)], Shape::Mantissa { mean: 20.0, spread: 4.0 }, rng, None)
        }
        Some(Class::Month) => {
            let kind = index % 5;
            let level = MONTH_LEVELS.get(index as usize).copied().unwrap_or_else(|| spread_level(index / 5));
            let shape = kind_shape(kind, level);
            filled(spec, format!("bench_kind{kind}"), vec![("series".to_owned(), index.to_string())], shape, rng, None)
        }
        Some(Class::Fleet) => fleet(spec, index, rng),
        Some(Class::Mix) | None => filled(spec, "app.special".to_owned(), vec![host(index)], Shape::Special, rng, None),
    }
}

/// Levels of the 20 series of `rw_load.py month` (numpy's `default_rng(i).integers(10, 100)`): the entropy of kinds 3 and 4 depends on them.
const MONTH_LEVELS: [u32; 20] = [86, 52, 85, 83, 75, 70, 50, 95, 74, 47, 79, 22, 65, 90, 23, 93, 58, 76, 90, 63];

/// Levels 10 to 99, evenly spread over any stretch of numbers, so that a small fleet has the entropy of a large one.
fn spread_level(number: u32) -> u32 {
    // 37 / 90 is close to the golden section.
    10 + (number % 90) * 37 % 90
}

/// Kind 0..5 of `rw_load.py` around a level.
fn kind_shape(kind: u32, level: u32) -> Shape {
    let level = f64::from(level);
    match kind {
        0 => Shape::Hundredths { start: level, step: 25 },
        1 => Shape::Counter { rate: 20.0, reset: 0.0 },
        2 => Shape::Constant { value: level },
        3 => Shape::Counts { rate: level },
        _ => Shape::Mantissa { mean: level, spread: 1.0 },
    }
}

fn fleet(spec: &Spec, index: u32, rng: ChaCha8Rng) -> SynthSeries {
    let number = index / 2;
    let (metric, kind) = if index.is_multiple_of(2) { ("fleet_value", number / 20 % 5) } else { ("fleet_requests_total", 1) };
    let tags = vec![
        ("env".to_owned(), ["prod", "staging", "dev"][number as usize % 3].to_owned()),
        ("host".to_owned(), format!("host-{number:04}")),
        ("region".to_owned(), ["eu-1", "eu-2", "us-1", "us-2"][number as usize % 4].to_owned()),
        ("service".to_owned(), format!("svc-{:02}", number % 20)),
    ];
    // Hosts of a kind, counted through: 20 of each 100.
    let shape = kind_shape(kind, spread_level(number / 100 * 20 + number % 20));
    filled(spec, metric.to_owned(), tags, shape, rng, None)
}

/// Shares of a mix by series: 60 % containers, 25 % host metrics, 5 % counters with resets, 5 % two-decimal gauges, 4 % with NaN, infinities and
/// stale markers, 1 % noise. With points every 30 s, a quarter of the points is short-lived and a twelfth is full-mantissa noise.
fn of_mix(index: u32) -> Option<Class> {
    match index % 20 {
        0..=4 => Some(Class::Hosts),
        5..=16 => Some(Class::Containers),
        17 => Some(Class::Counters),
        18 => Some(Class::Gauges),
        _ if (index / 20).is_multiple_of(5) => Some(Class::Mantissa),
        _ => None,
    }
}

fn filled(spec: &Spec, metric: String, tags: Vec<(String, String)>, shape: Shape, mut rng: ChaCha8Rng, points: Option<u32>) -> SynthSeries {
    let step = spec.step_s.max(1);
    // A step that begins inside the seconds asked for is one of them.
    let steps = spec.seconds.div_ceil(step);
    let count = points.unwrap_or(steps).min(steps);
    let first = if count < steps { rng.random_range(0..=steps - count) } else { 0 };
    let mut values = Values::new(shape, rng);
    let at_ms = |i: u32| (spec.start_s + i64::from(first + i) * i64::from(step)) * 1_000;
    let points = (0..count).map(|i| (at_ms(i), values.next())).collect();
    SynthSeries { metric, tags, points }
}
