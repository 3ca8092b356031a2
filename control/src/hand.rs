//! What people ask for by hand: seal, build, flush.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tailors_format::doc::{ManifestDoc, PlanReason, SealDoc, SealKind};
use tailors_model::{ShardId, Window};
use tailors_store::{StoreError, manifests, routes};

use crate::plan::{self, Step};
use crate::state::{Job, State};
use crate::status::rfc3339;
use crate::{Control, ControlError, seal};

/// Pause between two looks at the chain while capture flushes.
const CHAIN_LOOK: Duration = Duration::from_millis(50);
/// Pause between two looks at a window whose job waits out a backoff.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

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
        // First everything that is acknowledged goes into the chain: only then is it known whether the window has points.
        self.flush().await?;
        let closes_at_ms = seal::closes_at_ms(&self.deps().settings, window);
        let mut state = self.0.state.lock().await;
        self.refresh(&mut state).await?;
        state.load(&self.deps().objects, window).await?;
        let standing = state.windows.get(&window).and_then(|rec| rec.newest.clone());
        if state.chain.points(window) == 0 {
            let text = format!("window {} has no points; nothing was sealed", rfc3339(window.start_ms()));
            return Ok(SealOutcome { seal: standing, written: false, points_hint: 0, closes_at_ms, message: vec![text] });
        }
        state.update_facts(window);
        let nothing_new = state.windows.get(&window).is_some_and(|rec| rec.new.is_none());
        let written = match &standing {
            // Whatever else the log took since, none of it is this window's: the seal that stands says all there is.
            Some(seal) if seal.kind.is_complete() && nothing_new => None,
            _ => self.put_seal_by_hand(&mut state, window).await?,
        };
        let seal = state.windows.get(&window).and_then(|rec| rec.newest.clone());
        drop(state);
        if let Some(seal) = &seal {
            self.until_reached(seal).await?;
        }
        let mut state = self.0.state.lock().await;
        state.chain.recall(&self.deps().objects, window, None).await?;
        let newest = Arc::new(routes::newest(&self.deps().objects).await?);
        let points_hint = plan::below(&state.chain, &newest, window, seal.as_ref()).shards.values().map(|input| input.points).sum();
        let message = seal_message(window, seal.as_ref(), written.is_some(), points_hint, closes_at_ms);
        Ok(SealOutcome { seal, written: written.is_some(), points_hint, closes_at_ms, message })
    }

    /// Builds what the newest seal of the window asks for, or joins the job that does; returns when the generation is published and in the feed.
    /// A parked job is tried again.
    ///
    /// # Errors
    /// `NoSeal` for points without a seal, `Parked` with the last failure.
    pub async fn build_window(&self, window: Window, shard: Option<ShardId>) -> Result<BuildOutcome, ControlError> {
        let mut state = self.0.state.lock().await;
        self.refresh(&mut state).await?;
        state.load(&self.deps().objects, window).await?;
        let seal = state.windows.get(&window).and_then(|rec| rec.newest.clone());
        let any_points = state.chain.points(window) > 0;
        drop(state);
        let Some(seal) = seal else {
            if !any_points {
                // What is acknowledged but not captured yet counts as well.
                self.flush().await?;
                let mut state = self.0.state.lock().await;
                self.refresh(&mut state).await?;
                if state.chain.points(window) == 0 {
                    let text = format!("window {} has no points; there is nothing to build", rfc3339(window.start_ms()));
                    return Ok(BuildOutcome { seal: None, shards: Vec::new(), message: vec![text] });
                }
            }
            return Err(ControlError::NoSeal { window, window_text: rfc3339(window.start_ms()) });
        };
        self.ask_for(&seal);
        self.until_reached(&seal).await?;
        let mut unparked = BTreeSet::new();
        let mut built = BTreeSet::new();
        loop {
            let ended = self.0.job_ended.notified();
            let wanted = self.build_step(window, shard, &seal, &mut unparked, &mut built).await?;
            let Some(shards) = wanted else {
                // Ticks of the loop and ends of jobs wake this; the pause is for jobs that wait out a backoff.
                let _ = tokio::time::timeout(LOOK_AGAIN, ended).await;
                continue;
            };
            let points: u64 = shards.iter().map(|shard| shard.points).sum();
            let text = match shards.len() {
                0 => format!(
                    "window {} has no points below its {} seal; there is nothing to build",
                    rfc3339(window.start_ms()),
                    seal.kind.as_str()
                ),
                count => format!(
                    "window {}: {points} points in {count} shard(s), on the {} seal {}",
                    rfc3339(window.start_ms()),
                    seal.kind.as_str(),
                    seal.k
                ),
            };
            return Ok(BuildOutcome { seal: Some(seal), shards, message: vec![text] });
        }
    }

    /// One look at a window being built by hand: starts what can be started; `Some` when everything asked for is visible.
    async fn build_step(
        &self,
        window: Window,
        only: Option<ShardId>,
        seal: &SealDoc,
        unparked: &mut BTreeSet<ShardId>,
        built: &mut BTreeSet<ShardId>,
    ) -> Result<Option<Vec<BuiltShard>>, ControlError> {
        let mut state = self.0.state.lock().await;
        self.refresh(&mut state).await?;
        let objects = &self.deps().objects;
        let below = state.below(objects, window, seal).await?;
        let mut shards = Vec::new();
        let mut waiting = false;
        for (shard, input) in below.shards.iter().filter(|(shard, _)| only.is_none_or(|only| only == **shard)) {
            let shard = *shard;
            state.load_shard(objects, window, shard).await?;
            let first_look = unparked.insert(shard);
            if first_look {
                self.unpark(&mut state, window, shard);
            }
            self.advance(&mut state, window, false).await?;
            if first_look && self.scrub(&mut state, (window, shard), seal).await? {
                built.insert(shard);
                waiting = true;
                continue;
            }
            match self.shard_step(&mut state, (window, shard), seal, &input.digest).await? {
                Some(manifest) => {
                    let built = built.contains(&shard);
                    shards.push(BuiltShard { shard, generation: manifest.g, points: manifest.counts.written, built });
                }
                None => {
                    built.insert(shard);
                    waiting = true;
                }
            }
        }
        Ok((!waiting).then_some(shards))
    }

    /// The visible generation that satisfies the seal, or `None` after having its job started (or left running).
    async fn shard_step(
        &self,
        state: &mut State,
        at: (Window, ShardId),
        seal: &SealDoc,
        digest: &str,
    ) -> Result<Option<ManifestDoc>, ControlError> {
        let Some(rec) = state.windows.get(&at.0) else { return Ok(None) };
        let closed_k = rec.closed().map(|seal| seal.k);
        let Some(known) = rec.shards.get(&at.1) else { return Ok(None) };
        let step = plan::step(seal, closed_k, &known.decided, known.base_digest(), digest);
        if known.job.running {
            return Ok(None);
        }
        if let Some(parked) = &known.job.parked {
            return Err(ControlError::Parked { window: at.0, shard: at.1, why: parked.why.clone() });
        }
        if step == Step::Satisfied {
            let base = plan::base(&known.decided).filter(|base| state.feed.holds(at.1, at.0, base.g));
            return Ok(base.cloned());
        }
        if self.deps().clock.now_ms() >= known.job.not_before_ms && self.running() < self.deps().settings.build_concurrency {
            self.start(state, at, seal, step).await?;
        }
        Ok(None)
    }

    /// Reads the files of a generation that satisfies the seal; tells whether one is lost or damaged, so that a build in its place was started.
    async fn scrub(&self, state: &mut State, at: (Window, ShardId), seal: &SealDoc) -> Result<bool, ControlError> {
        let known = state.windows.get(&at.0).and_then(|rec| rec.shards.get(&at.1));
        let Some(known) = known.filter(|known| !known.job.running && known.plan.is_none()) else { return Ok(false) };
        let Some(base) = plan::base(&known.decided).filter(|base| base.k >= seal.k) else { return Ok(false) };
        for file in base.files.clone() {
            let why = match self.deps().objects.get(&file.key).await {
                Ok(bytes) if manifests::file_hash(&bytes) == file.hash => continue,
                Ok(_) => "holds other bytes than were built".to_owned(),
                Err(error @ (StoreError::NotFound(_) | StoreError::Data { .. })) => error.to_string(),
                Err(error) => return Err(error.into()),
            };
            tracing::error!(window = %at.0, shard = %at.1, file = file.key, why, "a stored file is damaged; it is built anew from raw");
            metrics::counter!("tailors_control_scrubbed_total").increment(1);
            self.start(state, at, seal, Step::Build(PlanReason::Scrub)).await?;
            return Ok(true);
        }
        Ok(false)
    }

    fn unpark(&self, state: &mut State, window: Window, shard: ShardId) {
        let rec = state.windows.get_mut(&window).and_then(|rec| rec.shards.get_mut(&shard));
        if let Some(rec) = rec.filter(|rec| rec.job.parked.is_some()) {
            rec.job = Job::default();
        }
    }

    /// Has capture commit everything the log holds now and waits for it.
    ///
    /// # Errors
    /// `Timeout` when capture does not get there.
    pub async fn flush(&self) -> Result<(), ControlError> {
        let log = &self.deps().log;
        let mut seal = SealDoc {
            kind: SealKind::Hand,
            window: 0,
            k: 0,
            ends: Default::default(),
            route_version: 0,
            decided_ms: 0,
            writer: String::new(),
        };
        for partition in 0..log.partitions() {
            seal.set_end(log.epoch(), partition, log.bounds(partition).await?.end);
        }
        self.ask_for(&seal);
        self.until_reached(&seal).await
    }

    /// Waits until the chain heads are at a seal's ends.
    async fn until_reached(&self, seal: &SealDoc) -> Result<(), ControlError> {
        let settings = &self.deps().settings;
        let waited = async {
            loop {
                let mut state = self.0.state.lock().await;
                self.refresh(&mut state).await?;
                if state.chain.reached(seal) {
                    return Ok::<(), ControlError>(());
                }
                drop(state);
                tokio::time::sleep(CHAIN_LOOK).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(settings.hand_timeout_s), waited).await {
            Ok(reached) => reached,
            Err(_) => Err(ControlError::Timeout(format!(
                "capture did not commit what the log holds within {} s; look at its log lines, then try again",
                settings.hand_timeout_s
            ))),
        }
    }
}

/// What a seal by hand means, in sentences.
fn seal_message(window: Window, seal: Option<&SealDoc>, written: bool, points: u64, closes_at_ms: i64) -> Vec<String> {
    let Some(seal) = seal else { return Vec::new() };
    let did = if written { "sealed" } else { "nothing new since its seal" };
    let mut message =
        vec![format!("window {}: {did} ({} seal {}), {points} points captured", rfc3339(window.start_ms()), seal.kind.as_str(), seal.k)];
    message.push(if seal.kind.is_complete() {
        "the window is complete at this seal; points that come later make a late seal and a new generation".to_owned()
    } else {
        format!("later points of the window make a later generation; it stays open until {}", rfc3339(closes_at_ms))
    });
    message
}
