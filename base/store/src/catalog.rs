//! The catalog: what readers know of all history at one feed number. In: feed, manifests, seals, done marks. Out: an immutable [`Snapshot`].
//!
//! Invariants: P5 (a snapshot names whole generations only), protocol.md 2.4 step 5 (a window is complete when, for one of its done marks, every
//! shard listed has a current generation at this number that is at least the listed one). Manifests never change, so each is read once. Never a
//! LIST for correctness: the one here only makes answers about the time before the store more careful.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use tailors_format::doc::{DoneDoc, ManifestDoc, ManifestKind, SealKind};
use tailors_format::{FormatError, key};
use tailors_model::{ShardId, Window};
use tokio::sync::{Mutex, watch};

use crate::feed::FeedView;
use crate::objects::{Objects, StoreError};
use crate::{manifests, registry, seals};

/// Requests in flight at once during a refresh.
const FETCH_AHEAD: usize = 32;

/// All history at one feed number. Queries pin it by holding the `Arc`.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Snapshot {
    /// The feed number.
    pub feed: u64,
    /// When the store was created, Unix milliseconds; `None` before its first stream.
    pub store_created_ms: Option<i64>,
    /// The current manifests.
    pub windows: BTreeMap<(Window, ShardId), Arc<ManifestDoc>>,
    /// Published generations whose manifest can't be read, and why: queries that touch them must say so (P6).
    pub damaged: BTreeMap<(Window, ShardId), String>,
    /// Kinds of the seals read: at least those that current manifests stand on.
    pub seals: BTreeMap<(Window, u32), SealKind>,
    /// Windows of which a done mark holds at this number.
    pub done: BTreeSet<Window>,
    /// Windows with a seal or done mark that can't be read, and why: their points are all there, whether they are complete is not known.
    pub doubtful: BTreeMap<Window, String>,
    /// Windows from the creation of the store to now that are not complete.
    pub open: BTreeSet<Window>,
    /// Windows that are known to have points or a seal, though nothing of them may be published.
    pub known: BTreeSet<Window>,
}

impl Snapshot {
    /// Whether everything of a window is in this snapshot: a done mark holds, or it ended before the store was created and has no points.
    pub fn is_complete(&self, window: Window) -> bool {
        self.done.contains(&window)
            || self.store_created_ms.is_some_and(|created| window.end_ms() <= created)
                && !self.known.contains(&window)
                && self.of_window(window).next().is_none()
                && !self.damaged.keys().any(|(damaged, _)| *damaged == window)
    }

    /// End of the unbroken row of complete windows from the first that `from_ms` touches, Unix milliseconds; at most the end of the window that
    /// holds the last millisecond before `to_ms`. `None` when the first isn't complete.
    pub fn complete_until_ms(&self, from_ms: i64, to_ms: i64) -> Option<i64> {
        let mut window = Window::of_ms(from_ms);
        let mut until = None;
        while window.start_ms() < to_ms && self.is_complete(window) {
            until = Some(window.end_ms());
            window = window.next();
        }
        until
    }

    /// The current manifest of a window x shard.
    pub fn manifest(&self, window: Window, shard: ShardId) -> Option<&Arc<ManifestDoc>> {
        self.windows.get(&(window, shard))
    }

    /// The current manifests of a window.
    pub fn of_window(&self, window: Window) -> impl Iterator<Item = (ShardId, &Arc<ManifestDoc>)> {
        let first = (window, ShardId::Mod { count: 0, index: 0 });
        self.windows.range(first..).take_while(move |((at, _), _)| *at == window).map(|((_, shard), manifest)| (*shard, manifest))
    }

    /// Kind of the seal that a manifest stands on.
    pub fn seal_kind(&self, manifest: &ManifestDoc) -> Option<SealKind> {
        self.seals.get(&(Window::starting_at_s(manifest.window)?, manifest.k)).copied()
    }
}

/// The reader's cached view; share it in an `Arc`.
#[derive(Debug)]
pub struct Catalog {
    objects: Objects,
    /// Windows with points, as intake and control of this process know them; readers elsewhere know only of seals.
    with_points: Option<watch::Receiver<BTreeSet<Window>>>,
    state: Mutex<State>,
}

#[derive(Default, Debug)]
struct State {
    feed: FeedView,
    snapshot: Arc<Snapshot>,
    /// When the snapshot was taken, Unix milliseconds.
    as_of_ms: Option<i64>,
    /// Per window that is not complete yet: seals read so far and the done marks found.
    following: BTreeMap<Window, Following>,
}

#[derive(Clone, Default, Debug)]
struct Following {
    last_k: u32,
    /// Complete seals whose done mark was not there at the last look.
    without_done: BTreeSet<u32>,
    dones: Vec<DoneDoc>,
}

impl Catalog {
    /// Reads nothing yet.
    pub fn new(objects: Objects) -> Self {
        Self { objects, with_points: None, state: Mutex::default() }
    }

    /// As [`Self::new`], told which windows have points: none of them counts as complete before its first seal.
    pub fn told(objects: Objects, with_points: watch::Receiver<BTreeSet<Window>>) -> Self {
        Self { objects, with_points: Some(with_points), state: Mutex::default() }
    }

    /// A snapshot that was taken at most `max_age_ms` before `now_ms` (Unix milliseconds), a new one when the last is older. With 0 it holds
    /// everything published before the call. Callers that come at once share one refresh.
    pub async fn snapshot(&self, max_age_ms: i64, now_ms: i64) -> Result<Arc<Snapshot>, StoreError> {
        let mut state = self.state.lock().await;
        let fresh = state.as_of_ms.is_some_and(|as_of| (0..max_age_ms).contains(&(now_ms - as_of)));
        if !fresh {
            let with_points = self.with_points.as_ref().map(|known| known.borrow().clone()).unwrap_or_default();
            state.refresh(&self.objects, with_points, now_ms).await?;
            state.as_of_ms = Some(now_ms);
        }
        Ok(state.snapshot.clone())
    }
}

impl State {
    async fn refresh(&mut self, objects: &Objects, with_points: BTreeSet<Window>, now_ms: i64) -> Result<(), StoreError> {
        let mut next = Snapshot::clone(&self.snapshot);
        if next.store_created_ms.is_none() {
            next.store_created_ms = registry::store_created_ms(objects).await?;
        }
        self.feed.refresh(objects).await?;
        next.feed = self.feed.seq();
        self.read_manifests(objects, &mut next).await?;
        // Done marks are read after the feed was pinned: one that names a later generation doesn't hold at this number.
        self.follow_seals(objects, &mut next, now_ms).await?;
        next.known = known_before(objects, next.store_created_ms).await?;
        next.known.extend(with_points);
        if next != *self.snapshot {
            self.snapshot = Arc::new(next);
        }
        Ok(())
    }

    async fn read_manifests(&self, objects: &Objects, next: &mut Snapshot) -> Result<(), StoreError> {
        let current = self.feed.all().iter().map(|(at, g)| (*at, *g));
        let missing: Vec<_> = current.filter(|(at, g)| next.windows.get(at).is_none_or(|manifest| manifest.g != *g)).collect();
        let reads = stream::iter(missing).map(|((window, shard), g)| async move {
            let key = key::manifest(shard, window, g);
            let manifest = match manifests::get(objects, shard, window, g).await {
                Ok(Some(manifest)) if manifest.kind == ManifestKind::Published => Ok(manifest),
                Ok(Some(_)) => Err(StoreError::data(&key, FormatError::invalid("manifest", "a tombstone stands in the feed"))),
                Ok(None) => Err(StoreError::NotFound(key)),
                Err(error @ (StoreError::Data { .. } | StoreError::NotFound(_))) => Err(error),
                Err(error) => return Err(error),
            };
            Ok(((window, shard), manifest))
        });
        let read: Vec<_> = reads.buffered(FETCH_AHEAD).try_collect().await?;
        for (at, manifest) in read {
            match manifest {
                Ok(manifest) => {
                    next.damaged.remove(&at);
                    next.windows.insert(at, Arc::new(manifest));
                }
                // Never the generation before it in its place: that would be silent.
                Err(error) => {
                    next.windows.remove(&at);
                    next.damaged.insert(at, error.to_string());
                }
            }
        }
        Ok(())
    }

    /// Looks at the windows that are not complete: all from the creation of the store to now, and any with a generation.
    async fn follow_seals(&mut self, objects: &Objects, next: &mut Snapshot, now_ms: i64) -> Result<(), StoreError> {
        let mut open: BTreeSet<Window> = self.feed.all().keys().map(|(window, _)| *window).collect();
        next.open.clear();
        if let Some(created) = next.store_created_ms {
            let mut window = Window::of_ms(created);
            while window.start_ms() <= now_ms {
                next.open.insert(window);
                window = window.next();
            }
        }
        open.extend(&next.open);
        // A done mark that held once holds for ever; later seals of such a window matter only when a manifest stands on one.
        open.retain(|window| {
            let mut manifests = next.of_window(*window).map(|(_, manifest)| manifest);
            !next.done.contains(window) || manifests.any(|manifest| !next.seals.contains_key(&(*window, manifest.k)))
        });
        let open = open.into_iter().map(|window| (window, self.following.remove(&window).unwrap_or_default()));
        let reads = stream::iter(open.collect::<Vec<_>>()).map(|(window, following)| follow(objects, window, following));
        let read: Vec<_> = reads.buffered(FETCH_AHEAD).try_collect().await?;
        for (window, following, seals, damage) in read {
            next.doubtful.extend(damage.map(|why| (window, why)));
            next.seals.extend(seals.into_iter().map(|(k, kind)| ((window, k), kind)));
            if following.dones.iter().any(|done| self.holds(window, done)) {
                next.done.insert(window);
            }
            self.following.insert(window, following);
        }
        next.open.retain(|window| !next.done.contains(window));
        Ok(())
    }

    fn holds(&self, window: Window, done: &DoneDoc) -> bool {
        done.shards.iter().all(|(shard, g)| {
            let current = shard.parse().ok().and_then(|shard| self.feed.current(shard, window));
            current.is_some_and(|current| current >= *g)
        })
    }
}

/// A window, what is followed of it, its new seals, and what stopped the reading: a damaged document.
type Followed = (Window, Following, Vec<(u32, SealKind)>, Option<String>);

/// Reads on in a window as far as its documents are sound.
async fn follow(objects: &Objects, window: Window, mut following: Following) -> Result<Followed, StoreError> {
    let mut kinds = Vec::new();
    let damage = match read_on(objects, window, &mut following, &mut kinds).await {
        Ok(()) => None,
        Err(error @ StoreError::Data { .. }) => Some(error.to_string()),
        Err(error) => return Err(error),
    };
    Ok((window, following, kinds, damage))
}

/// Reads on in a window's seals, and looks for the done marks that are missing.
async fn read_on(objects: &Objects, window: Window, following: &mut Following, kinds: &mut Vec<(u32, SealKind)>) -> Result<(), StoreError> {
    while let Some(seal) = seals::get(objects, window, following.last_k + 1).await? {
        following.last_k = seal.k;
        kinds.push((seal.k, seal.kind));
        if seal.kind.is_complete() {
            following.without_done.insert(seal.k);
        }
    }
    for k in following.without_done.clone() {
        if let Some(done) = seals::done(objects, window, k).await? {
            following.without_done.remove(&k);
            following.dones.push(done);
        }
    }
    Ok(())
}

/// Windows before the creation of the store that have a seal: they have points.
async fn known_before(objects: &Objects, created_ms: Option<i64>) -> Result<BTreeSet<Window>, StoreError> {
    let Some(created) = created_ms else { return Ok(BTreeSet::new()) };
    let sealed = objects.list_dirs("seal/v1").await?;
    let windows = sealed.iter().filter_map(|name| Window::starting_at_s(name.parse().ok()?));
    Ok(windows.filter(|window| window.end_ms() <= created).collect())
}
