//! The loop in `up`: each tick repairs the feed, writes the seals that are due, plans, builds, marks done and deletes what is superseded.

use std::collections::BTreeMap;
use std::sync::Arc;

use tailors_model::{Clock, OrgId};
use tailors_store::{Objects, log::Log};
use tokio::sync::watch;

use crate::{ControlError, RunBuild, Settings};

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
    /// Tells capture which offsets a seal waits for (partition -> offset); capture holds the receiver. Others may send too, but only grow it.
    pub flush_to: watch::Sender<BTreeMap<u32, u64>>,
}

/// Control of one store. Clones share everything.
#[derive(Clone)]
pub struct Control {}

impl Control {
    /// A control that has read nothing yet.
    pub fn new(deps: ControlDeps) -> Self {
        let _ = deps;
        todo!()
    }

    /// Ticks until `shutdown` turns true; then stops starting things and drops running builds.
    ///
    /// # Errors
    /// Only what no retry mends.
    pub async fn run(&self, shutdown: watch::Receiver<bool>) -> Result<(), ControlError> {
        let _ = shutdown;
        todo!()
    }

    /// One tick: everything that is due now. Builds are started, not awaited.
    ///
    /// # Errors
    /// Store and log errors; the next tick goes on.
    pub async fn tick(&self) -> Result<(), ControlError> {
        todo!()
    }

    /// Dirty windows as the intake counts them (interfaces.md B8): ended windows with captured points that no published generation holds. Counted
    /// per raw section, so orgs that share a `mod` group share the number. As of the last tick.
    pub fn dirty_windows(&self, org: OrgId) -> usize {
        let _ = org;
        todo!()
    }
}
