//! The only place that wires: a data directory becomes a store, a log, capture, control, build and a catalog, sharing one clock and one memory budget.
//!
//! Invariant: whoever has a `Node` holds the directory's lock, so the old process is gone and its jobs may be taken over at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool};
use futures::FutureExt;
use tailors_build::{BuildDeps, BuildError, DayOrder};
use tailors_capture::{CaptureDeps, Flushing};
use tailors_control::{BuildJob, Control, ControlDeps, DayJob, JobError, RunBuild, RunDay};
use tailors_format::doc::{JobDoc, ManifestDoc, ManifestFile};
use tailors_model::{Clock, Window};
use tailors_query::{ChunkSource, SourceSettings};
use tailors_store::catalog::Catalog;
use tailors_store::log::embedded::{EmbeddedLog, EmbeddedLogSettings, Fsync};
use tailors_store::log::{Log, LogError};
use tailors_store::objects::local::LocalStore;
use tailors_store::{Objects, RetrySettings, chain, registry, routes};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock::SystemClock;
use crate::datadir::{DataDir, DirLock};
use crate::exit::{Exit, Failure};
use crate::settings::{FsyncSetting, Settings};

/// N of `org-mod-N`, fixed when a store is created.
const MOD_COUNT: u16 = 64;

/// Everything that runs on a data directory.
pub(crate) struct Node {
    /// Time of this system.
    pub(crate) clock: Arc<dyn Clock>,
    /// The object store.
    pub(crate) objects: Objects,
    /// The embedded log.
    pub(crate) log: Arc<EmbeddedLog>,
    /// Seals, plans, publishes.
    pub(crate) control: Control,
    /// Reads chunks for queries.
    pub(crate) source: Arc<ChunkSource>,
    settings: Settings,
    writer: String,
    flush_to: watch::Sender<BTreeMap<u32, u64>>,
    /// What intake and control know of windows with points, and the catalog has to.
    pub(crate) windows_with_points: watch::Sender<BTreeSet<Window>>,
    _lock: DirLock,
}

/// What a role ended with.
type RoleEnd = Result<(), Failure>;

/// Bytes of the operating system's randomness.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Failure::unavailable(format!("no randomness: {error}")))?;
    Ok(bytes)
}

/// The store below `path` for readers: changes nothing, needs no lock.
pub(crate) fn read_store(path: &Path) -> Result<Objects, Failure> {
    objects(path, LocalStore::open_read_only(path))
}

/// The store below `path` for the one process that holds the lock: what a killed one left half written is removed.
pub(crate) fn write_store(path: &Path) -> Result<Objects, Failure> {
    objects(path, LocalStore::open(path))
}

/// The store below `path` for a second writer beside one that may live.
pub(crate) fn store_beside(path: &Path) -> Result<Objects, Failure> {
    objects(path, LocalStore::open_beside(path))
}

fn objects<E: std::fmt::Display>(path: &Path, store: Result<LocalStore, E>) -> Result<Objects, Failure> {
    let store = store.map_err(|error| Failure::unavailable(format!("{}: {error}", path.display())))?;
    Ok(Objects::new(Arc::new(store), RetrySettings::default(), u64::from_le_bytes(random()?)))
}

impl Node {
    /// Opens everything; runs nothing yet.
    pub(crate) async fn open(dir: &DataDir, lock: DirLock, settings: Settings, clock: SystemClock) -> Result<Self, Failure> {
        let objects = write_store(&dir.store())?;
        dir.clear_spill()?;
        let writer: String = random::<16>()?.iter().map(|byte| format!("{byte:02x}")).collect();
        let store_clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let clock: Arc<dyn Clock> = Arc::new(clock);
        let mint = random::<16>()?;
        let identity = EmbeddedLog::identity(&dir.log(), || mint).map_err(log_failure)?;
        let epoch = registry::register_stream(&objects, &identity, clock.now_ms()).await?;
        routes::init(&objects, MOD_COUNT).await?;
        let log = open_log(dir, &settings, epoch, &clock, &objects, &writer).await?;
        let (flush_to, _) = watch::channel(BTreeMap::new());
        let (windows_with_points, _) = watch::channel(BTreeSet::new());
        let memory: Arc<dyn MemoryPool> =
            Arc::new(FairSpillPool::new(usize::try_from(settings.build.memory_bytes_max).unwrap_or(usize::MAX)));
        let control = Control::new(ControlDeps {
            log: log.clone(),
            objects: objects.clone(),
            clock: clock.clone(),
            store_clock,
            settings: settings.control(),
            writer: writer.clone(),
            run_build: builder(&objects, &clock, &settings, dir.spill(), &writer, &memory),
            run_day: day_maker(&objects, &clock, &settings, dir.spill(), &memory),
            flush_to: flush_to.clone(),
            windows_with_points: windows_with_points.clone(),
        });
        let catalog = Arc::new(Catalog::told(objects.clone(), windows_with_points.subscribe()));
        // Builds of this process must be visible when `tailors build` returns; the local feed costs one look at a file.
        let source = SourceSettings { snapshot_age_ms_max: 0, ..settings.query.source };
        let source = Arc::new(ChunkSource::new(catalog, objects.clone(), source));
        Ok(Self { clock, objects, log, control, source, settings, writer, flush_to, windows_with_points, _lock: lock })
    }

    /// Starts capture and control; they end when `shutdown` turns true. The first to fail ends the set.
    pub(crate) fn start(&self, roles: &mut JoinSet<RoleEnd>, shutdown: &watch::Receiver<bool>) {
        let capture = CaptureDeps {
            log: self.log.clone(),
            objects: self.objects.clone(),
            clock: self.clock.clone(),
            writer: self.writer.clone(),
            settings: self.settings.capture.clone(),
            seals_waiting: self.flush_to.subscribe(),
            flushing: {
                let control = self.control.clone();
                Flushing(Arc::new(move |orgs| control.flushing(orgs)))
            },
            accept_holes: self.settings.log.accept_holes,
        };
        let stop = shutdown.clone();
        roles.spawn(async move {
            tailors_capture::run(capture, stop).await.map_err(|error| role_failure(format!("capture: {error}"), error.is_fatal()))
        });
        let (control, stop) = (self.control.clone(), shutdown.clone());
        roles.spawn(async move { control.run(stop).await.map_err(|error| role_failure(format!("control: {error}"), error.is_fatal())) });
        let (log, mut stop) = (self.log.clone(), shutdown.clone());
        roles.spawn(async move {
            tokio::select! {
                why = log.fatal() => Err(Failure { message: format!("TLR-4003: {why}"), exit: Exit::Fsync }),
                // An error means that the sender is gone: the process ends anyway.
                _ = stop.wait_for(|stop| *stop) => Ok(()),
            }
        });
    }

    /// Ends the log tidily; what was acknowledged is on disk already.
    pub(crate) async fn close(&self) {
        if let Err(error) = self.log.close().await {
            tracing::warn!(%error, "closing the log");
        }
    }
}

/// Why a role ended; `fatal`: an fsync failed.
fn role_failure(message: String, fatal: bool) -> Failure {
    let (message, exit) = if fatal { (format!("TLR-4003: {message}"), Exit::Fsync) } else { (message, Exit::Unavailable) };
    Failure { message, exit }
}

fn log_failure(error: LogError) -> Failure {
    let exit = if matches!(error, LogError::Fatal(_)) { Exit::Fsync } else { Exit::Unavailable };
    Failure { message: format!("log: {error}"), exit }
}

async fn open_log(
    dir: &DataDir,
    settings: &Settings,
    epoch: u32,
    clock: &Arc<dyn Clock>,
    objects: &Objects,
    writer: &str,
) -> Result<Arc<EmbeddedLog>, Failure> {
    let fsync = match settings.log.fsync {
        FsyncSetting::Always => Fsync::Always,
        FsyncSetting::Never => Fsync::Never,
    };
    let log =
        EmbeddedLogSettings { partitions: settings.log.partitions, fsync, accept_damage: settings.log.accept_damage, ..Default::default() };
    let mut had = settings.log.partitions;
    while chain::genesis(objects, epoch, had).await?.is_some() {
        had += 1;
    }
    if had > settings.log.partitions {
        let (asked, path) = (settings.log.partitions, dir.path().display());
        return Err(Failure::usage(format!("TLR-4008: log.partitions is {asked}, and {path} has {had}; they may grow, never shrink")));
    }
    let mut heads = Vec::new();
    for partition in 0..settings.log.partitions {
        let genesis = chain::ensure_genesis(objects, epoch, partition, 0, writer).await?;
        // No hint yet: the last node listed is on the chain, wherever it is.
        let listed = objects.list(&tailors_format::key::nodes(epoch, partition)).await?;
        let newest = listed.last().and_then(|key| tailors_format::key::last_number(key)).unwrap_or(genesis);
        heads.push(Some(chain::head(objects, epoch, partition, newest.saturating_add(2)).await?.next));
    }
    let (path, clock) = (dir.log(), clock.clone());
    let opened = tokio::task::spawn_blocking(move || EmbeddedLog::open(&path, log, epoch, clock, heads)).await;
    let log = opened.map_err(|error| Failure::unavailable(error.to_string()))?.map_err(log_failure)?;
    if log.epoch() != epoch {
        return Err(Failure::unavailable(format!("the log in {} belongs to another store", dir.log().display())));
    }
    Ok(log)
}

/// How control has a job run: the build stage in this process, on the builds' share of the memory.
fn builder(
    objects: &Objects,
    clock: &Arc<dyn Clock>,
    settings: &Settings,
    spill: PathBuf,
    writer: &str,
    memory: &Arc<dyn MemoryPool>,
) -> RunBuild {
    let (objects, clock, settings, writer) = (objects.clone(), clock.clone(), settings.build.stage(spill), writer.to_owned());
    let memory = memory.clone();
    Arc::new(move |job: BuildJob| {
        let deps = BuildDeps {
            objects: objects.clone(),
            memory: memory.clone(),
            clock: clock.clone(),
            writer: writer.clone(),
            late_from: job.late_from.clone(),
        };
        let settings = settings.clone();
        async move { run_job(job, deps, &settings).await }.boxed()
    })
}

async fn run_job(job: BuildJob, deps: BuildDeps, settings: &tailors_build::Settings) -> Result<(ManifestDoc, JobDoc), JobError> {
    let output = tailors_build::run(&job.plan, &job.nodes, &job.routes, deps, settings, &job.attempt).await.map_err(job_error)?;
    let history = JobDoc {
        started_ms: output.started_ms,
        ended_ms: output.ended_ms,
        outcome: "built".to_owned(),
        raw_bytes_read: output.raw_bytes_read,
        stages_us: output.stages_us,
        memory_peak_bytes: output.memory_peak_bytes,
    };
    Ok((output.manifest, history))
}

fn job_error(error: BuildError) -> JobError {
    match error {
        BuildError::Input { segment, why } => JobError::Input { segment, why },
        BuildError::Bug(why) | BuildError::Collision(why) => JobError::Bug(why),
        other => JobError::Retry(other.to_string()),
    }
}

/// How control has a day's file made: in this process, on the same memory as builds.
fn day_maker(objects: &Objects, clock: &Arc<dyn Clock>, settings: &Settings, spill: PathBuf, memory: &Arc<dyn MemoryPool>) -> RunDay {
    let (objects, clock, memory, settings) = (objects.clone(), clock.clone(), memory.clone(), settings.build.stage(spill));
    Arc::new(move |job: DayJob| {
        let (objects, clock, memory, settings) = (objects.clone(), clock.clone(), memory.clone(), settings.clone());
        async move { run_day_job(job, &objects, &memory, &clock, &settings).await }.boxed()
    })
}

async fn run_day_job(
    job: DayJob,
    objects: &Objects,
    memory: &Arc<dyn MemoryPool>,
    clock: &Arc<dyn Clock>,
    settings: &tailors_build::Settings,
) -> Result<(Vec<Vec<ManifestFile>>, JobDoc), JobError> {
    let targets = job.targets.iter().map(|plan| Window::starting_at_s(plan.window).ok_or(plan.window));
    let targets = targets.collect::<Result<Vec<Window>, i64>>().map_err(|window| JobError::Bug(format!("{window} is no window")))?;
    let order = DayOrder { shard: job.shard, day: job.day, inputs: job.inputs, targets, made: job.made, attempt: job.attempt };
    let output = tailors_build::run_day(&order, objects, memory, clock, settings).await.map_err(job_error)?;
    let history = JobDoc {
        started_ms: output.started_ms,
        ended_ms: output.ended_ms,
        outcome: "built".to_owned(),
        raw_bytes_read: output.bytes_read,
        stages_us: output.stages_us,
        memory_peak_bytes: output.memory_peak_bytes,
    };
    Ok((output.files, history))
}
