//! The feed: the numbered list of published generations (protocol.md 2.4 step 5). A number in it is a snapshot of all history.
//!
//! Dense from 1, never deleted. The snapshots every 4,096 entries are not written yet: a new reader reads the feed from its start, many at once.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use tailors_format::doc::FeedDoc;
use tailors_format::{FormatError, key};
use tailors_model::{ShardId, Window};

use crate::objects::{Objects, PutDoc, StoreError};

/// Entries fetched at once while a reader catches up.
const FETCH_AHEAD_MAX: u64 = 64;

/// A follower of the feed: what it read is never read again.
#[derive(Clone, Default, Debug)]
pub struct FeedView {
    seq: u64,
    current: BTreeMap<(Window, ShardId), u32>,
    entries: BTreeSet<(Window, ShardId, u32)>,
}

impl FeedView {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads on until the first absent number; gives the entries that are new. After an error it goes on where it stopped.
    pub async fn refresh(&mut self, objects: &Objects) -> Result<Vec<FeedDoc>, StoreError> {
        let mut fresh = Vec::new();
        let mut ahead = 1;
        loop {
            let next = self.seq + 1;
            let batch: Vec<Option<FeedDoc>> =
                stream::iter(next..next + ahead).map(|seq| get(objects, seq)).buffered(ahead as usize).try_collect().await?;
            for entry in batch {
                // An entry behind an absent one was put after that look: the next refresh takes both.
                let Some(entry) = entry else { return Ok(fresh) };
                self.take(&entry)?;
                fresh.push(entry);
            }
            ahead = (ahead * 2).min(FETCH_AHEAD_MAX);
        }
    }

    fn take(&mut self, entry: &FeedDoc) -> Result<(), StoreError> {
        let seq = self.seq + 1;
        let window = Window::starting_at_s(entry.window);
        let window =
            window.ok_or_else(|| StoreError::data(&key::feed(seq), FormatError::invalid("feed", "window is not a window's start")))?;
        let current = self.current.entry((window, entry.shard)).or_default();
        // Entries may come out of order: the highest g counts.
        *current = (*current).max(entry.g);
        self.entries.insert((window, entry.shard, entry.g));
        self.seq = seq;
        Ok(())
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
        self.entries.contains(&(window, shard, g))
    }
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
