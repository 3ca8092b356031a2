//! Raw pieces kept between two plans over the same splits, so that one read serves both where memory allows.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};

/// Payloads of one fetched piece: (offset, payload as a slice of the piece).
pub(crate) type Piece = Vec<(u64, Bytes)>;

/// What the first plan read, split by split. A split is kept whole or not at all.
#[derive(Debug)]
pub struct RawKeep {
    bytes_max: u64,
    is_full: AtomicBool,
    reservation: MemoryReservation,
    splits: Mutex<BTreeMap<usize, Vec<Piece>>>,
}

impl RawKeep {
    /// Keeps at most `bytes_max` bytes, taken from `memory`; what the pool refuses is simply not kept.
    pub fn new(memory: &Arc<dyn MemoryPool>, bytes_max: u64) -> Self {
        let reservation = MemoryConsumer::new("raw pieces kept").register(memory);
        Self { bytes_max, is_full: AtomicBool::new(false), reservation, splits: Mutex::new(BTreeMap::new()) }
    }

    /// The first plan is done: from now on pieces are taken, no more are kept.
    pub fn stop(&self) {
        self.is_full.store(true, Ordering::Relaxed);
    }

    /// Takes room for a piece; `false`: don't keep its split.
    pub(crate) fn reserve(&self, bytes: usize) -> bool {
        let fits = (self.reservation.size() as u64).saturating_add(bytes as u64) <= self.bytes_max;
        fits && !self.is_full.load(Ordering::Relaxed) && self.reservation.try_grow(bytes).is_ok()
    }

    /// Gives room back.
    pub(crate) fn release(&self, bytes: usize) {
        self.reservation.shrink(bytes);
    }

    /// Keeps all pieces of a split, whose room is taken.
    pub(crate) fn put(&self, split: usize, pieces: Vec<Piece>) {
        self.splits.lock().unwrap_or_else(PoisonError::into_inner).insert(split, pieces);
    }

    /// The pieces of a split, once.
    pub(crate) fn take(&self, split: usize) -> Option<Vec<Piece>> {
        self.splits.lock().unwrap_or_else(PoisonError::into_inner).remove(&split)
    }

    /// Gives everything back; what is not yet taken is read again.
    pub fn clear(&self) {
        self.splits.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.reservation.free();
    }
}
