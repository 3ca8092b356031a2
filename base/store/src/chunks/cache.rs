//! Indexes used last stay, up to a number of bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use tailors_format::chunk::ChunkIndex;

#[derive(Debug)]
struct Entry {
    index: Arc<ChunkIndex>,
    /// What it counts for; an index grows when its labels are parsed, so this is not asked twice.
    bytes: u64,
    used: u64,
}

/// Indexes by object key; keys are never written again, so nothing goes stale.
#[derive(Default, Debug)]
pub(super) struct IndexCache {
    entries: BTreeMap<String, Entry>,
    bytes: u64,
    uses: u64,
}

impl IndexCache {
    pub(super) fn get(&mut self, key: &str) -> Option<Arc<ChunkIndex>> {
        self.uses += 1;
        let entry = self.entries.get_mut(key)?;
        entry.used = self.uses;
        Some(entry.index.clone())
    }

    /// Keeps an index; others go while all are more than `bytes_max`, this one stays.
    pub(super) fn put(&mut self, key: &str, index: Arc<ChunkIndex>, bytes_max: u64) {
        self.uses += 1;
        let bytes = index.memory_bytes() as u64;
        self.bytes += bytes;
        let before = self.entries.insert(key.to_owned(), Entry { index, bytes, used: self.uses });
        self.bytes -= before.map_or(0, |before| before.bytes);
        while self.bytes > bytes_max && self.entries.len() > 1 {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
            let Some(gone) = oldest.and_then(|key| self.entries.remove(&key)) else { break };
            self.bytes -= gone.bytes;
        }
    }
}
