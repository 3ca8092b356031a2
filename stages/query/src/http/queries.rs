//! `/query`, `/query_range`, `/format_query`.

use axum::extract::{Request, State};
use axum::response::Response;

use super::params::Params;
use super::{QueryDeps, answer};
use crate::error::{self, QueryError};
use crate::promql;
use crate::run::{self, When};

/// Evaluates at one time, now unless said.
pub(super) async fn instant(State(deps): State<QueryDeps>, request: Request) -> Result<Response, QueryError> {
    let params = Params::of(request).await?;
    let at_ms = params.time_ms("time")?.unwrap_or_else(|| deps.clock.now_ms());
    evaluate(deps, &params, When::Instant(at_ms)).await
}

/// Evaluates at steps from `start` to `end`.
pub(super) async fn range(State(deps): State<QueryDeps>, request: Request) -> Result<Response, QueryError> {
    let params = Params::of(request).await?;
    let missing = |name: &str| QueryError::bad(error::PARAMETER, format!("invalid parameter \"{name}\": it is missing"));
    let start_ms = params.time_ms("start")?.ok_or_else(|| missing("start"))?;
    let end_ms = params.time_ms("end")?.ok_or_else(|| missing("end"))?;
    let step_ms = params.duration_ms("step")?.ok_or_else(|| missing("step"))?;
    evaluate(deps, &params, When::Range(start_ms, end_ms, step_ms)).await
}

async fn evaluate(deps: QueryDeps, params: &Params, when: When) -> Result<Response, QueryError> {
    let query = params.required("query")?.to_owned();
    let timeout_ms = params.duration_ms("timeout")?.map(|ms| u64::try_from(ms).unwrap_or(0));
    let limit = params.count("limit")?;
    let mut limits = deps.limits;
    if let Some(lookback_ms) = params.duration_ms("lookback_delta")? {
        limits.lookback_ms = lookback_ms;
    }
    let request = run::Request { org: params.org, query, when, allow_partial: params.allow_partial(), timeout_ms };
    let began_us = deps.clock.now_us();
    let found = run::run(deps.source.clone(), deps.clock.now_ms(), limits, request).await?;
    let took_us = deps.clock.now_us() - began_us;
    let stats = params.get("stats").map(|asked| answer::Stats { asked: asked.to_owned(), took_us });
    Ok(answer::query(found, limit, stats, limits.answer_bytes_max))
}

/// The query, pretty.
pub(super) async fn format(request: Request) -> Result<Response, QueryError> {
    let params = Params::of(request).await?;
    let pretty = promql::format(params.required("query")?)?;
    Ok(answer::data(&serde_json::Value::from(pretty).to_string()))
}
