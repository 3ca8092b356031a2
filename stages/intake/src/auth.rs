//! Who sends: the API key of a request, and the seam that turns it into an org and scopes. A key is never printed.

use std::fmt;

use async_trait::async_trait;
use axum::http::{HeaderMap, Uri, header};

use tailors_model::OrgId;

pub use tailors_format::doc::Scope;

/// What a valid key stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Principal {
    /// Tenant; none for an admin key, which can't send.
    pub org: Option<OrgId>,
    /// What it may do.
    pub scopes: Vec<Scope>,
}

impl Principal {
    /// The org that points may be sent for: `backfill` includes `write`.
    pub fn may_write(&self) -> Option<OrgId> {
        self.org.filter(|_| self.scopes.contains(&Scope::Write) || self.may_backfill())
    }

    /// Whether points of any age down to retention may be sent.
    pub fn may_backfill(&self) -> bool {
        self.scopes.contains(&Scope::Backfill)
    }
}

/// Keys can't be looked up now: the reply is 503, never 401 (a sender drops its data on 401).
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("keys can't be looked up now: {0}")]
pub struct Unavailable(pub String);

/// Turns a key into a principal; caches as it likes, within 30 s of a revocation.
#[async_trait]
pub trait Authorizer: Send + Sync {
    /// The principal of `key`; `None` for an unknown, revoked or expired (at `now_ms`, Unix milliseconds) one.
    async fn authorize(&self, key: &str, now_ms: i64) -> Result<Option<Principal>, Unavailable>;
}

/// The text of a key as sent; prints as `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText(String);

impl KeyText {
    /// The secret itself, for the authorizer alone.
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The key of a request: `Authorization: Bearer`, the password of `Authorization: Basic` (Grafana), `DD-API-KEY`, and where `datadog_path` also `?api_key=`.
pub fn key_of(headers: &HeaderMap, uri: &Uri, datadog_path: bool) -> Option<KeyText> {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(of_authorization);
    let datadog = || headers.get("dd-api-key").and_then(|value| value.to_str().ok()).map(|text| text.trim().to_owned());
    // Keys are of [a-z0-9_]: what needs percent-decoding is none.
    let query = || uri.query()?.split('&').find_map(|pair| pair.strip_prefix("api_key=")).map(str::to_owned);
    let key = authorization.or_else(datadog).or_else(|| if datadog_path { query() } else { None })?;
    (!key.is_empty()).then_some(KeyText(key))
}

fn of_authorization(value: &str) -> Option<String> {
    let (scheme, rest) = value.trim().split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(base64(rest)?).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

/// Standard base64, padding optional.
fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0u32, 0u32);
    for byte in text {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            // The low eight bits are the byte; what is above was given out already.
            out.push((bits >> held) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &'static str, value: &str, uri: &'static str, datadog: bool) -> Option<String> {
        let mut headers = HeaderMap::new();
        if !name.is_empty() {
            headers.insert(name, value.parse().unwrap());
        }
        key_of(&headers, &Uri::from_static(uri), datadog).map(|key| key.secret().to_owned())
    }

    #[test]
    fn every_place_a_key_may_stand_in() {
        assert_eq!(key("authorization", "Bearer tlr_a", "/x", false).as_deref(), Some("tlr_a"));
        assert_eq!(key("authorization", "bearer  tlr_a ", "/x", false).as_deref(), Some("tlr_a"));
        assert_eq!(key("authorization", "Basic dXNlcjp0bHJfYTpi", "/x", false).as_deref(), Some("tlr_a:b"));
        assert_eq!(key("authorization", "Basic Onh5", "/x", false).as_deref(), Some("xy"), "no padding");
        assert_eq!(key("dd-api-key", "tlr_a", "/x", false).as_deref(), Some("tlr_a"));
        assert_eq!(key("", "", "/x?a=b&api_key=tlr_a", true).as_deref(), Some("tlr_a"));
        assert_eq!(key("", "", "/x?api_key=tlr_a", false), None, "Datadog paths only");
        for bad in ["Bearer", "Bearer ", "Basic", "Basic !!", "Basic YWJj", "Digest x"] {
            assert_eq!(key("authorization", bad, "/x", true), None, "{bad}");
        }
    }

    #[test]
    fn a_key_never_prints() {
        assert_eq!(format!("{:?}", KeyText("tlr_secret".to_owned())), "[redacted]");
    }
}
