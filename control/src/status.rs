//! `status --json`: fields as interfaces.md A lists them.

use std::sync::Arc;

use tailors_format::doc::{ManifestFile, SealKind};
use tailors_model::{ShardId, Window};
use tailors_store::routes;

use crate::day;
use crate::plan::{self, ShardInput, Step};
use crate::seal::new_points;
use crate::state::State;
use crate::{Control, ControlError};

/// The whole answer.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Status {
    /// Every record received before this is in the chain, Unix milliseconds.
    pub captured_to_ms: i64,
    /// One row per window and shard with points, in order.
    pub windows: Vec<WindowStatus>,
}

/// Seal of a row.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct SealStatus {
    /// Number.
    pub k: u32,
    /// Kind.
    pub kind: SealKind,
}

/// Where a window of a shard stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WindowState {
    /// It has points, and no seal below which they lie.
    Open,
    /// A seal waits for a build.
    Sealed,
    /// A job runs.
    Building,
    /// The newest seal is built.
    Built,
    /// Its job failed too often.
    Parked,
}

/// One window of one shard.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct WindowStatus {
    /// Start, RFC 3339.
    pub window: String,
    /// Shard.
    pub shard: ShardId,
    /// Newest seal; null without one.
    pub seal: Option<SealStatus>,
    /// Current generation; null without one.
    pub generation: Option<u32>,
    /// Points of the current generation, after P4.
    pub points: u64,
    /// Points that lost to another of their series and timestamp.
    pub duplicates: u64,
    /// Points that came after the closed seal; a part of those read.
    pub late: u64,
    /// Points that could not be decoded or lie outside what was admitted.
    pub corrupt: u64,
    /// Latest point, Unix milliseconds; null without one.
    pub max_timestamp_ms: Option<i64>,
    /// Bytes of the files of the current manifest; of a day's file its part by points.
    pub bytes: u64,
    /// Whether its points lie in a day's file.
    #[serde(default)]
    pub in_day_file: bool,
    /// `bytes / points`; null without points.
    pub bytes_per_point: Option<f64>,
    /// Where it stands.
    pub state: WindowState,
    /// Seconds since the oldest captured point was received that no generation holds; 0 when all are held.
    pub lag_s: i64,
}

impl Control {
    /// The status of every window with points.
    ///
    /// # Errors
    /// Store and log errors.
    pub async fn status(&self) -> Result<Status, ControlError> {
        let mut state = self.0.state.lock().await;
        self.refresh(&mut state).await?;
        let now_ms = self.deps().clock.now_ms();
        let captured_to_ms = self.captured_to_ms(&state, now_ms).await?;
        let table = Arc::new(routes::newest(&self.deps().objects).await?);
        let mut windows = Vec::new();
        // All settled ones first: the windows of a day share its file.
        for window in state.chain.windows() {
            state.update_facts(window);
            for shard in settled_shards(&state, window).unwrap_or_default() {
                state.load_shard(&self.deps().objects, window, shard).await?;
            }
        }
        for window in state.chain.windows() {
            if let Some(shards) = settled_shards(&state, window) {
                // Its nodes may be forgotten, and nothing of it is open.
                for shard in shards {
                    windows.extend(row(&state, (window, shard), WindowState::Built, 0));
                }
                continue;
            }
            state.chain.recall(&self.deps().objects, window, None).await?;
            let captured = plan::below(&state.chain, &table, window, None);
            let newest = state.windows.get(&window).and_then(|rec| rec.newest.as_ref());
            let sealed = newest.map(|newest| plan::below(&state.chain, &table, window, Some(newest)));
            for (shard, input) in &captured.shards {
                state.load_shard(&self.deps().objects, window, *shard).await?;
                let sealed = sealed.as_ref().and_then(|sealed| sealed.shards.get(shard));
                let at = (window, *shard);
                windows.extend(state_of(&state, at, sealed).and_then(|word| row(&state, at, word, lag_s(&state, at, input, now_ms))));
            }
        }
        Ok(Status { captured_to_ms, windows })
    }

    /// Now, when the chain is at the log's ends; else what the partition furthest behind has committed.
    pub(crate) async fn captured_to_ms(&self, state: &State, now_ms: i64) -> Result<i64, ControlError> {
        let log = &self.deps().log;
        let mut captured_to_ms = now_ms;
        for partition in 0..log.partitions() {
            let head = state.chain.head(log.epoch(), partition).unwrap_or(0);
            let bounds = log.bounds(partition).await?;
            if head < bounds.end && bounds.end > bounds.start {
                let last = state.chain.last_received_ms(log.epoch(), partition);
                captured_to_ms = captured_to_ms.min(last.or(state.created_ms).unwrap_or(0));
            }
        }
        Ok(captured_to_ms)
    }
}

/// The shards of a window of which nothing is open: its newest seal has its done mark, and no point lies behind it.
fn settled_shards(state: &State, window: Window) -> Option<Vec<ShardId>> {
    let rec = state.windows.get(&window).filter(|rec| rec.settled && rec.new.is_none())?;
    let newest = rec.newest.as_ref()?;
    rec.done.contains(&newest.k).then(|| rec.listed.iter().copied().collect())
}

/// One row; none for a shard that was not read.
fn row(state: &State, at: (Window, ShardId), word: WindowState, lag_s: i64) -> Option<WindowStatus> {
    let rec = state.windows.get(&at.0)?;
    let known = rec.shards.get(&at.1)?;
    let base = plan::base(&known.decided);
    let counts = base.map(|base| base.counts).unwrap_or_default();
    let bytes = base.map_or(0, |base| base.files.iter().map(|file| share(state, at, file)).sum());
    Some(WindowStatus {
        window: rfc3339(at.0.start_ms()),
        shard: at.1,
        seal: rec.newest.as_ref().map(|seal| SealStatus { k: seal.k, kind: seal.kind }),
        generation: base.map(|base| base.g),
        points: counts.written,
        duplicates: counts.duplicates,
        late: counts.late,
        corrupt: counts.corrupt,
        max_timestamp_ms: base.and_then(|base| base.max_timestamp_ms),
        bytes,
        in_day_file: base.is_some_and(day::is_day_generation),
        bytes_per_point: (counts.written > 0).then(|| bytes as f64 / counts.written as f64),
        state: word,
        lag_s,
    })
}

/// Bytes of a file that are this window's: a day file's are shared out by points over the windows that name it.
fn share(state: &State, (window, shard): (Window, ShardId), file: &ManifestFile) -> u64 {
    let points: u64 = day::shard_recs(state, window.first_of_day(), shard)
        .filter_map(|(_, rec)| rec.decided.iter().rev().flat_map(|manifest| &manifest.files).find(|other| other.key == file.key))
        .map(|other| other.points)
        .sum();
    let share = u128::from(file.bytes) * u128::from(file.points) / u128::from(points.max(1));
    u64::try_from(share).unwrap_or(u64::MAX)
}

fn state_of(state: &State, at: (Window, ShardId), sealed: Option<&ShardInput>) -> Option<WindowState> {
    let rec = state.windows.get(&at.0)?;
    let known = rec.shards.get(&at.1)?;
    if known.job.running {
        return Some(WindowState::Building);
    }
    if known.job.parked.is_some() {
        return Some(WindowState::Parked);
    }
    let Some(newest) = &rec.newest else { return Some(WindowState::Open) };
    // Its points lie beyond the seal.
    let Some(sealed) = sealed else { return Some(WindowState::Open) };
    let closed_k = rec.closed().map(|seal| seal.k);
    let satisfied = plan::step(newest, closed_k, &known.decided, known.base_digest(), &sealed.digest) == Step::Satisfied;
    let visible = plan::base(&known.decided).is_some_and(|base| state.feed.holds(at.1, at.0, base.g));
    Some(if satisfied && visible && state.chain.reached(newest) { WindowState::Built } else { WindowState::Sealed })
}

/// Age of the oldest captured point that the current generation does not hold.
fn lag_s(state: &State, at: (Window, ShardId), captured: &ShardInput, now_ms: i64) -> i64 {
    let Some(rec) = state.windows.get(&at.0) else { return 0 };
    let held = rec.shards.get(&at.1).and_then(|known| known.base_digest());
    if held == Some(captured.digest.as_str()) {
        return 0;
    }
    let base_k = rec.shards.get(&at.1).and_then(|known| plan::base(&known.decided)).map(|base| base.k);
    let base_seal = base_k.and_then(|k| rec.seals.get(&k));
    new_points(&state.chain, at.0, base_seal).map_or(0, |new| (now_ms - new.first_received_ms).max(0) / 1_000)
}

/// RFC 3339 in UTC, whole seconds.
pub(crate) fn rfc3339(time_ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(time_ms);
    time.map_or_else(|| time_ms.to_string(), |time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
}
