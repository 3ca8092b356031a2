//! Routes, headers and replies; the statuses themselves are `Cause::status`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use futures::StreamExt;

use tailors_model::limits::REQUEST_HEADER_BYTES_MAX;

use crate::auth::key_of;
use crate::counters::Whose;
use crate::decode::Protocol;
use crate::decompress::Encoding;
use crate::refusal::{Cause, Refusal, shown};
use crate::run::{Arrived, Intake, Taken};

/// Header with the points that a request refused in part had stored, as remote write 2.0 names it.
pub const SAMPLES_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-samples-written");
/// What `WWW-Authenticate` of a 401 offers.
pub const CHALLENGES: [&str; 2] = ["Bearer realm=\"tailors\"", "Basic realm=\"tailors\""];
/// Bytes of a refused body that are read and thrown away, so that its sender sees the reply and not a broken connection.
const DRAIN_BYTES_MAX: usize = 64 << 20;

pub(crate) fn router(intake: Arc<Intake>) -> Router {
    Router::new()
        .route("/api/v1/write", post(remote_write).fallback(|state, request| wrong_verb(state, request, Protocol::RemoteWrite, "POST")))
        .route("/api/v2/series", post(datadog_series).fallback(|state, request| wrong_verb(state, request, Protocol::Datadog, "POST")))
        .route(
            "/api/v1/validate",
            get(datadog_validate).fallback(|state, request| wrong_verb(state, request, Protocol::Datadog, "GET, HEAD")),
        )
        .with_state(intake)
}

async fn remote_write(State(intake): State<Arc<Intake>>, request: Request) -> Response {
    points(&intake, request, Protocol::RemoteWrite).await
}

async fn datadog_series(State(intake): State<Arc<Intake>>, request: Request) -> Response {
    points(&intake, request, Protocol::Datadog).await
}

async fn datadog_validate(State(intake): State<Arc<Intake>>, request: Request) -> Response {
    let key = key_of(request.headers(), request.uri(), true);
    let (whose, result) = match intake.authorize(key).await {
        Ok(principal) => (Whose::of(&principal), intake.may_write(&principal)),
        Err(refusal) => (Whose::Unknown, Err(refusal)),
    };
    match result {
        Ok(_) => reply(StatusCode::OK, "application/json", r#"{"valid":true}"#.to_owned()),
        Err(refusal) => turned_away(&intake, whose, &refusal, Protocol::Datadog),
    }
}

async fn wrong_verb(State(intake): State<Arc<Intake>>, request: Request, protocol: Protocol, allow: &'static str) -> Response {
    let text = format!("{} is not answered here; use {allow}", shown(request.method().as_str().as_bytes()));
    let mut response = turned_away(&intake, Whose::Unknown, &Refusal::new(Cause::Method, text), protocol);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

/// A request that brings points, from its headers to its reply.
async fn points(intake: &Arc<Intake>, request: Request, protocol: Protocol) -> Response {
    let (parts, body) = request.into_parts();
    let mut stream = body.into_data_stream();
    if let Err(refusal) = header_bytes_fit(&parts.headers, &parts.uri) {
        drain(intake, &mut stream).await;
        return turned_away(intake, Whose::Unknown, &refusal, protocol);
    }
    let key = key_of(&parts.headers, &parts.uri, protocol == Protocol::Datadog);
    let principal = match intake.authorize(key).await {
        Ok(principal) => principal,
        Err(refusal) => {
            drain(intake, &mut stream).await;
            return turned_away(intake, Whose::Unknown, &refusal, protocol);
        }
    };
    let whose = Whose::of(&principal);
    let result = async {
        let org = intake.may_write(&principal)?;
        let encoding = headers_fit(&parts.headers, protocol)?;
        let bytes_max = body_bytes_max(intake, protocol);
        let announced = announced_bytes(&parts.headers);
        if announced.is_some_and(|bytes| bytes > bytes_max as u64) {
            return Err(body_too_large(bytes_max));
        }
        // What is not announced may be as long as the limit.
        let _room = intake.room(announced.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(bytes_max))?;
        let body = read(intake, &mut stream, bytes_max).await?;
        intake.take(Arrived { protocol, org, backfill: principal.may_backfill(), encoding, body }).await
    };
    match result.await {
        Ok(taken) => answered(protocol, &taken),
        Err(refusal) => {
            drain(intake, &mut stream).await;
            turned_away(intake, whose, &refusal, protocol)
        }
    }
}

fn body_bytes_max(intake: &Intake, protocol: Protocol) -> usize {
    match protocol {
        Protocol::RemoteWrite => intake.settings().remote_write_body_bytes_max,
        Protocol::Datadog => intake.settings().datadog_body_bytes_max,
    }
}

fn announced_bytes(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether target and headers together are short enough to be looked at.
fn header_bytes_fit(headers: &HeaderMap, uri: &Uri) -> Result<(), Refusal> {
    let target = uri.path().len() + uri.query().map_or(0, str::len);
    let bytes = headers.iter().fold(target, |sum, (name, value)| sum + name.as_str().len() + value.len());
    let text = || format!("{bytes} bytes of headers, at most {REQUEST_HEADER_BYTES_MAX}");
    if bytes <= REQUEST_HEADER_BYTES_MAX { Ok(()) } else { Err(Refusal::new(Cause::HeaderBytes, text())) }
}

/// Whether content type and encoding are ones this path reads; gives the encoding.
fn headers_fit(headers: &HeaderMap, protocol: Protocol) -> Result<Encoding, Refusal> {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
    let content_type = text(header::CONTENT_TYPE).unwrap_or_default();
    let mut parts = content_type.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default().to_ascii_lowercase();
    let proto = parts.find_map(|part| part.strip_prefix("proto=")).unwrap_or_default();
    let version_2 =
        text(header::HeaderName::from_static("x-prometheus-remote-write-version")).is_some_and(|version| version.trim().starts_with("2."));
    match protocol {
        Protocol::RemoteWrite if proto.trim_matches('"') == "io.prometheus.write.v2.Request" || (version_2 && proto.is_empty()) => {
            let text =
                "remote write 2.0 is not there yet; set `protobuf_message: prometheus.WriteRequest` in the sender's remote_write section";
            return Err(Refusal::new(Cause::RemoteWrite2, text));
        }
        Protocol::RemoteWrite
            if media.is_empty() || (media == "application/x-protobuf" && matches!(proto, "" | "prometheus.WriteRequest")) => {}
        Protocol::Datadog if media.is_empty() || media == "application/json" => {}
        _ => {
            let known = match protocol {
                Protocol::RemoteWrite => "application/x-protobuf",
                Protocol::Datadog => "application/json",
            };
            let text = format!("content type `{}` is not read here; send {known}", shown(content_type.as_bytes()));
            return Err(Refusal::new(Cause::ContentType, text));
        }
    }
    // Remote write 1.0 is snappy also where it doesn't say so.
    let absent = if protocol == Protocol::RemoteWrite { Encoding::SnappyBlock } else { Encoding::Identity };
    Encoding::of_header(text(header::CONTENT_ENCODING), absent)
}

/// The whole body, at most `bytes_max` bytes, within the time that a body may take.
async fn read(intake: &Intake, stream: &mut BodyDataStream, bytes_max: usize) -> Result<Bytes, Refusal> {
    let timeout_s = intake.settings().body_timeout_s;
    let slow = |_| Refusal::new(Cause::SlowBody, format!("the body did not arrive within {timeout_s} s"));
    tokio::time::timeout(Duration::from_secs(timeout_s), collect(stream, bytes_max)).await.map_err(slow)?
}

async fn collect(stream: &mut BodyDataStream, bytes_max: usize) -> Result<Bytes, Refusal> {
    let mut first = Bytes::new();
    let mut all = Vec::new();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|error| Refusal::new(Cause::Undecodable, format!("read the body: {error}")))?;
        if first.len() + all.len() + piece.len() > bytes_max {
            return Err(body_too_large(bytes_max));
        }
        if first.is_empty() && all.is_empty() {
            // A body in one piece, the usual case, is not copied.
            first = piece;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&piece);
        }
    }
    Ok(if all.is_empty() { first } else { Bytes::from(all) })
}

async fn drain(intake: &Intake, stream: &mut BodyDataStream) {
    let mut left = DRAIN_BYTES_MAX;
    let rest = async {
        while let Some(Ok(piece)) = stream.next().await {
            left = left.saturating_sub(piece.len());
            if left == 0 {
                break;
            }
        }
    };
    // Whether it ends or not, the reply follows.
    let _ = tokio::time::timeout(Duration::from_secs(intake.settings().body_timeout_s), rest).await;
}

fn body_too_large(bytes_max: usize) -> Refusal {
    Refusal::new(Cause::BodyBytes, format!("the body is larger than {bytes_max} bytes; send smaller batches"))
}

/// The reply to a request all of whose admitted points are acknowledged.
fn answered(protocol: Protocol, taken: &Taken) -> Response {
    let lines = taken.refused.lines(taken.points);
    match protocol {
        Protocol::RemoteWrite if taken.refused.is_reported() => {
            let mut response = reply(StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", lines.join("\n") + "\n");
            response.headers_mut().insert(SAMPLES_WRITTEN, HeaderValue::from(taken.points));
            response
        }
        Protocol::RemoteWrite => empty(StatusCode::NO_CONTENT),
        Protocol::Datadog => reply(StatusCode::ACCEPTED, "application/json", errors_json(&lines)),
    }
}

/// The reply to a request that was turned away whole.
fn turned_away(intake: &Intake, whose: Whose, refusal: &Refusal, protocol: Protocol) -> Response {
    intake.counters.turned_away(whose, refusal.cause);
    let (id, name) = refusal.cause.id_name();
    if matches!(refusal.cause, Cause::Log | Cause::Internal | Cause::KeyStore) {
        tracing::warn!(id, cause = name, detail = %refusal.detail, "a request was turned away");
    }
    let text = format!("{id}: {}", refusal.detail);
    let status = StatusCode::from_u16(refusal.cause.status(protocol)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match protocol {
        Protocol::RemoteWrite => reply(status, "text/plain; charset=utf-8", text + "\n"),
        Protocol::Datadog => reply(status, "application/json", errors_json(&[text])),
    };
    if status == StatusCode::UNAUTHORIZED {
        for challenge in CHALLENGES {
            response.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
    }
    if refusal.cause.is_retry() {
        let seconds = refusal.retry_after_s.unwrap_or(intake.settings().retry_after_s);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn errors_json(lines: &[String]) -> String {
    serde_json::json!({ "errors": lines }).to_string()
}

fn reply(status: StatusCode, content_type: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
