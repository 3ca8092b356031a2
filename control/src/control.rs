//! The loop in `up`: each tick repairs the feed, writes the seals that are due, plans, builds, marks done and deletes what is superseded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex as StdMutex, PoisonError, RwLock};
use std::time::Duration;

use tailors_model::{Clock, OrgId, RouteTable, ShardId, Window};
use tailors_store::{Objects, StoreError, log::Log, registry};
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::JoinSet;

use crate::dirty::Dirty;
use crate::state::State;
use crate::{ControlError, RunBuild, RunDay, Settings};

/// Windows whose documents are read again at a time: another control may have decided something where nothing is due here.
const REREAD_WINDOWS: usize = 8;
/// Milliseconds from one such turn to the next.
const REREAD_EVERY_MS: i64 = 5_000;

/// What control needs.
#[derive(Clone)]
pub struct ControlDeps {
    /// The log, for its ends.
    pub log: Arc<dyn Log>,
    /// The store.
    pub objects: Objects,
    /// Time of the system (with `up --now`: the offset one).
    pub clock: Arc<dyn Clock>,
    /// Time of the store's LastModified; for a local store the machine's clock. Used for the reader grace alone.
    pub store_clock: Arc<dyn Clock>,
    /// Settings.
    pub settings: Settings,
    /// Uuid of this process.
    pub writer: String,
    /// Runs a build.
    pub run_build: RunBuild,
    /// Makes a day's file.
    pub run_day: RunDay,
    /// Tells capture which offsets a seal waits for (partition -> offset); capture holds the receiver. Others may send too, but only grow it.
    pub flush_to: watch::Sender<BTreeMap<u32, u64>>,
    /// Windows with points, sealed or not: grows by what the chain holds. The intake adds what it acknowledges, the catalog holds the receiver.
    pub windows_with_points: watch::Sender<BTreeSet<Window>>,
}

/// Control of one store. Clones share everything.
#[derive(Clone)]
pub struct Control(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) deps: ControlDeps,
    pub(crate) state: Mutex<State>,
    /// Signalled when a job ends: who waits for a generation looks again.
    pub(crate) job_ended: Notify,
    pub(crate) jobs: StdMutex<JoinSet<()>>,
    dirty: RwLock<Dirty>,
    /// The newest route table a tick has read.
    newest_routes: RwLock<Option<Arc<RouteTable>>>,
}

impl Control {
    /// A control that has read nothing yet.
    pub fn new(deps: ControlDeps) -> Self {
        Self(Arc::new(Inner {
            deps,
            state: Mutex::new(State::default()),
            job_ended: Notify::new(),
            jobs: StdMutex::new(JoinSet::new()),
            dirty: RwLock::new(Dirty::default()),
            newest_routes: RwLock::new(None),
        }))
    }

    pub(crate) fn deps(&self) -> &ControlDeps {
        &self.0.deps
    }

    /// Ticks until `shutdown` turns true (or its sender goes away); then drops running builds, whose files are orphans.
    ///
    /// # Errors
    /// Only what no retry mends.
    pub async fn run(&self, mut shutdown: watch::Receiver<bool>) -> Result<(), ControlError> {
        let pause = Duration::from_millis(self.deps().settings.tick_ms);
        while !*shutdown.borrow() {
            match self.tick().await {
                Ok(()) => {}
                Err(error) if error.ends_the_process() => {
                    self.cancel_jobs();
                    return Err(error);
                }
                Err(error) => {
                    metrics::counter!("tailors_control_tick_failed_total").increment(1);
                    tracing::warn!(%error, "a tick of control failed; the next one goes on");
                }
            }
            tokio::select! {
                changed = shutdown.changed() => if changed.is_err() { break },
                () = self.0.job_ended.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.cancel_jobs();
        Ok(())
    }

    fn cancel_jobs(&self) {
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }

    /// One tick: everything that is due now. Builds are started, not awaited.
    ///
    /// # Errors
    /// Store and log errors; the next tick goes on.
    pub async fn tick(&self) -> Result<(), ControlError> {
        let mut state = self.0.state.lock().await;
        let deps = self.deps();
        let now_ms = deps.clock.now_ms();
        self.end_replaced_streams(&mut state).await?;
        self.refresh(&mut state).await?;
        let windows = state.chain.windows();
        deps.windows_with_points.send_if_modified(|known| {
            let before = known.len();
            known.extend(windows);
            known.len() > before
        });
        state.captured_to_ms = self.captured_to_ms(&state, now_ms).await?;
        if state.reread_ms.is_none_or(|reread| !(0..REREAD_EVERY_MS).contains(&(now_ms - reread))) {
            if let Err(error) = state.reread_some(&deps.objects, REREAD_WINDOWS).await {
                tracing::warn!(%error, "a window can't be read again; the others go on");
            }
            state.reread_ms = Some(now_ms);
        }
        state.open_for_closing(&deps.objects, now_ms, deps.settings.close_after_ms()).await?;
        let windows: Vec<Window> = state.windows.keys().rev().copied().collect();
        // Newest first: an early look should not wait for a month of history.
        let mut first_error = self.seal_due(&mut state, &windows).await.err();
        for window in windows {
            if let Err(error) = self.advance(&mut state, window, deps.settings.build_enabled).await {
                // One window's trouble never stops another's.
                tracing::warn!(%window, %error, "this window waits for the next tick");
                first_error.get_or_insert(error);
            }
        }
        if let Err(error) = self.advance_days(&mut state).await {
            tracing::warn!(%error, "days wait for the next tick");
            first_error.get_or_insert(error);
        }
        self.account(&mut state).await?;
        self.sweep(&mut state).await?;
        first_error.map_or(Ok(()), Err)
    }

    /// A log that was made anew under its old name is another stream: the old one gets its end nodes, else seals would wait for it for ever.
    /// Once per process: the log in use does not change under it.
    async fn end_replaced_streams(&self, state: &mut State) -> Result<(), ControlError> {
        let deps = self.deps();
        if state.replaced_streams_ended {
            return Ok(());
        }
        let current = deps.log.identity();
        for (epoch, stream) in registry::streams(&deps.objects).await? {
            let replaced = stream.name == current.name && stream.topic_uuid != current.topic_uuid && epoch < deps.log.epoch();
            if replaced && !registry::is_ended(&deps.objects, epoch).await? {
                let end = registry::end_stream(&deps.objects, epoch, &deps.writer).await?;
                tracing::error!(epoch, ends = ?end.ends, "the log was made anew; what the old one held beyond these offsets is lost");
                metrics::counter!("tailors_control_streams_ended_total").increment(1);
            }
        }
        state.replaced_streams_ended = true;
        Ok(())
    }

    /// Follows the store.
    pub(crate) async fn refresh(&self, state: &mut State) -> Result<(), ControlError> {
        let deps = self.deps();
        state.refresh(&deps.objects, deps.log.epoch(), deps.log.partitions(), deps.clock.now_ms()).await?;
        Ok(())
    }

    /// Counts the dirty windows: ended, with captured points that no published generation holds.
    async fn account(&self, state: &mut State) -> Result<(), ControlError> {
        let now_ms = self.deps().clock.now_ms();
        let routes = Arc::new(tailors_store::routes::newest(&self.deps().objects).await?);
        let mut dirty: BTreeSet<(Window, ShardId)> = BTreeSet::new();
        let ended: Vec<Window> = state.windows.keys().copied().filter(|window| window.end_ms() <= now_ms).collect();
        for window in ended {
            state.update_facts(window);
            if state.windows.get(&window).is_none_or(|rec| rec.settled && rec.new.is_none()) {
                // Nothing is planned for it until it gets points again.
                state.chain.forget(window);
                continue;
            }
            let captured = state.captured(&self.deps().objects, &routes, window).await?;
            let Some(rec) = state.windows.get(&window) else { continue };
            for (shard, input) in &captured.shards {
                let held = rec.shards.get(shard).and_then(|known| known.base_digest());
                if held != Some(input.digest.as_str()) {
                    dirty.insert((window, *shard));
                }
            }
        }
        let mut known = self.0.dirty.write().unwrap_or_else(PoisonError::into_inner);
        known.replace(&dirty, &routes, now_ms);
        metrics::gauge!("tailors_control_dirty_windows").set(known.total() as f64);
        *self.0.newest_routes.write().unwrap_or_else(PoisonError::into_inner) = Some(routes);
        Ok(())
    }

    /// Dirty windows of an org as the intake counts them (interfaces.md B8): ended windows with captured points that no published generation holds.
    /// As of the last tick.
    pub fn dirty_windows(&self, org: OrgId) -> usize {
        let routes = self.0.newest_routes.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(routes) = routes else { return 0 };
        let shard = routes.shard(org, Window::of_ms(self.deps().clock.now_ms()));
        self.0.dirty.read().unwrap_or_else(PoisonError::into_inner).of(org, shard)
    }

    /// Capture says whose points a flush brings, before it commits them.
    pub fn flushing(&self, orgs: &BTreeSet<(OrgId, Window)>) {
        self.0.dirty.write().unwrap_or_else(PoisonError::into_inner).tell(orgs);
    }
}

impl ControlError {
    /// Whether going on makes no sense.
    fn ends_the_process(&self) -> bool {
        self.is_fatal() || matches!(self, Self::Store(StoreError::Denied(_)))
    }
}
