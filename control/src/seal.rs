//! Which seal is due, and what it says (protocol.md 2.3). Pure: the order in which the inputs are read is `tick.rs`'s and `hand.rs`'s duty.

use tailors_format::doc::{SealDoc, SealKind};
use tailors_model::Window;
use tailors_store::chain::ChainView;

use crate::Settings;

/// Greatest wait for a late seal while late points never pause.
const LATE_WAIT_MAX_H: i64 = 24;
const HOUR_MS: i64 = 3_600_000;

/// Points that the chain counts at or beyond the newest seal's ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NewPoints {
    pub(crate) points: u64,
    pub(crate) first_received_ms: i64,
    pub(crate) last_received_ms: i64,
}

/// New points of a window; `None` without any.
pub(crate) fn new_points(chain: &ChainView, window: Window, newest: Option<&SealDoc>) -> Option<NewPoints> {
    let window_key = format!("{:010}", window.start_s());
    let mut found: Option<NewPoints> = None;
    for ((epoch, partition, start), node) in chain.nodes_of_window(window, None) {
        if newest.and_then(|seal| seal.end(epoch, partition)).is_some_and(|end| start < end) {
            continue;
        }
        let sections = node.extents.iter().filter(|(section, _)| *section != "none");
        for row in sections.filter_map(|(_, windows)| windows.get(&window_key)).flatten().filter(|row| row.3 > 0) {
            let (first, last) = (row.4.div_euclid(1_000), row.5.div_euclid(1_000));
            let sum = found.get_or_insert(NewPoints { points: 0, first_received_ms: first, last_received_ms: last });
            sum.points += row.3;
            sum.first_received_ms = sum.first_received_ms.min(first);
            sum.last_received_ms = sum.last_received_ms.max(last);
        }
    }
    found
}

/// All that decides whether a seal is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SealCase<'a> {
    pub(crate) window: Window,
    pub(crate) newest: Option<&'a SealDoc>,
    /// k of the closed seal.
    pub(crate) closed_k: Option<u32>,
    /// Creation of the store, Unix milliseconds.
    pub(crate) created_ms: i64,
    pub(crate) any_points: bool,
    pub(crate) new: Option<NewPoints>,
    /// When this control first saw points of the window.
    pub(crate) first_seen_ms: Option<i64>,
    /// When a generation of the window was last published, as far as this control saw it.
    pub(crate) published_ms: Option<i64>,
    /// Whether the newest seal still waits for its generation.
    pub(crate) outstanding: bool,
    /// How long the last build took, milliseconds.
    pub(crate) build_ms: i64,
    pub(crate) now_ms: i64,
    /// Every record received before this is in the chain, Unix milliseconds; at most `now_ms`.
    pub(crate) captured_to_ms: i64,
}

/// Smallest quiet time q, milliseconds: early looks cost at most a few per cent.
pub(crate) fn quiet_ms(settings: &Settings, build_ms: i64) -> i64 {
    i64::try_from(settings.quiet_min_s).unwrap_or(i64::MAX / 4_000).saturating_mul(1_000).max(build_ms.saturating_mul(20))
}

/// C(W), Unix milliseconds.
pub(crate) fn closes_at_ms(settings: &Settings, window: Window) -> i64 {
    window.start_ms() + settings.close_after_ms()
}

/// The kind of seal that is due now, if one is.
pub(crate) fn due(case: &SealCase<'_>, settings: &Settings) -> Option<SealKind> {
    let quiet_for = quiet_ms(settings, case.build_ms);
    // The n-th late seal waits for a pause of q, and at most 1, 2, 4 .. 24 h. A pause counts only as far as capture has come: while points still
    // flow, the newest of them lie in the log, and a seal in a seeming pause would be followed by another build of the same window.
    let late_is_due = |n: u32, new: &NewPoints| {
        let wait_ms = (1i64 << (n - 1).min(5)).min(LATE_WAIT_MAX_H) * HOUR_MS;
        case.captured_to_ms >= new.last_received_ms.saturating_add(quiet_for)
            || case.now_ms >= new.first_received_ms.saturating_add(wait_ms)
    };
    if let Some(newest) = case.newest.filter(|newest| newest.kind.is_complete()) {
        let lates = newest.k.saturating_sub(case.closed_k.unwrap_or(newest.k));
        return case.new.filter(|new| late_is_due(lates.saturating_add(1), new)).map(|_| SealKind::Late);
    }
    if case.now_ms >= closes_at_ms(settings, case.window) {
        if case.window.end_ms() > case.created_ms {
            return Some(SealKind::Closed);
        }
        // Backfill: the closed seal comes with the late timing.
        let quiet = case.new.is_none_or(|new| late_is_due(1, &new));
        return (case.any_points && quiet).then_some(SealKind::Closed);
    }
    let look_from_ms = case.published_ms.or(case.first_seen_ms)?;
    let early = settings.provisional && settings.quiet_min_s > 0 && case.new.is_some() && !case.outstanding;
    (early && case.now_ms >= look_from_ms.saturating_add(quiet_for)).then_some(SealKind::Provisional)
}

/// The kind that a seal by hand has at this time.
pub(crate) fn kind_by_hand(newest: Option<&SealDoc>, now_ms: i64, closes_at_ms: i64) -> SealKind {
    match newest {
        Some(newest) if newest.kind.is_complete() => SealKind::Late,
        _ if now_ms >= closes_at_ms => SealKind::Closed,
        _ => SealKind::Hand,
    }
}

/// What a new seal is made of, read in this order: newest seal (`newest`), clock (`now_ms`), offsets (`ends`), route version.
pub(crate) struct Decision<'a> {
    pub(crate) window: Window,
    pub(crate) kind: SealKind,
    pub(crate) newest: Option<&'a SealDoc>,
    pub(crate) now_ms: i64,
    pub(crate) ends: &'a [(u32, u32, u64)],
    pub(crate) route_version: u32,
    pub(crate) writer: &'a str,
}

/// Seal k+1. Its ends never go back: each is the greater of the newest seal's and the one read.
pub(crate) fn next(decision: &Decision<'_>) -> SealDoc {
    let mut seal = SealDoc {
        kind: decision.kind,
        window: decision.window.start_s(),
        k: decision.newest.map_or(0, |newest| newest.k) + 1,
        ends: decision.newest.map(|newest| newest.ends.clone()).unwrap_or_default(),
        route_version: decision.route_version.max(decision.newest.map_or(0, |newest| newest.route_version)),
        decided_ms: decision.now_ms,
        writer: decision.writer.to_owned(),
    };
    for (epoch, partition, end) in decision.ends {
        let end = seal.end(*epoch, *partition).map_or(*end, |before| before.max(*end));
        seal.set_end(*epoch, *partition, end);
    }
    seal
}
