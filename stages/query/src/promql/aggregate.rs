//! Aggregations over series, step by step, in the order Prometheus adds: series in label order.

use std::collections::HashMap;

use super::eval::Column;
use super::labels::Labels;
use super::over_time::{Mean, kahan, quantile};
use super::value::{ABSENT, is_absent, plain_number};
use crate::error::{self, QueryError};

/// What an aggregation computes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Aggregation {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stddev,
    Stdvar,
    Quantile,
    CountValues,
    TopK,
    BottomK,
    LimitK,
}

impl Aggregation {
    /// The aggregation of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "sum" => Self::Sum,
            "avg" => Self::Avg,
            "min" => Self::Min,
            "max" => Self::Max,
            "count" => Self::Count,
            "group" => Self::Group,
            "stddev" => Self::Stddev,
            "stdvar" => Self::Stdvar,
            "quantile" => Self::Quantile,
            "count_values" => Self::CountValues,
            "topk" => Self::TopK,
            "bottomk" => Self::BottomK,
            "limitk" => Self::LimitK,
            _ => return None,
        })
    }
}

/// Which group each column belongs to, numbered in order of appearance, and the groups' labels.
pub(crate) fn groups(columns: &[Column], by: bool, labels: &[String]) -> (Vec<usize>, Vec<Labels>) {
    let mut numbers: HashMap<Labels, usize> = HashMap::new();
    let mut names = Vec::new();
    let group_of = columns.iter().map(|column| {
        let key = if by { column.labels.only(labels) } else { column.labels.without(labels).without_name() };
        *numbers.entry(key).or_insert_with_key(|key| {
            names.push(key.clone());
            names.len() - 1
        })
    });
    (group_of.collect(), names)
}

#[derive(Clone)]
struct Cell {
    count: f64,
    value: f64,
    compensation: f64,
    mean: Mean,
}

impl Cell {
    fn new() -> Self {
        Self { count: 0.0, value: 0.0, compensation: 0.0, mean: Mean::of(0.0) }
    }

    fn add(&mut self, aggregation: Aggregation, value: f64) {
        self.count += 1.0;
        let first = self.count == 1.0;
        match aggregation {
            Aggregation::Sum if first => self.value = value,
            Aggregation::Sum => (self.value, self.compensation) = kahan(value, self.value, self.compensation),
            Aggregation::Avg if first => self.mean = Mean::of(value),
            Aggregation::Avg => self.mean.add(value),
            Aggregation::Min if first || self.value > value || self.value.is_nan() => self.value = value,
            Aggregation::Max if first || self.value < value || self.value.is_nan() => self.value = value,
            Aggregation::Stddev | Aggregation::Stdvar if first => {
                // `compensation` holds the running mean here.
                self.compensation = value;
                self.value = if value.is_finite() { 0.0 } else { f64::NAN };
            }
            Aggregation::Stddev | Aggregation::Stdvar => {
                let delta = value - self.compensation;
                self.compensation += delta / self.count;
                self.value += delta * (value - self.compensation);
            }
            _ => {}
        }
    }

    fn get(&self, aggregation: Aggregation) -> f64 {
        if self.count == 0.0 {
            return ABSENT;
        }
        match aggregation {
            Aggregation::Sum => self.value + self.compensation,
            Aggregation::Avg => self.mean.get(),
            Aggregation::Count => self.count,
            Aggregation::Group => 1.0,
            Aggregation::Stddev => (self.value / self.count).sqrt(),
            Aggregation::Stdvar => self.value / self.count,
            _ => self.value,
        }
    }
}

/// One number per group and step.
pub(crate) fn fold(aggregation: Aggregation, columns: &[Column], steps: usize, by: bool, labels: &[String]) -> Vec<Column> {
    let (group_of, names) = groups(columns, by, labels);
    let mut members = vec![Vec::new(); names.len()];
    for (column, group) in columns.iter().zip(group_of) {
        members[group].push(column);
    }
    let folded = names.into_iter().zip(members).map(|(labels, members)| {
        let mut cells = vec![Cell::new(); steps];
        for column in members {
            for (cell, value) in cells.iter_mut().zip(&column.values) {
                if !is_absent(*value) {
                    cell.add(aggregation, *value);
                }
            }
        }
        Column { labels, values: cells.iter().map(|cell| cell.get(aggregation)).collect() }
    });
    folded.collect()
}

/// The q-quantile of each group and step.
pub(crate) fn quantiles(columns: &[Column], q: &[f64], by: bool, labels: &[String]) -> Vec<Column> {
    let (group_of, names) = groups(columns, by, labels);
    let mut scratch = Vec::new();
    let of_group = names.into_iter().enumerate().map(|(group, labels)| {
        let members: Vec<_> = columns.iter().zip(&group_of).filter(|(_, at)| **at == group).map(|(column, _)| column).collect();
        let values = q.iter().enumerate().map(|(step, q)| {
            scratch.clear();
            scratch.extend(members.iter().map(|column| column.values[step]).filter(|value| !is_absent(*value)));
            if scratch.is_empty() { ABSENT } else { quantile(*q, &mut scratch) }
        });
        Column { labels, values: values.collect() }
    });
    of_group.collect()
}

/// How often each value occurs in a group, as one series per value. The label is set first and grouped by then, so `without` it is gone.
pub(crate) fn count_values(columns: &[Column], label: &str, steps: usize, by: bool, labels: &[String]) -> Vec<Column> {
    let kept: Vec<String> = labels.iter().cloned().chain([label.to_owned()]).collect();
    let mut numbers: HashMap<Labels, usize> = HashMap::new();
    let mut out: Vec<Column> = Vec::new();
    for column in columns {
        // Values repeat from step to step: look their labels up once.
        let mut known: HashMap<u64, usize> = HashMap::new();
        for (step, value) in column.values.iter().enumerate().filter(|(_, value)| !is_absent(**value)) {
            let number = *known.entry(value.to_bits()).or_insert_with(|| {
                let mut with = column.labels.clone();
                with.set(label, &plain_number(*value));
                let group = if by { with.only(&kept) } else { with.without(labels).without_name() };
                *numbers.entry(group).or_insert_with_key(|labels| {
                    out.push(Column { labels: labels.clone(), values: vec![ABSENT; steps] });
                    out.len() - 1
                })
            });
            let count = &mut out[number].values[step];
            *count = if is_absent(*count) { 1.0 } else { *count + 1.0 };
        }
    }
    out
}

/// The k greatest, least or first series of each group, chosen anew at every step. An instant answer (one step) is in order of rank.
pub(crate) fn pick(
    aggregation: Aggregation,
    columns: &[Column],
    k: &[f64],
    by: bool,
    labels: &[String],
) -> Result<Vec<Column>, QueryError> {
    if k.iter().all(|k| *k < 1.0) {
        return Ok(Vec::new());
    }
    if k.iter().any(|k| k.is_nan()) {
        return Err(QueryError::execution(error::ARGUMENT, "Parameter value is NaN"));
    }
    if let Some(k) = k.iter().find(|k| **k >= 9_223_372_036_854_775_807.0) {
        return Err(QueryError::execution(error::ARGUMENT, format!("Scalar value {k} overflows int64")));
    }
    let (group_of, names) = groups(columns, by, labels);
    let mut members = vec![Vec::new(); names.len()];
    for (number, group) in group_of.into_iter().enumerate() {
        members[group].push(number);
    }
    let mut kept: Vec<Vec<f64>> = columns.iter().map(|column| vec![ABSENT; column.values.len()]).collect();
    let mut order = Vec::new();
    for (step, k) in k.iter().enumerate() {
        // At most as many as there are series; a negative k keeps none.
        let k = if *k < 1.0 { 0 } else { (*k as usize).min(columns.len()) };
        for members in &members {
            let present = members.iter().copied().filter(|number| !is_absent(columns[*number].values[step]));
            let chosen = rank(aggregation, present.map(|number| (columns[number].values[step], number)), k);
            for (value, number) in chosen {
                kept[number][step] = value;
                order.push(number);
            }
        }
    }
    if k.len() == 1 {
        let pick = |number: usize| Column { labels: columns[number].labels.clone(), values: vec![kept[number][0]] };
        return Ok(order.into_iter().map(pick).collect());
    }
    let named = columns.iter().zip(kept).map(|(column, values)| Column { labels: column.labels.clone(), values });
    Ok(named.collect())
}

/// Chooses k with the heap that Prometheus uses, so that ties fall the same way, and puts the best first.
fn rank(aggregation: Aggregation, values: impl Iterator<Item = (f64, usize)>, k: usize) -> Vec<(f64, usize)> {
    if k == 0 {
        return Vec::new();
    }
    if aggregation == Aggregation::LimitK {
        return values.take(k).collect();
    }
    let worse = |a: f64, b: f64| a.is_nan() || if aggregation == Aggregation::TopK { a < b } else { a > b };
    let mut heap: Vec<(f64, usize)> = Vec::with_capacity(k.min(1_024));
    for item in values {
        if heap.len() < k {
            heap.push(item);
            sift_up(&mut heap, &worse);
        } else if (!heap[0].0.is_nan() && worse(heap[0].0, item.0)) || (heap[0].0.is_nan() && !item.0.is_nan()) {
            heap[0] = item;
            sift_down(&mut heap, &worse);
        }
    }
    if heap.len() <= 12 {
        // Go sorts short slices by insertion.
        for end in 1..heap.len() {
            let mut at = end;
            while at > 0 && worse(heap[at - 1].0, heap[at].0) {
                heap.swap(at - 1, at);
                at -= 1;
            }
        }
    } else {
        heap.sort_by(|a, b| match (a.0.is_nan(), b.0.is_nan()) {
            (false, false) if worse(b.0, a.0) => std::cmp::Ordering::Less,
            (false, false) if worse(a.0, b.0) => std::cmp::Ordering::Greater,
            (a, b) => a.cmp(&b),
        });
    }
    heap
}

fn sift_up(heap: &mut [(f64, usize)], worse: &impl Fn(f64, f64) -> bool) {
    let mut at = heap.len() - 1;
    while at > 0 {
        let parent = (at - 1) / 2;
        if !worse(heap[at].0, heap[parent].0) {
            break;
        }
        heap.swap(at, parent);
        at = parent;
    }
}

fn sift_down(heap: &mut [(f64, usize)], worse: &impl Fn(f64, f64) -> bool) {
    let mut at = 0;
    loop {
        let mut child = 2 * at + 1;
        if child >= heap.len() {
            break;
        }
        if child + 1 < heap.len() && worse(heap[child + 1].0, heap[child].0) {
            child += 1;
        }
        if !worse(heap[child].0, heap[at].0) {
            break;
        }
        heap.swap(at, child);
        at = child;
    }
}
