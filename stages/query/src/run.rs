//! One query from pin to answer: the recipe.

use std::sync::Arc;
use std::time::Duration;

use tailors_model::OrgId;
use tailors_model::source::SeriesSource;

use crate::error::QueryError;
use crate::promql::{self, Answer, Context};
use crate::settings::Limits;

/// Evaluation times, Unix milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// One time.
    Instant(i64),
    /// Start, end, step.
    Range(i64, i64, i64),
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whose series.
    pub org: OrgId,
    /// PromQL.
    pub query: String,
    /// When.
    pub when: When,
    /// Whether unreadable files become named ranges.
    pub allow_partial: bool,
    /// Milliseconds that the sender waits at most; can only shorten the limit.
    pub timeout_ms: Option<u64>,
}

/// Pins a feed number, evaluates within the time limit, and, when a pinned file is gone (superseded meanwhile), starts over once on a newer pin.
pub async fn run(source: Arc<dyn SeriesSource>, now_ms: i64, limits: Limits, request: Request) -> Result<Answer, QueryError> {
    let most_ms = request.timeout_ms.map_or(limits.time_ms_max, |timeout| timeout.min(limits.time_ms_max));
    let work = async move {
        let pinned = source.pin(now_ms, false).await?;
        let feed = pinned.feed();
        let context = Context { source: pinned, org: request.org, limits, allow_partial: request.allow_partial };
        match evaluate(&context, &request).await {
            Err(QueryError::Data(text)) => {
                let newer = source.pin(now_ms, true).await?;
                if newer.feed() == feed {
                    return Err(QueryError::Data(text));
                }
                evaluate(&Context { source: newer, ..context }, &request).await
            }
            answer => answer,
        }
    };
    // Folding columns is computation: it gets a thread of its own instead of holding up the server's.
    let handle = tokio::runtime::Handle::current();
    let over = || {
        QueryError::Timeout(format!(
            "query timed out after {most_ms} ms (query.limits.time_ms_max, or the request's timeout): ask for fewer series or a shorter range"
        ))
    };
    if most_ms == 0 {
        return Err(over());
    }
    let limited = tokio::task::spawn_blocking(move || handle.block_on(tokio::time::timeout(Duration::from_millis(most_ms), work)));
    match limited.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(over()),
        Err(error) => Err(QueryError::Data(format!("evaluation ended early: {error}"))),
    }
}

async fn evaluate(context: &Context, request: &Request) -> Result<Answer, QueryError> {
    match request.when {
        When::Instant(at_ms) => promql::eval_instant(context, &request.query, at_ms).await,
        When::Range(start_ms, end_ms, step_ms) => promql::eval_range(context, &request.query, start_ms, end_ms, step_ms).await,
    }
}
