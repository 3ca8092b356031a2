//! Functions of a range vector: the windows of all steps slide over a series once, by index; each window gives at most one value.

use std::ops::Range;

use super::pieces::Pieces;
use super::rate::{self, Extrapolation, Window};
use super::selector::{Grid, drop_stale};
use super::value::{ABSENT, is_absent};

/// A function of a range vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RangeFunction {
    Extrapolated(Extrapolation),
    LastTwo {
        counter: bool,
    },
    Avg,
    Min,
    Max,
    Sum,
    Count,
    Last,
    First,
    Present,
    /// Present too, but the engine turns it round over all series.
    AbsentInput,
    Stddev,
    Stdvar,
    Mad,
    Quantile,
    Changes,
    Resets,
    Deriv,
    PredictLinear,
    DoubleExponentialSmoothing,
    /// Time of the first, last, least or greatest value.
    TimeOf(Which),
}

/// Which point of a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Which {
    First,
    Last,
    Least,
    Greatest,
}

impl RangeFunction {
    /// The function of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let extrapolated = |counter, per_second| Self::Extrapolated(Extrapolation { counter, per_second });
        Some(match name {
            "rate" => extrapolated(true, true),
            "increase" => extrapolated(true, false),
            "delta" => extrapolated(false, false),
            "irate" => Self::LastTwo { counter: true },
            "idelta" => Self::LastTwo { counter: false },
            "avg_over_time" => Self::Avg,
            "min_over_time" => Self::Min,
            "max_over_time" => Self::Max,
            "sum_over_time" => Self::Sum,
            "count_over_time" => Self::Count,
            "last_over_time" => Self::Last,
            "first_over_time" => Self::First,
            "present_over_time" => Self::Present,
            "absent_over_time" => Self::AbsentInput,
            "stddev_over_time" => Self::Stddev,
            "stdvar_over_time" => Self::Stdvar,
            "mad_over_time" => Self::Mad,
            "quantile_over_time" => Self::Quantile,
            "changes" => Self::Changes,
            "resets" => Self::Resets,
            "deriv" => Self::Deriv,
            "predict_linear" => Self::PredictLinear,
            "double_exponential_smoothing" => Self::DoubleExponentialSmoothing,
            "ts_of_first_over_time" => Self::TimeOf(Which::First),
            "ts_of_last_over_time" => Self::TimeOf(Which::Last),
            "ts_of_min_over_time" => Self::TimeOf(Which::Least),
            "ts_of_max_over_time" => Self::TimeOf(Which::Greatest),
            _ => return None,
        })
    }

    /// Whether results keep the metric's name.
    pub(crate) fn keeps_name(self) -> bool {
        matches!(self, Self::Last | Self::First | Self::TimeOf(Which::First | Which::Last))
    }

    fn looks_at_falls(self) -> bool {
        matches!(self, Self::Resets) || matches!(self, Self::Extrapolated(how) if how.counter)
    }
}

/// One function with what it needs, for every series of a selector alike.
#[derive(Clone, Debug)]
pub(crate) struct Slide {
    pub(crate) function: RangeFunction,
    /// Times at which windows end, `offset` already subtracted.
    pub(crate) times: Grid,
    pub(crate) range_ms: i64,
    /// Evaluation times of the steps, before `@` and `offset`.
    pub(crate) evaluated: Grid,
    /// Scalar arguments, each at every step.
    pub(crate) arguments: Vec<Vec<f64>>,
}

/// Windows sliding over the points of one series as they come, part by part; holds no more points than the windows still need.
#[derive(Default)]
pub(crate) struct Slider {
    /// One value for each window that is over.
    out: Vec<f64>,
    /// Points that windows to come may see.
    times: Vec<i64>,
    values: Vec<f64>,
    /// Positions in the whole series: of the first point kept, and at which a value is below the one before it.
    first: usize,
    falls: Vec<usize>,
    last: Option<f64>,
    seen: usize,
    /// Asked for at the first window; `None` inside when every window is passed over by itself.
    pieces: Option<Option<Pieces>>,
    scratch: Vec<f64>,
}

impl Slider {
    /// Takes the next points; they may hold stale markers, which windows never see.
    pub(crate) fn push(&mut self, how: &Slide, times: &[i64], values: &[f64]) {
        if values.iter().fold(false, |stale, value| stale | is_absent(*value)) {
            let (mut times, mut values) = (times.to_vec(), values.to_vec());
            drop_stale(&mut times, &mut values);
            self.push_numbers(how, &times, &values);
        } else {
            self.push_numbers(how, times, values);
        }
    }

    fn push_numbers(&mut self, how: &Slide, times: &[i64], values: &[f64]) {
        let Some(last_ms) = times.last().copied() else { return };
        self.note_falls(how, values);
        let gone = self.falls.partition_point(|fall| *fall <= self.first);
        if gone * 2 > self.falls.len() {
            self.falls.drain(..gone);
        }
        let start = self.seen;
        self.seen += times.len();
        if let Some(kept_ms) = self.times.last().copied() {
            // Windows that hold a kept point end before this.
            let reach = times.partition_point(|at| *at < kept_ms.saturating_add(how.range_ms));
            self.times.extend_from_slice(&times[..reach]);
            self.values.extend_from_slice(&values[..reach]);
            let known_ms = times.get(reach).copied().unwrap_or(last_ms + 1);
            let (kept_times, kept_values) = (std::mem::take(&mut self.times), std::mem::take(&mut self.values));
            let needed = self.run(how, (&kept_times, &kept_values), self.first, known_ms);
            (self.times, self.values) = (kept_times, kept_values);
            if reach == times.len() {
                // Moving the rest is paid for by as many points that go.
                if needed * 2 > self.times.len() {
                    self.times.drain(..needed);
                    self.values.drain(..needed);
                    self.first += needed;
                }
                return;
            }
            // All windows left begin behind what was kept: they see this part alone.
            self.times.clear();
            self.values.clear();
        }
        let needed = self.run(how, (times, values), start, last_ms + 1);
        self.times.extend_from_slice(&times[needed..]);
        self.values.extend_from_slice(&values[needed..]);
        self.first = start + needed;
    }

    fn note_falls(&mut self, how: &Slide, values: &[f64]) {
        if how.function.looks_at_falls() {
            let before = self.last.into_iter().chain(values.iter().copied());
            let skip = usize::from(self.last.is_none());
            let pairs = before.zip(values[skip..].iter().copied()).enumerate();
            self.falls.extend(pairs.filter(|(_, (before, value))| value < before).map(|(at, _)| self.seen + skip + at));
            self.last = values.last().copied();
        }
    }

    /// Values of the windows that end before `known_ms`, up to which all points are there. `at` is the first point's position in the series.
    /// Returns how many points no later window needs.
    fn run(&mut self, how: &Slide, (times, values): (&[i64], &[f64]), at: usize, known_ms: i64) -> usize {
        let (mut from, mut to) = (0, 0);
        let mut scratch = std::mem::take(&mut self.scratch);
        while self.out.len() < how.times.steps {
            let step = self.out.len();
            let end_ms = how.times.at(step);
            let start_ms = end_ms - how.range_ms;
            if end_ms >= known_ms {
                from = after(times, from, start_ms);
                break;
            }
            from = after(times, from, start_ms);
            to = after(times, to.max(from), end_ms);
            if from == to {
                self.out.push(ABSENT);
                continue;
            }
            let whole = self.whole(how, (times, values), at, from..to);
            let falls_from = self.falls.partition_point(|fall| *fall <= at + from);
            let falls_to = falls_from + self.falls[falls_from..].partition_point(|fall| *fall < at + to);
            let window = Window {
                start_ms,
                end_ms,
                timestamps: &times[from..to],
                values: &values[from..to],
                falls: &self.falls[falls_from..falls_to],
                first: at + from,
            };
            let value = whole.or_else(|| one(how, &window, step, &mut scratch));
            self.out.push(value.unwrap_or(ABSENT));
        }
        self.scratch = scratch;
        if self.out.len() < how.times.steps { from } else { times.len() }
    }

    /// The value of a window that overlaps others, if it can be put together of pieces.
    fn whole(&mut self, how: &Slide, (times, values): (&[i64], &[f64]), at: usize, window: Range<usize>) -> Option<f64> {
        let (step_ms, range_ms) = (how.times.step_ms, how.range_ms);
        let pieces = self.pieces.get_or_insert_with(|| Pieces::of(how.function, step_ms, range_ms)).as_mut()?;
        // Windows that begin among points which the window before did not hold.
        let step = self.out.len();
        let next = if pieces.is_new() { step + 1 } else { (step + 1).max(step - 1 + (range_ms / step_ms) as usize) };
        let mut edge = window.start;
        let edges = (next..how.times.steps).map_while(|step| {
            edge = after(times, edge, how.times.at(step) - how.range_ms);
            (edge < window.end).then_some(at + edge)
        });
        pieces.value(at + window.start, at + window.end, at, values, edges)
    }

    /// The function's value at each step, when all points have come.
    pub(crate) fn finish(mut self, how: &Slide) -> Vec<f64> {
        let (times, values) = (std::mem::take(&mut self.times), std::mem::take(&mut self.values));
        self.run(how, (&times, &values), self.first, i64::MAX);
        self.out
    }
}

/// Number of the times that are at most `at_ms`, which is `from` or more: looks near `from` first.
pub(crate) fn after(times: &[i64], from: usize, at_ms: i64) -> usize {
    let (mut low, mut step) = (from, 1);
    while times.get(low + step - 1).is_some_and(|time| *time <= at_ms) {
        low += step;
        step *= 2;
    }
    let high = (low + step - 1).min(times.len());
    low + times[low..high].partition_point(|time| *time <= at_ms)
}

fn one(how: &Slide, window: &Window<'_>, step: usize, scratch: &mut Vec<f64>) -> Option<f64> {
    let values = window.values;
    let argument = |number: usize| how.arguments.get(number).and_then(|steps| steps.get(step)).copied().unwrap_or(f64::NAN);
    Some(match how.function {
        RangeFunction::Extrapolated(extrapolation) => return rate::extrapolated(window, extrapolation),
        RangeFunction::LastTwo { counter } => return rate::between_last_two(window, counter),
        RangeFunction::Avg => avg(values),
        RangeFunction::Min => least(values),
        RangeFunction::Max => greatest(values),
        RangeFunction::Sum => sum(values),
        RangeFunction::Count => values.len() as f64,
        RangeFunction::Last => values[values.len() - 1],
        RangeFunction::First => values[0],
        RangeFunction::Present | RangeFunction::AbsentInput => 1.0,
        RangeFunction::Stddev => variance(values).sqrt(),
        RangeFunction::Stdvar => variance(values),
        RangeFunction::Mad => mad(values, scratch),
        RangeFunction::Quantile => {
            scratch.clear();
            scratch.extend_from_slice(values);
            quantile(argument(0), scratch)
        }
        RangeFunction::Changes => {
            values.windows(2).filter(|pair| pair[0] != pair[1] && !(pair[0].is_nan() && pair[1].is_nan())).count() as f64
        }
        RangeFunction::Resets => window.falls.len() as f64,
        RangeFunction::Deriv => {
            if values.len() < 2 {
                return None;
            }
            regression(window, window.timestamps[0]).0
        }
        RangeFunction::PredictLinear => {
            if values.len() < 2 {
                return None;
            }
            let (slope, intercept) = regression(window, how.evaluated.at(step));
            slope * argument(0) + intercept
        }
        RangeFunction::DoubleExponentialSmoothing => {
            if values.len() < 2 {
                return None;
            }
            smoothed(values, argument(0), argument(1))
        }
        RangeFunction::TimeOf(which) => {
            let extreme = |better: fn(f64, f64) -> bool| {
                (1..values.len()).fold(0, |best, at| if better(values[at], values[best]) || values[best].is_nan() { at } else { best })
            };
            let at = match which {
                Which::First => 0,
                Which::Last => values.len() - 1,
                Which::Least => extreme(|value, best| value <= best),
                Which::Greatest => extreme(|value, best| value >= best),
            };
            window.timestamps[at] as f64 / 1_000.0
        }
    })
}

/// One step of a sum with Neumaier's compensation: the new sum and compensation.
#[inline]
pub(crate) fn kahan(value: f64, sum: f64, compensation: f64) -> (f64, f64) {
    let (total, more) = step(value, sum, compensation);
    if total.is_infinite() { (total, 0.0) } else { (total, more) }
}

/// The same while nothing overflows; without a branch, as the hottest loops need it.
#[inline(always)]
pub(crate) fn step(value: f64, sum: f64, compensation: f64) -> (f64, f64) {
    let total = sum + value;
    let (big, small) = if sum.abs() >= value.abs() { (sum, value) } else { (value, sum) };
    (total, compensation + ((big - total) + small))
}

/// Sum and compensation from these on; `None` when the sum overflows on its way: it then ends infinite or NaN.
pub(crate) fn added(values: &[f64], from: (f64, f64)) -> Option<(f64, f64)> {
    let end = values.iter().fold(from, |(sum, compensation), value| step(*value, sum, compensation));
    end.0.is_finite().then_some(end)
}

fn sum(values: &[f64]) -> f64 {
    if let Some((sum, compensation)) = added(values, (0.0, 0.0)) {
        return sum + compensation;
    }
    let (sum, compensation) = values.iter().fold((0.0, 0.0), |(sum, c), value| kahan(*value, sum, c));
    if sum.is_infinite() { sum } else { sum + compensation }
}

/// Mean as Prometheus 3 takes it: compensated sum divided by the count, or from the first overflow of the sum on an incremental mean.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mean {
    count: f64,
    sum: f64,
    compensation: f64,
    incremental: bool,
}

impl Mean {
    /// Mean of one value.
    pub(crate) fn of(first: f64) -> Self {
        Self { count: 1.0, sum: first, compensation: 0.0, incremental: false }
    }

    /// Adds a value.
    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.incremental {
            let (sum, compensation) = kahan(value, self.sum, self.compensation);
            if !sum.is_infinite() {
                (self.sum, self.compensation) = (sum, compensation);
                return;
            }
            self.incremental = true;
            self.sum /= self.count - 1.0;
            self.compensation /= self.count - 1.0;
        }
        let share = (self.count - 1.0) / self.count;
        (self.sum, self.compensation) = kahan(value / self.count, share * self.sum, share * self.compensation);
    }

    /// The mean.
    pub(crate) fn get(&self) -> f64 {
        if self.incremental { self.sum + self.compensation } else { self.sum / self.count + self.compensation / self.count }
    }
}

/// Mean of so many values with this sum and compensation.
pub(crate) fn avg_of((sum, compensation): (f64, f64), count: usize) -> f64 {
    let count = count as f64;
    sum / count + compensation / count
}

fn avg(values: &[f64]) -> f64 {
    if let Some((sum, compensation)) = added(&values[1..], (values[0], 0.0)) {
        return avg_of((sum, compensation), values.len());
    }
    let mut mean = Mean::of(values[0]);
    for value in &values[1..] {
        mean.add(*value);
    }
    mean.get()
}

/// The least value.
pub(crate) fn least(values: &[f64]) -> f64 {
    extreme(values, |value, best| value < best)
}

/// The greatest value.
pub(crate) fn greatest(values: &[f64]) -> f64 {
    extreme(values, |value, best| value > best)
}

/// The best value by `better`; any number is better than NaN. In four lanes, which the compiler makes vectors of.
#[inline(always)]
fn extreme(values: &[f64], better: impl Fn(f64, f64) -> bool) -> f64 {
    let pick = |best: f64, value: f64| if better(value, best) || best.is_nan() { value } else { best };
    let mut lanes = [values[0]; 4];
    let chunks = values.chunks_exact(4);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (best, value) in lanes.iter_mut().zip(chunk) {
            *best = pick(*best, *value);
        }
    }
    let best = lanes.into_iter().chain(rest.iter().copied()).fold(values[0], pick);
    // Of several zeros the first counts, which lanes don't keep.
    if best == 0.0 { values.iter().copied().fold(values[0], pick) } else { best }
}

fn variance(values: &[f64]) -> f64 {
    let (mut count, mut mean, mut mean_c, mut aux, mut aux_c) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for value in values {
        count += 1.0;
        let delta = value - (mean + mean_c);
        (mean, mean_c) = kahan(delta / count, mean, mean_c);
        (aux, aux_c) = kahan(delta * (value - (mean + mean_c)), aux, aux_c);
    }
    (aux + aux_c) / count
}

fn mad(values: &[f64], scratch: &mut Vec<f64>) -> f64 {
    if values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    scratch.clear();
    scratch.extend_from_slice(values);
    let median = quantile(0.5, scratch);
    for value in scratch.iter_mut() {
        *value = (*value - median).abs();
    }
    quantile(0.5, scratch)
}

/// The q-quantile by linear interpolation between ranks, NaN lowest; changes the order of the values.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let order = |a: &f64, b: &f64| b.is_nan().cmp(&a.is_nan()).then_with(|| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    let rank = q * (values.len() - 1) as f64;
    let weight = rank - rank.floor();
    let (_, lower, above) = values.select_nth_unstable_by(rank.floor().max(0.0) as usize, order);
    let upper = above.iter().copied().min_by(order).unwrap_or(*lower);
    *lower * (1.0 - weight) + upper * weight
}

/// Holt's linear method: the last of a series of smoothed values, each a mix of the value and the line through the two before.
fn smoothed(values: &[f64], smoothing: f64, trend: f64) -> f64 {
    let (mut before, mut last, mut slope) = (0.0, values[0], values[1] - values[0]);
    for (i, value) in values[1..].iter().enumerate() {
        if i > 0 {
            slope = trend * (last - before) + (1.0 - trend) * slope;
        }
        (before, last) = (last, smoothing * value + (1.0 - smoothing) * (last + slope));
    }
    last
}

/// Slope per second and value at `at_ms` of the least-squares line.
fn regression(window: &Window<'_>, at_ms: i64) -> (f64, f64) {
    let first = window.values[0];
    if window.values.iter().skip(1).all(|value| *value == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let mut sums = [(0.0, 0.0); 4];
    for (timestamp, y) in window.timestamps.iter().zip(window.values) {
        let x = (timestamp - at_ms) as f64 / 1e3;
        for (sum, value) in sums.iter_mut().zip([x, *y, x * y, x * x]) {
            *sum = kahan(value, sum.0, sum.1);
        }
    }
    let n = window.values.len() as f64;
    let [x, y, xy, xx] = sums.map(|(sum, compensation)| sum + compensation);
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}
