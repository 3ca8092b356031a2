//! Reads the frames of one split, piece by piece, with a second and third look at anything damaged.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use futures::future::BoxFuture;
use tailors_format::raw::frame;
use tailors_store::objects::{Objects, StoreError};

use crate::EngineError;
use crate::keep::Piece;
use crate::raw::{RawExtent, RawSplit, count_read};

/// Fetches of a damaged piece before its segment is reported (protocol.md 2.4 step 8).
const FETCHES_MAX: u32 = 3;

/// A cursor over the frames that start in a split.
pub(crate) struct FrameReader {
    objects: Objects,
    extent: RawExtent,
    split: RawSplit,
    fetch_bytes_max: u64,
    bytes_read: Arc<AtomicU64>,
    position: u64,
    last_offset: Option<u64>,
}

/// What the frames of a fetched piece were.
enum Parsed {
    /// Payloads, and where the next frame starts.
    Frames(Piece, u64),
    /// Not one whole frame: this many bytes are needed.
    More(u64),
}

impl FrameReader {
    pub(crate) fn new(objects: Objects, extent: RawExtent, split: RawSplit, fetch_bytes_max: u64, bytes_read: Arc<AtomicU64>) -> Self {
        let position = split.from;
        Self { objects, extent, split, fetch_bytes_max, bytes_read, position, last_offset: None }
    }

    /// The next payloads and the bytes they hold on to; `None` at the end of the split.
    pub(crate) async fn next(&mut self) -> Result<Option<(Piece, usize)>, EngineError> {
        while self.position < self.split.end {
            let mut fetched = 0;
            let (piece, held, next) = loop {
                fetched += 1;
                match self.piece().await {
                    Ok(done) => break done,
                    Err(EngineError::Input { .. }) if fetched < FETCHES_MAX => {
                        tracing::warn!(
                            segment = self.extent.key,
                            position = self.position,
                            fetched,
                            "raw piece damaged, fetching it again"
                        );
                    }
                    Err(error) => return Err(error),
                }
            };
            self.position = next;
            if let Some((offset, _)) = piece.last() {
                self.last_offset = Some(*offset);
            }
            if !piece.is_empty() {
                return Ok(Some((piece, held)));
            }
        }
        Ok(None)
    }

    /// Fetches and parses from `position`; returns payloads, bytes fetched, and the position after the last whole frame.
    async fn piece(&self) -> Result<(Piece, usize, u64), EngineError> {
        let mut want = self.fetch_bytes_max.min(self.split.end - self.position).max(frame::HEADER_BYTES as u64);
        loop {
            let end = self.position + want;
            if end > self.extent.end {
                let why = format!("the frame at byte {} reaches beyond its extent's end {}", self.position, self.extent.end);
                return Err(EngineError::input(&self.extent.key, why));
            }
            let bytes = self.fetch(self.position, end).await?;
            match self.parse(&bytes)? {
                Parsed::Frames(piece, next) => return Ok((piece, bytes.len(), next)),
                Parsed::More(bytes) => want = bytes,
            }
        }
    }

    async fn fetch(&self, start: u64, end: u64) -> Result<Bytes, EngineError> {
        // Boxed: the compiler can't see through the store's nested futures that a stream of them may change threads.
        let fetching: BoxFuture<'_, Result<Bytes, StoreError>> = Box::pin(self.objects.get_range(&self.extent.key, start..end));
        let bytes = fetching.await.map_err(|error: StoreError| EngineError::of_store(&self.extent.key, error))?;
        count_read(&self.bytes_read, bytes.len());
        Ok(bytes)
    }

    fn parse(&self, bytes: &Bytes) -> Result<Parsed, EngineError> {
        let damaged = |at: u64, error: tailors_format::FormatError| EngineError::input(&self.extent.key, format!("byte {at}: {error}"));
        let (mut piece, mut at, mut last) = (Piece::new(), 0usize, self.last_offset);
        loop {
            let position = self.position + at as u64;
            let rest = &bytes[at..];
            if position >= self.split.end {
                return Ok(Parsed::Frames(piece, position));
            }
            let need = if rest.len() < frame::HEADER_BYTES {
                frame::HEADER_BYTES
            } else {
                frame::peek_len(rest).map_err(|error| damaged(position, error))?
            };
            if need > rest.len() || rest.len() < frame::HEADER_BYTES {
                return Ok(if at == 0 { Parsed::More(need as u64) } else { Parsed::Frames(piece, position) });
            }
            let (frame, used) = frame::decode(rest).map_err(|error| damaged(position, error))?;
            self.check(&frame, last, position)?;
            last = Some(frame.offset);
            if position >= self.split.start {
                piece.push((frame.offset, bytes.slice_ref(frame.payload)));
            }
            at += used;
        }
    }

    /// A whole frame must also be one that belongs here.
    fn check(&self, frame: &frame::Frame<'_>, last: Option<u64>, position: u64) -> Result<(), EngineError> {
        let extent = &self.extent;
        let here = (frame.epoch, frame.partition) == (extent.epoch, extent.partition);
        let inside = (extent.offset_start..extent.offset_end).contains(&frame.offset) && last.is_none_or(|last| last < frame.offset);
        if here && inside {
            return Ok(());
        }
        let (epoch, partition, offset) = (frame.epoch, frame.partition, frame.offset);
        let why = format!("byte {position}: the frame of {epoch}/{partition}/{offset} does not belong to this extent");
        Err(EngineError::input(&extent.key, why))
    }
}
