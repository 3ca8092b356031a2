//! Objects in a directory of the local file system, behind object_store's trait (protocol.md 2.7).
//!
//! An object is the file `root/{key}`. Every write goes to a temporary name `….tmp` in the same directory, is fsynced, and appears under its key by
//! link(2) (create if absent) or rename(2) (overwrite); then its directory, and every ancestor that this handle has not seen durable yet, is fsynced.
//! Invariants: a file under a key is whole and durable once the call returned; an empty file is damage, never an object; after any failed fsync the
//! handle refuses everything. One process writes (it holds the lock of the data directory), any may read. NFS and SMB are not supported.
//! Killed here: a `.tmp` file, which the next start removes.

mod files;
mod upload;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, RenameTargetMode, Result,
};

use files::{Appear, Files};

/// What the local store adds to object_store's errors; their `source`.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The file system refused; may work later (disk full).
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The file is there and empty: damaged.
    #[error("the file is empty, so it is damaged")]
    Empty,
    /// An fsync failed before; nothing is known of the disk any more, the process must end.
    #[error("an fsync failed on this store: end the process and look at the disk")]
    Poisoned,
    /// This handle only reads.
    #[error("this handle of the store is read-only")]
    ReadOnly,
    /// Not a key of ours.
    #[error("{0}")]
    Refused(String),
}

/// A directory as an object store; clones share the handle.
#[derive(Clone, Debug)]
pub struct LocalStore {
    files: Arc<Files>,
}

impl std::fmt::Display for LocalStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalStore({})", self.files.root().display())
    }
}

impl LocalStore {
    /// Opens a directory for writing, makes it if need be, and removes what killed writers left. The caller holds the lock of the directory:
    /// temporary files of another living writer would go too.
    pub fn open(root: &std::path::Path) -> std::io::Result<Self> {
        Ok(Self { files: Arc::new(Files::open(root)?) })
    }

    /// Opens a directory for writing beside a writer that may live: nothing of it is removed.
    pub fn open_beside(root: &std::path::Path) -> std::io::Result<Self> {
        Ok(Self { files: Arc::new(Files::open_beside(root)?) })
    }

    /// Opens an existing directory for reading only; may run beside a writer.
    pub fn open_read_only(root: &std::path::Path) -> std::io::Result<Self> {
        Ok(Self { files: Arc::new(Files::open_read_only(root)?) })
    }

    /// Runs file work where it may block; object_store's error names the key.
    async fn blocking<T: Send + 'static>(
        &self,
        key: &Path,
        work: impl FnOnce(&Files, &str) -> std::result::Result<T, LocalError> + Send + 'static,
    ) -> Result<T> {
        let files = self.files.clone();
        let name = key.to_string();
        let done = tokio::task::spawn_blocking(move || work(&files, &name)).await;
        done.map_err(generic)?.map_err(|error| named(key.as_ref(), error))
    }
}

fn generic(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Generic { store: "LocalStore", source: Box::new(error) }
}

/// The trait's error for a local one.
fn named(path: &str, error: LocalError) -> Error {
    let path = path.to_owned();
    match error {
        LocalError::Io(error) if error.kind() == std::io::ErrorKind::NotFound => Error::NotFound { path, source: Box::new(error) },
        LocalError::Io(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Error::AlreadyExists { path, source: Box::new(error) }
        }
        LocalError::Io(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Error::PermissionDenied { path, source: Box::new(error) }
        }
        error => generic(error),
    }
}

fn meta(location: Path, found: &files::Found) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: DateTime::<Utc>::from(found.modified),
        size: found.len,
        e_tag: Some(found.tag.clone()),
        version: None,
    }
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let appear = match opts.mode {
            PutMode::Overwrite => Appear::Overwrite,
            PutMode::Create => Appear::Create,
            PutMode::Update(_) => {
                return Err(Error::NotImplemented { operation: "put if version".to_owned(), implementer: self.to_string() });
            }
        };
        if !opts.attributes.is_empty() {
            return Err(Error::NotImplemented { operation: "attributes".to_owned(), implementer: self.to_string() });
        }
        let tag = self.blocking(location, move |files, key| files.put(key, payload.iter(), appear)).await?;
        Ok(PutResult { e_tag: Some(tag), version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        if !opts.attributes.is_empty() {
            return Err(Error::NotImplemented { operation: "attributes".to_owned(), implementer: self.to_string() });
        }
        let temporary = self.blocking(location, |files, key| files.begin(key)).await?;
        Ok(Box::new(upload::LocalUpload::new(self.files.clone(), location.to_string(), temporary)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let at = location.clone();
        self.blocking(location, move |files, key| {
            let (file, found) = files.open_object(key)?;
            let meta = meta(at, &found);
            // A failed precondition is the caller's answer, not an error of the file system: it passes through as a value.
            if let Err(error) = options.check_preconditions(&meta) {
                return Ok(Err(error));
            }
            let range = match &options.range {
                None => 0..found.len,
                Some(range) => {
                    range.as_range(found.len).map_err(|error| std::io::Error::new(std::io::ErrorKind::UnexpectedEof, error.to_string()))?
                }
            };
            let body = if options.head { Bytes::new() } else { files::read(&file, range.clone())? };
            let payload = GetResultPayload::Stream(stream::once(async move { Ok(body) }).boxed());
            Ok(Ok(GetResult { payload, meta, range, attributes: Attributes::default() }))
        })
        .await?
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let ranges = ranges.to_vec();
        self.blocking(location, move |files, key| {
            let (file, found) = files.open_object(key)?;
            let clip = |range: &Range<u64>| range.start.min(found.len)..range.end.min(found.len);
            ranges.iter().map(|range| files::read(&file, clip(range))).collect()
        })
        .await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .and_then(move |location| {
                let store = store.clone();
                async move {
                    store.blocking(&location, |files, key| files.delete(key)).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_beyond(prefix, None)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_beyond(prefix, Some(offset.to_string()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned().unwrap_or_default();
        let (found, dirs) = self.blocking(&prefix, |files, prefix| files.list_one(prefix)).await?;
        let objects = found.into_iter().map(|(key, found)| Ok(meta(Path::parse(key)?, &found))).collect::<Result<_>>()?;
        let common_prefixes = dirs.into_iter().map(|key| Ok(Path::parse(key)?)).collect::<Result<_>>()?;
        Ok(ListResult { objects, common_prefixes })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let appear = match options.mode {
            CopyMode::Overwrite => Appear::Overwrite,
            CopyMode::Create => Appear::Create,
        };
        let to = to.to_string();
        self.blocking(from, move |files, from| {
            let (file, found) = files.open_object(from)?;
            let body = files::read(&file, 0..found.len)?;
            files.put(&to, std::iter::once(&body), appear)
        })
        .await?;
        Ok(())
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let mode = match options.target_mode {
            RenameTargetMode::Overwrite => CopyMode::Overwrite,
            RenameTargetMode::Create => CopyMode::Create,
        };
        self.copy_opts(from, to, CopyOptions::new().with_mode(mode)).await?;
        self.blocking(from, |files, key| files.delete(key)).await
    }
}

impl LocalStore {
    /// Everything below a prefix whose key sorts after `after`, sorted.
    fn list_beyond(&self, prefix: Option<&Path>, after: Option<String>) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        let prefix = prefix.cloned().unwrap_or_default();
        let listed = async move {
            let found = store.blocking(&prefix, move |files, prefix| files.list(prefix, after.as_deref())).await?;
            let metas = found.into_iter().map(|(key, found)| Ok(meta(Path::parse(key)?, &found)));
            Ok::<_, Error>(stream::iter(metas.collect::<Vec<Result<ObjectMeta>>>()))
        };
        stream::once(listed).try_flatten().boxed()
    }

    /// Where an object of this key lies.
    pub fn path_of(&self, key: &str) -> std::result::Result<PathBuf, LocalError> {
        self.files.path(key)
    }

    /// Makes the next fsync of this handle fail.
    #[cfg(test)]
    pub(crate) fn fail_next_fsync(&self) {
        self.files.fail_next_fsync();
    }
}
