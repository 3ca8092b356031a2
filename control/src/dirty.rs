//! Dirty windows per org (interfaces.md B8): ended, with captured points that no published generation holds.
//!
//! The chain knows shards, not orgs, so capture says whose points a flush brings, before it commits them. What nobody told (captured before this
//! process, or by another one) counts for every org of its shard: too many rather than too few.

use std::collections::{BTreeMap, BTreeSet};

use tailors_model::{OrgId, RouteTable, ShardId, Window};

/// As of the last tick.
#[derive(Default)]
pub(crate) struct Dirty {
    /// Whose points the flushes of this process brought.
    told: BTreeMap<Window, BTreeSet<OrgId>>,
    /// Dirty windows with points that nobody told of.
    untold: BTreeSet<(Window, ShardId)>,
    /// Whether a tick has looked: what is dirty at the first look is older than this process.
    looked: bool,
    /// Dirty windows of the orgs that were told of.
    by_org: BTreeMap<OrgId, usize>,
    /// Those that count for every org of a shard.
    by_shard: BTreeMap<ShardId, usize>,
    total: usize,
}

impl Dirty {
    /// A flush is about to bring points of these.
    pub(crate) fn tell(&mut self, orgs: &BTreeSet<(OrgId, Window)>) {
        for (org, window) in orgs {
            self.told.entry(*window).or_default().insert(*org);
        }
    }

    /// Takes what a tick found dirty.
    pub(crate) fn replace(&mut self, dirty: &BTreeSet<(Window, ShardId)>, routes: &RouteTable, now_ms: i64) {
        let is_told = |window: &Window, shard: &ShardId| {
            self.told.get(window).is_some_and(|orgs| orgs.iter().any(|org| routes.shard(*org, *window) == *shard))
        };
        let untold = dirty.iter().filter(|at| !self.looked || self.untold.contains(at) || !is_told(&at.0, &at.1));
        self.untold = untold.copied().collect();
        self.looked = true;
        let dirty_windows: BTreeSet<Window> = dirty.iter().map(|(window, _)| *window).collect();
        self.told.retain(|window, _| window.end_ms() > now_ms || dirty_windows.contains(window));
        (self.by_org, self.by_shard, self.total) = (BTreeMap::new(), BTreeMap::new(), dirty.len());
        for (window, orgs) in &self.told {
            for org in orgs {
                let at = (*window, routes.shard(*org, *window));
                if dirty.contains(&at) && !self.untold.contains(&at) {
                    *self.by_org.entry(*org).or_default() += 1;
                }
            }
        }
        for (_, shard) in &self.untold {
            *self.by_shard.entry(*shard).or_default() += 1;
        }
    }

    /// Dirty windows of an org whose points of now are in `shard`.
    pub(crate) fn of(&self, org: OrgId, shard: ShardId) -> usize {
        self.by_org.get(&org).copied().unwrap_or(0) + self.by_shard.get(&shard).copied().unwrap_or(0)
    }

    /// All of them, whosever they are.
    pub(crate) fn total(&self) -> usize {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tailors_model::window::WINDOW_MS;

    #[test]
    fn orgs_of_one_shard_are_told_apart_where_capture_said_whose_points_they_are() {
        let (routes, one, two) = (RouteTable::initial(64), OrgId(1), OrgId(65));
        let shard = ShardId::of_org(one, 64);
        assert_eq!(shard, ShardId::of_org(two, 64));
        let window = |n: i64| Window::of_ms(n * WINDOW_MS);
        let counts = |dirty: &Dirty| (dirty.of(one, shard), dirty.of(two, shard), dirty.of(OrgId(2), ShardId::of_org(OrgId(2), 64)));
        let mut dirty = Dirty::default();
        // Window 0 was dirty before this process: nobody knows for whom.
        dirty.tell(&BTreeSet::from([(one, window(0))]));
        dirty.replace(&BTreeSet::from([(window(0), shard)]), &routes, 10 * WINDOW_MS);
        assert_eq!(counts(&dirty), (1, 1, 0));
        dirty.tell(&BTreeSet::from([(one, window(1)), (one, window(2)), (two, window(2)), (two, window(20))]));
        let now = BTreeSet::from([(window(0), shard), (window(1), shard), (window(2), shard), (window(3), shard)]);
        dirty.replace(&now, &routes, 10 * WINDOW_MS);
        assert_eq!((counts(&dirty), dirty.total()), ((4, 3, 0), 4), "0 and 3 are anybody's, 1 is one's, 2 is both's");
        // Built; what becomes dirty anew is told anew. The open window's org is remembered.
        dirty.replace(&BTreeSet::new(), &routes, 10 * WINDOW_MS);
        assert_eq!(counts(&dirty), (0, 0, 0));
        dirty.replace(&BTreeSet::from([(window(20), shard)]), &routes, 30 * WINDOW_MS);
        assert_eq!(counts(&dirty), (0, 1, 0));
    }
}
