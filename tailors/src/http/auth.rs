//! Who asks: a key's text becomes an org and scopes, for intake, queries and admin routes alike.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tailors_format::doc::Scope;
use tailors_intake::{Authorizer, Principal, Unavailable};
use tailors_model::{Clock, OrgId};
use tailors_store::auth::{Authenticator, KeyGrant};

/// Looks keys up in the store, remembering answers within the 30 s of a revocation.
pub(crate) struct Keys {
    authenticator: Authenticator,
    clock: Arc<dyn Clock>,
}

impl Keys {
    /// Remembers nothing yet.
    pub(crate) fn new(authenticator: Authenticator, clock: Arc<dyn Clock>) -> Self {
        Self { authenticator, clock }
    }

    /// The grant of a request's key if it has `scope`, else the reply that refuses it.
    #[allow(clippy::result_large_err, reason = "an axum response is the error by design")]
    pub(crate) async fn require(&self, headers: &HeaderMap, uri: &Uri, scope: Scope) -> Result<KeyGrant, Response> {
        let none = || refuse(StatusCode::UNAUTHORIZED, "TLR-1101: no API key in the request; send Authorization: Bearer KEY");
        let unknown = || {
            refuse(StatusCode::UNAUTHORIZED, "TLR-1102: the key is unknown, expired or revoked; `tailors key list` shows the valid ones")
        };
        let key = tailors_intake::auth::key_of(headers, uri, false).ok_or_else(none)?;
        let grant = self.authenticator.authenticate(key.secret(), self.clock.now_ms()).await;
        let grant =
            grant.map_err(|error| refuse(StatusCode::SERVICE_UNAVAILABLE, &format!("TLR-1104: keys can't be looked up now: {error}")))?;
        let grant = grant.ok_or_else(unknown)?;
        if grant.may(scope) {
            Ok(grant)
        } else {
            Err(refuse(StatusCode::FORBIDDEN, &format!("TLR-1103: this key lacks the scope {scope:?}")))
        }
    }
}

#[async_trait::async_trait]
impl Authorizer for Keys {
    async fn authorize(&self, key: &str, now_ms: i64) -> Result<Option<Principal>, Unavailable> {
        let grant = self.authenticator.authenticate(key, now_ms).await.map_err(|error| Unavailable(error.to_string()))?;
        // A key without an org has no scope that writes, so this org is never used.
        Ok(grant.map(|grant| Principal { org: grant.org.unwrap_or(OrgId(0)), scopes: grant.scopes }))
    }
}

/// Lets requests with scope query through, with the key's org in their extensions.
pub(super) async fn require_query(State(keys): State<Arc<Keys>>, mut request: Request, next: Next) -> Response {
    let grant = match keys.require(request.headers(), request.uri(), Scope::Query).await {
        Ok(grant) => grant,
        Err(refusal) => return refusal,
    };
    let Some(org) = grant.org else {
        return refuse(StatusCode::FORBIDDEN, "TLR-1103: this key belongs to no org; use one made with `tailors key create --org`");
    };
    request.extensions_mut().insert::<OrgId>(org);
    next.run(request).await
}

/// Lets requests with scope admin through.
pub(super) async fn require_admin(State(keys): State<Arc<Keys>>, request: Request, next: Next) -> Response {
    match keys.require(request.headers(), request.uri(), Scope::Admin).await {
        Ok(_) => next.run(request).await,
        Err(refusal) => refusal,
    }
}

/// An error in the shape of the Prometheus API.
pub(super) fn refuse(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"status": "error", "errorType": "auth", "error": message}))).into_response()
}
