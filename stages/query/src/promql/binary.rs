//! Arithmetic, comparison and set operators between scalars and vectors, with Prometheus' vector matching.

use std::collections::HashMap;

use super::eval::Column;
use super::labels::Labels;
use super::plan::{Cardinality, Matching};
use super::value::{ABSENT, is_absent};
use crate::error::{self, QueryError};

/// A binary operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operator {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterEqual,
    LessEqual,
    And,
    Or,
    Unless,
}

impl Operator {
    /// The operator written like this.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "+" => Self::Add,
            "-" => Self::Sub,
            "*" => Self::Mul,
            "/" => Self::Div,
            "%" => Self::Mod,
            "^" => Self::Pow,
            "atan2" => Self::Atan2,
            "==" => Self::Equal,
            "!=" => Self::NotEqual,
            ">" => Self::Greater,
            "<" => Self::Less,
            ">=" => Self::GreaterEqual,
            "<=" => Self::LessEqual,
            "and" => Self::And,
            "or" => Self::Or,
            "unless" => Self::Unless,
            _ => return None,
        })
    }

    pub(crate) fn compares(self) -> bool {
        use Operator::*;
        matches!(self, Equal | NotEqual | Greater | Less | GreaterEqual | LessEqual)
    }

    pub(crate) fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    /// Result of arithmetic, 1 or 0 of a comparison.
    pub(crate) fn apply(self, left: f64, right: f64) -> f64 {
        let truth = |holds: bool| f64::from(u8::from(holds));
        match self {
            Self::Add => left + right,
            Self::Sub => left - right,
            Self::Mul => left * right,
            Self::Div => left / right,
            Self::Mod => left % right,
            Self::Pow => left.powf(right),
            Self::Atan2 => left.atan2(right),
            Self::Equal => truth(left == right),
            Self::NotEqual => truth(left != right),
            Self::Greater => truth(left > right),
            Self::Less => truth(left < right),
            Self::GreaterEqual => truth(left >= right),
            Self::LessEqual => truth(left <= right),
            // Set operators look at presence only and never come here.
            Self::And | Self::Or | Self::Unless => f64::NAN,
        }
    }

    /// The value that stays: of a comparison without `bool`, `kept` where it holds.
    fn outcome(self, left: f64, right: f64, kept: f64, returns_bool: bool) -> f64 {
        let value = self.apply(left, right);
        match self.compares() && !returns_bool {
            true if value == 1.0 => kept,
            true => ABSENT,
            false => value,
        }
    }
}

/// A vector and a scalar; `swapped` when the scalar stands on the left.
pub(crate) fn with_scalar(operator: Operator, mut columns: Vec<Column>, scalar: &[f64], swapped: bool, returns_bool: bool) -> Vec<Column> {
    for column in &mut columns {
        for (value, scalar) in column.values.iter_mut().zip(scalar).filter(|(value, _)| !is_absent(**value)) {
            let (left, right) = if swapped { (*scalar, *value) } else { (*value, *scalar) };
            *value = operator.outcome(left, right, *value, returns_bool);
        }
    }
    columns
}

fn signature(labels: &Labels, matching: &Matching) -> Labels {
    if matching.on { labels.only(&matching.labels) } else { labels.without(&matching.labels).without_name() }
}

fn by_signature(columns: &[Column], matching: &Matching) -> HashMap<Labels, Vec<usize>> {
    let mut sides: HashMap<Labels, Vec<usize>> = HashMap::new();
    for (number, column) in columns.iter().enumerate() {
        sides.entry(signature(&column.labels, matching)).or_default().push(number);
    }
    sides
}

/// `and`, `or`, `unless`.
pub(crate) fn set(operator: Operator, left: Vec<Column>, right: Vec<Column>, matching: &Matching) -> Vec<Column> {
    // Keeps of one side the steps at which the other has (or lacks) a partner.
    let filtered = |side: Vec<Column>, other: &[Column], wanted: bool| {
        let partners = by_signature(other, matching);
        let mut side = side;
        for column in &mut side {
            let partners = partners.get(&signature(&column.labels, matching));
            for (step, value) in column.values.iter_mut().enumerate() {
                let found = partners.is_some_and(|partners| partners.iter().any(|number| !is_absent(other[*number].values[step])));
                if found != wanted {
                    *value = ABSENT;
                }
            }
        }
        side
    };
    match operator {
        Operator::And => filtered(left, &right, true),
        Operator::Unless => filtered(left, &right, false),
        _ => {
            let rest = filtered(right, &left, false);
            left.into_iter().chain(rest).collect()
        }
    }
}

/// For each signature of the "one" side: the column that has a value at each step.
struct OneSide<'a> {
    columns: &'a [Column],
    by_signature: HashMap<Labels, Vec<usize>>,
}

impl OneSide<'_> {
    fn at(&self, partners: &[usize], step: usize) -> Option<usize> {
        partners.iter().copied().find(|number| !is_absent(self.columns[*number].values[step]))
    }

    /// Several series of a match group at one step, while the other side has anything at all, are an error.
    fn check(&self, matching: &Matching, others: &[Column]) -> Result<(), QueryError> {
        for (group, partners) in self.by_signature.iter().filter(|(_, partners)| partners.len() > 1) {
            for step in 0..self.columns[partners[0]].values.len() {
                let mut present = partners.iter().filter(|number| !is_absent(self.columns[**number].values[step]));
                let (Some(first), Some(second)) = (present.next(), present.next()) else { continue };
                if others.iter().all(|other| is_absent(other.values[step])) {
                    continue;
                }
                let mut pair = [self.columns[*first].labels.to_string(), self.columns[*second].labels.to_string()];
                pair.sort();
                let side = if matching.card == Cardinality::OneToMany { "left" } else { "right" };
                return Err(QueryError::execution(
                    error::MATCHING,
                    format!(
                        "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{}, {}];many-to-many matching not \
                         allowed: matching labels must be unique on one side",
                        pair[0], pair[1]
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// Arithmetic or comparison between two vectors.
pub(crate) fn vectors(
    operator: Operator,
    left: &[Column],
    right: &[Column],
    matching: &Matching,
    returns_bool: bool,
) -> Result<Vec<Column>, QueryError> {
    let swapped = matching.card == Cardinality::OneToMany;
    let (many, one) = if swapped { (right, left) } else { (left, right) };
    let one = OneSide { columns: one, by_signature: by_signature(one, matching) };
    one.check(matching, many)?;
    let mut out = Joined::default();
    for column in many {
        let group = signature(&column.labels, matching);
        let Some(partners) = one.by_signature.get(&group) else { continue };
        let mut results: HashMap<usize, (usize, usize)> = HashMap::new();
        for (step, value) in column.values.iter().enumerate().filter(|(_, value)| !is_absent(**value)) {
            let Some(partner) = one.at(partners, step) else { continue };
            let other = one.columns[partner].values[step];
            let (l, r) = if swapped { (other, *value) } else { (*value, other) };
            let result = *results.entry(partner).or_insert_with(|| {
                let labels = result_labels(&column.labels, &one.columns[partner].labels, operator, matching, returns_bool);
                out.number(labels, &group, column.values.len(), matching.card)
            });
            out.put(result, step, operator.outcome(l, r, l, returns_bool), matching.card)?;
        }
    }
    Ok(out.columns)
}

/// Results by label set, and the slots (a match group, or a result of one) that may be filled once per step.
#[derive(Default)]
struct Joined {
    columns: Vec<Column>,
    numbers: HashMap<Labels, usize>,
    slots: HashMap<(Labels, usize), usize>,
    taken: Vec<Vec<bool>>,
}

impl Joined {
    /// Numbers of a result's column and slot.
    fn number(&mut self, labels: Labels, group: &Labels, steps: usize, card: Cardinality) -> (usize, usize) {
        let column = *self.numbers.entry(labels).or_insert_with_key(|labels| {
            self.columns.push(Column { labels: labels.clone(), values: vec![ABSENT; steps] });
            self.columns.len() - 1
        });
        // One to one: one result per group; else one per group and label set.
        let part = if card == Cardinality::OneToOne { usize::MAX } else { column };
        let slot = *self.slots.entry((group.clone(), part)).or_insert_with(|| {
            self.taken.push(vec![false; steps]);
            self.taken.len() - 1
        });
        (column, slot)
    }

    fn put(&mut self, (column, slot): (usize, usize), step: usize, value: f64, card: Cardinality) -> Result<(), QueryError> {
        if std::mem::replace(&mut self.taken[slot][step], true) {
            let text = match card {
                Cardinality::OneToOne => "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                _ => "multiple matches for labels: grouping labels must ensure unique matches",
            };
            return Err(QueryError::execution(error::MATCHING, text));
        }
        if is_absent(value) {
            return Ok(());
        }
        if !is_absent(self.columns[column].values[step]) {
            return Err(super::eval::duplicate(&self.columns[column].labels));
        }
        self.columns[column].values[step] = value;
        Ok(())
    }
}

fn result_labels(many: &Labels, one: &Labels, operator: Operator, matching: &Matching, returns_bool: bool) -> Labels {
    let mut labels = if returns_bool || !operator.compares() { many.without_name() } else { many.clone() };
    if matching.card == Cardinality::OneToOne {
        labels = if matching.on { labels.only(&matching.labels) } else { labels.without(&matching.labels) };
    }
    for name in &matching.include {
        labels.set(name, one.resolve(name).as_deref().unwrap_or(""));
    }
    labels
}
