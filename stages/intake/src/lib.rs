//! Intake: what agents send over HTTP becomes payloads in the log.
//!
//! In: Prometheus remote write 1.0 (`POST /api/v1/write`) and Datadog series (`POST /api/v2/series`, `GET /api/v1/validate`). Out: payloads, each of one
//! org and one window (formats.md section 1), appended to the log; replies exactly as in interfaces.md B8.
//! Invariants: the org comes from the API key alone; 2xx only after every append of the request was acknowledged; a bad point is refused and
//! counted by itself and never takes good ones with it; `received_at_us` grows strictly (P4); one `now` per request.
//! What if killed here: nothing acknowledged is lost; of an unanswered request any part may be stored, the sender repeats it and P4 removes the double.

pub mod admit;
pub mod auth;
pub mod counters;
pub mod decode;
pub mod decompress;
mod group;
mod http;
mod partition;
mod quota;
pub mod refusal;
mod run;
pub mod settings;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use tailors_model::{Clock, OrgId, Window};
use tailors_store::log::Log;
use tokio::sync::watch;

pub use auth::{Authorizer, Principal, Scope, Unavailable};
pub use counters::Counts;
pub use http::{CHALLENGES, SAMPLES_WRITTEN};
pub use partition::Partitioning;
pub use run::Intake;
pub use settings::{LatePolicy, OrgSettings, Settings};

/// How many dirty windows (ended, with acknowledged points that no published generation holds) an org has; known to within 60 s.
pub type DirtyWindows = Arc<dyn Fn(OrgId) -> usize + Send + Sync>;

/// All that the intake needs from outside.
pub struct IntakeDeps {
    /// Where payloads go.
    pub log: Arc<dyn Log>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who a key is.
    pub authorizer: Arc<dyn Authorizer>,
    /// Limits and policies.
    pub settings: Settings,
    /// Random id of this process, part of every payload's envelope.
    pub intake_id: u64,
    /// Random and kept secret, so that no sender can aim at the hash tables; reaches no bytes (the intake id does).
    pub hash_seed: u64,
    /// Every `received_at_us` given here is above this one: the last the log holds (`i64::MIN` for an empty log).
    pub received_floor_us: i64,
    /// Dirty windows of an org.
    pub dirty_windows: DirtyWindows,
    /// Grows by the windows of a request before its points are acknowledged, so that no reader takes one for empty.
    pub windows_with_points: watch::Sender<BTreeSet<Window>>,
}

/// The routes of the intake; unknown paths are left to whoever merges this router into a larger one.
pub fn router(intake: Arc<Intake>) -> Router {
    http::router(intake)
}
