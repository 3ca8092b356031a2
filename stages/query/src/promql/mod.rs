//! The evaluator: PromQL text, a pinned source and times in; values equal to Prometheus 3's out.
//!
//! Every expression gives whole columns: one number per step and series, with a mark where there is none. A selector's points are read once, in
//! batches of series, and windows slide over them by index. `plan` knows the grammar, `eval` the order of work, the other modules are pure.

pub(crate) mod aggregate;
mod annotations;
pub(crate) mod binary;
mod call;
mod dates;
mod durations;
pub(crate) mod eval;
mod filter;
pub(crate) mod functions;
mod gate;
mod histogram;
pub mod labels;
mod load;
pub(crate) mod over_time;
mod pieces;
mod places;
pub(crate) mod plan;
pub(crate) mod rate;
pub(crate) mod selector;
mod stepwise;
pub mod value;

use std::sync::Arc;

use tailors_model::OrgId;
use tailors_model::source::{Coverage, PartialRange, PinnedSource};

use crate::error::{self, QueryError};
use crate::settings::Limits;
pub use labels::Labels;
pub use value::Value;

/// What an evaluation stands on.
#[derive(Clone)]
pub struct Context {
    /// One state of all history.
    pub source: Arc<dyn PinnedSource>,
    /// Whose series.
    pub org: OrgId,
    /// What it may cost. `time_ms_max` is the caller's to keep; the rest is checked here.
    pub limits: Limits,
    /// Whether unreadable files become named ranges instead of an error.
    pub allow_partial: bool,
}

/// A value and what it was made of.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// The result.
    pub value: Value,
    /// Feed number that was pinned.
    pub feed: u64,
    /// Generations, completeness, and notes of the range that was read.
    pub coverage: Coverage,
    /// Ranges that could not be read.
    pub partial: Vec<PartialRange>,
    /// Prometheus' annotations: what is wrong with the query or its data.
    pub warnings: Vec<String>,
    /// And what may be.
    pub infos: Vec<String>,
    /// Points read from the source.
    pub points_read: u64,
    /// Numbers that intermediate results and raw points took.
    pub values_held: u64,
}

/// Evaluates at one time, Unix milliseconds.
pub async fn eval_instant(context: &Context, query: &str, at_ms: i64) -> Result<Answer, QueryError> {
    let plan = plan::plan(query, context.limits.experimental_functions, durations::Query { step_s: 0.0, range_s: 0.0 })?;
    let grid = selector::Grid { start_ms: at_ms, step_ms: 1, steps: 1 };
    eval::run(context, &plan, grid, true).await
}

/// Evaluates at `start_ms`, `start_ms + step_ms`, ... up to `end_ms`, Unix milliseconds.
pub async fn eval_range(context: &Context, query: &str, start_ms: i64, end_ms: i64, step_ms: i64) -> Result<Answer, QueryError> {
    if step_ms <= 0 {
        let text = "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(QueryError::bad(error::PARAMETER, text));
    }
    if end_ms < start_ms {
        return Err(QueryError::bad(error::PARAMETER, "invalid parameter \"end\": end timestamp must not be before start time"));
    }
    let steps = end_ms.saturating_sub(start_ms) as u64 / step_ms as u64;
    if steps > context.limits.steps_max {
        let most = thousands(context.limits.steps_max);
        return Err(QueryError::bad(
            error::STEPS,
            format!(
                "exceeded maximum resolution of {most} points per timeseries. Try decreasing the query resolution (?step=XX) (query.limits.steps_max)"
            ),
        ));
    }
    let of = durations::Query { step_s: step_ms as f64 / 1e3, range_s: (end_ms - start_ms) as f64 / 1e3 };
    let plan = plan::plan(query, context.limits.experimental_functions, of)?;
    eval::run(context, &plan, selector::Grid { start_ms, step_ms, steps: steps as usize + 1 }, false).await
}

/// `11,000` as Prometheus writes it.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

/// Formats a query as Prometheus' `format_query` does.
pub fn format(query: &str) -> Result<String, QueryError> {
    Ok(plan::parse(query)?.prettify())
}

/// The selector of a `match[]` parameter.
pub(crate) fn selectors(text: &str) -> Result<selector::Selector, QueryError> {
    match plan::plan(text, false, durations::Query { step_s: 0.0, range_s: 0.0 })? {
        plan::Node::Instant { selector, .. } => Ok(selector),
        _ => Err(QueryError::bad(error::PARAMETER, format!("invalid parameter \"match[]\": {text} is no series selector"))),
    }
}
