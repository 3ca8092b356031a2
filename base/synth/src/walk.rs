//! Shapes of values: walks, counters with resets, Poisson counts, full-mantissa noise. Each is an endless iterator over seconds.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, Poisson};

/// How the values of a series come about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// Clamped random walk kept to this many decimals.
    Walk { decimals: i32, step: f64, low: f64, high: f64 },
    /// Unclamped walk in whole hundredths, each step as likely from -step to step.
    Hundredths { start: f64, step: i32 },
    /// Memory in whole pages of 4,096 bytes: a walk of up to so many pages a step, that stands still every other time.
    Pages { step: i32 },
    /// Sum of Poisson increments that starts over with this chance per point.
    Counter { rate: f64, reset: f64 },
    /// Independent Poisson counts.
    Counts { rate: f64 },
    /// One value.
    Constant { value: f64 },
    /// Normal noise with all 52 bits of mantissa.
    Mantissa { mean: f64, spread: f64 },
    /// A walk that now and then is NaN, infinite, -0.0 or Prometheus' stale marker.
    Special,
}

/// Prometheus' stale marker, a NaN with a payload of its own.
pub(crate) const STALE_NAN: u64 = 0x7ff0_0000_0000_0002;

/// Values of one shape, continuing from call to call.
pub(crate) struct Values {
    shape: Shape,
    rng: ChaCha8Rng,
    last: f64,
}

impl Values {
    pub(crate) fn new(shape: Shape, mut rng: ChaCha8Rng) -> Self {
        let last = match shape {
            Shape::Walk { low, high, .. } => low + (high - low) * rng.random::<f64>(),
            Shape::Hundredths { start, .. } => start * 100.0,
            Shape::Pages { .. } => 4_096.0 * f64::from(rng.random_range(1_000..100_000)),
            Shape::Special => 50.0,
            _ => rng.random_range(0..1_000_000) as f64,
        };
        Self { shape, rng, last }
    }

    pub(crate) fn next(&mut self) -> f64 {
        match self.shape {
            Shape::Walk { decimals, step, low, high } => self.walk(decimals, step, low, high),
            Shape::Hundredths { step, .. } => {
                self.last += f64::from(self.rng.random_range(-step..=step));
                self.last / 100.0
            }
            Shape::Pages { step } => {
                if self.rng.random::<bool>() {
                    self.last = (self.last + 4_096.0 * f64::from(self.rng.random_range(-step..=step))).max(4_096.0);
                }
                self.last
            }
            Shape::Counter { rate, reset } => {
                self.last = if self.rng.random::<f64>() < reset { 0.0 } else { self.last + self.poisson(rate) };
                self.last
            }
            Shape::Counts { rate } => self.poisson(rate),
            Shape::Constant { value } => value,
            Shape::Mantissa { mean, spread } => Normal::new(mean, spread).map_or(mean, |normal| normal.sample(&mut self.rng)),
            Shape::Special => match self.rng.random_range(0..100) {
                0 => f64::NAN,
                1 => f64::from_bits(STALE_NAN),
                2 => f64::INFINITY,
                3 => -0.0,
                _ => self.walk(2, 0.25, 0.0, 100.0),
            },
        }
    }

    fn walk(&mut self, decimals: i32, step: f64, low: f64, high: f64) -> f64 {
        let scale = 10f64.powi(decimals);
        let next = (self.last + step * (self.rng.random::<f64>() * 2.0 - 1.0)).clamp(low, high);
        self.last = next;
        (next * scale).round() / scale
    }

    fn poisson(&mut self, rate: f64) -> f64 {
        Poisson::new(rate).map_or(0.0, |poisson| poisson.sample(&mut self.rng))
    }
}
