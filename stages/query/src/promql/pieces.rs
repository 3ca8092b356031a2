//! Overlapping windows without adding every point again for every window: points are summed up once, in pieces between the edges of windows, and
//! a window is put together from two running results ("two stacks"), so a step costs the same however long its window is.
//!
//! Least and greatest values are those of a plain pass. Sums are compensated in both orders of adding, so they differ in the last bit at most;
//! where a sum overflows, the plain pass decides.

use super::over_time::{RangeFunction, added, avg_of, greatest, least, step};

/// What some points amount to: a sum and its compensation, or an extreme and nothing.
type Amount = (f64, f64);

/// Pieces of the window in force. Positions are those of points in the whole series.
pub(crate) struct Pieces {
    function: RangeFunction,
    /// The older pieces, oldest last: end, and the amount from this piece to the end of the older ones.
    older: Vec<(usize, Amount)>,
    /// The newer ones: end and amount of each, and of all together.
    newer: Vec<(usize, Amount)>,
    together: Option<Amount>,
    /// Up to here points are taken in.
    end: usize,
}

impl Pieces {
    /// For functions that can be put together, if windows overlap.
    pub(crate) fn of(function: RangeFunction, step_ms: i64, range_ms: i64) -> Option<Self> {
        let fits = matches!(function, RangeFunction::Sum | RangeFunction::Avg | RangeFunction::Min | RangeFunction::Max);
        let overlap = step_ms > 0 && range_ms >= 2 * step_ms;
        (fits && overlap).then(|| Self { function, older: Vec::new(), newer: Vec::new(), together: None, end: 0 })
    }

    /// Whether no window was asked for yet.
    pub(crate) fn is_new(&self) -> bool {
        self.end == 0
    }

    /// The value of the window `from..to`, where `values` begin at position `at`; `edges` are the positions inside it at which later windows
    /// begin, in order. `None`: a sum overflowed.
    pub(crate) fn value(&mut self, from: usize, to: usize, at: usize, values: &[f64], edges: impl Iterator<Item = usize>) -> Option<f64> {
        self.end = self.end.max(from);
        for edge in edges.chain([to]) {
            if edge > self.end {
                let amount = self.amount(&values[self.end - at..edge - at]);
                self.together = Some(self.together.map_or(amount, |all| self.both(all, amount)));
                self.newer.push((edge, amount));
                self.end = edge;
            }
        }
        while self.older.last().is_some_and(|(end, _)| *end <= from) {
            self.older.pop();
        }
        if self.older.is_empty() {
            self.together = None;
            while let Some((end, amount)) = self.newer.pop().filter(|(end, _)| *end > from) {
                let amount = self.older.last().map_or(amount, |(_, later)| self.both(amount, *later));
                self.older.push((end, amount));
            }
            self.newer.clear();
        }
        let (_, older) = self.older.last()?;
        let (value, compensation) = self.together.map_or(*older, |newer| self.both(*older, newer));
        match self.function {
            RangeFunction::Min | RangeFunction::Max => Some(value),
            _ if !value.is_finite() => None,
            RangeFunction::Avg => Some(avg_of((value, compensation), to - from)),
            _ => Some(value + compensation),
        }
    }

    fn amount(&self, values: &[f64]) -> Amount {
        match self.function {
            RangeFunction::Min => (least(values), 0.0),
            RangeFunction::Max => (greatest(values), 0.0),
            _ => added(&values[1..], (values[0], 0.0)).unwrap_or((f64::NAN, 0.0)),
        }
    }

    fn both(&self, earlier: Amount, later: Amount) -> Amount {
        match self.function {
            RangeFunction::Min => (least(&[earlier.0, later.0]), 0.0),
            RangeFunction::Max => (greatest(&[earlier.0, later.0]), 0.0),
            _ => step(later.0, earlier.0, earlier.1 + later.1),
        }
    }
}
