//! What is planned on a seal: inputs, base, and whether there is anything to build (protocol.md 2.3 Planning). Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tailors_format::chunk::ENCODER_VERSION;
use tailors_format::doc::{ManifestDoc, ManifestKind, NodeDoc, NodeRef, PlanDoc, PlanReason, SealDoc};
use tailors_model::{RouteTable, ShardId, Window};
use tailors_store::chain::ChainView;
use tailors_store::plans::nodes_digest;

/// The inputs of one shard of a window below a seal.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    pub(crate) nodes: Vec<(NodeRef, NodeDoc)>,
    /// Points that the nodes count in the shard's sections, quarantined files left out.
    pub(crate) points: u64,
}

/// What the nodes below a seal hold of each shard of a window. Once the chain has reached the seal it never changes again.
#[derive(Debug)]
pub(crate) struct Below {
    /// The table that a build goes by.
    pub(crate) routes: Arc<RouteTable>,
    /// The shards with points.
    pub(crate) shards: BTreeMap<ShardId, ShardInput>,
}

/// The input of one shard.
#[derive(Debug)]
pub(crate) struct ShardInput {
    pub(crate) points: u64,
    /// `nodes_digest` of its nodes.
    pub(crate) digest: String,
}

/// All shards of a window: below a seal, or all that is captured.
pub(crate) fn below(chain: &ChainView, routes: &Arc<RouteTable>, window: Window, seal: Option<&SealDoc>) -> Below {
    debug_assert!(chain.is_whole(window), "recalled before anything is planned");
    let input = |(shard, points)| (shard, ShardInput { points, digest: digest(chain, routes, (window, shard), seal) });
    Below { routes: Arc::clone(routes), shards: shards(chain, routes, window, seal).into_iter().map(input).collect() }
}

/// Points of a node in some sections of a window.
fn points_in(node: &NodeDoc, sections: &BTreeSet<String>, window_key: &str) -> u64 {
    let windows = node.extents.iter().filter(|(section, _)| sections.contains(*section)).filter_map(|(_, windows)| windows.get(window_key));
    windows.flatten().map(|row| row.3).sum()
}

fn holds(node: &NodeDoc, sections: &BTreeSet<String>, window_key: &str) -> bool {
    node.extents.iter().any(|(section, windows)| sections.contains(section) && windows.contains_key(window_key))
}

/// Sections that may hold a shard's points of a window, by name.
fn section_names(routes: &RouteTable, shard: ShardId, window: Window) -> BTreeSet<String> {
    routes.sections_of(shard, window).iter().map(ShardId::to_string).collect()
}

/// All nodes with extents of (shard, window), whole; below a seal, or all that are known.
pub(crate) fn inputs(
    chain: &ChainView,
    routes: &RouteTable,
    (window, shard): (Window, ShardId),
    below: Option<&SealDoc>,
    quarantine: &[String],
) -> Inputs {
    let (sections, window_key) = (section_names(routes, shard, window), format!("{:010}", window.start_s()));
    let nodes: Vec<(NodeRef, NodeDoc)> = chain
        .nodes_of_window(window, below)
        .into_iter()
        .filter(|(_, node)| holds(node, &sections, &window_key))
        .map(|(at, node)| (at, node.clone()))
        .collect();
    let counted = nodes.iter().filter(|(_, node)| !node.raw.as_ref().is_some_and(|raw| quarantine.contains(&raw.key)));
    let points = counted.map(|(_, node)| points_in(node, &sections, &window_key)).sum();
    Inputs { nodes, points }
}

/// Digest of the inputs of (shard, window), without copying the nodes.
fn digest(chain: &ChainView, routes: &RouteTable, (window, shard): (Window, ShardId), below: Option<&SealDoc>) -> String {
    let (sections, window_key) = (section_names(routes, shard, window), format!("{:010}", window.start_s()));
    let nodes = chain.nodes_of_window(window, below).into_iter().filter(|(_, node)| holds(node, &sections, &window_key));
    nodes_digest(&nodes.map(|(at, _)| at).collect::<Vec<_>>())
}

/// Payloads of (shard, window) in all of the nodes, and in those whose raw file is quarantined.
pub(crate) fn payloads(
    routes: &RouteTable,
    (window, shard): (Window, ShardId),
    nodes: &[(NodeRef, NodeDoc)],
    quarantine: &[String],
) -> (u64, u64) {
    let (sections, window_key) = (section_names(routes, shard, window), format!("{:010}", window.start_s()));
    let (mut all, mut left_out) = (0, 0);
    for (_, node) in nodes {
        let windows =
            node.extents.iter().filter(|(section, _)| sections.contains(*section)).filter_map(|(_, windows)| windows.get(&window_key));
        let payloads: u64 = windows.flatten().map(|row| u64::from(row.2)).sum();
        all += payloads;
        if node.raw.as_ref().is_some_and(|raw| quarantine.contains(&raw.key)) {
            left_out += payloads;
        }
    }
    (all, left_out)
}

/// The shards that have points of a window, with those points; by the sections that the nodes name and the table that says who builds them.
fn shards(chain: &ChainView, routes: &RouteTable, window: Window, below: Option<&SealDoc>) -> BTreeMap<ShardId, u64> {
    let window_key = format!("{:010}", window.start_s());
    let mut shards: BTreeMap<ShardId, u64> = BTreeMap::new();
    for (_, node) in chain.nodes_of_window(window, below) {
        for (section, windows) in &node.extents {
            let points: u64 = windows.get(&window_key).into_iter().flatten().map(|row| row.3).sum();
            let Ok(section) = section.parse::<ShardId>() else { continue };
            if points == 0 {
                continue;
            }
            let builders: BTreeSet<ShardId> = match section {
                ShardId::Org(org) => BTreeSet::from([routes.shard(org, window)]),
                // Nodes older than an org's first entry kept it in its mod group.
                ShardId::Mod { count, .. } => {
                    let named = routes.orgs.keys().filter(|org| ShardId::of_org(**org, count) == section);
                    named.map(|org| routes.shard(*org, window)).chain([section]).collect()
                }
            };
            for shard in builders {
                *shards.entry(shard).or_default() += points;
            }
        }
    }
    shards
}

/// Highest route version of a seal and the nodes below it: the table a build of it goes by.
pub(crate) fn route_version(chain: &ChainView, window: Window, seal: &SealDoc) -> u32 {
    let nodes = chain.nodes_of_window(window, Some(seal)).into_iter().map(|(_, node)| node.route_version).max();
    seal.route_version.max(nodes.unwrap_or(0))
}

/// What a (shard, window) needs on a seal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Nothing: its newest published generation says all that the seal asks for.
    Satisfied,
    /// A manifest that names the base's files: nothing new came in, but the base lies below the closed seal.
    Inherit,
    /// A build.
    Build(PlanReason),
}

/// Decides the step of a shard with points below the seal.
pub(crate) fn step(seal: &SealDoc, closed_k: Option<u32>, decided: &[ManifestDoc], base_digest: Option<&str>, digest: &str) -> Step {
    let cancelled = decided.last().is_some_and(|last| last.kind == ManifestKind::Tombstone);
    let reason = match decided.last() {
        Some(last) if cancelled && !last.quarantined.is_empty() => PlanReason::Quarantine,
        _ if cancelled => PlanReason::Tombstone,
        _ => PlanReason::Seal,
    };
    // A tombstone is never a base.
    let Some(base) = base(decided) else { return Step::Build(reason) };
    if base.k >= seal.k {
        return Step::Satisfied;
    }
    match base_digest == Some(digest) {
        false => Step::Build(reason),
        true if seal.kind.is_complete() && closed_k.is_some_and(|closed| base.k < closed) => Step::Inherit,
        true => Step::Satisfied,
    }
}

/// The newest published generation.
pub(crate) fn base(decided: &[ManifestDoc]) -> Option<&ManifestDoc> {
    decided.iter().rev().find(|manifest| manifest.kind == ManifestKind::Published)
}

/// The plan of the next generation. Only made when the one before it is decided.
pub(crate) fn plan(
    (window, shard): (Window, ShardId),
    seal: &SealDoc,
    decided: &[ManifestDoc],
    inputs: &Inputs,
    reason: PlanReason,
    route_version: u32,
) -> PlanDoc {
    let nodes: Vec<NodeRef> = inputs.nodes.iter().map(|(at, _)| *at).collect();
    PlanDoc {
        shard,
        window: window.start_s(),
        g: decided.last().map_or(0, |last| last.g) + 1,
        k: seal.k,
        base_g: base(decided).map_or(0, |base| base.g),
        reason,
        route_version,
        nodes: nodes.len() as u64,
        nodes_digest: nodes_digest(&nodes),
        points_expected: inputs.points,
        quarantine: quarantine(decided).to_vec(),
        encoder: ENCODER_VERSION,
        day: Vec::new(),
    }
}

/// The plan of a day generation: the base's points under its k, in a file made of `inputs`; `of_base` is the base's own plan.
pub(crate) fn day_plan(of_base: PlanDoc, base: &ManifestDoc, g: u32, inputs: &[(i64, u32)]) -> PlanDoc {
    PlanDoc {
        g,
        k: base.k,
        base_g: base.g,
        reason: PlanReason::Day,
        route_version: base.route_version,
        quarantine: base.quarantined.clone(),
        encoder: ENCODER_VERSION,
        day: inputs.to_vec(),
        ..of_base
    }
}

/// Raw files that the next generation leaves out: the newest decision's list, published or tombstone.
pub(crate) fn quarantine(decided: &[ManifestDoc]) -> &[String] {
    decided.last().map_or(&[], |last| &last.quarantined)
}

/// A tombstone for an undecided plan, with the quarantine list that its successor goes by.
pub(crate) fn tombstone(plan: &PlanDoc, plan_digest: String, reason: &str, quarantined: Vec<String>, writer: &str) -> ManifestDoc {
    ManifestDoc {
        kind: ManifestKind::Tombstone,
        reason: Some(reason.to_owned()),
        shard: plan.shard,
        window: plan.window,
        g: plan.g,
        k: plan.k,
        base_g: plan.base_g,
        plan_digest,
        route_version: plan.route_version,
        files: Vec::new(),
        counts: Default::default(),
        series: 0,
        max_timestamp_ms: None,
        received_at_max_us: 0,
        holes: Vec::new(),
        quarantined,
        encoder: plan.encoder,
        writer: writer.to_owned(),
        attempt: String::new(),
    }
}
