//! JSON documents: the small objects that make things true. One file per kind below; this one knows what they share.
//!
//! Bytes: a JSON object with sorted keys and no floats, `_format` ("seal/0") first and `~crc32c` (eight hex digits) last, over all bytes before
//! it (`{...` up to the comma before `,"~crc32c"`), seeded with the object's key; at most 64 KiB; written once with put-if-absent.

mod auth;
pub mod body;
mod chain;
mod feed;
mod job;
mod manifest;
mod plan;
mod route;
mod seal;
mod stream;

pub use auth::{KeyDoc, RevocationDoc, Scope};
pub use body::BodyRef;
pub use chain::{CapIdxDoc, ExtentRow, GenesisDoc, IndexRow, NodeDoc, NodeKind, RawRef};
pub use feed::{DoneDoc, FeedDoc, GoneDoc, PinDoc, SnapDoc, SnapEntry};
pub use job::JobDoc;
pub use manifest::{Counts, FileRole, ManifestDoc, ManifestFile, ManifestKind};
pub use plan::{NodeRef, PlanDoc, PlanReason};
pub use route::RouteDoc;
pub use seal::{SealDoc, SealKind, StreamEnds};
pub use stream::{StreamDoc, StreamEndDoc};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use tailors_model::limits::DOCUMENT_BYTES_MAX;

use crate::FormatError;
use crate::bytes::{check_crc, seeded_crc};

const FORMAT: &str = "_format";
const CRC: &str = "~crc32c";

/// A kind of JSON document.
pub trait Document: Serialize + DeserializeOwned {
    /// Kind and major version, e.g. `seal/0`.
    const FORMAT: &'static str;

    /// The bytes of this document at `key`.
    fn to_bytes(&self, key: &str) -> Result<Vec<u8>, FormatError> {
        let invalid = |why: String| FormatError::Invalid { what: Self::FORMAT, why };
        let Value::Object(fields) = serde_json::to_value(self).map_err(|error| invalid(error.to_string()))? else {
            return Err(invalid("not an object".to_owned()));
        };
        let mut fields = fields;
        fields.insert(FORMAT.to_owned(), Value::from(Self::FORMAT));
        let mut bytes = serde_json::to_vec(&sorted(Value::Object(fields))).map_err(|error| invalid(error.to_string()))?;
        bytes.pop();
        let crc = seeded_crc(key.as_bytes(), &bytes);
        bytes.extend_from_slice(format!(",\"{CRC}\":\"{crc:08x}\"}}").as_bytes());
        if bytes.len() > DOCUMENT_BYTES_MAX {
            return Err(invalid(format!("{} bytes, at most {DOCUMENT_BYTES_MAX}", bytes.len())));
        }
        Ok(bytes)
    }

    /// The document that `bytes` at `key` hold.
    fn from_bytes(key: &str, bytes: &[u8]) -> Result<Self, FormatError> {
        let what = Self::FORMAT;
        let mut fields = read_any(what, key, bytes)?;
        let format = fields.remove(FORMAT);
        if format.as_ref().and_then(Value::as_str) != Some(what) {
            return Err(other_format(what, &format.unwrap_or(Value::Null)));
        }
        serde_json::from_value(Value::Object(fields)).map_err(|error| FormatError::invalid(what, error.to_string()))
    }
}

/// Why a document whose `_format` is not `what` is refused: another version of the kind, or another kind.
fn other_format(what: &'static str, format: &Value) -> FormatError {
    let kind_and_major = format.as_str().and_then(|format| format.rsplit_once('/'));
    let same_kind = kind_and_major.filter(|(kind, _)| what.rsplit_once('/').is_some_and(|(own, _)| own == *kind));
    match same_kind.and_then(|(_, major)| major.parse().ok()) {
        Some(number) => FormatError::Unknown { what, field: "major version", number },
        None => FormatError::invalid(what, format!("holds `{format}`")),
    }
}

/// The members of a document of any kind, `_format` among them, once its checksum holds; `what` is what an error calls it.
pub fn read_any(what: &'static str, key: &str, bytes: &[u8]) -> Result<Map<String, Value>, FormatError> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(FormatError::invalid(what, format!("{} bytes, at most {DOCUMENT_BYTES_MAX}", bytes.len())));
    }
    let tail = CRC.len() + 15;
    let body = bytes.len().checked_sub(tail).ok_or(FormatError::Truncated { what, needed: tail as u64, present: bytes.len() as u64 })?;
    let (body, tail) = bytes.split_at(body);
    let stored = std::str::from_utf8(tail).ok().and_then(|tail| tail.strip_prefix(",\"~crc32c\":\""));
    let stored = stored.and_then(|tail| tail.strip_suffix("\"}")).filter(|hex| !hex.bytes().any(|b| b.is_ascii_uppercase()));
    let stored = stored.and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let stored = stored.ok_or_else(|| FormatError::invalid(what, "does not end with its checksum"))?;
    check_crc(what, key.as_bytes(), body, stored)?;
    let mut whole = body.to_vec();
    whole.push(b'}');
    serde_json::from_slice(&whole).map_err(|error| FormatError::invalid(what, error.to_string()))
}

/// The same value with the members of every object in order of their names, whatever map serde_json was built with (`_format` sorts before
/// every lower-case name).
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut members: Vec<(String, Value)> = fields.into_iter().collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(members.into_iter().map(|(name, value)| (name, sorted(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
