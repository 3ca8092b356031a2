//! Objects: the object store as this system uses it. Whole small objects, put-if-absent with a known outcome, unique data objects, ranges.
//!
//! In: keys of `tailors_format::key` (checked: `[a-z0-9/=_.-]`, no dot segments) and bytes. Out: bytes, or a typed error by remedy. Invariants:
//! protocol.md 2.2, table C7: an unknown outcome of a put is read back before anything is decided on it; nothing is retried past its deadline; a
//! missing object is never an empty one. Killed here: an object is whole or absent.

mod error;
pub mod faulty;
pub mod local;
pub mod probe;
mod retry;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tailors_format::FormatError;
use tailors_format::doc::Document;

pub use error::StoreError;
use retry::count;

/// Larger objects are uploaded in parts of this many bytes.
const PART_BYTES: usize = 16 << 20;
/// Parts of one upload on their way at once.
const PARTS_AHEAD: usize = 4;

/// How long and how patiently a request is tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetrySettings {
    /// After this time the request fails, in milliseconds; one attempt gets at most half of it.
    pub deadline_ms: u64,
    /// Greatest wait before the first retry, in milliseconds; doubles with each.
    pub backoff_min_ms: u64,
    /// Greatest wait before any retry, in milliseconds.
    pub backoff_max_ms: u64,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { deadline_ms: 60_000, backoff_min_ms: 100, backoff_max_ms: 30_000 }
    }
}

/// Outcome of a put-if-absent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PutNew {
    /// The object holds exactly the bytes given, put by this call, a retry of it, or anyone who put the same.
    Created,
    /// The object was there with other bytes: these.
    Exists(Bytes),
}

/// Outcome of putting a document if absent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PutDoc<D> {
    /// The document stands as given.
    Created,
    /// Another one stands there: this.
    Lost(D),
}

/// A handle on the object store; clones share it.
#[derive(Clone, Debug)]
pub struct Objects(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn ObjectStore>,
    retry: RetrySettings,
    jitter: AtomicU64,
}

impl Objects {
    /// Wraps a store. `seed` drives the jitter of retries and nothing else.
    pub fn new(store: Arc<dyn ObjectStore>, retry: RetrySettings, seed: u64) -> Self {
        Self(Arc::new(Inner { store, retry, jitter: AtomicU64::new(seed) }))
    }

    /// The whole object; [`StoreError::NotFound`] when it is absent.
    pub async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        self.get_opt(key).await?.ok_or_else(|| StoreError::NotFound(key.to_owned()))
    }

    /// The whole object, `None` when it is absent.
    pub async fn get_opt(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let path = &path(key)?;
        let got = self
            .retrying("get", 0, || async move {
                let result = self.0.store.get(path).await.map_err(|error| StoreError::from_store(key, error))?;
                let size = result.meta.size;
                let bytes = result.bytes().await.map_err(|error| StoreError::from_store(key, error))?;
                // A body that was cut short on its way is no object.
                whole(key, bytes, size)
            })
            .await;
        absent_as_none(got)
    }

    /// Exactly the bytes of a range; an object that ends before the range's end is [`StoreError::Data`].
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let mut bytes = self.get_ranges(key, &[range]).await?;
        bytes.pop().ok_or_else(|| StoreError::Fatal(format!("{key}: a range was asked for and none came")))
    }

    /// Several ranges in the order given, near ones fetched together.
    pub async fn get_ranges(&self, key: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StoreError> {
        if let Some(range) = ranges.iter().find(|range| range.start > range.end) {
            return Err(StoreError::Fatal(format!("{key}: the range {range:?} ends before it starts")));
        }
        let wanted: Vec<Range<u64>> = ranges.iter().filter(|range| !range.is_empty()).cloned().collect();
        let end = wanted.iter().map(|range| range.end).max().unwrap_or(0);
        if wanted.is_empty() {
            return Ok(vec![Bytes::new(); ranges.len()]);
        }
        let (path, wanted) = (&path(key)?, &wanted);
        let got = self
            .retrying("get_range", 0, || async move {
                match self.read_ranges(key, path, wanted).await {
                    // A range past the end comes as any error at all: tell it from a bad line, which is worth a retry.
                    Err(error) if error.is_retryable() => {
                        let size = self.0.store.head(path).await.map_err(|error| StoreError::from_store(key, error))?.size;
                        if size < end {
                            return Err(StoreError::data(key, FormatError::Truncated { what: "object", needed: end, present: size }));
                        }
                        Err(error)
                    }
                    got => got,
                }
            })
            .await?;
        let mut got = got.into_iter();
        Ok(ranges.iter().map(|range| if range.is_empty() { Bytes::new() } else { got.next().unwrap_or_default() }).collect())
    }

    async fn read_ranges(&self, key: &str, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StoreError> {
        let got = self.0.store.get_ranges(path, ranges).await.map_err(|error| StoreError::from_store(key, error))?;
        if got.len() != ranges.len() {
            return Err(StoreError::Retry(format!("{key}: {} ranges asked for, {} came", ranges.len(), got.len())));
        }
        ranges.iter().zip(got).map(|(range, bytes)| whole(key, bytes, range.end - range.start)).collect()
    }

    async fn meta(&self, key: &str) -> Result<Option<ObjectMeta>, StoreError> {
        let path = &path(key)?;
        let head =
            self.retrying("head", 0, || async move { self.0.store.head(path).await.map_err(|error| StoreError::from_store(key, error)) });
        absent_as_none(head.await)
    }

    /// Length in bytes, `None` when the object is absent.
    pub async fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        Ok(self.meta(key).await?.map(|meta| meta.size))
    }

    /// The store's LastModified, Unix milliseconds; `None` when the object is absent.
    pub async fn last_modified_ms(&self, key: &str) -> Result<Option<i64>, StoreError> {
        Ok(self.meta(key).await?.map(|meta| meta.last_modified.timestamp_millis()))
    }

    /// Puts an object unless there is one (table C7). An unknown outcome is read back: identical bytes are ours.
    /// [`StoreError::Retry`] means that even the deadline brought no answer: the object may or may not be there.
    pub async fn put_new(&self, key: &str, bytes: impl Into<Bytes>) -> Result<PutNew, StoreError> {
        let (path, bytes) = (path(key)?, not_empty(key, bytes.into())?);
        let (deadline, outcome) = (self.deadline(0), "put_new");
        let mut wait_ms = self.0.retry.backoff_min_ms;
        loop {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let put = self.0.store.put_opts(&path, PutPayload::from_bytes(bytes.clone()), options);
            let error = match self.within(0, deadline, key, async { Ok(put.await) }).await {
                Ok(Ok(_)) => {
                    count(outcome, "created");
                    return Ok(PutNew::Created);
                }
                // Someone's object, my own first try retried inside the client, or a 409: all told apart by what is there.
                Ok(Err(error @ object_store::Error::AlreadyExists { .. })) => StoreError::Retry(format!("{key}: {error}")),
                Ok(Err(error)) => StoreError::from_store(key, error),
                Err(error) => error,
            };
            if !error.is_retryable() {
                count(outcome, "refused");
                return Err(error);
            }
            let seen = self.within(0, deadline, key, async {
                let got = self.0.store.get(&path).await.map_err(|error| StoreError::from_store(key, error))?;
                let size = got.meta.size;
                whole(key, got.bytes().await.map_err(|error| StoreError::from_store(key, error))?, size)
            });
            match absent_as_none(seen.await) {
                Ok(Some(there)) => {
                    let mine = there == bytes;
                    count(outcome, if mine { "created_read_back" } else { "exists" });
                    return Ok(if mine { PutNew::Created } else { PutNew::Exists(there) });
                }
                Ok(None) => {}
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(error),
            }
            count(outcome, "unknown");
            if !self.pause(&mut wait_ms, deadline).await {
                return Err(error);
            }
        }
    }

    /// Puts a data object under a key that nobody else ever uses, in parts when it is large, and checks its size afterwards.
    pub async fn put_data(&self, key: &str, bytes: impl Into<Bytes>) -> Result<(), StoreError> {
        let (path, bytes) = (&path(key)?, &not_empty(key, bytes.into())?);
        self.retrying("put_data", bytes.len() as u64, || async move {
            let store = &self.0.store;
            let put = if bytes.len() > PART_BYTES { parts(store, path, bytes).await } else { one(store, path, bytes).await };
            put.map_err(|error| StoreError::from_store(key, error))?;
            let size = store.head(path).await.map_err(|error| StoreError::from_store(key, error))?.size;
            if size == bytes.len() as u64 {
                Ok(())
            } else {
                Err(StoreError::Retry(format!("{key}: {size} bytes of {} arrived", bytes.len())))
            }
        })
        .await
    }

    /// Deletes an object; an absent one is fine.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = &path(key)?;
        let gone = self
            .retrying("delete", 0, || async move { self.0.store.delete(path).await.map_err(|error| StoreError::from_store(key, error)) });
        absent_as_none(gone.await).map(|_| ())
    }

    /// All keys below a prefix (whole path segments, with or without the last slash), sorted.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.listed(prefix, None).await
    }

    /// The keys below a prefix that sort after `start_after`, sorted.
    pub async fn list_after(&self, prefix: &str, start_after: &str) -> Result<Vec<String>, StoreError> {
        self.listed(prefix, Some(path(start_after)?)).await
    }

    async fn listed(&self, prefix: &str, after: Option<Path>) -> Result<Vec<String>, StoreError> {
        let (path, after) = (&prefix_path(prefix)?, &after);
        let list = || async move {
            let listed = match after {
                Some(after) => self.0.store.list_with_offset(path.as_ref(), after),
                None => self.0.store.list(path.as_ref()),
            };
            listed.try_collect::<Vec<ObjectMeta>>().await.map_err(|error| StoreError::from_store(prefix, error))
        };
        let metas = self.retrying("list", 0, list).await?;
        let mut keys: Vec<String> = metas.into_iter().map(|meta| meta.location.into()).collect();
        keys.sort_unstable();
        Ok(keys)
    }

    /// The last segments of the "directories" right below a prefix, sorted.
    pub async fn list_dirs(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let path = &prefix_path(prefix)?;
        let listed = self
            .retrying("list", 0, || async move {
                self.0.store.list_with_delimiter(path.as_ref()).await.map_err(|error| StoreError::from_store(prefix, error))
            })
            .await?;
        let mut names: Vec<String> = listed.common_prefixes.iter().filter_map(|dir| Some(dir.filename()?.to_owned())).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The document at a key, `None` when it is absent.
    pub async fn get_doc<D: Document>(&self, key: &str) -> Result<Option<D>, StoreError> {
        match self.get_opt(key).await? {
            None => Ok(None),
            Some(bytes) => D::from_bytes(key, &bytes).map(Some).map_err(|error| StoreError::data(key, error)),
        }
    }

    /// Puts a document unless there is one.
    pub async fn put_doc<D: Document>(&self, key: &str, doc: &D) -> Result<PutDoc<D>, StoreError> {
        let bytes = doc.to_bytes(key).map_err(|error| StoreError::Fatal(format!("{key}: {error}")))?;
        match self.put_new(key, bytes).await? {
            PutNew::Created => Ok(PutDoc::Created),
            PutNew::Exists(bytes) => D::from_bytes(key, &bytes).map(PutDoc::Lost).map_err(|error| StoreError::data(key, error)),
        }
    }
}

async fn one(store: &Arc<dyn ObjectStore>, path: &Path, bytes: &Bytes) -> object_store::Result<()> {
    store.put(path, PutPayload::from_bytes(bytes.clone())).await.map(|_| ())
}

async fn parts(store: &Arc<dyn ObjectStore>, path: &Path, bytes: &Bytes) -> object_store::Result<()> {
    let mut upload = store.put_multipart(path).await?;
    match send_parts(&mut upload, bytes).await {
        Ok(()) => upload.complete().await.map(|_| ()),
        Err(error) => {
            // What stays of it is removed by the bucket's lifecycle rule; the first error is the one that counts.
            let _ = upload.abort().await;
            Err(error)
        }
    }
}

async fn send_parts(upload: &mut Box<dyn MultipartUpload>, bytes: &Bytes) -> object_store::Result<()> {
    let starts = (0..bytes.len()).step_by(PART_BYTES);
    let sends = starts.map(|start| upload.put_part(PutPayload::from_bytes(bytes.slice(start..bytes.len().min(start + PART_BYTES)))));
    // Collected first: parts are numbered in the order of the calls, while they may arrive in any.
    let sends: Vec<_> = sends.collect();
    stream::iter(sends).buffer_unordered(PARTS_AHEAD).try_collect().await
}

/// The bytes if they are as many as they must be; fewer are worth a retry.
fn whole(key: &str, bytes: Bytes, len: u64) -> Result<Bytes, StoreError> {
    if bytes.len() as u64 == len { Ok(bytes) } else { Err(StoreError::Retry(format!("{key}: {} bytes of {len} came", bytes.len()))) }
}

fn not_empty(key: &str, bytes: Bytes) -> Result<Bytes, StoreError> {
    if bytes.is_empty() { Err(StoreError::Fatal(format!("{key}: an empty object would count as damaged"))) } else { Ok(bytes) }
}

fn absent_as_none<T>(got: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match got {
        Ok(got) => Ok(Some(got)),
        Err(StoreError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn path(key: &str) -> Result<Path, StoreError> {
    error::check_key(key).map_err(StoreError::Fatal)?;
    Path::parse(key).map_err(|error| StoreError::Fatal(error.to_string()))
}

fn prefix_path(prefix: &str) -> Result<Option<Path>, StoreError> {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if prefix.is_empty() { Ok(None) } else { path(prefix).map(Some) }
}
