//! What Grafana asks for before any query.

use axum::response::Response;

use super::answer;

/// No rules run here.
pub(super) async fn rules() -> Response {
    answer::data("{\"groups\":[]}")
}

/// No alerts either.
pub(super) async fn alerts() -> Response {
    answer::data("{\"alerts\":[]}")
}

/// The PromQL that is spoken here; no `features`, so that Grafana sees Prometheus and not Mimir.
pub(super) async fn buildinfo() -> Response {
    let ours = env!("CARGO_PKG_VERSION");
    answer::data(&format!(
        "{{\"version\":\"3.15.0\",\"revision\":\"tailors-{ours}\",\"branch\":\"\",\"buildUser\":\"\",\"buildDate\":\"\",\"goVersion\":\"\"}}"
    ))
}
