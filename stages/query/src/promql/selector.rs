//! Selectors: which series a set of matchers means, and what an instant selector sees at each step.
//!
//! Invariant: the window of a step is left-open, `(t - range, t]`, as in Prometheus 3.

use std::collections::BTreeSet;
use std::ops::Range;

use promql_parser::label::{MatchOp, Matcher, Matchers};

use super::filter::Filter;
use super::labels::{Labels, NAME, text, translated, translates_to};
use super::value::{ABSENT, is_absent};

/// Evaluation times, Unix milliseconds: `start, start + step, ...`, `steps` of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Grid {
    pub(crate) start_ms: i64,
    pub(crate) step_ms: i64,
    pub(crate) steps: usize,
}

impl Grid {
    pub(crate) fn at(&self, step: usize) -> i64 {
        self.start_ms + self.step_ms * step as i64
    }

    /// Some of the steps.
    pub(crate) fn part(&self, steps: &Range<usize>) -> Self {
        Self { start_ms: self.at(steps.start), steps: steps.len(), ..*self }
    }

    pub(crate) fn end_ms(&self) -> i64 {
        self.at(self.steps.saturating_sub(1))
    }

    pub(crate) fn times(self) -> impl Iterator<Item = i64> {
        (0..self.steps).map(move |step| self.at(step))
    }
}

/// Matchers as alternatives: a series is meant when all matchers of one of them hold.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    pub(crate) alternatives: Vec<Vec<Matcher>>,
}

impl Selector {
    pub(crate) fn new(name: Option<&str>, matchers: &Matchers) -> Self {
        let mut alternatives = if matchers.or_matchers.is_empty() { vec![matchers.matchers.clone()] } else { matchers.or_matchers.clone() };
        if let Some(name) = name {
            for matchers in &mut alternatives {
                matchers.push(Matcher::new(MatchOp::Equal, NAME, name));
            }
        }
        Self { alternatives }
    }

    /// Labels that `absent` gives its result: those of equality matchers, unless a label is named twice.
    pub(crate) fn equalities(&self) -> Labels {
        let mut labels = Labels::default();
        let mut seen = BTreeSet::new();
        let matchers = self.alternatives.iter().flatten().filter(|matcher| matcher.name != NAME);
        for matcher in matchers {
            let fresh = matches!(matcher.op, MatchOp::Equal) && seen.insert(&matcher.name);
            labels.set(&matcher.name, if fresh { &matcher.value } else { "" });
        }
        labels
    }

    /// Settles which of the stored metric names are meant; the texts say which names were translated.
    pub(crate) fn resolve<'a>(&'a self, stored: &[impl AsRef<[u8]>]) -> (Filter<'a>, Vec<String>) {
        let names: Vec<_> = stored.iter().map(|name| text(name.as_ref())).collect();
        let mut notes = Vec::new();
        let alternatives = self.alternatives.iter().map(|matchers| {
            let mut accepted: BTreeSet<usize> = (0..names.len()).collect();
            for matcher in matchers.iter().filter(|matcher| matcher.name == NAME) {
                let positive = positive_names(matcher, &names, &mut notes);
                let negative = matches!(matcher.op, MatchOp::NotEqual | MatchOp::NotRe(_));
                accepted.retain(|at| positive.contains(at) != negative);
            }
            let accepted = accepted.into_iter().map(|at| stored[at].as_ref().to_vec()).collect();
            (accepted, matchers.iter().filter(|matcher| matcher.name != NAME))
        });
        (Filter::new(alternatives), notes)
    }
}

/// Numbers of the names that the matcher's positive form accepts.
fn positive_names(matcher: &Matcher, names: &[std::sync::Arc<str>], notes: &mut Vec<String>) -> BTreeSet<usize> {
    let all = || names.iter().enumerate();
    if let MatchOp::Re(regex) | MatchOp::NotRe(regex) = &matcher.op {
        let fits = |name: &str| regex.is_match(name) || regex.is_match(&translated(name));
        return all().filter(|(_, name)| fits(name)).map(|(at, _)| at).collect();
    }
    let exact: BTreeSet<usize> = all().filter(|(_, name)| ***name == *matcher.value).map(|(at, _)| at).collect();
    if !exact.is_empty() {
        return exact;
    }
    let meant: BTreeSet<usize> = all().filter(|(_, name)| translates_to(name, &matcher.value)).map(|(at, _)| at).collect();
    if !meant.is_empty() {
        let list: Vec<_> = meant.iter().map(|at| format!("{:?}", names[*at])).collect();
        notes.push(format!("the name {} was read as {}", matcher.value, list.join(", ")));
    }
    meant
}

/// What an instant selector sees at each step: the newest point at most `lookback_ms` old, unless it is a stale marker.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) times: Grid,
    pub(crate) lookback_ms: i64,
    /// The point's time in Unix seconds in place of its value.
    pub(crate) as_time: bool,
}

/// A look at one series whose points come part by part.
#[derive(Default)]
pub(crate) struct Looker {
    out: Vec<f64>,
    newest: Option<(i64, f64)>,
}

impl Looker {
    /// Takes the next points.
    pub(crate) fn push(&mut self, how: &Look, times: &[i64], values: &[f64]) {
        let Some(last_ms) = times.last().copied() else { return };
        let mut seen = 0;
        while self.out.len() < how.times.steps {
            let at_ms = how.times.at(self.out.len());
            if at_ms >= last_ms {
                break;
            }
            seen += times[seen..].partition_point(|time| *time <= at_ms);
            let newest = seen.checked_sub(1).map_or(self.newest, |at| Some((times[at], values[at])));
            self.out.push(how.value(at_ms, newest));
        }
        self.newest = Some((last_ms, values[values.len() - 1]));
    }

    /// The value at each step, when all points have come.
    pub(crate) fn finish(mut self, how: &Look) -> Vec<f64> {
        let rest = self.out.len()..how.times.steps;
        self.out.extend(rest.map(|step| how.value(how.times.at(step), self.newest)));
        self.out
    }
}

impl Look {
    fn value(&self, at_ms: i64, newest: Option<(i64, f64)>) -> f64 {
        match newest {
            Some((time, value)) if time > at_ms - self.lookback_ms && !is_absent(value) => {
                if self.as_time {
                    time as f64 / 1_000.0
                } else {
                    value
                }
            }
            _ => ABSENT,
        }
    }
}

/// Removes stale markers, which range selectors never see.
pub(crate) fn drop_stale(timestamps: &mut Vec<i64>, values: &mut Vec<f64>) {
    if values.iter().any(|value| is_absent(*value)) {
        let mut keep = values.iter().map(|value| !is_absent(*value));
        timestamps.retain(|_| keep.next().unwrap_or(false));
        values.retain(|value| !is_absent(*value));
    }
}
