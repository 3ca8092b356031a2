//! Series of a bucket -> groups that share a pco chunk: same transform, same delta, alike in distribution.
//!
//! Judged on samples by a model of what pco will write (order-0 entropy over shared bins, plus what bins cost). Series are sorted by how great
//! their integers are, then the best cuts of that row are found exactly (dynamic programming over pieces of 8,192 points). If cuts don't pay, the
//! order is that of the tags, which labels and times compress better. All arithmetic is exact or IEEE, so every machine plans alike.

use std::ops::Range;

use tailors_model::limits::{PACKED_PAGE_POINTS, PCO_CHUNK_POINTS};

use super::encode::SeriesColumn;
use super::value::{Class, Transform, differences, to_integers};

/// Points from which on a piece of the row may be a group of its own.
const ATOM_POINTS: usize = 8_192;
/// Values sampled of a series: one in eight within these.
const SAMPLE_MIN: usize = 64;
const SAMPLE_MAX: usize = 1_024;
/// Neighbours in a sample: differences need them.
const STRETCH: usize = 128;
/// Bins of the model.
const BINS: usize = 128;
/// Bytes of a chunk's entry in the directory.
const CHUNK_BITS: f64 = 24.0 * 8.0;
/// Bits that a place in the row costs when it is not that of the tags.
const PLACE_BITS: f64 = 24.0;
/// What a chunk of its own costs with its bins.
const CHUNK_GAIN_BITS: f64 = 400.0 * 8.0;
/// Exponents this near count as one.
const NEAR_EXPONENTS: u8 = 2;

/// Series that share chunks, in file order.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) transform: Transform,
    /// Integers are differences from the point before.
    pub(super) delta: bool,
    /// Positions in the bucket.
    pub(super) series: Vec<usize>,
}

/// What a series looks like.
struct Look {
    series: usize,
    points: usize,
    /// Of the integers that will be written, sorted: where they lie in [`Sample::kept`].
    sample: Range<usize>,
}

/// Series of one transform, as they are and as differences.
struct Row {
    transform: Transform,
    looks: [Vec<Look>; 2],
    /// Bits that each half saves by not being like the other.
    gains: [f64; 2],
}

/// Plans a bucket: `by_tags` are its series in canonical order, `classes` their classes. Constants are in no group.
pub(super) fn plan(series: &[SeriesColumn], by_tags: &[usize], classes: &[Class]) -> Vec<Group> {
    let mut rows: Vec<Row> = Vec::new();
    let shared = shared_exponents(series, classes);
    let mut scratch = Sample::default();
    for at in by_tags {
        let Class::Integers(transform) = classes[*at] else { continue };
        let transform = shared.iter().find(|(own, _)| *own == transform).map_or(transform, |(_, shared)| *shared);
        let values = series[*at].values.doubles();
        scratch.take(values, transform);
        let saved = scratch.bits_saved_by_differences();
        let row = rows.iter().position(|row| row.transform == transform).unwrap_or_else(|| {
            rows.push(Row { transform, looks: Default::default(), gains: [0.0; 2] });
            rows.len() - 1
        });
        let delta = usize::from(scratch.wants_differences(transform, saved));
        rows[row].gains[delta] += saved.abs() * values.len() as f64;
        rows[row].looks[delta].push(scratch.look(*at, values.len(), delta == 1));
    }
    rows.sort_by_key(|row| row.transform);
    let mut places = vec![0; series.len()];
    by_tags.iter().enumerate().for_each(|(place, at)| places[*at] = place);
    let mut groups = Vec::new();
    for mut row in rows {
        // A few series of the other kind must be worth a chunk of their own.
        for (few, many) in [(0, 1), (1, 0)] {
            if row.gains[few] < CHUNK_GAIN_BITS && !row.looks[many].is_empty() {
                for look in std::mem::take(&mut row.looks[few]) {
                    scratch.take(series[look.series].values.doubles(), row.transform);
                    row.looks[many].push(scratch.look(look.series, look.points, many == 1));
                }
                row.looks[many].sort_by_key(|look| places[look.series]);
            }
        }
        for (delta, looks) in [false, true].into_iter().zip(row.looks) {
            groups.extend(cut(looks, &scratch.kept).into_iter().map(|series| Group { transform: row.transform, delta, series }));
        }
    }
    groups
}

/// Decimal series a digit or two short of the others join them, if they fit: short ones miss digits by chance, and a gcd gives back the rest.
fn shared_exponents(series: &[SeriesColumn], classes: &[Class]) -> Vec<(Transform, Transform)> {
    let mut exponents: Vec<u8> =
        classes.iter().filter_map(|class| if let Class::Integers(Transform::Decimal(e)) = class { Some(*e) } else { None }).collect();
    exponents.sort_unstable();
    exponents.dedup();
    let fit = |from: Transform, to: Transform| {
        let own = classes.iter().zip(series).filter(|(class, _)| **class == Class::Integers(from));
        own.into_iter().all(|(_, series)| super::value::fits(series.values.doubles(), to))
    };
    let mut shared: Vec<(Transform, Transform)> = Vec::new();
    for (i, low) in exponents.iter().enumerate() {
        let near = exponents[i + 1..].iter().rev().find(|high| **high - low <= NEAR_EXPONENTS);
        let Some(high) = near else { continue };
        let (from, to) = (Transform::Decimal(*low), Transform::Decimal(*high));
        if fit(from, to) {
            shared.push((from, to));
        }
    }
    shared
}

/// Stretches of a series as integers, and as differences.
#[derive(Default)]
struct Sample {
    plain: Vec<i64>,
    differences: Vec<i64>,
    exceptions: Vec<(usize, u64)>,
    /// Samples of all looks: one list, because there is one for each series.
    kept: Vec<i64>,
}

impl Sample {
    fn take(&mut self, values: &[f64], transform: Transform) {
        let wanted = (values.len() / 8).clamp(SAMPLE_MIN, SAMPLE_MAX).min(values.len());
        let stretches = wanted.div_ceil(STRETCH).max(1);
        let length = wanted.div_ceil(stretches);
        self.plain.clear();
        self.differences.clear();
        self.exceptions.clear();
        for stretch in 0..stretches {
            let from = (values.len() - length) * stretch / (stretches - 1).max(1);
            let start = self.plain.len();
            to_integers(&values[from..from + length], transform, &mut self.plain, &mut self.exceptions);
            self.differences.extend(differences(&self.plain[start..]));
        }
    }

    /// About how many bits a point is shorter as a difference.
    fn bits_saved_by_differences(&self) -> f64 {
        let mean = (self.plain.iter().map(|integer| i128::from(*integer)).sum::<i128>() / self.plain.len().max(1) as i128) as i64;
        // The bits of a double are its logarithm, linear between powers of two: 2^52 a bit, here 2^12.
        let log = |magnitude: u64| (magnitude.saturating_add(1) as f64).to_bits() >> 40;
        let plain: u64 = self.plain.iter().map(|integer| log(integer.abs_diff(mean))).sum();
        let differences: u64 = self.differences.iter().map(|difference| log(difference.unsigned_abs())).sum();
        let mean_bits = |sum: u64, n: usize| sum as f64 / n.max(1) as f64 / 4_096.0;
        mean_bits(plain, self.plain.len()) - mean_bits(differences, self.differences.len())
    }

    /// Doubles only where it is plain: differences of noise look a little shorter by chance, and doubles that repeat make a dictionary.
    fn wants_differences(&self, transform: Transform, saved: f64) -> bool {
        if transform != Transform::Double {
            return saved > 0.0;
        }
        let mut distinct = self.plain.clone();
        distinct.sort_unstable();
        distinct.dedup();
        saved > 0.5 && distinct.len() * 8 > self.plain.len() * 7
    }

    fn look(&mut self, series: usize, points: usize, delta: bool) -> Look {
        let sample = if delta { &mut self.differences } else { &mut self.plain };
        sample.sort_unstable();
        let from = self.kept.len();
        self.kept.extend_from_slice(sample);
        Look { series, points, sample: from..self.kept.len() }
    }
}

/// A piece of the row with its histogram.
struct Atom {
    from: usize,
    to: usize,
    points: usize,
    sampled: f64,
    bins: [f32; BINS],
}

impl Atom {
    fn empty(at: usize) -> Self {
        Self { from: at, to: at, points: 0, sampled: 0.0, bins: [0.0; BINS] }
    }

    fn add(&mut self, other: &Self) {
        self.points += other.points;
        self.sampled += other.sampled;
        self.bins.iter_mut().zip(&other.bins).for_each(|(bin, other)| *bin += other);
    }

    /// Bits of its points in a chunk of their own.
    fn bits(&self, bin_bits: f64) -> f64 {
        // Four sums side by side, so that compilers make vectors of them.
        let (mut sums, mut used) = ([0.0; 4], [0.0; 4]);
        for four in self.bins.as_chunks::<4>().0 {
            for ((bin, sum), used) in four.iter().zip(&mut sums).zip(&mut used) {
                let (bin, is_used) = (f64::from(*bin), if *bin > 0.0 { 1.0 } else { 0.0 });
                // An empty bin counts as 1, whose logarithm is 0.
                let weight = bin + (1.0 - is_used);
                *sum += weight * log2(weight);
                *used += is_used;
            }
        }
        let (sum, used) = (sums.iter().sum::<f64>(), used.iter().sum::<f64>());
        let n = self.points as f64;
        // A sample looks more orderly than its whole (Miller and Madow).
        let missed = (used - 1.0) / (2.0 * self.sampled) * std::f64::consts::LOG2_E;
        n * log2(n) - sum + n * missed + used * bin_bits + CHUNK_BITS
    }
}

/// Base-2 logarithm to 1e-4, from additions and multiplications alone: the same on every machine.
fn log2(x: f64) -> f64 {
    let bits = x.to_bits();
    // The exponent as the low bits of 2^52: a conversion without the instruction for it, of which there is none for vectors.
    let exponent = f64::from_bits(bits >> 52 | 1075 << 52) - (4_503_599_627_370_496.0 + 1023.0);
    let mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    exponent + std::f64::consts::LOG2_E * 2.0 * s * (1.0 + square * (1.0 / 3.0 + square * (0.2 + square / 7.0)))
}

/// Series of one transform and delta, in tag order -> groups.
fn cut(looks: Vec<Look>, samples: &[i64]) -> Vec<Vec<usize>> {
    if looks.is_empty() {
        return Vec::new();
    }
    let order = |looks: &[&Look]| looks.iter().map(|look| look.series).collect::<Vec<_>>();
    let mut plain: Vec<&Look> = looks.iter().collect();
    // Long ones first: they have pages of their own, and what shares pages should share them with its neighbours.
    plain.sort_by_key(|look| look.points < PACKED_PAGE_POINTS);
    let points: usize = looks.iter().map(|look| look.points).sum();
    if points < 2 * ATOM_POINTS {
        return vec![order(&plain)];
    }
    let mut sorted = plain.clone();
    let key = |look: &Look| samples[look.sample.start + look.sample.len() * 9 / 10];
    sorted.sort_by_key(|look| (look.points < PACKED_PAGE_POINTS, key(look)));
    let edges = edges(&looks, samples);
    let wide = edges.first().zip(edges.last()).is_some_and(|(low, high)| i32::try_from(high.wrapping_sub(*low)).is_err());
    let bin_bits = if wide { 80.0 } else { 48.0 };
    let atoms = atoms(&sorted, samples, &edges);
    let mut whole = Atom::empty(0);
    atoms.iter().for_each(|atom| whole.add(atom));
    let (cuts, best) = best_cuts(&atoms, bin_bits);
    let places = looks.len() as f64 * PLACE_BITS;
    if cuts.len() <= 1 || best + places >= whole.bits(bin_bits) {
        return vec![order(&plain)];
    }
    cuts.into_iter().map(|(from, to)| order(&sorted[from..to])).collect()
}

/// Up to 127 edges of bins, about as many sampled values between each two.
fn edges(looks: &[Look], samples: &[i64]) -> Vec<i64> {
    let total: usize = looks.iter().map(|look| look.sample.len()).sum();
    let step = total.div_ceil(8_192);
    let mut pooled: Vec<i64> = looks.iter().flat_map(|look| &samples[look.sample.clone()]).step_by(step).copied().collect();
    pooled.sort_unstable();
    let mut edges: Vec<i64> = (1..BINS).map(|bin| pooled[bin * pooled.len() / BINS]).collect();
    edges.dedup();
    edges
}

fn atoms(looks: &[&Look], samples: &[i64], edges: &[i64]) -> Vec<Atom> {
    let mut atoms: Vec<Atom> = Vec::new();
    let mut atom = Atom::empty(0);
    for (at, look) in looks.iter().enumerate() {
        atom.points += look.points;
        atom.sampled += look.sample.len() as f64;
        let weight = look.points as f32 / look.sample.len().max(1) as f32;
        let mut bin = 0;
        for integer in &samples[look.sample.clone()] {
            while bin < edges.len() && edges[bin] <= *integer {
                bin += 1;
            }
            atom.bins[bin] += weight;
        }
        if atom.points >= ATOM_POINTS {
            atom.to = at + 1;
            atoms.push(std::mem::replace(&mut atom, Atom::empty(at + 1)));
        }
    }
    if atom.points > 0 {
        atom.to = looks.len();
        match atoms.last_mut() {
            Some(last) => {
                last.to = atom.to;
                last.add(&atom);
            }
            None => atoms.push(atom),
        }
    }
    atoms
}

/// The cheapest cuts of the row of atoms, as ranges of series, and their bits.
fn best_cuts(atoms: &[Atom], bin_bits: f64) -> (Vec<(usize, usize)>, f64) {
    // best[i]: bits of atoms ..i, and where their last group begins.
    let mut best: Vec<(f64, usize)> = vec![(0.0, 0)];
    for end in 1..=atoms.len() {
        let mut group = Atom::empty(0);
        let mut cheapest = (f64::INFINITY, end - 1);
        for start in (0..end).rev() {
            group.add(&atoms[start]);
            if group.points > PCO_CHUNK_POINTS && start + 1 < end {
                break;
            }
            let bits = best[start].0 + group.bits(bin_bits);
            if bits < cheapest.0 {
                cheapest = (bits, start);
            }
        }
        best.push(cheapest);
    }
    let mut cuts = Vec::new();
    let mut end = atoms.len();
    while end > 0 {
        let start = best[end].1;
        cuts.push((atoms[start].from, atoms[end - 1].to));
        end = start;
    }
    cuts.reverse();
    (cuts, best[atoms.len()].0)
}
