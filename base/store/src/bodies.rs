//! Bodies that documents name: content-addressed objects, put once, checked against their hash when read (formats.md section 5).

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use tailors_format::doc::{BodyRef, body};
use tailors_format::{FormatError, key};

use crate::objects::{Objects, StoreError};
use crate::plans::hex;

/// Puts a body; gives what a document names it by.
pub(crate) async fn put<T: Serialize>(objects: &Objects, value: &T) -> Result<BodyRef, StoreError> {
    let (bytes, raw_bytes) = body::encode(value).map_err(|error| StoreError::Fatal(error.to_string()))?;
    let hash = hex(&Sha256::digest(&bytes));
    let named = BodyRef { key: key::body(&hash), bytes: bytes.len() as u64, raw_bytes, hash };
    // Content-addressed: whoever put it before put these bytes.
    objects.put_new(&named.key, bytes).await?;
    Ok(named)
}

/// Reads the body that a document names.
pub(crate) async fn get<T: DeserializeOwned>(objects: &Objects, named: &BodyRef) -> Result<T, StoreError> {
    let bytes = objects.get(&named.key).await?;
    if hex(&Sha256::digest(&bytes)) != named.hash || key::body(&named.hash) != named.key {
        return Err(StoreError::data(&named.key, FormatError::invalid("body", "not the bytes that its document names")));
    }
    body::decode(&bytes, named.raw_bytes).map_err(|error| StoreError::data(&named.key, error))
}
