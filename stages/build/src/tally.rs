//! What the partitions of a plan count beside their rows. Sums and greatest orders only, so that no schedule of threads shows in them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use tailors_model::{MetricKind, MetricMeta, OrgId};

use crate::merge::Order;

/// Counters of one pass over the raw data.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct PassCounts {
    /// Points of the envelopes after the org filter.
    pub(crate) read: u64,
    /// Points undecodable, of another window, or outside the admitted limits.
    pub(crate) corrupt: u64,
    /// Points read from late nodes; a part of `read`.
    pub(crate) late: u64,
    /// Points of payloads whose org is another shard's.
    pub(crate) filtered_points: u64,
    /// Those payloads.
    pub(crate) filtered_payloads: u64,
    /// Greatest received_at of the payloads kept.
    pub(crate) received_at_max_us: i64,
    /// Per extent: payloads, points before the filter.
    pub(crate) extents: BTreeMap<u32, (u64, u64)>,
}

impl PassCounts {
    fn add(&mut self, other: &Self) {
        self.read += other.read;
        self.corrupt += other.corrupt;
        self.late += other.late;
        self.filtered_points += other.filtered_points;
        self.filtered_payloads += other.filtered_payloads;
        self.received_at_max_us = self.received_at_max_us.max(other.received_at_max_us);
        for (extent, (payloads, points)) in &other.extents {
            let at = self.extents.entry(*extent).or_default();
            *at = (at.0 + payloads, at.1 + points);
        }
    }
}

/// Shared by the partitions of one pass; each adds once, at its end.
#[derive(Default, Debug)]
pub(crate) struct Tally {
    counts: Mutex<PassCounts>,
    metas: Mutex<Metas>,
}

impl Tally {
    pub(crate) fn add(&self, counts: &PassCounts) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).add(counts);
    }

    pub(crate) fn add_metas(&self, metas: Metas) {
        let mut all = self.metas.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, meta) in metas.0 {
            all.0.entry(name).or_default().merge(meta);
        }
    }

    pub(crate) fn counts(&self) -> PassCounts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn take_metas(&self) -> Metas {
        std::mem::take(&mut self.metas.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Metadata, field by field the greatest in P4 order among those that say something.
#[derive(Clone, Default, Debug)]
pub(crate) struct BestMeta {
    kind: Option<(Order, MetricKind)>,
    unit: Option<(Order, Bytes)>,
    interval_s: Option<(Order, u32)>,
    help: Option<(Order, Bytes)>,
}

fn best<T: Ord>(at: &mut Option<(Order, T)>, new: Option<(Order, T)>) {
    // Equal orders come from one payload; the greater value then decides, so that the result never depends on who came first.
    if new > *at {
        *at = new;
    }
}

impl BestMeta {
    /// Takes what `meta` says.
    pub(crate) fn say(&mut self, order: Order, kind: MetricKind, unit: &Bytes, interval_s: u32, help: &Bytes) {
        best(&mut self.kind, (kind != MetricKind::Unknown).then_some((order, kind)));
        best(&mut self.interval_s, (interval_s != 0).then_some((order, interval_s)));
        if !unit.is_empty() && self.unit.as_ref().is_none_or(|at| (at.0, &at.1) < (order, unit)) {
            self.unit = Some((order, unit.clone()));
        }
        if !help.is_empty() && self.help.as_ref().is_none_or(|at| (at.0, &at.1) < (order, help)) {
            self.help = Some((order, help.clone()));
        }
    }

    fn merge(&mut self, other: Self) {
        best(&mut self.kind, other.kind);
        best(&mut self.unit, other.unit);
        best(&mut self.interval_s, other.interval_s);
        best(&mut self.help, other.help);
    }

    /// The result; what nobody said is taken from `default`.
    pub(crate) fn value(&self, default: &MetricMeta) -> MetricMeta {
        MetricMeta {
            kind: self.kind.map_or(default.kind, |(_, kind)| kind),
            unit: self.unit.as_ref().map_or_else(|| default.unit.clone(), |(_, unit)| unit.clone()),
            interval_s: self.interval_s.map_or(default.interval_s, |(_, interval)| interval),
            help: self.help.as_ref().map_or_else(|| default.help.clone(), |(_, help)| help.clone()),
        }
    }
}

/// Metadata of metrics.
#[derive(Clone, Default, Debug)]
pub(crate) struct Metas(BTreeMap<(OrgId, Bytes), BestMeta>);

impl Metas {
    pub(crate) fn of(&mut self, org: OrgId, metric: &Bytes) -> &mut BestMeta {
        // Copied: the name is a slice of a whole label block, which it must not keep.
        self.0.entry((org, Bytes::copy_from_slice(metric))).or_default()
    }

    pub(crate) fn value(&self, name: &(OrgId, Bytes)) -> MetricMeta {
        self.0.get(name).map_or_else(MetricMeta::default, |meta| meta.value(&MetricMeta::default()))
    }
}
