//! What the values of a series are: doubles, sketches or native histograms. The set is closed; a series is of one kind.

use std::hash::Hash;
use std::ops::Range;

use tailors_model::{NativeHistogram, Sketch};
use xxhash_rust::xxh3::Xxh3;

use super::value::Transform;

/// Kind of the values of a series.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ValueKind {
    /// Numbers.
    Doubles,
    /// DDSketches.
    Sketches,
    /// Native histograms.
    Histograms,
}

impl ValueKind {
    /// For messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Doubles => "doubles",
            Self::Sketches => "sketches",
            Self::Histograms => "native histograms",
        }
    }
}

impl Transform {
    /// What the values of its chunks are.
    pub(super) fn kind(self) -> ValueKind {
        match self {
            Self::Sketch => ValueKind::Sketches,
            Self::Histogram => ValueKind::Histograms,
            Self::Decimal(_) | Self::Binary(_) | Self::Double | Self::Dictionary => ValueKind::Doubles,
        }
    }
}

/// Values of a series to be written.
#[derive(Clone, Debug)]
pub enum SeriesValues {
    /// Numbers, any bits.
    Doubles(Vec<f64>),
    /// DDSketches, each of at most `DISTRIBUTION_ITEMS_MAX` bins.
    Sketches(Vec<Sketch>),
    /// Native histograms, each of at most `DISTRIBUTION_ITEMS_MAX` buckets, spans and bounds.
    Histograms(Vec<NativeHistogram>),
}

impl SeriesValues {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Doubles(values) => values.len(),
            Self::Sketches(values) => values.len(),
            Self::Histograms(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their kind.
    pub fn kind(&self) -> ValueKind {
        match self {
            Self::Doubles(_) => ValueKind::Doubles,
            Self::Sketches(_) => ValueKind::Sketches,
            Self::Histograms(_) => ValueKind::Histograms,
        }
    }

    /// The numbers; none if they are of another kind.
    pub fn doubles(&self) -> &[f64] {
        if let Self::Doubles(values) = self { values } else { &[] }
    }

    /// The sketches; none if they are of another kind.
    pub fn sketches(&self) -> &[Sketch] {
        if let Self::Sketches(values) = self { values } else { &[] }
    }

    /// The histograms; none if they are of another kind.
    pub fn histograms(&self) -> &[NativeHistogram] {
        if let Self::Histograms(values) = self { values } else { &[] }
    }
}

impl From<Vec<f64>> for SeriesValues {
    fn from(values: Vec<f64>) -> Self {
        Self::Doubles(values)
    }
}

impl From<Vec<Sketch>> for SeriesValues {
    fn from(values: Vec<Sketch>) -> Self {
        Self::Sketches(values)
    }
}

impl From<Vec<NativeHistogram>> for SeriesValues {
    fn from(values: Vec<NativeHistogram>) -> Self {
        Self::Histograms(values)
    }
}

/// Values of a series as they were read, part of it if it is long.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// Numbers.
    Doubles(&'a [f64]),
    /// DDSketches.
    Sketches(&'a [Sketch]),
    /// Native histograms.
    Histograms(&'a [NativeHistogram]),
}

impl<'a> Values<'a> {
    /// Those at some positions; none if there are not so many.
    pub(super) fn part(self, range: Range<usize>) -> Self {
        match self {
            Self::Doubles(values) => Self::Doubles(values.get(range).unwrap_or(&[])),
            Self::Sketches(values) => Self::Sketches(values.get(range).unwrap_or(&[])),
            Self::Histograms(values) => Self::Histograms(values.get(range).unwrap_or(&[])),
        }
    }

    /// 64 bits that stand for each value: those of a double, a hash of others.
    pub(super) fn each_bits(self, mut each: impl FnMut(u64)) {
        fn hash_of(value: &impl Hash) -> u64 {
            let mut hasher = Xxh3::new();
            value.hash(&mut hasher);
            hasher.digest()
        }
        match self {
            Self::Doubles(values) => values.iter().for_each(|value| each(value.to_bits())),
            Self::Sketches(values) => values.iter().for_each(|value| each(hash_of(value))),
            Self::Histograms(values) => values.iter().for_each(|value| each(hash_of(value))),
        }
    }
}

impl SeriesValues {
    /// Of a kind, with room for so many.
    pub(super) fn of_kind(kind: ValueKind, capacity: usize) -> Self {
        match kind {
            ValueKind::Doubles => Self::Doubles(Vec::with_capacity(capacity)),
            ValueKind::Sketches => Self::Sketches(Vec::with_capacity(capacity)),
            ValueKind::Histograms => Self::Histograms(Vec::with_capacity(capacity)),
        }
    }

    /// Appends values of the same kind; others are left out.
    pub(super) fn extend(&mut self, values: Values<'_>) {
        match (self, values) {
            (Self::Doubles(own), Values::Doubles(values)) => own.extend_from_slice(values),
            (Self::Sketches(own), Values::Sketches(values)) => own.extend_from_slice(values),
            (Self::Histograms(own), Values::Histograms(values)) => own.extend_from_slice(values),
            _ => {}
        }
    }
}
