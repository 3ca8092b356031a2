//! What was taken and refused since this process started, per org and reason: as `tailors_intake_*` metrics, and as numbers for `status` and tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use metrics::counter;

use tailors_model::OrgId;

use crate::auth::Principal;
use crate::refusal::{Cause, Refused};

/// A snapshot of the counters.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Acknowledged points per org.
    pub points: BTreeMap<OrgId, u64>,
    /// Refused points per org and reason name, of requests that were answered for good.
    pub refused_points: BTreeMap<(OrgId, &'static str), u64>,
    /// Requests turned away whole, per org (none before a key is known, and of a key without one) and cause name.
    pub refused_requests: BTreeMap<(Option<OrgId>, &'static str), u64>,
}

/// Whose request it is, as far as its key says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Whose {
    /// No key, or one that is not known.
    Unknown,
    /// A key without an org: an admin's.
    NoOrg,
    /// An org's.
    Org(OrgId),
}

impl Whose {
    pub(crate) fn of(principal: &Principal) -> Self {
        principal.org.map_or(Self::NoOrg, Self::Org)
    }

    /// As the label `org` of a metric: numbers are orgs, org 0 among them.
    fn label(self) -> String {
        match self {
            Self::Unknown => String::new(),
            Self::NoOrg => "none".to_owned(),
            Self::Org(org) => org.to_string(),
        }
    }
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
    pub(crate) fn turned_away(&self, whose: Whose, cause: Cause) {
        let name = cause.id_name().1;
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let org = if let Whose::Org(org) = whose { Some(org) } else { None };
        *counts.refused_requests.entry((org, name)).or_default() += 1;
        counter!("tailors_intake_refused_requests_total", "org" => whose.label(), "reason" => name).increment(1);
    }

    /// The numbers now.
    pub(crate) fn snapshot(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_key_is_not_org_0() {
        let labels = [None, Some(OrgId(0)), Some(OrgId(7))].map(|org| Whose::of(&Principal { org, scopes: Vec::new() }).label());
        assert_eq!(labels, ["none", "0", "7"]);
        assert_eq!(Whose::Unknown.label(), "");
    }
}
