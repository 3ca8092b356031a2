//! Functions of instant vectors, scalars and strings.

use regex::Regex;

use super::dates::Date;
use super::eval::Column;
use super::labels::Labels;
use super::value::{ABSENT, is_absent};
use crate::error::{self, QueryError};

/// A function that is not over a range vector.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Function {
    /// Each value by itself.
    Map(fn(f64) -> f64),
    /// Part of a date in UTC, of each value as Unix seconds, or of the evaluation time.
    Date(fn(&Date) -> f64),
    Round,
    Clamp,
    ClampMin,
    ClampMax,
    Time,
    Pi,
    Vector,
    Scalar,
    Timestamp,
    Sort {
        descending: bool,
    },
    SortByLabel {
        descending: bool,
    },
    Absent,
    LabelReplace,
    LabelJoin,
    HistogramQuantile,
    HistogramQuantiles,
    HistogramFraction,
    /// Looks at native histograms only, which are not stored: nothing comes of floats.
    OfNativeHistograms,
    /// Edges, span and step of the query.
    Start,
    End,
    Span,
    Step,
    MinOf,
    MaxOf,
}

impl Function {
    /// The function of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "abs" => Self::Map(f64::abs),
            "ceil" => Self::Map(f64::ceil),
            "floor" => Self::Map(f64::floor),
            "exp" => Self::Map(f64::exp),
            "ln" => Self::Map(f64::ln),
            "log2" => Self::Map(f64::log2),
            "log10" => Self::Map(f64::log10),
            "sqrt" => Self::Map(f64::sqrt),
            "sgn" => Self::Map(|v| {
                if v < 0.0 {
                    -1.0
                } else if v > 0.0 {
                    1.0
                } else {
                    v
                }
            }),
            "sin" => Self::Map(f64::sin),
            "cos" => Self::Map(f64::cos),
            "tan" => Self::Map(f64::tan),
            "asin" => Self::Map(f64::asin),
            "acos" => Self::Map(f64::acos),
            "atan" => Self::Map(f64::atan),
            "sinh" => Self::Map(f64::sinh),
            "cosh" => Self::Map(f64::cosh),
            "tanh" => Self::Map(f64::tanh),
            "asinh" => Self::Map(f64::asinh),
            "acosh" => Self::Map(f64::acosh),
            "atanh" => Self::Map(f64::atanh),
            "rad" => Self::Map(|v| v * std::f64::consts::PI / 180.0),
            "deg" => Self::Map(|v| v * 180.0 / std::f64::consts::PI),
            "minute" => Self::Date(|at| at.minute),
            "hour" => Self::Date(|at| at.hour),
            "day_of_month" => Self::Date(|at| at.day),
            "day_of_week" => Self::Date(|at| at.weekday),
            "day_of_year" => Self::Date(|at| at.day_of_year),
            "days_in_month" => Self::Date(|at| at.days_in_month),
            "month" => Self::Date(|at| at.month),
            "year" => Self::Date(|at| at.year),
            "round" => Self::Round,
            "clamp" => Self::Clamp,
            "clamp_min" => Self::ClampMin,
            "clamp_max" => Self::ClampMax,
            "time" => Self::Time,
            "pi" => Self::Pi,
            "vector" => Self::Vector,
            "scalar" => Self::Scalar,
            "timestamp" => Self::Timestamp,
            "sort" => Self::Sort { descending: false },
            "sort_desc" => Self::Sort { descending: true },
            "sort_by_label" => Self::SortByLabel { descending: false },
            "sort_by_label_desc" => Self::SortByLabel { descending: true },
            "absent" => Self::Absent,
            "label_replace" => Self::LabelReplace,
            "label_join" => Self::LabelJoin,
            "histogram_quantile" => Self::HistogramQuantile,
            "histogram_quantiles" => Self::HistogramQuantiles,
            "histogram_fraction" => Self::HistogramFraction,
            "histogram_count" | "histogram_sum" | "histogram_avg" | "histogram_stddev" | "histogram_stdvar" => Self::OfNativeHistograms,
            "start" => Self::Start,
            "end" => Self::End,
            "range" => Self::Span,
            "step" => Self::Step,
            "min_of" => Self::MinOf,
            "max_of" => Self::MaxOf,
            _ => return None,
        })
    }
}

/// Applies a function to each value.
pub(crate) fn map(mut columns: Vec<Column>, apply: impl Fn(usize, f64) -> f64) -> Vec<Column> {
    for column in &mut columns {
        for (step, value) in column.values.iter_mut().enumerate().filter(|(_, value)| !is_absent(**value)) {
            *value = apply(step, *value);
        }
    }
    columns
}

/// Rounds to the nearest multiple, ties up.
pub(crate) fn round(value: f64, nearest: f64) -> f64 {
    let inverse = 1.0 / nearest;
    (value * inverse + 0.5).floor() / inverse
}

/// `max(low, min(high, value))`; no value when the limits cross.
pub(crate) fn clamp(value: f64, low: f64, high: f64) -> f64 {
    if high < low { ABSENT } else { greater(low, lesser(high, value)) }
}

/// Go's `math.Max`: +Inf before NaN, NaN before numbers, 0 before -0.
pub(crate) fn greater(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == b {
        if a.is_sign_negative() { b } else { a }
    } else {
        a.max(b)
    }
}

/// Go's `math.Min`: -Inf before NaN, NaN before numbers, -0 before 0.
pub(crate) fn lesser(a: f64, b: f64) -> f64 {
    -greater(-a, -b)
}

/// The value of the only series at each step, else NaN.
pub(crate) fn scalar(columns: &[Column], steps: usize) -> Vec<f64> {
    let at = |step: usize| {
        let mut present = columns.iter().map(|column| column.values[step]).filter(|value| !is_absent(*value));
        match (present.next(), present.next()) {
            (Some(value), None) => value,
            _ => f64::NAN,
        }
    };
    (0..steps).map(at).collect()
}

/// One series with the labels given where there is no other.
pub(crate) fn absent(columns: &[Column], labels: Labels, steps: usize) -> Vec<Column> {
    let none = |step: usize| columns.iter().all(|column| is_absent(column.values[step]));
    let values = (0..steps).map(|step| if none(step) { 1.0 } else { ABSENT }).collect();
    vec![Column { labels, values }]
}

/// Order by value, NaN last; a range query, whose answer is in label order, is left alone.
pub(crate) fn sort(mut columns: Vec<Column>, descending: bool) -> Vec<Column> {
    if columns.iter().all(|column| column.values.len() == 1) {
        columns.sort_by(|a, b| {
            let (a, b) = (a.values[0], b.values[0]);
            let order = a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal);
            a.is_nan().cmp(&b.is_nan()).then(if descending { order.reverse() } else { order })
        });
    }
    columns
}

/// Order by the natural order of some labels, then by all labels.
pub(crate) fn sort_by_label(mut columns: Vec<Column>, names: &[String], descending: bool) -> Vec<Column> {
    columns.sort_by(|a, b| {
        let by_name = names.iter().map(|name| {
            let of = |column: &Column| column.labels.resolve(name).unwrap_or_default();
            natural(&of(a), &of(b))
        });
        let order = by_name.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then).then_with(|| a.labels.cmp(&b.labels));
        if descending { order.reverse() } else { order }
    });
    columns
}

/// Numbers inside texts compare as numbers.
fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while let (Some(x), Some(y)) = (a.first(), b.first()) {
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let run = |text: &[u8]| text.iter().take_while(|c| c.is_ascii_digit()).count();
            let (x, rest_a) = a.split_at(run(a));
            let (y, rest_b) = b.split_at(run(b));
            let digits = |run: &[u8]| run[run.iter().take_while(|c| **c == b'0').count()..].to_vec();
            let (x, y) = (digits(x), digits(y));
            let order = x.len().cmp(&y.len()).then_with(|| x.cmp(&y));
            if order.is_ne() {
                return order;
            }
            (a, b) = (rest_a, rest_b);
        } else if x != y {
            return x.cmp(y);
        } else {
            (a, b) = (&a[1..], &b[1..]);
        }
    }
    a.len().cmp(&b.len())
}

/// Sets a label from a regular expression on another one.
pub(crate) fn label_replace(
    mut columns: Vec<Column>,
    [target, replacement, source, pattern]: [&str; 4],
) -> Result<Vec<Column>, QueryError> {
    let invalid = |what: String| QueryError::execution(error::ARGUMENT, what);
    let regex = Regex::new(&format!("^(?s:{pattern})$"));
    let regex = regex.map_err(|_| invalid(format!("invalid regular expression in label_replace(): {pattern}")))?;
    if target.is_empty() {
        return Err(invalid("invalid destination label name in label_replace(): ".to_owned()));
    }
    // Go and this library read `$1_x` alike: the longest name; `$$` is a dollar.
    for column in &mut columns {
        let value = column.labels.resolve(source).unwrap_or_default();
        if let Some(found) = regex.captures(&value) {
            let mut expanded = String::new();
            found.expand(replacement, &mut expanded);
            column.labels.set(target, &expanded);
        }
    }
    Ok(columns)
}

/// Sets a label to the values of others, joined.
pub(crate) fn label_join(mut columns: Vec<Column>, target: &str, separator: &str, sources: &[String]) -> Result<Vec<Column>, QueryError> {
    let invalid = |which: &str| Err(QueryError::execution(error::ARGUMENT, format!("invalid {which} label name in label_join(): ")));
    if sources.iter().any(String::is_empty) {
        return invalid("source");
    }
    if target.is_empty() {
        return invalid("destination");
    }
    for column in &mut columns {
        let values: Vec<_> = sources.iter().map(|source| column.labels.resolve(source).unwrap_or_default()).collect();
        column.labels.set(target, &values.join(separator));
    }
    Ok(columns)
}
