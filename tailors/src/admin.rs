//! What admin routes and commands do alike: keys, windows by their time, control's errors as failures.

use serde::{Deserialize, Serialize};
use tailors_control::ControlError;
use tailors_format::doc::Scope;
use tailors_model::{OrgId, Window};
use tailors_store::auth::{self, NewKey};
use tailors_store::{Objects, StoreError};

use crate::exit::Failure;
use crate::node::random;
use crate::time::rfc3339;

/// A key to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyRequest {
    /// Org; none for an admin key.
    pub(crate) org: Option<u32>,
    /// Scopes.
    pub(crate) scopes: Vec<Scope>,
    /// End of validity, Unix milliseconds.
    pub(crate) expires_ms: Option<i64>,
}

/// A key as listed; never its text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeyRow {
    /// Public id, for `revoke`.
    pub(crate) id: String,
    /// Org.
    pub(crate) org: Option<OrgId>,
    /// Scopes.
    pub(crate) scopes: Vec<Scope>,
    /// When it was made, Unix milliseconds.
    pub(crate) created_ms: i64,
    /// End of validity, Unix milliseconds.
    pub(crate) expires_ms: Option<i64>,
    /// When it was revoked, Unix milliseconds.
    pub(crate) revoked_ms: Option<i64>,
}

/// Makes a key: its id, and its text, which is kept nowhere.
pub(crate) async fn create_key(objects: &Objects, request: &KeyRequest, now_ms: i64) -> Result<(String, String), Failure> {
    let needs_org = request.scopes.iter().any(|scope| !matches!(scope, Scope::Admin | Scope::Metrics));
    if request.scopes.is_empty() || needs_org && request.org.is_none() {
        return Err(Failure::usage("a key needs a scope, and with write, query or backfill an --org"));
    }
    if request.scopes.contains(&Scope::Admin) && request.org.is_some() {
        return Err(Failure::usage("an admin key belongs to no org; admin routes name the org"));
    }
    if let Some(expires_ms) = request.expires_ms.filter(|expires_ms| *expires_ms <= now_ms) {
        return Err(Failure::usage(format!("{} is over: a key that expires then would never work", rfc3339(expires_ms))));
    }
    let new = NewKey { org: request.org.map(OrgId), scopes: request.scopes.clone(), expires_ms: request.expires_ms };
    let (id, text) = auth::create_key(objects, &new, now_ms, &random()?).await?;
    Ok((id, text.expose().to_owned()))
}

/// All keys.
pub(crate) async fn list_keys(objects: &Objects) -> Result<Vec<KeyRow>, Failure> {
    let keys = auth::list_keys(objects).await?;
    let row = |key: auth::ListedKey| KeyRow {
        id: key.id,
        org: key.doc.org,
        scopes: key.doc.scopes,
        created_ms: key.doc.created_ms,
        expires_ms: key.doc.expires_ms,
        revoked_ms: key.revoked_ms,
    };
    Ok(keys.into_iter().map(row).collect())
}

/// Revokes a key; an unknown id is a no.
pub(crate) async fn revoke_key(objects: &Objects, id: &str, now_ms: i64) -> Result<bool, Failure> {
    if auth::revoke(objects, id, now_ms).await? {
        Ok(true)
    } else {
        Err(Failure::no(format!("no key has the id `{id}`; `tailors key list` shows them")))
    }
}

/// The window that starts at a time; a time inside one is named with the window it lies in.
pub(crate) fn window_at(time_ms: i64) -> Result<Window, Failure> {
    let window = Window::of_ms(time_ms);
    if window.start_ms() == time_ms {
        return Ok(window);
    }
    let (asked, start) = (rfc3339(time_ms), rfc3339(window.start_ms()));
    Err(Failure::usage(format!("{asked} starts no window: windows are 4 h from 00:00 UTC; it lies in {start}")))
}

/// What a command says of a control error.
pub(crate) fn control_failure(error: &ControlError) -> Failure {
    match error {
        ControlError::NoSeal { .. } | ControlError::Parked { .. } | ControlError::DayOpen { .. } => Failure::no(error.to_string()),
        ControlError::Store(StoreError::Fatal(_)) => Failure { message: error.to_string(), exit: crate::exit::Exit::Fsync },
        other => Failure::unavailable(other.to_string()),
    }
}
