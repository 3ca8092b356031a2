//! Calls of functions with evaluated arguments: who takes what.

use super::dates::Date;
use super::eval::{Column, Evaluated, unique};
use super::functions::{self, Function};
use super::histogram;
use super::labels::Labels;
use super::selector::Grid;
use crate::error::{self, QueryError};

type Nameless = fn(Vec<Column>) -> Result<Vec<Column>, QueryError>;

/// Applies a function at the times of `grid`; `query` is the grid of the whole query. `absent_labels` are what `absent` gives its result; `nameless` drops metric names and refuses what is then the same twice.
pub(super) fn apply(
    function: Function,
    arguments: Vec<Evaluated>,
    absent_labels: Labels,
    (grid, query): (Grid, Grid),
    nameless: Nameless,
) -> Result<Evaluated, QueryError> {
    let mut arguments = Arguments(arguments.into_iter());
    let steps = grid.steps;
    if let Some(values) = of_times(function, grid, query) {
        return Ok(Evaluated::Scalar(values));
    }
    let columns = match function {
        Function::MinOf | Function::MaxOf => {
            let pick = if matches!(function, Function::MinOf) { functions::lesser } else { functions::greater };
            let (a, b) = (arguments.scalar()?, arguments.scalar()?);
            return Ok(Evaluated::Scalar(a.into_iter().zip(b).map(|(a, b)| pick(a, b)).collect()));
        }
        Function::Scalar => return Ok(Evaluated::Scalar(functions::scalar(&arguments.vector()?, steps))),
        Function::Vector => vec![Column { labels: Labels::default(), values: arguments.scalar()? }],
        Function::Map(apply) => nameless(functions::map(arguments.vector()?, |_, value| apply(value)))?,
        Function::Date(part) => {
            let of_time = || vec![Column { labels: Labels::default(), values: seconds(grid) }];
            let columns = if arguments.is_empty() { of_time() } else { arguments.vector()? };
            nameless(functions::map(columns, |_, value| part(&Date::of(value))))?
        }
        Function::Timestamp => {
            let times = seconds(grid);
            nameless(functions::map(arguments.vector()?, |step, _| times[step]))?
        }
        Function::Round => {
            let columns = arguments.vector()?;
            let nearest = if arguments.is_empty() { vec![1.0; steps] } else { arguments.scalar()? };
            nameless(functions::map(columns, |step, value| functions::round(value, nearest[step])))?
        }
        Function::Clamp | Function::ClampMin | Function::ClampMax => {
            let columns = arguments.vector()?;
            let low = if matches!(function, Function::ClampMax) { vec![f64::NEG_INFINITY; steps] } else { arguments.scalar()? };
            let high = if matches!(function, Function::ClampMin) { vec![f64::INFINITY; steps] } else { arguments.scalar()? };
            nameless(functions::map(columns, |step, value| functions::clamp(value, low[step], high[step])))?
        }
        Function::Sort { descending } => functions::sort(arguments.vector()?, descending),
        Function::SortByLabel { descending } => {
            let columns = arguments.vector()?;
            functions::sort_by_label(columns, &arguments.texts()?, descending)
        }
        Function::Absent => functions::absent(&arguments.vector()?, absent_labels, steps),
        Function::LabelReplace => {
            let columns = arguments.vector()?;
            let texts = [arguments.text()?, arguments.text()?, arguments.text()?, arguments.text()?];
            unique(functions::label_replace(columns, texts.each_ref().map(String::as_str))?, None)?
        }
        Function::LabelJoin => {
            let (columns, target, separator) = (arguments.vector()?, arguments.text()?, arguments.text()?);
            unique(functions::label_join(columns, &target, &separator, &arguments.texts()?)?, None)?
        }
        Function::HistogramQuantile => {
            let q = arguments.scalar()?;
            histogram::quantile(&q, &arguments.vector()?)
        }
        Function::HistogramQuantiles => {
            let (columns, label) = (arguments.vector()?, arguments.text()?);
            let mut quantiles = Vec::new();
            while !arguments.is_empty() {
                quantiles.push(arguments.scalar()?);
            }
            histogram::quantiles(&columns, &label, &quantiles)
        }
        Function::HistogramFraction => {
            let (lower, upper) = (arguments.scalar()?, arguments.scalar()?);
            histogram::fraction(&lower, &upper, &arguments.vector()?)
        }
        Function::OfNativeHistograms => Vec::new(),
        // Answered above.
        Function::Time | Function::Pi | Function::Start | Function::End | Function::Span | Function::Step => Vec::new(),
    };
    Ok(Evaluated::Vector(columns))
}

fn seconds(grid: Grid) -> Vec<f64> {
    grid.times().map(|at| at as f64 / 1_000.0).collect()
}

/// Functions without an argument, which need no more than the times of evaluation and of the query.
fn of_times(function: Function, grid: Grid, query: Grid) -> Option<Vec<f64>> {
    let ms = match function {
        Function::Time => return Some(seconds(grid)),
        Function::Pi => return Some(vec![std::f64::consts::PI; grid.steps]),
        Function::Start => query.start_ms,
        Function::End => query.end_ms(),
        Function::Span => query.end_ms() - query.start_ms,
        Function::Step if query.steps == 1 => 0,
        Function::Step => query.step_ms,
        _ => return None,
    };
    Some(vec![ms as f64 / 1_000.0; grid.steps])
}

struct Arguments(std::vec::IntoIter<Evaluated>);

impl Arguments {
    fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    fn vector(&mut self) -> Result<Vec<Column>, QueryError> {
        match self.0.next() {
            Some(Evaluated::Vector(columns)) => Ok(columns),
            _ => Err(QueryError::bad(error::PARSE, "parse error: expected type instant vector in call")),
        }
    }

    fn scalar(&mut self) -> Result<Vec<f64>, QueryError> {
        match self.0.next() {
            Some(Evaluated::Scalar(values)) => Ok(values),
            _ => Err(QueryError::bad(error::PARSE, "parse error: expected type scalar in call")),
        }
    }

    fn text(&mut self) -> Result<String, QueryError> {
        match self.0.next() {
            Some(Evaluated::Text(text)) => Ok(text),
            _ => Err(QueryError::bad(error::PARSE, "parse error: expected type string in call")),
        }
    }

    fn texts(&mut self) -> Result<Vec<String>, QueryError> {
        let mut texts = Vec::new();
        while !self.is_empty() {
            texts.push(self.text()?);
        }
        Ok(texts)
    }
}
