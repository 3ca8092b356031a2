//! API keys: `tlr_<id, 12 hex>_<secret, 64 hex>_<CRC32C of all before it, 8 hex>`. The store holds SHA-256 only; a dump of it opens nothing.
//!
//! In: a key's text. Out: org and scopes, or nothing. Invariants: a revocation counts within 30 s everywhere (answers are remembered for at most
//! [`CACHE_MS`]); hashes are compared in constant time; an unknown key costs one look-up per [`CACHE_NEGATIVE_MS`] and bounded memory; a key with a
//! wrong checksum costs none; a store that does not answer is an error, never a yes. Secrets are in no error and no `Debug`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tailors_format::doc::{KeyDoc, RevocationDoc, Scope};
use tailors_format::key;
use tailors_model::OrgId;

use crate::objects::{Objects, PutDoc, StoreError};
use crate::plans::hex;

/// How long a known key is trusted without looking, in milliseconds. With a request's own time it stays below the promised 30 s.
pub const CACHE_MS: i64 = 15_000;
/// How long an unknown or revoked key is refused without looking, in milliseconds.
pub const CACHE_NEGATIVE_MS: i64 = 2_000;
/// Keys remembered at once.
const CACHE_KEYS_MAX: usize = 4_096;
/// Random bytes that a new key needs: 6 for its id, 32 for its secret.
pub const RANDOM_BYTES: usize = 38;

/// A key's text; `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText(String);

impl KeyText {
    /// The text, to be shown once.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What a new key may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewKey {
    /// Its org; none for an admin key.
    pub org: Option<OrgId>,
    /// Its scopes.
    pub scopes: Vec<Scope>,
    /// End of validity, Unix milliseconds; `None` for ever.
    pub expires_ms: Option<i64>,
}

/// Whose key it is and what it may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyGrant {
    /// Id of the key: public, for logs and revocation.
    pub id: String,
    /// Its org; none for an admin key.
    pub org: Option<OrgId>,
    /// Its scopes.
    pub scopes: Vec<Scope>,
}

impl KeyGrant {
    /// Whether the key has a scope; backfill includes write.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || scope == Scope::Write && self.scopes.contains(&Scope::Backfill)
    }
}

/// A key of the store, as listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedKey {
    /// Its id.
    pub id: String,
    /// Its record.
    pub doc: KeyDoc,
    /// When it was revoked, Unix milliseconds.
    pub revoked_ms: Option<i64>,
}

/// Makes a key from random bytes of the operating system and gives its id and text; the text is kept nowhere.
pub async fn create_key(
    objects: &Objects,
    new: &NewKey,
    now_ms: i64,
    random: &[u8; RANDOM_BYTES],
) -> Result<(String, KeyText), StoreError> {
    if random.iter().all(|byte| *byte == random[0]) {
        return Err(StoreError::Fatal("the random bytes of a new key are not random".to_owned()));
    }
    let (id, secret) = random.split_at(6);
    let id = hex(id);
    let mut text = format!("tlr_{id}_{}", hex(secret));
    text.push_str(&format!("_{:08x}", crc32c::crc32c(text.as_bytes())));
    let doc = KeyDoc { sha256: sha256(&text), org: new.org, scopes: new.scopes.clone(), expires_ms: new.expires_ms, created_ms: now_ms };
    match objects.put_doc(&key::auth_key(&id), &doc).await? {
        PutDoc::Created => Ok((id, KeyText(text))),
        PutDoc::Lost(_) => Err(StoreError::Retry(format!("a key with the id {id} is there already"))),
    }
}

/// Revokes a key for ever; `false` when there is none with this id. Doing it twice is fine.
pub async fn revoke(objects: &Objects, id: &str, now_ms: i64) -> Result<bool, StoreError> {
    if !is_id(id) || objects.get_opt(&key::auth_key(id)).await?.is_none() {
        return Ok(false);
    }
    objects.put_doc(&key::auth_revocation(id), &RevocationDoc { revoked_ms: now_ms }).await?;
    Ok(true)
}

/// All keys with their state, by id.
pub async fn list_keys(objects: &Objects) -> Result<Vec<ListedKey>, StoreError> {
    let mut keys = Vec::new();
    for path in objects.list("auth/v1/k").await? {
        let id = path.rsplit('/').next().unwrap_or_default().to_owned();
        let Some(doc) = objects.get_doc::<KeyDoc>(&path).await? else { continue };
        let revoked: Option<RevocationDoc> = objects.get_doc(&key::auth_revocation(&id)).await?;
        keys.push(ListedKey { id, doc, revoked_ms: revoked.map(|revocation| revocation.revoked_ms) });
    }
    Ok(keys)
}

/// Answers whose key it is; share it in an `Arc`.
pub struct Authenticator {
    objects: Objects,
    cache: Mutex<BTreeMap<String, Remembered>>,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authenticator")
    }
}

/// What the store said of an id.
#[derive(Clone)]
struct Remembered {
    at_ms: i64,
    /// `None`: unknown or revoked.
    doc: Option<KeyDoc>,
}

impl Remembered {
    fn is_fresh(&self, now_ms: i64) -> bool {
        let keep = if self.doc.is_some() { CACHE_MS } else { CACHE_NEGATIVE_MS };
        // A clock that went back makes it stale, never eternal.
        (0..keep).contains(&(now_ms - self.at_ms))
    }
}

impl Authenticator {
    /// Remembers nothing yet.
    pub fn new(objects: Objects) -> Self {
        Self { objects, cache: Mutex::default() }
    }

    /// Whose key this is at `now_ms` (Unix milliseconds); `None` for one that is malformed, unknown, expired or revoked, without saying which.
    pub async fn authenticate(&self, text: &str, now_ms: i64) -> Result<Option<KeyGrant>, StoreError> {
        let Some(id) = parse(text) else { return Ok(None) };
        let Some(doc) = self.look_up(id, now_ms).await? else { return Ok(None) };
        let same = bool::from(sha256(text).as_bytes().ct_eq(doc.sha256.as_bytes()));
        if !same || doc.expires_ms.is_some_and(|expires| now_ms >= expires) {
            return Ok(None);
        }
        Ok(Some(KeyGrant { id: id.to_owned(), org: doc.org, scopes: doc.scopes }))
    }

    async fn look_up(&self, id: &str, now_ms: i64) -> Result<Option<KeyDoc>, StoreError> {
        let remembered = self.cache().get(id).filter(|remembered| remembered.is_fresh(now_ms)).cloned();
        if let Some(remembered) = remembered {
            return Ok(remembered.doc);
        }
        let mut doc: Option<KeyDoc> = self.objects.get_doc(&key::auth_key(id)).await?;
        if doc.is_some() && self.objects.get_opt(&key::auth_revocation(id)).await?.is_some() {
            doc = None;
        }
        let mut cache = self.cache();
        if cache.len() >= CACHE_KEYS_MAX && !cache.contains_key(id) {
            make_room(&mut cache, now_ms);
        }
        cache.insert(id.to_owned(), Remembered { at_ms: now_ms, doc: doc.clone() });
        Ok(doc)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Remembered>> {
        // The map is whole after every statement, so a panic elsewhere does not spoil it.
        self.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Stale answers go first, then refusals (a flood of made-up keys never pushes out known ones), then everything.
fn make_room(cache: &mut BTreeMap<String, Remembered>, now_ms: i64) {
    cache.retain(|_, remembered| remembered.is_fresh(now_ms));
    if cache.len() >= CACHE_KEYS_MAX {
        cache.retain(|_, remembered| remembered.doc.is_some());
    }
    if cache.len() >= CACHE_KEYS_MAX {
        cache.clear();
    }
}

/// The id of a well-formed key whose checksum is right.
fn parse(text: &str) -> Option<&str> {
    let (body, crc) = text.rsplit_once('_')?;
    let (id, secret) = body.strip_prefix("tlr_")?.split_once('_')?;
    let well_formed = is_id(id) && is_hex(secret, 64) && is_hex(crc, 8);
    (well_formed && u32::from_str_radix(crc, 16) == Ok(crc32c::crc32c(body.as_bytes()))).then_some(id)
}

fn is_id(id: &str) -> bool {
    is_hex(id, 12)
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn sha256(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}
