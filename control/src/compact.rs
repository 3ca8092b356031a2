//! `tailors compact`: a day put into one file by hand, by the same path as the loop, without its wait.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tailors_format::doc::{ManifestDoc, ManifestFile};
use tailors_model::{ShardId, Window};

use crate::state::{Job, State};
use crate::status::rfc3339;
use crate::{Control, ControlError, day, plan};

/// Pause between two looks at a day whose job waits out a backoff.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// One shard of `tailors compact`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct CompactedShard {
    /// Shard.
    pub shard: ShardId,
    /// Windows with points.
    pub windows: usize,
    /// Their points.
    pub points: u64,
    /// Files that they name now, each counted once.
    pub files: usize,
    /// Bytes of those.
    pub bytes: u64,
    /// Files before this call.
    pub files_before: usize,
    /// Bytes of those.
    pub bytes_before: u64,
}

/// What became of `tailors compact`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct CompactOutcome {
    /// Every shard with points.
    pub shards: Vec<CompactedShard>,
    /// Sentences for people.
    pub message: Vec<String>,
}

impl Control {
    /// Puts each shard's windows of a day into one file, or joins the job that does; returns when all are published and in the feed. A parked job is
    /// tried again, and so are inputs that could not be read before.
    ///
    /// # Errors
    /// `DayOpen` when a window of it has points that are not built on a closed seal, `Parked` with the last failure.
    pub async fn compact_day(&self, day: Window, only: Option<ShardId>) -> Result<CompactOutcome, ControlError> {
        let day = day.first_of_day();
        let mut before: BTreeMap<ShardId, (usize, u64)> = BTreeMap::new();
        let mut started: BTreeSet<ShardId> = BTreeSet::new();
        // What is acknowledged but not captured yet counts as well.
        self.flush().await?;
        loop {
            let ended = self.0.job_ended.notified();
            let mut state = self.0.state.lock().await;
            self.refresh(&mut state).await?;
            for window in day.day() {
                state.load(&self.deps().objects, window).await?;
                for shard in state.windows.get(&window).map(|rec| rec.listed.clone()).unwrap_or_default() {
                    state.load_shard(&self.deps().objects, window, shard).await?;
                }
                state.unsettle_unfed(window);
                state.update_facts(window);
                // What was just built by hand may still want its done mark.
                self.advance(&mut state, window, false).await?;
            }
            let shards: Vec<ShardId> =
                day::shards_of(&state, day).into_iter().filter(|shard| only.is_none_or(|only| only == *shard)).collect();
            if shards.is_empty() && day.day().iter().any(|window| state.chain.points(*window) > 0) {
                let why = self.why_not(&state, day, self.deps().clock.now_ms()).unwrap_or_else(|| "no shard has points of it".to_owned());
                return Err(ControlError::DayOpen { day: rfc3339(day.start_ms()), why });
            }
            let mut is_waiting = false;
            for shard in &shards {
                for window in day.day() {
                    state.load_shard(&self.deps().objects, window, *shard).await?;
                    if !started.contains(shard) {
                        unpark(&mut state, window, *shard);
                    }
                }
                before.entry(*shard).or_insert_with(|| (files(&state, day, *shard).len(), bytes(&state, day, *shard)));
                is_waiting |= self.compact_step(&mut state, (day, *shard), &mut started).await?;
            }
            if is_waiting {
                drop(state);
                // Ends of jobs and ticks of the loop wake this; the pause is for jobs that wait out a backoff.
                let _ = tokio::time::timeout(LOOK_AGAIN, ended).await;
                continue;
            }
            let rows = shards.iter().map(|shard| row(&state, day, *shard, before.get(shard).copied().unwrap_or_default()));
            let shards: Vec<CompactedShard> = rows.collect();
            return Ok(CompactOutcome { message: message(day, &shards), shards });
        }
    }

    /// One look at a shard: true while something of it runs or waits.
    async fn compact_step(&self, state: &mut State, at: (Window, ShardId), started: &mut BTreeSet<ShardId>) -> Result<bool, ControlError> {
        let now_ms = self.deps().clock.now_ms();
        let parked = day::shard_recs(state, at.0, at.1).find_map(|(window, rec)| Some((window, rec.job.parked.clone()?)));
        if let Some((window, parked)) = parked {
            return Err(ControlError::Parked { window, shard: at.1, why: parked.why });
        }
        if day::shard_recs(state, at.0, at.1).any(|(_, rec)| rec.job.running) {
            return Ok(true);
        }
        let is_open = day::shard_recs(state, at.0, at.1).any(|(_, rec)| rec.plan.is_some());
        let cancelled = !is_open
            && started.contains(&at.1)
            && day::shard_recs(state, at.0, at.1)
                .any(|(_, rec)| rec.decided.last().is_some_and(|last| last.reason.as_deref() == Some(day::CANCELLED)));
        if cancelled {
            return Err(ControlError::DayOpen {
                day: rfc3339(at.0.start_ms()),
                why: "one of its files can't be read; the server's log names it, and tailors build --window makes it anew".to_owned(),
            });
        }
        if !is_open && day::worth_it(state, at).is_none() {
            return Ok(false);
        }
        if let Some(why) = self.why_not(state, at.0, now_ms) {
            return Err(ControlError::DayOpen { day: rfc3339(at.0.start_ms()), why });
        }
        let waits = day::shard_recs(state, at.0, at.1).any(|(_, rec)| now_ms < rec.job.not_before_ms);
        if !waits && self.running() < self.deps().settings.build_concurrency {
            started.insert(at.1);
            self.start_day(state, at).await?;
        }
        Ok(true)
    }
}

fn unpark(state: &mut State, window: Window, shard: ShardId) {
    let rec = state.windows.get_mut(&window).and_then(|rec| rec.shards.get_mut(&shard));
    if let Some(rec) = rec.filter(|rec| rec.job.parked.is_some()) {
        rec.job = Job::default();
    }
}

fn bases(state: &State, day: Window, shard: ShardId) -> impl Iterator<Item = &ManifestDoc> {
    day::shard_recs(state, day, shard).filter_map(|(_, rec)| plan::base(&rec.decided)).filter(|base| !base.files.is_empty())
}

/// Files of the current generations, each once.
fn files(state: &State, day: Window, shard: ShardId) -> BTreeMap<&str, &ManifestFile> {
    bases(state, day, shard).flat_map(|base| &base.files).map(|file| (file.key.as_str(), file)).collect()
}

fn bytes(state: &State, day: Window, shard: ShardId) -> u64 {
    files(state, day, shard).values().map(|file| file.bytes).sum()
}

fn row(state: &State, day: Window, shard: ShardId, (files_before, bytes_before): (usize, u64)) -> CompactedShard {
    CompactedShard {
        shard,
        windows: bases(state, day, shard).count(),
        points: bases(state, day, shard).map(|base| base.counts.written).sum(),
        files: files(state, day, shard).len(),
        bytes: bytes(state, day, shard),
        files_before,
        bytes_before,
    }
}

fn message(day: Window, shards: &[CompactedShard]) -> Vec<String> {
    let start = rfc3339(day.start_ms());
    let date = start.split('T').next().unwrap_or(&start);
    if shards.is_empty() {
        return vec![format!("day {date} has no points; there is nothing to compact")];
    }
    let sentence = |row: &CompactedShard| {
        let CompactedShard { shard, windows, points, files, bytes, files_before, bytes_before } = row;
        let head = format!("day {date} of {shard}: {windows} window(s), {points} points");
        if (files, bytes) == (files_before, bytes_before) {
            return format!("{head}, {files} file(s) of {bytes} bytes; nothing to gain");
        }
        format!("{head}, {files_before} file(s) of {bytes_before} bytes became {files} of {bytes}")
    };
    shards.iter().map(sentence).collect()
}
