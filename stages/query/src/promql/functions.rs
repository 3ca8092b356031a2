//! Functions of instant vectors, scalars and strings.

use chrono::{DateTime, Datelike, Timelike, Utc};
use regex::Regex;

use super::eval::Column;
use super::labels::{Labels, NAME};
use super::value::{ABSENT, is_absent};
use crate::error::{self, QueryError};

/// A function that is not over a range vector.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Function {
    /// Each value by itself.
    Map(fn(f64) -> f64),
    /// Part of a date in UTC, of each value as Unix seconds, or of the evaluation time.
    Date(fn(DateTime<Utc>) -> f64),
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
            "minute" => Self::Date(|at| f64::from(at.minute())),
            "hour" => Self::Date(|at| f64::from(at.hour())),
            "day_of_month" => Self::Date(|at| f64::from(at.day())),
            "day_of_week" => Self::Date(|at| f64::from(at.weekday().num_days_from_sunday())),
            "day_of_year" => Self::Date(|at| f64::from(at.ordinal())),
            "days_in_month" => Self::Date(days_in_month),
            "month" => Self::Date(|at| f64::from(at.month())),
            "year" => Self::Date(|at| f64::from(at.year())),
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
            _ => return None,
        })
    }
}

fn days_in_month(at: DateTime<Utc>) -> f64 {
    let february = if at.year() % 4 == 0 && (at.year() % 100 != 0 || at.year() % 400 == 0) { 29.0 } else { 28.0 };
    match at.month() {
        2 => february,
        4 | 6 | 9 | 11 => 30.0,
        _ => 31.0,
    }
}

/// A part of the date of a time, Unix seconds; NaN for what is no date.
pub(crate) fn date_part(part: fn(DateTime<Utc>) -> f64, at_s: f64) -> f64 {
    DateTime::from_timestamp(at_s as i64, 0).filter(|_| at_s.is_finite()).map_or(f64::NAN, part)
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

/// `max(low, min(high, value))` where NaN wins, as in Go; no value when the limits cross.
pub(crate) fn clamp(value: f64, low: f64, high: f64) -> f64 {
    if high < low {
        return ABSENT;
    }
    if value.is_nan() || low.is_nan() || high.is_nan() { f64::NAN } else { value.min(high).max(low) }
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
pub(crate) fn label_join(mut columns: Vec<Column>, target: &str, separator: &str, sources: &[String]) -> Vec<Column> {
    for column in &mut columns {
        let values: Vec<_> = sources.iter().map(|source| column.labels.resolve(source).unwrap_or_default()).collect();
        column.labels.set(target, &values.join(separator));
    }
    columns
}

/// The q-quantile of classic histograms: groups series that differ only in `le`.
pub(crate) fn histogram_quantile(q: &[f64], columns: &[Column]) -> Vec<Column> {
    let le = |column: &Column| column.labels.get("le").and_then(parse_bound);
    let buckets: Vec<(f64, Column)> = columns.iter().filter_map(|column| Some((le(column)?, column.clone()))).collect();
    let (bounds, columns): (Vec<f64>, Vec<Column>) = buckets.into_iter().unzip();
    let dropped = ["le".to_owned(), NAME.to_owned()];
    let (group_of, names) = super::aggregate::groups(&columns, false, &dropped);
    let of_group = names.into_iter().enumerate().map(|(group, labels)| {
        let members: Vec<usize> = (0..columns.len()).filter(|number| group_of[*number] == group).collect();
        let values = q.iter().enumerate().map(|(step, q)| {
            let present = members.iter().map(|number| (bounds[*number], columns[*number].values[step]));
            let mut buckets: Vec<_> = present.filter(|(_, count)| !is_absent(*count)).collect();
            if buckets.is_empty() { ABSENT } else { bucket_quantile(*q, &mut buckets) }
        });
        Column { labels, values: values.collect() }
    });
    of_group.collect()
}

fn parse_bound(text: &str) -> Option<f64> {
    text.parse().ok()
}

fn bucket_quantile(q: f64, buckets: &mut Vec<(f64, f64)>) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    buckets.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal));
    if buckets.last().is_none_or(|last| last.0 != f64::INFINITY) {
        return f64::NAN;
    }
    // Equal bounds count together.
    buckets.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    let mut before = buckets[0].1;
    for bucket in &mut buckets[1..] {
        // Counts never fall; tiny differences are rounding.
        if bucket.1 < before || nearly(before, bucket.1) {
            bucket.1 = before;
        }
        before = bucket.1;
    }
    let last = buckets.len() - 1;
    let total = buckets[last].1;
    if last == 0 || total == 0.0 {
        return f64::NAN;
    }
    let mut rank = q * total;
    // A rank that is NaN lies above every bucket, as in Prometheus.
    #[allow(clippy::neg_cmp_op_on_partial_ord)]
    let at = buckets[..last].partition_point(|bucket| !(bucket.1 >= rank));
    if at == last {
        return buckets[last - 1].0;
    }
    if at == 0 && buckets[0].0 <= 0.0 {
        return buckets[0].0;
    }
    let (end, mut count) = buckets[at];
    let mut start = 0.0;
    if at > 0 {
        start = buckets[at - 1].0;
        count -= buckets[at - 1].1;
        rank -= buckets[at - 1].1;
    }
    start + (end - start) * (rank / count)
}

/// Equal up to the relative tolerance that Prometheus grants to bucket counts.
fn nearly(a: f64, b: f64) -> bool {
    const TOLERANCE: f64 = 1e-12;
    if a == b {
        return true;
    }
    let (difference, sum) = ((a - b).abs(), a.abs() + b.abs());
    let smallest = f64::MIN_POSITIVE;
    if a == 0.0 || b == 0.0 || sum < smallest { difference < TOLERANCE * smallest } else { difference / sum.min(f64::MAX) < TOLERANCE }
}
