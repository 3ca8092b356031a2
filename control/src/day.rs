//! Day files (rfcs/0003): which day of which shard is due, the plans of its windows, and what becomes of an attempt at its file.
//!
//! Invariants: all plans of an attempt stand before its file is made; a window's plan has its base's k, nodes and quarantine, so its points are
//! those of the base; the inputs in the plans decide the bytes, so whose file a manifest names makes no difference.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::PoisonError;

use futures::FutureExt;
use tailors_format::chunk::ENCODER_VERSION;
use tailors_format::doc::{FeedDoc, FileRole, JobDoc, ManifestDoc, ManifestFile, ManifestKind, PlanDoc, PlanReason};
use tailors_format::key;
use tailors_model::{ShardId, Window};
use tailors_store::manifests::{self, PutManifest};
use tailors_store::{PutDoc, StoreError, feed, plans};

use crate::job::{DayJob, JobError};
use crate::jobs::{check_order, may_try};
use crate::plan;
use crate::state::State;
use crate::{Control, ControlError, seal};

/// Milliseconds between two looks for days that are due.
const LOOK_EVERY_MS: i64 = 10_000;
/// Longest wait after a publication, milliseconds, unless the setting is longer.
const WAIT_MAX_MS: i64 = 86_400_000;
/// Reason of the tombstone of a day plan whose inputs can't be read.
pub(crate) const CANCELLED: &str = "day input";
/// Reason of the tombstone of a day plan that asks for an older encoder than this one: its day is planned anew.
const OLDER_ENCODER: &str = "day encoder";

/// What is known of a day of a shard that is not in one file.
#[derive(Clone, Debug)]
pub(crate) struct DayRec {
    /// The generations that this was found out of.
    inputs: Vec<(i64, u32)>,
    /// When it is due by the store's clock, Unix milliseconds; none when its inputs can't be read: by hand only.
    due_ms: Option<i64>,
}

impl Control {
    /// Starts what is due: open day plans first, then, while nothing else is to be built, the newest day that was left alone long enough.
    pub(crate) async fn advance_days(&self, state: &mut State) -> Result<(), ControlError> {
        let settings = &self.deps().settings;
        if !settings.build_enabled || self.running() >= settings.build_concurrency {
            return Ok(());
        }
        let now_ms = self.deps().clock.now_ms();
        if let Some(at) = open_day_plan(state, now_ms) {
            return self.start_or_wait(state, at).await;
        }
        let looked = state.days_looked_ms.is_some_and(|looked| (0..LOOK_EVERY_MS).contains(&(now_ms - looked)));
        let is_busy = self.running() > 0 || state.windows.values().any(|rec| rec.outstanding());
        if settings.day_after_s == 0 || looked || is_busy {
            return Ok(());
        }
        state.days_looked_ms = Some(now_ms);
        let days: BTreeSet<Window> = state.windows.keys().map(|window| window.first_of_day()).collect();
        for day in days.into_iter().rev() {
            if self.why_not(state, day, now_ms).is_some() {
                continue;
            }
            for shard in shards_of(state, day) {
                // One day's damage never stops the others; it is said once, and looked at again when its inputs change or after a restart.
                let started = match self.is_due(state, (day, shard)).await {
                    Ok(false) => continue,
                    Ok(true) => self.start_or_wait(state, (day, shard)).await,
                    Err(error) => Err(error),
                };
                match started {
                    Err(ControlError::Store(error @ StoreError::Data { .. })) => {
                        tracing::error!(%day, %shard, %error, "a document of this day is damaged; it stays in window files");
                        let inputs = worth_it(state, (day, shard)).unwrap_or_default();
                        state.days.insert((day, shard), DayRec { inputs, due_ms: None });
                    }
                    other => return other,
                }
            }
        }
        Ok(())
    }

    /// Starts a day; when that fails, its open plans wait out a backoff, so that those of other days have their turn.
    async fn start_or_wait(&self, state: &mut State, (day, shard): (Window, ShardId)) -> Result<(), ControlError> {
        let started = self.start_day(state, (day, shard)).await;
        if let Err(error) = &started
            && !error.is_fatal()
        {
            let is_open = |rec: &crate::state::ShardRec| rec.plan.as_ref().is_some_and(|plan| plan.reason == PlanReason::Day);
            let open: Vec<Window> =
                shard_recs(state, day, shard).filter(|(_, rec)| is_open(rec) && !rec.job.running).map(|(window, _)| window).collect();
            open.into_iter().try_for_each(|window| self.retry_later(state, (window, shard), error.to_string()))?;
        }
        started
    }

    /// Why a day can't be put into one file now, as a sentence for people; nothing is read.
    pub(crate) fn why_not(&self, state: &State, day: Window, now_ms: i64) -> Option<String> {
        let closes_ms = seal::closes_at_ms(&self.deps().settings, day.day()[5]);
        if now_ms < closes_ms {
            return Some(format!("the day's last window closes at {}", crate::status::rfc3339(closes_ms)));
        }
        let open = day.day().into_iter().find(|window| {
            let Some(rec) = state.windows.get(window) else { return false };
            let is_sealed = rec.newest.as_ref().is_none_or(|newest| newest.kind.is_complete() && rec.settled);
            !is_sealed || rec.new.is_some()
        });
        open.map(|window| {
            let start = crate::status::rfc3339(window.start_ms());
            format!("window {start} has points that are not built on a closed seal; tailors seal --window {start}, then tailors build")
        })
    }

    /// Whether a day is worth one file and was left alone for long enough; false where that is not known yet.
    async fn is_due(&self, state: &mut State, at: (Window, ShardId)) -> Result<bool, ControlError> {
        let Some(inputs) = worth_it(state, at) else { return Ok(false) };
        if state.days.get(&at).is_none_or(|known| known.inputs != inputs) {
            let due_ms = self.due_ms(state, at, &inputs).await?;
            state.days.insert(at, DayRec { inputs, due_ms });
        }
        let due_ms = state.days.get(&at).and_then(|known| known.due_ms);
        Ok(due_ms.is_some_and(|due_ms| self.deps().store_clock.now_ms() >= due_ms))
    }

    /// When a day is due, by the store's own time of the newest feed entry of its windows.
    async fn due_ms(&self, state: &State, (day, shard): (Window, ShardId), inputs: &[(i64, u32)]) -> Result<Option<i64>, ControlError> {
        let objects = &self.deps().objects;
        let (mut newest, mut before) = (0, 0);
        for (window, rec) in shard_recs(state, day, shard) {
            let Some(base) = plan::base(&rec.decided) else { continue };
            newest = newest.max(state.feed.seq_of(shard, window, base.g).unwrap_or(0));
            before = before.max(rec.decided.iter().filter(|manifest| is_day_generation(manifest)).count());
            if let Some(last) = rec.decided.last().filter(|last| last.reason.as_deref() == Some(CANCELLED)) {
                let cancelled = plans::get(objects, shard, window, last.g).await?;
                if cancelled.is_some_and(|plan| plan.day == inputs) {
                    return Ok(None);
                }
            }
        }
        let entered_ms = objects.last_modified_ms(&key::feed(newest)).await?.unwrap_or(0);
        let after_ms = i64::try_from(self.deps().settings.day_after_s.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let wait_ms = after_ms.saturating_mul(1 << before.min(16)).min(WAIT_MAX_MS.max(after_ms));
        Ok(Some(entered_ms.saturating_add(wait_ms)))
    }

    /// Plans what is not planned yet, and starts the job for all plans of one set of inputs; nothing when there is none.
    pub(crate) async fn start_day(&self, state: &mut State, (day, shard): (Window, ShardId)) -> Result<(), ControlError> {
        let objects = self.deps().objects.clone();
        for window in day.day() {
            state.load(&objects, window).await?;
            state.load_shard(&objects, window, shard).await?;
            // What others decided since: a plan on an old base would never be published.
            state.read_on_shard(&objects, window, shard).await?;
        }
        if self.cancel_older(state, (day, shard)).await? {
            // What is left of the day is due by the rules for any other, of inputs that name what the older encoder published.
            return Ok(());
        }
        // Plans of two sets of inputs may stand in a day: those that may be tried now go first, so that parked ones are not tried in their place.
        let now_ms = self.deps().clock.now_ms();
        let open = shard_recs(state, day, shard).filter_map(|(_, rec)| Some((&rec.job, rec.plan.as_ref()?)));
        let open =
            open.filter(|(_, plan)| plan.reason == PlanReason::Day).min_by_key(|(job, _)| !may_try(job, now_ms)).map(|(_, plan)| plan);
        let quiet = || self.why_not(state, day, self.deps().clock.now_ms()).is_none();
        let inputs = open.map(|plan| plan.day.clone()).or_else(|| worth_it(state, (day, shard)).filter(|_| quiet()));
        let Some(inputs) = inputs else { return Ok(()) };
        let targets = self.plan_day(state, (day, shard), &inputs).await?;
        let Some(first) = targets.first() else { return Ok(()) };
        if let Some(other) = targets.iter().find(|plan| plan.encoder != ENCODER_VERSION) {
            let why = format!("plan {} asks for encoder {}, this tailors has {ENCODER_VERSION}", other.g, other.encoder);
            return targets.iter().try_for_each(|plan| self.park(state, target_at(plan)?, why.clone(), None));
        }
        let generations = inputs.iter().map(|(window, g)| {
            let rec = Window::starting_at_s(*window).and_then(|window| state.windows.get(&window)?.shards.get(&shard))?;
            rec.decided.iter().find(|manifest| manifest.g == *g && manifest.kind == ManifestKind::Published).cloned()
        });
        let Some(generations) = generations.collect::<Option<Vec<ManifestDoc>>>() else {
            return Err(ControlError::Bug(format!("plan {} of {shard} names a generation that is not published", first.g)));
        };
        let made = self.made(state, (day, shard), &inputs).await?;
        state.attempts += 1;
        let attempt = format!("{}-{:06}", self.deps().writer, state.attempts);
        for target in &targets {
            let (window, shard) = target_at(target)?;
            if let Some(rec) = state.windows.get_mut(&window).and_then(|rec| rec.shards.get_mut(&shard)) {
                rec.job.running = true;
            }
        }
        let job = DayJob { shard, day, inputs: generations, targets, made, attempt };
        let control = self.clone();
        let work = async move {
            let run = AssertUnwindSafe((control.deps().run_day)(job.clone())).catch_unwind();
            let result = run.await.unwrap_or_else(|_| Err(JobError::Bug("making a day's file panicked".to_owned())));
            control.finish_day(job, result).await;
        };
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner).spawn(work);
        Ok(())
    }

    /// Tombstones the open day plans that ask for an older encoder: nobody here can make their file, and a day has no points of its own to lose.
    /// Tells whether there was any.
    async fn cancel_older(&self, state: &mut State, (day, shard): (Window, ShardId)) -> Result<bool, ControlError> {
        let open = shard_recs(state, day, shard).filter(|(_, rec)| !rec.job.running).filter_map(|(_, rec)| rec.plan.clone());
        let older: Vec<PlanDoc> = open.filter(|plan| plan.reason == PlanReason::Day && plan.encoder < ENCODER_VERSION).collect();
        for plan in &older {
            self.cancel(state, target_at(plan)?, plan, OLDER_ENCODER, plan.quarantine.clone()).await?;
        }
        Ok(!older.is_empty())
    }

    /// The plans with these inputs: those that stand, and new ones for windows whose base is an input.
    async fn plan_day(
        &self,
        state: &mut State,
        (day, shard): (Window, ShardId),
        inputs: &[(i64, u32)],
    ) -> Result<Vec<PlanDoc>, ControlError> {
        let objects = &self.deps().objects;
        let mut targets = Vec::new();
        for window in day.day() {
            let Some(rec) = state.windows.get(&window).and_then(|rec| rec.shards.get(&shard)).filter(|rec| !rec.job.running) else {
                continue;
            };
            let base = plan::base(&rec.decided).filter(|base| inputs.contains(&(window.start_s(), base.g)));
            let (Some(base), g) = (base, rec.decided.last().map_or(1, |last| last.g + 1)) else { continue };
            let planned = match &rec.plan {
                Some(plan) => plan.clone(),
                None => {
                    let of_base = plans::get(objects, shard, window, base.g).await?;
                    let of_base = of_base.ok_or_else(|| StoreError::NotFound(key::plan(shard, window, base.g)))?;
                    let plan = plan::day_plan(of_base, base, g, inputs);
                    match plans::put_plan(objects, &plan).await? {
                        PutDoc::Created => plan,
                        PutDoc::Lost(winner) => winner,
                    }
                }
            };
            if let Some(rec) = state.windows.get_mut(&window).and_then(|rec| rec.shards.get_mut(&shard)) {
                rec.plan = Some(planned.clone());
            }
            if planned.reason == PlanReason::Day && planned.day == inputs {
                targets.push(planned);
            }
        }
        Ok(targets)
    }

    /// Day files of the same inputs that published generations name: what a control that was killed, or another one, has made already. Not those of
    /// one that is gone: the sweep may have looked at the plans before those of this job stood (rfcs/models/day_files.py, "lent unchecked").
    async fn made(&self, state: &State, (day, shard): (Window, ShardId), inputs: &[(i64, u32)]) -> Result<Vec<ManifestFile>, ControlError> {
        let mut made: Vec<ManifestFile> = Vec::new();
        for (window, rec) in shard_recs(state, day, shard) {
            let Some(base) = plan::base(&rec.decided).filter(|base| is_day_generation(base)) else { continue };
            let plan = plans::get(&self.deps().objects, shard, window, base.g).await?;
            let is_same = plan.is_some_and(|plan| plan.day == inputs && plan.encoder == ENCODER_VERSION);
            if is_same && manifests::gone(&self.deps().objects, shard, window, base.g).await?.is_none() {
                let new = base.files.iter().filter(|file| made.iter().all(|known| known.hash != file.hash)).cloned().collect::<Vec<_>>();
                made.extend(new);
            }
        }
        Ok(made)
    }

    /// Takes the outcome of an attempt. Never fails: what can't be said to the store now is found again by the next tick.
    async fn finish_day(&self, job: DayJob, result: Result<(Vec<Vec<ManifestFile>>, JobDoc), JobError>) {
        let mut state = self.0.state.lock().await;
        for (window, shard) in job.targets.iter().filter_map(|plan| target_at(plan).ok()) {
            let rec = state.windows.get_mut(&window).and_then(|rec| rec.shards.get_mut(&shard));
            rec.into_iter().for_each(|rec| rec.job.running = false);
        }
        let outcome = match result {
            Ok((files, history)) => self.publish_day(&mut state, &job, files, history).await,
            Err(error) => {
                self.free_day(&job).await;
                self.day_failed(&mut state, &job, error).await
            }
        };
        if let Err(error) = outcome {
            for at in undecided(&state, &job) {
                let _ = self.retry_later(&mut state, at, error.to_string());
            }
        }
        state.days.remove(&(job.day, job.shard));
        // A file that nobody names, or that somebody may have named though the answer was lost: the sweep looks.
        state.day_sweeps.insert((job.day, job.shard));
        drop(state);
        self.0.job_ended.notify_waiters();
        self.0.job_ended.notify_one();
    }

    /// The manifests in window order, each with its feed entry.
    async fn publish_day(
        &self,
        state: &mut State,
        job: &DayJob,
        files: Vec<Vec<ManifestFile>>,
        mut history: JobDoc,
    ) -> Result<(), ControlError> {
        let objects = &self.deps().objects;
        if files.len() != job.targets.len() {
            return Err(ControlError::Bug(format!("{} windows' files for {} plans", files.len(), job.targets.len())));
        }
        // Files of another control with the same bytes, by hash: its keys are taken from the first window on that it won.
        let mut lent: Vec<ManifestFile> = Vec::new();
        let mut outcomes = BTreeSet::new();
        for (plan, files) in job.targets.iter().zip(files) {
            let (window, shard) = target_at(plan)?;
            let files = files.into_iter().map(|file| match lent.iter().find(|other| other.hash == file.hash) {
                Some(other) => ManifestFile { key: other.key.clone(), ..file },
                None => file,
            });
            let manifest = self.day_manifest(state, plan, files.collect(), &job.attempt)?;
            let (decided, outcome) = match manifests::put_manifest(objects, &manifest).await? {
                PutManifest::Mine => (manifest, "published"),
                PutManifest::Same(other) => {
                    // As in `made`: what is gone lends nothing.
                    let is_live = manifests::gone(objects, shard, window, other.g).await?.is_none();
                    lent.extend(other.files.iter().filter(|file| is_live && file.role == FileRole::Day).cloned());
                    (other, "lost_race")
                }
                PutManifest::Lost(tombstone) => (tombstone, "cancelled"),
            };
            outcomes.insert(outcome);
            metrics::counter!("tailors_control_generations_total", "outcome" => outcome).increment(1);
            tracing::info!(%window, %shard, g = decided.g, k = decided.k, points = decided.counts.written, outcome, "day generation decided");
            let g = decided.g;
            let is_published = decided.kind == ManifestKind::Published;
            if let Some(rec) = state.windows.get_mut(&window).and_then(|rec| rec.shards.get_mut(&shard)) {
                rec.decide(decided, plan.nodes_digest.clone());
            }
            if is_published {
                let entry = FeedDoc { shard, window: window.start_s(), g };
                if let Err(error) = feed::append(objects, &entry, state.feed.seq() + 1).await {
                    // The manifest is the truth: the next tick repairs the feed.
                    tracing::warn!(%error, "the feed entry waits for the next tick");
                    state.windows.get_mut(&window).into_iter().for_each(|rec| rec.settled = false);
                }
            }
        }
        history.outcome = outcomes.into_iter().collect::<Vec<_>>().join(" ");
        if let Some(first) = job.targets.first() {
            let (window, shard) = target_at(first)?;
            if let Err(error) = plans::put_job(objects, shard, window, first.g, &job.attempt, &history).await {
                tracing::warn!(%error, "the history of an attempt was not kept");
            }
        }
        state.refresh_feed(objects).await?;
        Ok(())
    }

    /// The base's manifest with the day's files in place of its own; what must hold is checked before anything is published.
    fn day_manifest(&self, state: &State, plan: &PlanDoc, files: Vec<ManifestFile>, attempt: &str) -> Result<ManifestDoc, ControlError> {
        let (window, shard) = target_at(plan)?;
        check_order(state, (window, shard), plan)?;
        let rec = state.windows.get(&window).and_then(|rec| rec.shards.get(&shard));
        let base = rec.and_then(|rec| plan::base(&rec.decided)).filter(|base| base.g == plan.base_g);
        let base = base.ok_or_else(|| ControlError::Bug(format!("plan {} has base {}, which is none", plan.g, plan.base_g)))?;
        let points: u64 = files.iter().map(|file| file.points).sum();
        let is_own = |file: &ManifestFile| (file.role, file.from_ms, file.to_ms) == (FileRole::Day, window.start_ms(), window.end_ms());
        if points != base.counts.written || !files.iter().all(is_own) {
            let text = format!("the day's file holds {points} points of window {window}, its base {}", base.counts.written);
            return Err(ControlError::Bug(text));
        }
        Ok(ManifestDoc {
            g: plan.g,
            k: plan.k,
            base_g: plan.base_g,
            plan_digest: plans::digest(plan)?,
            route_version: plan.route_version,
            files,
            encoder: plan.encoder,
            writer: self.deps().writer.clone(),
            attempt: attempt.to_owned(),
            ..base.clone()
        })
    }

    /// An attempt failed before any manifest was put.
    async fn day_failed(&self, state: &mut State, job: &DayJob, error: JobError) -> Result<(), ControlError> {
        metrics::counter!("tailors_control_attempts_failed_total").increment(1);
        let all = undecided(state, job);
        match error {
            JobError::Cancelled => Ok(()),
            JobError::Bug(why) => {
                tracing::error!(day = %job.day, shard = %job.shard, why, "making a day's file found a bug");
                all.into_iter().try_for_each(|at| self.park(state, at, format!("bug: {why}"), None))
            }
            JobError::Retry(why) => all.into_iter().try_for_each(|at| self.retry_later(state, at, why.clone())),
            JobError::Input { segment, why } => {
                let mut is_last = false;
                for at in &all {
                    let Some(rec) = state.windows.get_mut(&at.0).and_then(|rec| rec.shards.get_mut(&at.1)) else { continue };
                    let strikes = rec.job.strikes.entry(segment.clone()).or_default();
                    *strikes += 1;
                    is_last |= *strikes >= self.deps().settings.attempts_max;
                }
                if is_last {
                    return self.cancel_day(state, job, &segment, &why).await;
                }
                all.into_iter().try_for_each(|at| self.retry_later(state, at, format!("{segment}: {why}")))
            }
        }
    }

    /// Tombstones the undecided plans of a job whose inputs can't be read: the windows stay as they are, and may be built again.
    async fn cancel_day(&self, state: &mut State, job: &DayJob, file: &str, why: &str) -> Result<(), ControlError> {
        tracing::error!(day = %job.day, shard = %job.shard, file, why, "a window's file can't be read; its day stays in window files. `tailors build` makes it anew");
        for plan in &job.targets {
            let at = target_at(plan)?;
            if !undecided(state, job).contains(&at) {
                continue;
            }
            self.cancel(state, at, plan, CANCELLED, plan.quarantine.clone()).await?;
        }
        Ok(())
    }

    /// Removes the files of an attempt that failed before its first manifest was put.
    async fn free_day(&self, job: &DayJob) {
        let objects = &self.deps().objects;
        let removed = async {
            for file in objects.list(&format!("{}{}/", key::day_chunks(job.shard, job.day), job.attempt)).await? {
                objects.delete(&file).await?;
            }
            Ok::<(), StoreError>(())
        };
        if let Err(error) = removed.await {
            tracing::warn!(day = %job.day, shard = %job.shard, %error, "files of a failed attempt stay until the next sweep");
        }
    }
}

/// Window and shard of a plan.
fn target_at(plan: &PlanDoc) -> Result<(Window, ShardId), ControlError> {
    let window = Window::starting_at_s(plan.window);
    Ok((window.ok_or_else(|| ControlError::Bug(format!("{} is no window", plan.window)))?, plan.shard))
}

/// Targets of a job that nobody has decided as far as this control knows.
fn undecided(state: &State, job: &DayJob) -> Vec<(Window, ShardId)> {
    let open = job.targets.iter().filter(|plan| {
        let rec = Window::starting_at_s(plan.window).and_then(|window| state.windows.get(&window)?.shards.get(&plan.shard));
        rec.and_then(|rec| rec.plan.as_ref()).is_some_and(|open| open.g == plan.g)
    });
    open.filter_map(|plan| target_at(plan).ok()).collect()
}

/// Whether a generation's points lie in a day's file.
pub(crate) fn is_day_generation(manifest: &ManifestDoc) -> bool {
    manifest.kind == ManifestKind::Published && manifest.files.iter().any(|file| file.role == FileRole::Day)
}

/// Whether a decision is about a day's file: a generation that names one, or the end of a plan of one.
pub(crate) fn is_of_day(manifest: &ManifestDoc) -> bool {
    is_day_generation(manifest) || [CANCELLED, OLDER_ENCODER].map(Some).contains(&manifest.reason.as_deref())
}

/// A day plan that may be worked on now.
fn open_day_plan(state: &State, now_ms: i64) -> Option<(Window, ShardId)> {
    state.windows.iter().find_map(|(window, rec)| {
        let open = |known: &crate::state::ShardRec| {
            known.plan.as_ref().is_some_and(|plan| plan.reason == PlanReason::Day) && !known.job.running && may_try(&known.job, now_ms)
        };
        let shard = rec.shards.iter().find(|(_, known)| open(known)).map(|(shard, _)| *shard)?;
        Some((window.first_of_day(), shard))
    })
}

/// Shards that the done marks of a day's windows list.
pub(crate) fn shards_of(state: &State, day: Window) -> BTreeSet<ShardId> {
    day.day().iter().filter_map(|window| state.windows.get(window)).flat_map(|rec| rec.listed.iter().copied()).collect()
}

/// What is known of a shard in the windows of a day.
pub(crate) fn shard_recs(state: &State, day: Window, shard: ShardId) -> impl Iterator<Item = (Window, &crate::state::ShardRec)> {
    day.day().into_iter().filter_map(move |window| Some((window, state.windows.get(&window)?.shards.get(&shard)?)))
}

/// The generations that a day's file would be made of; `None` when it would gain nothing: fewer than two windows with files, or all in day files
/// already. Also when something of it was not read yet or is not in the feed.
pub(crate) fn worth_it(state: &State, (day, shard): (Window, ShardId)) -> Option<Vec<(i64, u32)>> {
    let (mut inputs, mut any_window_file) = (Vec::new(), false);
    for window in day.day() {
        let Some(rec) = state.windows.get(&window).filter(|rec| rec.listed.contains(&shard)) else { continue };
        let base = plan::base(&rec.shards.get(&shard)?.decided)?;
        if base.files.is_empty() {
            continue;
        }
        if !state.feed.holds(shard, window, base.g) || base.files.iter().any(|file| file.role == FileRole::Overlay) {
            return None;
        }
        any_window_file |= base.files.iter().any(|file| file.role == FileRole::Base);
        inputs.push((window.start_s(), base.g));
    }
    (inputs.len() >= 2 && any_window_file).then_some(inputs)
}
