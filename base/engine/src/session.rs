//! A session that runs a physical plan in this process, its memory counted in the pool given. The distributed one takes its place here.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use datafusion::error::Result as PlanResult;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream, collect, execute_stream};
use datafusion::prelude::SessionConfig;

/// Runs plans on the current tokio runtime.
#[derive(Clone, Debug)]
pub struct LocalSession {
    task: Arc<TaskContext>,
    memory: Arc<CountedPool>,
}

impl LocalSession {
    /// `partitions` is the parallelism, `batch_rows` the rows of the operators' batches; sorts and aggregates spill to `spill_dir`.
    pub fn new(partitions: usize, batch_rows: usize, memory: Arc<dyn MemoryPool>, spill_dir: Option<PathBuf>) -> PlanResult<Self> {
        let memory = Arc::new(CountedPool { inner: memory, reserved: AtomicUsize::new(0), peak: AtomicUsize::new(0) });
        let mut runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::clone(&memory) as Arc<dyn MemoryPool>);
        if let Some(dir) = spill_dir {
            runtime = runtime.with_temp_file_path(dir);
        }
        // A quarter of the default: a merge of spilled runs must also fit small budgets.
        let config = SessionConfig::new().with_target_partitions(partitions.max(1)).with_batch_size(batch_rows.max(1));
        let config = config.with_sort_spill_reservation_bytes(2 << 20);
        let task = TaskContext::default().with_session_config(config).with_runtime(runtime.build_arc()?);
        Ok(Self { task: Arc::new(task), memory })
    }

    /// The same session with batches of another size.
    pub fn with_batch_rows(&self, batch_rows: usize) -> Self {
        let config = self.task.session_config().clone().with_batch_size(batch_rows.max(1));
        let task = TaskContext::default().with_session_config(config).with_runtime(self.task.runtime_env());
        Self { task: Arc::new(task), memory: Arc::clone(&self.memory) }
    }

    /// The pool as the plans see it: what is reserved here is counted.
    pub fn memory(&self) -> Arc<dyn MemoryPool> {
        Arc::clone(&self.memory) as Arc<dyn MemoryPool>
    }

    /// Runs a plan and collects its rows.
    pub async fn collect(&self, plan: Arc<dyn ExecutionPlan>) -> PlanResult<Vec<RecordBatch>> {
        collect(plan, Arc::clone(&self.task)).await
    }

    /// Runs a plan as one stream of batches.
    pub fn stream(&self, plan: Arc<dyn ExecutionPlan>) -> PlanResult<SendableRecordBatchStream> {
        execute_stream(plan, Arc::clone(&self.task))
    }

    /// Greatest number of bytes that were reserved through this session at once.
    pub fn memory_peak_bytes(&self) -> u64 {
        self.memory.peak.load(Ordering::Relaxed) as u64
    }
}

/// Passes everything on to the pool it was given and remembers the peak.
#[derive(Debug)]
struct CountedPool {
    inner: Arc<dyn MemoryPool>,
    reserved: AtomicUsize,
    peak: AtomicUsize,
}

impl CountedPool {
    fn add(&self, bytes: usize) {
        let now = self.reserved.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(now, Ordering::Relaxed);
    }
}

impl std::fmt::Display for CountedPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl MemoryPool for CountedPool {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.inner.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.inner.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.inner.grow(reservation, additional);
        self.add(additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.inner.shrink(reservation, shrink);
        self.reserved.fetch_sub(shrink, Ordering::Relaxed);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> PlanResult<()> {
        self.inner.try_grow(reservation, additional)?;
        self.add(additional);
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.inner.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.inner.memory_limit()
    }
}
