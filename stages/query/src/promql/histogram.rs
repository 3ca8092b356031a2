//! Classic histograms: series that differ only in `le`, each the count of observations up to that bound.

use super::eval::Column;
use super::labels::NAME;
use super::value::{ABSENT, is_absent, write_number};

/// Upper bound and count of observations up to it.
type Bucket = (f64, f64);

/// One number per histogram and step: `of` gets the step and the histogram's buckets, which are never none.
fn each_histogram(columns: &[Column], steps: usize, mut of: impl FnMut(usize, &mut Vec<Bucket>) -> f64) -> Vec<Column> {
    let le = |column: &Column| column.labels.get("le").and_then(|text| text.parse::<f64>().ok());
    let buckets: Vec<(f64, Column)> = columns.iter().filter_map(|column| Some((le(column)?, column.clone()))).collect();
    let (bounds, columns): (Vec<f64>, Vec<Column>) = buckets.into_iter().unzip();
    let (group_of, names) = super::aggregate::groups(&columns, false, &["le".to_owned(), NAME.to_owned()]);
    let mut members = vec![Vec::new(); names.len()];
    for (number, group) in group_of.into_iter().enumerate() {
        members[group].push(number);
    }
    let mut buckets: Vec<Bucket> = Vec::new();
    let of_group = names.into_iter().zip(members).map(|(labels, members)| {
        let values = (0..steps).map(|step| {
            let present = members.iter().map(|number| (bounds[*number], columns[*number].values[step]));
            buckets.clear();
            buckets.extend(present.filter(|(_, count)| !is_absent(*count)));
            buckets.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal));
            if buckets.is_empty() { ABSENT } else { of(step, &mut buckets) }
        });
        Column { labels, values: values.collect() }
    });
    of_group.collect()
}

/// The q-quantile of each histogram.
pub(crate) fn quantile(q: &[f64], columns: &[Column]) -> Vec<Column> {
    each_histogram(columns, q.len(), |step, buckets| bucket_quantile(q[step], buckets))
}

/// Several quantiles, told apart by a label of this name.
pub(crate) fn quantiles(columns: &[Column], label: &str, quantiles: &[Vec<f64>]) -> Vec<Column> {
    let mut out = Vec::new();
    for q in quantiles {
        let text = open_metrics_number(q.first().copied().unwrap_or(f64::NAN));
        for mut column in quantile(q, columns) {
            column.labels.set(label, &text);
            out.push(column);
        }
    }
    out
}

/// Share of the observations between two bounds.
pub(crate) fn fraction(lower: &[f64], upper: &[f64], columns: &[Column]) -> Vec<Column> {
    each_histogram(columns, lower.len(), |step, buckets| bucket_fraction(lower[step], upper[step], buckets))
}

/// A number in OpenMetrics' form: whole ones end in `.0`.
fn open_metrics_number(value: f64) -> String {
    let mut text = String::new();
    write_number(&mut text, value);
    if value.is_finite() && !text.contains(['.', 'e']) {
        text.push_str(".0");
    }
    text
}

/// Equal bounds count together.
fn coalesce(buckets: &mut Vec<Bucket>) {
    buckets.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
}

/// Linear inside the bucket that holds the rank. Buckets are sorted.
fn bucket_quantile(q: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    if buckets.last().is_none_or(|last| last.0 != f64::INFINITY) {
        return f64::NAN;
    }
    coalesce(buckets);
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

/// Linear inside buckets; the first one begins at 0, or nowhere when its bound is not above 0.
fn bucket_fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if buckets.last().is_none_or(|last| last.0 != f64::INFINITY) {
        return f64::NAN;
    }
    coalesce(buckets);
    let count = buckets[buckets.len() - 1].1;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let first = if buckets[0].0 <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
    let rank_of = |value: f64| {
        let (mut start, mut rank) = (first, 0.0);
        for (end, up_to) in buckets.iter().copied() {
            if start >= value {
                return Some(rank);
            }
            if end > value {
                // A bucket without a lower end can't be cut.
                return Some(if start == f64::NEG_INFINITY { up_to } else { rank + (up_to - rank) * (value - start) / (end - start) });
            }
            (start, rank) = (end, up_to);
        }
        None
    };
    let within = |value: f64| rank_of(value).filter(|rank| *rank <= count).unwrap_or(count);
    (within(upper) - within(lower)) / count
}
