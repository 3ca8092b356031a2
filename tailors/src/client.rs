//! The command line's side of HTTP: keys added, errors read out, restarts of the server ridden out.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::exit::Failure;

/// How long a command waits for a server that went away, milliseconds.
const AWAY_MS_MAX: u64 = 120_000;

/// A server and a key for it.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    key: String,
}

/// What a request brought.
pub(crate) struct Answer {
    /// Status.
    pub(crate) status: StatusCode,
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
                (StatusCode::BAD_REQUEST, Some(said)) => return Err(Failure::usage(said)),
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
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(600)).build();
        let http = http.map_err(|error| Failure::unavailable(error.to_string()))?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned(), key: key.to_owned() })
    }

    /// One request; waits for a server that is away, and for one that answers 503 or 429.
    pub(crate) async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Bytes) -> Result<Answer, Failure> {
        let mut waited_ms = 0;
        let mut pause_ms = 100;
        loop {
            let mut request = self.http.request(method.clone(), format!("{}{path}", self.url)).bearer_auth(&self.key).body(body.clone());
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let problem = match request.send().await {
                Ok(response) => {
                    let status = response.status();
                    let body = response.bytes().await;
                    match body {
                        Ok(body) if !matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) => {
                            return Ok(Answer { status, body });
                        }
                        Ok(body) => format!("{status}: {}", String::from_utf8_lossy(&body[..body.len().min(200)]).trim()),
                        Err(error) => error.to_string(),
                    }
                }
                Err(error) => error.to_string(),
            };
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
