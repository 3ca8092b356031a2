//! The command line's side of HTTP: keys added, errors read out, restarts of the server ridden out.
//!
//! A server that was never reached is no restart: the first connection that fails ends the command at once.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::exit::Failure;

/// How long a command waits for a server that went away, milliseconds.
const AWAY_MS_MAX: u64 = 120_000;
/// How long it waits without a word, milliseconds.
const SILENT_MS_MAX: u64 = 3_000;
/// How long a connection may take to open, seconds.
const CONNECT_S_MAX: u64 = 10;

/// A server and a key for it.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    key: String,
    reached: Arc<AtomicBool>,
}

/// What a request brought.
pub(crate) struct Answer {
    /// Status.
    pub(crate) status: StatusCode,
    /// Headers.
    pub(crate) headers: HeaderMap,
    /// Body.
    pub(crate) body: Bytes,
}

impl Answer {
    /// The first 400 bytes as text, for messages.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body[..self.body.len().min(400)]).trim().to_owned()
    }

    /// The body as JSON if the status is 2xx, else what the server said.
    pub(crate) fn json(&self) -> Result<Value, Failure> {
        if !self.status.is_success() {
            // Admin routes say a plain no, and wrong arguments, as the command itself would.
            let said = serde_json::from_slice::<Value>(&self.body).ok().and_then(|body| Some(body["error"].as_str()?.to_owned()));
            match (self.status, said) {
                (StatusCode::CONFLICT, Some(said)) => return Err(Failure::no(said)),
                (StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Some(said)) => {
                    return Err(Failure::usage(said));
                }
                _ => {}
            }
            return Err(Failure::unavailable(format!("the server answers {}: {}", self.status, self.text())));
        }
        serde_json::from_slice(&self.body).map_err(|error| Failure::unavailable(format!("the server's answer is no JSON: {error}")))
    }
}

impl Client {
    /// A client of `url`, e.g. `http://127.0.0.1:7878`.
    pub(crate) fn new(url: &str, key: &str) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(CONNECT_S_MAX))
            .timeout(Duration::from_secs(600))
            .build();
        let http = http.map_err(|error| Failure::unavailable(error.to_string()))?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned(), key: key.to_owned(), reached: Arc::default() })
    }

    /// Whether the server ever answered.
    pub(crate) fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    /// One request; waits for a server that went away, and for one that asks to come again (503 or 429 with `Retry-After`).
    pub(crate) async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Bytes) -> Result<Answer, Failure> {
        let mut waited_ms = 0;
        let mut pause_ms = 100;
        let mut said = false;
        loop {
            let mut request = self.http.request(method.clone(), format!("{}{path}", self.url)).bearer_auth(&self.key).body(body.clone());
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let problem = match request.send().await {
                Ok(response) => {
                    self.reached.store(true, Ordering::Relaxed);
                    let (status, headers) = (response.status(), response.headers().clone());
                    let again = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
                    match response.bytes().await {
                        Ok(body) if !(again && headers.contains_key(RETRY_AFTER)) => return Ok(Answer { status, headers, body }),
                        Ok(body) => format!("{status}: {}", String::from_utf8_lossy(&body[..body.len().min(200)]).trim()),
                        Err(error) => root(&error),
                    }
                }
                Err(error) if error.is_connect() && !self.was_reached() => {
                    return Err(Failure::unavailable(format!(
                        "{} can't be reached: {}; does `tailors up` run there?",
                        self.url,
                        root(&error)
                    )));
                }
                Err(error) => root(&error),
            };
            if waited_ms >= SILENT_MS_MAX && !said {
                eprintln!("tailors: {} does not answer ({problem}); waiting for it, at most {} s", self.url, AWAY_MS_MAX / 1_000);
                said = true;
            }
            if waited_ms >= AWAY_MS_MAX {
                return Err(Failure::unavailable(format!("{} does not answer for {} s: {problem}", self.url, waited_ms / 1_000)));
            }
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            waited_ms += pause_ms;
            pause_ms = (pause_ms * 2).min(2_000);
        }
    }

    /// GET with query parameters, as JSON.
    pub(crate) async fn get_json(&self, path: &str, parameters: &[(&str, String)]) -> Result<Value, Failure> {
        let query: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
        let path = if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) };
        self.send(Method::GET, &path, &[], Bytes::new()).await?.json()
    }

    /// POST of JSON, answered by JSON.
    pub(crate) async fn post_json(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(Method::POST, path, &[("content-type", "application/json")], Bytes::from(body.to_string())).await?.json()
    }
}

/// What an error comes down to; those around it only repeat the address.
fn root(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), root)
}

/// Percent-encodes everything but unreserved characters.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
