//! The envelope of answers: `status`, `data`, `warnings`, and our member `tailors`.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::error::{self, QueryError};
use crate::promql::{Answer, Value};

/// 200 with this JSON as `data`.
pub(super) fn data(json: &str) -> Response {
    body(StatusCode::OK, format!("{{\"status\":\"success\",\"data\":{json}}}"))
}

/// 200 with this JSON as `data` and warnings.
pub(super) fn data_with(json: &str, warnings: &[String]) -> Response {
    if warnings.is_empty() {
        return data(json);
    }
    body(StatusCode::OK, format!("{{\"status\":\"success\",\"data\":{json},\"warnings\":{}}}", json!(warnings)))
}

fn body(status: StatusCode, json: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], json).into_response()
}

/// Parameter `stats` as it came, and how long the query took.
pub(super) struct Stats {
    pub(super) asked: String,
    pub(super) took_us: i64,
}

impl Stats {
    /// Prometheus' object. One evaluation is all there is: no queue, no preparation apart.
    fn json(&self, answer: &Answer) -> serde_json::Value {
        let took_s = self.took_us as f64 / 1e6;
        json!({
            "timings": {
                "evalTotalTime": took_s, "resultSortTime": 0.0, "queryPreparationTime": 0.0,
                "innerEvalTime": took_s, "execQueueTime": 0.0, "execTotalTime": took_s,
            },
            "samples": {"totalQueryableSamples": answer.points_read, "samplesRead": answer.points_read, "peakSamples": answer.values_held},
        })
    }
}

/// The answer of a query; `limit` cuts series (0: none).
pub(super) fn query(mut answer: Answer, limit: usize, stats: Option<Stats>, bytes_max: u64) -> Response {
    let mut warnings: Vec<String> = answer
        .partial
        .iter()
        .map(|(from, to, why)| format!("partial answer: [{from}, {to}) ms can't be read: {why} [{}]", error::DATA))
        .chain(std::mem::take(&mut answer.warnings))
        .collect();
    let most = if limit == 0 { usize::MAX } else { limit };
    let found = match &mut answer.value {
        Value::Vector(samples) => {
            let found = samples.len();
            samples.truncate(most);
            found
        }
        Value::Matrix(series) => {
            let found = series.len();
            series.truncate(most);
            found
        }
        _ => 0,
    };
    if found > most {
        warnings.push("results truncated due to limit".to_owned());
    }
    let mut out = format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"{}\",\"result\":", answer.value.type_name());
    answer.value.write_json(&mut out);
    if out.len() as u64 > bytes_max {
        let text = format!(
            "the answer is longer than {bytes_max} bytes (query.limits.answer_bytes_max): ask for fewer series, fewer steps or a shorter range"
        );
        return QueryError::execution(error::ANSWER, text).into_response();
    }
    if let Some(stats) = &stats {
        out.push_str(&format!(",\"stats\":{}", stats.json(&answer)));
        if !matches!(stats.asked.as_str(), "true" | "all") {
            let asked = &stats.asked;
            warnings.push(format!(
                "value \"{asked}\" for parameter \"stats\" is deprecated and will be rejected in the next major release, use \"true\" or \"all\""
            ));
        }
    }
    let windows = answer.coverage.used.iter().map(|used| {
        let window = chrono::DateTime::from_timestamp_millis(used.window_ms);
        let window = window.map_or_else(|| used.window_ms.to_string(), |at| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
        json!({"window": window, "shard": used.shard, "generation": used.generation, "seal": used.seal})
    });
    let windows: Vec<_> = windows.collect();
    let tailors = json!({
        "feed": answer.feed,
        "windows": windows,
        "complete_until_ms": answer.coverage.complete_until_ms,
        "partial": answer.partial,
        "notes": answer.coverage.notes,
    });
    out.push_str("},");
    if !warnings.is_empty() {
        out.push_str(&format!("\"warnings\":{},", json!(warnings)));
    }
    if !answer.infos.is_empty() {
        out.push_str(&format!("\"infos\":{},", json!(answer.infos)));
    }
    out.push_str(&format!("\"tailors\":{tailors}}}"));
    body(StatusCode::OK, out)
}

impl IntoResponse for QueryError {
    fn into_response(self) -> Response {
        let (status, kind) = self.status();
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let json = json!({"status": "error", "errorType": kind, "error": self.to_string()});
        let mut response = body(status, json.to_string());
        if matches!(self, Self::Unavailable(_)) {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("5"));
        }
        response
    }
}
