//! Rows of a benchmark, as a table for people and as JSON for programs.
//!
//! JSON of a row: `{name, value, unit, better: "lower"|"higher", reach, met, rivals: {name: value}, recorded: [names]}`; `met` is null where `reach` is.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

/// Which way is better.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    /// Sizes, latencies.
    Lower,
    /// Rates.
    Higher,
}

/// One measured figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    name: String,
    value: f64,
    unit: &'static str,
    better: Better,
    reach: Option<f64>,
    met: Option<bool>,
    rivals: BTreeMap<String, f64>,
    recorded: Vec<String>,
}

impl Row {
    /// A figure where less is better.
    pub(crate) fn lower(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self::new(name.into(), value, unit, Better::Lower)
    }

    /// A figure where more is better.
    pub(crate) fn higher(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self::new(name.into(), value, unit, Better::Higher)
    }

    fn new(name: String, value: f64, unit: &'static str, better: Better) -> Self {
        Self { name, value, unit, better, reach: None, met: None, rivals: BTreeMap::new(), recorded: Vec::new() }
    }

    /// What it must reach.
    pub(crate) fn reach(mut self, reach: f64) -> Self {
        self.met = Some(if self.better == Better::Lower { self.value <= reach } else { self.value >= reach });
        self.reach = Some(reach);
        self
    }

    /// A rival measured in this run.
    pub(crate) fn rival(mut self, name: &str, value: f64) -> Self {
        self.rivals.insert(name.to_owned(), value);
        self
    }

    /// A rival's recorded figure.
    pub(crate) fn recorded(mut self, name: &str, value: f64) -> Self {
        self.recorded.push(name.to_owned());
        self.rival(name, value)
    }

    fn rivals_text(&self) -> String {
        let one = |(name, value): (&String, &f64)| {
            let mark = if self.recorded.contains(name) { "*" } else { "" };
            format!("{name}{mark} {}", number(*value))
        };
        self.rivals.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// Four significant digits, without an exponent.
fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let digits = (3 - value.abs().log10().floor() as i32).clamp(0, 7) as usize;
    format!("{value:.digits$}")
}

/// A table: name, value, unit, reach, whether it is met, rivals (`*` = recorded, not measured in this run).
pub(crate) fn table(rows: &[Row]) -> String {
    let mut cells = vec![["name", "value", "unit", "reach", "met", "rivals (* = recorded)"].map(str::to_owned)];
    for row in rows {
        let sign = if row.better == Better::Lower { "<=" } else { ">=" };
        let reach = row.reach.map_or_else(|| "-".to_owned(), |reach| format!("{sign} {}", number(reach)));
        let met = row.met.map_or("-", |met| if met { "yes" } else { "NO" });
        cells.push([row.name.clone(), number(row.value), row.unit.to_owned(), reach, met.to_owned(), row.rivals_text()]);
    }
    let width = |column: usize| cells.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let [name_w, value_w, unit_w, reach_w, met_w] = [0, 1, 2, 3, 4].map(width);
    let mut text = String::new();
    for [name, value, unit, reach, met, rivals] in &cells {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name:name_w$}  {value:>value_w$}  {unit:unit_w$}  {reach:>reach_w$}  {met:met_w$}  {rivals}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn met_follows_the_better_side_and_is_null_without_a_reach() {
        assert_eq!(Row::lower("a", 1.0, "x").reach(1.0).met, Some(true));
        assert_eq!(Row::higher("a", 1.0, "x").reach(1.1).met, Some(false));
        let json = serde_json::to_value(Row::lower("a", 1.0, "x").recorded("Prometheus", 2.0)).expect("plain data");
        assert_eq!(
            json,
            serde_json::json!({"name": "a", "value": 1.0, "unit": "x", "better": "lower", "reach": null, "met": null,
                "rivals": {"Prometheus": 2.0}, "recorded": ["Prometheus"]})
        );
    }

    #[test]
    fn numbers_have_four_digits() {
        assert_eq!([number(0.32912), number(152.44), number(0.000_31), number(0.0)], ["0.3291", "152.4", "0.0003100", "0"]);
    }
}
