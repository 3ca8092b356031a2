//! One listener for all roles: intake routes as they are, query routes behind a key with scope query, admin routes behind scope admin.
//!
//! Deny by default: a route that no layer opens does not exist. Open without a key: `/`, `/-/healthy`, `/-/ready`; `/metrics` on loopback.

mod admin;
mod auth;
mod refuse;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tailors_format::doc::Scope;
use tailors_intake::{Intake, IntakeDeps};
use tailors_query::QueryDeps;
use tailors_store::auth::Authenticator;

pub(crate) use auth::Keys;
use refuse::Routes;

use crate::exit::Failure;
use crate::node::{Node, random};
use crate::settings::Settings;

/// What the page at `/` says.
const PAGE: &str = include_str!("page.html");

/// The routes of `up`.
pub(crate) fn router(node: &Arc<Node>, settings: &Settings, metrics: PrometheusHandle) -> Result<Router, Failure> {
    let keys = Arc::new(Keys::new(Authenticator::new(node.objects.clone()), node.clock.clone()));
    let control = node.control.clone();
    let intake = Intake::new(IntakeDeps {
        log: node.log.clone(),
        clock: node.clock.clone(),
        authorizer: keys.clone(),
        settings: settings.intake.clone(),
        intake_id: u64::from_le_bytes(random()?),
        hash_seed: u64::from_le_bytes(random()?),
        received_floor_us: node.log.last_received_at_us(),
        dirty_windows: Arc::new(move |org| control.dirty_windows(org)),
        windows_with_points: node.windows_with_points.clone(),
    });
    let query = tailors_query::router(query_deps(node, settings))
        .method_not_allowed_fallback(refuse::wrong_verb)
        .layer(middleware::from_fn_with_state(keys.clone(), auth::require_query));
    let admin = admin::router(node.clone())
        .method_not_allowed_fallback(refuse::wrong_verb)
        .layer(middleware::from_fn_with_state(keys.clone(), auth::require_admin));
    let open = Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/-/healthy", get(|| async { "healthy\n" }))
        .route("/-/ready", get(ready).with_state(node.clone()))
        .route("/metrics", get(show_metrics).with_state((keys, metrics)))
        .method_not_allowed_fallback(refuse::wrong_verb);
    Ok(tailors_intake::router(Arc::new(intake)).merge(query).merge(admin).merge(open).fallback(refuse::not_found))
}

/// What the query stage needs of a node.
pub(crate) fn query_deps(node: &Node, settings: &Settings) -> QueryDeps {
    QueryDeps { source: node.source.clone(), clock: node.clock.clone(), limits: settings.query.limits }
}

/// Ready = the log answers and the store can be read.
async fn ready(State(node): State<Arc<Node>>) -> Response {
    use tailors_store::log::Log;
    let store = tailors_store::registry::store_created_ms(&node.objects).await.map_err(|error| error.to_string());
    let log = node.log.bounds(0).await.map_err(|error| error.to_string());
    match (store, log) {
        (Ok(_), Ok(_)) => "ready\n".into_response(),
        (Err(why), _) | (_, Err(why)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn show_metrics(
    State((keys, metrics)): State<(Arc<Keys>, PrometheusHandle)>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    if !peer.ip().is_loopback()
        && let Err(refusal) = keys.require(&headers, &uri, Routes::Metrics, Scope::Metrics).await
    {
        return refusal;
    }
    metrics.render().into_response()
}
