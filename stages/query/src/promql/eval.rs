//! The order of work of one evaluation: read each selector once, fold its series to columns, combine columns up the plan.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures::future::BoxFuture;
use tailors_model::source::PartialRange;

use super::aggregate::{self, Aggregation};
use super::annotations::Annotations;
use super::labels::Labels;
use super::load::Fold;
use super::over_time::{RangeFunction, Slide};
use super::places::Place;
use super::plan::{At, Node, Range, RangeInput, Shift};
use super::selector::{Grid, Look, Selector};
use super::value::{ABSENT, Value, is_absent};
use super::{Answer, Context, binary, functions};
use crate::error::{self, QueryError};

/// Step of a subquery that names none: Prometheus' default evaluation interval.
const SUBQUERY_STEP_MS: i64 = 60_000;

/// One series over all steps; a step without a value holds the mark [`ABSENT`].
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) labels: Labels,
    pub(crate) values: Vec<f64>,
}

/// Value of a plan node over all steps.
pub(super) enum Evaluated {
    Scalar(Vec<f64>),
    Text(String),
    Vector(Vec<Column>),
}

pub(super) type RawSeries = (Labels, Vec<(i64, f64)>);

/// Evaluates a plan.
pub(super) async fn run(context: &Context, plan: &Node, grid: Grid, is_instant: bool) -> Result<Answer, QueryError> {
    let evaluation = Evaluation { context, query: grid, tally: Mutex::default() };
    let value = match plan {
        Node::Range(range) if is_instant => Value::Matrix(evaluation.raw(range, grid).await?),
        Node::Text(text) if is_instant => Value::Text(grid.start_ms, text.clone()),
        Node::Range(_) | Node::Text(_) => {
            let kind = if matches!(plan, Node::Text(_)) { "string" } else { "range vector" };
            let text = format!(
                "invalid parameter \"query\": invalid expression type \"{kind}\" for range query, must be Scalar or instant Vector"
            );
            return Err(QueryError::bad(error::PARAMETER, text));
        }
        _ => present(evaluation.node(plan, grid).await?, grid, is_instant)?,
    };
    let mut tally = evaluation.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut coverage = tally.read.map(|(from, to)| context.source.coverage(context.org, from, to)).unwrap_or_default();
    coverage.notes.append(&mut tally.notes);
    coverage.notes.sort();
    coverage.notes.dedup();
    tally.partial.sort();
    tally.partial.dedup();
    let (points_read, values_held) = (tally.points, tally.bytes / 8);
    let (warnings, infos) = tally.annotations.shown();
    Ok(Answer { value, feed: context.source.feed(), coverage, partial: tally.partial, warnings, infos, points_read, values_held })
}

/// The answer in Prometheus' order: a range query's by labels, an instant one's as it came.
fn present(evaluated: Evaluated, grid: Grid, is_instant: bool) -> Result<Value, QueryError> {
    let columns = match evaluated {
        Evaluated::Scalar(values) if is_instant => return Ok(Value::Scalar(grid.start_ms, values[0])),
        Evaluated::Scalar(values) => vec![Column { labels: Labels::default(), values }],
        Evaluated::Text(text) => return Ok(Value::Text(grid.start_ms, text)),
        Evaluated::Vector(columns) => unique(columns, None)?,
    };
    if is_instant {
        let samples = columns.into_iter().filter(|column| !is_absent(column.values[0]));
        return Ok(Value::Vector(samples.map(|column| (column.labels, grid.start_ms, column.values[0])).collect()));
    }
    let mut series: Vec<RawSeries> = columns
        .into_iter()
        .map(|column| (column.labels, points_of(&column.values, grid).collect::<Vec<_>>()))
        .filter(|(_, points)| !points.is_empty())
        .collect();
    series.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Value::Matrix(series))
}

fn points_of(values: &[f64], grid: Grid) -> impl Iterator<Item = (i64, f64)> + '_ {
    grid.times().zip(values).filter(|(_, value)| !is_absent(**value)).map(|(at, value)| (at, *value))
}

/// Two results have the same labels.
pub(super) fn duplicate(labels: &Labels) -> QueryError {
    QueryError::execution(error::DUPLICATE, format!("vector cannot contain metrics with the same labelset: {labels}"))
}

/// Joins columns with equal labels that never meet at a step; those that meet are an error, which names where they come from if known.
pub(super) fn unique(columns: Vec<Column>, origins: Option<&[Labels]>) -> Result<Vec<Column>, QueryError> {
    let mut numbers: HashMap<Labels, usize> = HashMap::with_capacity(columns.len());
    let mut out: Vec<(usize, Column)> = Vec::with_capacity(columns.len());
    for (origin, column) in columns.into_iter().enumerate() {
        let Some(number) = numbers.get(&column.labels) else {
            numbers.insert(column.labels.clone(), out.len());
            out.push((origin, column));
            continue;
        };
        let (first, kept) = &mut out[*number];
        for (kept_value, value) in kept.values.iter_mut().zip(&column.values).filter(|(_, value)| !is_absent(**value)) {
            if !is_absent(*kept_value) {
                let Some(origins) = origins else { return Err(duplicate(&column.labels)) };
                let text = "vector cannot contain metrics with the same labelset";
                return Err(QueryError::execution(error::DUPLICATE, format!("{text}: {} and {}", origins[*first], origins[origin])));
            }
            *kept_value = *value;
        }
    }
    Ok(out.into_iter().map(|(_, column)| column).collect())
}

/// Drops the metric's name; what is then the same must not meet.
fn nameless(mut columns: Vec<Column>) -> Result<Vec<Column>, QueryError> {
    let origins: Vec<Labels> = columns.iter().map(|column| column.labels.clone()).collect();
    for column in &mut columns {
        column.labels = column.labels.without_name();
    }
    unique(columns, Some(&origins))
}

/// What the query has cost and found out so far.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) points: u64,
    bytes: u64,
    /// From and to of all reads, Unix milliseconds.
    pub(super) read: Option<(i64, i64)>,
    pub(super) notes: Vec<String>,
    pub(super) partial: Vec<PartialRange>,
    annotations: Annotations,
}

pub(super) struct Evaluation<'a> {
    pub(super) context: &'a Context,
    /// The query's own grid: what `start()` and `end()` mean.
    query: Grid,
    tally: Mutex<Tally>,
}

impl Evaluation<'_> {
    pub(super) fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node<'b>(&'b self, node: &'b Node, grid: Grid) -> BoxFuture<'b, Result<Evaluated, QueryError>> {
        Box::pin(async move {
            Ok(match node {
                Node::Number(number) => Evaluated::Scalar(vec![*number; grid.steps]),
                Node::Text(text) => Evaluated::Text(text.clone()),
                Node::Instant { selector, shift, as_time } => {
                    let columns = self.instant(selector, *shift, *as_time, grid).await?;
                    Evaluated::Vector(if *as_time { nameless(columns)? } else { columns })
                }
                Node::Range(_) => {
                    return Err(QueryError::bad(error::PARSE, "parse error: unexpected range vector"));
                }
                Node::OverTime { function, arguments, range, place } => {
                    let mut scalars = Vec::with_capacity(arguments.len());
                    for argument in arguments {
                        scalars.push(self.scalar(argument, grid).await?);
                    }
                    Evaluated::Vector(self.over_time(*function, scalars, range, grid, place).await?)
                }
                Node::Call { function, arguments, place } => self.call(*function, arguments, grid, place).await?,
                Node::Aggregate { aggregation, parameter, input, by, labels, place } => {
                    let parameter = match parameter {
                        Some(parameter) => Some(self.node(parameter, grid).await?),
                        None => None,
                    };
                    let input = unique(self.vector(input, grid).await?, None)?;
                    self.tally().annotations.aggregate(*aggregation, parameter.as_ref(), place);
                    Evaluated::Vector(aggregated(*aggregation, parameter, &input, grid, *by, labels)?)
                }
                Node::Binary { .. } => self.binary(node, grid).await?,
                Node::Negate(inner) => match self.node(inner, grid).await? {
                    Evaluated::Scalar(values) => Evaluated::Scalar(values.into_iter().map(|value| -value).collect()),
                    Evaluated::Vector(columns) => Evaluated::Vector(nameless(functions::map(columns, |_, value| -value))?),
                    Evaluated::Text(_) => return Err(QueryError::bad(error::PARSE, "parse error: a text has no negative")),
                },
            })
        })
    }

    async fn vector(&self, node: &Node, grid: Grid) -> Result<Vec<Column>, QueryError> {
        match self.node(node, grid).await? {
            Evaluated::Vector(columns) => Ok(columns),
            _ => Err(QueryError::bad(error::PARSE, "parse error: expected type instant vector")),
        }
    }

    async fn scalar(&self, node: &Node, grid: Grid) -> Result<Vec<f64>, QueryError> {
        match self.node(node, grid).await? {
            Evaluated::Scalar(values) => Ok(values),
            _ => Err(QueryError::bad(error::PARSE, "parse error: expected type scalar")),
        }
    }

    async fn binary(&self, node: &Node, grid: Grid) -> Result<Evaluated, QueryError> {
        let Node::Binary { operator, returns_bool, matching, left, right } = node else {
            return Err(QueryError::bad(error::PARSE, "parse error: no binary expression"));
        };
        let (left, right) = (self.node(left, grid).await?, self.node(right, grid).await?);
        let drops_name = *returns_bool || !operator.compares();
        let with_scalar = |columns, scalar: Vec<f64>, swapped| {
            let columns = binary::with_scalar(*operator, columns, &scalar, swapped, *returns_bool);
            if drops_name { nameless(columns) } else { Ok(columns) }
        };
        Ok(match (left, right) {
            (Evaluated::Scalar(left), Evaluated::Scalar(right)) => {
                Evaluated::Scalar(left.into_iter().zip(right).map(|(left, right)| operator.apply(left, right)).collect())
            }
            (Evaluated::Vector(columns), Evaluated::Scalar(scalar)) => Evaluated::Vector(with_scalar(columns, scalar, false)?),
            (Evaluated::Scalar(scalar), Evaluated::Vector(columns)) => Evaluated::Vector(with_scalar(columns, scalar, true)?),
            (Evaluated::Vector(left), Evaluated::Vector(right)) if operator.is_set() => {
                Evaluated::Vector(unique(binary::set(*operator, left, right, matching), None)?)
            }
            (Evaluated::Vector(left), Evaluated::Vector(right)) => {
                let (left, right) = (unique(left, None)?, unique(right, None)?);
                Evaluated::Vector(binary::vectors(*operator, &left, &right, matching, *returns_bool)?)
            }
            _ => return Err(QueryError::bad(error::PARSE, "parse error: a text is no operand")),
        })
    }

    async fn call(&self, function: functions::Function, arguments: &[Node], grid: Grid, place: &Place) -> Result<Evaluated, QueryError> {
        let mut evaluated = Vec::with_capacity(arguments.len());
        for argument in arguments {
            evaluated.push(self.node(argument, grid).await?);
        }
        let labels = match arguments.first() {
            Some(Node::Instant { selector, .. }) => selector.equalities(),
            _ => Labels::default(),
        };
        self.tally().annotations.call(function, &evaluated, place, self.query.steps > 1);
        super::call::apply(function, evaluated, labels, (grid, self.query), nameless)
    }

    /// Evaluation times after `@` and `offset`; one step when they are all the same.
    fn shifted(&self, shift: Shift, grid: Grid) -> Grid {
        let at = shift.at.map(|at| match at {
            At::Time(at) => at,
            At::Start => self.query.start_ms,
            At::End => self.query.end_ms(),
        });
        match at {
            None => Grid { start_ms: grid.start_ms - shift.offset_ms, ..grid },
            Some(at) => Grid { start_ms: at - shift.offset_ms, step_ms: 0, steps: 1 },
        }
    }

    async fn instant(&self, selector: &Selector, shift: Shift, as_time: bool, grid: Grid) -> Result<Vec<Column>, QueryError> {
        let (times, lookback_ms) = (self.shifted(shift, grid), self.context.limits.lookback_ms);
        let columns = self.load(selector, lookback_ms, Fold::Look(Look { times, lookback_ms, as_time })).await?;
        Ok(spread(columns, grid.steps))
    }

    async fn over_time(
        &self,
        function: RangeFunction,
        arguments: Vec<Vec<f64>>,
        range: &Range,
        grid: Grid,
        place: &Place,
    ) -> Result<Vec<Column>, QueryError> {
        let mut times = self.shifted(range.shift, grid);
        if !arguments.is_empty() {
            // A fixed window with an argument of its own at each step.
            times.steps = grid.steps;
        }
        if function == RangeFunction::DoubleExponentialSmoothing {
            smoothing_factors(&arguments)?;
        }
        let range_ms = range.range_ms;
        let fold = Fold::Slide(Slide { function, times, range_ms, evaluated: grid, arguments: arguments.clone() });
        let (columns, equalities) = match &range.input {
            RangeInput::Points(selector) => (self.load(selector, range_ms, fold).await?, selector.equalities()),
            RangeInput::Subquery(node, step_ms) => {
                let (columns, inner) = self.subquery(node, *step_ms, times, range_ms).await?;
                let fold = |column: Column| {
                    let (timestamps, values): (Vec<i64>, Vec<f64>) = points_of(&column.values, inner).unzip();
                    Column { labels: column.labels, values: fold.of(&timestamps, &values) }
                };
                let columns: Vec<Column> = columns.into_iter().map(fold).collect();
                (columns.into_iter().filter(has_values).collect(), Labels::default())
            }
        };
        let columns = spread(columns, grid.steps);
        let is_subquery = matches!(range.input, RangeInput::Subquery(..));
        self.tally().annotations.over_time(function, &arguments, &columns, place, is_subquery);
        if function == RangeFunction::AbsentInput {
            return Ok(functions::absent(&columns, equalities, grid.steps));
        }
        if function.keeps_name() { Ok(columns) } else { nameless(columns) }
    }

    /// The inner expression at all multiples of the step that any of the windows sees.
    async fn subquery(&self, node: &Node, step_ms: Option<i64>, times: Grid, range_ms: i64) -> Result<(Vec<Column>, Grid), QueryError> {
        let step_ms = step_ms.filter(|step| *step > 0).unwrap_or(SUBQUERY_STEP_MS);
        let after = times.start_ms - range_ms;
        let mut start_ms = after / step_ms * step_ms;
        if start_ms <= after {
            start_ms += step_ms;
        }
        let steps = if times.end_ms() < start_ms { 0 } else { (times.end_ms() - start_ms) / step_ms + 1 };
        self.charge(steps.unsigned_abs() * 8)?;
        let inner = Grid { start_ms, step_ms, steps: steps as usize };
        if inner.steps == 0 {
            return Ok((Vec::new(), inner));
        }
        let columns = match self.node(node, inner).await? {
            Evaluated::Vector(columns) => unique(columns, None)?,
            Evaluated::Scalar(values) => vec![Column { labels: Labels::default(), values }],
            Evaluated::Text(_) => return Err(QueryError::bad(error::PARSE, "parse error: a text has no range")),
        };
        Ok((columns, inner))
    }

    /// A range vector as the answer itself.
    async fn raw(&self, range: &Range, grid: Grid) -> Result<Vec<RawSeries>, QueryError> {
        let times = self.shifted(range.shift, grid);
        let after = times.start_ms - range.range_ms;
        let mut series: Vec<RawSeries> = match &range.input {
            RangeInput::Subquery(node, step_ms) => {
                let (columns, inner) = self.subquery(node, *step_ms, times, range.range_ms).await?;
                columns.into_iter().map(|column| (column.labels, points_of(&column.values, inner).collect())).collect()
            }
            RangeInput::Points(selector) => self.points(selector, after + 1, times.start_ms + 1).await?,
        };
        series.retain(|(_, points): &RawSeries| !points.is_empty());
        series.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(series)
    }

    /// Counts memory of columns; they live until the answer is there.
    pub(super) fn charge(&self, bytes: u64) -> Result<(), QueryError> {
        let mut tally = self.tally();
        tally.bytes = tally.bytes.saturating_add(bytes);
        let most = self.context.limits.memory_bytes_max;
        if tally.bytes <= most {
            return Ok(());
        }
        let text = format!(
            "the query needs more than {most} bytes of memory (query.limits.memory_bytes_max): ask for fewer series, fewer steps or a shorter range"
        );
        Err(QueryError::execution(error::MEMORY, text))
    }
}

/// Whether a column has a value at any step.
pub(super) fn has_values(column: &Column) -> bool {
    column.values.iter().any(|value| !is_absent(*value))
}

/// Factors of double_exponential_smoothing lie between 0 and 1.
fn smoothing_factors(arguments: &[Vec<f64>]) -> Result<(), QueryError> {
    for (what, short, factors) in [("smoothing", "sf", arguments.first()), ("trend", "tf", arguments.get(1))] {
        if let Some(wrong) = factors.into_iter().flatten().find(|factor| **factor <= 0.0 || **factor >= 1.0) {
            let text = format!("invalid {what} factor. Expected: 0 < {short} < 1, got: {wrong:.6}");
            return Err(QueryError::execution(error::ARGUMENT, text));
        }
    }
    Ok(())
}

/// A value that is the same at every step, at every step.
fn spread(mut columns: Vec<Column>, steps: usize) -> Vec<Column> {
    for column in columns.iter_mut().filter(|column| column.values.len() < steps) {
        column.values = vec![column.values.first().copied().unwrap_or(ABSENT); steps];
    }
    columns
}

fn aggregated(
    aggregation: Aggregation,
    parameter: Option<Evaluated>,
    input: &[Column],
    grid: Grid,
    by: bool,
    labels: &[String],
) -> Result<Vec<Column>, QueryError> {
    Ok(match (aggregation, parameter) {
        (Aggregation::CountValues, Some(Evaluated::Text(label))) => {
            if label.is_empty() {
                return Err(QueryError::execution(error::ARGUMENT, "invalid label name \"\""));
            }
            aggregate::count_values(input, &label, grid.steps, by, labels)
        }
        (Aggregation::Quantile, Some(Evaluated::Scalar(q))) => aggregate::quantiles(input, &q, by, labels),
        (Aggregation::TopK | Aggregation::BottomK | Aggregation::LimitK, Some(Evaluated::Scalar(k))) => {
            aggregate::pick(aggregation, input, &k, by, labels)?
        }
        (_, None) => aggregate::fold(aggregation, input, grid.steps, by, labels),
        _ => return Err(QueryError::bad(error::PARSE, "parse error: the aggregation's parameter has the wrong type")),
    })
}
