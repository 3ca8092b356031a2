//! Reading a state of the store that stays while it is read: a snapshot, a pin on its files, then a look for `gone` (protocol.md 2.4 step 5).
//!
//! The pin goes with the reading, also when that fails or is interrupted; one of a killed process ends by itself ([`tailors_store::pins`]).

use std::path::Path;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tailors_model::Window;
use tailors_store::catalog::{Catalog, Snapshot};
use tailors_store::pins::Pin;
use tailors_store::{Objects, StoreError, manifests};

use crate::exit::Failure;
use crate::node;

/// Requests on their way at once while a snapshot is looked at.
const REQUESTS_AHEAD: usize = 16;
/// Snapshots tried while generations go from under them.
const SNAPSHOTS_MAX: u32 = 8;
/// Longest wait for a pin: a store that can't be written to is read all the same.
const PIN_WAIT: Duration = Duration::from_secs(5);

/// Does `work` on a snapshot of the store below `path`, whose files of the windows that `is_read` names stay until it has ended.
pub(super) async fn reading<T>(
    path: &Path,
    now_ms: i64,
    is_read: impl Fn(&Window) -> bool,
    work: impl AsyncFnOnce(&Objects, &Snapshot) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let objects = node::read_store(path)?;
    let catalog = Catalog::new(objects.clone());
    let first = catalog.snapshot(0, now_ms).await?;
    // Without a publication there is nothing to hold, and perhaps no store: nothing is written there.
    let mut pin = if first.feed > 0 { put_pin(path, first.feed).await } else { None };
    let done = async {
        let mut snapshot = first;
        for _ in 0..SNAPSHOTS_MAX {
            if !any_gone(&objects, &snapshot, &is_read).await? {
                return work(&objects, &snapshot).await;
            }
            snapshot = catalog.snapshot(0, now_ms).await?;
        }
        Err(Failure::unavailable("generations are replaced faster than they can be looked at; try again"))
    };
    let done = tokio::select! {
        done = done => done,
        () = keep(pin.as_mut()) => Err(Failure::unavailable("keeping a pin ended early")),
        _ = tokio::signal::ctrl_c() => Err(Failure::unavailable("interrupted: nothing was written")),
    };
    if let Some(pin) = pin
        && let Err(error) = pin.release().await
    {
        tracing::warn!(%error, "a pin stays for some minutes; until then nothing is deleted");
    }
    done
}

async fn put_pin(path: &Path, feed: u64) -> Option<Pin> {
    let put = async {
        let id: String = node::random::<8>()?.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok::<Pin, Failure>(Pin::put(node::store_beside(path)?, &id, feed).await?)
    };
    let why = match tokio::time::timeout(PIN_WAIT, put).await {
        Ok(Ok(pin)) => return Some(pin),
        Ok(Err(failure)) => failure.message,
        Err(_) => "no answer".to_owned(),
    };
    eprintln!(
        "note: the store takes no pin ({why}): a file that a newer generation replaces may be deleted while it is read, which is then said"
    );
    None
}

async fn keep(pin: Option<&mut Pin>) {
    match pin {
        Some(pin) => pin.keep().await,
        None => std::future::pending().await,
    }
}

/// Whether files of a generation that is to be read may have been deleted before the pin stood.
async fn any_gone(objects: &Objects, snapshot: &Snapshot, is_read: &impl Fn(&Window) -> bool) -> Result<bool, StoreError> {
    let read = snapshot.windows.iter().filter(|((window, _), _)| is_read(window));
    let looks = read.map(|((window, shard), manifest)| manifests::gone(objects, *shard, *window, manifest.g));
    let gone = stream::iter(looks).buffered(REQUESTS_AHEAD).try_any(|gone| std::future::ready(gone.is_some()));
    gone.await
}
