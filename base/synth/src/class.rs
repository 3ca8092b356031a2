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
    /// Processes of hosts: half of the series have one point, the others up to 120.
    Processes,
    /// Containers that come and go: 5 to 200 points each.
    Containers,
    /// Monotonic counters with rare resets.
    Counters,
    /// Two-decimal gauges.
    Gauges,
    /// Full-mantissa noise.
    Mantissa,
    /// All of the above, counts, constants, NaN and stale markers, in the shares of `MIX`.
    Mix,
    /// The five kinds of `rw_load.py month`, in turn: gauge, counter, constant, integers, full mantissa.
    Month,
    /// Two metrics per host as in `rw_load.py fleet`: a value of one of the five kinds, and a counter.
    Fleet,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 9] =
        [Self::Hosts, Self::Processes, Self::Containers, Self::Counters, Self::Gauges, Self::Mantissa, Self::Mix, Self::Month, Self::Fleet];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hosts => "hosts",
            Self::Processes => "processes",
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

const PROCESS_METRICS: [(&str, Shape); 5] = [
    ("process.memory.rss", Shape::Pages { step: 16 }),
    ("process.cpu.ticks", Shape::Counter { rate: 4.0, reset: 0.0 }),
    ("process.open_fds", Shape::Counts { rate: 12.0 }),
    ("process.threads", Shape::Constant { value: 8.0 }),
    ("process.ctx_switches", Shape::Counter { rate: 60.0, reset: 0.0 }),
];

const CONTAINER_METRICS: [(&str, Shape); 4] = [
    ("container.memory.rss", Shape::Pages { step: 16 }),
    ("container.requests", Shape::Counts { rate: 3.0 }),
    ("container.cpu.cores", Shape::Mantissa { mean: 0.4, spread: 0.1 }),
    ("container.restarts", Shape::Constant { value: 1.0 }),
];

/// What a mix is made of.
#[derive(Clone, Copy)]
enum Part {
    Hosts,
    Processes,
    Containers,
    /// A metric with one series per host.
    PerHost(&'static str, Shape),
}

const COUNTERS: Part = Part::PerHost("app.requests.total", Shape::Counter { rate: 20.0, reset: 0.000_1 });
const GAUGES: Part = Part::PerHost("app.gauge", Shape::Walk { decimals: 2, step: 0.25, low: 0.0, high: 100.0 });
const MANTISSA: Part = Part::PerHost("app.latency", Shape::Mantissa { mean: 20.0, spread: 4.0 });

/// Of each 2,000 series of a mix, so many. After the data that codecs.md was measured on: nine of ten series live shortly, 7 % of the points are
/// full-mantissa noise, the other points are mostly decimals of series that live for the whole range. 20,000 series over 4 h at 1 s are 5 M points.
const MIX: [(Part, u32); 9] = [
    (Part::Hosts, 8),
    (COUNTERS, 4),
    (Part::PerHost("app.events", Shape::Counts { rate: 6.0 }), 4),
    (GAUGES, 4),
    (Part::PerHost("app.limit", Shape::Constant { value: 512.0 }), 2),
    (Part::PerHost("app.special", Shape::Special), 1),
    (MANTISSA, 1),
    (Part::Processes, 816),
    (Part::Containers, 1_160),
];
const MIX_SERIES: u32 = 2_000;

pub(crate) fn series(spec: &Spec, index: u32) -> SynthSeries {
    // One stream per (seed, series), so that series do not depend on each other.
    let mut rng = ChaCha8Rng::seed_from_u64(spec.seed);
    rng.set_stream(u64::from(index) + 1);
    let part = match spec.class {
        Class::Hosts => Part::Hosts,
        Class::Processes => Part::Processes,
        Class::Containers => Part::Containers,
        Class::Counters => COUNTERS,
        Class::Gauges => GAUGES,
        Class::Mantissa => MANTISSA,
        Class::Month => return month(spec, index, rng),
        Class::Fleet => return fleet(spec, index, rng),
        Class::Mix => {
            let (part, number) = of_mix(index);
            return of_part(spec, part, number, rng);
        }
    };
    of_part(spec, part, index, rng)
}

/// Part of a mix that series `index` belongs to, and its number there. Parts alternate, so that a small mix has some of each.
fn of_mix(index: u32) -> (Part, u32) {
    // 801 and 2,000 have no common divisor.
    let (block, mut place) = (index / MIX_SERIES, index % MIX_SERIES * 801 % MIX_SERIES);
    for (part, share) in MIX {
        if place < share {
            return (part, block * share + place);
        }
        place -= share;
    }
    (Part::Hosts, index)
}

/// Series `number` of a part.
fn of_part(spec: &Spec, part: Part, number: u32, mut rng: ChaCha8Rng) -> SynthSeries {
    let host = |i: u32| ("host".to_owned(), format!("host-{i:05}"));
    match part {
        Part::Hosts => {
            let (metric, shape) = HOST_METRICS[number as usize % HOST_METRICS.len()];
            let number = number / HOST_METRICS.len() as u32;
            let tags = vec![("env".to_owned(), ["prod", "staging", "dev"][number as usize % 3].to_owned()), host(number)];
            filled(spec, metric.to_owned(), tags, shape, rng, None)
        }
        Part::Processes => {
            let (metric, shape) = PROCESS_METRICS[number as usize % PROCESS_METRICS.len()];
            let process = number / PROCESS_METRICS.len() as u32;
            let command = ["sshd", "cron", "sh", "python3", "node", "postgres", "runc"][process as usize % 7];
            let tags = vec![
                ("command".to_owned(), command.to_owned()),
                host(process % 10),
                ("pid".to_owned(), format!("{}", 1_000 + process * 3)),
            ];
            let points = if rng.random::<bool>() { 1 } else { rng.random_range(2..=120u32) };
            filled(spec, metric.to_owned(), tags, shape, rng, Some(points))
        }
        Part::Containers => {
            let (metric, shape) = CONTAINER_METRICS[number as usize % CONTAINER_METRICS.len()];
            let tags = vec![
                ("container_id".to_owned(), format!("{:016x}", rng.random::<u64>())),
                host(number % 200),
                ("service".to_owned(), format!("svc-{:02}", number % 40)),
            ];
            let points = rng.random_range(5..=200u32);
            filled(spec, metric.to_owned(), tags, shape, rng, Some(points))
        }
        Part::PerHost(metric, shape) => filled(spec, metric.to_owned(), vec![host(number)], shape, rng, None),
    }
}

fn month(spec: &Spec, index: u32, rng: ChaCha8Rng) -> SynthSeries {
    let kind = index % 5;
    let level = MONTH_LEVELS.get(index as usize).copied().unwrap_or_else(|| spread_level(index / 5));
    filled(spec, format!("bench_kind{kind}"), vec![("series".to_owned(), index.to_string())], kind_shape(kind, level), rng, None)
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
