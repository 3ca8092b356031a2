//! Annotations of an answer, worded and placed as Prometheus does it.

use std::collections::BTreeMap;

use super::aggregate::Aggregation;
use super::eval::{Column, Evaluated};
use super::functions::Function;
use super::labels::NAME;
use super::over_time::RangeFunction;
use super::places::Place;
use super::rate::Extrapolation;
use super::value::write_number;

/// Annotations of each kind that an answer shows at most.
const SHOWN_MAX: usize = 10;

/// Annotations so far, each text once, with the position it came from last.
#[derive(Default)]
pub(super) struct Annotations {
    warnings: BTreeMap<String, String>,
    infos: BTreeMap<String, String>,
}

impl Annotations {
    /// Warnings and infos as an answer shows them.
    pub(super) fn shown(self) -> (Vec<String>, Vec<String>) {
        let cut = |all: BTreeMap<String, String>, kind: &str| {
            let more = all.len().saturating_sub(SHOWN_MAX);
            let shown = all.into_iter().take(SHOWN_MAX).map(|(text, position)| format!("PromQL {kind}: {text} {position}"));
            shown.chain((more > 0).then(|| format!("{more} more {kind} annotations omitted"))).collect()
        };
        (cut(self.warnings, "warning"), cut(self.infos, "info"))
    }

    fn warn(&mut self, text: &str, position: &str) {
        self.warnings.insert(text.to_owned(), position.to_owned());
    }

    fn quantiles(&mut self, quantiles: impl Iterator<Item = f64>, position: &str) {
        for q in quantiles.filter(|q| !(0.0..=1.0).contains(q)) {
            let mut number = String::new();
            write_number(&mut number, q);
            self.warn(&format!("quantile value should be between 0 and 1, got {number}"), position);
        }
    }

    /// Of a function over a range vector, whose results still have the names of their series. Of subqueries Prometheus has no position left.
    pub(super) fn over_time(&mut self, function: RangeFunction, arguments: &[Vec<f64>], columns: &[Column], place: &Place, subquery: bool) {
        let position = if subquery { "(1:1)" } else { place.argument(0) };
        match function {
            RangeFunction::Quantile if !columns.is_empty() => {
                self.quantiles(arguments.iter().flatten().copied(), place.argument(0));
            }
            RangeFunction::Extrapolated(Extrapolation { counter: true, .. }) => {
                let counts = |name: &str| ["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| name.ends_with(suffix));
                for name in columns.iter().filter_map(|column| column.labels.get(NAME)).filter(|name| !counts(name)) {
                    let text = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket";
                    self.infos.insert(format!("{text}: {name:?}"), position.to_owned());
                }
            }
            _ => {}
        }
    }

    /// Of any other function.
    pub(super) fn call(&mut self, function: Function, arguments: &[Evaluated], place: &Place, is_range: bool) {
        let sorts = matches!(function, Function::Sort { .. } | Function::SortByLabel { .. });
        if sorts && is_range {
            self.warn("sort is ineffective for range queries since results are always ordered by labels", &place.call);
        }
        let histograms = matches!(function, Function::HistogramQuantile | Function::HistogramQuantiles | Function::HistogramFraction);
        for (number, argument) in arguments.iter().enumerate().filter(|_| histograms) {
            match argument {
                Evaluated::Scalar(values) if !matches!(function, Function::HistogramFraction) => {
                    self.quantiles(values.iter().copied(), place.argument(number));
                }
                Evaluated::Vector(columns) => {
                    for le in columns.iter().map(|column| column.labels.get("le").unwrap_or_default()) {
                        if le.parse::<f64>().is_err() {
                            let text = format!("bucket label \"le\" is missing or has a malformed value of {le:?}");
                            self.warn(&text, place.argument(number));
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Of an aggregation.
    pub(super) fn aggregate(&mut self, aggregation: Aggregation, parameter: Option<&Evaluated>, place: &Place) {
        if let (Aggregation::Quantile, Some(Evaluated::Scalar(values))) = (aggregation, parameter) {
            // Only the extremes, as Prometheus.
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let nan = values.iter().copied().find(|q| q.is_nan());
            self.quantiles([least, greatest].into_iter().filter(|q| q.is_finite() || nan.is_none()).chain(nan), place.argument(0));
        }
    }
}
