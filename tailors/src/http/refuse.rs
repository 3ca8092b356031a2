//! Refusals that no stage answers: keys of query and admin routes, unknown paths, wrong verbs, bodies of admin routes. Each has an id of docs/errors.md,
//! and the shape that whoever asks this path reads.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use metrics::counter;
use serde::de::DeserializeOwned;
use serde_json::json;
use tailors_intake::CHALLENGES;
use tailors_intake::decode::Protocol;
use tailors_intake::refusal::{Refusal, shown};
use tailors_model::OrgId;

/// Seconds after which to come again when keys can't be looked up.
const RETRY_AFTER_S: u32 = 5;

/// Routes behind a key that are no intake's; label `routes` of the counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Routes {
    /// `/api/v1/*` of Prometheus.
    Query,
    /// `/api/admin/v1/*`.
    Admin,
    /// `/metrics` from afar.
    Metrics,
}

impl Routes {
    fn label(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Admin => "admin",
            Self::Metrics => "metrics",
        }
    }
}

/// Whose key it was: `None` before it is known, `Some(None)` for a key without an org.
pub(super) type Whose = Option<Option<OrgId>>;

/// A key that does not open these routes: counted, and answered with the ids and words of the intake.
pub(super) fn key(routes: Routes, whose: Whose, refusal: &Refusal) -> Response {
    let (id, reason) = refusal.cause.id_name();
    let org = whose.map_or_else(String::new, |org| org.map_or_else(|| "none".to_owned(), |org| org.to_string()));
    counter!("tailors_refused_requests_total", "routes" => routes.label(), "org" => org, "reason" => reason).increment(1);
    let status = StatusCode::from_u16(refusal.cause.status(Protocol::RemoteWrite)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = prometheus(status, "auth", &format!("{id}: {}", refusal.detail));
    if status == StatusCode::UNAUTHORIZED {
        for challenge in CHALLENGES {
            response.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
    }
    if refusal.cause.is_retry() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
    }
    response
}

/// An error as Prometheus' API writes it; admin routes write it too.
pub(super) fn prometheus(status: StatusCode, kind: &str, message: &str) -> Response {
    (status, Json(json!({"status": "error", "errorType": kind, "error": message}))).into_response()
}

/// Nothing is at this path.
pub(super) async fn not_found(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let asked = format!("{} {}", shown(method.as_str().as_bytes()), shown(uri.path().as_bytes()));
    fitting(StatusCode::NOT_FOUND, &uri, &headers, &format!("TLR-1006: nothing answers {asked}"))
}

/// The path is there, with other verbs; the router adds which (`Allow`).
pub(super) async fn wrong_verb(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let verb = shown(method.as_str().as_bytes());
    fitting(
        StatusCode::METHOD_NOT_ALLOWED,
        &uri,
        &headers,
        &format!("TLR-1005: {verb} is not answered here; the header `Allow` names what is"),
    )
}

/// The shape that the asker reads: an Agent's JSON, Prometheus' JSON below `/api`, text elsewhere.
fn fitting(status: StatusCode, uri: &Uri, headers: &HeaderMap, message: &str) -> Response {
    let (path, agent) = (uri.path(), headers.contains_key("dd-api-key"));
    if agent || path.starts_with("/api/v2/") || path.starts_with("/intake") {
        (status, Json(json!({"errors": [message]}))).into_response()
    } else if path.starts_with("/api/") {
        prometheus(status, if status == StatusCode::NOT_FOUND { "not_found" } else { "bad_data" }, message)
    } else {
        (status, format!("{message}\n")).into_response()
    }
}

/// The JSON body of an admin request; one that can't be read is TLR-1007.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Asked<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let read: Result<Json<T>, JsonRejection> = Json::from_request(request, state).await;
        read.map(|Json(asked)| Self(asked)).map_err(|error| bad_admin(error.status(), &error.body_text()))
    }
}

/// Parameters of an admin request that can't be read.
pub(super) fn parameters(error: &QueryRejection) -> Response {
    bad_admin(error.status(), &error.body_text())
}

fn bad_admin(status: StatusCode, why: &str) -> Response {
    prometheus(status, "bad_data", &format!("TLR-1007: {why}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_id_of_these_routes_is_documented() {
        let page = include_str!("../../../docs/errors.md");
        for id in ["TLR-1005", "TLR-1006", "TLR-1007", "TLR-1008", "TLR-1009"] {
            assert!(page.contains(&format!("| {id} |")), "{id}");
        }
    }
}
