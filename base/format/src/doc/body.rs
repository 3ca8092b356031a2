//! Bodies that are too long for a document: JSON, zstd, in an object whose key is the hash of its bytes (formats.md section 5).

use serde::{Serialize, de::DeserializeOwned};
use zstd::bulk;

use crate::FormatError;

const WHAT: &str = "body";
/// Bytes that a body may unfold to.
const RAW_BYTES_MAX: usize = 256 << 20;
/// The size of a snapshot matters little; the level is zstd's default.
const LEVEL: i32 = 3;

/// A content-addressed object that a document names.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BodyRef {
    /// Object key.
    pub key: String,
    /// Length of the object, bytes.
    pub bytes: u64,
    /// Length of what it unfolds to, bytes.
    pub raw_bytes: u64,
    /// SHA-256 of the object, hex; its key follows from it.
    pub hash: String,
}

/// The bytes of a body, and the length of what they unfold to.
pub fn encode<T: Serialize>(value: &T) -> Result<(Vec<u8>, u64), FormatError> {
    let raw = serde_json::to_vec(value).map_err(|error| FormatError::invalid(WHAT, error.to_string()))?;
    if raw.len() > RAW_BYTES_MAX {
        return Err(FormatError::invalid(WHAT, format!("{} bytes, at most {RAW_BYTES_MAX}", raw.len())));
    }
    let bytes = bulk::compress(&raw, LEVEL).map_err(|error| FormatError::invalid(WHAT, format!("zstd: {error}")))?;
    Ok((bytes, raw.len() as u64))
}

/// What a body of `raw_bytes` holds. The caller has compared its hash: that is its checksum.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], raw_bytes: u64) -> Result<T, FormatError> {
    let limit = usize::try_from(raw_bytes).ok().filter(|limit| *limit <= RAW_BYTES_MAX);
    let limit = limit.ok_or_else(|| FormatError::invalid(WHAT, format!("{raw_bytes} bytes, at most {RAW_BYTES_MAX}")))?;
    let raw = bulk::decompress(bytes, limit).map_err(|error| FormatError::invalid(WHAT, format!("zstd: {error}")))?;
    if raw.len() != limit {
        return Err(FormatError::invalid(WHAT, format!("unfolds to {} bytes, its document says {raw_bytes}", raw.len())));
    }
    serde_json::from_slice(&raw).map_err(|error| FormatError::invalid(WHAT, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_damage() {
        let value: Vec<(u64, String)> = (0..1_000).map(|n| (n, "x".repeat(20))).collect();
        let (bytes, raw_bytes) = encode(&value).expect("encodes");
        assert!((bytes.len() as u64) < raw_bytes / 4, "it is compressed");
        assert_eq!(decode::<Vec<(u64, String)>>(&bytes, raw_bytes), Ok(value));
        assert!(decode::<Vec<(u64, String)>>(&bytes, raw_bytes - 1).is_err());
        assert!(decode::<Vec<(u64, String)>>(&bytes, raw_bytes + 1).is_err());
        assert!(decode::<Vec<(u64, String)>>(&bytes, u64::MAX).is_err(), "no allocation of what is not there");
        for cut in 0..bytes.len() {
            assert!(decode::<Vec<(u64, String)>>(&bytes[..cut], raw_bytes).is_err(), "prefix {cut}");
        }
    }
}
