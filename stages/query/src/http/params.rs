//! Parameters of a request: from the URL and, for POST, from the form too, which counts first.

use axum::extract::{Form, FromRequest, Query, Request};
use axum::http::{Method, header};
use promql_parser::util::parse_duration;
use tailors_model::OrgId;

use crate::error::{self, QueryError};

/// All parameters in order, and the caller's org.
#[derive(Debug)]
pub(super) struct Params {
    pub(super) org: OrgId,
    pairs: Vec<(String, String)>,
}

fn invalid(name: &str, value: &str) -> QueryError {
    QueryError::bad(error::PARAMETER, format!("invalid parameter \"{name}\": cannot parse \"{value}\" to a valid value"))
}

impl Params {
    /// Reads them.
    pub(super) async fn of(request: Request) -> Result<Self, QueryError> {
        let org = request.extensions().get::<OrgId>().copied();
        let org =
            org.ok_or_else(|| QueryError::bad(error::NO_ORG, "the request has no org: no authentication stands before this route"))?;
        let malformed = |text: String| QueryError::bad(error::PARAMETER, format!("the parameters can't be read: {text}"));
        let url = Query::<Vec<(String, String)>>::try_from_uri(request.uri()).map_err(|error| malformed(error.to_string()))?.0;
        let mut pairs = Vec::new();
        if request.method() == Method::POST && request.headers().contains_key(header::CONTENT_TYPE) {
            pairs = Form::<Vec<(String, String)>>::from_request(request, &()).await.map_err(|error| malformed(error.to_string()))?.0;
        }
        pairs.extend(url);
        Ok(Self { org, pairs })
    }

    /// The first with this name, unless empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| &**value).filter(|value| !value.is_empty())
    }

    /// All with this name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// A parameter that must be there.
    pub(super) fn required(&self, name: &str) -> Result<&str, QueryError> {
        self.get(name).ok_or_else(|| QueryError::bad(error::PARAMETER, format!("invalid parameter \"{name}\": it is missing")))
    }

    /// Unix milliseconds of a time: Unix seconds with decimals, or RFC 3339.
    pub(super) fn time_ms(&self, name: &str) -> Result<Option<i64>, QueryError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        if let Ok(seconds) = text.parse::<f64>() {
            let ms = (seconds * 1_000.0).round();
            // Far outside of anything stored, and far from overflow.
            return if ms.abs() < 1e15 { Ok(Some(ms as i64)) } else { Err(invalid(name, text)) };
        }
        let at = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| invalid(name, text))?;
        Ok(Some(at.timestamp_millis()))
    }

    /// Milliseconds of a duration: seconds with decimals, or as in `1m30s`.
    pub(super) fn duration_ms(&self, name: &str) -> Result<Option<i64>, QueryError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        if let Ok(seconds) = text.parse::<f64>() {
            let ms = (seconds * 1_000.0).round();
            return if ms.abs() < 1e15 { Ok(Some(ms as i64)) } else { Err(invalid(name, text)) };
        }
        let duration = parse_duration(text).map_err(|_| invalid(name, text))?;
        i64::try_from(duration.as_millis()).ok().filter(|ms| *ms < 1_000_000_000_000_000).map(Some).ok_or_else(|| invalid(name, text))
    }

    /// A count; 0 when it is not given.
    pub(super) fn count(&self, name: &str) -> Result<usize, QueryError> {
        self.get(name).map_or(Ok(0), |text| text.parse().map_err(|_| invalid(name, text)))
    }

    /// `partial=true`.
    pub(super) fn allow_partial(&self) -> bool {
        self.get("partial") == Some("true")
    }
}
