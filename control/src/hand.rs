//! What people ask for by hand: seal, build, flush.

use tailors_format::doc::SealDoc;
use tailors_model::{ShardId, Window};

use crate::{Control, ControlError};

/// What became of `tailors seal`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct SealOutcome {
    /// The seal that counts now; none for a window without points.
    pub seal: Option<SealDoc>,
    /// Whether this call wrote it (else it stood already).
    pub written: bool,
    /// Points of the window that the chain counts below the seal, before duplicates are removed.
    pub points_hint: u64,
    /// When the window closes, Unix milliseconds (C(W)).
    pub closes_at_ms: i64,
    /// Sentences for people, in order: what was declared and what it means.
    pub message: Vec<String>,
}

/// One shard of `tailors build`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct BuiltShard {
    /// Shard.
    pub shard: ShardId,
    /// Generation that is visible now.
    pub generation: u32,
    /// Its points.
    pub points: u64,
    /// Whether this call had it built (or waited for the job that did).
    pub built: bool,
}

/// What became of `tailors build`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct BuildOutcome {
    /// Seal it was built on; none for a window without points.
    pub seal: Option<SealDoc>,
    /// Every shard with points.
    pub shards: Vec<BuiltShard>,
    /// Sentences for people.
    pub message: Vec<String>,
}

impl Control {
    /// Declares the window's data so far and waits until it is buildable. Idempotent: with nothing new in the log the newest seal is returned.
    ///
    /// # Errors
    /// `Timeout` when capture does not reach the seal; store and log errors.
    pub async fn seal_by_hand(&self, window: Window) -> Result<SealOutcome, ControlError> {
        let _ = window;
        todo!()
    }

    /// Builds what the newest seal of the window asks for, or joins the job that does; returns when the generation is published and in the feed.
    /// A parked job is tried again.
    ///
    /// # Errors
    /// `NoSeal` for points without a seal, `Parked` with the last failure.
    pub async fn build_window(&self, window: Window, shard: Option<ShardId>) -> Result<BuildOutcome, ControlError> {
        let _ = (window, shard);
        todo!()
    }

    /// Has capture commit everything the log holds now and waits for it.
    ///
    /// # Errors
    /// `Timeout` when capture does not get there.
    pub async fn flush(&self) -> Result<(), ControlError> {
        todo!()
    }
}
