//! From a buildable seal to a visible generation: plan (put-if-absent), run, publish (put-if-absent), feed, done mark.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};

use futures::FutureExt;

use tailors_format::chunk::ENCODER_VERSION;
use tailors_format::doc::{DoneDoc, FeedDoc, JobDoc, ManifestDoc, ManifestKind, PlanDoc, PlanReason, SealDoc};
use tailors_model::{RouteTable, ShardId, Window};
use tailors_store::manifests::{self, PutManifest};
use tailors_store::{PutDoc, StoreError, feed, plans, seals};

use crate::job::{BuildJob, JobError};
use crate::plan::{self, Below, Step};
use crate::state::{Job, Parked, State};
use crate::{Control, ControlError};

/// Reason of the tombstone of a plan that asks for an older encoder than this one.
const OLDER_ENCODER: &str = "encoder";

impl Control {
    /// Brings a window on: feed repair, plans and jobs of its highest buildable seal, done marks.
    pub(crate) async fn advance(&self, state: &mut State, window: Window, start_jobs: bool) -> Result<(), ControlError> {
        let Some(rec) = state.windows.get(&window).filter(|rec| !rec.settled && rec.newest.is_some()) else { return Ok(()) };
        if let Some(newest) = rec.newest.as_ref().filter(|newest| !state.chain.reached(newest)) {
            // After a restart too: capture is told again until the chain is there.
            self.ask_for(newest);
        }
        let Some(seal) = rec.buildable(&state.chain).cloned() else { return Ok(()) };
        let below = state.below(&self.deps().objects, window, &seal).await?;
        let (mut satisfied, mut only_failing) = (true, true);
        for (shard, input) in &below.shards {
            state.load_shard(&self.deps().objects, window, *shard).await?;
            self.repair_feed(state, window, *shard).await?;
            let done = self.advance_shard(state, (window, *shard), &seal, &input.digest, start_jobs).await?;
            let failing = state.windows.get(&window).and_then(|rec| rec.shards.get(shard)).is_some_and(|rec| rec.job.is_failing());
            satisfied &= done;
            only_failing &= done || failing;
        }
        let done = self.mark_done(state, window).await?;
        if let Some(rec) = state.windows.get_mut(&window) {
            rec.only_failing = only_failing && !satisfied;
            rec.settle(satisfied && done && rec.newest.as_ref().is_some_and(|newest| newest.k == seal.k));
        }
        Ok(())
    }

    /// One shard on the highest buildable seal; true when nothing is left to do.
    async fn advance_shard(
        &self,
        state: &mut State,
        at: (Window, ShardId),
        seal: &SealDoc,
        digest: &str,
        start_jobs: bool,
    ) -> Result<bool, ControlError> {
        let closed_k = state.windows.get(&at.0).and_then(|rec| rec.closed()).map(|seal| seal.k);
        let Some(rec) = state.windows.get(&at.0).and_then(|rec| rec.shards.get(&at.1)) else { return Ok(false) };
        if rec.job.running {
            return Ok(false);
        }
        let step = plan::step(seal, closed_k, &rec.decided, rec.base_digest(), digest);
        // An open plan has to be decided before anything else can be.
        if rec.plan.is_none() && step == Step::Satisfied {
            return Ok(true);
        }
        if !start_jobs || !may_try(&rec.job, self.deps().clock.now_ms()) || self.running() >= self.deps().settings.build_concurrency {
            return Ok(false);
        }
        self.start(state, at, seal, step).await?;
        Ok(false)
    }

    /// Builds that run now.
    pub(crate) fn running(&self) -> usize {
        let mut jobs = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        while jobs.try_join_next().is_some() {}
        jobs.len()
    }

    /// Plans (or adopts the plan that stands) and starts the job.
    pub(crate) async fn start(&self, state: &mut State, at: (Window, ShardId), seal: &SealDoc, step: Step) -> Result<(), ControlError> {
        let objects = &self.deps().objects;
        let open = state.windows.get(&at.0).and_then(|rec| rec.shards.get(&at.1)).and_then(|rec| rec.plan.as_ref());
        if open.is_some_and(|plan| plan.reason == PlanReason::Day) {
            // It has to be decided first, and its inputs are files, not nodes.
            return self.start_day(state, (at.0.first_of_day(), at.1)).await;
        }
        state.chain.recall(objects, at.0, None).await?;
        let (plan, seal) = self.plan(state, at, seal, step).await?;
        if plan.reason == PlanReason::Day {
            state
                .windows
                .get_mut(&at.0)
                .and_then(|rec| rec.shards.get_mut(&at.1))
                .into_iter()
                .for_each(|rec| rec.plan = Some(plan.clone()));
            return self.start_day(state, (at.0.first_of_day(), at.1)).await;
        }
        if plan.encoder < ENCODER_VERSION {
            // Left by a process before an upgrade: the next tick plans g+1 of the same inputs, for this encoder.
            return self.cancel(state, at, &plan, OLDER_ENCODER, plan.quarantine.clone()).await;
        }
        let routes = state.routes(objects, plan.route_version).await?;
        let inputs = plan::inputs(&state.chain, &routes, at, Some(&seal), &plan.quarantine);
        if plans::nodes_digest(&inputs.nodes.iter().map(|(node, _)| *node).collect::<Vec<_>>()) != plan.nodes_digest {
            // A chain that this control has not read to the end yet, or a bug: tried again, then parked.
            return self.retry_later(state, at, format!("plan {} names other nodes than the chain below its seal", plan.g));
        }
        if plan.encoder > ENCODER_VERSION {
            let why = format!("plan {} asks for encoder {}, this tailors has {ENCODER_VERSION}", plan.g, plan.encoder);
            return self.park(state, at, why, None);
        }
        let late_from = state
            .windows
            .get(&at.0)
            .and_then(|rec| rec.closed())
            .map(|closed| closed.all_ends().map(|(epoch, partition, end)| ((epoch, partition), end)).collect());
        let holes = state.chain.holes(&seal);
        state.attempts += 1;
        let attempt = format!("{}-{:06}", self.deps().writer, state.attempts);
        let Some(rec) = state.windows.get_mut(&at.0).and_then(|rec| rec.shards.get_mut(&at.1)) else { return Ok(()) };
        rec.plan = Some(plan.clone());
        rec.job.running = true;
        let inherited = inherited(rec.decided.as_slice(), rec.base_digest(), &plan);
        let routes = RouteTable::clone(&routes);
        let job = BuildJob { plan, nodes: inputs.nodes, routes, attempt: attempt.clone(), late_from: late_from.unwrap_or_default() };
        let control = self.clone();
        let work = async move {
            let plan = job.plan.clone();
            let result = match inherited {
                Some(manifest) => Ok((manifest, None)),
                None => control.attempt(job).await.map(|(manifest, history)| (manifest, Some(history))),
            };
            control.finish(at, plan, attempt, holes, result).await;
        };
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner).spawn(work);
        Ok(())
    }

    /// Runs the builder; its panic is a bug of one job, not the end of control.
    async fn attempt(&self, job: BuildJob) -> Result<(ManifestDoc, JobDoc), JobError> {
        let build = AssertUnwindSafe((self.deps().run_build)(job)).catch_unwind();
        build.await.unwrap_or_else(|_| Err(JobError::Bug("the build panicked".to_owned())))
    }

    /// The plan of the undecided generation, and the seal it stands on.
    async fn plan(&self, state: &mut State, at: (Window, ShardId), seal: &SealDoc, step: Step) -> Result<(PlanDoc, SealDoc), ControlError> {
        let objects = &self.deps().objects;
        let open = state.windows.get(&at.0).and_then(|rec| rec.shards.get(&at.1)).and_then(|rec| rec.plan.clone());
        let plan = match open {
            Some(plan) => plan,
            None => {
                let routes = Arc::clone(&state.below(objects, at.0, seal).await?.routes);
                let Some(rec) = state.windows.get(&at.0).and_then(|rec| rec.shards.get(&at.1)) else {
                    return Err(ControlError::Bug("a shard is planned before it was read".to_owned()));
                };
                let reason = match step {
                    Step::Build(reason) => reason,
                    Step::Inherit | Step::Satisfied => PlanReason::Seal,
                };
                let inputs = plan::inputs(&state.chain, &routes, at, Some(seal), plan::quarantine(&rec.decided));
                let plan = plan::plan(at, seal, &rec.decided, &inputs, reason, routes.version);
                match plans::put_plan(objects, &plan).await? {
                    PutDoc::Created => plan,
                    // Another control was first: its plan is the plan.
                    PutDoc::Lost(winner) => winner,
                }
            }
        };
        if plan.k == seal.k {
            return Ok((plan, seal.clone()));
        }
        let older = seals::get(objects, at.0, plan.k).await?;
        let older = older.ok_or_else(|| StoreError::NotFound(tailors_format::key::seal(at.0, plan.k)))?;
        Ok((plan, older))
    }

    /// Takes the outcome of an attempt. Never fails: what can't be said to the store now is found again by the next tick.
    async fn finish(
        &self,
        at: (Window, ShardId),
        plan: PlanDoc,
        attempt: String,
        holes: Vec<(u32, u32, u64, u64)>,
        result: Result<(ManifestDoc, Option<JobDoc>), JobError>,
    ) {
        let mut state = self.0.state.lock().await;
        if let Some(rec) = state.windows.get_mut(&at.0).and_then(|rec| rec.shards.get_mut(&at.1)) {
            rec.job.running = false;
        }
        let outcome = match result {
            Ok((manifest, history)) => {
                let manifest = complete(manifest, &plan, &attempt, holes, &self.deps().writer);
                let manifest = manifest.and_then(|manifest| check_order(&state, at, &plan).map(|()| manifest));
                self.publish(&mut state, at, &plan, manifest, history, &attempt).await
            }
            Err(error) => {
                self.free_space(at, &plan, &attempt).await;
                self.failed(&mut state, at, &plan, error).await
            }
        };
        if let Err(error) = outcome {
            let _ = self.retry_later(&mut state, at, error.to_string());
        }
        drop(state);
        self.0.job_ended.notify_waiters();
        self.0.job_ended.notify_one();
    }

    /// Step 4: the manifest by put-if-absent, then the feed. Outcomes as C7.
    async fn publish(
        &self,
        state: &mut State,
        (window, shard): (Window, ShardId),
        plan: &PlanDoc,
        manifest: Result<ManifestDoc, ControlError>,
        history: Option<JobDoc>,
        attempt: &str,
    ) -> Result<(), ControlError> {
        let objects = &self.deps().objects;
        let (decided, outcome) = match manifests::put_manifest(objects, &manifest?).await? {
            PutManifest::Mine => (None, "published"),
            PutManifest::Same(other) => (Some(other), "lost_race"),
            PutManifest::Lost(tombstone) => (Some(tombstone), "cancelled"),
        };
        let decided = match decided {
            Some(decided) => decided,
            None => manifests::get(objects, shard, window, plan.g).await?.ok_or_else(|| {
                StoreError::Fatal(format!("{}: published, then not found", tailors_format::key::manifest(shard, window, plan.g)))
            })?,
        };
        if decided.attempt != attempt {
            self.free_space((window, shard), plan, attempt).await;
        }
        let now_ms = self.deps().clock.now_ms();
        let took_ms = history.as_ref().map_or(0, |history| (history.ended_ms - history.started_ms).max(0));
        metrics::counter!("tailors_control_generations_total", "outcome" => outcome).increment(1);
        tracing::info!(%window, %shard, g = decided.g, k = decided.k, points = decided.counts.written, took_ms, outcome, "generation decided");
        if let Some(rec) = state.windows.get_mut(&window) {
            rec.settled = false;
            rec.published_ms = Some(now_ms);
            if history.is_some() {
                rec.took(plan.k, took_ms);
            }
            if let Some(shard) = rec.shards.get_mut(&shard) {
                shard.decide(decided, plan.nodes_digest.clone());
            }
        }
        if let Some(mut history) = history {
            history.outcome = outcome.to_owned();
            if let Err(error) = plans::put_job(objects, shard, window, plan.g, attempt, &history).await {
                tracing::warn!(%error, "the history of an attempt was not kept");
            }
        }
        // A failure here is repaired by the next tick: the manifest is the truth.
        if let Err(error) = self.repair_feed(state, window, shard).await {
            tracing::warn!(%error, "the feed entry waits for the next tick");
        }
        Ok(())
    }

    /// Appends every published generation that the feed misses.
    async fn repair_feed(&self, state: &mut State, window: Window, shard: ShardId) -> Result<(), ControlError> {
        let objects = &self.deps().objects;
        let Some(rec) = state.windows.get(&window).and_then(|rec| rec.shards.get(&shard)) else { return Ok(()) };
        let published = rec.decided.iter().filter(|manifest| manifest.kind == ManifestKind::Published);
        let missing: Vec<u32> = published.map(|manifest| manifest.g).filter(|g| !state.feed.holds(shard, window, *g)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        for g in missing {
            feed::append(objects, &FeedDoc { shard, window: window.start_s(), g }, state.feed.seq() + 1).await?;
        }
        state.refresh_feed(objects).await?;
        Ok(())
    }

    /// Removes the files of an attempt that failed before its manifest was put, or whose generation was decided for another: no manifest can name
    /// them any more, and a full disk needs the space before the next attempt.
    async fn free_space(&self, (window, shard): (Window, ShardId), plan: &PlanDoc, attempt: &str) {
        let objects = &self.deps().objects;
        let prefix = format!("{}{attempt}/", tailors_format::key::chunks(shard, window, plan.g));
        let removed = async {
            for file in objects.list(&prefix).await? {
                objects.delete(&file).await?;
            }
            Ok::<(), StoreError>(())
        };
        if let Err(error) = removed.await {
            tracing::warn!(%window, %shard, %error, "files of a failed attempt stay until their generation is superseded");
        }
    }

    /// Step 8: an attempt failed.
    async fn failed(&self, state: &mut State, at: (Window, ShardId), plan: &PlanDoc, error: JobError) -> Result<(), ControlError> {
        metrics::counter!("tailors_control_attempts_failed_total").increment(1);
        match error {
            JobError::Cancelled => Ok(()),
            JobError::Bug(why) => {
                tracing::error!(window = %at.0, shard = %at.1, why, "a build found a bug");
                self.park(state, at, format!("bug: {why}"), None)
            }
            JobError::Retry(why) => self.retry_later(state, at, why),
            JobError::Input { segment, why } => {
                let Some(rec) = state.windows.get_mut(&at.0).and_then(|rec| rec.shards.get_mut(&at.1)) else { return Ok(()) };
                let strikes = rec.job.strikes.entry(segment.clone()).or_default();
                *strikes += 1;
                if *strikes < self.deps().settings.attempts_max {
                    return self.retry_later(state, at, format!("raw file {segment}: {why}"));
                }
                self.quarantine(state, at, plan, segment, why).await
            }
        }
    }

    /// Tombstones g with the file on its list, so that g+1 is planned without it; parks when too much would be left out.
    async fn quarantine(
        &self,
        state: &mut State,
        at: (Window, ShardId),
        plan: &PlanDoc,
        segment: String,
        why: String,
    ) -> Result<(), ControlError> {
        let objects = &self.deps().objects;
        let mut list = plan.quarantine.clone();
        list.push(segment.clone());
        list.sort();
        list.dedup();
        state.chain.recall(objects, at.0, None).await?;
        let seal = seals::get(objects, at.0, plan.k).await?;
        let routes = state.routes(objects, plan.route_version).await?;
        let inputs = plan::inputs(&state.chain, &routes, at, seal.as_ref(), &list);
        let (all, left_out) = plan::payloads(&routes, at, &inputs.nodes, &list);
        if left_out.saturating_mul(1_000_000) > all.saturating_mul(self.deps().settings.corrupt_payloads_per_million) {
            tracing::error!(window = %at.0, shard = %at.1, segment, why, "a raw file is damaged beyond the corrupt budget");
            let text =
                format!("raw file {segment}: {why}; leaving it out would lose {left_out} of {all} payloads, more than the corrupt budget");
            return self.park(state, at, text, None);
        }
        tracing::error!(window = %at.0, shard = %at.1, segment, why, left_out, "a damaged raw file is quarantined");
        self.cancel(state, at, plan, "quarantine", list).await
    }

    /// Tombstones an undecided plan, with the quarantine list that its successor goes by.
    pub(crate) async fn cancel(
        &self,
        state: &mut State,
        at: (Window, ShardId),
        plan: &PlanDoc,
        reason: &str,
        quarantined: Vec<String>,
    ) -> Result<(), ControlError> {
        let tombstone = plan::tombstone(plan, plans::digest(plan)?, reason, quarantined, &self.deps().writer);
        let decided = match manifests::put_manifest(&self.deps().objects, &tombstone).await? {
            PutManifest::Mine => tombstone,
            PutManifest::Same(other) | PutManifest::Lost(other) => other,
        };
        tracing::info!(window = %at.0, shard = %at.1, g = decided.g, reason, kind = ?decided.kind, "a plan is cancelled, or was decided before");
        if let Some(rec) = state.windows.get_mut(&at.0) {
            // Without its day file a window is as complete as before; any other plan is followed by one that takes its place.
            rec.settled &= plan.reason == PlanReason::Day && decided.kind == ManifestKind::Tombstone;
            if let Some(shard) = rec.shards.get_mut(&at.1) {
                shard.decide(decided, plan.nodes_digest.clone());
            }
        }
        Ok(())
    }

    /// Counts a failure that may pass; the last one parks the job for a while.
    pub(crate) fn retry_later(&self, state: &mut State, at: (Window, ShardId), why: String) -> Result<(), ControlError> {
        let settings = &self.deps().settings;
        let now_ms = self.deps().clock.now_ms();
        tracing::warn!(window = %at.0, shard = %at.1, why, "an attempt at a build failed");
        let again_ms = now_ms.saturating_add((settings.parked_retry_s * 1_000) as i64);
        let Some(rec) = state.windows.get_mut(&at.0).and_then(|rec| rec.shards.get_mut(&at.1)) else { return Ok(()) };
        rec.job.failed += 1;
        rec.job.not_before_ms = now_ms.saturating_add((settings.backoff_min_ms << rec.job.failed.min(16).saturating_sub(1)) as i64);
        if rec.job.failed >= settings.attempts_max {
            return self.park(state, at, why, Some(again_ms));
        }
        Ok(())
    }

    /// Stops trying; other shards and windows go on.
    pub(crate) fn park(&self, state: &mut State, at: (Window, ShardId), why: String, again_ms: Option<i64>) -> Result<(), ControlError> {
        tracing::error!(window = %at.0, shard = %at.1, why, "a build is parked");
        metrics::counter!("tailors_control_parked_total").increment(1);
        if let Some(rec) = state.windows.get_mut(&at.0).and_then(|rec| rec.shards.get_mut(&at.1)) {
            rec.job.parked = Some(Parked { why, again_ms });
        }
        Ok(())
    }

    /// Puts the done marks that hold; true when no complete seal of the window waits for one.
    async fn mark_done(&self, state: &mut State, window: Window) -> Result<bool, ControlError> {
        let objects = &self.deps().objects;
        let Some(rec) = state.windows.get(&window) else { return Ok(true) };
        let waiting = rec.seals.values().filter(|seal| seal.kind.is_complete() && !rec.done.contains(&seal.k));
        let waiting: Vec<SealDoc> = waiting.cloned().collect();
        let mut all = true;
        for seal in waiting {
            let below = state.below(objects, window, &seal).await?;
            for shard in below.shards.keys() {
                state.load_shard(objects, window, *shard).await?;
            }
            let Some(done) = done_mark(state, window, &seal, &below) else {
                all = false;
                continue;
            };
            seals::put_done(objects, &done).await?;
            if let Some(rec) = state.windows.get_mut(&window) {
                rec.take_done(&done);
            }
        }
        Ok(all)
    }
}

/// Whether a job may be tried now.
pub(crate) fn may_try(job: &Job, now_ms: i64) -> bool {
    let parked = job.parked.as_ref().is_some_and(|parked| parked.again_ms.is_none_or(|again| now_ms < again));
    !parked && now_ms >= job.not_before_ms
}

/// The done mark of a seal, if it holds: every shard with points below it has a generation in the feed that stands on it or a later seal, or on
/// the closed seal or a later one without new input up to it.
fn done_mark(state: &State, window: Window, seal: &SealDoc, below: &Below) -> Option<DoneDoc> {
    let rec = state.windows.get(&window)?;
    let closed_k = rec.closed()?.k;
    if !state.chain.reached(seal) {
        return None;
    }
    let mut done = DoneDoc { window: window.start_s(), k: seal.k, route_version: below.routes.version, shards: Default::default() };
    for (shard, input) in &below.shards {
        let known = rec.shards.get(shard)?;
        let base = plan::base(&known.decided)?;
        let same_input = || known.base_digest() == Some(input.digest.as_str());
        let holds = base.k >= seal.k || (base.k >= closed_k && same_input());
        if !holds || !state.feed.holds(*shard, window, base.g) {
            return None;
        }
        done.shards.insert(shard.to_string(), base.g);
    }
    Some(done)
}

/// The publisher's check: a generation stands on a higher seal than its base, or its plan says why not.
pub(crate) fn check_order(state: &State, (window, shard): (Window, ShardId), plan: &PlanDoc) -> Result<(), ControlError> {
    let decided = state.windows.get(&window).and_then(|rec| rec.shards.get(&shard)).map_or(&[][..], |known| &known.decided);
    match plan::base(decided) {
        Some(base) if base.g != plan.base_g => {
            Err(ControlError::Bug(format!("plan {} has base {}, which is {}", plan.g, plan.base_g, base.g)))
        }
        Some(base) if plan.k < base.k || plan.k == base.k && plan.reason == PlanReason::Seal => {
            Err(ControlError::Bug(format!("plan {} stands on seal {}, its base on {}", plan.g, plan.k, base.k)))
        }
        _ => Ok(()),
    }
}

/// The manifest of a plan without new input: the base's files under a higher seal.
fn inherited(decided: &[ManifestDoc], base_digest: Option<&str>, plan: &PlanDoc) -> Option<ManifestDoc> {
    let base = plan::base(decided).filter(|base| base.g == plan.base_g && base.k < plan.k)?;
    (base_digest == Some(plan.nodes_digest.as_str()) && base.quarantined == plan.quarantine).then(|| base.clone())
}

/// Fills in what follows from the plan, and checks what must hold before anything is published.
fn complete(
    manifest: ManifestDoc,
    plan: &PlanDoc,
    attempt: &str,
    holes: Vec<(u32, u32, u64, u64)>,
    writer: &str,
) -> Result<ManifestDoc, ControlError> {
    if !manifest.counts.balances() {
        return Err(ControlError::Bug(format!("the books of a build don't balance: {:?}", manifest.counts)));
    }
    Ok(ManifestDoc {
        kind: ManifestKind::Published,
        reason: None,
        shard: plan.shard,
        window: plan.window,
        g: plan.g,
        k: plan.k,
        base_g: plan.base_g,
        plan_digest: plans::digest(plan)?,
        route_version: plan.route_version,
        holes,
        quarantined: plan.quarantine.clone(),
        encoder: plan.encoder,
        writer: writer.to_owned(),
        attempt: attempt.to_owned(),
        ..manifest
    })
}
