//! `/api/admin/v1/{keys, seal, build, compact, flush, status, jobs}`: all that the commands do, for whoever holds an admin key.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tailors_control::ControlError;
use tailors_format::doc::JobDoc;
use tailors_model::{ShardId, Window};

use super::refuse::{self, Asked};
use crate::admin::{self, KeyRequest};
use crate::exit::{Exit, Failure};
use crate::node::Node;

pub(super) fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/api/admin/v1/keys", get(list_keys).post(create_key))
        .route("/api/admin/v1/keys/{id}", axum::routing::delete(revoke_key))
        .route("/api/admin/v1/seal", post(seal))
        .route("/api/admin/v1/build", post(build))
        .route("/api/admin/v1/compact", post(compact))
        .route("/api/admin/v1/flush", post(flush))
        .route("/api/admin/v1/status", get(status))
        .route("/api/admin/v1/jobs", get(jobs))
        .with_state(node)
}

/// A window, and for builds perhaps a shard.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WindowRequest {
    /// Start, Unix milliseconds.
    window_ms: i64,
    shard: Option<ShardId>,
}

impl WindowRequest {
    fn window(&self) -> Result<Window, Failure> {
        admin::window_at(self.window_ms)
    }
}

/// Failures as replies: the caller's fault, not now, or a plain no.
struct Reply(Failure);

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl From<ControlError> for Reply {
    fn from(error: ControlError) -> Self {
        Self(admin::control_failure(&error))
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let status = match self.0.exit {
            Exit::Usage => StatusCode::BAD_REQUEST,
            Exit::No => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let (kind, id) = match status {
            StatusCode::BAD_REQUEST => ("bad_data", "TLR-1007"),
            StatusCode::CONFLICT => ("conflict", "TLR-1008"),
            _ => ("internal", "TLR-1009"),
        };
        refuse::prometheus(status, kind, &format!("{id}: {}", self.0.message))
    }
}

fn reply(value: impl Serialize) -> Result<Json<Value>, Reply> {
    serde_json::to_value(value).map(Json).map_err(|error| Reply(Failure::unavailable(error.to_string())))
}

async fn create_key(State(node): State<Arc<Node>>, Asked(request): Asked<KeyRequest>) -> Result<Json<Value>, Reply> {
    let (id, key) = admin::create_key(&node.objects, &request, node.clock.now_ms()).await?;
    reply(json!({"id": id, "key": key}))
}

async fn list_keys(State(node): State<Arc<Node>>) -> Result<Json<Value>, Reply> {
    reply(admin::list_keys(&node.objects).await?)
}

async fn revoke_key(State(node): State<Arc<Node>>, Path(id): Path<String>) -> Result<Json<Value>, Reply> {
    reply(json!({"revoked": admin::revoke_key(&node.objects, &id, node.clock.now_ms()).await?}))
}

async fn seal(State(node): State<Arc<Node>>, Asked(request): Asked<WindowRequest>) -> Result<Json<Value>, Reply> {
    reply(node.control.seal_by_hand(request.window()?).await?)
}

async fn build(State(node): State<Arc<Node>>, Asked(request): Asked<WindowRequest>) -> Result<Json<Value>, Reply> {
    reply(node.control.build_window(request.window()?, request.shard).await?)
}

/// A day, and perhaps a shard.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DayRequest {
    /// Start, Unix milliseconds.
    day_ms: i64,
    shard: Option<ShardId>,
}

async fn compact(State(node): State<Arc<Node>>, Asked(request): Asked<DayRequest>) -> Result<Json<Value>, Reply> {
    let window = admin::window_at(request.day_ms)?;
    if window.first_of_day() != window {
        return Err(Failure::usage("a day starts at 00:00 UTC").into());
    }
    reply(node.control.compact_day(window, request.shard).await?)
}

async fn flush(State(node): State<Arc<Node>>) -> Result<Json<Value>, Reply> {
    node.control.flush().await?;
    reply(json!({"flushed": true}))
}

async fn status(State(node): State<Arc<Node>>) -> Result<Json<Value>, Reply> {
    reply(node.control.status().await?)
}

/// Which jobs to list.
#[derive(Deserialize)]
struct JobsRequest {
    /// Most rows, newest windows last.
    limit: Option<usize>,
}

async fn jobs(State(node): State<Arc<Node>>, request: Result<Query<JobsRequest>, QueryRejection>) -> Result<Json<Value>, Response> {
    let Query(request) = request.map_err(|error| refuse::parameters(&error))?;
    list_jobs(&node, request.limit).await.map_err(Reply::into_response)
}

async fn list_jobs(node: &Node, limit: Option<usize>) -> Result<Json<Value>, Reply> {
    let keys = node.objects.list("job/v1").await.map_err(|error| Reply(error.into()))?;
    let mut rows = Vec::new();
    for key in keys.iter().rev().take(limit.unwrap_or(200)) {
        let job: Option<JobDoc> = node.objects.get_doc(key).await.map_err(|error| Reply(error.into()))?;
        rows.push(json!({"job": key, "history": job}));
    }
    reply(rows)
}
