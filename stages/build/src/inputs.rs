//! Chain nodes -> the extents that a build of (shard, window) reads (protocol.md 2.6).

use std::collections::{BTreeMap, BTreeSet};

use tailors_engine::RawExtent;
use tailors_format::doc::{NodeDoc, NodeKind, NodeRef, PlanDoc};
use tailors_model::{RouteTable, Window};

use crate::BuildError;

/// An extent of the plan's input.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) extent: RawExtent,
    /// What the node promises.
    pub(crate) payloads: u64,
    pub(crate) points: u64,
    /// Whether its node starts at or beyond the closed seal.
    pub(crate) late: bool,
}

/// What a plan reads and what it can't.
#[derive(Clone, Default, Debug)]
pub(crate) struct Inputs {
    pub(crate) extents: Vec<Input>,
    /// Lost offsets: (epoch, partition, start, next).
    pub(crate) holes: Vec<(u32, u32, u64, u64)>,
}

/// Extents in (epoch, partition, start, section, position) order: a fixed one, although nothing depends on it.
pub(crate) fn inputs(
    plan: &PlanDoc,
    window: Window,
    nodes: &[(NodeRef, NodeDoc)],
    routes: &RouteTable,
    late_from: &BTreeMap<(u32, u32), u64>,
) -> Result<Inputs, BuildError> {
    let sections: BTreeSet<String> = routes.sections_of(plan.shard, window).iter().map(ToString::to_string).collect();
    let window_key = window.to_string();
    let mut sorted: Vec<&(NodeRef, NodeDoc)> = nodes.iter().collect();
    sorted.sort_by_key(|(node, _)| *node);
    sorted.dedup_by_key(|(node, _)| *node);
    let mut out = Inputs::default();
    for ((epoch, partition, start), node) in sorted {
        if node.kind == NodeKind::Hole {
            out.holes.push((*epoch, *partition, *start, node.next));
        }
        let Some(raw) = &node.raw else { continue };
        if plan.quarantine.contains(&raw.key) {
            continue;
        }
        let late = late_from.get(&(*epoch, *partition)).is_some_and(|end| start >= end);
        let own = node.extents.iter().filter(|(section, _)| sections.contains(*section));
        for (first, end, payloads, points, _, _) in own.filter_map(|(_, windows)| windows.get(&window_key)).flatten() {
            if first >= end || *end > raw.bytes {
                let why = format!("node {epoch}/{partition}/{start} names bytes {first}..{end} of {}", raw.bytes);
                return Err(BuildError::Input { segment: raw.key.clone(), why });
            }
            let extent = RawExtent {
                key: raw.key.clone(),
                file_bytes: raw.bytes,
                start: *first,
                end: *end,
                epoch: *epoch,
                partition: *partition,
                offset_start: *start,
                offset_end: node.next,
            };
            out.extents.push(Input { extent, payloads: u64::from(*payloads), points: *points, late });
        }
    }
    Ok(out)
}
