//! What the values of a series are: doubles, sketches or native histograms. The set is closed; a series is of one kind.

use tailors_model::{NativeHistogram, Sketch};

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
