//! Shards: groups of orgs that are built together. Named `mod-0064-0017` or `org-0000000042` everywhere.

use std::fmt;
use std::str::FromStr;

use crate::OrgId;

/// A group of orgs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ShardId {
    /// Orgs whose number leaves `index` when divided by `count`.
    Mod {
        /// N, fixed when a store is created.
        count: u16,
        /// 0..N.
        index: u16,
    },
    /// One org alone.
    Org(OrgId),
}

impl ShardId {
    /// The group of an org that has no shard of its own.
    pub fn of_org(org: OrgId, count: u16) -> Self {
        // The remainder is below a u16, so the cast keeps it.
        Self::Mod { count, index: (org.0 % u32::from(count)) as u16 }
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mod { count, index } => write!(f, "mod-{count:04}-{index:04}"),
            Self::Org(org) => write!(f, "org-{:010}", org.0),
        }
    }
}

/// No shard is spelled like this.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no shard; write mod-0064-0017 or org-0000000042")]
pub struct ShardNameError(pub String);

impl FromStr for ShardId {
    type Err = ShardNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ShardNameError(text.to_owned());
        let shard = if let Some(org) = text.strip_prefix("org-") {
            Self::Org(OrgId(org.parse().map_err(|_| error())?))
        } else {
            let (count, index) = text.strip_prefix("mod-").and_then(|rest| rest.split_once('-')).ok_or_else(error)?;
            Self::Mod { count: count.parse().map_err(|_| error())?, index: index.parse().map_err(|_| error())? }
        };
        // One spelling each: what prints differently was not a name.
        let in_range = !matches!(shard, Self::Mod { count, index } if index >= count);
        if in_range && shard.to_string() == text { Ok(shard) } else { Err(error()) }
    }
}

impl serde::Serialize for ShardId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ShardId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_have_one_spelling() {
        for shard in [ShardId::of_org(OrgId(81), 64), ShardId::Org(OrgId(42))] {
            assert_eq!(shard.to_string().parse(), Ok(shard));
        }
        assert_eq!(ShardId::of_org(OrgId(81), 64).to_string(), "mod-0064-0017");
        for bad in ["mod-64-17", "mod-0064-0064", "org-42", "org-", "x", "mod-0064", "mod-0000-0000", "org-+000000042"] {
            assert!(bad.parse::<ShardId>().is_err(), "{bad}");
        }
    }
}
