//! Seals and done marks of windows (protocol.md 2.3): read and put; deciding them is control's.

use tailors_format::doc::{DoneDoc, SealDoc};
use tailors_format::{FormatError, key};
use tailors_model::Window;

use crate::objects::{Objects, PutDoc, StoreError};

/// The newest seal of a window; `None` without one.
pub async fn newest(objects: &Objects, window: Window) -> Result<Option<SealDoc>, StoreError> {
    newest_after(objects, window, 0).await
}

/// The newest seal with a number above `known_k`; `None` when there is none. Seals are dense and never deleted, so a remembered number is safe.
pub async fn newest_after(objects: &Objects, window: Window, known_k: u32) -> Result<Option<SealDoc>, StoreError> {
    let mut newest: Option<SealDoc> = None;
    let mut k = known_k + 1;
    while let Some(seal) = get(objects, window, k).await? {
        newest = Some(seal);
        k += 1;
    }
    Ok(newest)
}

/// Seal k of a window.
pub async fn get(objects: &Objects, window: Window, k: u32) -> Result<Option<SealDoc>, StoreError> {
    let key = key::seal(window, k);
    let seal: Option<SealDoc> = objects.get_doc(&key).await?;
    match seal {
        Some(seal) if seal.window != window.start_s() || seal.k != k => Err(misplaced("seal", &key)),
        seal => Ok(seal),
    }
}

/// Puts a seal at its number; `Lost`: discard it, read, decide anew.
pub async fn put(objects: &Objects, seal: &SealDoc) -> Result<PutDoc<SealDoc>, StoreError> {
    objects.put_doc(&key::seal(window_of("seal", seal.window)?, seal.k), seal).await
}

/// The done mark of a seal.
pub async fn done(objects: &Objects, window: Window, k: u32) -> Result<Option<DoneDoc>, StoreError> {
    let key = key::done(window, k);
    let done: Option<DoneDoc> = objects.get_doc(&key).await?;
    match done {
        Some(done) if done.window != window.start_s() || done.k != k => Err(misplaced("done", &key)),
        done => Ok(done),
    }
}

/// Puts a done mark; only after every generation it names stands in the feed.
pub async fn put_done(objects: &Objects, done: &DoneDoc) -> Result<PutDoc<DoneDoc>, StoreError> {
    objects.put_doc(&key::done(window_of("done", done.window)?, done.k), done).await
}

/// A whole document that stands under another's key.
pub(crate) fn misplaced(what: &'static str, key: &str) -> StoreError {
    StoreError::data(key, FormatError::invalid(what, "names another window, shard or number than its key"))
}

/// The window that a document of ours names; anything but a window edge is a bug of its maker.
pub(crate) fn window_of(what: &str, start_s: i64) -> Result<Window, StoreError> {
    Window::starting_at_s(start_s).ok_or_else(|| StoreError::Fatal(format!("{what}: {start_s} is not the start of a window")))
}
