//! Prometheus' HTTP API as Grafana uses it (interfaces.md C1). Wrong verbs on known paths are 405; GET and POST forms say the same.

mod answer;
mod labels;
mod params;
mod queries;
mod status;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use tailors_model::Clock;
use tailors_model::source::SeriesSource;

use crate::settings::Limits;

/// What the routes stand on.
#[derive(Clone)]
pub struct QueryDeps {
    /// Where series come from.
    pub source: Arc<dyn SeriesSource>,
    /// Default evaluation time, and the age of a pin.
    pub clock: Arc<dyn Clock>,
    /// Limits of one query.
    pub limits: Limits,
}

/// Routes below `/api/v1`. A middleware must put the caller's [`tailors_model::OrgId`] into the request's extensions.
pub fn router(deps: QueryDeps) -> Router {
    Router::new()
        .route("/api/v1/query", get(queries::instant).post(queries::instant))
        .route("/api/v1/query_range", get(queries::range).post(queries::range))
        .route("/api/v1/format_query", get(queries::format).post(queries::format))
        .route("/api/v1/labels", get(labels::names).post(labels::names))
        .route("/api/v1/label/{name}/values", get(labels::values))
        .route("/api/v1/series", get(labels::series).post(labels::series))
        .route("/api/v1/metadata", get(labels::metadata))
        .route("/api/v1/rules", get(status::rules))
        .route("/api/v1/alerts", get(status::alerts))
        .route("/api/v1/status/buildinfo", get(status::buildinfo))
        .with_state(deps)
}
