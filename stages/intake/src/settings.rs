//! What an operator may move, as plain data: default, unit and bounds in the docs. Fixed limits are in `tailors_model::limits`.

use std::collections::BTreeMap;

use tailors_model::{OrgId, limits};

use crate::Partitioning;

/// Settings of the intake.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What holds for every org without an entry in `overrides`.
    pub org: OrgSettings,
    /// Orgs with settings of their own, by number.
    #[serde(with = "by_number")]
    pub overrides: BTreeMap<OrgId, OrgSettings>,
    /// How payloads are spread over partitions. Default `balanced`.
    pub partitioning: Partitioning,
    /// Bytes of a remote-write body as sent; default and most 16 MiB.
    pub remote_write_body_bytes_max: usize,
    /// Bytes of a remote-write body after decompression; default and most 32 MiB.
    pub remote_write_decoded_bytes_max: usize,
    /// Bytes of a Datadog series body as sent; default 512,000 (Datadog's own limit).
    pub datadog_body_bytes_max: usize,
    /// Bytes of a Datadog series body after decompression; default 5,242,880 (Datadog's own limit).
    pub datadog_decoded_bytes_max: usize,
    /// Points of one request; default and most 1,000,000.
    pub request_points_max: usize,
    /// Windows of one request; default and most 64.
    pub request_windows_max: usize,
    /// Bytes of bodies in work at a time, a body counted four times (as sent, decoded, as payloads); beyond it 503. Default 1 GiB, at least 64 MiB.
    pub inflight_bytes_max: usize,
    /// Seconds that a body may take to arrive; default 30.
    pub body_timeout_s: u64,
    /// Seconds after which a sender is asked to come again (`Retry-After`); default 5.
    pub retry_after_s: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            org: OrgSettings::default(),
            overrides: BTreeMap::new(),
            partitioning: Partitioning::Balanced,
            remote_write_body_bytes_max: limits::REQUEST_BYTES_MAX,
            remote_write_decoded_bytes_max: limits::REQUEST_DECODED_BYTES_MAX,
            datadog_body_bytes_max: 512_000,
            datadog_decoded_bytes_max: 5_242_880,
            request_points_max: limits::REQUEST_POINTS_MAX,
            request_windows_max: limits::REQUEST_WINDOWS_MAX,
            inflight_bytes_max: 1 << 30,
            body_timeout_s: 30,
            retry_after_s: 5,
        }
    }
}

impl Settings {
    /// The settings in force for an org.
    pub fn of(&self, org: OrgId) -> &OrgSettings {
        self.overrides.get(&org).unwrap_or(&self.org)
    }
}

/// Maps by org as settings files have them: their keys are text.
mod by_number {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{BTreeMap, OrgId, OrgSettings};

    pub(super) fn serialize<S: Serializer>(map: &BTreeMap<OrgId, OrgSettings>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(map.iter().map(|(org, settings)| (org.0.to_string(), settings)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<OrgId, OrgSettings>, D::Error> {
        let map = BTreeMap::<String, OrgSettings>::deserialize(from)?;
        let numbered = map.into_iter().map(|(key, settings)| {
            let org = key.parse().map_err(|_| D::Error::custom(format!("intake.overrides: `{key}` is no number of an org")))?;
            Ok((OrgId(org), settings))
        });
        numbered.collect()
    }
}

/// What may differ by org.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OrgSettings {
    /// What happens to late points. Default `accept`.
    pub late_policy: LatePolicy,
    /// Seconds that a point may be old under `accept`; default 864,000 (10 d: an Agent's disk queue holds that much).
    pub late_max_s: u32,
    /// Seconds that a point may be old under `refuse`; default 10,800 (3 h).
    pub late_window_s: u32,
    /// Seconds that a point may lie ahead; default 900 (15 min).
    pub ahead_max_s: u32,
    /// Seconds that data is kept: the age limit of keys with scope `backfill`; default 39,398,400 (456 d).
    pub retention_s: u32,
    /// Dirty windows from which on a request that touches an ended window is turned away; default and most 512.
    pub dirty_windows_max: usize,
    /// Points a second, averaged over 10 s; 0 = no quota, the default.
    pub points_per_s_max: u64,
}

impl Default for OrgSettings {
    fn default() -> Self {
        Self {
            late_policy: LatePolicy::Accept,
            late_max_s: 10 * 86_400,
            late_window_s: 3 * 3_600,
            ahead_max_s: 15 * 60,
            retention_s: 456 * 86_400,
            dirty_windows_max: limits::DIRTY_WINDOWS_MAX,
            points_per_s_max: 0,
        }
    }
}

/// What happens to late points (interfaces.md B8).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LatePolicy {
    /// Taken up to `late_max_s`; late seals rebuild the windows they touch.
    #[default]
    Accept,
    /// Refused beyond `late_window_s`.
    Refuse,
}
