//! Who asks: a key's text becomes an org and scopes, for intake, queries and admin routes alike.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri};
use axum::middleware::Next;
use axum::response::Response;
use tailors_format::doc::Scope;
use tailors_intake::refusal::{Cause, Refusal};
use tailors_intake::{Authorizer, Principal, Unavailable};
use tailors_model::{Clock, OrgId};
use tailors_store::StoreError;
use tailors_store::auth::{Authenticator, KeyGrant};

use super::refuse::{self, Routes};

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

    /// The grant of a request's key if it opens `routes`, else the reply that refuses it.
    #[allow(clippy::result_large_err, reason = "an axum response is the error by design")]
    pub(crate) async fn require(&self, headers: &HeaderMap, uri: &Uri, routes: Routes, scope: Scope) -> Result<KeyGrant, Response> {
        let refuse = |whose, refusal: Refusal| refuse::key(routes, whose, &refusal);
        let key = tailors_intake::auth::key_of(headers, uri, false).ok_or_else(|| refuse(None, Refusal::no_key()))?;
        let grant = self.authenticator.authenticate(key.secret(), self.clock.now_ms()).await;
        let away = |error: StoreError| refuse(None, Refusal::new(Cause::KeyStore, format!("keys can't be looked up now: {error}")));
        let grant = grant.map_err(away)?.ok_or_else(|| refuse(None, Refusal::unknown_key()))?;
        if grant.may(scope) { Ok(grant) } else { Err(refuse(Some(grant.org), Refusal::scope(scope))) }
    }
}

#[async_trait::async_trait]
impl Authorizer for Keys {
    async fn authorize(&self, key: &str, now_ms: i64) -> Result<Option<Principal>, Unavailable> {
        let grant = self.authenticator.authenticate(key, now_ms).await.map_err(|error| Unavailable(error.to_string()))?;
        Ok(grant.map(|grant| Principal { org: grant.org, scopes: grant.scopes }))
    }
}

/// Lets requests with scope query through, with the key's org in their extensions.
pub(super) async fn require_query(State(keys): State<Arc<Keys>>, mut request: Request, next: Next) -> Response {
    let grant = match keys.require(request.headers(), request.uri(), Routes::Query, Scope::Query).await {
        Ok(grant) => grant,
        Err(refusal) => return refusal,
    };
    let Some(org) = grant.org else {
        let text = "this key belongs to no org; use one made with `tailors key create --org`";
        return refuse::key(Routes::Query, Some(None), &Refusal::new(Cause::Scope, text));
    };
    request.extensions_mut().insert::<OrgId>(org);
    next.run(request).await
}

/// Lets requests with scope admin through.
pub(super) async fn require_admin(State(keys): State<Arc<Keys>>, request: Request, next: Next) -> Response {
    match keys.require(request.headers(), request.uri(), Routes::Admin, Scope::Admin).await {
        Ok(_) => next.run(request).await,
        Err(refusal) => refusal,
    }
}
