//! Deleting superseded generations and orphaned attempts (protocol.md 2.5): proof first, then `gone`, then the pins, then the files.
//!
//! Raw files and current generations are never touched here. A day's file belongs to six windows: it goes when none of them names it and none has an
//! open day plan, because all plans of an attempt stand before its file is made.

use std::collections::BTreeSet;

use tailors_format::doc::{FileRole, GoneDoc, ManifestDoc, ManifestKind, PlanReason};
use tailors_format::key;
use tailors_model::{ShardId, Window};
use tailors_store::{StoreError, manifests, pins};

use crate::day;
use crate::state::{ShardRec, State};
use crate::{Control, ControlError, plan};

/// Milliseconds between two sweeps.
const SWEEP_EVERY_MS: i64 = 60_000;
/// Generations looked at in one sweep, so that a tick stays short.
const SWEEP_GENERATIONS: usize = 64;

/// A decided generation whose files may go.
struct Candidate {
    at: (Window, ShardId),
    g: u32,
    /// Newest published generation; for a tombstone it only says why.
    superseded_by: u32,
    /// Feed number of the later publication that the grace counts from; none for a tombstone, which no reader ever saw.
    since_seq: Option<u64>,
    published: bool,
    /// A generation of its window lies in a day's file, or was to.
    is_of_day: bool,
}

impl Control {
    /// Deletes what is due, at most once a minute.
    pub(crate) async fn sweep(&self, state: &mut State) -> Result<(), ControlError> {
        let now_ms = self.deps().clock.now_ms();
        if state.swept_ms.is_some_and(|swept| (0..SWEEP_EVERY_MS).contains(&(now_ms - swept))) {
            return Ok(());
        }
        state.swept_ms = Some(now_ms);
        self.sweep_orphans(state).await?;
        for candidate in candidates(state).into_iter().take(SWEEP_GENERATIONS) {
            if self.grace_is_over(&candidate).await? && self.delete(state, &candidate).await? {
                if candidate.is_of_day {
                    state.day_sweeps.insert((candidate.at.0.first_of_day(), candidate.at.1));
                }
                let rec = state.windows.get_mut(&candidate.at.0).and_then(|rec| rec.shards.get_mut(&candidate.at.1));
                rec.into_iter().for_each(|rec| {
                    rec.swept.insert(candidate.g);
                });
            }
        }
        self.sweep_days(state).await
    }

    /// Looks for files in the days that were touched.
    async fn sweep_days(&self, state: &mut State) -> Result<(), ControlError> {
        let due: Vec<(Window, ShardId)> = state.day_sweeps.iter().copied().take(SWEEP_GENERATIONS).collect();
        for at in due {
            let is_done = match self.sweep_day(state, at).await {
                // Nothing of a day with a damaged document is deleted, and it never stops the others; looked at again after a restart.
                Err(ControlError::Store(error @ StoreError::Data { .. })) => {
                    tracing::error!(day = %at.0, shard = %at.1, %error, "a document of this day is damaged; its files stay");
                    true
                }
                looked => looked?,
            };
            if is_done {
                state.day_sweeps.remove(&at);
            }
        }
        Ok(())
    }

    /// Deletes files of a day that no live manifest names. False: an open day plan or a pin holds them for now.
    async fn sweep_day(&self, state: &mut State, (day, shard): (Window, ShardId)) -> Result<bool, ControlError> {
        let objects = &self.deps().objects;
        // Listed before the plans are looked at: the plans of a file in this list stand already, so if none of them is open now, none can name it later.
        let listed = objects.list(&key::day_chunks(shard, day)).await?;
        let bases = day::shard_recs(state, day, shard).filter_map(|(_, rec)| plan::base(&rec.decided));
        let in_use: BTreeSet<&String> = bases.flat_map(|base| &base.files).map(|file| &file.key).collect();
        if listed.iter().all(|file| in_use.contains(file)) {
            // So it is with most days after a restart: one request each.
            return Ok(true);
        }
        for window in day.day() {
            state.load(objects, window).await?;
            state.load_shard(objects, window, shard).await?;
            state.read_on_shard(objects, window, shard).await?;
        }
        let is_open = |rec: &ShardRec| rec.job.running || rec.plan.as_ref().is_some_and(|plan| plan.reason == PlanReason::Day);
        if day::shard_recs(state, day, shard).any(|(_, rec)| is_open(rec)) {
            return Ok(false);
        }
        let mut live: BTreeSet<String> = BTreeSet::new();
        for (window, rec) in day::shard_recs(state, day, shard) {
            for manifest in rec.decided.iter().filter(|manifest| day::is_day_generation(manifest)) {
                if !rec.swept.contains(&manifest.g) && manifests::gone(objects, shard, window, manifest.g).await?.is_none() {
                    live.extend(manifest.files.iter().map(|file| file.key.clone()));
                }
            }
        }
        let dead: Vec<&String> = listed.iter().filter(|file| !live.contains(*file)).collect();
        if dead.is_empty() {
            return Ok(true);
        }
        if pins::any(objects, self.deps().store_clock.now_ms()).await? {
            return Ok(false);
        }
        for file in &dead {
            objects.delete(file).await?;
        }
        metrics::counter!("tailors_control_files_deleted_total").increment(dead.len() as u64);
        tracing::info!(%day, %shard, deleted = dead.len(), "day files that no window uses any more deleted");
        Ok(true)
    }

    /// Files of attempts at a published generation that its manifest does not name: what a killed process left. Nobody ever saw them.
    async fn sweep_orphans(&self, state: &mut State) -> Result<(), ControlError> {
        let objects = &self.deps().objects;
        let (mut left, mut days) = (SWEEP_GENERATIONS, Vec::new());
        for (window, rec) in &mut state.windows {
            for (shard, known) in rec.shards.iter_mut().filter(|(_, known)| !known.attempted.is_empty()) {
                for manifest in known.decided.iter().filter(|manifest| manifest.kind == ManifestKind::Published) {
                    if left == 0 {
                        break;
                    }
                    if !known.attempted.remove(&manifest.g) {
                        continue;
                    }
                    left -= 1;
                    if day::is_day_generation(manifest) {
                        days.push((window.first_of_day(), *shard));
                    }
                    let named: BTreeSet<&str> = manifest.files.iter().map(|file| file.key.as_str()).collect();
                    let stored = objects.list(&key::chunks(*shard, *window, manifest.g)).await?;
                    for orphan in stored.iter().filter(|file| !named.contains(file.as_str())) {
                        objects.delete(orphan).await?;
                        metrics::counter!("tailors_control_files_deleted_total").increment(1);
                    }
                }
            }
        }
        state.day_sweeps.extend(days);
        Ok(())
    }

    /// Counted from the store's own time of the feed entry, by the store's clock: a manifest may be far older than its entry.
    async fn grace_is_over(&self, candidate: &Candidate) -> Result<bool, ControlError> {
        let Some(seq) = candidate.since_seq else { return Ok(true) };
        let entered_ms = self.deps().objects.last_modified_ms(&key::feed(seq)).await?;
        let grace_ms = (self.deps().settings.reader_grace_s * 1_000) as i64;
        Ok(entered_ms.is_some_and(|entered| self.deps().store_clock.now_ms() - entered >= grace_ms))
    }

    /// `gone` first, then a look at the pins, then the files that no live manifest names. False: a pin holds them for now.
    async fn delete(&self, state: &State, candidate: &Candidate) -> Result<bool, ControlError> {
        let objects = &self.deps().objects;
        let (window, shard) = candidate.at;
        let Some(rec) = state.windows.get(&window).and_then(|rec| rec.shards.get(&shard)) else { return Ok(false) };
        if candidate.published {
            manifests::put_gone(objects, shard, window, candidate.g, &GoneDoc { superseded_by: candidate.superseded_by }).await?;
        }
        if pins::any(objects, self.deps().store_clock.now_ms()).await? {
            return Ok(false);
        }
        let mut files: BTreeSet<String> = objects.list(&key::chunks(shard, window, candidate.g)).await?.into_iter().collect();
        let own = rec.decided.iter().filter(|manifest| manifest.g == candidate.g);
        files.extend(own.flat_map(window_files));
        let live = live_files(rec, candidate.g);
        let mut deleted = 0u64;
        for file in files.difference(&live) {
            objects.delete(file).await?;
            deleted += 1;
        }
        if deleted > 0 {
            metrics::counter!("tailors_control_files_deleted_total").increment(deleted);
            tracing::info!(%window, %shard, g = candidate.g, deleted, "files of a superseded or cancelled generation deleted");
        }
        Ok(true)
    }
}

/// Generations that a later published one in the feed replaces, and tombstoned ones.
fn candidates(state: &State) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (window, rec) in &state.windows {
        for (shard, known) in &rec.shards {
            let published = known.decided.iter().filter(|manifest| manifest.kind == ManifestKind::Published);
            let in_feed: Vec<(u32, u64)> =
                published.filter_map(|manifest| Some((manifest.g, state.feed.seq_of(*shard, *window, manifest.g)?))).collect();
            let Some(newest) = in_feed.last().map(|(g, _)| *g) else { continue };
            // Whichever of them made way for it: a killed attempt's file is in no manifest, and a later process knows of it by nothing else.
            let is_of_day = known.decided.iter().any(day::is_of_day);
            for manifest in known.decided.iter().filter(|manifest| !known.swept.contains(&manifest.g)) {
                let published = manifest.kind == ManifestKind::Published;
                let since_seq = in_feed.iter().find(|(g, _)| *g > manifest.g).map(|(_, seq)| *seq);
                if !published || since_seq.is_some() {
                    let since_seq = since_seq.filter(|_| published);
                    found.push(Candidate { at: (*window, *shard), g: manifest.g, superseded_by: newest, since_seq, published, is_of_day });
                }
            }
        }
    }
    found
}

/// Files of a generation that are its window's alone.
fn window_files(manifest: &ManifestDoc) -> impl Iterator<Item = String> {
    manifest.files.iter().filter(|file| file.role != FileRole::Day).map(|file| file.key.clone())
}

/// Files that live manifests name: published ones but for `g` and those whose `gone` stands.
fn live_files(rec: &ShardRec, g: u32) -> BTreeSet<String> {
    let live = rec.decided.iter().filter(|manifest| manifest.kind == ManifestKind::Published);
    let live = live.filter(|manifest| manifest.g != g && !rec.swept.contains(&manifest.g));
    live.flat_map(|manifest| manifest.files.iter().map(|file| file.key.clone())).collect()
}
