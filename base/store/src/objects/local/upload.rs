//! An upload in parts to the local store: one temporary file, each part at its place, the key at the end.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart};

use super::files::{Appear, Files, Temporary};
use super::{LocalError, generic, named};

/// Dropping it without `complete` removes what was written.
#[derive(Debug)]
pub(super) struct LocalUpload {
    files: Arc<Files>,
    key: String,
    temporary: Option<Arc<Temporary>>,
    /// Bytes handed in, and of those the bytes written.
    expected: u64,
    written: Arc<AtomicU64>,
}

impl LocalUpload {
    pub(super) fn new(files: Arc<Files>, key: String, temporary: Temporary) -> Self {
        Self { files, key, temporary: Some(Arc::new(temporary)), expected: 0, written: Arc::default() }
    }
}

#[async_trait]
impl MultipartUpload for LocalUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let start = self.expected;
        self.expected += data.content_length() as u64;
        let (temporary, written) = (self.temporary.clone(), self.written.clone());
        let key = self.key.clone();
        Box::pin(async move {
            let ended = || LocalError::Refused("the upload has ended".to_owned());
            let work = move || {
                let temporary = temporary.ok_or_else(ended)?;
                let mut at = start;
                for part in data.iter() {
                    temporary.file.write_all_at(part, at)?;
                    at += part.len() as u64;
                }
                written.fetch_add(at - start, Ordering::SeqCst);
                Ok(())
            };
            tokio::task::spawn_blocking(work).await.map_err(generic)?.map_err(|error| named(&key, error))
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (files, key, temporary) = (self.files.clone(), self.key.clone(), self.temporary.take());
        let (expected, written) = (self.expected, self.written.load(Ordering::SeqCst));
        let work = move || {
            let refused = |why: &str| LocalError::Refused(format!("`{key}`: {why}"));
            // A part that is still being written holds a clone, so `into_inner` fails then.
            let temporary = temporary.and_then(Arc::into_inner).ok_or_else(|| refused("the upload has ended or still runs"))?;
            if written != expected {
                return Err(refused("a part was not written"));
            }
            files.finish(&key, temporary, Appear::Overwrite)
        };
        let done = tokio::task::spawn_blocking(work).await.map_err(generic)?;
        let tag = done.map_err(|error| named(&self.key, error))?;
        Ok(PutResult { e_tag: Some(tag), version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        self.temporary = None;
        Ok(())
    }
}
