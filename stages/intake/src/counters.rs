//! What was taken and refused since this process started, per org and reason: as `tailors_intake_*` metrics, and as numbers for `status` and tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use metrics::counter;

use tailors_model::OrgId;

use crate::refusal::{Cause, Refused};

/// A snapshot of the counters.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Acknowledged points per org.
    pub points: BTreeMap<OrgId, u64>,
    /// Refused points per org and reason name, of requests that were answered for good.
    pub refused_points: BTreeMap<(OrgId, &'static str), u64>,
    /// Requests turned away whole, per org (none before a key is known) and cause name.
    pub refused_requests: BTreeMap<(Option<OrgId>, &'static str), u64>,
}

/// The counters of one intake.
#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<Counts>);

impl Counters {
    /// A request was acknowledged.
    pub(crate) fn taken(&self, org: OrgId, points: u64, refused: &Refused) {
        let label = org.to_string();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.points.entry(org).or_default() += points;
        counter!("tailors_intake_points_total", "org" => label.clone()).increment(points);
        for (reason, points) in refused.counts() {
            let name = reason.describe().1;
            *counts.refused_points.entry((org, name)).or_default() += points;
            counter!("tailors_intake_refused_points_total", "org" => label.clone(), "reason" => name).increment(points);
        }
    }

    /// A request was turned away.
    pub(crate) fn turned_away(&self, org: Option<OrgId>, cause: Cause) {
        let name = cause.id_name().1;
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.refused_requests.entry((org, name)).or_default() += 1;
        let label = org.map_or_else(String::new, |org| org.to_string());
        counter!("tailors_intake_refused_requests_total", "org" => label, "reason" => name).increment(1);
    }

    /// The numbers now.
    pub(crate) fn snapshot(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
