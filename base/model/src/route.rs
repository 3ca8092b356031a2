//! The shard map: which shard builds a point is decided by its org and its window, never by arrival (protocol.md 2.6).

use std::collections::{BTreeMap, BTreeSet};

use crate::{OrgId, ShardId, Window};

/// One immutable version of the map, stored at `route/v1/{version}`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct RouteTable {
    /// Grows by one with each edit; 1 is written when the store is created.
    pub version: u32,
    /// N of `org-mod-N`.
    pub mod_count: u16,
    /// Per org: (first window it holds for, shard), strictly increasing in time. Before the first entry the org is in its `mod` group.
    pub orgs: BTreeMap<OrgId, Vec<(Window, ShardId)>>,
}

impl RouteTable {
    /// The map of a new store: every org in its `mod` group.
    pub fn initial(mod_count: u16) -> Self {
        Self { version: 1, mod_count, orgs: BTreeMap::new() }
    }

    /// The shard that builds this org's points of this window.
    pub fn shard(&self, org: OrgId, window: Window) -> ShardId {
        let named = self.orgs.get(&org).and_then(|entries| entries.iter().rev().find(|(from, _)| *from <= window));
        named.map_or_else(|| ShardId::of_org(org, self.mod_count), |(_, shard)| *shard)
    }

    /// The raw section of an org: an org ever named has its own, the others share their `mod` group's.
    pub fn section(&self, org: OrgId) -> ShardId {
        if self.orgs.contains_key(&org) { ShardId::Org(org) } else { ShardId::of_org(org, self.mod_count) }
    }

    /// The raw sections that may hold points of a shard's window, written under any version of this table up to this one.
    pub fn sections_of(&self, shard: ShardId, window: Window) -> BTreeSet<ShardId> {
        let mut sections = BTreeSet::new();
        if let ShardId::Mod { .. } = shard {
            sections.insert(shard);
        }
        let named = self.orgs.keys().map(|org| (*org, self.shard(*org, window)));
        for (org, _) in named.filter(|(_, at)| *at == shard) {
            // A node older than the org's first entry kept it in the mod group.
            sections.extend([ShardId::Org(org), ShardId::of_org(org, self.mod_count)]);
        }
        if let ShardId::Org(org) = shard {
            sections.extend([ShardId::Org(org), ShardId::of_org(org, self.mod_count)]);
        }
        sections
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_routed_by_its_window() {
        let mut table = RouteTable::initial(64);
        let (early, late) = (Window::of_ms(0), Window::of_ms(crate::window::WINDOW_MS));
        table.orgs.insert(OrgId(70), vec![(late, ShardId::Org(OrgId(70)))]);
        assert_eq!(table.shard(OrgId(70), early).to_string(), "mod-0064-0006");
        assert_eq!(table.shard(OrgId(70), late), ShardId::Org(OrgId(70)));
        assert_eq!(table.section(OrgId(70)), ShardId::Org(OrgId(70)));
        assert_eq!(table.section(OrgId(6)), ShardId::of_org(OrgId(6), 64));
        assert_eq!(table.sections_of(ShardId::Org(OrgId(70)), late).len(), 2);
        assert_eq!(table.sections_of(ShardId::of_org(OrgId(6), 64), early).len(), 2);
    }
}
