//! API key records and revocations; a dump of the store holds no usable key.

use tailors_model::OrgId;

use super::Document;

/// What a key may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Send points.
    Write,
    /// Read points.
    Query,
    /// Administer.
    Admin,
    /// Read `/metrics` from elsewhere.
    Metrics,
    /// Write, and of any age down to retention.
    Backfill,
}

impl Scope {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Query => "query",
            Self::Admin => "admin",
            Self::Metrics => "metrics",
            Self::Backfill => "backfill",
        }
    }

    /// The scope with this name.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "write" => Self::Write,
            "query" => Self::Query,
            "admin" => Self::Admin,
            "metrics" => Self::Metrics,
            "backfill" => Self::Backfill,
            _ => return None,
        })
    }
}

/// Object `auth/v1/k/{id}`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyDoc {
    /// SHA-256 of the whole key, hex.
    pub sha256: String,
    /// Org; none for an admin key.
    pub org: Option<OrgId>,
    /// Scopes.
    pub scopes: Vec<Scope>,
    /// End of validity, Unix milliseconds; none for ever.
    pub expires_ms: Option<i64>,
    /// When it was made, Unix milliseconds.
    pub created_ms: i64,
}

impl Document for KeyDoc {
    const FORMAT: &'static str = crate::document_format!("key");
}

/// Object `auth/v1/r/{id}`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationDoc {
    /// When, Unix milliseconds.
    pub revoked_ms: i64,
}

impl Document for RevocationDoc {
    const FORMAT: &'static str = crate::document_format!("revocation");
}
