//! The feed: the numbered list of published generations (protocol.md 2.4 step 5). A number in it is a snapshot of all history.
//!
//! Dense from 1, never deleted. Every 4,096 numbers control puts a snapshot of all entries so far; a new reader begins at the last one. They are
//! derived and dense: a lost one is put again, a damaged one costs a reader the entries before it, read one by one.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use tailors_format::doc::{FeedDoc, SnapDoc, SnapEntry};
use tailors_format::{FormatError, key};
use tailors_model::{ShardId, Window};

use crate::bodies;
use crate::objects::{Objects, PutDoc, StoreError};

/// Entries fetched at once while a reader catches up.
const FETCH_AHEAD_MAX: u64 = 64;
/// Entries from one snapshot to the next.
pub const SNAP_EVERY: u64 = 4_096;

/// A follower of the feed: what it read is never read again.
#[derive(Clone, Default, Debug)]
pub struct FeedView {
    seq: u64,
    current: BTreeMap<(Window, ShardId), u32>,
    /// Entry -> its number, of equal ones the first.
    entries: BTreeMap<(Window, ShardId, u32), u64>,
    /// Number of the last snapshot known to stand.
    snapped: u64,
}

impl FeedView {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads on until the first absent number. After an error it goes on where it stopped; what was taken before it is known.
    pub async fn refresh(&mut self, objects: &Objects) -> Result<(), StoreError> {
        if self.seq == 0 {
            self.start_at_snapshot(objects).await?;
        }
        let mut ahead = 1;
        loop {
            let next = self.seq + 1;
            let batch: Vec<Option<FeedDoc>> =
                stream::iter(next..next + ahead).map(|seq| get(objects, seq)).buffered(ahead as usize).try_collect().await?;
            for entry in batch {
                // An entry behind an absent one was put after that look: the next refresh takes both.
                let Some(entry) = entry else { return Ok(()) };
                self.take(self.seq + 1, &entry)?;
            }
            ahead = (ahead * 2).min(FETCH_AHEAD_MAX);
        }
    }

    /// Takes the last snapshot there is.
    async fn start_at_snapshot(&mut self, objects: &Objects) -> Result<(), StoreError> {
        let mut last: Option<SnapDoc> = None;
        // They are dense: the first absent one ends the row.
        while let Some(snap) = objects.get_doc::<SnapDoc>(&key::snap(self.snapped + SNAP_EVERY)).await? {
            self.snapped += SNAP_EVERY;
            last = Some(snap);
        }
        let Some(snap) = last else { return Ok(()) };
        match read_snapshot(objects, &snap).await {
            Ok(view) => *self = Self { snapped: self.snapped, ..view },
            // The entries themselves still stand.
            Err(error @ (StoreError::Data { .. } | StoreError::NotFound(_))) => {
                tracing::error!(%error, seq = snap.seq, "a snapshot of the feed can't be read; its entries are read one by one");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Puts the snapshots that are due; control's task. Two controls put the same bytes, or the first one's stand: both say the same.
    pub async fn put_snapshots(&mut self, objects: &Objects) -> Result<(), StoreError> {
        while self.snapped + SNAP_EVERY <= self.seq {
            let seq = self.snapped + SNAP_EVERY;
            let mut entries: Vec<SnapEntry> = Vec::with_capacity(self.entries.len());
            let known = self.entries.iter().filter(|(_, at)| **at <= seq);
            entries.extend(known.map(|((window, shard, g), at)| (*at, *shard, window.start_s(), *g)));
            entries.sort_unstable_by_key(|entry| entry.0);
            let body = bodies::put(objects, &entries).await?;
            objects.put_doc(&key::snap(seq), &SnapDoc { seq, entries: entries.len() as u64, body }).await?;
            self.snapped = seq;
        }
        Ok(())
    }

    fn take(&mut self, seq: u64, entry: &FeedDoc) -> Result<(), StoreError> {
        let window = Window::starting_at_s(entry.window);
        let window =
            window.ok_or_else(|| StoreError::data(&key::feed(seq), FormatError::invalid("feed", "window is not a window's start")))?;
        let current = self.current.entry((window, entry.shard)).or_default();
        // Entries may come out of order: the highest g counts.
        *current = (*current).max(entry.g);
        self.entries.entry((window, entry.shard, entry.g)).or_insert(seq);
        self.seq = seq;
        Ok(())
    }

    /// Number of the entry of a generation; `None` when it has none.
    pub fn seq_of(&self, shard: ShardId, window: Window, g: u32) -> Option<u64> {
        self.entries.get(&(window, shard, g)).copied()
    }

    /// Number of the last entry read; 0 for an empty feed.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The generation that counts at this number; `None` when none is published.
    pub fn current(&self, shard: ShardId, window: Window) -> Option<u32> {
        self.current.get(&(window, shard)).copied()
    }

    /// The generations that count, by window and shard.
    pub fn all(&self) -> &BTreeMap<(Window, ShardId), u32> {
        &self.current
    }

    /// Whether this generation has an entry.
    pub fn holds(&self, shard: ShardId, window: Window, g: u32) -> bool {
        self.entries.contains_key(&(window, shard, g))
    }
}

/// The view that a snapshot holds.
async fn read_snapshot(objects: &Objects, snap: &SnapDoc) -> Result<FeedView, StoreError> {
    let bad = |why: &str| StoreError::data(&snap.body.key, FormatError::invalid("snapshot of the feed", why));
    let entries: Vec<SnapEntry> = bodies::get(objects, &snap.body).await?;
    if entries.len() as u64 != snap.entries {
        return Err(bad("not as many entries as its document says"));
    }
    let mut view = FeedView::new();
    for (seq, shard, window, g) in entries {
        if seq <= view.seq || seq > snap.seq {
            return Err(bad("numbers out of order"));
        }
        view.take(seq, &FeedDoc { shard, window, g })?;
    }
    view.seq = snap.seq;
    Ok(view)
}

/// Entry `seq`.
pub async fn get(objects: &Objects, seq: u64) -> Result<Option<FeedDoc>, StoreError> {
    objects.get_doc(&key::feed(seq)).await
}

/// Appends an entry at the first free number from `from_seq` on (1 at least) and gives its number; an equal entry met on the way is taken for it.
pub async fn append(objects: &Objects, entry: &FeedDoc, from_seq: u64) -> Result<u64, StoreError> {
    let mut seq = from_seq.max(1);
    // Never leave a gap: a hint beyond the end goes back to the last entry there is.
    while seq > 1 && get(objects, seq - 1).await?.is_none() {
        seq /= 2;
        seq = seq.max(1);
    }
    loop {
        let other = match get(objects, seq).await? {
            Some(other) => other,
            None => match objects.put_doc(&key::feed(seq), entry).await? {
                PutDoc::Created => return Ok(seq),
                PutDoc::Lost(other) => other,
            },
        };
        if other == *entry {
            return Ok(seq);
        }
        seq += 1;
    }
}
